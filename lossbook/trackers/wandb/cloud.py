"""W&B's cloud, or a server of one's own, through W&B's own `wandb.Api()`.

`wandb://entity/project` for all runs of a project, `wandb://entity/project/run` for one; without an entity it is the
one that W&B's settings name. History is scanned, never sampled. History and system stream rise in time; the console
and the files come behind them.
"""

from __future__ import annotations

import contextlib
import datetime
import heapq
import itertools
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import orjson

from lossbook.errors import BadArgument, MissingLibrary, StoreError
from lossbook.json_shapes import JsonObject, object_or_empty, whole_or_none
from lossbook.trackers.source import ForeignRow, ForeignRun, Source
from lossbook.trackers.wandb.values import (
    GPU_ADVICE,
    LARGEST_FILE_BYTES,
    OWN_FILES,
    file_row,
    history_rows,
    is_number,
    plain_config,
    plain_summary,
    state_of,
    system_rows,
)

if TYPE_CHECKING:
    from wandb import Api as WandbApi
    from wandb.apis.public import File as WandbFile, Run as WandbRun

#: How long a server that is busy or out of reach is tried again, in seconds, from one answer to the next.
PATIENCE_SECONDS = 300.0
#: The first wait between two tries; each is twice as long as the one before, up to a minute.
FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_RUNS_PER_PAGE = 50
_ROWS_PER_PAGE = 1000
#: More samples of the system stream than any run has: W&B gives as many as it wants to.
_ALL_SAMPLES = 1_000_000
#: Lines of the console that are one row.
_CONSOLE_LINES = 500
_COUNTS = """query RunCounts($entity: String!, $project: String!, $name: String!) {
  project(name: $project, entityName: $entity) { run(name: $name) { historyLineCount eventsLineCount } } }"""

_Answer = TypeVar("_Answer")
_Listed = TypeVar("_Listed")


