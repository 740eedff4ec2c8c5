"""Draws thousands of series over steps as a heat map, in one pass over a run's rows.

Keys are taken in the order in which sealed files hold them, half a million rows at a time, so that memory does not grow with
the run. Where the rows would be too many, rollup buckets that are far finer than the cells stand in for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.curves.cells import Cells, Matrix
from lossbook.curves.downsample import gather
from lossbook.errors import BadArgument, StoreError, UnknownKey
from lossbook.storage import (
    FINEST_LEVEL,
    LEVEL_STEP,
    METRICS_ROW_GROUP,
    FilesReplaced,
    SeriesPart,
    fetch_columns,
    leave_out,
    metrics_source,
    parquet,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from lossbook.curves.sources import Source
    from lossbook.storage import Columns, Segment

MOST_KEYS = 20_000
MOST_COLUMNS = 2_000
#: Cells of one answer; a screen has fewer.
MOST_CELLS = 4_000_000
#: Rows or buckets read at once: 16 MB of them.
READ_ROWS = 500_000
#: Places of an axis other than the step that are looked up; between two of them it is taken for straight.
_AXIS_POINTS = 2_000
#: So many rows are put into cells one by one; of more, buckets.
MOST_ROWS = 20_000_000
#: A bucket holds at most this part of a cell's rows.
_FINENESS = 8


@dataclass(frozen=True)
class _Piece:
    """One series of one segment, and the steps of it that count, both ends included."""

    line: int
    key: str
    source: Source
    part: SeriesPart
    first: int
    last: int

    @property
    def is_whole(self) -> bool:
        return self.first <= self.part.first_step and self.last >= self.part.last_step


def draw_matrix(
    sources: list[Source],
    keys: Sequence[str],
    *,
    axis: str,
    columns: int,
    start: float | None,
    end: float | None,
    connection: duckdb.DuckDBPyConnection,
) -> Matrix:
    """Draw series into cells; rows count as in a curve (attempts, forks, all ranks of a key).

    Raises:
        UnknownKey: the run never logged one of them.
        BadArgument: too many keys or columns, a range that cannot be meant, or an axis that goes back.
    """
    keys = _checked(keys, columns, start, end)
    steps_of = None
    if axis == "step":
        first, last = start, end
    else:
        steps_of = _steps_on_axis(sources, keys[0], axis)
        first, last = (None if at is None else float(steps_of(numpy.array([at]))[0]) for at in (start, end))
    pieces = _pieces(sources, keys, first, last)
    low = min((one.first for one in pieces), default=0) if first is None else first
    high = max((one.last for one in pieces), default=0) if last is None else last
    shown = edges = numpy.linspace(float(low), float(high) if high > low else float(low) + 1.0, columns + 1)
    if steps_of is not None:
        x_low, x_high = steps_of.place(low) if start is None else start, steps_of.place(high) if end is None else end
        shown = numpy.linspace(x_low, x_high if x_high > x_low else x_low + 1.0, columns + 1)
        edges = steps_of(shown)
    cells = Cells(len(keys), edges)
    level = _level(pieces, len(keys), columns)
    by_file: dict[str, list[_Piece]] = {}
    for piece in pieces:
        if piece.part.segment.journal is not None:
            live = piece.source.rows.rows(piece.key, piece.part, piece.first, piece.last)
            cells.add_rows(numpy.full(len(live["first"]), piece.line), live["first_step"], live["first"])
        else:
            by_file.setdefault(str(piece.part.segment.metrics), []).append(piece)
    for own in by_file.values():
        if level == 0 or own[0].part.segment.rollup is None:
            _add_rows(cells, own, connection)
        else:
            _add_buckets(cells, own, level, connection)
    return cells.finished(keys, axis, shown)


class _Axis:
    """Steps and where they lie on an axis that never goes back."""

    def __init__(self, steps: NDArray[numpy.float64], at: NDArray[numpy.float64]) -> None:
        self._steps, self._at = steps, at

    def __call__(self, at: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        """The steps at some places."""
        return numpy.interp(at, self._at, self._steps)

    def place(self, step: float) -> float:
        """Where a step lies."""
        return float(numpy.interp(step, self._steps, self._at))


def _steps_on_axis(sources: list[Source], key: str, axis: str) -> _Axis:
    from lossbook.curves.axes import place_buckets

    buckets = gather(sources, key, points=_AXIS_POINTS, first=None, last=None, attempt=None)
    x_first, x_last = place_buckets(sources, axis, buckets, _AXIS_POINTS)
    steps = numpy.concatenate((buckets["first_step"], buckets["last_step"])).astype(numpy.float64)
    at = numpy.concatenate((x_first, x_last)).astype(numpy.float64)
    order = numpy.argsort(steps, kind="stable")
    steps, at = steps[order], at[order]
    known = numpy.isfinite(at)
    steps, at = steps[known], at[known]
    if len(at) == 0:
        raise BadArgument(f"where {key!r} lies on {axis!r} is not known; draw it against step")
    if bool(numpy.any(numpy.diff(at) < 0)):
        raise BadArgument(f"{axis!r} goes back while steps go on: a heat map is drawn against step there")
    return _Axis(steps, at)


def _checked(keys: Sequence[str], columns: int, start: float | None, end: float | None) -> tuple[str, ...]:
    if isinstance(keys, str):
        raise BadArgument(f"keys={keys!r}: a list of names is wanted")
    named = tuple(dict.fromkeys(keys))
    if not 1 <= len(named) <= MOST_KEYS:
        raise BadArgument(f"{len(named):,} keys: a heat map has 1 to {MOST_KEYS:,} lines")
    if isinstance(columns, bool) or not isinstance(columns, (int, numpy.integer)) or not 1 <= columns <= MOST_COLUMNS:
        raise BadArgument(f"columns={columns!r}: a heat map has 1 to {MOST_COLUMNS:,} of them")
    if len(named) * columns > MOST_CELLS:
        raise BadArgument(
            f"{len(named):,} keys by {columns:,} columns: a heat map has {MOST_CELLS:,} cells at the most"
        )
    if start is not None and end is not None and start > end:
        raise BadArgument(f"start={start} is beyond end={end}")
    return named


def _pieces(sources: list[Source], keys: Sequence[str], start: float | None, end: float | None) -> list[_Piece]:
    pieces = []
    first = -(1 << 63) if start is None else int(numpy.ceil(start))
    last = (1 << 63) - 1 if end is None else int(numpy.floor(end))
    for source in sources:
        source.rows.keys()  # where all of them lie is looked up at once
    for line, key in enumerate(keys):
        is_known = False
        for source in sources:
            parts = source.rows.parts(key)
            is_known |= bool(parts)
            visible = source.rows.last_visible(parts)
            for part in parts:
                low = max(part.first_step, first)
                high = min(part.last_step, visible[part.attempt], source.last_step, last)
                if low <= high:
                    pieces.append(_Piece(line, key, source, part, low, high))
        if not is_known:
            raise UnknownKey(f"the run in {sources[-1].rows.folder.path} never logged {key!r}")
    return pieces


def _level(pieces: list[_Piece], keys: int, columns: int) -> int:
    """The rollup level whose buckets are far finer than a cell; 0 for rows."""
    rows = 0.0
    for one in pieces:
        span = one.part.last_step - one.part.first_step
        rows += one.part.count * ((one.last - one.first) / span if span > 0 else 1.0)
    if rows <= MOST_ROWS:
        return 0
    level, in_a_cell = FINEST_LEVEL, rows / (keys * columns)
    while (1 << (level + LEVEL_STEP)) * _FINENESS <= in_a_cell:
        level += LEVEL_STEP
    return level if (1 << level) * _FINENESS <= in_a_cell else 0


def _add_rows(cells: Cells, pieces: list[_Piece], connection: duckdb.DuckDBPyConnection) -> None:
    """Put rows of one sealed file into cells, read in the order of the file: by key, step and row.

    Nothing where the file is damaged, which the run's problems say.
    """
    path = str(pieces[0].part.segment.metrics)
    source = _source_of(pieces[0].part.segment)
    if source is None:
        return
    wanted: dict[str, list[_Piece]] = {}
    for piece in pieces:
        wanted.setdefault(piece.key, []).append(piece)
    ranges = [
        (names, lengths, [wanted.get(name, []) for name in names])
        for names, lengths in _ranges(pieces[0].source.rows.sealed_lengths(pieces[0].part.segment), set(wanted))
    ]

    def read(chosen: tuple[list[str], list[int], list[list[_Piece]]]) -> Columns | None:
        names, lengths, owners = chosen
        attempts = ", attempt" if any(len(own) > 1 for own in owners) else ""
        found = _fetch(
            connection,
            path,
            f"SELECT step, value{attempts} FROM {source} WHERE key BETWEEN ? AND ?",
            [names[0], names[-1]],
        )
        if found is None:
            return None
        if len(found["step"]) != sum(lengths):
            raise StoreError(f"{path} does not hold what its rollup says; `lossbook verify` says more")
        return found

    # The next range is read while this one is put into cells.
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(read, ranges[0])] if ranges else []
        for position, (_, lengths, owners) in enumerate(ranges):
            found = coming.pop().result()
            if found is None:
                return
            if position + 1 < len(ranges):
                coming.append(reader.submit(read, ranges[position + 1]))
            _add_range(cells, numpy.array(lengths), owners, found)


def _add_range(cells: Cells, lengths: NDArray[numpy.int64], owners: list[list[_Piece]], found: Columns) -> None:
    """Put the rows of neighbouring keys into cells, each key's own pieces saying which of them count."""
    line = numpy.repeat(numpy.array([own[0].line if own else 0 for own in owners], dtype=numpy.int64), lengths)
    step, value = found["step"], found["value"]
    if all(len(own) == 1 and own[0].is_whole for own in owners):
        cells.add_rows(line, step, value)
        return
    keep = numpy.zeros(len(line), dtype=bool)
    for turn in range(max(len(own) for own in owners)):
        pieces = [own[turn] if turn < len(own) else None for own in owners]
        low, high, attempt = (
            numpy.repeat(numpy.array(numbers), lengths)
            for numbers in (
                [1 if one is None else one.first for one in pieces],
                [0 if one is None else one.last for one in pieces],
                [-1 if one is None else one.part.attempt for one in pieces],
            )
        )
        inside = (step >= low) & (step <= high)
        if "attempt" in found:
            inside &= found["attempt"] == attempt
        keep |= inside
    cells.add_rows(line[keep], step[keep], value[keep])


