"""`ls`: which runs there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import Settings, common_options
from lossbook.cli.format import (
    STATE_COLORS,
    Column,
    Screen,
    age,
    duration,
    number,
    plural,
    printable,
    screen,
    table,
    to_json,
)
from lossbook.cli.run_output import plain_run
from lossbook.cli.source_reading import NOT_READ, read_before_listing
from lossbook.errors import BadArgument
from lossbook.json_shapes import number_or_none
from lossbook.metrics import find_key
from lossbook.reading import FIELDS, bare, compile_value, presence, refuse_unknown

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

#: Runs listed on a terminal unless more are asked for.
SHOWN_RUNS = 50
_SHOWN_METRICS = 40
_LOSSES = ("train/loss", "val/loss")
_SHOWN_EVENTS = 10
#: A key may be 10 kB long; a table is for reading, and `--json` has it whole.
_LONGEST_KEY = 100

BEGIN = """\
No runs yet in {store}. This records one:

    import lossbook

    with lossbook.init(config={{"lr": 3e-4}}) as run:
        for step in range(100):
            run.log({{"train/loss": 1 / (step + 1)}}, step=step)"""


# -- ls -----------------------------------------------------------------------------------------------------------


@click.command(
    "ls",
    epilog="""\b
Columns: id, name, project, state, started, ended, duration, steps, tags, group,
notes, host, error, path; config.KEY; summary.KEY; any metric (its last value),
or METRIC.min, METRIC.max, METRIC.mean.

\b
Examples:
  lossbook ls --where "config.lr > 1e-4 and state = 'finished'" --sort val/loss
  lossbook ls --columns name,state,config.lr,val/loss.min
  lossbook ls --watch""",
)
@click.option("--where", metavar="EXPR", help='Only runs for which this holds, such as "config.lr > 1e-4".')
@click.option("--sort", metavar="KEY", help="Order by a column, a config value or a metric; -KEY for descending.")
@click.option("--columns", metavar="A,B,...", help="Which columns to show.")
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="At most so many runs.")
@click.option("--all", "everything", is_flag=True, help=f"All runs; a terminal gets {SHOWN_RUNS} otherwise.")
@click.option("--watch", is_flag=True, help="Go on, and show what changes until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@common_options()
@click.pass_obj
def ls_command(
    settings: Settings,
    where: str | None,
    sort: str | None,
    columns: str | None,
    limit: int | None,
    everything: bool,
    watch: bool,
    every: float,
) -> None:
    """List runs, the newest first, as they stand now."""
    wanted = [part.strip() for part in columns.split(",") if part.strip()] if columns else None
    if columns is not None and not wanted:
        raise BadArgument("--columns names no column: separate their names by commas")
    while True:
        view = screen()
        text = _listing(settings, view, where, sort, wanted, limit, everything)
        if watch and view.is_terminal:
            # Home, the text with each line cleared behind it, then everything below.
            lines = text.splitlines()[: view.height - 1]
            click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False, color=True)
        else:
            click.echo(text, color=view.color)
        if not watch:
            return
        time.sleep(every)


def _listing(
    settings: Settings,
    view: Screen,
    where: str | None,
    sort: str | None,
    wanted: list[str] | None,
    limit: int | None,
    everything: bool,
) -> str:
    import os

    if settings.store is None and "://" not in settings.location and not os.path.isdir(settings.location):
        return "[]" if settings.json else BEGIN.format(store=settings.location)
    book = settings.book()
    unread = read_before_listing(book, everything=settings.json or wanted is not None)
    found = book.runs(project=settings.project, where=where, sort=sort, limit=limit)
    runs: Sequence[RecordedRun] = found
    if not runs and settings.project is not None and settings.project not in book.projects():
        book.run("latest", project=settings.project)  # refuses, with the names that there are
    for remark in (*found.remarks, *_unknown_columns(book, settings.project, wanted or (), runs)):
        click.echo(f"lossbook: {printable(remark)}", err=True)
    if settings.json:
        if wanted is None:
            return to_json([plain_run(run) for run in runs])
        values = {name: value_of(name) for name in wanted}
        return to_json([{name: of(run) for name, of in values.items()} for run in runs])
    if not runs:
        if where or settings.project:
            return "No run fits."
        return BEGIN.format(store=settings.location)
    rest = 0
    if view.is_terminal and limit is None and not everything:
        rest = max(0, len(runs) - SHOWN_RUNS)
        runs = runs[:SHOWN_RUNS]
    names = wanted or _usual_columns(runs)
    now = time.time()
    texts = [text_of(name, now) for name in names]
    cells = [
        [_unless_unread(text(run), name, run, unread) for name, text in zip(names, texts, strict=True)] for run in runs
    ]
    lines = table([_column(name) for name in names], cells, view)
    if some := [run for run in runs if run.path in unread]:
        note = f"the rows of {plural(len(some), 'run')} are not read yet: `lossbook show RUN` reads those of one"
        lines.append(view.paint(note, dim=True))
    if rest:
        lines.append(view.paint(f"and {plural(rest, 'older run')}: --all, --limit N or --where shows them", dim=True))
    if note := _problems_note(runs):
        if view.is_terminal:
            lines.append(view.paint(note, "yellow"))
        else:
            click.echo(note, err=True)
    return "\n".join(lines)


def _unknown_columns(
    book: Book, project: str | None, wanted: Sequence[str], runs: Sequence[RecordedRun]
) -> Iterator[str]:
    """Remarks on columns that no run has yet.

    Raises:
        BadQuery: no run of the project has one, and none goes on.
    """
    for name in map(bare, wanted):
        has = presence(name)
        if name == "path" or not runs or any(has(run.record) for run in runs):
            continue
        remark = refuse_unknown(name, [run.record for run in book.runs(project)], "columns")
        if remark is not None:
            yield remark


def _unless_unread(text: str, name: str, run: RecordedRun, unread: frozenset[str]) -> str:
    """The cell of a table, unless it is of a figure that nobody knows before the run's rows are read."""
    is_missing = text == "-" or (name == "duration" and not run.duration)
    is_figure = name in ("duration", "steps", "last_step", "rows") or (
        name not in (*FIELDS, "path", "started") and not name.startswith(("config.", "summary."))
    )
    return NOT_READ if run.path in unread and is_missing and is_figure else text


