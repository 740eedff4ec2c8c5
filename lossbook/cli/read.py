"""`keys`, `curve`, `export` and `sql`: the numbers themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lossbook.cli.app import KEY, RUN, Settings, common_options
from lossbook.cli.format import Column, number, plural, printable, screen, table, to_json
from lossbook.cli.questions import heading, print_json
from lossbook.cli.runs import flatten, metrics_table
from lossbook.cli.series import curves, picture
from lossbook.errors import BadArgument, BadQuery, StoreError, UnknownKey, UnknownRun

if TYPE_CHECKING:
    from lossbook.reading.run import RecordedRun

_GROUPS = ("training", "validation", "GPU", "system", "other")
_CURVE_COLUMNS = ("x", "first", "last", "min", "max", "mean", "count", "nonfinite")
FORMATS = ("csv", "parquet", "json", "jsonl")


# -- keys ---------------------------------------------------------------------------------------------------------


@click.command(
    "keys",
    epilog="""\b
Examples:
  lossbook keys
  lossbook keys baseline --json
  lossbook --store wandb://ENTITY/PROJECT keys""",
)
@click.argument("ref", required=False, type=RUN, metavar="[RUN]")
@common_options()
@click.pass_obj
def keys_command(settings: Settings, ref: str | None) -> None:
    """List a run's metrics in groups, with their last values."""
    run = settings.run(ref)
    if settings.json:
        answer_keys(run, True)
        return
    metrics = run.metrics
    view = screen()
    name, *more = heading(run)
    lines = [view.paint(name, bold=True), *more, "", *_count_of_keys(run)]
    empty = {"last": None, "min": None, "max": None, "mean": None, "count": None}
    for group, keys in _grouped(run).items():
        lines += ["", view.paint(f"{group} ({len(keys)})", bold=True)]
        lines += metrics_table({key: metrics.get(key, empty) for key in keys}, view)
    single = _only_in_summary(run)
    if single:
        values = dict(flatten(run.summary))
        lines += ["", view.paint(f"summary ({len(single)})", bold=True)]
        lines += table(
            [Column("metric", shrink=True, keep=9), Column("value", right=True, keep=8)],
            [[printable(key), printable(number(values[key]))] for key in single],
            view,
        )
    click.echo("\n".join(lines), color=view.color)


def answer_keys(run: RecordedRun, as_json: bool) -> None:
    """Print the names of a run's metrics, those of GPUs and of training first."""
    grouped, single = _grouped(run), _only_in_summary(run)
    if as_json:
        count = sum(len(keys) for keys in grouped.values())
        print_json(run, {"count": count, "groups": grouped, "summary": single, "metrics": dict(run.metrics)})
        return
    lines = [*heading(run), "", *_count_of_keys(run)]
    losses = sorted([*grouped.get("training", ()), *grouped.get("validation", ())])
    for title, keys in (
        ("GPU-related keys", grouped.get("GPU", ())),
        ("Training metrics keys", losses),
        ("System metrics keys", grouped.get("system", ())),
        ("Other keys", grouped.get("other", ())),
        ("Summary keys, of one value each", single),
    ):
        if keys:
            lines += ["", f"{title}:", *(f"  - {printable(key)}" for key in keys)]
    click.echo("\n".join(lines))


def _grouped(run: RecordedRun) -> dict[str, list[str]]:
    """The keys of each group that has some, sorted."""
    grouped: dict[str, list[str]] = {group: [] for group in _GROUPS}
    for key in sorted(run.keys()):
        grouped[group_of(key)].append(key)
    return {group: keys for group, keys in grouped.items() if keys}


def _only_in_summary(run: RecordedRun) -> list[str]:
    """Numbers that were set once, at the end, and are no series; what a tracker adds for itself is left out."""
    series = set(run.keys())
    return sorted(
        key
        for key, value in flatten(run.summary)
        if isinstance(value, (int, float)) and key not in series and not key.startswith("_")
    )


def _count_of_keys(run: RecordedRun) -> Iterator[str]:
    count = len(run.keys()) + len(_only_in_summary(run))
    yield f"Total unique keys: {count}"
    if not count:
        yield "No metric has been logged."


