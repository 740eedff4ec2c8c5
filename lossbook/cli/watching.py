"""`watch`: the terminal page, and what it shows printed once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import KEY, RUN, Settings, common_options
from lossbook.cli.format import Screen, screen
from lossbook.errors import MissingLibrary

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import RecordedRun

#: Runs that --once lists where none are named, and draws.
_LISTED, _DRAWN = 20, 6
#: What --json prints of a curve.
_PRINTED = ("x", "min", "max", "mean", "nonfinite")


@click.command(
    "watch",
    epilog="""\b
Keys: 1 to 5 or Tab change the view, j and k move, Space marks runs whose curves
are drawn together, / searches, ? lists all keys, q quits (docs/watch.md).
Needs pip install 'lossbook[watch]'.

\b
Examples:
  lossbook watch
  lossbook watch baseline wide --key val/loss --x tokens
  lossbook watch --where "state = 'running'" --frames 1
  lossbook watch --once""",
)
@click.argument("refs", nargs=-1, type=RUN, metavar="[RUN]...")
@click.option("--where", metavar="EXPR", help='Only runs for which this holds, such as "config.lr > 1e-4".')
@click.option("--key", "-k", "keys", multiple=True, type=KEY, metavar="KEY", help="Draw this metric; may be repeated.")
@click.option("--x", default="step", show_default=True, metavar="AXIS", help="step, tokens, wallclock, time, a metric.")
@click.option(
    "--frames",
    type=click.FloatRange(0.1, 30),
    default=4.0,
    show_default=True,
    metavar="N",
    help="Draw new figures so often a second at the most.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="How often running runs are looked at.",
)
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal, for selecting text.")
@click.option("--ascii/--unicode", "ascii_only", default=None, help="Which characters [default: by the locale].")
@click.option("--once", is_flag=True, help="Print the table and the curves once, also where there is no terminal.")
@common_options()
@click.pass_obj
def watch_command(
    settings: Settings,
    refs: tuple[str, ...],
    where: str | None,
    keys: tuple[str, ...],
    x: str,
    frames: float,
    interval: float,
    no_mouse: bool,
    ascii_only: bool | None,
    once: bool,
) -> int:
    """Watch runs in this terminal: curves, table, GPUs, console."""
    if once or settings.json:
        _print_once(settings, refs, where, keys, x)
        return 0
    if not all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__)):
        raise click.UsageError("watch needs a terminal to draw on and to take keys from; --once prints what it shows")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise click.UsageError("this terminal (TERM=dumb) cannot be drawn on; --once prints what watch shows")
    try:
        from lossbook.terminal import Watch
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        raise MissingLibrary("the terminal page needs textual: pip install 'lossbook[watch]'") from None
    from lossbook.terminal import Model

    book, runs = _named(settings, refs)
    if where:
        book.runs(settings.project, where)  # what it names wrongly is said before the page is drawn
    model = Model(
        given=tuple(run.path for run in runs),
        where=where or "",
        keys=keys,
        x=x,
        unicode=_has_unicode() if ascii_only is None else not ascii_only,
        theme="none" if os.environ.get("NO_COLOR") else "dark",
        view="curves" if runs or keys else "runs",
    )
    page = Watch(
        book, model, store=settings.location, project=settings.project, frames=frames, interval_seconds=interval
    )
    page.run(mouse=not no_mouse)
    return page.return_code or 0 if page.ended_by is None else 128 + page.ended_by


def _named(settings: Settings, refs: tuple[str, ...]) -> tuple[Book, list[RecordedRun]]:
    """The book, and the runs that were named, each once."""
    book = settings.book()
    found: dict[str, RecordedRun] = {}
    for ref in refs:
        run = book.run(ref, project=settings.project)
        found.setdefault(run.path, run)
    if not refs and settings.project is not None and settings.project not in book.projects():
        # One that does not exist is refused as everywhere.
        book.run("latest", project=settings.project)
    return book, list(found.values())


def _has_unicode() -> bool:
    """Whether the terminal shows box and braille characters, as far as its user's locale and its kind tell."""
    if os.environ.get("TERM", "").startswith(("linux", "vt")):
        # The console of Linux has boxes, but no braille.
        return False
    for variable in ("LC_ALL", "LC_CTYPE", "LANG"):
        named = os.environ.get(variable, "")
        if not named:
            continue
        if (
            variable == "LC_CTYPE"
            and named in ("C.UTF-8", "C.utf8", "UTF-8")
            and os.environ.get("LANG") in ("C", "POSIX")
        ):
            # Python puts this there by itself where the locale is C (PEP 538).
            continue
        return "utf" in named.lower()
    return screen().unicode


# -- once ---------------------------------------------------------------------------------------------------------


def _print_once(settings: Settings, refs: tuple[str, ...], where: str | None, keys: tuple[str, ...], x: str) -> None:
    from lossbook.cli.chart import curves
    from lossbook.cli.format import plain, to_json
    from lossbook.cli.run_output import plain_run
    from lossbook.metrics import usual_keys

    book, runs = _named(settings, refs)
    if not runs:
        runs = book.runs(settings.project, where)
    drawn = runs[:_DRAWN]
    chosen = list(keys) or (usual_keys(drawn[0].metrics)[:1] if drawn else [])
    if settings.json:
        found = curves(drawn, chosen, x=x, points=500) if chosen else []
        click.echo(
            to_json(
                {
                    "runs": [plain_run(run) for run in runs],
                    "curves": [
                        {
                            "run": run.id,
                            "key": key,
                            "axis": x,
                            **{name: plain(getattr(curve, name)) for name in _PRINTED},
                        }
                        for run, key, curve in found
                    ],
                }
            )
        )
        return
    view = screen()
    lines = _table(runs[:_LISTED], view)
    if len(runs) > _LISTED:
        lines.append(view.paint(f"and {len(runs) - _LISTED} more", dim=True))
    if chosen:
        from lossbook.cli.chart import picture

        lines += ["", *picture(drawn, chosen, view, x=x)]
    click.echo("\n".join(lines), color=view.color)


def _table(runs: list[RecordedRun], view: Screen) -> list[str]:
    """The runs as the page lists them, at the width of the output or of 120 columns."""
    from lossbook.terminal import Model, Snapshot, plain_text, run_line, runs_table

    if not runs:
        return ["No run fits."]
    lines = tuple(run_line(run) for run in runs)
    model = Model(snapshot=Snapshot(lines=lines), unicode=view.unicode)
    shown = runs_table(model, view.width or 120, len(lines) + 1).lines
    return [plain_text(line)[3:].rstrip() for line in shown]
