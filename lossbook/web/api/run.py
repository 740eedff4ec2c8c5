"""Everything about one run on one page, without reading its curves."""

from __future__ import annotations

import hashlib
import os
import shlex
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from lossbook.analysis import read_gpus
from lossbook.book import Book
from lossbook.errors import LossbookError
from lossbook.json_shapes import JsonMapping
from lossbook.metrics import AXES, find_key, goal_of, key_metrics, percent_factor, role_of, unit_of
from lossbook.paths import RunFolder, open_plain, project_folder
from lossbook.reading import RecordedRun, list_consoles
from lossbook.registry import MIRRORS
from lossbook.run_info import RunInfo, load_run_info
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
        parent=None if info.parent is None else {**info.parent.to_json()},
        forks=problems.or_else([], lambda: forks_of(session.book, run)),
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


# -- runs that go on from this one --------------------------------------------------------------------------------


class _Forks:
    """Which run of a project was forked from which: each `run.json` is looked into once, for that never changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parents: dict[str, dict[str, tuple[str, str] | None]] = {}  # by project's folder, by run

    def of(self, store: str, run: RecordedRun) -> list[str]:
        folder = os.path.dirname(run.path)
        with self._lock:
            known = self._parents.setdefault(folder, {})
            try:
                names = [name for name in os.listdir(folder) if not name.startswith(".")]
            except OSError:
                names = []
            for name in names:
                if name not in known:
                    parent = _parent_of(os.path.join(folder, name))
                    if parent is not _NOT_YET:
                        known[name] = parent
            for gone in known.keys() - set(names):
                del known[gone]
            return sorted(
                name
                for name, parent in known.items()
                if parent is not None and parent[1] == run.id and project_folder(store, parent[0]) == folder
            )


_NOT_YET = ("", "")
_forks: weakref.WeakKeyDictionary[Book, _Forks] = weakref.WeakKeyDictionary()


def forks_of(book: Book, run: RecordedRun) -> list[str]:
    """The ids of the runs of its project that go on from a run."""
    return _forks.setdefault(book, _Forks()).of(book.store, run)


def _parent_of(path: str) -> tuple[str, str] | None:
    """The project and run that a run was forked from; `_NOT_YET` where it is not known yet."""
    try:
        with open(RunFolder(path).run_json, "rb", opener=open_plain) as file:
            # The run's own, two spaces in; one of its configuration stands further right.
            if b'\n  "parent": null' in file.read():
                return None
        info = load_run_info(RunFolder(path))
    except (LossbookError, OSError):
        return _NOT_YET
    return (info.parent.project, info.parent.run) if info is not None and info.parent is not None else None


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