class WandbCloud(Source):
    """A project at W&B, or one run of it."""

    kind: ClassVar[str] = "wandb"
    title: ClassVar[str] = "W&B, its cloud or a server of your own"
    gpu_advice: ClassVar[str] = GPU_ADVICE
    lacks: ClassVar[tuple[str, ...]] = (
        "Artifacts, reports and sweeps stay where they are.",
        "W&B thins out the system stream of long runs before it gives it away; the run says so then.",
        "A picture in a cell of a table is what W&B wrote there, not the picture.",
        f"Files larger than {LARGEST_FILE_BYTES >> 20} MB stay where they are.",
    )

    def __init__(self, location: str) -> None:
        super().__init__(location)
        parts = [part for part in location.partition("://")[2].split("/") if part]
        if not 1 <= len(parts) <= 3:
            raise BadArgument(
                f"{location!r} names no project of W&B's: use wandb://ENTITY/PROJECT or wandb://ENTITY/PROJECT/RUN"
            )
        self._run = parts.pop() if len(parts) == 3 else None
        self._api = _log_in(location)
        self._path = "/".join(parts)
        self._known_counts: dict[str, tuple[int, int] | None] = {}

    def runs(self) -> Iterator[ForeignRun]:
        # W&B's own object remembers what it saw.
        self._api.flush()
        self._known_counts = {}
        if self._run is not None:
            path = f"{self._path}/{self._run}"
            yield _make_run(self._ask(lambda: self._api.run(path)))
            return
        pages = self._api.runs(self._path, order="-created_at", per_page=_RUNS_PER_PAGE, lazy=False)
        yield from map(_make_run, self._each(pages))

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        rows = self._rows(run)
        return itertools.islice(rows, start, None) if run.after is None else rows

    def row_count(self, run: ForeignRun) -> int | None:
        """About how many: a row of W&B's may become more than one."""
        counts = self._counts(_of_wandb(run))
        return sum(counts) if counts is not None else None

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        """A row's place says what is known of each stream: rows that come later never stand in front of known ones."""
        place = object_or_empty(run.after)
        series = heapq.merge(self._history(run, place), self._events(run, place), key=lambda row: row.time_us)
        for row in itertools.chain(series, self._console(run, place), self._files(run, place)):
            place = {**place, **object_or_empty(row.place)}
            yield row._replace(place=place)

    # -- the streams --------------------------------------------------------------------------------------------

    def _history(self, run: ForeignRun, place: JsonObject) -> Iterator[ForeignRow]:
        """The rows from a step of W&B's on, without those of that step that are known."""
        wandb_run = _of_wandb(run)
        first, known = whole_or_none(place.get("step")) or 0, whole_or_none(place.get("rows")) or 0
        counts = self._counts(wandb_run)
        lines = counts[0] if counts is not None else 0
        # W&B pages by steps, not by rows: where few steps have rows, a page of the usual size would be nearly empty.
        last = int(self._ask(lambda: wandb_run.lastHistoryStep))
        page = max(_ROWS_PER_PAGE, (last + 1) * _ROWS_PER_PAGE // max(lines, 1))
        # What W&B keeps of an earlier scan may be of a run that has grown since.
        scan = self._ask(lambda: wandb_run.scan_history(min_step=first, page_size=page, use_cache=False))
        read, of_step, current, time_us = 0, 0, first, int(run.created * 1e6)
        while (values := self._ask(lambda: next(scan, None))) is not None:
            read += 1
            stamp = values.get("_step")
            step = int(stamp) if is_number(stamp) else current
            if step != current:
                current, of_step = step, 0
            for row in history_rows(values, time_us, step, self._reader(wandb_run), strict=True):
                of_step += 1
                time_us = row.time_us
                if step != first or of_step > known:
                    yield row._replace(place={"step": step, "rows": of_step})
        if "step" not in place and read < lines:
            message = f"W&B gave {read} of the {lines} rows of this run's history"
            yield ForeignRow(
                time_us, None, "warning", None, {"message": message}, place={"step": current, "rows": of_step}
            )

    def _events(self, run: ForeignRun, place: JsonObject) -> Iterator[ForeignRow]:
        """The samples of the system stream from a time on, without those of that time that are known."""
        known_us, known = whole_or_none(place.get("events")), whole_or_none(place.get("of_time")) or 0
        known_us = -1 if known_us is None else known_us
        found = self._ask(lambda: _of_wandb(run).history(samples=_ALL_SAMPLES, pandas=False, stream="system"))
        current, of_time = -1, 0
        for time_us, sample in sorted(((_sample_time_us(run, one), one) for one in found), key=lambda one: one[0]):
            if time_us != current:
                current, of_time = time_us, 0
            for row in system_rows(sample, time_us, strict=True):
                of_time += 1
                if time_us > known_us or (time_us == known_us and of_time > known):
                    yield row._replace(place={"events": time_us, "of_time": of_time})
        counts = self._counts(_of_wandb(run))
        if "events" not in place and counts is not None and len(found) < counts[1]:
            message = (
                f"W&B gave {len(found)} of the {counts[1]} samples of this run's system stream: it thins out long ones"
            )
            yield ForeignRow(
                current, None, "warning", None, {"message": message}, place={"events": current, "of_time": of_time}
            )

    def _console(self, run: ForeignRun, place: JsonObject) -> Iterator[ForeignRow]:
        known = whole_or_none(place.get("console")) or 0
        try:
            pages = _of_wandb(run).console_logs()
        except AttributeError:
            return  # a library that cannot
        lines: list[str] = []
        time_us = int(run.created * 1e6)
        number = 0
        for number, line in enumerate(self._each(pages, optional=True), 1):
            if number <= known:
                continue
            time_us = round(line.timestamp.timestamp() * 1e6) if line.timestamp is not None else time_us
            lines.append(f"{line.content}\n")
            if len(lines) == _CONSOLE_LINES:
                yield ForeignRow(time_us, None, "console", None, {"text": "".join(lines)}, place={"console": number})
                lines = []
        if lines:
            yield ForeignRow(time_us, None, "console", None, {"text": "".join(lines)}, place={"console": number})

    def _files(self, run: ForeignRun, place: JsonObject) -> Iterator[ForeignRow]:
        """The files that were kept with the run, again where they have changed; media come with the rows that show them."""
        known = object_or_empty(place.get("files"))
        time_us = int((run.ended or run.created) * 1e6)
        for file in self._each(_of_wandb(run).files(per_page=_RUNS_PER_PAGE)):
            version = file.md5 or file.updated_at
            if (
                file.name in OWN_FILES
                or file.name.startswith(("media/", "artifact/"))
                or known.get(file.name) == version
            ):
                continue
            known = {**known, file.name: version}
            row = file_row(file.name, time_us, lambda name, file=file: self._download(file))  # type: ignore[misc]
            yield row._replace(place={"files": known})

    # -- asking -------------------------------------------------------------------------------------------------

    def _reader(self, wandb_run: WandbRun) -> Callable[[str], bytes | None]:
        def read(name: str) -> bytes | None:
            try:
                return self._download(self._ask(lambda: wandb_run.files(names=[name])[0]))
            except IndexError:
                return None

        return read

    def _download(self, file: WandbFile) -> bytes | None:
        if file.size > LARGEST_FILE_BYTES:
            return None
        with tempfile.TemporaryDirectory() as folder:
            self._ask(lambda: file.download(root=folder, replace=True)).close()
            with open(os.path.join(folder, file.name), "rb") as downloaded:
                return downloaded.read()

    def _counts(self, wandb_run: WandbRun) -> tuple[int, int] | None:
        """How many rows of the history and samples of the system stream there are; None where W&B does not say."""
        key = f"{wandb_run.id}"
        if key not in self._known_counts:
            try:
                found = self._ask(lambda: wandb_run._exec(_COUNTS))["project"]["run"]
                self._known_counts[key] = int(found["historyLineCount"]), int(found["eventsLineCount"])
            except (AttributeError, KeyError, TypeError, ValueError):
                self._known_counts[key] = None
        return self._known_counts[key]

    def _each(self, pages: Sequence[_Listed], *, optional: bool = False) -> Iterator[_Listed]:
        """Every object of a listing. By number: W&B's own iterator leaves one out when a page is asked for again.

        Args:
            optional: an older server may not have it; then there is none.
        """
        for number in itertools.count():
            try:
                one = self._ask(lambda number=number: pages[number])  # type: ignore[misc]
            except IndexError:
                return
            except StoreError:
                if optional and number == 0:
                    return
                raise
            yield one

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Have W&B answer, with patience for a server that is busy or out of reach.

        Raises:
            StoreError: it does not answer, or refuses.
        """
        deadline, wait_seconds = time.monotonic() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        while True:
            try:
                return question()
            except (IndexError, AttributeError):
                raise
            except Exception as error:
                if not _may_pass(error) or time.monotonic() + wait_seconds > deadline:
                    raise StoreError(self._sentence(error)) from error
                time.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)

    def _sentence(self, error: Exception) -> str:
        server = self._api.settings["base_url"]
        if _status(error) in (401, 403):
            return f"{server} refuses the login for {self._path}: check `wandb login` and who may see the project"
        if not _may_pass(error):
            return f"{server} does not give {self.location} ({_first_line(error)}): check the names, and who may see it"
        return f"{server} cannot be reached or is busy ({_first_line(error)}): what was read is kept, try again later"


def _log_in(location: str) -> WandbApi:
    """W&B's own object, logged in; nobody is asked for anything."""
    try:
        import wandb
        from wandb.errors import AuthenticationError, UsageError
        from wandb.sdk.lib import wbauth
    except ImportError as error:
        raise MissingLibrary(f"reading {location} needs wandb ({error}): pip install 'lossbook[wandb]'") from None
    server = str(wandb.setup().settings.base_url).rstrip("/")
    refused = f"nobody is logged in to {server}, which {location} needs: run `wandb login`, or set WANDB_API_KEY"
    try:
        login = wbauth.authenticate_session(host=server, source="lossbook", prompt=False, update_session=False)
    except (AuthenticationError, UsageError) as error:
        raise StoreError(f"{refused} ({_first_line(error)})") from None
    if login is None:
        raise StoreError(refused)
    deadline, wait_seconds = time.monotonic() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
    while True:
        try:
            return wandb.Api()
        except Exception as error:
            if not _may_pass(error):
                raise StoreError(f"{server} refuses the login ({_first_line(error)}): run `wandb login`") from error
            if time.monotonic() + wait_seconds > deadline:
                raise StoreError(f"{server} cannot be reached ({_first_line(error)}): try again later") from error
            time.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)


