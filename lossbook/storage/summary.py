"""`summary.json`: how a run stands, in one small file that can be made again from the rest.

`LiveSummary` reads only what is new: the rollup's top level of each sealed file once, each journal line once, and of a
running run nothing but the rows behind the cursor of its `summary.json`. What an update costs depends on the rows that
were added, not on those that there are.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from lossbook.errors import LossbookError
from lossbook.journal.line import merge_config
from lossbook.journal.liveness import SILENT_SECONDS
from lossbook.journal.reader import first_row, read_segment
from lossbook.paths import FORMAT, RunFolder, SegmentName, is_monitor, parse_segment_name, write_json
from lossbook.processes import host_name, is_alive
from lossbook.run_info import Attempt, RunInfo, read_run_info
from lossbook.storage.attempts import NEVER, cutoffs
from lossbook.storage.derived_files import SealNotes, read_seal_notes, read_watch_notes
from lossbook.storage.segments import Segment, list_segments
from lossbook.storage.statistics import (
    KINDS_THAT_COUNT,
    Event,
    SealedPart,
    Statistics,
    parse_statistics,
    read_sealed,
    statistics_up_to,
)

#: Keys of one run that a summary describes at the most; a run with more says so.
MOST_KEYS = 200_000
#: A run's files are replaced while they are read so many times in a row at the most.
_MOST_TRIES = 20

Place = tuple[int, int]  # attempt, rank


class _Unclear(Exception):
    """What was read cannot be told from what was not: everything is read again."""


@dataclass
class _Mark:
    """How far one file has been read."""

    path: str
    is_live: bool
    offset: int = 0
    line: int = 1
    attempt: int = 0
    next_row: int | None = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class _Said:
    """What the rows that are no scalars say of the run, folded in the order of their times."""

    config: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    defined: list[dict[str, Any]] = field(default_factory=list)
    alerts: int = 0
    warnings: list[str] = field(default_factory=list)
    finish: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        when, rank, attempt, kind, value = event
        if kind == "config":
            self.config = merge_config(self.config, value)
        elif kind == "summary":
            self.user = merge_config(self.user, value)
        elif kind == "define":
            self.defined = [one for one in self.defined if one.get("pattern") != value.get("pattern")] + [value]
        elif kind == "alert":
            self.alerts += 1
        elif kind == "warning" and value.get("lost"):
            self.warnings.append(str(value.get("message")))
        elif kind == "finish" and rank == 0:
            self.finish[attempt] = (when, value)


class _Events:
    """Events as they are found in several files; folded on, or anew when one comes that is older than the last."""

    def __init__(self, seed: dict[str, Any] | None = None) -> None:
        self._seed = seed or {}
        self._found: list[Event] = []
        self._said: _Said | None = None
        self._last = 0

    def add(self, event: Event) -> None:
        if event[0] < self._last:
            self._said = None
        self._last = max(self._last, event[0])
        self._found.append(event)
        if self._said is not None:
            self._said.add(event)

    def said(self) -> _Said:
        if self._said is None:
            seed = self._seed
            self._said = _Said(
                dict(seed.get("config") or {}),
                dict(seed.get("summary") or {}),
                list(seed.get("define") or ()),
                int(seed.get("alerts") or 0),
                [str(problem) for problem in seed.get("problems") or ()],
            )
            for event in sorted(self._found, key=lambda event: event[0]):
                self._said.add(event)
        return self._said


class LiveSummary:
    """A run's summary, kept up to date by reading only what was added. Thread-safe.

    Memory grows with the number of series, not with the number of rows or files.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.updates = 0
        self._begin()

    def _begin(self) -> None:
        self._marks: dict[SegmentName, _Mark] = {}
        self._series: dict[Place, dict[str, Statistics]] = {}
        self._places: dict[str, list[Place]] = {}  # by key
        self._trained: set[str] = set()
        self._events = _Events()
        self._rows = self._last_time = 0
        self._last_step: int | None = None
        self._seed: dict[str, Any] | None = None  # by key, as `summary.json` has it
        self._resumed_from: dict[int, int | None] = {}
        self._changed: set[str] = set()
        self._plain: dict[str, dict[str, Any]] = {}
        self._cut: dict[tuple[str, Place], tuple[int, int, Statistics]] = {}  # cut, rows then, up to there

    @property
    def is_seeded(self) -> bool:
        """Whether the rows before the cursor of a `summary.json` were taken from it: means are then rounded."""
        return self._seed is not None

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory, about."""
        return sum(250 * len(series) for series in self._series.values()) + 600 * len(self._plain)

    def update(self, written: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read what is new and return the summary as `summary.json` has it.

        Args:
            written: what `summary.json` says, if it was read: the first update then reads only what is behind its
                cursor, where it tells enough.
        """
        with self._lock:
            for _ in range(_MOST_TRIES):
                try:
                    return self._update(written)
                except FileNotFoundError:
                    # Sealed, or merged into another, between the look and the reading: look again.
                    continue
                except _Unclear:
                    self._begin()
                    written = None
            return self._update(None)

    def _update(self, written: dict[str, Any] | None) -> dict[str, Any]:
        segments = list_segments(self._folder)
        info, _ = read_run_info(self._folder)
        resumed_from = info.resume_steps()
        if written is not None and not self._marks:
            self._plant(written, segments, info)
        if self._seed is not None and resumed_from != self._resumed_from:
            raise _Unclear
        for segment in segments:
            if segment.metrics is None:
                self._read_journal(segment)
            else:
                self._take_sealed(segment, segments)
        if self._marks.keys() != {segment.name for segment in segments}:
            raise _Unclear
        if resumed_from != self._resumed_from:
            self._resumed_from = resumed_from
            self._changed.update(self._places)
        self._bring_metrics(segments)
        self.updates += 1
        return self._assemble(info)

    def write(self) -> dict[str, Any]:
        """Bring `summary.json` up to date.

        Raises:
            StoreError, OSError: it cannot be written.
        """
        summary = self.update()
        write_json(self._folder.summary_json, summary, durable=False)
        return summary

    # -- reading ------------------------------------------------------------------------------------------------

    def _plant(
        self,
        written: dict[str, Any],
        segments: list[Segment],
        info: RunInfo,
    ) -> None:
        """Begin with what a `summary.json` says, if all that can come behind its cursor only adds to it."""
        resumed_from = info.resume_steps()
        metrics, cursor = written.get("metrics"), written.get("cursor")
        if not resumed_from or not cursor or written.get("state") != "running":
            return
        latest = max(resumed_from)
        # An attempt that did not say from where it resumed may hide rows that this summary counts.
        if len(resumed_from) > 1 and resumed_from[latest] is None:
            return
        if (written.get("started") or 0) < (info.last_attempt.started or 0) or len(metrics or ()) >= MOST_KEYS:
            return
        standing = {os.path.basename(one.journal): one.journal for one in segments if one.journal is not None}
        marks: dict[SegmentName, _Mark] = {}
        for filename, reached in cursor.items():
            name = parse_segment_name(filename)
            if name is None:
                return
            mark = marks[name] = _Mark(filename, reached is not None, next_row=None)
            if reached is None:
                continue
            if not isinstance(reached, list) or len(reached) != 3 or not all(type(one) is int for one in reached):
                return
            mark.offset, mark.line, mark.next_row = reached
            if filename in standing and mark.offset > 0:
                head = first_row(standing[filename])
                if head is None or head.kind != "attempt":
                    return
                mark.attempt = int(head.body["number"])
        self._marks = marks
        self._seed = dict(metrics or {})
        self._plain = dict(self._seed)
        self._events = _Events(written)
        self._rows, self._last_time = written.get("rows") or 0, written.get("last_time") or 0
        self._last_step = written.get("last_step")
        self._resumed_from = resumed_from

    def _read_journal(self, segment: Segment) -> None:
        path = str(segment.journal)
        mark = self._marks.get(segment.name) or _Mark(path, True)
        size = os.stat(path).st_size
        if not mark.is_live or size < mark.offset:
            raise _Unclear
        if size > mark.offset:
            reading = read_segment(path, offset=mark.offset, first_line=mark.line)
            rank, is_training = segment.name.rank, not is_monitor(segment.name.rank)
            for row in reading.rows:
                mark.next_row = max(mark.next_row or 0, row.i + 1)
                if row.kind == "attempt":
                    mark.attempt = int(row.body["number"])
                if is_training:
                    self._rows += 1
                    self._last_time = max(self._last_time, row.t)
                if row.kind is not None:
                    if row.kind in KINDS_THAT_COUNT:
                        self._events.add((row.t, rank, mark.attempt, row.kind, row.body))
                    continue
                series = self._series_of((mark.attempt, rank))
                step = row.step or 0
                if not series.keys() >= row.body.keys():
                    self._take_in((mark.attempt, rank), {key: Statistics() for key in row.body if key not in series})
                for key, value in row.body.items():
                    series[key].add(step, row.i, value)
                self._changed.update(row.body)
            mark.offset = reading.offset
            mark.line += len(reading.rows) + len(reading.problems)
            mark.problems += [str(problem) for problem in reading.problems]
        mark.path = path
        self._marks[segment.name] = mark

    def _take_sealed(self, segment: Segment, segments: list[Segment]) -> None:
        """Take a sealed file for what was read of it already: journal segments, or smaller files; read only the rest."""
        known = self._marks.get(segment.name)
        if known is not None and not known.is_live:
            return
        covered = sorted(name for name in self._marks if segment.name.covers(name))
        problems: list[str] = []
        if not covered:
            part = read_sealed(segment)
            self._take_part(part, segment)
            next_row: int | None = part.next_row
            problems = part.problems
        else:
            expected = segment.name.first
            for name in covered:
                if name.first != expected:
                    raise _Unclear
                expected = name.last + 1
            last = self._marks[covered[-1]]
            next_row = last.next_row
            if not self._is_whole(covered[-1], last, segment, segments):
                if next_row is None:
                    raise _Unclear
                part = read_sealed(segment, next_row)
                self._take_part(part, segment)
                next_row = part.next_row
                problems = part.problems
        for name in covered:
            problems += self._marks[name].problems if not self._marks[name].is_live else []
            del self._marks[name]
        self._marks[segment.name] = _Mark(str(segment.metrics), False, next_row=next_row, problems=problems)

    def _is_whole(self, name: SegmentName, mark: _Mark, sealed: Segment, segments: list[Segment]) -> bool:
        """Whether the last piece that was read of what is in a sealed file was read to its end."""
        if name.last != sealed.name.last:
            return False
        if not mark.is_live:
            return True
        try:
            noted = read_seal_notes(self._folder)
        except LossbookError:
            noted = SealNotes()
        last, next_row = noted.last_segment.get(name.rank), noted.next_row.get(name.rank)
        if last == name.last and next_row == mark.next_row:
            return True
        for one in segments:
            if one.journal is not None and one.name.rank == name.rank and one.name.first == name.last + 1:
                head = first_row(one.journal)
                return head is not None and head.i == mark.next_row
        return False

    def _take_part(self, part: SealedPart, segment: Segment) -> None:
        for (key, attempt, rank), one in part.series.items():
            series = self._series_of((attempt, rank))
            if key in series:
                series[key].merge(one)
                self._changed.add(key)
            else:
                self._take_in((attempt, rank), {key: one})
        for event in part.events:
            self._events.add(event)
        if not is_monitor(segment.name.rank):
            self._rows += part.rows
            self._last_time = max(self._last_time, part.last_time)

    def _series_of(self, place: Place) -> dict[str, Statistics]:
        if self._seed is not None and place[0] != max(self._resumed_from):
            raise _Unclear
        series = self._series.get(place)
        if series is None:
            series = self._series[place] = {}
        return series

    def _take_in(self, place: Place, fresh: dict[str, Statistics]) -> None:
        self._series[place].update(fresh)
        for key in fresh:
            places = self._places.setdefault(key, [])
            places.append(place)
            # In the order in which one who reads everything finds them.
            places.sort()
        self._changed.update(fresh)
        if not is_monitor(place[1]):
            self._trained.update(fresh)

    # -- telling ------------------------------------------------------------------------------------------------

    def _bring_metrics(self, segments: list[Segment]) -> None:
        """Say again what changed of each key: statistics over the rows that count."""
        cuts = self._cuts(segments)
        is_new = False
        for key in self._changed:
            total = Statistics()
            if self._seed is not None and key in self._seed:
                found = parse_statistics(self._seed[key])
                if found is None:
                    raise _Unclear
                total = found
            is_seen = total.count > 0
            for place in self._places[key]:
                one = cuts.get((key, place), self._series[place][key])
                if one is not None:
                    total.merge(one)
                    is_seen = True
            if is_seen:
                is_new |= key not in self._plain
                self._plain[key] = total.plain()
            else:
                self._plain.pop(key, None)
        if is_new:
            self._plain = dict(sorted(self._plain.items()))
        self._changed = set()

    def _cuts(self, segments: list[Segment]) -> dict[tuple[str, Place], Statistics | None]:
        """Of series that changed and have rows that a later attempt hides: the rest of them, None where none is left."""
        attempts = {attempt for attempt, _ in self._series}
        if self._seed is not None or len(attempts | set(self._resumed_from)) < 2:
            return {}
        found: dict[tuple[str, Place], Statistics | None] = {}
        known: dict[tuple[tuple[int, int], ...], dict[int, int]] = {}
        missing: dict[tuple[Place, int], set[str]] = {}
        for key in self._changed:
            firsts: dict[int, int] = {}
            for place in self._places[key]:
                firsts[place[0]] = min(firsts.get(place[0], NEVER), self._series[place][key].first_step)
            named = tuple(sorted(firsts.items()))
            cuts = known.get(named)
            if cuts is None:
                cuts = known[named] = cutoffs(self._resumed_from, firsts)
            for place in self._places[key]:
                one, cut = self._series[place][key], cuts[place[0]]
                if one.first_step > cut:
                    found[key, place] = None
                elif one.furthest_step > cut:
                    kept = self._cut.get((key, place))
                    if kept is not None and kept[:2] == (cut, one.count):
                        found[key, place] = kept[2]
                    else:
                        missing.setdefault((place, cut), set()).add(key)
        for (place, cut), keys in missing.items():
            rest = statistics_up_to(segments, *place, cut, keys)
            for key in keys:
                one = rest.get(key, Statistics())
                self._cut[key, place] = (cut, self._series[place][key].count, one)
                found[key, place] = one
        return found

    def _assemble(self, info: RunInfo) -> dict[str, Any]:
        said = self._events.said()
        state, error, ended = run_state(self._folder, info, said.finish)
        # How far a run has come, its training says: what the follower measured beside it is no row of the run's.
        steps = [self._plain[key]["last_step"] for key in self._trained if key in self._plain]
        if self._last_step is not None:
            steps.append(self._last_step)
        last_time = self._last_time or None
        problems = [problem for mark in self._marks.values() for problem in mark.problems]
        metrics = self._plain if len(self._plain) <= MOST_KEYS else dict(islice(self._plain.items(), MOST_KEYS))
        return {
            "format": FORMAT,
            "state": state,
            "error": error,
            "started": info.last_attempt.started or info.created or None,
            "ended": ended or (last_time if state not in ("running",) else None),
            "updated": time.time_ns() // 1000,
            "rows": self._rows,
            "last_step": max(steps, default=None),
            "last_time": last_time,
            "config": said.config,
            "summary": said.user,
            "define": said.defined,
            "metrics": dict(metrics),
            "alerts": said.alerts,
            "problems": list(dict.fromkeys([*said.warnings, *sealed_problems(self._folder), *problems]))[:200],
            "cursor": {
                os.path.basename(mark.path): [mark.offset, mark.line, mark.next_row or 0] if mark.is_live else None
                for mark in self._marks.values()
            },
        }


