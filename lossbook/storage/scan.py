"""Reads a run's rows in the order in which they were logged, from sealed files and the live journal alike.

What follows a run reads it through here: from any place, as often as it likes, in memory that does not grow with the
run. Rows of several ranks come merged by time; within a rank they come by number, each once.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lossbook.errors import StoreError
from lossbook.journal import read_segment
from lossbook.json_shapes import parse_object
from lossbook.paths import RunFolder
from lossbook.storage.digests import known_disagreements
from lossbook.storage.schema import connect
from lossbook.storage.sealed_files import events_source, leave_out, metrics_source
from lossbook.storage.segment import Segment
from lossbook.storage.segments import list_segments

if TYPE_CHECKING:
    import duckdb

    from lossbook.storage.schema import Rows

#: So many row numbers of a sealed file are sorted at once: it bounds the memory, whatever the file's size.
WINDOW_ROWS = 50_000
#: So much of a live journal is parsed at once.
CHUNK_BYTES = 4 << 20
#: A file that is sealed or merged away under a reader is looked for again so often.
_MOST_RETRIES = 20


class LoggedRow(NamedTuple):
    """One row of the journal, with who wrote it.

    `kind` is None for scalars, and `body` is then `{key: float}` (NaN and infinities as floats). Otherwise `body`
    is the row's `v` as `docs/format.md` has it, and `key` its name.
    """

    rank: int
    i: int
    time_us: int
    step: int | None
    kind: str | None
    key: str | None
    body: dict[str, Any]
    attempt: int


class Replay:
    """Reads on from a place in a run.

    Args:
        after: by rank the number `i` of the last row that is already known; ranks that are not in it begin at 0.
    """

    def __init__(self, folder: RunFolder, after: Mapping[int, int] | None = None) -> None:
        self.folder = folder
        self._next = {rank: i + 1 for rank, i in (after or {}).items()}
        self._live: dict[str, tuple[int, int, int]] = {}  # by journal: offset, line, attempt
        self._passed: set[str] = set()  # sealed files of which every row is known
        self._connection: duckdb.DuckDBPyConnection | None = None
        #: Damaged lines and files that were passed over, a sentence each.
        self.problems: list[str] = []

    def rows(self) -> Iterator[LoggedRow]:
        """Everything that is there now and was not read yet; calling again reads what was added since.

        Raises:
            StoreError: a file of the run cannot be read.
        """
        ranks = sorted({segment.name.rank for segment in list_segments(self.folder)})
        if len(ranks) == 1:
            yield from self._rank(ranks[0])
        else:
            yield from heapq.merge(*(self._rank(rank) for rank in ranks), key=lambda row: row.time_us)

    def _rank(self, rank: int) -> Iterator[LoggedRow]:
        retries = 0
        while True:
            try:
                for segment in list_segments(self.folder):
                    if segment.name.rank == rank:
                        yield from self._journal(segment) if segment.journal is not None else self._sealed(segment)
                return
            except FileNotFoundError:
                # Sealed, or merged into a larger file, between the look and the reading: its rows are elsewhere now.
                retries += 1
                if retries > _MOST_RETRIES:
                    raise StoreError(f"the files of {self.folder.path} change faster than they can be read") from None

    def _new(self, row: LoggedRow) -> bool:
        if row.i < self._next.get(row.rank, 0):
            return False
        self._next[row.rank] = row.i + 1
        return True

    def _journal(self, segment: Segment) -> Iterator[LoggedRow]:
        path, rank = str(segment.journal), segment.name.rank
        offset, line, attempt = self._live.get(path, (0, 1, 0))
        while True:
            if os.stat(path).st_size <= offset:
                return
            reading = read_segment(path, offset=offset, first_line=line, limit_bytes=CHUNK_BYTES)
            self.problems += [str(problem) for problem in reading.problems]
            if reading.offset == offset:
                return
            offset, line = reading.offset, line + len(reading.rows) + len(reading.problems)
            for row in reading.rows:
                if row.kind == "attempt":
                    attempt = int(row.body["number"])
                one = LoggedRow(rank, row.i, row.t, row.step, row.kind, row.key, row.body, attempt)
                if self._new(one):
                    yield one
            self._live[path] = offset, line, attempt

    def _sealed(self, segment: Segment) -> Iterator[LoggedRow]:
        path, rank = str(segment.metrics), segment.name.rank
        if path in self._passed:
            return
        files = {segment.metrics: metrics_source(segment), segment.events: events_source(segment)}
        sources = {str(file): source for file, source in files.items() if source is not None}
        query = "SELECT min(row), max(row) FROM {file}"
        spans = [span for file, source in sources.items() for span in self._fetch(file, source, query)]
        known = [span for span in spans if span[0] is not None]
        if known:
            first = max(min(span[0] for span in known), self._next.get(rank, 0))
            last = max(span[1] for span in known)
            for start in range(first, last + 1, WINDOW_ROWS):
                yield from self._window(segment, sources, start, min(start + WINDOW_ROWS - 1, last))
        self.problems += known_disagreements(str(file) for file in files if file is not None)
        self._passed.add(path)

    def _window(self, segment: Segment, sources: dict[str, str], first: int, last: int) -> Iterator[LoggedRow]:
        """The rows of a sealed file between two numbers, both included."""
        rank = segment.name.rank
        events: list[LoggedRow] = []
        if segment.events in sources:
            for row, step, time_us, kind, key, attempt, value in self._fetch(
                segment.events,
                sources[segment.events],
                "SELECT row, step, epoch_us(time), kind, key, attempt, value FROM {file} "
                f"WHERE row BETWEEN {first} AND {last} ORDER BY row",
            ):
                events.append(LoggedRow(rank, row, time_us, step, kind, key, parse_object(value), attempt))
        scalars: list[LoggedRow] = []
        number = None
        metrics = str(segment.metrics)
        query = (
            f"SELECT row, step, epoch_us(time), key, value, attempt FROM {{file}} WHERE row BETWEEN {first} AND {last}"
        )
        found = self._fetch(metrics, sources[metrics], f"{query} ORDER BY row") if metrics in sources else []
        for row, step, time_us, key, value, attempt in found:
            if row != number:
                number = row
                scalars.append(LoggedRow(rank, row, time_us, step, None, None, {}, attempt))
            scalars[-1].body[key] = value
        for one in heapq.merge(scalars, events, key=lambda row: row.i):
            if self._new(one):
                yield one

    def _fetch(self, path: str, source: str, query: str) -> Rows:
        import duckdb

        if self._connection is None:
            self._connection = connect()
        try:
            return self._connection.execute(query.format(file=source)).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            leave_out(path, error)
            return []


def visible(row: LoggedRow, resumed_from: Mapping[int, int | None]) -> bool:
    """Whether a row of scalars still counts: no later attempt resumed from a step before it.

    Args:
        resumed_from: `RunInfo.resume_steps()` of the run. An attempt that did not say from where it
            resumed hides per key what it logged again; that is not decided here.
    """
    return row.step is None or all(
        step is None or attempt <= row.attempt or row.step <= step for attempt, step in resumed_from.items()
    )
