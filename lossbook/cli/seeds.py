"""`seeds`: what runs that differ in their seed alone say together, as a table, a comparison or a curve's band."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import KEY, Settings, common_options
from lossbook.cli.comparing import (
    GOAL,
    check_output,
    fitting_runs,
    run_filters,
    table_format,
    table_output,
    write_output,
)
from lossbook.cli.format import plural, printable, screen, to_json
from lossbook.errors import BadArgument, StoreError, UnknownKey, UnknownRun

if TYPE_CHECKING:
    from lossbook.analysis import Band, SeedTable
    from lossbook.book import Book
    from lossbook.json_shapes import JsonObject
    from lossbook.reading import RecordedRun

FORMATS = ("text", "markdown", "latex", "csv", "json", "parquet")
VALUES = ("last", "best", "min", "max", "mean")


@click.command(
    "seeds",
    epilog="""\b
A group is the runs that have all settings in common but seeds, places and names
of one run; what was not looked at stands below the table.

\b
Examples:
  lossbook seeds val/loss
  lossbook seeds val/loss --by config.optimizer --format markdown
  lossbook seeds val/loss --pivot optimizer,lr --output table.tex
  lossbook seeds val/loss --against optimizer=adamw optimizer=muon
  lossbook seeds --band train/loss --output band.csv""",
)
@click.argument("metric", required=False, default="val/loss", type=KEY, metavar="[METRIC]")
@run_filters
@click.option("--by", metavar="A,B,...", help="Group by these names alone, as --where has them.")
@click.option(
    "--ignore", multiple=True, metavar="NAME", help="Leave this setting out of the groups; a pattern; may be repeated."
)
@click.option(
    "--value",
    type=click.Choice(VALUES),
    default="last",
    show_default=True,
    help="What of each run counts, over all rows.",
)
@click.option("--goal", type=GOAL, help="Which way is better, where that is not known.")
@click.option("--confidence", type=float, default=0.95, show_default=True, metavar="SHARE", help="Of the intervals.")
@click.option("--pivot", metavar="ROWS,COLUMNS", help="A grid of two settings: mean ± std (runs).")
@click.option("--against", nargs=2, metavar="A B", help="Compare two groups, each named by its settings.")
@click.option("--band", metavar="KEY", help="The curve of this metric over each group, every row, as CSV or Parquet.")
@click.option("--x", metavar="AXIS", help="With --band: step, tokens, wallclock, time, a metric [default: step].")
@click.option(
    "--points",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="With --band: places at the most [default: every row].",
)
@click.option("--smooth", metavar="FILTER", help="With --band: ema:0.99, mean:50, median:50 or gaussian:20.")
@table_output(FORMATS)
@common_options()
@click.pass_obj
def seeds_command(
    settings: Settings,
    metric: str,
    where: str | None,
    group: str | None,
    tags: tuple[str, ...],
    by: str | None,
    ignore: tuple[str, ...],
    value: str,
    goal: str | None,
    confidence: float,
    pivot: str | None,
    against: tuple[str, str] | None,
    band: str | None,
    x: str | None,
    points: int | None,
    smooth: str | None,
    format: str | None,
    output: str | None,
    force: bool,
) -> None:
    """Summarize runs over their seeds: mean, spread, interval.

    METRIC is val/loss unless it is named. Every row of a run counts, none is sampled.
    """
    if sum(one is not None for one in (pivot, against, band)) > 1:
        raise click.UsageError("one of --pivot, --against and --band at a time")
    if band is None and (x is not None or points is not None or smooth is not None):
        raise click.UsageError("--x, --points and --smooth are for --band KEY")
    if output is not None:
        check_output(output, force)
    shape = _shape(settings, format, output)
    runs = fitting_runs(settings, where, group, tags)
    if not runs:
        if settings.project is not None and settings.project not in settings.book().projects():
            settings.run(None)  # refuses, with the names that there are
        raise UnknownRun("no run fits; `lossbook ls` lists the runs that there are")
    names = [part.strip() for part in by.split(",") if part.strip()] if by is not None else None
    if band is not None:
        shape = "csv" if shape == "text" else shape
        rows = _bands(runs, band, names, ignore, x or "step", points, smooth, confidence)
        _write_rows(settings.book(), rows, shape, output)
        return
    from lossbook.analysis import seed_table

    table = seed_table(runs, metric, by=names, ignore=ignore, value=value, goal=goal, confidence=confidence)
    if against is not None:
        _compare(table, against, shape, output)
        return
    if shape == "parquet":
        if pivot is not None:
            raise BadArgument("a pivot table is text, markdown, latex, csv or json: leave --pivot out for Parquet")
        _write_rows(settings.book(), table.dicts(), shape, output)
        return
    width = screen().width if output is None else 0
    text = _table(table, shape, width) if pivot is None else _pivot(table, pivot, shape, width)
    _tell(text, output, f"{plural(len(table.groups), 'group')} of {plural(len(runs), 'run')}")
    if shape not in ("text", "json"):
        for remark in table.remarks:
            click.echo(printable(remark), err=True)


def _shape(settings: Settings, format: str | None, output: str | None) -> str:
    if settings.json:
        if format not in (None, "json"):
            raise click.UsageError(f"--json and --format {format} contradict each other")
        return "json"
    shape = table_format(FORMATS, format, output)
    if shape == "parquet" and output is None:
        raise click.UsageError("--format parquet needs a file: --output FILE.parquet")
    return shape


def _table(table: SeedTable, shape: str, width: int) -> str:
    if shape == "json":
        return f"{to_json(table.to_dict())}\n"
    if shape == "csv":
        return table.csv()
    return {"markdown": table.markdown, "latex": table.latex}.get(shape, lambda: table.text(width))() + "\n"


def _pivot(table: SeedTable, names: str, shape: str, width: int) -> str:
    rows, comma, columns = names.partition(",")
    if not comma or not rows.strip() or not columns.strip() or "," in columns:
        raise BadArgument(f"--pivot {names!r} is not ROWS,COLUMNS: two settings with a comma between")
    found = table.pivot(rows, columns)
    if shape == "json":
        return f"{to_json(found.dicts())}\n"
    if shape == "csv":
        return found.csv()
    if shape in ("markdown", "latex"):
        return {"markdown": found.markdown, "latex": found.latex}[shape]() + "\n"
    notes = [printable(note) for note in table.remarks]
    return "\n".join([printable(found.title), found.text(width), *notes]) + "\n"


def _compare(table: SeedTable, against: tuple[str, str], shape: str, output: str | None) -> None:
    from lossbook.analysis import compare_groups

    if shape not in ("text", "json"):
        raise BadArgument(f"a comparison of two groups is text or json, not {shape}")
    first, second = (table.find(one) for one in against)
    if first is second:
        raise BadArgument(f"{against[0]!r} and {against[1]!r} are one group: name two")
    found = compare_groups(
        first.runs,
        second.runs,
        table.metric,
        value=table.value,
        goal=table.goal,
        confidence=table.confidence,
        names=(first.label, second.label),
    )
    _tell(f"{to_json(found.to_dict()) if shape == 'json' else found.text()}\n", output, "two groups compared")


def _tell(text: str, output: str | None, what: str) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    write_output(output, text)
    click.echo(f"{what} in {output}", err=True)


# -- bands ----------------------------------------------------------------------------------------------------------


def _bands(
    runs: Sequence[RecordedRun],
    key: str,
    by: list[str] | None,
    ignore: Sequence[str],
    x: str,
    points: int | None,
    smoothing: str | None,
    confidence: float,
) -> list[JsonObject]:
    """A line for each group and place."""
    from lossbook.analysis import group_runs, seed_band, setting_column

    rows: list[JsonObject] = []
    missing: UnknownKey | None = None
    found: list[tuple[JsonObject, Band]] = []
    for group in group_runs(runs, by, ignore).groups:
        try:
            band = seed_band(group.runs, key, x=x, points=points, smoothing=smoothing, confidence=confidence)
        except UnknownKey as error:
            missing = error
            click.echo(f"{printable(group.label)}: {printable(error)}", err=True)
            continue
        settings = {setting_column(name): value for name, value in group.settings.items()}
        found.append(({"project": group.project, **settings}, band))
    if missing is not None and not found:
        raise missing
    for before, band in found:
        rows += [before | row for row in band.dicts()]
    if not rows:
        raise UnknownKey(f"{key!r} has no finite value in any of {plural(len(runs), 'run')}")
    return rows


def _write_rows(book: Book, rows: Sequence[JsonObject], shape: str, output: str | None) -> None:
    from lossbook.analysis import csv_text

    if shape == "parquet":
        assert output is not None
        _write_parquet(book, rows, output)
        click.echo(f"{plural(len(rows), 'row')} in {output}", err=True)
        return
    if shape not in ("csv", "json"):
        raise BadArgument(f"a band is csv, json or parquet, not {shape}")
    _tell(csv_text(rows) if shape == "csv" else f"{to_json(list(rows))}\n", output, plural(len(rows), "row"))


def _write_parquet(book: Book, rows: Sequence[JsonObject], output: str) -> None:
    from lossbook.analysis import setting_text
    from lossbook.reading import QueryResult
    from lossbook.storage import quote_name

    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise StoreError(f"{output} cannot be written: there is no folder {folder}")
    columns, kinds = [], []
    for name in rows[0]:
        values = [row[name] for row in rows]
        known = [value for value in values if value is not None]
        if name in ("runs", "count"):
            kind = "BIGINT"
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
            kind = "DOUBLE"
        else:
            kind = "VARCHAR"
            values = [
                None if value is None else value if isinstance(value, str) else setting_text(value) for value in values
            ]
        columns.append(values)
        kinds.append(f"unnest(?::{kind}[]) AS {quote_name(name)}")
    QueryResult(book.connection().cursor(), f"SELECT {', '.join(kinds)}", columns).write(output, "parquet")
