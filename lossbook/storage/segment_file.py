"""The contents of a sealed segment: from journal lines to sorted columns to three Parquet files, and merged ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy
import orjson

from lossbook.errors import StoreError
from lossbook.journal.line import DamagedLine, decode, decode_number, is_place, is_step
from lossbook.journal.reader import JournalSegment
from lossbook.storage.rollup import FINEST_LEVEL, Series, coarser_levels, finest_level, rollup
from lossbook.storage.schema import (
    EVENTS,
    METRICS,
    METRICS_ROW_GROUP,
    ROLLUP,
    ROLLUP_ROW_GROUP,
    connect,
    copy_to,
    parquet,
    quote_name,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from lossbook.storage.schema import Column, Columns
    from lossbook.storage.segments import Partials, Segment

    #: Row, step, time (µs), kind, key, attempt, value as JSON.
    EventRow = tuple[int, int | None, int, str, str | None, int, str]

#: The kind under which a line that could not be read is kept, so that nothing is thrown away.
DAMAGED = "damaged"
#: Rows that a merge holds in memory beside DuckDB's; a multiple of the finest bucket.
PIECE_ROWS = 1 << 20


#: Lines are taken by so many bytes at once: one odd line among them sends them all the careful way.
PLAIN_BYTES = 1 << 16
#: What a row's numbers are as a rule; columns of doubles take them as they are.
_NUMBERS = frozenset((float, int))


@dataclass
class JournalRows:
    """A segment's rows as columns: lists of one entry a scalar row, `keys` and `values` flat."""

    i: list[int] = field(default_factory=list)
    t: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    attempt: list[int] = field(default_factory=list)
    codes: list[NDArray[numpy.int32]] = field(default_factory=list)  # per row: the numbers of its keys
    values: list[float] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # key to its number
    events: list[EventRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    next_row: int = 0
    last_attempt: int = 0

    key_sets: dict[tuple[str, ...], NDArray[numpy.int32]] = field(default_factory=dict)

    @property
    def scalars(self) -> int:
        return len(self.values)

    def add_keys(self, keys: tuple[str, ...]) -> None:
        """Note the keys of the next row; rows with the same keys share one array."""
        codes = self.key_sets.get(keys)
        if codes is None:
            names = self.names
            codes = numpy.array([names.setdefault(key, len(names)) for key in keys], dtype=numpy.int32)
            self.key_sets[keys] = codes
        self.codes.append(codes)


def read_journal(journal: JournalSegment, rows: JournalRows) -> None:
    """Add a segment to `rows`: every whole line, damaged ones kept as events and reported.

    Raises:
        FileNotFoundError: it has been sealed meanwhile.
    """
    loads = orjson.loads
    attempt = rows.last_attempt
    expected: int | None = rows.next_row or None
    number = 0
    with open(journal.path, "rb") as file:
        while lines := file.readlines(PLAIN_BYTES):
            if not lines[-1].endswith(b"\n"):
                torn = lines.pop()
                rows.problems.append(
                    f"{journal.path}: the last line is torn off after {len(torn)} bytes; it was never a whole row"
                )
            if _take_plain(lines, rows, attempt, expected):
                number += len(lines)
                expected = rows.i[-1] + 1
                continue
            for line in lines:
                number += 1
                try:
                    fields = loads(line)
                    metrics = fields["m"]
                    i, t, step = fields["i"], fields["t"], fields["s"]
                    if not is_place(i, t) or not is_step(step) or i < 0 or "k" in fields:
                        raise TypeError
                    if not _NUMBERS.issuperset(map(type, metrics.values())):
                        metrics = {key: decode_number(value) for key, value in metrics.items()}
                except (ValueError, KeyError, TypeError, AttributeError):
                    try:
                        row = decode(line)
                    except DamagedLine as error:
                        rows.problems.append(f"{journal.path}, line {number}: damaged line passed over: {error}")
                        _keep_damaged(rows, line, number, expected or 0, attempt)
                        # A damaged line was a row: its number is not missing.
                        expected = None if expected is None else expected + 1
                        continue
                    if row.kind == "attempt":
                        attempt = rows.last_attempt = int(row.body["number"])
                    text = orjson.dumps(row.body).decode()
                    rows.events.append((row.i, row.step, row.t, str(row.kind), row.key, attempt, text))
                    i = row.i
                else:
                    rows.add_keys(tuple(metrics))
                    rows.values.extend(metrics.values())
                    rows.i.append(i)
                    rows.t.append(t)
                    rows.step.append(step)
                    rows.attempt.append(attempt)
                if expected is not None and i != expected and len(rows.problems) < 100:
                    rows.problems.append(_gap(journal.path, expected, i))
                expected = i + 1 if expected is None else max(expected, i + 1)
    rows.next_row = expected or 0


def _take_plain(lines: list[bytes], rows: JournalRows, attempt: int, expected: int | None) -> bool:
    """Add lines that are all rows of finite numbers, as training writes them, without a loop in Python.

    Returns:
        False, with nothing added, when there is anything else among them: the careful path takes them then.
    """
    try:
        found = list(map(orjson.loads, lines))
        if set(map(len, found)) != {4}:
            return False
        i = [row["i"] for row in found]
        t = [row["t"] for row in found]
        step = [row["s"] for row in found]
        metrics = [row["m"] for row in found]
        values = list(chain.from_iterable([one.values() for one in metrics]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    if not _NUMBERS.issuperset(map(type, values)) or set(map(type, chain(i, t, step))) != {int}:
        return False
    if i != list(range(i[0] if expected is None else expected, i[0] + len(i))) or i[0] < 0:
        return False
    if not (is_place(i[-1], min(t)) and is_place(i[-1], max(t)) and is_step(min(step)) and is_step(max(step))):
        return False
    for key_set in map(tuple, metrics):
        rows.add_keys(key_set)
    rows.values.extend(values)
    rows.i.extend(i)
    rows.t.extend(t)
    rows.step.extend(step)
    rows.attempt.extend([attempt] * len(i))
    return True


def _gap(path: str, expected: int, found: int) -> str:
    if found > expected:
        return f"{path}: rows {expected} to {found - 1} are missing"
    return f"{path}: row {found} comes again: two processes wrote as the same rank, both are kept"


def _keep_damaged(rows: JournalRows, line: bytes, number: int, i: int, attempt: int) -> None:
    text = orjson.dumps({"line": number, "text": line.decode("latin-1").rstrip("\n")[:100_000]}).decode()
    rows.events.append((i, None, rows.t[-1] if rows.t else 0, DAMAGED, None, attempt, text))


@dataclass
class SortedColumns:
    """Scalars sorted by key, step, row. Arrays of shape (n,); `code` indexes `names`, which are sorted."""

    names: list[str]
    code: NDArray[numpy.int32]
    row: NDArray[numpy.int64]
    step: NDArray[numpy.int64]
    time: NDArray[numpy.int64]
    value: NDArray[numpy.float64]
    attempt: NDArray[numpy.int16]


def sort_columns(rows: JournalRows) -> SortedColumns:
    """Flatten and sort a segment's scalars."""
    names = sorted(rows.names, key=lambda key: key.encode("utf-8", "surrogatepass"))
    place = numpy.empty(len(names), dtype=numpy.uint16 if len(names) < 1 << 16 else numpy.int32)
    for position, key in enumerate(names):
        place[rows.names[key]] = position
    counts = numpy.fromiter(map(len, rows.codes), dtype=numpy.int64, count=len(rows.codes))
    code = place[numpy.concatenate(rows.codes)] if rows.codes else place[:0]
    step = numpy.repeat(numpy.array(rows.step, dtype=numpy.int64), counts)
    row = numpy.repeat(numpy.array(rows.i, dtype=numpy.int64), counts)
    # A stable sort by key alone keeps the order of rows, which is that of steps as a rule.
    order = numpy.argsort(code, kind="stable")
    code, step, row = code[order], step[order], row[order]
    same_key = code[1:] == code[:-1]
    later = (step[1:] > step[:-1]) | ((step[1:] == step[:-1]) & (row[1:] >= row[:-1]))
    if not bool(numpy.all(later | ~same_key)):
        again = numpy.lexsort((row, step, code))
        order, code, step, row = order[again], code[again], step[again], row[again]
    return SortedColumns(
        names=names,
        code=code.astype(numpy.int32),
        row=row,
        step=step,
        time=numpy.repeat(numpy.array(rows.t, dtype=numpy.int64), counts)[order],
        value=numpy.array(rows.values, dtype=numpy.float64)[order],
        attempt=numpy.repeat(numpy.array(rows.attempt, dtype=numpy.int16), counts)[order],
    )


def write_sealed(rows: JournalRows, rank: int, partials: Partials) -> None:
    """Write the three files of one segment and read them back.

    Raises:
        StoreError: a file could not be written, or does not read back as what was written.
    """
    connection = connect()
    try:
        columns = sort_columns(rows)
        _register_names(connection, columns.names)
        connection.register(
            "columns",
            {
                "code": columns.code,
                "row": columns.row,
                "step": columns.step,
                "time": columns.time,
                "value": columns.value,
                "attempt": columns.attempt,
            },
        )
        copy_to(
            connection,
            "SELECT (SELECT names FROM keys)[code + 1] AS key, row, step, make_timestamp(time) AS time, "
            # DuckDB takes NaN in an array for a missing value.
            "coalesce(value, 'NaN'::DOUBLE) AS value, "
            f"{rank}::SMALLINT AS rank, attempt FROM columns",
            partials.metrics,
            row_group=METRICS_ROW_GROUP,
        )
        connection.unregister("columns")
        starts = _series_starts(columns.code, columns.attempt)
        order = None
        if bool(numpy.any(columns.attempt[1:] != columns.attempt[:-1])):
            order = numpy.lexsort((columns.row, columns.step, columns.attempt, columns.code))
            starts = _series_starts(columns.code[order], columns.attempt[order])
        _write_rollup(connection, columns, order, starts, rank, partials.rollup)
        _write_events(connection, rows.events, rank, partials.events)
        check_count(connection, partials.metrics, rows.scalars)
        check_count(connection, partials.events, len(rows.events))
    finally:
        connection.close()


def _register_names(connection: duckdb.DuckDBPyConnection, names: list[str]) -> None:
    connection.execute("CREATE OR REPLACE TEMP TABLE keys AS SELECT ?::VARCHAR[] AS names", [names])


def _series_starts(code: Column, attempt: Column) -> NDArray[numpy.int64]:
    if len(code) == 0:
        return numpy.zeros(0, dtype=numpy.int64)
    changes = (code[1:] != code[:-1]) | (attempt[1:] != attempt[:-1])
    return numpy.concatenate(([0], numpy.flatnonzero(changes) + 1)).astype(numpy.int64)


def _write_rollup(
    connection: duckdb.DuckDBPyConnection,
    columns: SortedColumns,
    order: NDArray[numpy.int64] | None,
    starts: NDArray[numpy.int64],
    rank: int,
    path: str,
) -> None:
    def ordered(column: Column) -> Column:
        return column if order is None else column[order]

    series = Series(starts, ordered(columns.step), ordered(columns.row), ordered(columns.time), ordered(columns.value))
    buckets = rollup(series)
    if buckets:
        at = starts[buckets["series"]]
        buckets["code"] = ordered(columns.code)[at]
        buckets["attempt"] = ordered(columns.attempt)[at]
    write_buckets(connection, buckets, f"{rank}::SMALLINT", path)


def write_buckets(connection: duckdb.DuckDBPyConnection, buckets: Columns, rank: str, path: str) -> None:
    """Write a rollup file; `buckets` are `rollup()`'s columns with `code` and `attempt` of each bucket added."""
    if not buckets:
        columns = ", ".join(f"NULL::{kind} AS {quote_name(name)}" for name, kind in ROLLUP.items())
        copy_to(connection, f"SELECT {columns} WHERE false", path, row_group=ROLLUP_ROW_GROUP)
        return
    connection.register("buckets", buckets)
    expressions = {
        "key": "(SELECT names FROM keys)[code + 1]",
        "rank": rank,
        "first": "coalesce(\"first\", 'NaN'::DOUBLE)",
        "last": "coalesce(\"last\", 'NaN'::DOUBLE)",
        "first_time": "make_timestamp(first_time)",
        "last_time": "make_timestamp(last_time)",
        "min": "CASE WHEN empty THEN NULL ELSE min END",
        "max": "CASE WHEN empty THEN NULL ELSE max END",
        "min_step": "CASE WHEN empty THEN NULL ELSE min_step END",
        "max_step": "CASE WHEN empty THEN NULL ELSE max_step END",
    }
    columns = ", ".join(
        f"({expressions.get(name, quote_name(name))})::{kind} AS {quote_name(name)}" for name, kind in ROLLUP.items()
    )
    query = f"SELECT {columns} FROM buckets ORDER BY code, level, first_step, attempt"
    copy_to(connection, query, path, row_group=ROLLUP_ROW_GROUP)
    connection.unregister("buckets")


def _write_events(connection: duckdb.DuckDBPyConnection, events: list[EventRow], rank: int, path: str) -> None:
    columns = list(zip(*events, strict=True)) if events else [()] * 7
    types = ("BIGINT", "BIGINT", "BIGINT", "VARCHAR", "VARCHAR", "SMALLINT", "VARCHAR")
    names = ("row", "step", "time", "kind", "key", "attempt", "value")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE event_rows AS SELECT "
        + ", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in zip(names, types, strict=True)),
        [list(column) for column in columns],
    )
    copy_to(
        connection,
        f"SELECT row, step, make_timestamp(time) AS time, kind, key, {rank}::SMALLINT AS rank, attempt, value "
        "FROM event_rows ORDER BY row",
        path,
        row_group=METRICS_ROW_GROUP,
    )


def check_count(connection: duckdb.DuckDBPyConnection, path: str, expected: int) -> None:
    found = connection.execute(f"SELECT count(*) FROM {parquet(path)}").fetchone()
    if found is None or found[0] != expected:
        raise StoreError(
            f"{path} reads back with {found[0] if found else 0} rows in place of {expected}; the journal is untouched"
        )


def count_rows(segment: Segment) -> int:
    """How many scalars a sealed file holds, from its footer; -1 where that cannot be read."""
    import duckdb

    connection = connect()
    try:
        found = connection.execute(f"SELECT count(*) FROM {parquet(str(segment.metrics))}").fetchone()
        return int(found[0]) if found else 0
    except duckdb.Error:
        return -1
    finally:
        connection.close()


def write_merged(segments: list[Segment], spill: str, partials: Partials) -> None:
    """Write the three files of several neighbouring sealed segments of one rank as one.

    Raises:
        StoreError: as `write_sealed`.
    """
    metrics = [str(segment.metrics) for segment in segments]
    events = [segment.events for segment in segments if segment.events is not None]
    connection = connect(spill=spill)
    try:
        source = parquet(metrics)
        names = [name for (name,) in connection.execute(f"SELECT DISTINCT key FROM {source} ORDER BY key").fetchall()]
        # Sorting by the number of a key is three times faster than by its text.
        connection.execute(
            "CREATE TEMP TABLE numbers AS SELECT unnest(?::VARCHAR[]) AS key, "
            "generate_subscripts(?::VARCHAR[], 1) - 1 AS code",
            [names, names],
        )
        connection.execute(
            "CREATE TEMP TABLE merged AS SELECT code::INTEGER AS code, row, step, time, value, rank, attempt "
            f"FROM {source} JOIN numbers USING (key) ORDER BY code, step, row"
        )
        _register_names(connection, names)
        columns = ", ".join(METRICS)
        copy_to(
            connection,
            f"SELECT {columns.replace('key', '(SELECT names FROM keys)[code + 1] AS key', 1)} FROM merged",
            partials.metrics,
            row_group=METRICS_ROW_GROUP,
        )
        _merge_rollup(connection, partials.rollup)
        if events:
            query = f"SELECT {', '.join(EVENTS)} FROM {parquet(events)} ORDER BY row"
            copy_to(connection, query, partials.events, row_group=METRICS_ROW_GROUP)
        else:
            _write_events(connection, [], segments[0].name.rank, partials.events)
        total = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
        check_count(connection, partials.metrics, int(total[0]) if total else 0)
        if events:
            total = connection.execute(f"SELECT count(*) FROM {parquet(events)}").fetchone()
            check_count(connection, partials.events, int(total[0]) if total else 0)
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def _merge_rollup(connection: duckdb.DuckDBPyConnection, path: str) -> None:
    """Roll the merged rows up anew, a bounded number of rows at a time."""
    names = "code, attempt, count(*) AS rows, min(rowid) AS first, max(rowid) AS last, any_value(rank) AS rank"
    found = connection.execute(f"SELECT {names} FROM merged GROUP BY code, attempt ORDER BY code, attempt").fetchnumpy()
    lengths = found["rows"]
    parts: list[Columns] = []
    at = 0
    while at < len(lengths):
        # Many short series at once, or a part of a long one.
        end = at + max(1, int(numpy.searchsorted(numpy.cumsum(lengths[at:]), PIECE_ROWS, side="right")))
        ordinals = found["code"][[at, end - 1]].astype(numpy.int64) << 15 | found["attempt"][[at, end - 1]]
        where = f"(code::BIGINT << 15) + attempt BETWEEN {ordinals[0]} AND {ordinals[1]}"
        first, last = int(found["first"][at:end].min()), int(found["last"][at:end].max())
        step = PIECE_ROWS if lengths[at] > PIECE_ROWS else last - first + 1
        kept: list[Column] | None = None
        for begin in range(first, last + 1, step):
            piece = connection.execute(
                "SELECT code, attempt, step, row, epoch_us(time) AS time, value FROM merged "
                f"WHERE rowid BETWEEN {begin} AND {min(begin + step - 1, last)} AND {where} "
                "ORDER BY code, attempt, step, row"
            ).fetchnumpy()
            columns = [piece[name] for name in ("code", "attempt", "step", "row", "time", "value")]
            if kept is not None:
                columns = [numpy.concatenate(both) for both in zip(kept, columns, strict=True)]
            whole = len(columns[0])
            if begin + step <= last:
                # Pieces end where buckets do; what is over begins the next.
                whole -= whole % (1 << FINEST_LEVEL)
                kept = [column[whole:] for column in columns]
            code, attempt, *rows = (column[:whole] for column in columns)
            starts = _series_starts(code, attempt)
            buckets = finest_level(Series(starts, *rows))
            if buckets:
                buckets["series"] = buckets["series"] + at
                parts.append(buckets)
        at = end
    merged = {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    merged = coarser_levels(merged, lengths)
    if merged:
        series = merged["series"]
        merged["code"], merged["attempt"] = found["code"][series], found["attempt"][series]
    write_buckets(connection, merged, f"{found['rank'][0] if len(lengths) else 0}::SMALLINT", path)
