"""Everything about one run on one page, without reading its curves."""

from __future__ import annotations

import hashlib
import os
import shlex
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lossbook.analysis.gpus import read_gpus
from lossbook.book import Book
from lossbook.errors import LossbookError
from lossbook.metrics import AXES, find_key, goal_of, key_metrics, percent_factor, role_of, unit_of
from lossbook.paths import RunFolder, open_plain, project_folder, read_json
from lossbook.reading.console import list_consoles
from lossbook.reading.run import RecordedRun
from lossbook.registry import MIRRORS
from lossbook.web import schemas
from lossbook.web.api.events import pages_of
from lossbook.web.routing import get
from lossbook.web.session import Session, row_of

if TYPE_CHECKING:
    from lossbook.follower.cursor import Cursor

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
    kinds = problems.or_else({}, lambda: pages_of(session, run).count_kinds())
    problems.found += problems.or_else([], lambda: pages_of(session, run).problems())
    identity = problems.or_else({}, lambda: run.identity)
    # Only now: another tracker's runs are brought with the first question about their rows.
    record = run.record
    return schemas.RunPage(
        project=run.project,
        row=row_of(record),
        path=run.path,
        ended=run.ended,
        config=record["config"],
        summary=record["summary"],
        metrics=_metrics(record["metrics"], record["define"]),
        key_metrics=_key_metrics(record["metrics"], record["define"]),
        gpus=len(read_gpus(record["metrics"]).gpus),
        attempts=_attempts(identity),
        parent=_object(identity.get("parent")),
        forks=problems.or_else([], lambda: forks_of(session.book, run)),
        argv=_texts(identity.get("argv")),
        cwd=_text(identity.get("cwd")),
        script=_text(identity.get("script")),
        git=_object(identity.get("git")),
        host=_object(identity.get("host")),
        problems=list(dict.fromkeys(problems.found))[:_MOST_PROBLEMS],
        followers=problems.or_else([], lambda: _followers(run.folder, identity, run.state)),
        console_ranks=[one.rank for one in list_consoles(run.folder)],
        event_kinds=kinds,
        axes=_axes(record["metrics"], record["define"]),
        revision=revision(session, question),
    )


def revision(session: Session, question: RunQuestion) -> str:
    """A text that changes when anything on the page may have changed, but for the time that a running run has taken."""
    run = session.run(question.project, question.run)
    record, folder = run.record, run.folder
    marks: list[Any] = [run.state, record["rows"], record["last_step"], record["alerts"]]
    for path in (folder.path, folder.run_json, folder.summary_json, folder.journal, folder.metrics, folder.followers):
        try:
            found = os.stat(path)
            marks += [found.st_mtime_ns, found.st_size]
        except OSError:
            marks.append(None)
    return hashlib.blake2b(repr(marks).encode(), digest_size=9).hexdigest()


class _Problems:
    """Sentences about what could not be read; the rest is answered all the same."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def or_else(self, instead: Any, question: Any) -> Any:
        try:
            return question()
        except (LossbookError, OSError) as error:
            self.found.append(str(error))
            return instead


# -- what the index and run.json say ------------------------------------------------------------------------------


def _metrics(metrics: Mapping[str, Mapping[str, Any]], defined: Sequence[Mapping[str, Any]]) -> list[schemas.Metric]:
    goals = [one for one in defined if one.get("goal")]
    units = [one for one in defined if one.get("unit")]
    return [
        schemas.Metric(
            key=key,
            last=one.get("last"),
            last_step=one.get("last_step"),
            min=one.get("min"),
            min_step=one.get("min_step"),
            max=one.get("max"),
            max_step=one.get("max_step"),
            mean=one.get("mean"),
            count=one.get("count") or 0,
            nonfinite=one.get("nonfinite") or 0,
            unit=unit_of(key, defined=units, largest=one.get("max")) or None,
            goal=goal_of(key, goals) if goals else _usual_goal(key),
            role=role_of(key),
        )
        for key, one in metrics.items()
    ]


# The words in a key are looked through once, not each second.
_usual_goal = lru_cache(maxsize=1 << 15)(goal_of)


def _key_metrics(
    metrics: Mapping[str, Mapping[str, Any]], defined: Sequence[Mapping[str, Any]]
) -> list[schemas.KeyMetric]:
    return [
        schemas.KeyMetric(role, key, percent_factor(key, metrics[key].get("max"), defined))
        for role, key in key_metrics(metrics).items()
    ]


def _axes(metrics: Mapping[str, Any], defined: Sequence[Mapping[str, Any]]) -> list[str]:
    named = [axis for axis in AXES if find_key(axis, metrics) is not None]
    own = [str(one["x"]) for one in defined if one.get("x") and str(one["x"]) in metrics]
    return list(dict.fromkeys(["step", *named, *own, *_CLOCKS]))


def _attempts(identity: Mapping[str, Any]) -> list[schemas.Attempt]:
    listed = identity.get("attempts")
    return [
        schemas.Attempt(
            number=_whole(one.get("number"), position),
            started=(one.get("started") or 0) / 1e6 if isinstance(one.get("started"), (int, float)) else 0.0,
            host=_text(one.get("host")),
            resume_step=one["resume_step"] if isinstance(one.get("resume_step"), int) else None,
            world_size=_whole(one.get("world_size"), 1),
            command=shlex.join(_texts(one.get("argv"))) or None,
        )
        for position, one in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]


def _whole(value: Any, instead: int) -> int:
    return value if isinstance(value, int) else instead


def _text(value: Any) -> str | None:
    return str(value) if value is not None else None


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and value else None


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
        parent = (read_json(RunFolder(path).run_json) or {}).get("parent")
    except (LossbookError, OSError):
        return _NOT_YET
    return (str(parent.get("project")), str(parent.get("run"))) if isinstance(parent, dict) else None


# -- followers ----------------------------------------------------------------------------------------------------


def _followers(folder: RunFolder, identity: Mapping[str, Any], state: str) -> list[schemas.Follower]:
    """The mirrors that a run asked for or was brought to, as their cursors tell."""
    from lossbook.follower.cursor import cursors

    attempts = len(identity.get("attempts") or ())
    found = [
        _follower(folder, one, attempts, is_running=state == "running") for one in cursors(folder, MIRRORS.names())
    ]
    begun = {one.name.removesuffix("-offline") for one in found}
    asked = dict.fromkeys(spec.partition(":")[0] for spec in _texts(identity.get("mirrors")))
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
    from lossbook.follower.deliver import undelivered_rows

    if len(cursor.delivered) > _MOST_COUNTED_RANKS:
        return None
    return undelivered_rows(folder, cursor)


ROUTES = [get("/api/run", RunQuestion, run_page)]
