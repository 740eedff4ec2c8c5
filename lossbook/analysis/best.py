"""Says which way a metric is better and which run has the best of it, from the index alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument, UnknownKey, UnknownRun
from lossbook.json_shapes import Json
from lossbook.metrics import find_key, nearest
from lossbook.reading import nested, plain_number

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

GOALS = ("minimize", "maximize")


def direction(runs: Sequence[RecordedRun], metric: str, goal: str | None = None) -> str:
    """Which way a metric is better: `goal`, else what the runs said of it (`define_metric`), else its name.

    Raises:
        UnknownKey: no run has the metric.
        BadArgument: neither way is known to be better, or the runs say both.
    """
    if goal is not None:
        return str(checked_goal(goal))
    found: dict[str, str] = {}
    present = False
    for run in runs:
        key = _key_of(run, metric)
        if key is not None:
            present = True
            way = run.goal(key) or run.goal(metric)
            if way in GOALS:
                found.setdefault(str(way), run.name)
    if not present:
        every = {key for run in runs for key in run.record.metrics}
        close = ", ".join(nearest(metric, every) or sorted(every)[:5])
        hint = f"; the nearest are {close}" if close else ""
        raise UnknownKey(f"none of {len(runs)} runs logged {metric!r}{hint}")
    if len(found) > 1:
        raise BadArgument(
            f"{metric!r} is to be minimized in {found['minimize']} and maximized in {found['maximize']}: say which with "
            "goal='minimize' or goal='maximize' (--goal)"
        )
    if not found:
        raise BadArgument(
            f"which way {metric!r} is better is not known: say run.define_metric({metric!r}, goal='minimize') when "
            "training, or goal='minimize' or goal='maximize' (--goal) now"
        )
    return next(iter(found))


def best_value(run: RecordedRun, metric: str, goal: str) -> tuple[float, int | None] | None:
    """The best finite value of a metric of a run and its step; of what is only in `run.summary`, that value.

    Returns:
        None where the run has no finite value of it.
    """
    metrics = run.record.metrics
    key = find_key(metric, metrics)
    if key is not None:
        one = metrics[key]
        best, step = (one.min, one.min_step) if goal == "minimize" else (one.max, one.max_step)
        return None if best is None or not math.isfinite(best) else (best, step)
    value = number_of(nested(run.record.summary, metric))
    return None if value is None or not math.isfinite(value) else (value, None)


def best_run(runs: Sequence[RecordedRun], metric: str, goal: str | None = None) -> tuple[RecordedRun, float]:
    """The run whose best value of a metric is the best of all; of equals, the first.

    Raises:
        UnknownRun: there are no runs.
        UnknownKey: none has a finite value of the metric.
        BadArgument: which way is better is not known.
    """
    if not runs:
        raise UnknownRun("there is no run to choose the best from; `lossbook ls` lists the runs that there are")
    way = direction(runs, metric, goal)
    found = [(one[0], run) for run in runs if (one := best_value(run, metric, way)) is not None]
    if not found:
        raise UnknownKey(f"none of {len(runs)} runs has a finite value of {metric!r}")
    pick: Callable[..., tuple[float, RecordedRun]] = min if way == "minimize" else max
    value, run = pick(found, key=lambda one: one[0])
    return run, value


def _key_of(run: RecordedRun, metric: str) -> str | None:
    key = find_key(metric, run.record.metrics)
    if key is None and number_of(nested(run.record.summary, metric)) is not None:
        return metric
    return key


def checked_goal(goal: str | None) -> str | None:
    """`goal`, if it is one or None; else `BadArgument`."""
    if goal is not None and goal not in GOALS:
        raise BadArgument(f"goal={goal!r}: it is 'minimize' or 'maximize'")
    return goal


def number_of(value: Json) -> float | None:
    """A value of the index as a float, NaN and infinities included; None for what is no number."""
    value = plain_number(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
