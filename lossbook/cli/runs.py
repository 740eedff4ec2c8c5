"""`ls` and `show`: which runs there are, and everything about one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lossbook.cli.app import KEY, RUN, Settings, common_options
from lossbook.cli.format import (
    STATE_COLORS,
    Column,
    Screen,
    age,
    clip,
    clock,
    duration,
    number,
    plural,
    printable,
    screen,
    table,
    to_json,
)
from lossbook.errors import BadArgument, LossbookError
from lossbook.formatting import flatten as flatten
from lossbook.metrics import find_key
from lossbook.reading.where import compile_value

if TYPE_CHECKING:
    from lossbook.reading.run import RecordedRun

#: Runs listed on a terminal unless more are asked for.
SHOWN_RUNS = 50
_SHOWN_METRICS = 40
_LOSSES = ("train/loss", "val/loss")
#: Columns of `ls` whose name is not what `where` calls them.
_COLUMN_MEANS = {"loss": "train/loss", "val loss": "val/loss", "started": "created", "steps": "last_step"}
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
    runs = settings.book().runs(project=settings.project, where=where, sort=sort, limit=limit)
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
    lines = table([_column(name) for name in names], [[text(run) for text in texts] for run in runs], view)
    if rest:
        lines.append(view.paint(f"and {plural(rest, 'older run')}: --all, --limit N or --where shows them", dim=True))
    return "\n".join(lines)


def _usual_columns(runs: Sequence[RecordedRun]) -> list[str]:
    names = ["id", "name", "state", "started", "duration", "steps"]
    if len({run.project for run in runs}) > 1:
        names.insert(2, "project")
    return names + [
        column
        for column, key in (("loss", _LOSSES[0]), ("val loss", _LOSSES[1]))
        if any(find_key(key, run.record["metrics"]) is not None for run in runs)
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


def value_of(name: str) -> Callable[[RecordedRun], Any]:
    """What gives a column of `ls` its value for a run; None where the run has none."""
    if name == "path":
        return lambda run: run.path
    value = compile_value(_COLUMN_MEANS.get(name, name))
    return lambda run: value(run.record)


def text_of(name: str, now: float) -> Callable[[RecordedRun], str]:
    """What writes a column of `ls` for a run; `now` is a Unix time, for ages."""
    value = value_of(name)
    if name in ("started", "created", "ended"):
        return lambda run: age(value(run), now)
    if name == "duration":
        return lambda run: duration(value(run))
    return lambda run: _text(value(run))


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return printable(", ".join(str(one) for one in value)) or "-"
    if isinstance(value, str):
        return printable(value) or "-"
    return number(value)


def plain_run(run: RecordedRun, *, metrics: bool = False) -> dict[str, Any]:
    """One run as JSON holds it; `metrics` gives every statistic rather than the last values."""
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "state": run.state,
        "error": run.error,
        "created": run.created,
        "ended": run.ended,
        "duration_seconds": run.duration,
        "last_step": run.record["last_step"],
        "tags": list(run.tags),
        "group": run.group,
        "notes": run.notes,
        "path": run.path,
        "config": run.config,
        "summary": run.summary,
        "metrics": run.metrics if metrics else {key: one["last"] for key, one in run.record["metrics"].items()},
    }


# -- show ---------------------------------------------------------------------------------------------------------


@click.command(
    "show",
    epilog="""\b