def compute_summary(folder: RunFolder) -> dict[str, Any]:
    """The summary made anew from the run's rows."""
    return LiveSummary(folder).update()


def sealed_problems(folder: RunFolder) -> list[str]:
    """What was found damaged when segments were sealed."""
    try:
        return list(read_seal_notes(folder).problems)
    except LossbookError as error:
        return [str(error)]


def run_state(
    folder: RunFolder, info: RunInfo, finish: dict[int, tuple[int, dict[str, Any]]]
) -> tuple[str, str | None, int | None]:
    """How the last attempt stands: (state, error, time of its end in µs).

    Args:
        finish: the `finish` rows of rank 0 by attempt, with their times.
    """
    number = info.last_attempt.number if info.attempts else max(finish, default=0)
    if number in finish:
        when, value = finish[number]
        return str(value.get("state") or "finished"), value.get("error"), when
    watched = read_watch_notes(folder)
    if watched.attempt == number and watched.state:
        unexplained = "the training process ended without a word" if watched.state == "crashed" else None
        return watched.state, watched.error or unexplained, watched.ended
    if is_running(folder, info.last_attempt):
        return "running", None, None
    return "crashed", "the training process ended without a word", None


def is_running(folder: RunFolder, attempt: Attempt) -> bool:
    """Whether the process of an attempt lives, as far as can be known from here."""
    if attempt.host == host_name() and attempt.pid:
        return is_alive(attempt.pid, attempt.process_start, attempt.boot)
    newest = 0.0
    for directory in (folder.journal, folder.followers):
        try:
            with os.scandir(directory) as entries:
                newest = max([newest, *(entry.stat().st_mtime for entry in entries)])
        except OSError:
            continue
    return time.time() - newest < SILENT_SECONDS


def overlay(summary: dict[str, Any], folder: RunFolder, live: LiveSummary | None = None) -> dict[str, Any]:
    """Bring a `summary.json` that was read up to date, by reading the journal behind its cursor.

    Returns:
        The summary itself when nothing was added and it had ended; a fresh one otherwise.
    """
    cursor = summary.get("cursor") or {}
    pieces = {os.path.basename(str(one.metrics or one.journal)): one for one in list_segments(folder)}
    try:
        is_known = set(cursor) == set(pieces) and all(
            one.journal is None or os.path.getsize(one.journal) <= int(cursor[name][0]) for name, one in pieces.items()
        )
    except (FileNotFoundError, TypeError, ValueError, IndexError):
        is_known = False  # sealed since the look, or no cursor of ours
    if is_known:
        if summary.get("state") != "running":
            return summary
        if is_running(folder, read_run_info(folder)[0].last_attempt):
            return summary
    live = live or LiveSummary(folder)
    fresh = live.update(summary)
    # What will be written stays: it is made of the rows themselves.
    return fresh if fresh["state"] == "running" or not live.is_seeded else LiveSummary(folder).update()
