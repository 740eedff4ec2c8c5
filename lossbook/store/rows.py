"""The rows of one run, sealed and live, as a curve needs them: found quickly, read once, kept while they stand.

Sealed files never change, so what was read of them is kept (bounded); the live journal is read on from where the
last look ended, so a row is seen as soon as its `log()` has returned.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy

from lossbook.errors import LossbookError, StoreError
from lossbook.journal.line import Row
from lossbook.journal.reader import find_gaps, read_segment
from lossbook.layout import RunFolder, SegmentName, is_settled, read_json
from lossbook.store.attempts import NEVER, cutoffs, resume_steps
from lossbook.store.schema import TOP_LEVEL, parquet
from lossbook.store.segments import Segment, list_segments

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

#: Arrays kept of sealed files, in bytes.
CACHE_BYTES = 64 << 20
_MOST_PROBLEMS = 100
BUCKET_COLUMNS = (
    "first_step", "last_step", "first_row", "last_row", "first_time", "last_time", "first", "last", "min", "max",
    "sum", "min_step", "max_step", "count", "nonfinite",
)  # fmt: skip

Buckets = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class SeriesPart:
    """One series (a key of one attempt and rank) within one segment."""

    segment: Segment
    attempt: int
    rank: int
    first_step: int
    last_step: int
    first_time: int
    last_time: int
    count: int


@dataclass
class _LiveSeries:
    attempt: int
    step: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    arrays: Buckets | None = None
    part: SeriesPart | None = None


@dataclass
class _LiveSegment:
    """A journal segment as far as it has been read."""

    segment: Segment
    offset: int = 0
    line: int = 1
    attempt: int = 0
    next_row: int | None = None
    damaged: int = 0  # lines that were rows, of which the numbers are not known
    series: dict[str, dict[int, _LiveSeries]] = field(default_factory=dict)  # by key, by attempt
    times: dict[int, tuple[int, int]] = field(default_factory=dict)  # by attempt: of its first and last rows, in µs
    problems: list[str] = field(default_factory=list)


class RunRows:
    """Reads the rows of one run.

    Args:
        connection: used for this run alone, from one thread at a time.
    """

    def __init__(self, folder: RunFolder, connection: duckdb.DuckDBPyConnection) -> None:
        self.folder = folder
        self._connection = connection
        self._lock = threading.RLock()
        self._seen: tuple[Any, ...] = ()
        self._segments: list[Segment] = []
        self._parts: dict[str, dict[str, list[SeriesPart]]] = {}  # by sealed file, by key
        self._live: dict[str, _LiveSegment] = {}
        self._cache: OrderedDict[tuple[Any, ...], Buckets] = OrderedDict()
        self._cached_bytes = 0
        self._identity: dict[str, Any] = {}
        self._damaged: dict[str, str] = {}
        self._sealed_times: dict[str, dict[int, tuple[int, int]]] = {}

    # -- what there is ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the folder again: cheap when nothing has changed."""
        with self._lock:
            looked_ns = time.time_ns()
            seen = (_mtime(self.folder.journal), _mtime(self.folder.metrics), _mtime(self.folder.run_json))
            if seen != self._seen or any(mark is None for mark in seen):
                self._segments = list_segments(self.folder)
                try:
                    self._identity = read_json(self.folder.run_json) or {}
                except LossbookError as error:
                    self._damaged[self.folder.run_json] = str(error)
                # A folder that changed within this tick of the clock may change again without showing it.
                settled = all(is_settled(mark or 0, looked_ns) for mark in seen)
                self._seen = seen if settled else ()
            try:
                for segment in self._segments:
                    if segment.journal is not None:
                        self._read_on(segment)
            except FileNotFoundError:
                # Sealed between the look and the reading.
                self._seen = ()
                self.refresh()
                return
            standing = {segment.journal for segment in self._segments}
            self._live = {path: live for path, live in self._live.items() if path in standing}

    @property
    def segments(self) -> list[Segment]:
        return self._segments

    @property
    def identity(self) -> dict[str, Any]:
        return self._identity

    def problems(self) -> list[str]:
        """What could not be read, a sentence each."""
        found = list(self._damaged.values())
        for live in self._live.values():
            found += live.problems
        return found

    def _read_on(self, segment: Segment) -> None:
        path = str(segment.journal)
        live = self._live.get(path)
        if live is None:
            next_row, damaged = self._numbers_behind(segment.name)
            live = self._live[path] = _LiveSegment(segment, next_row=next_row, damaged=damaged)
        if os.stat(path).st_size <= live.offset:
            return
        reading = read_segment(path, offset=live.offset, first_line=live.line)
        for row in reading.rows:
            if row.kind == "attempt":
                live.attempt = int(row.body["number"])
            begun, ended = live.times.get(live.attempt, (row.t, row.t))
            live.times[live.attempt] = (min(begun, row.t), max(ended, row.t))
            if row.kind is not None or row.step is None:
                continue
            for key, value in row.body.items():
                attempts = live.series.get(key)
                if attempts is None:
                    attempts = live.series[key] = {}
                series = attempts.get(live.attempt)
                if series is None:
                    series = attempts[live.attempt] = _LiveSeries(live.attempt)
                series.step.append(row.step)
                series.row.append(row.i)
                series.time.append(row.t)
                series.value.append(value)
                series.arrays = series.part = None
        live.damaged += len(reading.problems)
        _check_numbers(live, reading.rows)
        live.offset = reading.offset
        live.line += len(reading.rows) + len(reading.problems)
        live.problems += [str(problem) for problem in reading.problems]

    def _numbers_behind(self, name: SegmentName) -> tuple[int | None, int]:
        """The row number that a segment should begin with, None where that is not known, and damaged lines before it."""
        before = [live for live in self._live.values() if live.segment.name.rank == name.rank]
        if before:
            return before[-1].next_row, before[-1].damaged
        if any(segment.name.rank == name.rank and segment.is_sealed for segment in self._segments):
            try:
                sealed = read_json(os.path.join(self.folder.followers, "seal.json")) or {}
            except LossbookError:
                return None, 0
            row = (sealed.get("next_row") or {}).get(f"r{name.rank}")
            return (row, 0) if isinstance(row, int) else (None, 0)
        return None, 0

    def keys(self) -> set[str]:
        """Every key that the run has logged."""
        found: set[str] = set()
        for segment in self._segments:
            if segment.metrics is not None:
                found.update(self._sealed_parts(segment))
        for live in self._live.values():
            found.update(live.series)
        return found

    def has(self, key: str) -> bool:
        """Whether the run has logged exactly that key."""
        return any(key in live.series for live in self._live.values()) or any(
            key in self._sealed_parts(segment) for segment in self._segments if segment.metrics is not None
        )

    def attempt_times(self) -> dict[int, tuple[int, int]]:
        """When the first and the last row of each attempt were logged, in µs."""
        times: dict[int, tuple[int, int]] = {}
        for segment in self._segments:
            if segment.metrics is None:
                live = self._live.get(str(segment.journal))
                known = live.times if live is not None else {}
            else:
                known = self._times_of(segment)
            for attempt, (first, last) in known.items():
                begun, ended = times.get(attempt, (first, last))
                times[attempt] = (min(begun, first), max(ended, last))
        return times

    def _times_of(self, segment: Segment) -> dict[int, tuple[int, int]]:
        path = str(segment.metrics)
        known = self._sealed_times.get(path)
        if known is None:
            known = self._sealed_times[path] = {}
            for parts in self._sealed_parts(segment).values():
                for part in parts:
                    begun, ended = known.get(part.attempt, (part.first_time, part.last_time))
                    known[part.attempt] = (min(begun, part.first_time), max(ended, part.last_time))
        return known

    def parts(self, key: str) -> list[SeriesPart]:
        """Where the rows of a key lie."""
        found: list[SeriesPart] = []
        for segment in self._segments:
            if segment.metrics is not None:
                found += self._sealed_parts(segment).get(key, ())
                continue
            live = self._live.get(str(segment.journal))
            for attempt, series in live.series.get(key, {}).items() if live is not None else ():
                if series.part is None:
                    series.part = SeriesPart(
                        segment,
                        attempt,
                        segment.name.rank,
                        min(series.step),
                        max(series.step),
                        min(series.time),
                        max(series.time),
                        len(series.step),
                    )
                found.append(series.part)
        return found

    def last_visible(self, parts: list[SeriesPart]) -> dict[int, int]:
        """The last step that counts of each attempt, for a key that lies in `parts`."""
        first_steps: dict[int, int] = {}
        for part in parts:
            first_steps[part.attempt] = min(first_steps.get(part.attempt, NEVER), part.first_step)
        return cutoffs(resume_steps(self._identity), first_steps)

    def _sealed_parts(self, segment: Segment) -> dict[str, list[SeriesPart]]:
        path = str(segment.metrics)
        known = self._parts.get(path)
        if known is not None:
            return known
        import duckdb

        columns = "key, attempt, rank, first_step, last_step, epoch_us(first_time), epoch_us(last_time), count"
        if segment.rollup is not None:
            query = f"SELECT {columns} FROM {parquet(segment.rollup)} WHERE level = {TOP_LEVEL}"
        else:
            query = (
                "SELECT key, attempt, rank, min(step), max(step), epoch_us(min(time)), epoch_us(max(time)), count(*) "
                f"FROM {parquet(path)} GROUP BY key, attempt, rank"
            )
        parts: dict[str, list[SeriesPart]] = {}
        try:
            for key, *rest in self._connection.execute(query).fetchall():
                parts.setdefault(key, []).append(SeriesPart(segment, *rest))
        except duckdb.Error as error:
            if segment.rollup is not None and os.path.exists(path):
                # The rollup can be derived; the rows themselves may be whole.
                self._damaged[segment.rollup] = f"{segment.rollup} cannot be read; rows are read from {path}"
                whole = Segment(segment.name, metrics=segment.metrics, events=segment.events)
                return self._sealed_parts(whole)
            self._damaged[path] = f"{path} cannot be read ({str(error).splitlines()[0]}); its rows are missing here"
        self._parts[path] = parts
        return parts

    # -- rows and buckets -------------------------------------------------------------------------------------------

    def buckets(self, key: str, part: SeriesPart, level: int) -> Buckets:
        """The rollup's buckets of one part at a level (0: each row is a bucket). Arrays of shape (n,)."""
        with self._lock:
            if part.segment.journal is not None:
                return self._live_rows(key, part)
            path = str(part.segment.metrics)
            name = (path, key, part.attempt, part.rank, level)
            found = self._cache.get(name)
            if found is not None:
                self._cache.move_to_end(name)
                return found
            if level == 0 or part.segment.rollup is None:
                found = self.rows(key, part)
            else:
                wanted = level if part.count > 1 << level else TOP_LEVEL
                times = {
                    "first_time": "epoch_us(first_time) AS first_time",
                    "last_time": "epoch_us(last_time) AS last_time",
                }
                columns = ", ".join(times.get(column, f'"{column}"') for column in BUCKET_COLUMNS)
                found = self._fetch(
                    f"SELECT {columns} FROM {parquet(str(part.segment.rollup))} "
                    "WHERE key = ? AND level = ? AND attempt = ? AND rank = ? ORDER BY first_step, first_row",
                    [key, wanted, part.attempt, part.rank],
                )
            self._keep(name, found)
            return found

    def rows(self, key: str, part: SeriesPart, first: int | None = None, last: int | None = None) -> Buckets:
        """The rows of one part as buckets of one, between two steps, both included."""
        with self._lock:
            if part.segment.journal is not None:
                return _between(self._live_rows(key, part), first, last)
            bounds, values = "", [key, part.attempt, part.rank]
            if first is not None or last is not None:
                bounds = " AND step BETWEEN ? AND ?"
                values += [first if first is not None else -(1 << 63), last if last is not None else NEVER]
            found = self._fetch(
                f"SELECT step, row, epoch_us(time) AS time, value FROM {parquet(str(part.segment.metrics))} "
                f"WHERE key = ? AND attempt = ? AND rank = ?{bounds}",
                values,
            )
            return buckets_of_rows(found["step"], found["row"], found["time"], found["value"])

    def _live_rows(self, key: str, part: SeriesPart) -> Buckets:
        live = self._live[str(part.segment.journal)].series[key][part.attempt]
        if live.arrays is None:
            step = numpy.array(live.step, dtype=numpy.int64)
            row = numpy.array(live.row, dtype=numpy.int64)
            when = numpy.array(live.time, dtype=numpy.int64)
            value = numpy.array(live.value, dtype=numpy.float64)
            if len(step) > 1 and bool(numpy.any(step[1:] < step[:-1])):
                order = numpy.lexsort((row, step))
                step, row, when, value = step[order], row[order], when[order], value[order]
            live.arrays = buckets_of_rows(step, row, when, value)
        return live.arrays

    def _fetch(self, query: str, values: list[Any]) -> Buckets:
        import duckdb

        try:
            arrays = self._connection.execute(query, values).fetchnumpy()
        except duckdb.Error as error:
            raise StoreError(
                f"{self.folder.path} cannot be read ({str(error).splitlines()[0]}); `lossbook verify` says more"
            ) from None
        return {
            name: array.filled(numpy.nan) if isinstance(array, numpy.ma.MaskedArray) else array
            for name, array in arrays.items()
        }

    def _keep(self, name: tuple[Any, ...], found: Buckets) -> None:
        size = sum(array.nbytes for array in found.values())
        if size > CACHE_BYTES // 2:
            return
        self._cache[name] = found
        self._cached_bytes += size
        while self._cached_bytes > CACHE_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= sum(array.nbytes for array in dropped.values())


