"""Gives the rows of a query to pandas, Polars, Arrow, numpy or a file; none of them need be installed."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lossbook.errors import BadArgument, BadQuery, MissingLibrary, StoreError
from lossbook.lazy import shown_by
from lossbook.metrics import nearest
from lossbook.paths import replacing
from lossbook.storage import quote, quote_name

if TYPE_CHECKING:
    import duckdb

    from lossbook.storage import Columns, Rows

Answer = TypeVar("Answer")
#: A query is written anew so many times in a row at the most.
_MOST_RENEWALS = 20
#: The views of `book.sql`.
TABLES = ("metrics", "finite_metrics", "all_metrics", "runs", "events", "seeds")
_NO_TABLE = re.compile(r"Catalog Error: Table with name (\S+) does not exist")
FORMATS = {
    "csv": "FORMAT csv, HEADER true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "json": "FORMAT json, ARRAY true",
    "jsonl": "FORMAT json, ARRAY false",
}


class QueryResult:
    """The rows of one query, read when they are asked for; each call reads them anew.

    Files that the query names may be sealed, merged or found damaged before its rows are asked for: it is then written
    anew, and answers as of now.

    Args:
        renew: writes the query anew for the files as they are now; None when they are as they were, and it is the query
            itself that cannot be run.

    Raises (every method):
        BadQuery: the query fails on the rows themselves (a text where a number was needed, say).
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: str,
        parameters: Sequence[object] | None = None,
        *,
        renew: Callable[[], str | None] | None = None,
    ) -> None:
        if not query.strip(" \n\t;"):
            raise BadQuery("the query is empty; write for example: select run, min(value) from metrics group by run")
        self._connection = connection
        self._query = query
        self._parameters = parameters
        self._renew = renew
        self._result: Rows | None = None
        if _is_query(connection, query):
            description = self._ask(lambda text: self._run(f"DESCRIBE {text}").fetchall())
            self.columns = [str(row[0]) for row in description]
            self.types = [str(row[1]) for row in description]
        else:
            # A statement that does something is run once, here; its rows are kept.
            result = self._ask(self._run)
            self.columns = [str(column[0]) for column in result.description or ()]
            self.types = [str(column[1]) for column in result.description or ()]
            self._result = result.fetchall() if self.columns else []
        # Each once: of `select a.step, b.step` the second is `step_1`.
        self.columns = _each_once(self.columns)

    def _run(self, query: str) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(query, self._parameters)

    def _ask(self, question: Callable[[str], Answer]) -> Answer:
        """Ask something of the query's rows; again with the query written anew where files went under it.

        Args:
            question: takes the query's text.
        """
        import duckdb

        for turn in range(_MOST_RENEWALS + 1):
            try:
                return question(self._query)
            except (duckdb.Error, UnicodeDecodeError) as error:
                renewed = None
                if self._renew is not None and turn < _MOST_RENEWALS and not isinstance(error, _lasting_errors()):
                    renewed = self._renew()
                if renewed is None:
                    raise BadQuery(first_sentence(error)) from None
                self._query = renewed
        raise AssertionError

    def rows(self) -> Rows:
        """All rows as tuples."""
        return self._result if self._result is not None else self._ask(lambda text: self._run(text).fetchall())

    def dicts(self) -> list[dict[str, Any]]:
        """All rows as dictionaries."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]

    def numpy(self) -> Columns:
        """Columns as arrays of shape (number of rows,), masked where they have nulls."""
        arrays: Columns = self._ask(lambda text: self._run(text).fetchnumpy())
        # DuckDB renames columns that differ in capitals alone.
        return dict(zip(self.columns, arrays.values(), strict=True))

    def df(self) -> Any:
        """As a pandas DataFrame.

        Raises:
            MissingLibrary: pandas is not installed.
        """
        _need("pandas")
        frame = self._ask(lambda text: self._run(text).df())
        frame.columns = self.columns
        return frame

    def pl(self) -> Any:
        """As a Polars DataFrame.

        Raises:
            MissingLibrary: polars (or pyarrow, which DuckDB hands it over with) is not installed.
        """
        polars = _need("polars")
        return polars.DataFrame(self)

    def arrow(self) -> Any:
        """As a pyarrow Table.

        Raises:
            MissingLibrary: pyarrow is not installed.
        """
        pyarrow = _need("pyarrow")
        return pyarrow.table(self)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The Arrow PyCapsule interface: any library that speaks Arrow takes the rows from here."""

        def streamed(text: str) -> Any:
            relation = self._connection.sql(text, params=self._parameters)
            if relation.columns != self.columns:
                relation = self._connection.sql(self._shown(text), params=self._parameters)
            return relation.__arrow_c_stream__(requested_schema)

        return self._ask(streamed)

    def write(self, path: str | os.PathLike[str], format: str) -> None:
        """Write the rows to a file, in one step: a failure leaves what was there before.

        Args:
            format: "csv", "parquet", "json" (one list) or "jsonl" (an object a line).

        Raises:
            BadArgument: another format.
            StoreError: the file cannot be written.
        """
        if format not in FORMATS:
            raise BadArgument(f"format={format!r} is not known: use one of {', '.join(FORMATS)}")
        target = os.fspath(path)
        try:
            with replacing(target) as partial:
                if len({name.lower() for name in self.columns}) == len(self.columns):
                    into = f"TO {quote(partial)} ({FORMATS[format]})"
                    shape = self._without_formulas if format == "csv" else self._shown
                    self._ask(lambda text: self._run(f"COPY ({shape(text)}) {into}"))
                else:
                    self._write_by_rows(partial, format)
        except (BadQuery, OSError) as error:
            raise StoreError(f"{target} could not be written: {first_sentence(error)}") from None

    def _write_by_rows(self, path: str, format: str) -> None:
        """Write names that DuckDB would change: `Loss` beside `loss`."""
        import csv

        import orjson

        from lossbook.formatting import csv_cell

        if format == "parquet":
            # Its columns are named by DuckDB, where there is no pyarrow to do it.
            try:
                from pyarrow import parquet
            except ImportError:
                self._ask(lambda text: self._run(f"COPY ({text}) TO {quote(path)} ({FORMATS[format]})"))
            else:
                parquet.write_table(self.arrow(), path, compression="zstd")
            return

        def written(text: str) -> None:
            result = self._run(text)
            with open(path, "w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                if format == "csv":
                    table.writerow(map(csv_cell, self.columns))
                before = "[\n\t" if format == "json" else ""
                while rows := result.fetchmany(10_000):
                    if format == "csv":
                        table.writerows([csv_cell(_csv_value(value)) for value in row] for row in rows)
                        continue
                    for row in rows:
                        line = dict(zip(self.columns, map(_json_value, row, self.types), strict=True))
                        file.write(f"{before}{orjson.dumps(line).decode()}" + ("\n" if format == "jsonl" else ""))
                        before = ",\n\t" if format == "json" else ""
                if format == "json":
                    file.write("[]\n" if before == "[\n\t" else "\n]\n")

        self._ask(written)

    def renamed(self, names: Sequence[str]) -> QueryResult:
        """The same rows, whose columns are called so."""
        result = copy.copy(self)
        result.columns = _each_once(names)
        return result

    def _shown(self, text: str) -> str:
        """The same rows under the names of the columns, of which DuckDB takes `Loss` and `loss` for one."""
        return self._select(text, [f"given.{place}" for place in self._places], self.columns)

    @property
    def _places(self) -> list[str]:
        return [f"c{at}" for at in range(len(self.columns))]

    def _select(self, text: str, values: Sequence[str], names: Sequence[str]) -> str:
        shown = ", ".join(f"{value} AS {quote_name(name)}" for value, name in zip(values, names, strict=True))
        return f"SELECT {shown} FROM ({text}) AS given({', '.join(self._places)})"

    def _without_formulas(self, text: str) -> str:
        """The same rows with each text, and each name of a column, as `csv_cell` has it."""
        from lossbook.formatting import csv_cell

        values = []
        for place, kind in zip(self._places, self.types, strict=True):
            column = f"given.{place}"
            if kind in ("VARCHAR", "JSON") or kind.startswith("ENUM"):
                whole = f"{column}::VARCHAR"
                is_number = f"TRY_CAST({whole} AS DOUBLE) IS NOT NULL AND NOT regexp_matches({whole}, '^[ \\t\\r\\n]')"
                is_formula = f"regexp_matches({whole}, '^[=+@\\t\\r\\n-]') AND NOT ({is_number})"
                column = f"CASE WHEN {is_formula} THEN chr(39) || {whole} ELSE {whole} END"
            values.append(column)
        return self._select(text, values, [str(csv_cell(name)) for name in self.columns])

    def __len__(self) -> int:
        found = self._ask(lambda text: self._run(f"SELECT count(*) FROM ({text})").fetchone())
        return int(found[0]) if found else 0

    def first(self, count: int) -> Rows:
        """The first rows as tuples, `count` of them at the most."""
        if self._result is not None:
            return self._result[:count]
        return self._ask(lambda text: self._run(f"SELECT * FROM ({text}) LIMIT {int(count)}").fetchall())

    _repr_html_ = shown_by("table_html")

    def __repr__(self) -> str:
        return f"<lossbook table: {', '.join(self.columns)}>"


def _lasting_errors() -> tuple[type[Exception], ...]:
    """Errors of the query itself, whatever the files."""
    import duckdb

    return (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ConversionException,
        duckdb.OutOfRangeException,
        duckdb.OutOfMemoryException,
    )


def first_sentence(error: BaseException) -> str:
    """What DuckDB says, in one line: its first sentence, without the picture of the query."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("LINE ", "^"))]
    unknown = _NO_TABLE.match(kept[0]) if kept else None
    if unknown is not None:
        close = nearest(unknown[1], TABLES, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        return f"there is no table {unknown[1]!r}: there are {', '.join(TABLES)}{meant}"
    return " ".join(kept[:2]) if kept else type(error).__name__


def _each_once(names: Sequence[str]) -> list[str]:
    """The names, with a number behind one that came before."""
    found: list[str] = []
    for name in names:
        once, number = name, 0
        while once in found:
            number += 1
            once = f"{name}_{number}"
        found.append(once)
    return found


def _csv_value(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else "" if value is None else value


def _json_value(value: object, kind: str) -> object:
    """A value as DuckDB writes it into JSON."""
    import orjson

    if kind == "JSON" and isinstance(value, str):
        return orjson.Fragment(value)
    return value if isinstance(value, (int, float, str, list, dict, type(None))) else str(value)


def _is_query(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether the text is one SELECT, which can be described and run again.

    Raises:
        BadQuery: it is no SQL, or several statements.
    """
    import duckdb

    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise BadQuery(first_sentence(error)) from None
    if len(statements) != 1:
        raise BadQuery(f"one statement at a time, not {len(statements)}")
    return bool(statements[0].type == duckdb.StatementType.SELECT)


def _need(library: str) -> Any:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise MissingLibrary(f"this needs {library}: pip install {library}") from None
