"""Keeps the summary of a run up to date: its metrics in numbers, its state, and what it said of itself.

`LiveSummary` reads only what is new: the rollup's top level of each sealed file once, each journal line once, and of a
running run nothing but the rows behind the cursor of its `summary.json`. What an update costs depends on the rows that
were added, not on those that there are.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

from lossbook.errors import LossbookError
from lossbook.journal import ReadMark, Row, first_row, mark_of, read_segment
from lossbook.json_shapes import JsonObject, object_or_empty
from lossbook.paths import RunFolder, SegmentName, is_monitor, parse_segment_name
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage.attempt_statistics import AttemptStatistics, Place
from lossbook.storage.derived_files import SealNotes, read_seal_notes
from lossbook.storage.overlaps import overlap_problems
from lossbook.storage.run_state import EventFold, is_running, run_state, sealed_problems
from lossbook.storage.segment import Segment
from lossbook.storage.segments import list_segments
from lossbook.storage.statistics import (
    KINDS_THAT_COUNT,
    Event,
    SealedPart,
    Statistics,
    read_sealed,
    statistics_of,
)
from lossbook.storage.summary_file import MetricTable, ReadTo, RunSummary, write_summary

#: Keys of one run that a summary describes at the most; a run with more says so.
MOST_KEYS = 200_000
#: So many rows with the same keys are added up together.
LEAST_ALIKE = 256
#: A run's files are replaced while they are read so many times in a row at the most.
_MOST_TRIES = 20


class _StartOver(Exception):
    """What was read cannot be told from what was not: everything is read again."""


@dataclass
class _FileCursor:
    """How far one file has been read."""

    path: str
    is_live: bool
    offset: int = 0
    line: int = 1
    attempt: int = 0
    next_row: int | None = 0
    problems: list[str] = field(default_factory=list)
    mark: ReadMark | None = None  # of a journal, where it was read here
    identity: tuple[int, int, int] | None = None  # of a sealed file: inode, size and mtime

    @property
    def read_to(self) -> ReadTo | None:
        """As `summary.json` has it."""
        return ReadTo(self.offset, self.line, self.next_row or 0) if self.is_live else None


class LiveSummary:
    """A run's summary, kept up to date by reading only what was added. Thread-safe.

    Memory grows with the number of series, not with the number of rows or files.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.updates = 0
        self._identity: tuple[str, int, int | None] | None = None
        self._shared: dict[SegmentName, int] = {}  # from which row on segments count that share rows with others
        self._begin()

    def _begin(self) -> None:
        self._cursors: dict[SegmentName, _FileCursor] = {}
        self._overlaps: list[str] = []
        self._series = AttemptStatistics()
        self._trained: set[str] = set()
        self._events = EventFold()
        self._rows = self._last_time = 0
        self._last_step: int | None = None
        self._seed: MetricTable | None = None  # what a `summary.json` said, to which rows behind its cursor are added
        self._resumed_from: dict[int, int | None] = {}
        self._written: dict[str, JsonObject] = {}  # by key, as `summary.json` has it
        self._ends: dict[int, int] = {}  # by attempt, when training logged its last row
        self._earlier: int | None = None  # what a `summary.json` said of the attempts before the last

    @property
    def is_seeded(self) -> bool:
        """Whether the rows before the cursor of a `summary.json` were taken from it: means are then rounded."""
        return self._seed is not None

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory, about."""
        return 250 * len(self._series) + 600 * len(self._written)

    def update(self, written: RunSummary | None = None) -> RunSummary:
        """Read what is new and return the summary as it stands now.

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
                except _StartOver:
                    self._begin()
                    written = None
            return self._update(None)

    def _update(self, written: RunSummary | None) -> RunSummary:
        segments = list_segments(self._folder)
        shared = {segment.name: segment.first_row for segment in segments if segment.first_row is not None}
        if shared != self._shared:
            # Rows that were read of one file count in another now.
            self._begin()
            self._shared = shared
        if shared:
            written = None
        info, _ = read_run_info(self._folder)
        if info.identity != self._identity and info.attempts:
            known, self._identity = self._identity, info.identity
            if known is not None:
                # Another run stands in its place, perhaps with as many rows.
                raise _StartOver
        resumed_from = info.resume_steps()
        if written is not None and not self._cursors:
            self._begin_from(written, segments, info)
        if self._seed is not None and resumed_from != self._resumed_from:
            raise _StartOver
        for segment in segments:
            if segment.metrics is None:
                self._read_journal(segment)
            else:
                self._take_sealed(segment, segments)
        if self._cursors.keys() != {segment.name for segment in segments}:
            raise _StartOver
        if resumed_from != self._resumed_from:
            self._resumed_from = resumed_from
            self._series.note_all_changed()
        if shared and not self._overlaps:
            self._overlaps = overlap_problems(segments)
        self._update_metrics(segments)
        self.updates += 1
        return self._assemble(info)

    def up_to(self, step: int) -> dict[str, Statistics]:
        """Statistics by key over the rows that count and are not beyond a step.

        Raises:
            StoreError: a file cannot be read.
        """
        with self._lock:
            for _ in range(_MOST_TRIES):
                try:
                    self._update(None)
                    return self._series.up_to(step, list_segments(self._folder), self._resumed_from)
                except FileNotFoundError:
                    continue
                except _StartOver:
                    self._begin()
            self._update(None)
            return self._series.up_to(step, list_segments(self._folder), self._resumed_from)

    def write(self) -> RunSummary:
        """Bring `summary.json` up to date.

        Raises:
            StoreError, OSError: it cannot be written.
        """
        summary = self.update()
        write_summary(self._folder, summary)
        return summary

    # -- reading ------------------------------------------------------------------------------------------------

    def _begin_from(
        self,
        written: RunSummary,
        segments: list[Segment],
        info: RunInfo,
    ) -> None:
        """Begin with what a `summary.json` says, if all that can come behind its cursor only adds to it."""
        resumed_from = info.resume_steps()
        if not resumed_from or not written.cursor or written.state != "running":
            return
        latest = max(resumed_from)
        # An attempt that did not say from where it resumed may hide rows that this summary counts.
        if len(resumed_from) > 1 and (resumed_from[latest] is None or written.earlier is None):
            return
        if (written.started or 0) < (info.last_attempt.started or 0) or len(written.metrics) >= MOST_KEYS:
            return
        standing = {os.path.basename(one.journal): one.journal for one in segments if one.journal is not None}
        cursors: dict[SegmentName, _FileCursor] = {}
        for filename, reached in written.cursor.items():
            name = parse_segment_name(filename)
            if name is None:
                return
            cursor = cursors[name] = _FileCursor(filename, reached is not None, next_row=None)
            if reached is None:
                continue
            cursor.offset, cursor.line, cursor.next_row = reached
            if filename in standing and cursor.offset > 0:
                head = first_row(standing[filename])
                if head is None or head.kind != "attempt":
                    return
                cursor.attempt = int(head.body["number"])
        self._cursors = cursors
        self._seed = written.metrics
        self._written = {key: object_or_empty(one) for key, one in written.metrics.to_json().items()}
        self._events = EventFold(written)
        self._rows, self._last_time = written.rows, written.last_time or 0
        self._last_step = written.last_step
        self._earlier = written.earlier or 0
        self._resumed_from = resumed_from

    def _read_journal(self, segment: Segment) -> None:
        path = str(segment.journal)
        cursor = self._cursors.get(segment.name) or _FileCursor(path, True)
        # Open all the while: a mark can be taken when it was sealed meanwhile.
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            is_another = cursor.mark is not None and not cursor.mark.is_of(file.fileno())
            if not cursor.is_live or size < cursor.offset or is_another:
                raise _StartOver
            if size > cursor.offset:
                self._read_rows(segment, cursor, path)
                cursor.mark = mark_of(file.fileno(), cursor.offset)
        cursor.path = path
        self._cursors[segment.name] = cursor

    def _read_rows(self, segment: Segment, cursor: _FileCursor, path: str) -> None:
        """Add the rows of a journal that are behind its cursor."""
        reading = read_segment(path, offset=cursor.offset, first_line=cursor.line)
        rank, is_training = segment.name.rank, not is_monitor(segment.name.rank)
        for row in self._add_alike(reading.rows, cursor, rank, is_training):
            cursor.next_row = max(cursor.next_row or 0, row.i + 1)
            if row.kind == "attempt":
                cursor.attempt = int(row.body["number"])
            if row.i < (segment.first_row or 0):
                continue
            if is_training:
                self._rows += 1
                self._note_time(cursor.attempt, row.t)
            if row.kind is not None:
                if row.kind in KINDS_THAT_COUNT:
                    self._events.add(Event(row.t, rank, cursor.attempt, row.kind, row.body))
                continue
            series = self._series_of((cursor.attempt, rank))
            step = row.step or 0
            if not series.keys() >= row.body.keys():
                self._add_series((cursor.attempt, rank), {key: Statistics() for key in row.body if key not in series})
            for key, value in row.body.items():
                series[key].add(step, row.i, value)
            self._series.note_added((cursor.attempt, rank), row.body, step)
        cursor.offset = reading.offset
        cursor.line += len(reading.rows) + len(reading.problems)
        cursor.problems += [str(problem) for problem in reading.problems]

    def _add_alike(self, rows: list[Row], cursor: _FileCursor, rank: int, is_training: bool) -> Iterator[Row]:
        """Add stretches of rows that have the same keys, as training writes them; gives back the others, one by one."""
        if len(rows) < LEAST_ALIKE:
            yield from rows
            return
        for (kind, _), group in groupby(
            rows, key=lambda row: (row.kind, tuple(row.body) if row.kind is None else None)
        ):
            alike = list(group)
            if kind is not None or len(alike) < LEAST_ALIKE or not alike[0].body:
                yield from alike
                continue
            import numpy  # only where there is enough to add up

            keys = alike[0].body
            numbers = numpy.array([row.i for row in alike]), numpy.array([row.step for row in alike])
            values = numpy.array([list(map(row.body.__getitem__, keys)) for row in alike])  # (rows, keys)
            place = (cursor.attempt, rank)
            series = self._series_of(place)
            if not series.keys() >= keys.keys():
                self._add_series(place, {key: Statistics() for key in keys if key not in series})
            for at, key in enumerate(keys):
                series[key].add_many(numbers[1], numbers[0], values[:, at])
            self._series.note_added(place, keys, int(numbers[1].min()))
            cursor.next_row = max(cursor.next_row or 0, int(numbers[0].max()) + 1)
            if is_training:
                self._rows += len(alike)
                self._note_time(cursor.attempt, max(row.t for row in alike))

    def _take_sealed(self, segment: Segment, segments: list[Segment]) -> None:
        """Take a sealed file for what was read of it already: journal segments, or smaller files; read only the rest."""
        known = self._cursors.get(segment.name)
        identity = _identity_of(str(segment.metrics))
        if known is not None and not known.is_live:
            if known.identity is not None and known.identity != identity:
                # Of a run that was removed and recorded again, or sealed anew.
                raise _StartOver
            known.identity = identity
            return
        covered = sorted(name for name in self._cursors if segment.name.covers(name))
        problems: list[str] = []
        if not covered:
            part = read_sealed(segment, segment.first_row)
            self._take_part(part, segment)
            next_row: int | None = part.next_row
            problems = part.problems
        else:
            expected = segment.name.first
            for name in covered:
                if name.first != expected:
                    raise _StartOver
                expected = name.last + 1
            last = self._cursors[covered[-1]]
            next_row = last.next_row
            if not self._is_whole(covered[-1], last, segment, segments):
                if next_row is None:
                    raise _StartOver
                part = read_sealed(segment, max(next_row, segment.first_row or 0))
                self._take_part(part, segment)
                next_row = part.next_row
                problems = part.problems
        for name in covered:
            problems += self._cursors[name].problems if not self._cursors[name].is_live else []
            del self._cursors[name]
        self._cursors[segment.name] = _FileCursor(
            str(segment.metrics), False, next_row=next_row, problems=problems, identity=identity
        )

    def _is_whole(self, name: SegmentName, cursor: _FileCursor, sealed: Segment, segments: list[Segment]) -> bool:
        """Whether the last piece that was read of what is in a sealed file was read to its end."""
        if name.last != sealed.name.last:
            return False
        if not cursor.is_live:
            return True
        try:
            noted = read_seal_notes(self._folder)
        except LossbookError:
            noted = SealNotes()
        last, next_row = noted.last_segment.get(name.rank), noted.next_row.get(name.rank)
        if last == name.last and next_row == cursor.next_row:
            return True
        for one in segments:
            if one.journal is not None and one.name.rank == name.rank and one.name.first == name.last + 1:
                head = first_row(one.journal)
                return head is not None and head.i == cursor.next_row
        return False

    def _take_part(self, part: SealedPart, segment: Segment) -> None:
        for (key, attempt, rank), one in part.series.items():
            series = self._series_of((attempt, rank))
            if key in series:
                series[key].merge(one)
            else:
                self._add_series((attempt, rank), {key: one})
            self._series.note_added((attempt, rank), (key,), one.first_step)
        for event in part.events:
            self._events.add(event)
        if not is_monitor(segment.name.rank):
            self._rows += part.rows
            for attempt, last_time in part.ends.items():
                self._note_time(attempt, last_time)

    def _note_time(self, attempt: int, time_us: int) -> None:
        self._last_time = max(self._last_time, time_us)
        self._ends[attempt] = max(self._ends.get(attempt, 0), time_us)

    def _earlier_us(self, info: RunInfo) -> int | None:
        """What the attempts before the last ran, each from its beginning to its last row."""
        if self._earlier is not None:
            return self._earlier
        begun = {one.number: one.started for one in info.attempts[:-1] if one.started}
        return sum(max(0, self._ends[number] - started) for number, started in begun.items() if number in self._ends)

    def _series_of(self, place: Place) -> dict[str, Statistics]:
        if self._seed is not None and place[0] != max(self._resumed_from):
            raise _StartOver
        return self._series.of(place)

    def _add_series(self, place: Place, fresh: dict[str, Statistics]) -> None:
        self._series.add(place, fresh)
        if not is_monitor(place[1]):
            self._trained.update(fresh)

    # -- adding up ------------------------------------------------------------------------------------------------

    def _update_metrics(self, segments: list[Segment]) -> None:
        """Work out again what changed of each key: statistics over the rows that count."""
        # A seed is of rows that count and of the last attempt alone: nothing of it, and nothing behind it, is hidden.
        resumed_from = self._resumed_from if self._seed is None else {}
        is_new = False
        for key, parts in self._series.take_changed(segments, resumed_from):
            total = Statistics()
            if self._seed is not None and key in self._seed:
                found = statistics_of(self._seed[key])
                if found is None:
                    raise _StartOver
                total = found
            for one in parts:
                total.merge(one)
            if parts or total.count:
                is_new |= key not in self._written
                self._written[key] = total.to_json()
            else:
                self._written.pop(key, None)
        if is_new:
            self._written = dict(sorted(self._written.items()))

    def _assemble(self, info: RunInfo) -> RunSummary:
        stated = self._events.folded()
        state, error, ended = run_state(self._folder, info, stated)
        # Training alone says how far a run has come: what its follower measured is no row of the run's.
        steps = [
            step
            for key in self._trained
            if key in self._written and isinstance(step := self._written[key]["last_step"], int)
        ]
        if self._last_step is not None:
            steps.append(self._last_step)
        last_time = self._last_time or None
        problems = [problem for cursor in self._cursors.values() for problem in cursor.problems]
        problems += self._overlaps
        metrics = self._written if len(self._written) <= MOST_KEYS else dict(islice(self._written.items(), MOST_KEYS))
        return RunSummary(
            state=state,
            error=error,
            started=info.last_attempt.started or info.created or None,
            earlier=self._earlier_us(info),
            ended=ended or (last_time if state != "running" else None),
            updated=time.time_ns() // 1000,
            rows=self._rows,
            last_step=max(steps, default=None),
            last_time=last_time,
            config=stated.config,
            summary=stated.summary,
            define=tuple(stated.define),
            metrics=MetricTable({**metrics}),
            alerts=stated.alerts,
            problems=tuple(dict.fromkeys([*stated.warnings, *sealed_problems(self._folder), *problems]))[:200],
            cursor={
                os.path.basename(cursor.path): ReadTo(cursor.offset, cursor.line, cursor.next_row or 0)
                if cursor.is_live
                else None
                for cursor in self._cursors.values()
            },
        )


