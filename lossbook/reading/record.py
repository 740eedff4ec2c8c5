"""`IndexRecord`: what is known of one run without a look at its rows, from its `run.json` and its `summary.json`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from lossbook.errors import LossbookError
from lossbook.journal.line import merge_config
from lossbook.json_shapes import JsonObject
from lossbook.paths import FORMAT, RunFolder
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage.summary_file import MetricTable, RunSummary, read_summary

if TYPE_CHECKING:
    from lossbook.storage.summary import LiveSummary

_ENDED = ("finished", "failed", "interrupted", "killed")


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """One run. `where`, `sort` and columns name these fields.

    Attributes:
        created, started, ended: Unix seconds; `started` is the last attempt's, `ended` None while it runs.
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
        """As JSON, as the index keeps it."""
        return orjson.dumps(self, default=_plain)


def _plain(value: object) -> JsonObject:
    if isinstance(value, MetricTable):
        return value.to_json()
    raise TypeError


def parse_record(text: bytes) -> IndexRecord:
    """What `IndexRecord.to_text` wrote."""
    fields = orjson.loads(text)
    fields["metrics"] = MetricTable(fields["metrics"])
    return IndexRecord(**fields)


def read_record(folder: RunFolder, live: LiveSummary | None = None) -> tuple[IndexRecord, bool]:
    """Read what is known of one run.

    Args:
        live: of this folder, where one is kept: of a running run only what was added to the journal is read then.

    Returns:
        The record, and whether its summary was made from the rows because none that covers them lies in the run.
    """
    info, problems = read_run_info(folder)
    is_derived = False
    summary = _updated(live) if live is not None and live.updates else None
    if summary is None or summary.state != "running":
        try:
            summary = read_summary(folder)
        except LossbookError as error:
            summary = None
            problems.append(f"{error}; it is made anew")
        if summary is None or summary.state not in _ENDED or not _covers(summary, info):
            summary = _bring_up_to_date(summary, folder, problems, live)
            is_derived = True
    if info.format > FORMAT:
        problems.append(f"{folder.run_json} has format {info.format}, which this version does not know")
    return _record(info, summary, problems), is_derived


def _record(info: RunInfo, summary: RunSummary, problems: list[str]) -> IndexRecord:
    created = info.created or summary.started or 0
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
        duration=max(0.0, (last_moment - started) / 1e6),
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
    from lossbook.storage.summary import LiveSummary, overlay

    try:
        live = live or LiveSummary(folder)
        return overlay(summary, folder, live) if summary is not None else live.update()
    except (LossbookError, OSError) as error:
        problems.append(str(error))
        return summary or RunSummary()