def group_of(key: str) -> str:
    """Which of "training", "validation", "GPU", "system", "other" a metric belongs to, by its name."""
    name = key.lower()
    first = name.replace(".", "/").replace("_", "/").split("/", 1)[0]
    if "gpu" in name or name.startswith("cuda"):
        return "GPU"
    if first in ("system", "cpu", "memory", "disk", "network", "process", "host", "proc"):
        return "system"
    if first in ("val", "eval", "valid", "validation", "test", "dev"):
        return "validation"
    if first in (
        "train",
        "training",
        "loss",
        "lr",
        "learning",
        "grad",
        "gradient",
        "optim",
        "optimizer",
        "throughput",
        "tokens",
        "time",
        "progress",
        "perplexity",
        "epoch",
        "sparsity",
        "mfu",
        "final",
        "best",
    ):
        return "training"
    return "other"


# -- curve --------------------------------------------------------------------------------------------------------


@click.command(
    "curve",
    epilog="""\b
Numbers come as CSV where the output is no terminal, so that this plots and that counts:
  lossbook curve baseline train/loss
  lossbook curve baseline,wide train/loss,val/loss --x wallclock --log
  lossbook curve latest train/loss --points 500 > curve.csv""",
)
@click.argument("runs_and_more", type=RUN, metavar="RUN[,RUN...]")
@click.argument("keys", type=KEY, metavar="KEY[,KEY...]")
@click.option("--x", default="step", show_default=True, metavar="AXIS", help="step, tokens, wallclock, time, a metric.")
@click.option("--points", type=click.IntRange(1, 100_000), metavar="N", help="Buckets at the most [default: 1000].")
@click.option("--start", type=float, metavar="X", help="Only from this x on.")
@click.option("--end", type=float, metavar="X", help="Only up to this x.")
@click.option("--csv", "as_csv", is_flag=True, help="Print numbers as CSV, also on a terminal.")
@click.option("--draw", "as_picture", is_flag=True, help="Draw, also where the output is no terminal.")
@click.option("--log", is_flag=True, help="Draw on a logarithmic y axis.")
@click.option("--width", type=click.IntRange(24, 1000), metavar="N", help="Columns of the drawing.")
@click.option("--height", type=click.IntRange(6, 200), metavar="N", help="Lines of the drawing.")
@common_options()
@click.pass_obj
def curve_command(
    settings: Settings,
    runs_and_more: str,
    keys: str,
    x: str,
    points: int | None,
    start: float | None,
    end: float | None,
    as_csv: bool,
    as_picture: bool,
    log: bool,
    width: int | None,
    height: int | None,
) -> None:
    """Draw metrics of one or more runs, or print their numbers.

    Each bucket keeps its smallest and its largest value, so a spike of one row is always there.
    """
    runs = _several_runs(settings, runs_and_more)
    wanted = _several_keys(runs, keys)
    view = screen()
    if not settings.json and not as_csv and (as_picture or view.is_terminal):
        drawing = picture(
            runs, wanted, view, x=x, log=log, width=width, height=height, start=start, end=end, points=points
        )
        click.echo("\n".join(drawing), color=view.color)
        return
    found = curves(runs, wanted, x=x, points=points or 1000, start=start, end=end)
    columns = [
        (run, key, {name: getattr(curve, name).tolist() for name in _CURVE_COLUMNS}) for run, key, curve in found
    ]
    if settings.json:
        shown = [{"run": run.id, "name": run.name, "key": key, "axis": x, **one} for run, key, one in columns]
        click.echo(to_json(shown))
        return
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("run", "key", *_CURVE_COLUMNS))
    for run, key, one in columns:
        writer.writerows((run.id, key, *row) for row in zip(*(one[name] for name in _CURVE_COLUMNS), strict=True))


def _several_runs(settings: Settings, text: str) -> list[RecordedRun]:
    # A name may hold a comma itself.
    if "," in text:
        try:
            return [settings.run(text)]
        except UnknownRun:
            return settings.runs([part.strip() for part in text.split(",") if part.strip()])
    return [settings.run(text)]


def _several_keys(runs: Sequence[RecordedRun], text: str) -> list[str]:
    if any(text in set(run.keys()) for run in runs):
        return [text]
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise UnknownKey("no key was named: `lossbook keys` lists them")
    return list(dict.fromkeys(wanted))


# -- export -------------------------------------------------------------------------------------------------------


