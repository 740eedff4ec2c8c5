"""Files of runs: DuckDB streams the rows, so a long history needs no memory of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossbook.cli.terminal_guard import GuardedText
from lossbook.errors import LossbookError, StoreError
from lossbook.metrics import find_key
from lossbook.reading import QueryResult, query_runs
from lossbook.storage import quote, quote_name

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

_LONG = ("run", "name", "project", "key", "row", "step", "time", "value", "rank", "attempt")


def export_wide(
    book: Book,
    runs: Sequence[RecordedRun],
    keys: list[str] | None,
    format: str,
    output: str,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write one line a step and one column a metric; of several runs, their lines one after another.

    Args:
        keys: names or aliases; None for all. A run that lacks one has nulls there.
        progress: is told how many runs were read, and of how many.
        output: a file, or "-" for standard output.

    Returns:
        How many lines were written (without a CSV's heading).

    Raises:
        StoreError: the file cannot be written; what was there before is untouched then.
    """
    with tempfile.TemporaryDirectory(prefix="lossbook-export-") as folder:
        tables = [_history(run, keys) for run in runs]
        # To DuckDB, `Loss` and `loss` are one column: each has a place of its own until it is written.
        places: dict[str, str] = {}
        for table in tables:
            for column in table.columns:
                places.setdefault(column, f"c{len(places)}")
        # A metric may be called `run` itself: it keeps its name, the identity gives way.
        before = "lossbook_" if {"run", "name"} & {column.lower() for column in places} else ""
        parts = []
        for position, (run, table) in enumerate(zip(runs, tables, strict=True)):
            if progress is not None:
                progress(position, len(runs))
            path = os.path.join(folder, f"{position}.parquet")
            table.renamed([places[column] for column in table.columns]).write(path, "parquet")
            parts.append(
                f"SELECT {quote(run.id)} AS run, {quote(run.name)} AS name, * FROM read_parquet({quote(path)}, "
                "hive_partitioning = false)"
            )
        query = " UNION ALL BY NAME ".join(parts)
        names = [f"{before}run", f"{before}name", *places]
        return _write(book, query, format, output, scratch=folder, names=names)


def _history(run: RecordedRun, keys: list[str] | None) -> QueryResult:
    if keys is None:
        return run.history()
    present = set(run.keys())
    found = [key for key in (find_key(one, present) for one in keys) if key is not None]
    return run.history(list(dict.fromkeys(found)))


def export_long(book: Book, runs: Sequence[RecordedRun], keys: list[str] | None, format: str, output: str) -> int:
    """Write one line a value, in the columns of the sealed schema; otherwise as `export_wide`."""
    wanted = ""
    if keys is not None:
        every = {run.id: set(run.keys()) for run in runs}
        found = {key for present in every.values() for one in keys if (key := find_key(one, present)) is not None}
        wanted = f" WHERE key IN ({', '.join(map(quote, sorted(found)))})"
    columns = ", ".join(_LONG)
    query = f"SELECT {columns} FROM metrics{wanted} ORDER BY project, run, key, step, row"
    connection = book.connection().cursor()
    with tempfile.TemporaryDirectory(prefix="lossbook-export-") as folder:
        path = os.path.join(folder, "long.parquet")
        query_runs(connection, query, list(runs)).write(path, "parquet")
        rows = f"SELECT * FROM read_parquet({quote(path)}, hive_partitioning = false)"
        return _write(book, rows, format, output, scratch=folder)


def export_page(
    book: Book, runs: Sequence[RecordedRun], keys: list[str] | None, output: str, points: int | None
) -> list[str]:
    """Write one HTML file that holds some runs and the page that shows them.

    Args:
        points: of each curve at the most; None for as many as is usual.

    Returns:
        What to tell: what was written, and what was left out of it.

    Raises:
        BadArgument: it would be too large for a page.
        StoreError: the file cannot be written, or this copy of Lossbook has no built page.
    """
    from lossbook.formatting import plural
    from lossbook.paths import replace_file
    from lossbook.web import POINTS, make_html_page

    page = make_html_page(book, runs, keys=keys, points=points or POINTS)
    if output == "-":
        sys.stdout.buffer.write(page.text)
        sys.stdout.buffer.flush()
        return []
    try:
        replace_file(output, page.text, durable=False)
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror}") from None
    size = f"{len(page.text) / 1e6:.1f} MB"
    told = [f"{plural(page.curves, 'curve')} of {plural(page.runs, 'run')} in {output} ({size}): open it in a browser"]
    if page.left_out:
        shown = "; ".join(page.left_out[:5])
        more = f"; and {len(page.left_out) - 5} more" if len(page.left_out) > 5 else ""
        told.append(f"left out: {shown}{more}")
    return told


def _write(
    book: Book, query: str, format: str, output: str, *, scratch: str, names: Sequence[str] | None = None
) -> int:
    connection = book.connection().cursor()
    table = QueryResult(connection, query)
    if format in ("json", "jsonl"):
        table = QueryResult(connection, _json_safe(query, table))
    if names is not None:
        table = table.renamed(names)
    count = len(table)
    if output != "-":
        folder = os.path.dirname(os.path.abspath(output))
        if not os.path.isdir(folder):
            raise StoreError(f"{output} cannot be written: there is no folder {folder}")
        try:
            table.write(output, format)
        except LossbookError as error:
            raise StoreError(str(error)) from None
        return count
    path = os.path.join(scratch, "output")
    table.write(path, format)
    sys.stdout.flush()
    with open(path, "rb") as file:
        if isinstance(sys.stdout, GuardedText):
            sys.stdout.write(file.read().decode("utf-8", "replace"))
        elif hasattr(sys.stdout, "buffer"):
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
        else:
            sys.stdout.write(file.read().decode())
    return count


def _json_safe(query: str, table: QueryResult) -> str:
    """The same rows with NaN and the infinities as strings: JSON has no numbers for them."""
    columns = []
    for name, kind in zip(table.columns, table.types, strict=True):
        column = quote_name(name)
        if kind in ("DOUBLE", "FLOAT"):
            columns.append(
                f"CASE WHEN isfinite({column}) THEN to_json({column}) WHEN isnan({column}) THEN to_json('NaN') WHEN "
                f"{column} > 0 THEN to_json('Infinity') WHEN {column} < 0 THEN to_json('-Infinity') END AS {column}"
            )
        else:
            columns.append(column)
    return f"SELECT {', '.join(columns)} FROM ({query})"
