"""Owns the columns, order and encodings of a run's Parquet files, and how DuckDB reads and writes them.

`docs/format.md` is the specification.
"""

from __future__ import annotations

import gc
import os
from functools import cache
from typing import TYPE_CHECKING

from lossbook.errors import StoreError

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import duckdb
    from numpy.typing import NDArray

    #: A column of a file or a query: int64, float64 or text, as its name says; a type checker cannot tell which.
    Column: TypeAlias = NDArray[Any]
    Columns: TypeAlias = dict[str, Column]
    #: Rows as DuckDB gives them: the query says what each column is.
    Rows: TypeAlias = list[tuple[Any, ...]]

#: What a file of rows or events says in each line of the run that it belongs to, from format 2 on. Nothing here reads it.
IDENTITY = {"project": "VARCHAR", "run": "VARCHAR"}
METRICS = {
    "key": "VARCHAR",
    "row": "BIGINT",
    "step": "BIGINT",
    "time": "TIMESTAMP",
    "value": "DOUBLE",
    "rank": "SMALLINT",
    "attempt": "SMALLINT",
}
ROLLUP = {
    "key": "VARCHAR",
    "attempt": "SMALLINT",
    "rank": "SMALLINT",
    "level": "TINYINT",
    "first_step": "BIGINT",
    "last_step": "BIGINT",
    "first_row": "BIGINT",
    "last_row": "BIGINT",
    "first_time": "TIMESTAMP",
    "last_time": "TIMESTAMP",
    "first": "DOUBLE",
    "last": "DOUBLE",
    "min": "DOUBLE",
    "max": "DOUBLE",
    "sum": "DOUBLE",
    "min_step": "BIGINT",
    "max_step": "BIGINT",
    "count": "BIGINT",
    "nonfinite": "BIGINT",
}
EVENTS = {
    "row": "BIGINT",
    "step": "BIGINT",
    "time": "TIMESTAMP",
    "kind": "VARCHAR",
    "key": "VARCHAR",
    "rank": "SMALLINT",
    "attempt": "SMALLINT",
    "value": "VARCHAR",
}
#: Which sealed rows are a run's: those of a key and attempt of a run up to a step, its own and those of its parents.
VISIBLE = {
    "project": "VARCHAR",
    "run": "VARCHAR",
    "of_project": "VARCHAR",
    "of_run": "VARCHAR",
    "key": "VARCHAR",
    "attempt": "SMALLINT",
    "last_step": "BIGINT",
}
#: The rollup level at which one bucket holds all rows of a key, attempt and rank in the file.
TOP_LEVEL = 63

# Parquet's version 2 encodings: delta for integers, byte-stream-split for doubles, dictionary for keys.
# A dictionary of more than 1,000 values is larger than the values themselves, split by byte and compressed.
_COPY = (
    "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE {rows}, "
    "USE_TMP_FILE false"
)
_databases: dict[tuple[int, str, int], duckdb.DuckDBPyConnection] = {}
_with_icu: dict[tuple[int, str, int], bool] = {}
#: A curve reads whole row groups: small ones in the rollup, so that one key and level costs little.
METRICS_ROW_GROUP = 122_880
ROLLUP_ROW_GROUP = 8_192


@cache
def _spare_children() -> None:
    """Keep forked children from collecting their parent's garbage: a connection in it waits for threads that they lack."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=gc.freeze)


def connect(*, memory_limit: str = "512MB", threads: int = 1, spill: str | None = None) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that never downloads an extension and never draws a progress bar.

    Args:
        memory_limit: beyond it DuckDB sorts on disk.
        spill: the folder for that; none, and a query that needs it fails.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": spill or "",
        "preserve_insertion_order": True,
    }
    # A new database costs 20 ms of processor time, another connection to it next to nothing; but a forked child must
    # not touch its parent's, and one that sorts on disk goes with its folder.
    name = (os.getpid(), memory_limit, threads)
    database = _databases.get(name) if spill is None else None
    if database is None:
        database = duckdb.connect(":memory:", config=config)
        _spare_children()
        if spill is None:
            _databases[name] = database
    connection = database.cursor()
    connection.execute("SET enable_progress_bar = false")
    if _with_icu.get(name, True):
        try:
            connection.execute("SET TimeZone = 'UTC'")
            _with_icu[name] = True
        except duckdb.Error:
            # A DuckDB without ICU has no zones to be told of.
            _with_icu[name] = False
    return connection


def copy_to(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    path: str,
    *,
    row_group: int,
    parameters: object = None,
    durable: bool = True,
) -> None:
    """Write a query's rows to a Parquet file and, unless it can be derived, flush it to the disk.

    Raises:
        StoreError: the file could not be written; nothing of it is left behind.
    """
    import duckdb

    try:
        connection.execute(f"COPY ({query}) TO {quote(path)} ({_COPY.format(rows=row_group)})", parameters)
        if durable:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except (duckdb.Error, OSError) as error:
        try:
            os.unlink(path)
        except OSError:
            pass
        first_line = str(error).strip().splitlines()[0]
        raise StoreError(
            f"{path} could not be written ({first_line}); what it was to be made of is untouched"
        ) from error


def fetch_columns(connection: duckdb.DuckDBPyConnection, query: str, parameters: object = None) -> Columns:
    """What a query gives, by column; where it has a missing value NaN, or 0 in a column of whole numbers.

    Raises:
        duckdb.Error: the query cannot be run.
    """
    arrays: Columns = connection.execute(query, parameters).fetchnumpy()
    return {name: _filled(array) for name, array in arrays.items()}


def _filled(array: Column) -> Column:
    # An array that has missing values is told by this method: to ask for `numpy.ma` would load it, which takes 10 ms, and
    # DuckDB does so for such an array only.
    filled = getattr(array, "filled", None)
    if filled is None:
        return array
    filled_array: Column = filled(float("nan") if array.dtype.kind == "f" else 0)
    return filled_array


def quote(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def parquet(paths: str | list[str]) -> str:
    """The SQL that reads these files and no others, whatever characters their paths hold."""
    listed = [paths] if isinstance(paths, str) else paths
    # In DuckDB's patterns a bracketed character stands for itself, so a folder called `a[1]` is not one.
    escaped = ["".join(f"[{one}]" if one in "*?[" else one for one in path) for path in listed]
    return f"read_parquet([{', '.join(map(quote, escaped))}], hive_partitioning = false)"


def quote_name(name: str) -> str:
    """A column's name as an SQL identifier (`first`, `min` and `row` are words of SQL's own)."""
    return '"' + name.replace('"', '""') + '"'
