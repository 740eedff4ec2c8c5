"""`IndexRecord`: what is known of one run without a look at its rows, from its `run.json` and its `summary.json`."""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

import orjson

from lossbook.access import may_read, unlisted_folders
from lossbook.errors import LossbookError
from lossbook.journal import first_row, journal_segments, merge_config
from lossbook.json_shapes import JsonObject, is_time
from lossbook.paths import FORMAT, RunFolder, file_names
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage import MetricTable, RunSummary, read_summary

if TYPE_CHECKING:
    from lossbook.storage import LiveSummary

_ENDED = ("finished", "failed", "interrupted", "killed", "preempted")


class IndexRecord(NamedTuple):
    """One run. `where`, `sort` and columns name these fields.

    Attributes:
        created, started, ended: Unix seconds, 0 where nothing tells them; `started` is the last attempt's, `ended` None
            while it runs.
        created_us: `created` in µs, exactly.
        duration: seconds that its attempts ran, without the time between them; until now while it runs.
        attempts: how many there were, 1 at the least.
        config: as given to `init()`, with the changes made since.
        summary: what the training code set in `run.summary`, as JSON has it.
        metrics: over the rows that count, of a fork its parents' up to the step where it began among them.
        define: what `define_metric` said, one object each.
        problems: what is damaged, a sentence each.
        earlier: seconds that the attempts before the last ran.
    """

    id: str
    name: str
    project: str
    state: str
    error: str | None
    created: float
    created_us: int
    started: float
    ended: float | None
    duration: float
    group: str | None
    notes: str | None
    tags: list[str]
    host: str | None
    user: str | None
    attempts: int
    last_step: int | None
    rows: int
    config: JsonObject
    summary: JsonObject
    metrics: MetricTable
    define: list[JsonObject]
    alerts: int
    problems: list[str]
    earlier: float = 0.0

    def aged(self) -> IndexRecord:
        """As it is now: a running run grows older with the clock alone."""
        if self.state != "running":
            return self
        return self._replace(duration=self.earlier + max(0.0, time.time() - self.started))

    def to_text(self) -> bytes:
        """As JSON, as the index keeps it: the values without their names, because all of ten thousand are parsed."""
        return orjson.dumps(tuple(self), default=_plain)


_METRICS = IndexRecord._fields.index("metrics")


def _plain(value: object) -> JsonObject:
    if isinstance(value, MetricTable):
        return value.to_json()
    raise TypeError


def parse_record(text: bytes) -> IndexRecord:
    """What `IndexRecord.to_text` wrote."""
    values = orjson.loads(text)
    values[_METRICS] = MetricTable(values[_METRICS])
    return IndexRecord._make(values)


class ReadRecord(NamedTuple):
    """What was read of one run.

    Attributes:
        stamp: of the journal that the record was made from, where no summary that covers its rows lies in the run, else 0.
        parents: the folders of the runs that it was forked from.
        parents_stamp: as `forks.parents_stamp` gave it before they were read.
        is_whole: whether everything that it is made of may be read.
    """

    record: IndexRecord
    stamp: int = 0
    parents: tuple[str, ...] = ()
    parents_stamp: int = 0
    is_whole: bool = True


