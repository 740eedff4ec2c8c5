"""Looking at the store beside the screen: a thread that reads what the user is looking at, and says when it changed.

Keys are never kept waiting by a file. Only runs that are running are read again, and each kind of look takes a small
share of one core, whatever it costs: one that takes long is taken less often.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError, UnknownKey
from lossbook.metrics import role_of, usual_keys
from lossbook.terminal.console_tail import ConsoleTail, console_files
from lossbook.terminal.overview import read_overview
from lossbook.terminal.runs import RunLine, RunLines
from lossbook.terminal.snapshot import MOST_DRAWN, Panel, PanelCurve, Snapshot, ViewRequest, same_panels

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

#: The part of one core that each kind of look may take.
_SHARE = 0.01
#: Lines of the first screen, which is shown before all runs are read.
_FIRST_LINES = 200


class _Pace:
    """When a kind of look is due again: never more often than asked, and never for more than its share of a core."""

    def __init__(self, least_seconds: float) -> None:
        self._least_seconds = least_seconds
        self.due = 0.0

    def took(self, cost_seconds: float) -> None:
        self.due = time.monotonic() + max(self._least_seconds, cost_seconds / _SHARE)


class SnapshotReader:
    """Reads what is wanted in a thread of its own.

    Args:
        book: opened by the caller, and used by the thread alone from `start` on.
        project: only this project's runs.
        interval_seconds: how often running runs are looked at.
        publish: called in the thread with each new snapshot; must be quick.
    """

    def __init__(
        self,
        book: Book,
        publish: Callable[[Snapshot], None],
        *,
        project: str | None = None,
        interval_seconds: float = 0.5,
    ) -> None:
        self._book, self._publish, self._project = book, publish, project
        self._interval_seconds = interval_seconds
        self._wanted = ViewRequest()
        self._served: ViewRequest | None = None
        self._snapshot = Snapshot()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="lossbook-watch", daemon=True)
        self._run_lines = RunLines()
        self._by_path: dict[str, RunLine] = {}
        self._runs: dict[str, RecordedRun] = {}
        #: Runs whose rows are held, the one that was looked at last behind the others.
        self.open_runs: OrderedDict[str, RecordedRun] = OrderedDict()
        self._curves: dict[tuple[object, ...], tuple[object, PanelCurve]] = {}
        self._keys_of: dict[str, tuple[object, list[str]]] = {}
        self._tails: OrderedDict[str, ConsoleTail] = OrderedDict()
        self._folder_marks: object = None
        self._folders = _Pace(1.0)
        self._all = _Pace(5.0)
        self._where = _Pace(5.0)
        self._few = _Pace(interval_seconds)
        self._draw = _Pace(interval_seconds)
        self._detail = _Pace(interval_seconds)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, wait_seconds: float = 0.0) -> None:
        """End the thread after what it is reading now, and wait for that so long; a file system may hang for ever."""
        self._stopped = True
        self._wake.set()
        if wait_seconds and self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(wait_seconds)

    def want(self, wanted: ViewRequest) -> None:
        """Say what is looked at now."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopped:
            self._wake.clear()
            wanted = self._wanted
            before = self._snapshot
            self.look(wanted)
            if self._snapshot is not before:
                self._publish(self._snapshot)
            if self._wanted is wanted:
                self._wake.wait(self._interval_seconds)

    def look(self, wanted: ViewRequest) -> Snapshot:
        """Read what is due of what is wanted; what was asked for anew is due at once."""
        served = self._served
        self._served = wanted
        if served is None or wanted.asked != served.asked:
            self._all.due = self._folders.due = 0.0
            self._curves.clear()
            self._refresh_source()
        fresh = served is None or wanted.asked != served.asked
        self._try("runs", lambda: self._look_at_runs(wanted, fresh))
        self._try("where", lambda: self._look_at_where(wanted, fresh or served is None or wanted.where != served.where))
        if served is None or replace(wanted, watched=(), focus=None) != replace(served, watched=(), focus=None):
            self._draw.due = 0.0
        self._try("lines", lambda: self._look_at_running(wanted))
        self._try("curves", lambda: self._look_at_curves(wanted))
        about = (wanted.focus, wanted.view, wanted.console, wanted.asked)
        if served is None or about != (served.focus, served.view, served.console, served.asked):
            self._detail.due = 0.0
        self._try("details", lambda: self._look_at_details(wanted))
        return self._snapshot

    def _try(self, kind: str, look: Callable[[], None]) -> None:
        trouble = None
        try:
            look()
        except LossbookError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        except Exception as error:  # a page that is watched for days goes on, and says what is missing on it
            trouble = f"something went wrong inside Lossbook ({type(error).__name__}: {error})"
        held = self._snapshot.troubles
        if held.get(kind) != trouble:
            troubles = {other: text for other, text in held.items() if other != kind}
            self._change(troubles=troubles if trouble is None else {**troubles, kind: trouble})

    def _change(self, **fields: object) -> None:
        self._snapshot = replace(self._snapshot, **fields)  # type: ignore[arg-type]

    # -- the table --------------------------------------------------------------------------------------------------

    def _refresh_source(self) -> None:
        refresh = getattr(self._book, "refresh", None)
        if refresh is not None and self._snapshot.lines is not None:
            self._try("source", refresh)

    def _look_at_runs(self, wanted: ViewRequest, fresh: bool) -> None:
        now = time.monotonic()
        if not fresh and now < self._all.due:
            if now < self._folders.due:
                return
            # A new run changes the folder of its project.
            marks = _folder_marks(self._book.store)
            self._folders.took(0.0)
            if marks == self._folder_marks:
                return
        began = time.thread_time()
        self._folder_marks = _folder_marks(self._book.store)
        runs = self._book.runs()
        if self._snapshot.lines is None and len(runs) > 2 * _FIRST_LINES:
            self._set_lines(RunLines().of(runs[:_FIRST_LINES]))
            self._publish(self._snapshot)
        if not self._runs:
            # A record that was parsed is a hundred times the size of its line: each is let go at once, and such as
            # nobody has parsed are kept.
            lines = self._run_lines.of(_used_up(runs))
            runs = self._book.runs()
        else:
            lines = self._run_lines.of(runs)
        self._runs = {run.path: run for run in runs}
        self._set_lines(lines)
        self._all.took(time.thread_time() - began)
        self._folders.took(0.0)

    def _set_lines(self, lines: Sequence[RunLine]) -> None:
        chosen = tuple(line for line in lines if self._project is None or line.project == self._project)
        self._by_path = {line.path: line for line in chosen}
        if chosen != self._snapshot.lines:
            self._change(lines=chosen)

    def _look_at_where(self, wanted: ViewRequest, fresh: bool) -> None:
        if not wanted.where:
            if self._snapshot.fits is not None:
                self._change(fits=None)
            return
        if not fresh and time.monotonic() < self._where.due:
            return
        began = time.thread_time()
        # Whatever comes of it, it is not asked again before its time.
        self._where.took(0.0)
        fits = frozenset(run.path for run in self._book.runs(self._project, wanted.where))
        if fits != self._snapshot.fits:
            self._change(fits=fits)
        self._where.took(time.thread_time() - began)

    def _look_at_running(self, wanted: ViewRequest) -> None:
        """The lines of running runs that are on the screen."""
        if time.monotonic() < self._few.due or self._snapshot.lines is None:
            return
        began = time.thread_time()
        looked_at = dict.fromkeys((*wanted.watched, *wanted.drawn, *([wanted.focus] if wanted.focus else [])))
        changed = False
        for path in looked_at:
            line = self._by_path.get(path)
            if line is None or not line.is_running:
                continue
            run = self.open_runs.get(path) or self._runs.get(path)
            if run is None:
                continue
            fresh = self._run_lines.anew(run.refresh())
            if fresh != line:
                self._by_path[path] = fresh
                changed = True
        if changed:
            self._change(lines=tuple(self._by_path[line.path] for line in self._snapshot.lines))
        self._few.took(time.thread_time() - began)

    # -- curves -----------------------------------------------------------------------------------------------------

    def _opened(self, path: str) -> RecordedRun:
        """A run with its rows; those looked at last are held."""
        run = self.open_runs.get(path)
        if run is None:
            if path not in self._runs:
                self._runs = {one.path: one for one in self._book.runs()}
            run = self.open_runs[path] = self._runs[path]
        self.open_runs.move_to_end(path)
        while len(self.open_runs) > MOST_DRAWN + 2:
            dropped, _ = self.open_runs.popitem(last=False)
            self._keys_of.pop(dropped, None)
            # The one that is listed is the same, and holds rows by now.
            self._runs.pop(dropped, None)
        return run

    def _mark(self, path: str) -> object:
        """Something that differs when a run has new rows."""
        line = self._by_path.get(path)
        if line is None or not line.is_running:
            return line.state if line is not None else None
        try:
            with os.scandir(os.path.join(path, "journal")) as entries:
                return frozenset((entry.name, entry.stat().st_size) for entry in entries)
        except OSError:
            return None

    def _look_at_curves(self, wanted: ViewRequest) -> None:
        drawn = [path for path in wanted.drawn if path in self._by_path][:MOST_DRAWN]
        if wanted.view != "curves" or time.monotonic() < self._draw.due:
            return
        began = time.thread_time()
        marks = {path: self._mark(path) for path in drawn}
        keys = self._all_keys(drawn, marks)
        if keys != self._snapshot.keys:
            self._change(keys=keys)
        wanted_keys = wanted.keys or tuple(usual_keys(keys)[:1])
        held: dict[tuple[object, ...], tuple[object, PanelCurve]] = {}
        panels = []
        for key in wanted_keys:
            curves = []
            for group, paths in self._sets(drawn, wanted.grouped):
                name = (paths, key, wanted.x, wanted.smoothing, wanted.start, wanted.end, wanted.points)
                mark = tuple(marks[path] for path in paths)
                known = self._curves.get(name)
                if known is None or known[0] != mark:
                    known = (mark, self._drawn(group, paths, key, wanted))
                held[name] = known
                curves.append(known[1])
            panels.append(Panel(key, wanted.x, wanted.start, wanted.end, tuple(curves)))
        self._curves = held
        if not same_panels(panels, self._snapshot.panels):
            self._change(panels=tuple(panels))
        self._draw.took(time.thread_time() - began)

    def _sets(self, drawn: Sequence[str], grouped: bool) -> list[tuple[str | None, tuple[str, ...]]]:
        sets: dict[tuple[str, str], list[str]] = {}
        for path in drawn:
            line = self._by_path.get(path)
            group = line.group if grouped and line is not None else ""
            sets.setdefault(("group", group) if group else ("run", path), []).append(path)
        return [(name if kind == "group" else None, tuple(paths)) for (kind, name), paths in sets.items()]

    def _drawn(self, group: str | None, paths: tuple[str, ...], key: str, wanted: ViewRequest) -> PanelCurve:
        choice = {"x": wanted.x, "points": wanted.points, "start": wanted.start, "end": wanted.end}
        try:
            if group is not None and len(paths) > 1:
                from lossbook.analysis import seed_band

                runs = [self._opened(path) for path in paths]
                band = seed_band(runs, key, smoothing=wanted.smoothing, confidence=None, **choice)  # type: ignore[arg-type]
                return PanelCurve(paths, group, band)
            run = self._opened(paths[0])
            curve = run.curve(key, smoothing=wanted.smoothing, **choice)  # type: ignore[arg-type]
            raw = run.curve(key, **choice) if wanted.smoothing else None  # type: ignore[arg-type]
            return PanelCurve(paths, group, curve, raw)
        except UnknownKey:
            return PanelCurve(paths, group, None)

    def _all_keys(self, drawn: Sequence[str], marks: dict[str, object]) -> tuple[str, ...]:
        found: set[str] = set()
        for path in drawn:
            known = self._keys_of.get(path)
            if known is None or known[0] != marks[path]:
                known = self._keys_of[path] = (marks[path], self._opened(path).keys())
            found.update(known[1])
        usual = usual_keys(found) if found else []
        return (*usual, *sorted(found - set(usual), key=lambda key: (role_of(key) == "machine", key)))

    # -- one run ----------------------------------------------------------------------------------------------------

    def _look_at_details(self, wanted: ViewRequest) -> None:
        focus = wanted.focus
        if focus is None or wanted.view not in ("gpus", "console", "overview") or time.monotonic() < self._detail.due:
            return
        if focus not in self._by_path:
            return
        began = time.thread_time()
        if self._snapshot.about != focus:
            self._change(about=focus, gpus=None, overview=None, tail=None, consoles=())
        if wanted.view == "console":
            self._look_at_console(focus, wanted.console)
        else:
            run = self._opened(focus).refresh()
            if wanted.view == "gpus":
                from lossbook.analysis import read_gpus

                figures = read_gpus(run.statistics)
                if figures != self._snapshot.gpus:
                    self._change(gpus=figures)
            overview = read_overview(run, brief=wanted.view == "gpus")
            if overview != self._snapshot.overview:
                self._change(overview=overview)
        self._detail.took(time.thread_time() - began)
        line = self._by_path.get(focus)
        if line is not None and not line.is_running:
            # It changes no more; a run that goes on is seen by the table first.
            self._detail.due = max(self._detail.due, time.monotonic() + 5.0)

    def _look_at_console(self, focus: str, chosen: str | None) -> None:
        folder = os.path.join(focus, "console")
        names = tuple(console_files(folder))
        if names != self._snapshot.consoles:
            self._change(consoles=names)
        name = chosen if chosen in names else names[0] if names else None
        if name is None:
            return
        path = os.path.join(folder, name)
        tail = self._tails.get(path)
        if tail is None:
            tail = self._tails[path] = ConsoleTail(path)
            while len(self._tails) > 4:
                self._tails.popitem(last=False)
        if tail.read() or tail is not self._snapshot.tail:
            self._change(tail=tail, tail_read=self._snapshot.tail_read + 1)


def _used_up(runs: list[RecordedRun]) -> Iterator[RecordedRun]:
    """The runs in order; none is held any more when the next one is asked for."""
    runs.reverse()
    while runs:
        yield runs.pop()


def _folder_marks(store: str) -> object:
    """Something that differs when a project or a run was added or taken away."""
    found = []
    try:
        with os.scandir(store) as entries:
            for entry in entries:
                if entry.is_dir():
                    found.append((entry.name, entry.stat().st_mtime_ns))
    except OSError:
        pass
    return sorted(found)