@click.command(
    "export",
    epilog="""\b
Wide: one line a step, one column a metric. Long: one line a value
(run, project, key, row, step, time, value, rank, attempt).

\b
Examples:
  lossbook export baseline --keys train/loss,val/loss -o baseline.csv
  lossbook export --project gpt2 --format parquet --long -o gpt2.parquet
  lossbook export --project gpt2 --html -o gpt2.html   the page itself, to send to somebody
  lossbook export baseline --format jsonl -o - | head""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@click.option("--format", "-f", type=click.Choice(FORMATS), help="[default: what the file's name ends in, else csv]")
@click.option("--keys", "-k", metavar="A,B,...", help="Only these metrics.")
@click.option("--wide/--long", "wide", default=True, help="One line a step (the default), or one line a value.")
@click.option("--output", "-o", metavar="FILE", default="-", help="The file to write; - is standard output.")
@click.option("--html", is_flag=True, help="One page with the curves and all else, that opens without Lossbook.")
@click.option(
    "--points",
    type=click.IntRange(10, 20_000),
    metavar="N",
    help="With --html: points of each curve at the most, extremes kept [default: 1000].",
)
@click.option("--force", is_flag=True, help="Replace the file where there is one.")
@common_options()
@click.pass_obj
def export_command(
    settings: Settings,
    refs: tuple[str, ...],
    format: str | None,
    keys: str | None,
    wide: bool,
    output: str,
    html: bool,
    points: int | None,
    force: bool,
) -> None:
    """Write runs as CSV, Parquet or JSON, or as one page to send.

    Without a run it is the latest one, or with --project every run of that project.
    """
    from lossbook.cli.exporting import export_long, export_page, export_wide

    html = html or (format is None and output.lower().endswith((".html", ".htm")))
    if html and format is not None:
        raise BadArgument(f"--html and --format {format} are two files: ask for one of them")
    if points is not None and not html:
        raise BadArgument("--points is for --html: other formats have every row")
    if settings.json and format is None:
        format = "json"
    if format is None:
        ending = output.rpartition(".")[2].lower()
        format = {"ndjson": "jsonl", "pq": "parquet"}.get(ending, ending if ending in FORMATS else "csv")
    if output == "/dev/stdout":
        output = "-"
    if output != "-" and os.path.exists(output) and not os.path.isfile(output):
        # The file is renamed into place, which would do away with a device or a pipe.
        raise BadArgument(f"{output} is no ordinary file: write to - and redirect that")
    if output != "-" and os.path.lexists(output) and not force:
        raise StoreError(f"{output} is there already: --force replaces it")
    if output == "-" and format == "parquet" and sys.stdout.isatty():
        raise BadArgument("Parquet is not for the terminal: name a file with -o FILE")
    if html and output == "-" and sys.stdout.isatty():
        raise BadArgument("a page is not for the terminal: name a file with -o FILE.html")
    if refs:
        runs = settings.runs(refs)
    elif settings.project:
        runs = settings.book().runs(project=settings.project)
        if not runs:
            raise UnknownRun(f"the project {settings.project!r} has no runs in {settings.location}")
    else:
        runs = [settings.run(None)]
    wanted = _known_keys(runs, keys)
    if html:
        for sentence in export_page(settings.book(), runs, wanted, output, points):
            click.echo(sentence, err=True)
        return
    write = export_wide if wide else export_long
    count = write(settings.book(), runs, wanted, format, output)
    if output != "-":
        click.echo(f"{plural(count, 'row')} of {plural(len(runs), 'run')} in {output}", err=True)


def _known_keys(runs: Sequence[RecordedRun], text: str | None) -> list[str] | None:
    if text is None:
        return None
    wanted = _several_keys(runs, text)
    from lossbook.metrics import find_key, nearest

    every = set().union(*(run.keys() for run in runs))
    for key in wanted:
        if find_key(key, every) is None:
            close = nearest(key, every)
            hint = f"the nearest are {', '.join(close)}" if close else "`lossbook keys` lists what there is"
            raise UnknownKey(f"no run among those named logged {key!r}: {hint}")
    return wanted


# -- sql ----------------------------------------------------------------------------------------------------------


@click.command(
    "sql",
    epilog="""\b
Tables: metrics (run, project, key, row, step, time, value, rank, attempt) and
runs (a line each). The language is DuckDB's; - reads the query from standard input.

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
        writer.writerow(columns_named)
        writer.writerows([number(one, 17) if isinstance(one, float) else one for one in row] for row in rows)
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


def _ask(settings: Settings, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns and the rows; what DuckDB holds as JSON is parsed.

    Raises:
        BadQuery: the query cannot be run, or fails on a row.
    """
    import duckdb
    import orjson

    from lossbook.reading.query_result import first_sentence
    from lossbook.storage.schema import quote_name

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


def _is_numeric(rows: Sequence[Sequence[Any]], position: int) -> bool:
    values = [row[position] for row in rows[:100] if row[position] is not None]
    return bool(values) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
