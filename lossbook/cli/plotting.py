"""`plot`: curves as a PNG, SVG or PDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import KEY, RunType, Settings, common_options
from lossbook.cli.format import plural, printable, to_json
from lossbook.errors import UnknownRun
from lossbook.metrics import find_key, nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lossbook.reading import RecordedRun


class _RunOrKeyType(RunType):
    """A run or a metric; completes both."""

    name = "run or key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, param, incomplete) + KEY.shell_complete(ctx, param, incomplete)


@click.command(
    "plot",
    epilog="""\b
A word is a run if a run has that id or name, else a metric; without runs it is the latest one
(with --where or --band every run that fits), without metrics training and validation loss.

\b
Examples:
  lossbook plot
  lossbook plot baseline wide train/loss --x wallclock --smooth ema:0.99 -o compare.png
  lossbook plot --where "group = 'seeds'" --band config.lr --log-y -o seeds.svg""",
)
@click.argument("words", nargs=-1, type=_RunOrKeyType(), metavar="[RUN]... [KEY]...")
@click.option(
    "--output", "-o", default="loss.png", show_default=True, metavar="FILE", help=".png, .svg or .pdf; it is replaced."
)
@click.option(
    "--x",
    default="step",
    show_default=True,
    metavar="AXIS",
    help="step, gradient_step, tokens, flops, wallclock, elapsed, time, a metric.",
)
@click.option("--smooth", metavar="S", help="ema:0.99, mean:50, median:50 or gaussian:20, over all rows.")
@click.option("--band", metavar="NAME", help="Mean and range of runs that agree in group, config.lr, ...")
@click.option("--where", metavar="EXPRESSION", help="Only runs that fit, as in `lossbook ls`.")
@click.option("--log-x", is_flag=True, help="Logarithmic x axis.")
@click.option("--log-y", is_flag=True, help="Logarithmic y axis.")
@click.option("--from", "start", type=float, metavar="X", help="Only from this x on (clocks in seconds).")
@click.option("--to", "end", type=float, metavar="X", help="Only up to this x.")
@click.option("--title", metavar="TEXT", help="[default: the name of a single run]")
@click.option("--no-marks", is_flag=True, help="Leave out checkpoints, changes of stage and alerts.")
@click.option("--no-raw", is_flag=True, help="With --smooth, draw the smoothed line alone.")
@click.option("--width", type=click.FloatRange(0.5, 100), default=8.0, show_default=True, help="Inches.")
@click.option("--height", type=click.FloatRange(0.5, 100), default=5.0, show_default=True, help="Inches.")
@common_options()
@click.pass_obj
def plot_command(
    settings: Settings,
    words: tuple[str, ...],
    output: str,
    x: str,
    smooth: str | None,
    band: str | None,
    where: str | None,
    log_x: bool,
    log_y: bool,
    start: float | None,
    end: float | None,
    title: str | None,
    no_marks: bool,
    no_raw: bool,
    width: float,
    height: float,
) -> None:
    """Draw metrics of one or more runs into a file."""
    from lossbook.plots import loss_keys, plot

    book = settings.book()
    candidates = book.runs(project=settings.project, where=where)
    if where is not None and not candidates:
        raise UnknownRun(f"no run in {settings.location} fits {where!r}; `lossbook ls` lists them")
    several = where is not None or band is not None
    runs, keys = _runs_and_keys(settings, words, candidates if several else candidates[:1])
    if where is not None and runs:
        fitting = {run.path for run in candidates}
        runs = [run for run in runs if run.path in fitting]
        if not runs:
            raise UnknownRun(f"none of the runs that were named fits {where!r}")
    if not runs:
        runs = candidates if several else [settings.run(None)]
    keys = keys or loss_keys(runs)
    plot(
        runs,
        keys,
        path=output,
        x=x,
        smoothing=smooth,
        band=band,
        log_x=log_x,
        log_y=log_y,
        marks=not no_marks,
        raw=not no_raw,
        title=title,
        width=width,
        height=height,
        start=start,
        end=end,
    )
    if settings.json:
        click.echo(to_json({"path": output, "runs": [run.id for run in runs], "keys": keys}))
        return
    shown = ", ".join(printable(key) for key in keys)
    click.echo(f"{printable(output)}  {shown} of {plural(len(runs), 'run')}")


def _runs_and_keys(
    settings: Settings, words: tuple[str, ...], default: Sequence[RecordedRun]
) -> tuple[list[RecordedRun], list[str]]:
    """Tell runs from metrics: a run's whole id or name, else a metric, else the beginning of a run's name.

    Args:
        default: the runs whose metrics are meant where none was named.

    Raises:
        UnknownRun: a word is neither, or the beginning of several runs' names.
    """
    book = settings.book()
    named = {text for run in book.runs(project=settings.project) for text in (run.id, run.name) if text} | {"latest"}
    runs: dict[str, RecordedRun] = {}
    keys: list[str] = []
    for word in words:
        logged = set().union(*(run.keys() for run in runs.values())) or {key for run in default for key in run.metrics}
        # A name may hold a comma itself.
        whole = word in named or find_key(word, logged) is not None
        for part in [word] if whole else [one.strip() for one in word.split(",") if one.strip()]:
            is_key = find_key(part, logged) is not None
            if part in named and not keys and not (is_key and any(part == run.name for run in runs.values())):
                run = settings.run(part)
            elif is_key or keys:
                keys.append(part)
                continue
            else:
                run_or_none = _run_beginning(settings, part)
                if run_or_none is None and runs:
                    # Whoever named runs before means a metric: the drawing says which there are.
                    keys.append(part)
                    continue
                if run_or_none is None:
                    close = nearest(part, named | logged)
                    hint = f"; the nearest are {', '.join(close)}" if close else ""
                    raise UnknownRun(f"there is neither a run nor a metric {part!r} in {settings.location}{hint}")
                run = run_or_none
            runs.setdefault(run.path, run)
    return list(runs.values()), list(dict.fromkeys(keys))


def _run_beginning(settings: Settings, part: str) -> RecordedRun | None:
    try:
        return settings.run(part)
    except UnknownRun as error:
        if "runs answer to" in str(error):
            raise
        return None