def _identity_of(path: str) -> tuple[int, int, int]:
    """What tells a sealed file from another of its name.

    Raises:
        FileNotFoundError: it was merged into another.
    """
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def compute_summary(folder: RunFolder) -> RunSummary:
    """The summary made anew from the run's rows."""
    return LiveSummary(folder).update()


def overlay(summary: RunSummary, folder: RunFolder, live: LiveSummary | None = None) -> RunSummary:
    """Bring a `summary.json` that was read up to date, by reading the journal behind its cursor.

    Returns:
        The summary itself when nothing was added and it had ended; a fresh one otherwise.
    """
    pieces = {os.path.basename(str(one.metrics or one.journal)): one for one in list_segments(folder)}
    try:
        is_known = set(summary.cursor) == set(pieces) and all(
            one.journal is None or _is_read(one.journal, summary.cursor[name]) for name, one in pieces.items()
        )
    except FileNotFoundError:
        is_known = False  # sealed since the look
    if is_known:
        if summary.state != "running":
            return summary
        if is_running(folder, read_run_info(folder)[0].last_attempt):
            return summary
    live = live or LiveSummary(folder)
    fresh = live.update(summary)
    # What will be written stays: it is made of the rows themselves.
    return fresh if fresh.state == "running" or not live.is_seeded else LiveSummary(folder).update()


def _is_read(journal: str, place: ReadTo | None) -> bool:
    return place is not None and os.path.getsize(journal) <= place.offset