Examples:
  lossbook show
  lossbook show baseline --key train/loss --key val/loss --log""",
)
@click.argument("ref", required=False, type=RUN, metavar="[RUN]")
@click.option("--key", "-k", "keys", multiple=True, type=KEY, metavar="KEY", help="Draw this metric; may be repeated.")
@click.option("--x", default="step", show_default=True, metavar="AXIS", help="step, tokens, wallclock, time, a metric.")
@click.option("--log", is_flag=True, help="Draw on a logarithmic y axis.")
@click.option("--width", type=click.IntRange(24, 1000), metavar="N", help="Columns of the drawing.")
@click.option("--height", type=click.IntRange(6, 200), metavar="N", help="Lines of the drawing.")
@common_options()
@click.pass_obj
def show_command(
    settings: Settings,
    ref: str | None,
    keys: tuple[str, ...],
    x: str,
    log: bool,
    width: int | None,
    height: int | None,
) -> None:
    """Show one run: state, configuration, metrics, loss curve."""
    run = settings.run(ref)
    if settings.json:
        click.echo(to_json({**plain_run(run, metrics=True), **_more(run)}))
        return
    from lossbook.cli.series import picture
    from lossbook.metrics import usual_keys

    view = screen()
    # A wrong key or axis is refused before anything is printed; a run too damaged to draw is still shown.
    drawing: list[str] = []
    try:
        drawing = picture([run], list(keys) or usual_keys(run.metrics), view, x=x, log=log, width=width, height=height)
    except LossbookError:
        if keys or x != "step":
            raise
    lines = [*_heading(run, view), *_settings_of(run, view), *_metrics_of(run, view)]
    if drawing:
        lines += ["", *drawing]
    lines += [*_events_of(run, view), *_attempts_of(run, view), *_problems_of(run, view)]
    click.echo("\n".join(lines), color=view.color)


def _more(run: RecordedRun) -> dict[str, Any]:
    events = _events(run)
    return {
        "attempts": _identity(run).get("attempts") or [],
        "checkpoints": [one for one in events if one["kind"] == "checkpoint"],
        "alerts": [one for one in events if one["kind"] == "alert"],
        "remarks": [one for one in events if one["kind"] == "note"],
        "problems": list(run.problems()),
    }


def _events(run: RecordedRun) -> list[dict[str, Any]]:
    try:
        return [one for one in run.events() if one["kind"] in ("checkpoint", "alert", "note", "warning")]
    except LossbookError:
        # What is damaged is said under "problems"; the rest of the run is still worth showing.
        return []


def _heading(run: RecordedRun, view: Screen) -> Iterator[str]:
    name = printable(run.name or run.id)
    state = view.paint(run.state, STATE_COLORS.get(run.state), bold=True)
    yield f"{view.paint(name, bold=True)}  {run.id}  {state}"
    if run.error:
        yield from (f"  {view.paint(printable(line), 'red')}" for line in str(run.error).splitlines()[-8:])
    started = f"{clock(run.created)} ({age(run.created)})"
    identity = _identity(run)
    attempts = identity.get("attempts") or []
    facts: list[tuple[str, str]] = [
        ("project", printable(run.project)),
        ("started", f"{started}, {'running for' if run.state == 'running' else 'took'} {duration(run.duration)}"),
        ("where", printable(run.path)),
    ]
    if identity.get("argv"):
        facts.append(("command", printable(" ".join(str(one) for one in identity["argv"]))))
    host = identity.get("host") or {}
    if host:
        facts.append(("host", _host(host, attempts)))
    git = identity.get("git") or {}
    if git.get("commit"):
        branch = f" on {git['branch']}" if git.get("branch") else ""
        changed = ", with changes" if git.get("dirty") else ""
        facts.append(("git", printable(f"{str(git['commit'])[:12]}{branch}{changed}")))
    if run.tags:
        facts.append(("tags", printable(", ".join(run.tags))))
    if run.group:
        facts.append(("group", printable(run.group)))
    parent = identity.get("parent")
    if parent:
        origin = f"{parent.get('run')} of {parent.get('project')} at step {parent.get('step')}"
        facts.append(("fork of", printable(origin)))
    for title, text in facts:
        yield f"  {title:<9}{_fitting(text, view, 11)}"
    for line in str(run.notes or "").splitlines():
        yield f"  {'notes':<9}{_fitting(printable(line), view, 11)}"


def _fitting(text: str, view: Screen, used: int) -> str:
    return clip(text, max(20, view.width - used), ellipsis="…" if view.unicode else "~") if view.width else text


def _identity(run: RecordedRun) -> dict[str, Any]:
    try:
        return run.identity
    except LossbookError:
        # A damaged run.json is named under "problems".
        return {}


def _host(host: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> str:
    parts = [str(host.get("name") or "?")]
    if host.get("cpus"):
        parts.append(plural(int(host["cpus"]), "cpu"))
    if host.get("python"):
        parts.append(f"Python {host['python']}")
    world = int(attempts[-1].get("world_size") or 1) if attempts else 1
    if world > 1:
        parts.append(f"{world} ranks")
    return printable(", ".join(parts))


def _settings_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    for title, values in (("config", run.config), ("summary", run.summary)):
        pairs = [(printable(key), printable(_value(one))) for key, one in flatten(values)]
        if not pairs:
            continue
        yield ""
        yield view.paint(title, bold=True)
        width = min(40, max(len(key) for key, _ in pairs))
        for key, text in pairs:
            yield f"  {key:<{width}}  {_fitting(text, view, width + 4)}"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple, dict)):
        return to_json(value, indent=False)
    return number(value, 9)


def _metrics_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    metrics = run.metrics
    if not metrics:
        yield ""
        yield "No metric has been logged yet." if run.state == "running" else "No metric was logged."
        return
    yield ""
    keys = sorted(metrics, key=_importance)
    yield from metrics_table({key: metrics[key] for key in keys[:_SHOWN_METRICS]}, view)
    if len(keys) > _SHOWN_METRICS:
        yield view.paint(f"and {plural(len(keys) - _SHOWN_METRICS, 'metric')} more: lossbook keys {run.id}", dim=True)


def _importance(key: str) -> tuple[int, str]:
    if any(find_key(loss, (key,)) is not None for loss in _LOSSES):
        return 0, key
    return (2 if key.startswith(("system.", "system/", "gpu", "cpu", "memory", "disk", "network")) else 1), key


def metrics_table(metrics: dict[str, Any], view: Screen) -> list[str]:
    """Statistics of each key: last, extremes and their steps, mean, count."""
    at = "@" if view.width else " at step "
    columns = [
        Column("metric", shrink=True, keep=9),
        Column("last", right=True, keep=8),
        Column("min", right=True, keep=7),
        Column("max", right=True, keep=6),
        Column("mean", right=True, keep=4),
        Column("rows", right=True, keep=5),
    ]
    odd = any(one.get("nonfinite") for one in metrics.values())
    if odd:
        columns.append(Column("not finite", right=True, keep=7, paint=lambda text: None if text == "0" else "red"))
    rows = []
    for key, one in metrics.items():
        row = [clip(printable(key), _LONGEST_KEY, ellipsis="…" if view.unicode else "~"), number(one["last"])]
        for end in ("min", "max"):
            step = one.get(f"{end}_step")
            row.append(number(one[end]) + (f" {at}{step}" if step is not None and one[end] is not None else ""))
        row += [number(one["mean"]), number(one["count"])]
        rows.append([*row, number(one.get("nonfinite") or 0)] if odd else row)
    return table(columns, rows, view)


def _events_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    events = _events(run)
    for kind, title in (("checkpoint", "checkpoints"), ("alert", "alerts"), ("note", "notes"), ("warning", "warnings")):
        these = [one for one in events if one["kind"] == kind]
        if not these:
            continue
        yield ""
        yield view.paint(title, bold=True)
        if len(these) > _SHOWN_EVENTS:
            yield view.paint(f"  {len(these) - _SHOWN_EVENTS} earlier ones", dim=True)
        for one in these[-_SHOWN_EVENTS:]:
            step = f"step {one['step']}" if one.get("step") is not None else clock(one.get("time"))
            yield f"  {step:<12}  {_fitting(printable(_event_text(kind, one.get('value') or {})), view, 16)}"


def _event_text(kind: str, value: dict[str, Any]) -> str:
    if kind == "checkpoint":
        return f"{value.get('path')}{'  (best)' if value.get('is_best') else ''}"
    if kind == "alert":
        text = f": {value['text']}" if value.get("text") else ""
        return f"{value.get('level') or 'warning'}: {value.get('title')}{text}"
    return str(value.get("text") or value.get("message") or "")


def _attempts_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    attempts = _identity(run).get("attempts") or []
    if len(attempts) < 2:
        return
    yield ""
    yield view.paint("attempts", bold=True)
    for position, one in enumerate(attempts):
        started = one.get("started")
        begun = clock(started / 1e6) if isinstance(started, (int, float)) else "-"
        step = f"  from step {one['resume_step']}" if one.get("resume_step") is not None else ""
        yield f"  {one.get('number', position)}  {begun}  {printable(one.get('host') or '')}{step}"


def _problems_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    problems = list(run.problems())
    if problems:
        yield ""
        yield view.paint("problems", "red", bold=True)
        yield from (f"  {printable(one)}" for one in problems[:20])
        if len(problems) > 20:
            yield f"  and {len(problems) - 20} more: lossbook verify {run.id}"
