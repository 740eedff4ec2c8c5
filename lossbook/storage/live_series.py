"""Reads the series of a journal that is still written, on from where the last look ended, into packed arrays."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from itertools import count

import numpy

from lossbook.journal import ReadMark, Row, covered_bytes, find_gaps, mark_of, read_segment
from lossbook.storage.buckets import Buckets, buckets_of_rows
from lossbook.storage.chunks import SeriesPart
from lossbook.storage.segment import Segment

_MOST_PROBLEMS = 100
_numbers = count(1)


class AnotherFile(Exception):
    """What stands at the path of a journal is not what was read of it before."""


@dataclass
class LiveSeries:
    """One key of one attempt in a journal segment: which of the segment's rows have it, and its values."""

    segment: LiveSegment
    at: array[int] = field(default_factory=lambda: array("I"))
    value: array[float] = field(default_factory=lambda: array("d"))
    part: SeriesPart | None = None

    def __len__(self) -> int:
        return len(self.at)

    def buckets(self) -> Buckets:
        """Its rows as buckets of one, sorted by step and row."""
        at = numpy.array(self.at)
        step, row, when = (
            numpy.array(column)[at] for column in (self.segment.step, self.segment.row, self.segment.time)
        )
        value = numpy.array(self.value)
        if len(step) > 1 and bool(numpy.any(step[1:] < step[:-1])):
            order = numpy.lexsort((row, step))
            step, row, when, value = step[order], row[order], when[order], value[order]
        return buckets_of_rows(step, row, when, value)

    def make_part(self, attempt: int) -> SeriesPart:
        """Where its rows lie now."""
        segment = self.segment.segment
        at = numpy.array(self.at)
        step, when = numpy.array(self.segment.step)[at], numpy.array(self.segment.time)[at]
        return SeriesPart(
            segment,
            attempt,
            segment.name.rank,
            int(step.min()),
            int(step.max()),
            int(when.min()),
            int(when.max()),
            len(at),
            self,
        )


@dataclass
class LiveSegment:
    """A journal segment as far as it has been read; numbers are kept packed."""

    segment: Segment
    offset: int = 0
    line: int = 1
    attempt: int = 0
    next_row: int | None = None
    missing_bytes: int = 0  # of whole lines that its digest covers
    damaged: int = 0  # lines that were rows, of which the numbers are not known
    step: array[int] = field(default_factory=lambda: array("q"))  # of each row of scalars
    row: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    values: int = 0
    series: dict[str, dict[int, LiveSeries]] = field(default_factory=dict)  # by key, by attempt
    times: dict[int, tuple[int, int]] = field(default_factory=dict)  # by attempt: of its first and last rows, in µs
    problems: list[str] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_numbers))  # tells it from others, also of the same path
    mark: ReadMark | None = None
    seen: tuple[int, int, int, int] | None = None  # inode, size, mtime and ctime when it was read last

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory, about."""
        return 24 * len(self.step) + 12 * self.values + 600 * len(self.series)

    @property
    def path(self) -> str:
        """The journal's."""
        return str(self.segment.journal)

    def read_on(self) -> None:
        """Read what was added since the last look.

        Raises:
            FileNotFoundError: it was sealed meanwhile.
            AnotherFile: it was removed, and another stands in its place.
        """
        covered = covered_bytes(self.path)
        status = os.stat(self.path)
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if seen != self.seen:
            with open(self.path, "rb") as file:
                if self.mark is not None and not self.mark.is_of(file.fileno()):
                    raise AnotherFile
                if status.st_size > self.offset:
                    self._read_lines()
                    self.mark = mark_of(file.fileno(), self.offset)
            self.seen = seen
        self.missing_bytes = max(0, covered - self.offset)

    def _read_lines(self) -> None:
        reading = read_segment(self.path, offset=self.offset, first_line=self.line)
        for row in reading.rows:
            if row.kind == "attempt":
                self.attempt = int(row.body["number"])
            if row.i < (self.segment.first_row or 0):
                continue
            begun, ended = self.times.get(self.attempt, (row.t, row.t))
            self.times[self.attempt] = (min(begun, row.t), max(ended, row.t))
            if row.kind is not None or row.step is None:
                continue
            at = len(self.step)
            self.step.append(row.step)
            self.row.append(row.i)
            self.time.append(row.t)
            self.values += len(row.body)
            for key, value in row.body.items():
                attempts = self.series.get(key)
                if attempts is None:
                    attempts = self.series[key] = {}
                series = attempts.get(self.attempt)
                if series is None:
                    series = attempts[self.attempt] = LiveSeries(self)
                series.at.append(at)
                series.value.append(value)
                series.part = None
        self.damaged += len(reading.problems)
        self._check_numbers(reading.rows)
        self.offset = reading.offset
        self.line += len(reading.rows) + len(reading.problems)
        self.problems += [str(problem) for problem in reading.problems]

    def _check_numbers(self, rows: list[Row]) -> None:
        """Note where rows are missing or come twice; a damaged line stands for one that would be missing."""
        expected = self.next_row
        for row in rows:
            if expected is not None and row.i != expected:
                missing = row.i - expected
                if 0 < missing <= self.damaged:
                    self.damaged -= missing
                elif len(self.problems) < _MOST_PROBLEMS:
                    self.problems += [str(gap) for gap in find_gaps([row], self.path, expected)]
            expected = max(row.i + 1, expected or 0)
        self.next_row = expected