def _check_numbers(live: _LiveSegment, rows: list[Row]) -> None:
    """Note where rows are missing or come twice; a damaged line stands for one that would be missing."""
    expected = live.next_row
    for row in rows:
        if expected is not None and row.i != expected:
            missing = row.i - expected
            if 0 < missing <= live.damaged:
                live.damaged -= missing
            elif len(live.problems) < _MOST_PROBLEMS:
                live.problems += [str(gap) for gap in find_gaps([row], str(live.segment.journal), expected)]
        expected = max(row.i + 1, expected or 0)
    live.next_row = expected


def buckets_of_rows(step: NDArray[Any], row: NDArray[Any], time: NDArray[Any], value: NDArray[Any]) -> Buckets:
    """Rows as buckets of one row each; arrays are shared, not copied."""
    finite = numpy.isfinite(value)
    shown = value if bool(finite.all()) else numpy.where(finite, value, numpy.nan)
    ones = numpy.ones(len(value), dtype=numpy.int64)
    return {
        "first_step": step, "last_step": step, "first_row": row, "last_row": row, "first_time": time,
        "last_time": time, "first": value, "last": value, "min": shown, "max": shown,
        "sum": numpy.where(finite, value, 0.0), "min_step": step, "max_step": step, "count": ones,
        "nonfinite": ones - finite,
    }  # fmt: skip


def _between(buckets: Buckets, first: int | None, last: int | None) -> Buckets:
    if first is None and last is None:
        return buckets
    step = buckets["first_step"]
    start = 0 if first is None else int(numpy.searchsorted(step, first, "left"))
    end = len(step) if last is None else int(numpy.searchsorted(step, last, "right"))
    return {name: array[start:end] for name, array in buckets.items()}


def _mtime(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
