"""`curve`: metrics of runs, drawn or as numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import KEY, RUN, Settings, common_options
from lossbook.cli.chart import curves, picture
from lossbook.cli.format import screen, to_json
from lossbook.errors import UnknownKey, UnknownRun
from lossbook.formatting import csv_cell

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

_CURVE_COLUMNS = ("x", "first", "last", "min", "max", "mean", "count", "nonfinite")


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
    wanted = several_keys(runs, keys)
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
        writer.writerows(
            (csv_cell(run.id), csv_cell(key), *row) for row in zip(*(one[name] for name in _CURVE_COLUMNS), strict=True)
        )


def _several_runs(settings: Settings, text: str) -> list[RecordedRun]:
    # A name may hold a comma itself.
    if "," in text:
        try:
            return [settings.run(text)]
        except UnknownRun:
            return settings.runs([part.strip() for part in text.split(",") if part.strip()])
    return [settings.run(text)]


def several_keys(runs: Sequence[RecordedRun], text: str) -> list[str]:
    if any(text in set(run.keys()) for run in runs):
        return [text]
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise UnknownKey("no key was named: `lossbook keys` lists them")
    return list(dict.fromkeys(wanted))
