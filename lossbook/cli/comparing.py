"""`compare`, `best` and `report`: which run is better, in what it differs, and a log of all of them to write in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import KEY, RUN, Function, Settings, common_options
from lossbook.cli.format import clip, number, plural, printable, screen, to_json
from lossbook.cli.run_output import plain_run
from lossbook.errors import BadArgument, StoreError

if TYPE_CHECKING:
    from lossbook.analysis import Comparison
    from lossbook.reading import RecordedRun

#: Runs that are compared where none are named, unless more are asked for.
COMPARED_RUNS = 50
FORMATS = ("text", "markdown", "latex", "csv")
#: What a file's ending says of the format of a table.
_ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".parquet": "parquet"}
#: The values of `--goal`.
GOAL = click.Choice(("minimize", "maximize"))


def run_filters(function: Function) -> Function:
    """Give a command `--where`, `--group` and `--tag`."""
    for option in (
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag; may be repeated."),
        click.option("--group", metavar="NAME", help="Only runs of this group."),
        click.option("--where", metavar="EXPR", help='Only runs for which this holds, such as "config.lr > 1e-4".'),
    ):
        function = option(function)
    return function


def table_output(formats: Sequence[str]) -> Callable[[Function], Function]:
    """Give a command `--format`, `--output` and `--force`; `table_format` tells the format that they name."""

    def decorate(function: Function) -> Function:
        for option in (
            click.option("--force", is_flag=True, help="Replace the file where there is one."),
            click.option("--output", "-o", metavar="FILE", help="Write to this file."),
            click.option(
                "--format", "-f", type=click.Choice(formats), help="[default: what the file's name ends in, else text]"
            ),
        ):
            function = option(function)
        return function

    return decorate


def table_format(formats: Sequence[str], format: str | None, output: str | None) -> str:
    """The format that was named, else the one of these that the file's name ends in, else text."""
    if format is not None:
        return format
    ending = _ENDINGS.get(os.path.splitext(output or "")[1].lower(), "text")
    return ending if ending in formats else "text"


# -- compare ------------------------------------------------------------------------------------------------------