def _of_wandb(run: ForeignRun) -> WandbRun:
    """W&B's own object of a run that this source listed."""
    return run.place


def _make_run(run: WandbRun) -> ForeignRun:
    summary, config = dict(run.summary_metrics or {}), dict(run.config or {})
    state = state_of(str(run.state), summary)
    created = _seconds(run.created_at) or 0.0
    heard = _seconds(getattr(run, "heartbeat_at", None))
    lines = getattr(run, "history_line_count", None)
    digest = zlib.crc32(
        orjson.dumps([config, summary], default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)
    )
    origin = {
        "entity": run.entity,
        "job_type": run.job_type,
        "sweep": run.sweep_name,
        "git": {"commit": run.commit},
        "user": (run._attrs.get("user") or {}).get("username"),
    }
    if not run.commit:
        del origin["git"]
    return ForeignRun(
        id=run.id,
        name=run.name or run.id,
        project=run.project,
        created=created,
        version=f"{lines} {getattr(run, 'heartbeat_at', None)} {run.state} {digest}",
        state=state,
        ended=None if state == "running" else heard,
        error=summary.get("lossbook/error"),
        config=plain_config(config),
        summary=plain_summary(summary, strict=True),
        tags=tuple(run.tags or ()),
        group=run.group,
        notes=run.notes,
        url=run.url,
        origin={key: value for key, value in origin.items() if value},
        place=run,
    )


def _sample_time_us(run: ForeignRun, sample: JsonObject) -> int:
    stamp = sample.get("_timestamp")
    if not is_number(stamp):
        since = sample.get("_runtime")
        stamp = run.created + (since if is_number(since) else 0.0)
    return round(stamp * 1e6)


def _seconds(timestamp: str | None) -> float | None:
    if not timestamp:
        return None
    with contextlib.suppress(ValueError):
        moment = datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
    return None


# -- what went wrong --------------------------------------------------------------------------------------------------


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was made of; W&B's own wraps some of them in a field."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "exc", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error; 0 where there was no answer at all, None where the error is of another kind."""
    for one in _causes(error):
        if type(one).__name__ == "WandbApiFailedError":
            response = getattr(one, "response", None)
            return int(getattr(response, "http_status", 0) or 0)
        if isinstance(one, (TimeoutError, ConnectionError)):
            return 0
    return None


def _may_pass(error: BaseException) -> bool:
    status = _status(error)
    return status is not None and (status in (0, 408, 425, 429) or status >= 500)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