def _problems_note(runs: Sequence[RecordedRun]) -> str:
    """Which of the listed runs lost something, or had no follower; nothing where none did."""
    ids = [run.id for run in runs if run.record.problems]
    if not ids:
        return ""
    some = ", ".join(map(printable, ids[:3])) + (", ..." if len(ids) > 3 else "")
    return f"{plural(len(ids), 'run')} with problems ({some}): lossbook show ID tells them"


def _usual_columns(runs: Sequence[RecordedRun]) -> list[str]:
    names = ["id", "name", "state", "started", "duration", "steps"]
    if len({run.project for run in runs}) > 1:
        names.insert(2, "project")
    return names + [
        column
        for column, key in (("loss", _LOSSES[0]), ("val loss", _LOSSES[1]))
        if any(find_key(key, run.record.metrics) is not None for run in runs)
    ]


def _column(name: str) -> Column:
    if name in ("name", "project", "notes", "error", "path", "tags", "group"):
        return Column(name, shrink=True, keep={"name": 8, "error": 5}.get(name, 3))
    if name == "id":
        return Column("id", keep=9)
    if name == "state":
        return Column("state", keep=7, paint=STATE_COLORS.get)
    if name in ("started", "ended", "host"):
        return Column(name, keep=4)
    return Column(name, right=True, keep={"duration": 3, "steps": 5, "loss": 7, "val loss": 6}.get(name, 6))


def value_of(name: str) -> Callable[[RecordedRun], object]:
    """What gives a column of `ls` its value for a run; None where the run has none."""
    if name == "path":
        return lambda run: run.path
    value = compile_value(name)
    return lambda run: value(run.record)


def text_of(name: str, now: float) -> Callable[[RecordedRun], str]:
    """What writes a column of `ls` for a run; `now` is a Unix time, for ages."""
    value = value_of(name)
    if name in ("started", "created", "ended"):
        return lambda run: age(number_or_none(value(run)), now)
    if name == "duration":
        return lambda run: duration(number_or_none(value(run)))
    return lambda run: _text(value(run))


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return printable(", ".join(str(one) for one in value)) or "-"
    if isinstance(value, str):
        return printable(value) or "-"
    return number(value)
