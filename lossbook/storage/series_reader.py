"""Reads the rows of one run, sealed and live, for curves: each file once, and of the live journal what was added.

Sealed files never change, so what was read of them is kept (bounded, over all runs of a book together); the live
journal is read on from where the last look ended, so a row is seen as soon as its `log()` has returned.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy

from lossbook.errors import LossbookError
from lossbook.paths import RunFolder, SegmentName, is_settled
from lossbook.run_info import RunInfo, parse_run_info, read_run_info
from lossbook.storage.array_cache import ArrayCache, FilesReplaced, Name
from lossbook.storage.attempts import NEVER, cutoffs
from lossbook.storage.buckets import BUCKET_COLUMNS, BUCKETS_SQL, Buckets, between, buckets_of_rows
from lossbook.storage.chunks import SealedParts, SeriesPart
from lossbook.storage.derived_files import read_seal_notes
from lossbook.storage.digests import known_disagreements
from lossbook.storage.live_series import AnotherFile, LiveSegment
from lossbook.storage.overlaps import overlap_problems
from lossbook.storage.schema import TOP_LEVEL, fetch_columns, parquet
from lossbook.storage.sealed_files import is_readable, leave_out, metrics_source, rollup_file
from lossbook.storage.segment import Segment
from lossbook.storage.segments import list_segments, sealed_segments

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from lossbook.storage.schema import Columns

#: Arrays kept of a run that is read by itself, in bytes; the runs of a book share one cache.
CACHE_BYTES = 64 << 20
#: Keys of which the places are kept one by one, where not all of the run's were asked for.
_MOST_LOOKED_UP = 1000
_PART_COLUMNS = ("attempt", "rank", "first_step", "last_step", "first_time", "last_time", "count")


class RunRows:
    """Reads the rows of one run. Thread-safe: a question that several threads ask at once is answered to one by one.

    What a part (`parts`) names stays readable when the run goes on, so a question is answered from one look at the
    folder. A sealed file that was merged away meanwhile raises `FilesReplaced`: refresh and ask again.

    Args:
        connection: used for this run alone.
        cache: where arrays are kept; None for one of its own.
    """

    def __init__(
        self, folder: RunFolder, connection: duckdb.DuckDBPyConnection, cache: ArrayCache | None = None
    ) -> None:
        self.folder = folder
        self._connection = connection
        self._lock = threading.RLock()
        self._seen: tuple[tuple[int, int] | None, ...] = ()
        self._files: dict[str, tuple[int, int, int]] = {}  # by sealed file: what tells it from another of its name
        self._segments: list[Segment] = []
        self._parts: dict[str, SealedParts] = {}  # by sealed file
        self._looked_up: OrderedDict[str, dict[str, list[SeriesPart]]] = OrderedDict()  # by key, by sealed file
        self._live: dict[str, LiveSegment] = {}
        self._cache = cache if cache is not None else ArrayCache(CACHE_BYTES)
        self._info = parse_run_info({}, folder)[0]
        self._damaged: dict[str, str] = {}
        self._sealed_times: dict[str, dict[int, tuple[int, int]]] = {}

    # -- what there is ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the folder again: cheap when nothing has changed."""
        with self._lock:
            looked_ns = time.time_ns()
            seen = (_mark(self.folder.journal), _mark(self.folder.metrics), _mark(self.folder.run_json))
            if seen != self._seen or any(mark is None for mark in seen):
                self._segments = list_segments(self.folder)
                self._forget_replaced()
                self._read_info()
                # A folder that changed within this tick of the clock may change again without showing it.
                settled = all(is_settled(0 if mark is None else mark[1], looked_ns) for mark in seen)
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
            sealed = {segment.metrics for segment in self._segments}
            if not sealed.issuperset(self._parts):
                self._parts = {path: parts for path, parts in self._parts.items() if path in sealed}
                self._sealed_times = {path: times for path, times in self._sealed_times.items() if path in sealed}
                self._looked_up.clear()

    def _forget_replaced(self) -> None:
        """Forget what was read of sealed files in whose place others stand: of a run that was recorded again, say."""
        files = {
            path: _identity(path)
            for one in self._segments
            for path in (one.metrics, one.rollup)
            if path is not None and one.metrics is not None
        }
        changed = {path for path, identity in files.items() if self._files.get(path, identity) != identity}
        self._files = files
        if changed:
            gone = {one.metrics for one in self._segments if one.metrics in changed or one.rollup in changed}
            self._parts = {path: parts for path, parts in self._parts.items() if path not in gone}
            self._sealed_times = {path: times for path, times in self._sealed_times.items() if path not in gone}
            self._looked_up.clear()

    def _read_info(self) -> None:
        info, wrong = read_run_info(self.folder)
        # One that cannot be read takes nothing away from what was known.
        if info.attempts or not wrong or not self._info.attempts:
            self._info = info
        self._damaged.pop(self.folder.run_json, None)
        if wrong and os.path.exists(self.folder.run_json):
            self._damaged[self.folder.run_json] = "; ".join(wrong)

    def kept_bytes(self) -> int:
        """What it keeps in memory beside arrays in the cache, about."""
        with self._lock:
            sealed = sum(parts.kept_bytes for parts in self._parts.values())
            looked_up = sum(600 * len(parts) for by_file in self._looked_up.values() for parts in by_file.values())
            return sealed + looked_up + sum(live.kept_bytes for live in self._live.values())

    @property
    def segments(self) -> list[Segment]:
        return self._segments

    @property
    def info(self) -> RunInfo:
        """The run's `run.json`, as far as it could be read."""
        return self._info

    def problems(self) -> list[str]:
        """What could not be read, a sentence each."""
        found = list(self._damaged.values())
        found += known_disagreements(
            path
            for one in sealed_segments(self.folder)
            for path in (one.rollup, one.metrics, one.events)
            if path is not None
        )
        for live in self._live.values():
            found += live.problems
            if live.missing_bytes:
                found.append(f"{live.path}: its last {live.missing_bytes} bytes are damaged or missing")
        found += overlap_problems(self._segments)
        return found

    def _read_on(self, segment: Segment) -> None:
        path = str(segment.journal)
        live = self._live.get(path)
        if live is None:
            next_row, damaged = self._numbers_behind(segment.name) if segment.first_row is None else (None, 0)
            live = self._live[path] = LiveSegment(segment, next_row=next_row, damaged=damaged)
        try:
            live.read_on()
        except AnotherFile:
            live = self._live[path] = LiveSegment(segment)
            live.read_on()

    def _numbers_behind(self, name: SegmentName) -> tuple[int | None, int]:
        """The row number that a segment should begin with, None where that is not known, and damaged lines before it."""
        # One that was sealed since the last look was perhaps not read to its end.
        standing = {segment.journal for segment in self._segments}
        before = [live for path, live in self._live.items() if live.segment.name.rank == name.rank and path in standing]
        if before:
            return before[-1].next_row, before[-1].damaged
        if any(segment.name.rank == name.rank and segment.is_sealed for segment in self._segments):
            try:
                sealed = read_seal_notes(self.folder)
            except LossbookError:
                return None, 0
            row, last = sealed.next_row.get(name.rank), sealed.last_segment.get(name.rank)
            # Sealing goes on meanwhile: the note may be of a segment before the one behind, or of this one already.
            is_behind = last is None or last == name.first - 1
            return (row, 0) if row is not None and is_behind else (None, 0)
        return None, 0

    def keys(self) -> set[str]:
        """Every key that the run has logged."""
        found: set[str] = set()
        with self._lock:
            for segment in self._segments:
                if segment.metrics is not None:
                    found.update(self._sealed_parts(segment).keys)
            for live in self._live.values():
                found.update(live.series)
        return found

    def has(self, key: str) -> bool:
        """Whether the run has logged exactly that key."""
        with self._lock:
            return any(key in live.series for live in self._live.values()) or any(
                bool(parts) for parts in self._sealed_of(key).values()
            )

    def attempt_times(self) -> dict[int, tuple[int, int]]:
        """When the first and the last row of each attempt were logged, in µs."""
        times: dict[int, tuple[int, int]] = {}
        with self._lock:
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
            known = self._sealed_times[path] = self._sealed_parts(segment).attempt_times()
        return known

    def parts(self, key: str) -> list[SeriesPart]:
        """Where the rows of a key lie."""
        found: list[SeriesPart] = []
        with self._lock:
            sealed = self._sealed_of(key)
            for segment in self._segments:
                if segment.metrics is not None:
                    found += sealed[segment.metrics]
                    continue
                live = self._live.get(str(segment.journal))
                for attempt, series in live.series.get(key, {}).items() if live is not None else ():
                    if series.part is None:
                        series.part = series.make_part(attempt)
                    found.append(series.part)
        return found

    def sealed_lengths(self, segment: Segment) -> dict[str, int]:
        """How many rows each key has in a sealed segment, in the order of its rows."""
        with self._lock:
            return self._sealed_parts(segment).lengths()

    def last_visible(self, parts: list[SeriesPart]) -> dict[int, int]:
        """The last step that counts of each attempt, for a key that lies in `parts`."""
        first_steps: dict[int, int] = {}
        for part in parts:
            first_steps[part.attempt] = min(first_steps.get(part.attempt, NEVER), part.first_step)
        return cutoffs(self._info.resume_steps(), first_steps)

    def read_ahead(self, key: str, level: int) -> None:
        """Look up where a key lies and its buckets of a level at once: one opening of each file instead of two."""
        with self._lock:
            if key not in self._looked_up:
                self._look_up(key, level)

    def _sealed_of(self, key: str) -> dict[str, list[SeriesPart]]:
        """Where a key lies in sealed files, by file; without a look at the places of all other keys."""
        segments = [segment for segment in self._segments if segment.metrics is not None]
        if all(segment.metrics in self._parts for segment in segments):
            return {str(segment.metrics): self._parts[str(segment.metrics)].of(key) for segment in segments}
        known = self._looked_up.get(key)
        if known is None or not all(segment.metrics in known for segment in segments):
            self._look_up(key, None)
        known = self._looked_up[key]
        self._looked_up.move_to_end(key)
        return known

    def _look_up(self, key: str, level: int | None) -> None:
        import duckdb

        known = self._looked_up.get(key, {})
        known = self._looked_up[key] = {
            str(segment.metrics): known[str(segment.metrics)]
            for segment in self._segments
            if segment.metrics is not None and segment.metrics in known
        }
        self._looked_up.move_to_end(key)
        segments = [one for one in self._segments if one.metrics is not None and one.metrics not in known]
        for segment in segments:
            if segment.metrics in self._parts or segment.rollup is None:
                known[str(segment.metrics)] = self._sealed_parts(segment).of(key)
        segments = [one for one in segments if one.metrics not in known]
        for segment in segments:
            if self._rollup_of(segment) is None:
                known[str(segment.metrics)] = self._sealed_parts(segment).of(key)
        segments = [one for one in segments if one.metrics not in known]
        if not segments:
            return
        wanted = "" if level is None else f" OR level = {int(level)}"
        try:
            found = fetch_columns(
                self._connection,
                f"SELECT file_index, level, attempt, rank, {BUCKETS_SQL} "
                f"FROM {parquet([str(segment.rollup) for segment in segments])} "
                f"WHERE key = ? AND (level = {TOP_LEVEL}{wanted})",
                [key],
            )
        except (duckdb.Error, UnicodeDecodeError):
            # One of them is damaged or gone: which one, each tells by itself.
            for segment in segments:
                known[str(segment.metrics)] = self._sealed_parts(segment).of(key)
            return
        for position, segment in enumerate(segments):
            known[str(segment.metrics)] = self._take_in(key, segment, level, found, found["file_index"] == position)
        if len(self._looked_up) > _MOST_LOOKED_UP:
            self._looked_up.popitem(last=False)

    def _take_in(
        self, key: str, segment: Segment, level: int | None, found: Buckets, here: NDArray[numpy.bool_]
    ) -> list[SeriesPart]:
        """Keep what was found of a key in one file: its parts, and their buckets of a level."""
        parts = []
        for at in numpy.flatnonzero(here & (found["level"] == TOP_LEVEL)):
            numbers = [int(found[name][at]) for name in _PART_COLUMNS]
            attempt, rank, first_step, last_step, first_time, last_time, count = numbers
            part = SeriesPart(segment, attempt, rank, first_step, last_step, first_time, last_time, count)
            parts.append(part)
            if level is None:
                continue
            chosen = numpy.array([at])
            if part.count > 1 << level:
                own = here & (found["level"] == level)
                own &= (found["attempt"] == part.attempt) & (found["rank"] == part.rank)
                chosen = numpy.flatnonzero(own)
                chosen = chosen[numpy.lexsort((found["first_row"][chosen], found["first_step"][chosen]))]
            name = self._array_name(str(segment.metrics), key, part, level)
            self._cache.put(name, {column: found[column][chosen] for column in BUCKET_COLUMNS})
        return parts

    def _sealed_parts(self, segment: Segment) -> SealedParts:
        path = str(segment.metrics)
        known = self._parts.get(path)
        if known is not None:
            return known
        rollup = self._rollup_of(segment)
        if rollup is not None:
            columns = "key, attempt, rank, first_step, last_step, epoch_us(first_time), epoch_us(last_time), count"
            found = self._fetch(rollup, f"SELECT {columns} FROM {parquet(rollup)} WHERE level = {TOP_LEVEL}", [])
            if found is None:
                return self._sealed_parts(segment)
        else:
            # The rollup can be derived; the rows themselves may be whole.
            segment = replace(segment, rollup=None)
            source = self._metrics_source(segment)
            found = None
            if source is not None:
                query = (
                    "SELECT key, attempt, rank, min(step), max(step), epoch_us(min(time)), epoch_us(max(time)), "
                    f"count(*) FROM {source} GROUP BY key, attempt, rank"
                )
                found = self._fetch(path, query, [])
        self._parts[path] = parts = SealedParts(segment, found or {})
        return parts

    def _rollup_of(self, segment: Segment) -> str | None:
        """The rollup that may stand for a segment's rows; None where there is none, or it is damaged."""
        try:
            return rollup_file(segment)
        except FileNotFoundError:
            raise self.replaced(str(segment.rollup)) from None

    def _metrics_source(self, segment: Segment) -> str | None:
        try:
            return metrics_source(segment)
        except FileNotFoundError:
            raise self.replaced(str(segment.metrics)) from None

    def replaced(self, path: str) -> FilesReplaced:
        """What to raise when a file went that this look at the folder has named: the next look is a new one."""
        # The folder's mtime may be that of this very tick: look again whatever it says.
        self._seen = ()
        return FilesReplaced(f"{path} went while it was read; ask again")

    # -- rows and buckets -------------------------------------------------------------------------------------------

    def buckets(self, key: str, part: SeriesPart, level: int) -> Buckets:
        """The rollup's buckets of one part at a level (0: each row is a bucket). Arrays of shape (n,)."""
        with self._lock:
            if part.segment.journal is not None:
                return self._live_rows(key, part)
            name = self._array_name(str(part.segment.metrics), key, part, level)
            found = self._cache.get(name)
            if found is not None:
                return found
            rollup = self._rollup_of(part.segment) if level > 0 else None
            if rollup is not None:
                wanted = level if part.count > 1 << level else TOP_LEVEL
                found = self._fetch(
                    rollup,
                    f"SELECT {BUCKETS_SQL} FROM {parquet(rollup)} "
                    "WHERE key = ? AND level = ? AND attempt = ? AND rank = ? ORDER BY first_step, first_row",
                    [key, wanted, part.attempt, part.rank],
                )
            if found is None:
                found = self.rows(key, part)
            self._cache.put(name, found)
            return found

    def _array_name(self, path: str, key: str, part: SeriesPart, level: int) -> Name:
        return (path, *self._files.get(path, ()), key, part.attempt, part.rank, level)

    def rows(self, key: str, part: SeriesPart, first: int | None = None, last: int | None = None) -> Buckets:
        """The rows of one part as buckets of one, between two steps, both included."""
        with self._lock:
            if part.segment.journal is not None:
                return between(self._live_rows(key, part), first, last)
            bounds = ""
            values: list[str | int] = [key, part.attempt, part.rank]
            if first is not None or last is not None:
                bounds = " AND step BETWEEN ? AND ?"
                values += [first if first is not None else -(1 << 63), last if last is not None else NEVER]
            source = self._metrics_source(part.segment)
            query = (
                "SELECT step, row, epoch_us(time) AS time, value FROM {} WHERE key = ? AND attempt = ? AND rank = ?{}"
            )
            found = None
            if source is not None:
                found = self._fetch(str(part.segment.metrics), query.format(source, bounds), values)
            if found is None:
                none = numpy.zeros(0, dtype=numpy.int64)
                return buckets_of_rows(none, none, none, numpy.zeros(0))
            return buckets_of_rows(found["step"], found["row"], found["time"], found["value"])

    def _live_rows(self, key: str, part: SeriesPart) -> Buckets:
        series = part.live
        assert series is not None
        live = self._live.get(str(part.segment.journal))
        number = live.number if live is not None else 0
        name = (str(part.segment.journal), key, part.attempt, "live", number)
        found = self._cache.get(name)
        if found is None or len(found["first_step"]) != len(series):
            found = series.buckets()
            self._cache.put(name, found)
        return found

    def usable_sources(self) -> list[tuple[Segment, str]]:
        """The sealed segments whose scalars may be used, and what to select them from."""
        with self._lock:
            found = [(one, self._metrics_source(one)) for one in self._segments if one.metrics is not None]
        return [(one, source) for one, source in found if source is not None]

    def find_damage(self) -> bool:
        """Decode every sealed file of scalars from end to end; says whether one cannot be, which is left out from now on."""
        with self._lock:
            try:
                damaged = [one for one, _ in self.usable_sources() if not is_readable(one)]
            except FileNotFoundError as error:
                raise self.replaced(str(error)) from None
            return bool(damaged)

    def _fetch(self, path: str, query: str, values: list[str | int]) -> Columns | None:
        """Ask a question of one sealed file; None when it cannot be decoded, which is remembered."""
        import duckdb

        try:
            return fetch_columns(self._connection, query, values)
        except (duckdb.Error, UnicodeDecodeError) as error:
            try:
                leave_out(path, error)
            except FileNotFoundError:
                raise self.replaced(path) from None
            return None


def _mark(path: str) -> tuple[int, int] | None:
    """What changes with a folder's names, or when another stands in its place."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _identity(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
