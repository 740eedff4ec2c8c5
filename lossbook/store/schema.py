"""The three Parquet files of a sealed segment: their columns, order and encoding, and the DuckDB that writes them.

    metrics/<stem>.parquet          one row per scalar, sorted by key, step, row
    metrics/<stem>.rollup.parquet   one row per bucket of 2^level rows, sorted by key, level, attempt, first_step
    events/<stem>.parquet           one row per journal line of another kind, sorted by row

The schema is the same for every run in the world. Files are fsynced before they are renamed into place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from lossbook.errors import StoreError
from lossbook.processes import host_name, is_alive

if TYPE_CHECKING:
    import duckdb
    import numpy as np

METRICS: dict[str, str] = {
    "key": "VARCHAR", "row": "BIGINT", "step": "BIGINT", "time": "TIMESTAMP", "value": "DOUBLE",
    "rank": "SMALLINT", "attempt": "SMALLINT",
}  # fmt: skip
ROLLUP: dict[str, str] = {
    "key": "VARCHAR", "attempt": "SMALLINT", "rank": "SMALLINT", "level": "TINYINT",
    "first_step": "BIGINT", "last_step": "BIGINT", "first_row": "BIGINT", "last_row": "BIGINT",
    "first_time": "TIMESTAMP", "last_time": "TIMESTAMP", "first": "DOUBLE", "last": "DOUBLE",
    "min": "DOUBLE", "max": "DOUBLE", "sum": "DOUBLE", "min_step": "BIGINT", "max_step": "BIGINT",
    "count": "BIGINT", "nonfinite": "BIGINT",
}  # fmt: skip
EVENTS: dict[str, str] = {
    "row": "BIGINT", "step": "BIGINT", "time": "TIMESTAMP", "kind": "VARCHAR", "key": "VARCHAR",
    "rank": "SMALLINT", "attempt": "SMALLINT", "value": "VARCHAR",
}  # fmt: skip

METRICS_ORDER = "key, step, row"
EVENTS_ORDER = "row"

#: A row group is what a reader decodes at the least: for metrics that is DuckDB's own size (2.2 bytes of values a
#: scalar; half that size costs 6 % more space), for rollups its smallest, so that one key's level is read alone.
_ROW_GROUP = {"metrics": 122_880, "rollup": 2_048, "events": 8_192}
#: Name of the Parquet key-value entry that says which journal rows a file was made of.
ORIGIN = "lossbook"

SMALLINT = range(-(1 << 15), 1 << 15)


def connect(
    memory_limit: str = "512MB", threads: int = 1, *, spill: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that downloads nothing and prints nothing.

    Args:
        memory_limit: DuckDB's own bound; sorting beyond it goes to `spill`.
        spill: folder for what does not fit in memory; None: such a query fails with a clear error.
    """
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "memory_limit": memory_limit,
            "temp_directory": spill or "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET enable_progress_bar = false")
    return connection


def quoted(text: str) -> str:
    """Return `text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def parquet(paths: list[str] | str, *, row_numbers: bool = False) -> str:
    """Return SQL that reads these files and no others, whatever characters their paths hold."""
    listed = [paths] if isinstance(paths, str) else paths
    names = ", ".join(quoted(_without_glob(path)) for path in listed)
    extra = ", file_row_number = true" if row_numbers else ""
    return f"read_parquet([{names}], hive_partitioning = false{extra})"


def _without_glob(path: str) -> str:
    if not any(character in path for character in "*?["):
        return path
    # A bracketed character stands for itself in DuckDB's patterns, so a folder called `a[1]` is not one.
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


def copy(
    connection: duckdb.DuckDBPyConnection, query: str, path: str, family: str, origin: Mapping[str, Any] | None = None
) -> None:
    """Write a query's rows to one Parquet file and fsync it.

    Args:
        family: "metrics", "rollup" or "events".
        origin: what the file was made of, kept as JSON in its footer.

    Raises:
        StoreError: the file cannot be written; nothing is left of it.
    """
    import duckdb

    options = [
        "FORMAT parquet", "COMPRESSION zstd", "PARQUET_VERSION v2", "USE_TMP_FILE false",
        f"ROW_GROUP_SIZE {_ROW_GROUP[family]}",
    ]  # fmt: skip
    if origin is not None:
        options.append(f"KV_METADATA {{{ORIGIN}: {quoted(orjson.dumps(origin).decode())}}}")
    try:
        connection.execute(f"COPY ({query}) TO {quoted(path)} ({', '.join(options)})")
        fsync_file(path)
    except (duckdb.Error, OSError) as error:
        remove(path)
        reason = str(error).splitlines()[0]
        raise StoreError(f"{path} cannot be written ({reason}); make room or check who owns the folder") from error


def columns_of(connection: duckdb.DuckDBPyConnection, path: str) -> dict[str, str]:
    """Column names and types of a Parquet file.

    Raises:
        duckdb.Error: it is no Parquet file.
    """
    described = connection.execute(f"DESCRIBE SELECT * FROM {parquet(path)}").fetchall()
    return {name: kind for name, kind, *_ in described}


def count_rows(connection: duckdb.DuckDBPyConnection, path: str) -> int:
    """Rows of a Parquet file by its footer; raises `duckdb.Error` when that cannot be read."""
    row = connection.execute(f"SELECT count(*) FROM {parquet(path)}").fetchone()
    return int(row[0]) if row else 0


def read_origin(connection: duckdb.DuckDBPyConnection, path: str) -> dict[str, Any]:
    """What a sealed file was made of: `{"segments": [{"number", "attempt", "bytes", "lines", "rows"}]}`.

    `rows` are inclusive ranges of row numbers; files that other programs wrote say nothing and give `{}`.
    """
    query = f"SELECT value FROM parquet_kv_metadata({quoted(_without_glob(path))}) WHERE key = {quoted(ORIGIN)}"
    row = connection.execute(query).fetchone()
    if row is None:
        return {}
    try:
        value = orjson.loads(row[0])
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def int64(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy

    return numpy.ascontiguousarray(values, dtype=numpy.int64)


# -- files ------------------------------------------------------------------------------------------------------


def partial_name(path: str) -> str:
    """A name beside `path` that no other process uses, which every reader passes over."""
    return f"{path}.{host_name()}.{os.getpid()}.{os.urandom(3).hex()}.tmp"


def is_abandoned(filename: str, age_seconds: float) -> bool:
    """Whether a partial file belongs to no process any more: its writer on this machine is gone, or it is an hour old."""
    parts = filename.rsplit(".", 4)
    if len(parts) == 5 and parts[2].isdigit() and parts[1] == host_name().rsplit(".", 1)[-1]:
        return not is_alive(int(parts[2]), None, None)
    return age_seconds > 3600.0


def fsync_file(path: str) -> None:
    """Make a file's contents durable.

    Raises:
        OSError: they cannot be (a full disk shows itself here on some file systems).
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(path)
    except OSError:
        pass


@contextlib.contextmanager
def spill_folder(parent: str) -> Iterator[str]:
    """A folder for sorting what does not fit in memory, gone afterwards."""
    path = partial_name(os.path.join(parent, ".spill"))
    try:
        os.makedirs(path)
    except OSError as error:
        raise StoreError(f"{parent} cannot be written ({error.strerror}); check who owns it and its space") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
