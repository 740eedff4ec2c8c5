"""Finds the row in which a run first reached a loss, from the rollup rather than by reading the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.curves import Source, gather
from lossbook.metrics import AXES, find_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.reading import RecordedRun
    from lossbook.storage import Buckets

#: Buckets in which the searched range is looked at; each look leaves about one of them.
_POINTS = 1000
#: Looks at the most: ten million million rows are narrowed down to one in five.
_LOOKS = 12


@dataclass(frozen=True)
class Reached:
    """Where a run first reached a value.

    Attributes:
        step: of the first row, in order of steps, that is as good as the value or better.
        time: when that row was logged, Unix seconds.
        wallclock_seconds: since the run began, gaps between attempts left out; a fork counts what it was forked from.
        tokens: seen at that step, between two rows of the token count in proportion; None where none are known.
    """

    step: int
    time: float
    wallclock_seconds: float
    tokens: float | None


def first_reached(run: RecordedRun, key: str, value: float, goal: str) -> Reached | None:
    """Find the first row of a metric that is as good as `value` or better; NaN never is.

    Of a key that several ranks logged, the first rank that reached it counts. Rows that a later attempt replaced do
    not.

    Args:
        key: the run's own name of the metric.
        goal: "minimize" or "maximize".

    Returns:
        Where it was, None when the run never reached it or never logged the key.
    """
    if not _can_have_reached(run, key, value, goal):
        return None
    sources = run.sources()
    found = _first_row(sources, key, value, goal)
    if found is None:
        return None
    step, time_us, source, attempt = found
    clock = source.clock(numpy.array([float(time_us)]), attempt)
    return Reached(step, time_us / 1e6, float(clock[0]), _tokens_at(sources, step))


def _can_have_reached(run: RecordedRun, key: str, value: float, goal: str) -> bool:
    """What the summary knows without a look at the rows; of a fork it knows its own rows alone."""
    one = run.record.metrics.get(key)
    best = None if one is None else one.min if goal == "minimize" else one.max
    if best is not None and _is_reached(numpy.array([best], dtype=numpy.float64), value, goal)[0]:
        return True
    return run.known_info.parent is not None


def _is_reached(values: NDArray[numpy.float64], value: float, goal: str) -> NDArray[numpy.bool_]:
    with numpy.errstate(invalid="ignore"):
        reached: NDArray[numpy.bool_] = values <= value if goal == "minimize" else values >= value
    return reached


def _first_row(sources: list[Source], key: str, value: float, goal: str) -> tuple[int, int, Source, int] | None:
    """(step, time in µs, source, attempt) of the first row that reached the value."""
    best, best_step = ("min", "min_step") if goal == "minimize" else ("max", "max_step")
    first: int | None = None
    last: int | None = None
    for _ in range(_LOOKS):
        buckets = gather(sources, key, points=_POINTS, first=first, last=last, attempt=None)
        reached = _is_reached(numpy.asarray(buckets[best], dtype=numpy.float64), value, goal)
        if not bool(reached.any()):
            return None
        # No earlier row can have reached it, and this one has.
        earliest, certain = int(buckets["first_step"][reached].min()), int(buckets[best_step][reached].min())
        if bool(numpy.all(buckets["count"][reached & (buckets["first_step"] <= certain)] == 1)):
            return _row_at(sources, buckets, reached)
        if (earliest, certain) == (first, last):
            break
        first, last = earliest, certain
    buckets = gather(sources, key, points=_POINTS, first=last, last=last, attempt=None)
    return _row_at(sources, buckets, _is_reached(numpy.asarray(buckets[best], dtype=numpy.float64), value, goal))


def _row_at(
    sources: list[Source], buckets: Buckets, reached: NDArray[numpy.bool_]
) -> tuple[int, int, Source, int] | None:
    at = numpy.flatnonzero(reached)
    if len(at) == 0:
        return None
    one = int(at[0])
    source = sources[int(buckets["source"][one])]
    return int(buckets["first_step"][one]), int(buckets["first_time"][one]), source, int(buckets["attempt"][one])


def _tokens_at(sources: list[Source], step: int) -> float | None:
    key = find_key(AXES["tokens"], set().union(*(source.rows.keys() for source in sources)))
    if key is None:
        return None
    first: int | None = None
    last: int | None = None
    for _ in range(_LOOKS):
        buckets = gather(sources, key, points=_POINTS, first=first, last=last, attempt=None)
        begins, ends = buckets["first_step"], buckets["last_step"]
        across = (begins <= step) & (ends >= step) & (begins < ends)
        if not bool(across.any()):
            break
        low, high = int(begins[across].min()), int(ends[across].max())
        if (low, high) == (first, last):
            break
        first, last = low, high
    steps = numpy.concatenate((buckets["first_step"], buckets["last_step"])).astype(numpy.float64)
    values = numpy.concatenate((buckets["first"], buckets["last"])).astype(numpy.float64)
    finite = numpy.isfinite(values)
    order = numpy.argsort(steps[finite], kind="stable")
    steps, values = steps[finite][order], values[finite][order]
    if len(steps) == 0 or step < steps[0]:
        return None
    return float(numpy.interp(step, steps, values))
