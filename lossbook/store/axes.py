"""What a curve can be drawn against: step, time, wallclock, or any other metric; and which runs its rows come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from lossbook.store.attempts import NEVER
from lossbook.store.curve import MOST_POINTS, Curve, Source, draw, gather
from lossbook.store.rows import Buckets, RunRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A fork of a fork of a fork: deeper than that is a circle.
_DEEPEST_FORK = 50


def make_sources(rows: RunRows, find_parent: Callable[[dict[str, Any]], RunRows | None]) -> list[Source]:
    """A run's rows and those of the runs that it was forked from, the oldest first."""
    chain: list[tuple[RunRows, int]] = [(rows, NEVER)]
    last = NEVER
    while len(chain) < _DEEPEST_FORK:
        parent = chain[0][0].identity.get("parent")
        if not parent:
            break
        found = find_parent(parent)
        if found is None:
            break
        last = min(last, int(parent.get("step", 0)))
        chain.insert(0, (found, last))
    sources: list[Source] = []
    elapsed = 0.0
    for one, last_step in chain:
        clock, total = _clock(one, elapsed)
        sources.append(Source(one, last_step, clock))
        elapsed = total
    return sources


def _clock(rows: RunRows, elapsed: float) -> tuple[Callable[[NDArray[Any], int], NDArray[Any]], float]:
    """A run's wallclock: seconds that its attempts ran, the gaps between them left out.

    Args:
        elapsed: what the runs before it took, in seconds.

    Returns:
        The clock, and what it shows at the end.
    """
    ends: dict[int, int] = {}
    begins: dict[int, int] = {}
    for number, attempt in enumerate(rows.identity.get("attempts") or ()):
        begins[int(attempt.get("number", number))] = int(attempt.get("started") or 0)
    for key in rows.keys():  # noqa: SIM118 (a method, no dictionary)
        for part in rows.parts(key):
            ends[part.attempt] = max(ends.get(part.attempt, 0), part.last_time)
            begins.setdefault(part.attempt, part.first_time)
    offsets: dict[int, float] = {}
    total = elapsed
    for attempt in sorted(begins):
        offsets[attempt] = total
        total += max(0.0, (ends.get(attempt, begins[attempt]) - begins[attempt]) / 1e6)

    def clock(time_us: NDArray[Any], attempt: int) -> NDArray[Any]:
        seconds: NDArray[Any] = (time_us - begins.get(attempt, 0)) / 1e6 + offsets.get(attempt, 0.0)
        return seconds

    return clock, total


def draw_on_axis(
    sources: list[Source], key: str, axis: str, *, points: int, start: float | None, end: float | None,
    attempt: int | None,
) -> Curve:  # fmt: skip
    """Draw one key against an axis ("step", "time", "wallclock" or a key)."""
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

            def rows_of(at: int) -> tuple[Buckets, NDArray[Any]]:
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

    def x_of_step(step: NDArray[Any]) -> NDArray[Any]:
        known, at = _points(buckets, x_first, x_last)
        return numpy.interp(step, known, at) if len(known) else step

    return draw(key, axis, buckets, x_first, x_last, x_of_step, points)


def _placer(
    sources: list[Source], axis: str, buckets: Buckets, points: int, attempt: int | None
) -> Callable[[Buckets], tuple[NDArray[Any], NDArray[Any]]]:
    """A function that says where buckets begin and end on an axis other than step."""
    if axis in ("time", "wallclock"):
        return lambda some: _times(sources, axis, some)
    carrier = gather(sources, axis, points=max(points, 1000), first=None, last=None, attempt=attempt)
    known, at = _points(carrier, carrier["first"], carrier["last"])
    finite = numpy.isfinite(at)
    known, at = known[finite], at[finite]

    def place(some: Buckets) -> tuple[NDArray[Any], NDArray[Any]]:
        if len(known) == 0:
            nothing = numpy.full(len(some["first_step"]), numpy.nan)
            return nothing, nothing
        x_first = numpy.interp(some["first_step"], known, at)
        x_last = numpy.interp(some["last_step"], known, at)
        return numpy.minimum(x_first, x_last), numpy.maximum(x_first, x_last)

    return place


def _times(sources: list[Source], axis: str, buckets: Buckets) -> tuple[NDArray[Any], NDArray[Any]]:
    first = numpy.asarray(buckets["first_time"], dtype=numpy.float64)
    last = numpy.asarray(buckets["last_time"], dtype=numpy.float64)
    if axis == "time":
        return first / 1e6, last / 1e6
    x_first, x_last = numpy.zeros(len(first)), numpy.zeros(len(first))
    for number, source in enumerate(sources):
        for attempt in numpy.unique(buckets["attempt"][buckets["source"] == number]):
            chosen = (buckets["source"] == number) & (buckets["attempt"] == attempt)
            x_first[chosen] = source.clock(first[chosen], int(attempt))
            x_last[chosen] = source.clock(last[chosen], int(attempt))
    return x_first, x_last


def _points(
    buckets: Buckets, first: NDArray[Any], last: NDArray[Any]
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """(step, value) at both ends of each bucket, sorted by step, for interpolation."""
    steps = numpy.concatenate((buckets["first_step"], buckets["last_step"])).astype(numpy.float64)
    values = numpy.concatenate((first, last)).astype(numpy.float64)
    order = numpy.argsort(steps, kind="stable")
    return steps[order], values[order]
