"""Draws a curve against step, time, a clock or another metric, over a run and those that it was forked from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy

from lossbook.curves.downsample import (
    MOST_POINTS,
    SMOOTHED_POINTS,
    SMOOTHED_ROWS,
    Curve,
    draw,
    gather,
    smoothed,
)
from lossbook.curves.smoothing import Smoothing
from lossbook.storage import FINEST_LEVEL, NEVER, Buckets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.curves.sources import Places, Source
    from lossbook.storage import Column

#: Axes that are made of the time at which a row was logged.
CLOCKS = ("time", "wallclock", "elapsed")


def draw_on_axis(
    sources: list[Source],
    key: str,
    axis: str,
    *,
    points: int,
    start: float | None,
    end: float | None,
    attempt: int | None,
    smoothing: Smoothing | None = None,
) -> Curve:
    """Draw one key against an axis (one of `CLOCKS`, "step" or a key)."""
    if smoothing is not None:
        return _draw_smoothed(sources, key, axis, points, start, end, attempt, smoothing)
    if axis == "step":
        first = None if start is None else int(numpy.ceil(start))
        last = None if end is None else int(numpy.floor(end))
        buckets = gather(sources, key, points=points, first=first, last=last, attempt=attempt)
        x_first, x_last = buckets["first_step"], buckets["last_step"]
        return draw(key, axis, buckets, x_first, x_last, lambda step: step, points)
    first = last = None
    buckets = gather(sources, key, points=points, first=None, last=None, attempt=attempt)
    place = _placer(sources, axis, buckets, points, attempt)
    x_first, x_last = place(buckets)
    if start is not None or end is not None:
        inside = numpy.ones(len(x_first), dtype=bool)
        inside &= True if start is None else x_last >= start
        inside &= True if end is None else x_first <= end
        if bool(inside.any()):

            def rows_of(at: int) -> tuple[Buckets, Places]:
                """The rows of the bucket that an end of the zoom cuts through, and where they lie on the axis."""
                low, high = int(buckets["first_step"][at]), int(buckets["last_step"][at])
                rows = gather(sources, key, points=MOST_POINTS, first=low, last=high, attempt=attempt)
                return rows, place(rows)[0]

            # Which steps these are is known now: read them as finely as the zoom asks for.
            chosen = numpy.flatnonzero(inside)
            first, last = int(buckets["first_step"][chosen].min()), int(buckets["last_step"][chosen].max())
            if start is not None and x_first[chosen[0]] < start:
                rows, at = rows_of(int(chosen[0]))
                first = int(rows["first_step"][at >= start].min(initial=last))
            if end is not None and x_last[chosen[-1]] > end:
                rows, at = rows_of(int(chosen[-1]))
                last = int(rows["last_step"][at <= end].max(initial=first))
            buckets = gather(sources, key, points=points, first=first, last=last, attempt=attempt)
            x_first, x_last = place(buckets)
            inside = numpy.ones(len(x_first), dtype=bool)
            inside &= True if start is None else x_first >= start
            inside &= True if end is None else x_last <= end
        buckets = {name: array[inside] for name, array in buckets.items()}
        x_first, x_last = x_first[inside], x_last[inside]

    return _drawn(key, axis, buckets, x_first, x_last, points)


def place_events(
    sources: list[Source],
    key: str,
    axis: str,
    *,
    steps: Sequence[int | None],
    seconds: Sequence[float],
    attempts: Sequence[int],
) -> NDArray[numpy.float64]:
    """Say where events of a run lie on the axis of a drawing of `key`.

    Args:
        steps, seconds, attempts: of each event its step, its Unix time and its attempt.

    Returns:
        Shape (n,); NaN for those whose place is not known, and for those that a later attempt went back beyond.
    """
    own = sources[-1]
    parts = own.rows.parts(key)
    visible = own.rows.last_visible(parts)
    line = gather(sources, key, points=1000, first=None, last=None, attempt=None)
    at_steps = numpy.array([numpy.nan if step is None else step for step in steps], dtype=numpy.float64)
    times = numpy.array(seconds, dtype=numpy.float64) * 1e6
    cuts = numpy.array([float(visible.get(attempt, NEVER)) for attempt in attempts])
    hidden = at_steps > cuts
    if axis == "time":
        at = times / 1e6
    elif axis == "elapsed":
        at = own.elapsed(times)
    elif axis == "wallclock":
        at = numpy.array([float(own.clock(when, attempt)) for when, attempt in zip(times, attempts, strict=True)])
    else:
        known_times, known_steps = _points(line, line["first_step"], line["last_step"], by="time")
        if len(known_times):
            at_steps = numpy.where(numpy.isnan(at_steps), numpy.interp(times, known_times, known_steps), at_steps)
        at = at_steps
        if axis != "step":
            carrier = gather(sources, axis, points=1000, first=None, last=None, attempt=None)
            known, values = _points(carrier, carrier["first"], carrier["last"])
            finite = numpy.isfinite(values)
            at = numpy.full(len(at_steps), numpy.nan)
            if bool(finite.any()):
                # Beyond the last row of the axis nothing is known of it; the nearest row is the honest place.
                at = numpy.interp(at_steps, known[finite], values[finite])
    return numpy.where(hidden, numpy.nan, at).astype(numpy.float64)


def _draw_smoothed(
    sources: list[Source],
    key: str,
    axis: str,
    points: int,
    start: float | None,
    end: float | None,
    attempt: int | None,
    smoothing: Smoothing,
) -> Curve:
    """Smooth every row that counts, then cut out the range and decimate: a zoom shows the same line, only nearer."""
    rows = gather(
        sources, key, points=_smoothed_points(sources, key, smoothing), first=None, last=None, attempt=attempt
    )
    buckets = smoothed(rows, smoothing)
    del rows
    if axis == "step":
        x_first, x_last = buckets["first_step"], buckets["last_step"]
    else:
        x_first, x_last = _placer(sources, axis, buckets, points, attempt)(buckets)
    if start is not None or end is not None:
        inside = numpy.ones(len(x_first), dtype=bool)
        inside &= True if start is None else x_first >= start
        inside &= True if end is None else x_last <= end
        buckets = {name: array[inside] for name, array in buckets.items()}
        x_first, x_last = x_first[inside], x_last[inside]
    return _drawn(key, axis, buckets, x_first, x_last, points)


def _smoothed_points(sources: list[Source], key: str, smoothing: Smoothing) -> int:
    """How finely a key is read to be smoothed: by its rows, unless they are many and the smoothing remembers more of
    them than the finest buckets have."""
    bucket_rows = 1 << FINEST_LEVEL
    count = sum(part.count for source in sources for part in source.rows.parts(key))
    if smoothing.kind != "ema" or (1 - smoothing.amount) * bucket_rows > 1 or count <= SMOOTHED_ROWS:
        return SMOOTHED_POINTS
    # So many points are drawn from the finest buckets, whatever the count.
    return min(SMOOTHED_POINTS, count // (2 * bucket_rows))


def _drawn(key: str, axis: str, buckets: Buckets, x_first: Column, x_last: Column, points: int) -> Curve:
    def x_of_step(step: Places) -> Places:
        known, at = _points(buckets, x_first, x_last)
        return numpy.interp(step, known, at) if len(known) else step

    return draw(key, axis, buckets, x_first, x_last, x_of_step, points)


def place_buckets(sources: list[Source], axis: str, buckets: Buckets, points: int) -> tuple[Places, Places]:
    """Where buckets of `gather` begin and end on an axis other than step; NaN where it is not known."""
    return _placer(sources, axis, buckets, points, None)(buckets)


def _placer(
    sources: list[Source], axis: str, buckets: Buckets, points: int, attempt: int | None
) -> Callable[[Buckets], tuple[Places, Places]]:
    """A function that says where buckets begin and end on an axis other than step."""
    if axis in CLOCKS:
        return lambda some: _times(sources, axis, some)
    carrier = gather(sources, axis, points=max(points, 1000), first=None, last=None, attempt=attempt)
    known, at = _points(carrier, carrier["first"], carrier["last"])
    finite = numpy.isfinite(at)
    known, at = known[finite], at[finite]

    def place(some: Buckets) -> tuple[Places, Places]:
        if len(known) == 0:
            nothing = numpy.full(len(some["first_step"]), numpy.nan)
            return nothing, nothing
        x_first = numpy.interp(some["first_step"], known, at)
        x_last = numpy.interp(some["last_step"], known, at)
        return numpy.minimum(x_first, x_last), numpy.maximum(x_first, x_last)

    return place


def _times(sources: list[Source], axis: str, buckets: Buckets) -> tuple[Places, Places]:
    first = numpy.asarray(buckets["first_time"], dtype=numpy.float64)
    last = numpy.asarray(buckets["last_time"], dtype=numpy.float64)
    if axis == "time":
        return first / 1e6, last / 1e6
    if axis == "elapsed":
        # Every source of a run counts from the same beginning.
        return sources[0].elapsed(first), sources[0].elapsed(last)
    x_first, x_last = numpy.zeros(len(first)), numpy.zeros(len(first))
    for number, source in enumerate(sources):
        for attempt in numpy.unique(buckets["attempt"][buckets["source"] == number]):
            chosen = (buckets["source"] == number) & (buckets["attempt"] == attempt)
            x_first[chosen] = source.clock(first[chosen], int(attempt))
            x_last[chosen] = source.clock(last[chosen], int(attempt))
    return x_first, x_last


def _points(buckets: Buckets, first: Column, last: Column, by: str = "step") -> tuple[Places, Places]:
    """(step or time, value) at both ends of each bucket, sorted by the former, for interpolation."""
    steps = numpy.concatenate((buckets[f"first_{by}"], buckets[f"last_{by}"])).astype(numpy.float64)
    values = numpy.concatenate((first, last)).astype(numpy.float64)
    order = numpy.argsort(steps, kind="stable")
    return steps[order], values[order]
