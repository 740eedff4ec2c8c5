"""`sql`: a question to all runs in SQL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import Settings, common_options
from lossbook.cli.format import Column, number, printable, screen, table, to_json
from lossbook.errors import BadArgument, BadQuery
from lossbook.formatting import csv_cell

if TYPE_CHECKING:
    pass


@click.command(
    "sql",
    epilog="""\b
Tables: metrics (project, run, name, key, row, step, time, value, rank, attempt),
the rows that count; all_metrics, with rows that a later attempt replaced;
finite_metrics, without NaN and infinities: max, min and avg over it are those of
`lossbook show`, where over metrics one NaN is the maximum and the mean; runs (a
line each); events; seeds (project, metric, settings, runs, mean, median, std,
standard_error, low, high: the last values over runs that differ in their seed
alone, see `lossbook seeds`). The language is DuckDB's; - reads the query from standard input.

\b
Examples:
  lossbook sql "select run, min(value) from metrics where key = 'val/loss' group by run"
  lossbook sql "select * from runs" --csv > runs.csv""",
)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most so many rows; a terminal gets a screenful otherwise.",
)
@common_options(project=False)
@click.pass_obj
def sql_command(settings: Settings, query: str, as_csv: bool, limit: int | None) -> None:
    """Ask all runs a question in SQL."""
    if query == "-":
        query = sys.stdin.read()
    if not query.strip():
        raise BadArgument("the query is empty")
    columns_named, rows = _ask(settings, query)
    total = len(rows)
    if limit is not None:
        rows = rows[:limit]
    if settings.json:
        click.echo(to_json([dict(zip(columns_named, row, strict=True)) for row in rows]))
        return
    if as_csv:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(csv_cell, columns_named))
        writer.writerows([number(one, 17) if isinstance(one, float) else csv_cell(one) for one in row] for row in rows)
        return
    view = screen()
    if view.is_terminal and limit is None:
        rows = rows[: max(20, view.height - 4)]
    columns = [
        Column(printable(name), right=_is_numeric(rows, position), shrink=True, keep=5)
        for position, name in enumerate(columns_named)
    ]
    lines = table(columns, [[number(one, 7) for one in row] for row in rows], view)
    if total > len(rows):
        lines.append(view.paint(f"and {total - len(rows)} more of {total} rows: --limit N shows more", dim=True))
    elif not rows:
        lines.append(view.paint("(no rows)", dim=True))
    click.echo("\n".join(lines), color=view.color)


def _ask(settings: Settings, query: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """The names of the columns and the rows; what DuckDB holds as JSON is parsed.

    Raises:
        BadQuery: the query cannot be run, or fails on a row.
    """
    import duckdb
    import orjson

    from lossbook.reading import first_sentence
    from lossbook.storage import quote_name

    book = settings.book()
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise BadQuery(first_sentence(error)) from None
    if len(statements) != 1:
        raise BadQuery(f"one query at a time: there are {len(statements)} in this text")
    if statements[0].type.name not in ("SELECT", "EXPLAIN", "MULTI"):
        raise BadQuery(f"only questions can be asked (select, describe, summarize); this is {statements[0].type.name}")
    found = book.sql(query)
    zoned = [name for name, kind in zip(found.columns, found.types, strict=True) if kind == "TIMESTAMP WITH TIME ZONE"]
    try:
        if zoned:
            # DuckDB hands these over through pytz, which nobody else here needs.
            as_text = ", ".join(f"{quote_name(name)}::VARCHAR AS {quote_name(name)}" for name in zoned)
            found = book.sql(f"SELECT * REPLACE ({as_text}) FROM ({query.strip().rstrip(';')})")
        rows = found.rows()
    except duckdb.Error as error:
        raise BadQuery(first_sentence(error)) from None
    parsed = [position for position, kind in enumerate(found.types) if kind == "JSON"]
    if parsed and settings.json:
        rows = [
            tuple(orjson.loads(one) if at in parsed and one is not None else one for at, one in enumerate(row))
            for row in rows
        ]
    return found.columns, rows


def _is_numeric(rows: Sequence[Sequence[object]], position: int) -> bool:
    values = [row[position] for row in rows[:100] if row[position] is not None]
    return bool(values) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
