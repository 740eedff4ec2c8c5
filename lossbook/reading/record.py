"""`IndexRecord`: what is known of one run without a look at its rows, from its `run.json` and its `summary.json`."""

from __future__ import annotations

import os
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

import orjson

from lossbook.errors import LossbookError
from lossbook.journal import first_row, journal_segments, merge_config
from lossbook.json_shapes import JsonObject, is_time
from lossbook.paths import FORMAT, RunFolder, file_names
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage import MetricTable, RunSummary, read_summary

if TYPE_CHECKING:
    from lossbook.storage import LiveSummary

_ENDED = ("finished", "failed", "interrupted", "killed")


class IndexRecord(NamedTuple):
    """One run. `where`, `sort` and columns name these fields.

    Attributes:
        created, started, ended: Unix seconds, 0 where nothing tells them; `started` is the last attempt's, `ended` None
            while it runs.
        created_us: `created` in µs, exactly.
        duration: seconds of the last attempt, until now while it runs.
        attempts: how many there were, 1 at the least.
        config: as given to `init()`, with the changes made since.
        summary: what the training code set in `run.summary`, as JSON has it.
        define: what `define_metric` said, one object each.
        problems: what is damaged, a sentence each.
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


def read_record(folder: RunFolder, live: LiveSummary | None = None) -> tuple[IndexRecord, int]:
    """Read what is known of one run.

    Args:
        live: of this folder, where one is kept: of a running run only what was added to the journal is read then.

    Returns:
        The record; and where no summary that covers its rows lies in the run, the stamp of the journal that it was made
        from, else 0.
    """
    info, problems = read_run_info(folder)
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
    if info.format > FORMAT:
        problems.append(f"{folder.run_json} has format {info.format}, which this version does not know")
    return _record(info, summary, problems, info.created or summary.started or _first_time(folder)), stamp


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
        duration=max(0.0, (last_moment - started) / 1e6) if started else 0.0,
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
