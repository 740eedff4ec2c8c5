"""A run at W&B: a transaction log as W&B's own library writes it offline, uploaded by W&B's own client.

The file is the truth. The record that completes a row says so in its `uuid` field, which W&B leaves empty: as
`rank:i,rank:i|waiting` (or `console:bytes|waiting`), `waiting` being how many rows have no record yet. So what a killed
predecessor delivered is read from the file itself, and the file is cut back to the last place where nothing is missing.
Rows of one step with different keys become one row of W&B, as its users know it; a step that is lower than one before
gets the next higher `_step`, and its own in the series `lossbook/step`, over which W&B draws all series.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from lossbook.journal import find_gap
from lossbook.json_shapes import JsonObject, object_or_empty, text_or_none, whole_or_none
from lossbook.paths import is_monitor, is_safe_name
from lossbook.run_files import NoSuchRunFile, open_run_file
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror, MirrorSettings, MirrorUnavailable, Subject
from lossbook.trackers.wandb import mirror_records as records
from lossbook.trackers.wandb.mirror_state import MirrorState, PendingRow
from lossbook.trackers.wandb.transaction_log import TransactionLog, read_records
from lossbook.trackers.wandb.upload import CONNECT_SECONDS, Upload, UploadFailed

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

#: A step beyond what JavaScript holds exactly would end the numbers of W&B: such a row gets the next one.
_LARGEST_STEP = 1 << 53
#: Console text goes in pieces of whole lines, of about so much.
_CONSOLE_BYTES = 1 << 16
#: How long an upload may make no progress before it is given up: W&B's client itself tries for hours.
_PATIENCE_SECONDS = 60.0
#: How often W&B's client sends what it has collected, unless its settings say otherwise.
_SENDING_SECONDS = 15.0


class WandbMirror(Mirror):
    """A run at W&B, offline or online.

    Its files are in `{cwd}/wandb/offline-run-*`, where `WANDB_DIR` or `settings.folder` may stand in for `{cwd}`; that
    is so online too, so what the server did not take can go there by `wandb sync` as well. Login, server and entity
    are those that W&B's own client finds (`wandb login`, `WANDB_API_KEY`, `WANDB_BASE_URL`, `WANDB_ENTITY`).
    """

    kind: ClassVar[str] = "wandb"
    title: ClassVar[str] = "Weights & Biases"
    packages: ClassVar[tuple[str, ...]] = ("wandb",)
    library: ClassVar[str] = "wandb: pip install 'lossbook[wandb]'"
    has_offline: ClassVar[bool] = True
    lacks: ClassVar[tuple[str, ...]] = (
        "W&B: rows of one step with different keys are one row there, with the time of the last of them",
        "W&B: `_step` only rises; a repeated or lower step is in the series lossbook/step, the x axis of all series",
        "W&B: a killed, crashed, preempted or interrupted run is shown as failed there; lossbook/state in its summary says which",
        "W&B: a histogram has at most 512 bins (neighbours are merged) and no count of values that are not finite",
        "W&B: tables are files of the run there, not artifacts that are joined over runs",
        "W&B: an alert is a notification there, not a row; delivering again after a kill may notify again",
        "W&B: only the console of rank 0 goes there",
        "W&B: series named _step, _timestamp, _runtime, _wandb or lossbook/step arrive below logged/",
        "W&B: the unit of a metric has no place there",
        "W&B: files and artifacts that were kept with the run stay in it",
    )

    def __init__(self, subject: Subject, settings: MirrorSettings, remote: JsonObject) -> None:
        """`settings.options` may name `entity`, and `patience_seconds` for a server that does not answer."""
        super().__init__(subject, settings, remote)
        self._messages: ModuleType  # W&B's own, from `open` on
        self._log: TransactionLog | None = None
        self._upload: Upload | None = None
        self._rest: TransactionLog | None = None  # what goes to a server that has the beginning already
        self._rest_skips = 0
        self._latest: dict[str, str] = {}  # series with a value that the summary does not have yet
        self._state = MirrorState(round(subject.created * 1e6))

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        try:
            from wandb.proto import wandb_internal_pb2 as messages
        except ImportError as error:
            raise MirrorUnavailable(
                f"the W&B mirror needs the wandb package ({error}): pip install 'lossbook[wandb]', "
                f"then `lossbook sync {self.subject.id} --to wandb`",
                may_pass=False,
            ) from None
        self._messages = messages
        try:
            self._open_file()
            # W&B's users turn the network off by this variable, whatever is asked for elsewhere.
            if self.settings.mode == "online" and os.environ.get("WANDB_MODE") not in ("offline", "dryrun"):
                self._connect()
        except OSError as error:
            raise self._unwritable(error) from error
        except UploadFailed as error:
            raise self._unreachable(error) from None
        return dict(self._state.held)

    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        try:
            if self._upload is not None:
                self._upload.check()
            if rows and os.path.exists(f"{self._path}.synced"):
                os.unlink(f"{self._path}.synced")  # W&B's sync command would pass over a file that it took once
            for row in rows:
                self._take(row)
        except OSError as error:
            raise self._unwritable(error) from error
        except UploadFailed as error:
            raise self._unreachable(error) from None

    def flush(self) -> None:
        try:
            self._write_console(whole=False)
            self._write_summary()
            self._flush_files()
        except OSError as error:
            raise self._unwritable(error) from error
        self.remote.update(offset=self._file.offset, state=self._state.to_json())

    def close(self, ending: Ending | None) -> None:
        try:
            self._write_pending()
            self.flush()
            if ending is not None:
                self._write_ending(ending)
            self._flush_files()
            if self._upload is not None:
                if ending is None:
                    # The client sends every 15 seconds and does not say what it holds back; the server is asked.
                    seconds = self._patience_seconds + _SENDING_SECONDS
                    self._upload.wait_for(self._state.history_rows, seconds)
                    self._upload.kill()
                else:
                    self._upload.finish(self._patience_seconds)
                    with open(f"{self._path}.synced", "ab"):
                        pass  # `wandb sync` need not take it again
                self._upload = None
            if self._rest is not None:
                shutil.rmtree(os.path.dirname(self._rest.path), ignore_errors=True)
            self._close_files()
        except OSError as error:
            raise self._unwritable(error) from error
        except UploadFailed as error:
            raise self._unreachable(error) from None

    @property
    def url(self) -> str | None:
        return text_or_none(self.remote.get("url"))

    # -- the server ---------------------------------------------------------------------------------------------

    @property
    def _patience_seconds(self) -> float:
        return float(self.settings.options.get("patience_seconds", _PATIENCE_SECONDS))

    def _connect(self) -> None:
        upload = self._upload = Upload(
            os.path.join(os.path.dirname(self._path), "logs"),
            self.settings.cwd,
            self.subject.project,
            self._remote_id,
            program=self.subject.info.script or "",
            entity=self._entity,
            connect_seconds=min(CONNECT_SECONDS, self._patience_seconds),
            beat=self.settings.beat,
        )
        upload.start(self._begin_rest(upload.rows) if upload.rows else self._path)
        project = quote(self.subject.project, safe="")
        self.remote["url"] = f"{self._upload.app_url}/{self._upload.entity}/{project}/runs/{self.remote['id']}"

    def _begin_rest(self, arrived: int) -> str:
        """Begin a second file, of what the server does not have: W&B's client puts all rows of a file behind its own.

        System metrics, console and summary are in it from the beginning: they are sent to the same places again.

        Args:
            arrived: rows of the history to leave out, and the notifications before them.
        """
        folder = os.path.join(os.path.dirname(self._path), "logs", "rest")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        os.symlink(self._files, os.path.join(folder, "files"))
        self._rest, self._rest_skips = TransactionLog(os.path.join(folder, os.path.basename(self._path))), arrived
        self._rest.begin()
        for _, contents in read_records(self._path):
            self._pass_on(self._messages.Record.FromString(contents), contents)
        self._rest.flush()
        return self._rest.path

    def _pass_on(self, record: Record, contents: bytes) -> None:
        if self._rest is None or (self._rest_skips and record.HasField("alert")):
            return
        if self._rest_skips and record.HasField("history"):
            self._rest_skips -= 1
            return
        self._rest.append(contents)

    @property
    def _entity(self) -> str | None:
        return self.settings.options.get("entity") or os.environ.get("WANDB_ENTITY")

    def _unreachable(self, error: UploadFailed) -> MirrorUnavailable:
        self._give_up()
        then = "log in, then " if error.login else ""
        return MirrorUnavailable(
            f"W&B does not take run {self.subject.id}: {error}; the run is complete in Lossbook; {then}"
            f"`lossbook sync {self.subject.id} --to wandb` delivers it",
            may_pass=not error.login,
        )

    def _give_up(self) -> None:
        if self._upload is not None:
            self._upload.kill()
            self._upload = None
        self._close_files()

    # -- the file -----------------------------------------------------------------------------------------------

    @property
    def _remote_id(self) -> str:
        return str(self.remote["id"])

    @property
    def _path(self) -> str:
        return str(self.remote["file"])

    @property
    def _files(self) -> str:
        return os.path.join(os.path.dirname(self._path), "files")

    @property
    def _file(self) -> TransactionLog:
        assert self._log is not None, "open() comes first"
        return self._log

    def _unwritable(self, error: OSError) -> MirrorUnavailable:
        self._give_up()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return MirrorUnavailable(
            f"the W&B folder {os.path.dirname(str(self.remote.get('file', '')))} cannot be written "
            f"({error.strerror or error}){': free some space' if full else ''}; `lossbook sync {self.subject.id} --to "
            "wandb` delivers the rest later"
        )

    def _open_file(self) -> None:
        if not is_safe_name(self.remote.get("id")):
            self.remote["id"] = records.remote_id(self.subject)
        noted, here = text_or_none(self.remote.get("file")), self._new_path()
        if noted is None or not (self.settings.live or os.path.realpath(noted) == os.path.realpath(here)):
            self.remote["file"] = here
            self.remote.pop("offset", None)  # of another file
        os.makedirs(self._files, exist_ok=True)
        os.makedirs(os.path.join(os.path.dirname(self._path), "logs"), exist_ok=True)
        self._log = TransactionLog(self._path)  # nobody else may write from here on, so what is read now is so
        self._recover()
        if self._state.number:
            self._log.go_on(whole_or_none(self.remote["offset"]) or 0)
            return
        self._log.begin()
        import wandb

        first = records.beginning(self._messages, self.subject, self._remote_id, self._entity, wandb.__version__)
        captured = records.captured_files(self._messages, self.subject, self._files)
        for record in [*first[:-1], *captured]:
            self._append(record)
        self._append(first[-1], "begun")
        self._file.flush()

    def _new_path(self) -> str:
        """Where W&B's own users would look. The same at each try, so no second file is ever begun for a run."""
        root = self.settings.folder or os.environ.get("WANDB_DIR") or self.settings.cwd
        hidden = os.path.join(root, ".wandb")
        folder = hidden if os.path.isdir(hidden) else os.path.join(root, "wandb")
        begun = time.strftime("%Y%m%d_%H%M%S", time.localtime(self.subject.created))
        run_id = self.remote["id"]
        return os.path.abspath(os.path.join(folder, f"offline-run-{begun}-{run_id}", f"run-{run_id}.wandb"))

    def _recover(self) -> None:
        """Find out what the file holds, and the last place in it that can be gone on from."""
        offset = whole_or_none(self.remote.get("offset")) or 0
        try:
            size = os.path.getsize(self._path)
        except FileNotFoundError:
            size = 0
        if 0 < offset <= size:
            self._state = MirrorState.parse(object_or_empty(self.remote["state"]))
        else:  # never flushed, or the file was removed or lost its end: it says itself what it holds
            offset = 0
        kept, state = offset, self._state.to_json()
        for end, contents in read_records(self._path, offset):
            record = self._messages.Record.FromString(contents)
            self._latest.update(
                (key, text) for key, text in self._state.follow(record).items() if key not in self._state.own
            )
            waiting = record.uuid.partition("|")[2]
            # Records of no row, a summary say, are made again; rows that waited in a dead process are not here.
            if waiting and int(waiting) == self._state.pending_count:
                kept, state = end, self._state.to_json()
        self._state = MirrorState.parse(state)
        self.remote.update(offset=kept, state=state)

    def _append(self, record: Record, mark: str = "") -> None:
        """Write a record.

        Args:
            mark: which rows are complete with it; empty for one that is no row's, or not its last.
        """
        self._state.number += 1
        record.num = self._state.number
        record._info.stream_id = self._remote_id
        if mark:
            record.uuid = f"{mark}|{self._state.pending_count}"
        contents = record.SerializeToString()
        self._file.append(contents)
        self._pass_on(record, contents)

    def _flush_files(self) -> None:
        self._file.flush()
        if self._rest is not None:
            self._rest.flush()

    def _close_files(self) -> None:
        for log in (self._log, self._rest):
            if log is not None:
                log.close()
        self._rest = None

    # -- rows ---------------------------------------------------------------------------------------------------

    def _take(self, row: LoggedRow) -> None:
        self._state.held[row.rank] = row.i
        self._state.time_us = max(self._state.time_us, row.time_us)
        mark = f"{row.rank}:{row.i}"
        if row.kind == "config":
            self._append(records.config(self._messages, row.body), mark)
        elif row.kind == "summary":
            self._state.own.update(row.body)
            self._append(records.summary(self._messages, row.body), mark)
        elif row.kind == "define":
            self._append(records.definition(self._messages, row.body), mark)
        elif row.kind == "alert":
            self._alert(records.alert(self._messages, row.body), mark)
        elif row.kind is None and is_monitor(row.rank):
            self._take_measured(row, mark)
        else:
            system = records.stats(self._messages, row) if row.kind is None else None
            values, paths = records.history_values(row, self._files, self.subject)
            if system is not None:
                self._append(system, "" if values else mark)
            if paths:
                self._append(records.file_names(self._messages, paths))
            if values:
                self._join(row, values)

    def _take_measured(self, row: LoggedRow, mark: str) -> None:
        """What the follower measured: all of it goes to the event stream, and to the training's row where that has room.

        A row of its own in the history would take a step that the training is about to log.
        """
        values, _ = records.history_values(row, self._files, self.subject)
        pending = self._state.pending
        joins = bool(values) and pending is not None and pending.values.keys().isdisjoint(values)
        system = {key if key.startswith("system") else f"system.{key}": value for key, value in row.body.items()}
        measured = records.stats(self._messages, row._replace(body=system))
        if measured is not None:
            self._append(measured, "" if joins else mark)
        if joins and pending is not None:
            self._join(row._replace(step=pending.step), values)

    def _alert(self, record: Record, mark: str) -> None:
        """Send a notification now when there is a server; one in the file is sent by each sync of the file."""
        alert = record.alert
        if self._upload is not None and self._upload.alert(
            {
                "projectName": self.subject.project,
                "runName": self._remote_id,
                "title": alert.title,
                "text": alert.text,
                "severity": alert.level,
            },
            self._patience_seconds,
        ):
            record = self._messages.Record()
            record.telemetry.SetInParent()  # says nothing: it is there to say that the row was delivered
        self._append(record, mark)
        self._flush_files()

    def _join(self, row: LoggedRow, values: dict[str, str]) -> None:
        """Put a row to the others of its step, when they leave room for it."""
        pending = self._state.pending
        if pending is not None:
            elsewhere = None not in (pending.step, row.step) and pending.step != row.step
            clash = pending.values.keys() & values.keys()
            if not elsewhere and clash and all(key.startswith("lossbook/") for key in clash):
                # Two checkpoints of one step, say: a row of its own would take the step that training logs next.
                values = {**values, **{key: records.joined(pending.values[key], values[key]) for key in clash}}
                clash = set()
            if elsewhere or clash:
                self._write_pending()
                pending = None
        if pending is None:
            pending = self._state.pending = PendingRow(row.step, row.time_us)
        pending.step = row.step if pending.step is None else pending.step
        pending.time_us = max(pending.time_us, row.time_us)
        pending.values.update(values)
        pending.rows[str(row.rank)] = row.i
        pending.count += 1

    def _write_pending(self) -> None:
        pending, self._state.pending = self._state.pending, None
        if pending is None:
            return
        step = self._state.logged_step if pending.step is None else pending.step
        rising = self._state.remote_step + 1
        self._state.remote_step = max(step, rising) if step < _LARGEST_STEP else rising
        self._state.logged_step = step
        self._state.history_rows += 1
        self._latest.update((key, text) for key, text in pending.values.items() if key not in self._state.own)
        record = records.history(
            self._messages,
            pending.values,
            step=step,
            remote_step=self._state.remote_step,
            time=pending.time_us / 1e6,
            since=self._since_seconds(pending.time_us),
        )
        self._append(record, ",".join(f"{rank}:{i}" for rank, i in pending.rows.items()))

    def _since_seconds(self, time_us: int) -> float:
        return round(time_us / 1e6 - self.subject.created, 6)

    # -- what is no row -----------------------------------------------------------------------------------------

    def _write_console(self, *, whole: bool) -> None:
        """Bring over what the training printed since.

        Args:
            whole: also a last line without its end.
        """
        try:
            with open(open_run_file(self.subject.folder.path, "console/r0.log"), "rb") as file:
                # What was printed before the place is counted, what has been left out of the file since included.
                gap = find_gap(file.fileno())
                file.seek(gap.place_of(self._state.console_bytes) if gap is not None else self._state.console_bytes)
                while text := file.read(_CONSOLE_BYTES):
                    # Whole lines, so that they are the same lines however often a delivery is begun again.
                    lines = text.rfind(b"\n") + 1
                    if lines == 0 and len(text) < _CONSOLE_BYTES and not whole:
                        return
                    ends = len(text) if lines == 0 or (whole and len(text) < _CONSOLE_BYTES) else lines
                    place = file.tell() - len(text) + ends
                    self._state.console_bytes = gap.printed_at(place) if gap is not None else place
                    record = records.output(self._messages, text[:ends].decode("utf-8", "replace"), self._state.time_us)
                    self._append(record, f"console:{self._state.console_bytes}")
                    file.seek(place)
        except NoSuchRunFile:
            return

    def _write_summary(self) -> None:
        """Bring the summary up to the last rows; W&B's service computes none from a file."""
        if self._latest:
            values = {
                **self._latest,
                "_step": str(self._state.remote_step),
                "_runtime": repr(self._since_seconds(self._state.time_us)),
                "_timestamp": repr(self._state.time_us / 1e6),
            }
            self._append(records.latest(self._messages, values))
            self._latest = {}

    def _write_ending(self, ending: Ending) -> None:
        self._write_console(whole=True)
        self._write_summary()
        runtime_seconds = max(0.0, ending.ended - self.subject.created)
        final: JsonObject = {
            **ending.summary,
            "lossbook/state": ending.state,
            "_wandb": {"runtime": int(runtime_seconds)},
        }
        if ending.error:
            final["lossbook/error"] = ending.error
        self._append(records.summary(self._messages, final))
        self._append(records.leaving(self._messages, ending, runtime_seconds))
