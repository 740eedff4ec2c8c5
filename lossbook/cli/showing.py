"""`show`: everything about one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lossbook.cli.app import KEY, RUN, Settings, common_options
from lossbook.cli.format import (
    STATE_COLORS,
    Screen,
    age,
    clip,
    clock,
    duration,
    number,
    plural,
    printable,
    screen,
    to_json,
)
from lossbook.cli.run_output import metrics_table, plain_run
from lossbook.errors import LossbookError
from lossbook.formatting import flatten as flatten
from lossbook.metrics import importance_of
from lossbook.run_info import RunInfo

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

_SHOWN_METRICS = 40
_SHOWN_EVENTS = 10


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
    from lossbook.cli.chart import picture
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


def _more(run: RecordedRun) -> dict[str, object]:
    events = _events(run)
    return {
        "attempts": run.known_info.to_json()["attempts"],
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
    info = run.known_info
    facts: list[tuple[str, str]] = [
        ("project", printable(run.project)),
        ("started", f"{started}, {'running for' if run.state == 'running' else 'took'} {duration(run.duration)}"),
        ("where", printable(run.path)),
    ]
    if info.argv:
        facts.append(("command", printable(" ".join(info.argv))))
    if info.host.to_json():
        facts.append(("host", _host(info)))
    if info.git is not None and info.git.commit:
        branch = f" on {info.git.branch}" if info.git.branch else ""
        changed = ", with changes" if info.git.dirty else ""
        facts.append(("git", printable(f"{info.git.commit[:12]}{branch}{changed}")))
    if run.tags:
        facts.append(("tags", printable(", ".join(run.tags))))
    if run.group:
        facts.append(("group", printable(run.group)))
    if info.parent is not None:
        origin = f"{info.parent.run} of {info.parent.project} at step {info.parent.step}"
        facts.append(("fork of", printable(origin)))
    for title, text in facts:
        yield f"  {title:<9}{_fitting(text, view, 11)}"
    for line in str(run.notes or "").splitlines():
        yield f"  {'notes':<9}{_fitting(printable(line), view, 11)}"


def _fitting(text: str, view: Screen, used: int) -> str:
    return clip(text, max(20, view.width - used), ellipsis="…" if view.unicode else "~") if view.width else text


def _host(info: RunInfo) -> str:
    parts = [info.host.name or "?"]
    if info.host.cpus:
        parts.append(plural(info.host.cpus, "cpu"))
    if info.host.python:
        parts.append(f"Python {info.host.python}")
    world = info.last_attempt.world_size or 1
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


def _value(value: object) -> str:
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
    keys = sorted(metrics, key=lambda key: (importance_of(key), key))
    yield from metrics_table({key: metrics[key] for key in keys[:_SHOWN_METRICS]}, view)
    if len(keys) > _SHOWN_METRICS:
        yield view.paint(f"and {plural(len(keys) - _SHOWN_METRICS, 'metric')} more: lossbook keys {run.id}", dim=True)


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
    attempts = run.attempts
    if len(attempts) < 2:
        return
    yield ""
    yield view.paint("attempts", bold=True)
    for one in attempts:
        begun = "-" if one.started is None else clock(one.started / 1e6)
        step = "" if one.resume_step is None else f"  from step {one.resume_step}"
        yield f"  {one.number}  {begun}  {printable(one.host or '')}{step}"


def _problems_of(run: RecordedRun, view: Screen) -> Iterator[str]:
    problems = list(run.problems())
    if problems:
        yield ""
        yield view.paint("problems", "red", bold=True)
        yield from (f"  {printable(one)}" for one in problems[:20])
        if len(problems) > 20:
            yield f"  and {len(problems) - 20} more: lossbook verify {run.id}"
