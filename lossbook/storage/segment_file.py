"""Writes the three Parquet files of a sealed segment, of a journal's rows or of smaller sealed ones, and reads them back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy

from lossbook.errors import StoreError
from lossbook.storage.journal_rows import EventRow, JournalRows, SortedColumns, sort_columns
from lossbook.storage.rollup import FINEST_LEVEL, Series, coarser_levels, finest_level, rollup
from lossbook.storage.schema import (
    EVENTS,
    IDENTITY,
    METRICS,
    METRICS_ROW_GROUP,
    ROLLUP,
    ROLLUP_ROW_GROUP,
    connect,
    copy_to,
    parquet,
    quote,
    quote_name,
)

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from lossbook.storage.schema import Column, Columns
    from lossbook.storage.segment import Identity, Partials, Segment


#: Rows that a merge holds in memory beside DuckDB's; a multiple of the finest bucket.
PIECE_ROWS = 1 << 20


def write_sealed(rows: JournalRows, rank: int, identity: Identity, partials: Partials) -> None:
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
            f"SELECT {_says(identity)}, (SELECT names FROM keys)[code + 1] AS key, row, step, make_timestamp(time) AS time, "
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
        _write_events(connection, rows.events, rank, identity, partials.events)
        check_counts(connection, {partials.metrics: rows.scalars, partials.events: len(rows.events)})
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


def _says(identity: Identity) -> str:
    # An enumeration is written as a dictionary of one word, eight times faster than a text, and reads back as VARCHAR.
    named = {"project": quote(identity.project), "run": quote(identity.run)}
    return ", ".join(f"{text}::ENUM({text}) AS {name}" for name, text in named.items())


def _write_events(
    connection: duckdb.DuckDBPyConnection, events: list[EventRow], rank: int, identity: Identity, path: str
) -> None:
    columns = list(zip(*events, strict=True)) if events else [()] * 7
    types = ("BIGINT", "BIGINT", "BIGINT", "VARCHAR", "VARCHAR", "SMALLINT", "VARCHAR")
    names = ("row", "step", "time", "kind", "key", "attempt", "value")
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in zip(names, types, strict=True))
    copy_to(
        connection,
        f"SELECT {_says(identity)}, row, step, make_timestamp(time) AS time, kind, key, {rank}::SMALLINT AS rank, "
        f"attempt, value FROM (SELECT {unnested}) ORDER BY row",
        path,
        row_group=METRICS_ROW_GROUP,
        parameters=[list(column) for column in columns],
    )


def check_counts(connection: duckdb.DuckDBPyConnection, expected: Mapping[str, int]) -> None:
    """Check how many rows some files read back with, all in one question: each costs a millisecond.

    Raises:
        StoreError: one has another number.
    """
    counts = ", ".join(f"(SELECT count(*) FROM {parquet(path)})" for path in expected)
    found = connection.execute(f"SELECT {counts}").fetchone() or (0,) * len(expected)
    for (path, wanted), count in zip(expected.items(), found, strict=True):
        if count != wanted:
            raise StoreError(f"{path} reads back with {count} rows in place of {wanted}; the journal is untouched")


def says_identity(segment: Segment, identity: Identity) -> bool:
    """Whether the rows and events of a sealed segment name the run that they belong to; True where one cannot be read."""
    import duckdb

    connection = connect()
    try:
        for path in filter(None, (segment.metrics, segment.events)):
            columns = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {parquet(path)}").fetchall()}
            if not columns.issuperset(IDENTITY):
                return False
            said = connection.execute(f"SELECT {', '.join(IDENTITY)} FROM {parquet(path)} LIMIT 1").fetchone()
            if said not in (None, (identity.project, identity.run)):
                return False
    except (duckdb.Error, UnicodeDecodeError):
        return True
    finally:
        connection.close()
    return True


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


def write_merged(segments: list[Segment], identity: Identity, spill: str, partials: Partials) -> None:
    """Write the three files of several neighbouring sealed segments of one rank as one, whatever format they have.

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
            f"SELECT {_says(identity)}, {columns.replace('key', '(SELECT names FROM keys)[code + 1] AS key', 1)} FROM merged",
            partials.metrics,
            row_group=METRICS_ROW_GROUP,
        )
        _merge_rollup(connection, partials.rollup)
        if events:
            query = f"SELECT {_says(identity)}, {', '.join(EVENTS)} FROM {parquet(events)} ORDER BY row"
            copy_to(connection, query, partials.events, row_group=METRICS_ROW_GROUP)
        else:
            _write_events(connection, [], segments[0].name.rank, identity, partials.events)
        total = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
        expected = {partials.metrics: int(total[0]) if total else 0}
        if events:
            total = connection.execute(f"SELECT count(*) FROM {parquet(events)}").fetchone()
            expected[partials.events] = int(total[0]) if total else 0
        check_counts(connection, expected)
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
