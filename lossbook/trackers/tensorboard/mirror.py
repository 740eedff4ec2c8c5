"""The TensorBoard mirror: event files in `{working directory}/runs/{project}/{name}-{id}`.

One file for the run, and one in `system/` beside it for the system metrics. What was delivered is a length of each
file, noted at every `flush`; whoever opens them again cuts them back to it. Nothing needs to be installed to write
them; `pip install tensorboard` to look at them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import orjson

from lossbook.journal import decode_number, merge_config
from lossbook.json_shapes import JsonObject, counts_of, list_or_empty, object_or_empty, text_or_none, whole_or_none
from lossbook.metrics import EVAL_SPLITS, TRAIN_SPLITS
from lossbook.paths import safe_name
from lossbook.run_files import read_run_file
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror, MirrorUnavailable
from lossbook.trackers.mirror_text import config_table, console_end, flattened, is_system, overview, table_of
from lossbook.trackers.tensorboard import event_writer
from lossbook.trackers.tensorboard.event_writer import EventFile

#: Series that belong in one picture, whatever a trainer calls them.
_SPLIT = "|".join((*TRAIN_SPLITS, *EVAL_SPLITS))
CHARTS = {
    "loss": [rf"^(({_SPLIT})[/_])?loss$", rf"^.*/({_SPLIT})_loss$"],
    "perplexity": [rf"^(({_SPLIT})[/_])?(perplexity|ppl)$"],
}


class TensorBoardMirror(Mirror):
    """A run as TensorBoard has it."""

    kind: ClassVar[str] = "tensorboard"
    title: ClassVar[str] = "TensorBoard"
    packages: ClassVar[tuple[str, ...]] = ("tensorboard",)
    library: ClassVar[str] = "nothing to write its files; `pip install tensorboard` to look at them"
    lacks: ClassVar[tuple[str, ...]] = (
        "Values have 32 bits (7 digits, up to 3.4e38); Lossbook keeps all 64.",
        "A metric whose step went backward or repeats is all in the file, but TensorBoard's fast loader shows only "
        "the last pass over each step, and of a key that is a metric and a histogram only what came first: start it "
        "with --load_fast=false to see every row.",
        "The x axis is the step or the time; another one named by define_metric, its goal and its unit are left out.",
        "The HPARAMS page keeps the configuration as it was at the first row; the text lossbook/config has every change.",
        "Of a curve 1,000 points are drawn, a random choice: start TensorBoard with --samples_per_plugin=scalars=0 to see all.",
        "System metrics are a run of their own, named system, with the seconds since the run began as their step.",
        "Of a table the first 1,000 rows are shown; of the console only its end, once the run has ended.",
        "Rows that an attempt without a resume_step logged again stay beside the older ones in the file.",
        "Tags, group and notes are text (lossbook/run); TensorBoard cannot filter by them.",
        "Files and artifacts that were kept with the run stay in it.",
    )

    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        remote = self.remote
        folder = self._folder()
        noted = text_or_none(remote.get("folder"))
        filename = f"events.out.tfevents.{int(self.subject.created)}.lossbook.{self.subject.id}"
        if noted and os.path.isdir(noted) and (self.settings.live or self._is_ours(noted, folder, filename)):
            # The working directory may be known by another path here, and the run by another name then; the files are
            # where they are.
            folder = noted if self.settings.folder is None else folder
        self._main = EventFile(os.path.join(folder, filename))
        self._system = EventFile(os.path.join(folder, "system", filename))
        try:
            whole = (
                remote.get("folder") == folder
                and self._main.cut(whole_or_none(remote.get("main")) or 0, event_writer.ENDING)
                and (
                    "system" not in remote
                    or self._system.cut(whole_or_none(remote["system"]) or 0, event_writer.ENDING)
                )
            )
            if not whole:
                remote.clear()
                self._main.start(self.subject.created)
                _remove(self._system.path)
        except OSError as error:
            raise self._unavailable(error) from error
        self._has_system = "system" in remote
        self._held = {int(rank): i for rank, i in counts_of(remote.get("held")).items()}
        self._last_step = whole_or_none(remote.get("last_step")) or 0
        self._attempt = whole_or_none(remote.get("attempt")) or 0
        self._resumed = {int(attempt): step for attempt, step in counts_of(remote.get("resumed")).items()}
        self._config = object_or_empty(remote.get("config", self.subject.config))
        self._introduced = bool(remote.get("introduced"))
        remote["folder"] = folder
        if not whole:
            self.flush()
            return {}
        # Ranks that were never shown to this mirror are none of its business: the engine knows about them.
        return {**delivered, **self._held}

    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        try:
            for row in rows:
                self._row(row)
                self._held[row.rank] = row.i
        except OSError as error:
            raise self._unavailable(error) from error

    def flush(self) -> None:
        try:
            main = self._main.sync()
            system = self._system.sync() if self._has_system else None
        except OSError as error:
            raise self._unavailable(error) from error
        noted: JsonObject = {
            "main": main,
            "held": {str(rank): i for rank, i in self._held.items()},
            "last_step": self._last_step,
            "attempt": self._attempt,
            "resumed": {str(attempt): step for attempt, step in self._resumed.items()},
            "config": self._config,
            "introduced": self._introduced,
        }
        self.remote.update(noted)
        if system is not None:
            self.remote["system"] = system

    def close(self, ending: Ending | None) -> None:
        self.flush()
        try:
            if ending is not None:
                self._introduce(self.subject.created)
                self.flush()
                # One record, and not counted in `remote`: an attempt that goes on with the run takes it back.
                self._main.append(event_writer.event(ending.ended, self._last_step, self._end(ending)))
                self._main.sync()
            self._main.close()
            self._system.close()
        except OSError as error:
            raise self._unavailable(error) from error

    @property
    def url(self) -> str | None:
        folder = text_or_none(self.remote.get("folder"))
        return Path(folder).absolute().as_uri() if folder else None

    # -- rows ---------------------------------------------------------------------------------------------------

    def _row(self, row: LoggedRow) -> None:
        time = row.time_us / 1e6
        if row.kind == "attempt":
            self._begin_attempt(row, time)
            return
        if row.kind == "config":
            self._config = merge_config(self._config, row.body)
            if self._introduced:
                values = [event_writer.text("lossbook/config", config_table(self._config))]
                self._main.append(event_writer.event(time, self._step(row), values))
            return
        if self._is_hidden(row):
            return
        self._introduce(time)
        if row.kind is None:
            self._scalars(row, time)
            return
        values = self._values(row)
        if values:
            self._main.append(event_writer.event(time, self._step(row), values))

    def _scalars(self, row: LoggedRow, time: float) -> None:
        suffix = f"/rank_{row.rank}" if row.rank > 0 else ""
        body = row.body
        system = [key for key in body if is_system(key)]
        if system:
            if not self._has_system:
                self._system.start(self.subject.created)
                self._has_system = True
            # In a run of its own: these rows have no step, and an attempt that resumes would take them back.
            # A parent's, of before a fork began, would be below 0.
            seconds = max(0, int(time - self.subject.created))
            values = [event_writer.scalar(key + suffix, body[key]) for key in system]
            self._system.append(event_writer.event(time, seconds, values))
            body = {key: value for key, value in body.items() if not is_system(key)}
        if body:
            values = [event_writer.scalar(key + suffix, value) for key, value in body.items()]
            self._main.append(event_writer.event(time, self._step(row), values))

    def _values(self, row: LoggedRow) -> list[bytes]:
        key = (row.key or row.kind or "") + (f"/rank_{row.rank}" if row.rank > 0 else "")
        body = row.body
        if row.kind == "text":
            return [event_writer.text(key, body.get("text", ""))]
        if row.kind == "histogram":
            edges = [decode_number(edge) for edge in body["edges"]]
            values = [event_writer.histogram(key, edges, [decode_number(count) for count in body["counts"]])]
            if body.get("nonfinite"):
                values.append(event_writer.scalar(f"{key}/nonfinite", body["nonfinite"]))
            return values
        if row.kind == "image":
            return self._image(key, body)
        if row.kind == "table":
            return [event_writer.text(key, self._table(body))]
        if row.kind == "alert":
            shown = f"**{body.get('level', 'info')}: {body.get('title', '')}**\n\n{body.get('text', '')}"
            return [event_writer.text("lossbook/alerts", shown)]
        if row.kind == "checkpoint":
            best = " (best)" if body.get("is_best") else ""
            return [event_writer.text("lossbook/checkpoints", f"{body.get('path', '')}{best}")]
        if row.kind == "stage":
            return [event_writer.text("lossbook/stages", body.get("name", ""))]
        if row.kind == "note":
            return [event_writer.text("lossbook/notes", body.get("text", ""))]
        if row.kind == "warning":
            return [event_writer.text("lossbook/warnings", body.get("message", ""))]
        return []

    def _image(self, key: str, body: JsonObject) -> list[bytes]:
        try:
            contents = read_run_file(self.subject.folder.path, str(body.get("file")))
        except OSError as error:
            return [event_writer.text(f"{key}/missing", f"{body.get('file')} could not be read: {error}")]
        values = [
            event_writer.image(
                key, contents, whole_or_none(body.get("width")) or 0, whole_or_none(body.get("height")) or 0
            )
        ]
        if body.get("caption"):
            values.append(event_writer.text(f"{key}/caption", str(body["caption"])))
        return values

    def _table(self, body: JsonObject) -> str:
        if "file" in body:
            try:
                body = object_or_empty(orjson.loads(read_run_file(self.subject.folder.path, str(body["file"]))))
            except (OSError, ValueError) as error:
                return f"{body.get('file')} could not be read: {error}"
        rows = [row for row in list_or_empty(body.get("rows")) if isinstance(row, list)]
        return table_of(list_or_empty(body.get("columns")), rows)

    # -- the run ------------------------------------------------------------------------------------------------

    def _introduce(self, time: float) -> None:
        """Say what the run is, before its first row: by then the script has set what it had to set."""
        if self._introduced:
            return
        self._introduced = True
        subject = self.subject
        hyperparameters = {key: value for key, value in flattened(self._config).items() if value is not None}
        values = [
            event_writer.text("lossbook/run", overview(subject)),
            event_writer.text("lossbook/config", config_table(self._config)),
            event_writer.layout(CHARTS),
            # The run's own id: TensorBoard takes runs of one group for repetitions with the same configuration.
            event_writer.hyperparameters(hyperparameters, subject.id, subject.created),
        ]
        self._main.append(event_writer.event(time, 0, values))

    def _begin_attempt(self, row: LoggedRow, time: float) -> None:
        number = int(row.body.get("number", row.attempt))
        if number <= self._attempt:
            return
        self._attempt = number
        resume_step = row.body.get("resume_step")
        if resume_step is None:
            return
        self._resumed[number] = int(resume_step)
        first = int(resume_step) + 1
        self._main.append(event_writer.event(time, first, restart=True))
        if self._introduced and first <= 0:
            # What the introduction said at step 0 was taken back with the rest.
            values = [
                event_writer.text("lossbook/run", overview(self.subject)),
                event_writer.text("lossbook/config", config_table(self._config)),
            ]
            self._main.append(event_writer.event(time, first, values))

    def _is_hidden(self, row: LoggedRow) -> bool:
        """Whether a later attempt has taken this row back already; another rank may still deliver such rows."""
        if not self._resumed or row.step is None:
            return False
        return any(row.attempt < number and row.step > step for number, step in self._resumed.items())

    def _step(self, row: LoggedRow) -> int:
        if row.step is not None:
            self._last_step = row.step
        return self._last_step

    def _end(self, ending: Ending) -> list[bytes]:
        state = ending.state if ending.error is None else f"{ending.state}\n\n    {ending.error}"
        values = [
            event_writer.ended(ending.exit_code == 0, ending.ended),
            event_writer.text("lossbook/state", state),
            event_writer.text("lossbook/summary", config_table(ending.summary)),
        ]
        console = console_end(self.subject.folder)
        if console:
            values.append(event_writer.text("lossbook/console", console))
        return values

    # -- where --------------------------------------------------------------------------------------------------

    def _folder(self) -> str:
        subject = self.subject
        root = self.settings.folder or os.path.join(self.settings.cwd, "runs")
        return os.path.abspath(
            os.path.join(root, safe_name(subject.project), safe_name(f"{subject.name}-{subject.id}"))
        )

    def _is_ours(self, noted: str, folder: str, filename: str) -> bool:
        """Whether a place is this run's own where we stand: there, under whatever name and project it had then."""
        noted, folder = os.path.realpath(noted), os.path.realpath(folder)
        root = os.path.dirname(os.path.dirname(folder))
        is_there = os.path.dirname(os.path.dirname(noted)) == root and os.path.isfile(os.path.join(noted, filename))
        return noted == folder or is_there

    def _unavailable(self, error: OSError) -> MirrorUnavailable:
        return MirrorUnavailable(
            f"TensorBoard files cannot be written to {os.path.dirname(self._main.path)} ({error.strerror or error}); "
            f"`lossbook sync {self.subject.id} --to tensorboard` writes them later"
        )


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