@click.command(
    "compare",
    epilog="""\b
Columns: best_val_loss, final_val_loss, best_train_loss, final_train_loss,
tokens_per_second, mfu, gpu_utilisation, gpu_memory_utilisation, gpu_memory_gib, wallclock_seconds,
gradient_steps, tokens_seen, last_step, and every name that --where knows.

\b
Examples:
  lossbook compare baseline wide deep --loss 3.0
  lossbook compare --group sweep-lr --sort -tokens_per_second
  lossbook compare --tag paper --format latex --output table.tex""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@run_filters
@click.option(
    "--loss",
    "losses",
    multiple=True,
    type=float,
    metavar="X",
    help="Also when the metric first reached X: time, tokens, step; may be repeated.",
)
@click.option("--metric", "-m", type=KEY, metavar="KEY", help="What decides which is best [default: val/loss].")
@click.option("--goal", type=GOAL, help="Which way the metric is better, where that is not known.")
@click.option("--sort", metavar="COLUMN", help="Order by a column; -COLUMN for descending.")
@click.option("--baseline", type=RUN, metavar="RUN", help="Show the change from this run [default: the first named].")
@click.option("--columns", metavar="A,B,...", help="These columns in place of the usual ones.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    default=COMPARED_RUNS,
    show_default=True,
    metavar="N",
    help="The newest so many, where no run is named.",
)
@table_output(FORMATS)
@common_options()
@click.pass_obj
def compare_command(
    settings: Settings,
    refs: tuple[str, ...],
    where: str | None,
    group: str | None,
    tags: tuple[str, ...],
    losses: tuple[float, ...],
    metric: str | None,
    goal: str | None,
    sort: str | None,
    baseline: str | None,
    columns: str | None,
    limit: int,
    format: str | None,
    output: str | None,
    force: bool,
) -> None:
    """Compare runs: what differs, losses, speed, time; best first.

    Named runs are held against the first of them. Without a name it is the newest runs that fit.
    """
    if refs and (where or group or tags):
        raise click.UsageError("name runs or filter them with --where, --group and --tag, not both")
    if output is not None:
        check_output(output, force)
    book = settings.book()
    left = 0
    if refs:
        runs = settings.runs(refs)
    else:
        runs = fitting_runs(settings, where, group, tags)
        left = max(0, len(runs) - limit)
        runs = runs[:limit]
    held = settings.run(baseline) if baseline else runs[0] if refs and len(runs) > 1 else None
    wanted = [part.strip() for part in columns.split(",") if part.strip()] if columns else []
    if columns is not None and not wanted:
        raise BadArgument("--columns names no column: separate their names by commas")
    found = book.compare(runs, metric=metric, losses=losses, columns=wanted, baseline=held, sort=sort, goal=goal)
    shape = table_format(FORMATS, format, output)
    if output is not None:
        text = to_json(found.to_dict()) if settings.json else _text(found, shape, 0)
        write_output(output, text)
        click.echo(f"{plural(len(found.rows), 'run')} compared in {output}", err=True)
        return
    if settings.json:
        click.echo(to_json(found.to_dict()))
        return
    if not found.rows:
        click.echo("No run fits." if format in (None, "text") else _text(found, shape, 0), nl=format in (None, "text"))
        return
    view = screen()
    click.echo(_text(found, shape, view.width), nl=False, color=view.color)
    if left:
        click.echo(f"and {plural(left, 'older run')}: --limit N or a filter shows them", err=True)


def _text(found: Comparison, shape: str, width: int) -> str:
    if shape == "csv":
        return found.csv()
    written = {"markdown": found.markdown, "latex": found.latex}.get(shape, lambda: found.text(width))()
    return f"{written}\n"


def fitting_runs(settings: Settings, where: str | None, group: str | None, tags: Sequence[str]) -> list[RecordedRun]:
    """The runs that fit the options of `run_filters`."""
    return [
        run
        for run in settings.book().runs(project=settings.project, where=where)
        if (group is None or run.group == group) and all(tag in run.tags for tag in tags)
    ]


def check_output(output: str, force: bool) -> None:
    """Refuse a file that is there already, or that could not be renamed into place.

    Raises:
        BadArgument, StoreError: it is so.
    """
    if os.path.exists(output) and not os.path.isfile(output):
        # The file is renamed into place, which would do away with a device or a pipe.
        raise BadArgument(f"{output} is no ordinary file: leave --output out and redirect that")
    if os.path.lexists(output) and not force:
        raise StoreError(f"{output} is there already: --force replaces it")


def write_output(path: str, text: str) -> None:
    """Write a file in one step.

    Raises:
        StoreError: it cannot be written.
    """
    from lossbook.paths import replace_file

    try:
        replace_file(os.path.realpath(path), text.encode("utf-8", "replace"))
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror or error})") from None


# -- best ---------------------------------------------------------------------------------------------------------


@click.command(
    "best",
    epilog="""\b
Examples:
  lossbook best
  lossbook best val/accuracy --where "group = 'sweep-lr'"
  lossbook best my_score --goal maximize --json""",
)
@click.argument("metric", required=False, default="val/loss", type=KEY, metavar="[METRIC]")
@run_filters
@click.option("--goal", type=GOAL, help="Which way is better, where neither the run nor the name says it.")
@common_options()
@click.pass_obj
def best_command(
    settings: Settings, metric: str, where: str | None, group: str | None, tags: tuple[str, ...], goal: str | None
) -> None:
    """Show the run with the best value of a metric.

    METRIC is val/loss unless it is named. NaN never wins.
    """
    from lossbook.analysis import best_value, direction

    runs = fitting_runs(settings, where, group, tags)
    run, value = settings.book().best(metric, runs=runs, goal=goal)
    way = direction(runs, metric, goal)
    found = best_value(run, metric, way)
    step = found[1] if found is not None else None
    if settings.json:
        click.echo(to_json({"metric": metric, "goal": way, "value": value, "step": step, "run": plain_run(run)}))
        return
    view = screen()
    at = f" at step {step}" if step is not None else ""
    name = view.paint(clip(printable(run.name), 60), bold=True)
    click.echo(f"{name}  {run.id}  {printable(metric)} {number(value, 7)}{at}", color=view.color)


# -- report -------------------------------------------------------------------------------------------------------


@click.command(
    "report",
    epilog="""\b
What stands between the lines that begin with <!-- lossbook: is generated.
Everything else in the file is yours, and a refresh never touches it.

\b
Examples:
  lossbook report
  lossbook report --where "group = 'sweep-lr'" --output sweep.md""",
)
@run_filters
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="The newest so many runs.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    default="EXPERIMENT_LOG.md",
    show_default=True,
    help="The file to write or refresh.",
)
@common_options()
@click.pass_obj
def report_command(
    settings: Settings, where: str | None, group: str | None, tags: tuple[str, ...], limit: int | None, output: str
) -> None:
    """Write or refresh an experiment log in Markdown."""
    from lossbook.analysis import entries_of_runs, write_report

    runs = fitting_runs(settings, where, group, tags)
    runs = runs[: len(runs) if limit is None else limit]
    path = write_report(entries_of_runs(runs), output)
    if settings.json:
        click.echo(to_json({"path": path, "experiments": len(runs)}))
    else:
        click.echo(f"{plural(len(runs), 'experiment')} in {path}")
