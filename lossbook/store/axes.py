"""What a curve can be drawn against: step, time, wallclock, or any other metric; and which runs its rows come from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    clocks = _Clocks([one for one, _ in chain])
    return [Source(one, last, partial(clocks.seconds, number)) for number, (one, last) in enumerate(chain)]


class _Clocks:
    """The wallclock of a run and of those that it was forked from: seconds that attempts ran, gaps left out."""

    def __init__(self, chain: list[RunRows]) -> None:
        self._chain = chain
        self._known: list[dict[int, tuple[int, float]]] | None = None

    def seconds(self, number: int, time_us: NDArray[Any], attempt: int) -> NDArray[Any]:
        """What the clock showed at some times of an attempt of the chain's `number`-th run."""
        if self._known is None:
            # Only the axis that needs it looks it up.
            self._known, elapsed = [], 0.0
            for rows in self._chain:
                offsets, elapsed = _offsets(rows, elapsed)
                self._known.append(offsets)
        begun, offset = self._known[number].get(attempt, (0, 0.0))
        shown: NDArray[Any] = (time_us - begun) / 1e6 + offset
        return shown


def _offsets(rows: RunRows, elapsed: float) -> tuple[dict[int, tuple[int, float]], float]:
    """Per attempt its beginning (µs) and what the clock showed then; and what it shows at the end."""
    times = rows.attempt_times()
    begins = {attempt: first for attempt, (first, _) in times.items()}
    for number, attempt in enumerate(rows.identity.get("attempts") or ()):
        if attempt.get("started"):
            begins[int(attempt.get("number", number))] = int(attempt["started"])
    offsets: dict[int, tuple[int, float]] = {}
    for number, begun in sorted(begins.items()):
        offsets[number] = (begun, elapsed)
        elapsed += max(0.0, (times.get(number, (begun, begun))[1] - begun) / 1e6)
    return offsets, elapsed


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