def _ranges(lengths: dict[str, int], wanted: set[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Ranges of keys to read at once, in the file's order, with how many rows each key has.

    A range begins and ends with a key that is wanted; between two such, others are read and passed over where that is
    less than a row group.
    """
    names: list[str] = []
    numbers: list[int] = []
    rows = 0
    skipped: list[str] = []
    gap = 0
    for name, length in lengths.items():
        if name not in wanted:
            skipped.append(name)
            gap += length
            continue
        if names and (gap > METRICS_ROW_GROUP or rows + gap + length > READ_ROWS):
            yield names, numbers
            names, numbers, rows = [], [], 0
        elif names:
            names += skipped
            numbers += [lengths[one] for one in skipped]
            rows += gap
        skipped, gap = [], 0
        names.append(name)
        numbers.append(length)
        rows += length
    if names:
        yield names, numbers


def _add_buckets(cells: Cells, pieces: list[_Piece], level: int, connection: duckdb.DuckDBPyConnection) -> None:
    """Put buckets into cells; those that an end of a part cuts through are replaced by their rows."""
    path = str(pieces[0].part.segment.rollup)
    long = sorted((one for one in pieces if one.part.count > 1 << level), key=lambda one: one.key)
    at_once = max(1, (READ_ROWS << level) // max(1, max((one.part.count for one in long), default=1)))
    for begin in range(0, len(long), at_once):
        batch = long[begin : begin + at_once]
        found = _fetch(
            connection,
            path,
            "SELECT own.number, first_step, last_step, sum, min, max, count, nonfinite, min_step, max_step FROM "
            f"(SELECT * FROM {parquet(path)} WHERE level = {level} AND key BETWEEN ? AND ?) AS bucket JOIN "
            "(SELECT unnest(?) AS key, unnest(?) AS attempt, unnest(?) AS rank, unnest(?) AS number) AS own "
            "ON bucket.key = own.key AND bucket.attempt = own.attempt AND bucket.rank = own.rank",
            [
                batch[0].key,
                batch[-1].key,
                [one.key for one in batch],
                [one.part.attempt for one in batch],
                [one.part.rank for one in batch],
                list(range(len(batch))),
            ],
        )
        if found is None:
            _add_rows(cells, batch, connection)
            continue
        number = found["number"]
        low = numpy.array([one.first for one in batch])[number]
        high = numpy.array([one.last for one in batch])[number]
        inside = (found["first_step"] >= low) & (found["last_step"] <= high)
        cut = ~inside & (found["last_step"] >= low) & (found["first_step"] <= high)
        line = numpy.array([one.line for one in batch], dtype=numpy.int64)[number]
        cells.add_buckets(line[inside], {name: array[inside] for name, array in found.items()})
        for at in numpy.flatnonzero(cut):
            piece = batch[int(number[at])]
            first, last = max(int(found["first_step"][at]), piece.first), min(int(found["last_step"][at]), piece.last)
            rows = piece.source.rows.rows(piece.key, piece.part, first, last)
            cells.add_rows(numpy.full(len(rows["first"]), piece.line), rows["first_step"], rows["first"])
    short = [one for one in pieces if one.part.count <= 1 << level]
    if short:
        _add_rows(cells, short, connection)


def _source_of(segment: Segment) -> str | None:
    try:
        return metrics_source(segment)
    except FileNotFoundError:
        raise FilesReplaced(f"{segment.metrics} went while it was read; ask again") from None


def _fetch(connection: duckdb.DuckDBPyConnection, path: str, query: str, values: Sequence[object]) -> Columns | None:
    """Ask a question of one sealed file; None when it cannot be decoded, which is remembered."""
    import duckdb

    try:
        return fetch_columns(connection, query, values)
    except (duckdb.Error, UnicodeDecodeError) as error:
        try:
            leave_out(path, error)
        except FileNotFoundError:
            raise FilesReplaced(f"{path} went while it was read; ask again") from None
        return None