def read_record(folder: RunFolder, live: LiveSummary | None = None) -> ReadRecord:
    """Read what is known of one run.

    Args:
        live: of this folder, where one is kept: of a running run only what was added to the journal is read then.
    """
    info, problems = read_run_info(folder)
    hidden = unlisted_folders(folder)
    is_whole = not hidden and may_read(folder.run_json)
    problems += hidden
    stamp = 0
    summary = _updated(live) if live is not None and live.updates else None
    if summary is None or summary.state != "running":
        try:
            summary = read_summary(folder)
        except LossbookError as error:
            summary = None
            problems.append(f"{error}; it is made anew")
        if summary is None or summary.state not in _ENDED or not _covers(summary, info):
            # Before the rows are read: a row that comes meanwhile has the record made again.
            stamp = journal_stamp(folder)
            summary = _bring_up_to_date(summary, folder, problems, live)
        if summary.earlier is None and len(info.attempts) > 1:
            # An earlier version wrote it.
            summary = summary._replace(earlier=_bring_up_to_date(None, folder, problems, live).earlier)
    if info.format > FORMAT:
        problems.append(f"{folder.run_json} has format {info.format}, which this version does not know")
    created = info.created or summary.started or _first_time(folder)
    if info.parent is None:
        return ReadRecord(_record(info, summary, problems, created), stamp, is_whole=is_whole)
    from lossbook.reading.forks import inherit, parents_stamp, with_inherited
    from lossbook.storage import ancestors

    chain = ancestors(folder, info)
    parents = tuple(one.folder.path for one in chain)
    # Before their rows are read, as above.
    of_parents = parents_stamp(parents)
    inherited = inherit(chain, problems)
    last_step = summary.last_step
    if last_step is None:
        last_step = max((one.last_step for one in inherited.values()), default=None)
    summary = summary._replace(metrics=with_inherited(summary.metrics, inherited), last_step=last_step)
    return ReadRecord(_record(info, summary, problems, created), stamp, parents, of_parents, is_whole)


def _first_time(folder: RunFolder) -> int:
    """When the first row of a live journal was written, in µs; 0 where none tells it."""
    times = [row.t for segment in journal_segments(folder.journal) if (row := first_row(segment.path)) is not None]
    return min((time_us for time_us in times if is_time(time_us)), default=0)


def journal_stamp(folder: RunFolder) -> int:
    """A number that changes with every file of the journal and its size; never 0."""
    found = []
    for name in file_names(folder.journal):
        try:
            status = os.stat(os.path.join(folder.journal, name))
        except OSError:
            continue
        found.append((name, status.st_size, status.st_mtime_ns))
    return zlib.crc32(repr(sorted(found)).encode()) + 1


def _record(info: RunInfo, summary: RunSummary, problems: list[str], created: int) -> IndexRecord:
    started = summary.started or created
    last_moment = summary.ended or summary.last_time or started
    if summary.state == "running":
        last_moment = time.time_ns() // 1000
    return IndexRecord(
        id=info.id,
        name=info.name,
        project=info.project,
        state=summary.state or "crashed",
        error=summary.error,
        created=created / 1e6,
        created_us=created,
        started=started / 1e6,
        ended=summary.ended / 1e6 if summary.ended else None,
        duration=(summary.earlier or 0) / 1e6 + (max(0.0, (last_moment - started) / 1e6) if started else 0.0),
        group=info.group,
        notes=info.notes,
        tags=list(info.tags),
        host=info.host.name,
        user=info.host.user,
        attempts=len(info.attempts) or 1,
        last_step=summary.last_step,
        rows=summary.rows,
        config=merge_config(info.config, summary.config),
        summary=summary.summary,
        metrics=summary.metrics,
        define=list(summary.define),
        alerts=summary.alerts,
        problems=[*problems, *summary.problems],
        earlier=(summary.earlier or 0) / 1e6,
    )


def _updated(live: LiveSummary) -> RunSummary | None:
    try:
        return live.update()
    except (LossbookError, OSError):
        return None


def _covers(summary: RunSummary, info: RunInfo) -> bool:
    """Whether the summary was written in the last attempt (a resumed run's first seconds have an older one)."""
    return (summary.started or 0) >= (info.last_attempt.started or 0)


def _bring_up_to_date(
    summary: RunSummary | None, folder: RunFolder, problems: list[str], live: LiveSummary | None
) -> RunSummary:
    # It brings DuckDB along, which a listing of runs that have ended does without.
    from lossbook.storage import LiveSummary, overlay

    try:
        live = live or LiveSummary(folder)
        return overlay(summary, folder, live) if summary is not None else live.update()
    except (LossbookError, OSError) as error:
        problems.append(str(error))
        return summary or RunSummary()
