"""Everything about one run on one page, without reading its curves."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from lossbook.analysis import read_gpus
from lossbook.errors import LossbookError
from lossbook.json_shapes import JsonMapping
from lossbook.metrics import AXES, find_key, goal_of, key_metrics, percent_factor, role_of, unit_of
from lossbook.paths import RunFolder
from lossbook.reading import RecordedRun, list_consoles
from lossbook.registry import MIRRORS
from lossbook.run_info import RunInfo
from lossbook.storage import MetricTable
from lossbook.web import schemas
from lossbook.web.api.events import pages_of
from lossbook.web.routing import get
from lossbook.web.session import Session, row_of

if TYPE_CHECKING:
    from lossbook.follower import Cursor

#: Axes that every curve can be drawn against, beside "step".
_CLOCKS = ("wallclock", "elapsed", "time")
_MOST_PROBLEMS = 200
_MOST_COUNTED_RANKS = 64


@dataclass(frozen=True)
class RunQuestion:
    project: str
    run: str


def run_page(session: Session, question: RunQuestion) -> schemas.RunPage:
    """What is known of a run; of a damaged one what is whole, and `problems`."""
    run = session.run(question.project, question.run)
    problems = _Problems()
    problems.found += problems.or_else([], run.problems)
    kinds = problems.or_else(dict[str, int](), lambda: pages_of(session, run).count_kinds())
    problems.found += problems.or_else([], lambda: pages_of(session, run).problems())
    info = problems.or_else(run.known_info, lambda: run.info)
    # Only now: another tracker's runs are brought with the first question about their rows.
    record = run.record
    return schemas.RunPage(
        project=run.project,
        row=row_of(record),
        path=run.path,
        ended=run.ended,
        config={**record.config},
        summary={**record.summary},
        metrics=_metrics(record.metrics, record.define),
        key_metrics=_key_metrics(record.metrics, record.define),
        gpus=len(read_gpus(record.metrics).gpus),
        attempts=_attempts(info),
        parent=None if info.parent is None else {**info.parent._replace(created=None).to_json()},
        forks=problems.or_else([], lambda: _forks_of(session, run)),
        argv=list(info.argv),
        cwd=info.cwd,
        script=info.script,
        git=None if info.git is None else {**info.git.to_json()},
        host={**info.host.to_json()} or None,
        problems=list(dict.fromkeys(problems.found))[:_MOST_PROBLEMS],
        followers=problems.or_else([], lambda: _followers(run.folder, info, run.state)),
        console_ranks=[one.rank for one in list_consoles(run.folder)],
        event_kinds=kinds,
        axes=_axes(record.metrics, record.define),
        revision=revision(session, question),
    )


def revision(session: Session, question: RunQuestion) -> str:
    """A text that changes when anything on the page may have changed, but for the time that a running run has taken."""
    run = session.run(question.project, question.run)
    record, folder = run.record, run.folder
    marks: list[object] = [run.state, record.rows, record.last_step, record.alerts]
    for path in (folder.path, folder.run_json, folder.summary_json, folder.journal, folder.metrics, folder.followers):
        try:
            found = os.stat(path)
            marks += [found.st_mtime_ns, found.st_size]
        except OSError:
            marks.append(None)
    return hashlib.blake2b(repr(marks).encode(), digest_size=9).hexdigest()


Found = TypeVar("Found")


class _Problems:
    """Sentences about what could not be read; the rest is answered all the same."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def or_else(self, instead: Found, question: Callable[[], Found]) -> Found:
        try:
            return question()
        except (LossbookError, OSError) as error:
            self.found.append(str(error))
            return instead


# -- what the index and run.json say ------------------------------------------------------------------------------


def _metrics(metrics: MetricTable, defined: Sequence[JsonMapping]) -> list[schemas.Metric]:
    goals = [one for one in defined if one.get("goal")]
    units = [one for one in defined if one.get("unit")]
    roles = [one for one in defined if one.get("role")]
    return [
        schemas.Metric(
            key=key,
            last=one.last,
            last_step=one.last_step,
            min=one.min,
            min_step=one.min_step,
            max=one.max,
            max_step=one.max_step,
            mean=one.mean,
            count=one.count,
            nonfinite=one.nonfinite,
            unit=unit_of(key, defined=units, largest=one.max) or None,
            goal=goal_of(key, goals) if goals else _usual_goal(key),
            role=role_of(key, roles),
        )
        for key, one in metrics.items()
    ]


# The words in a key are looked through once, not each second.
_usual_goal = lru_cache(maxsize=1 << 15)(goal_of)


def _key_metrics(metrics: MetricTable, defined: Sequence[JsonMapping]) -> list[schemas.KeyMetric]:
    return [
        schemas.KeyMetric(role, key, percent_factor(key, metrics[key].max, defined))
        for role, key in key_metrics(metrics).items()
    ]


def _axes(metrics: MetricTable, defined: Sequence[JsonMapping]) -> list[str]:
    named = [axis for axis in AXES if find_key(axis, metrics) is not None]
    own = [str(one["x"]) for one in defined if one.get("x") and str(one["x"]) in metrics]
    return list(dict.fromkeys(["step", *named, *own, *_CLOCKS]))


def _attempts(info: RunInfo) -> list[schemas.Attempt]:
    return [
        schemas.Attempt(
            number=one.number,
            started=(one.started or 0) / 1e6,
            host=one.host,
            resume_step=one.resume_step,
            world_size=1 if one.world_size is None else one.world_size,
            command=shlex.join(one.argv) or None,
        )
        for one in info.attempts
    ]


def _forks_of(session: Session, run: RecordedRun) -> list[str]:
    """The ids of the runs of its project that go on from a run."""
    project = os.path.basename(os.path.dirname(run.path))
    return [key.id for key in session.listing().forks_of(run.path) if key.project == project]


# -- followers ----------------------------------------------------------------------------------------------------


def _followers(folder: RunFolder, info: RunInfo, state: str) -> list[schemas.Follower]:
    """The mirrors that a run asked for or was brought to, as their cursors tell."""
    from lossbook.follower import cursors

    attempts = len(info.attempts)
    found = [
        _follower(folder, one, attempts, is_running=state == "running") for one in cursors(folder, MIRRORS.names())
    ]
    begun = {one.name.removesuffix("-offline") for one in found}
    asked = dict.fromkeys(spec.partition(":")[0] for spec in info.mirrors)
    return [*found, *(schemas.Follower(name, "waiting", None, None, None) for name in asked if name not in begun)]


def _follower(folder: RunFolder, cursor: Cursor, attempts: int, *, is_running: bool) -> schemas.Follower:
    behind = _rows_behind(folder, cursor)
    if cursor.state == "stopped":
        state = "failed"
    elif cursor.state == "closed" and cursor.attempts == attempts and not behind:
        state = "done"
    else:
        state = "delivering" if is_running and cursor.state == "open" else "waiting"
    return schemas.Follower(cursor.name, state, behind, cursor.error, cursor.url)


def _rows_behind(folder: RunFolder, cursor: Cursor) -> int | None:
    """How many rows a mirror does not have; None for a job of so many ranks that counting them takes long."""
    from lossbook.follower import undelivered_rows

    if len(cursor.delivered) > _MOST_COUNTED_RANKS:
        return None
    return undelivered_rows(folder, cursor)


ROUTES = [get("/api/run", RunQuestion, run_page)]
