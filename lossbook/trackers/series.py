"""Series that a tracker keeps apart, put together into rows: what was logged at one step is one row again."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Point(NamedTuple):
    """One value of a series; `place` is where the series is read on behind it."""

    step: int
    time_us: int
    value: float
    place: int


class Together(NamedTuple):
    """The values of one step, and where each of their series is read on."""

    step: int
    time_us: int
    values: dict[str, float]
    places: dict[str, int]


def together(series: Mapping[str, Iterable[Point]]) -> Iterator[Together]:
    """The points of several series, each in its own order, merged by their steps: always in the same order.

    A series that has two values at one step has two rows there.
    """

    def named(key: str, points: Iterable[Point]) -> Iterator[tuple[int, str, Point]]:
        return ((point.step, key, point) for point in points)

    row: Together | None = None
    pieces = [named(key, points) for key, points in sorted(series.items())]
    for step, key, point in heapq.merge(*pieces, key=lambda piece: piece[:2]):
        if row is not None and (row.step != step or key in row.values):
            yield row
            row = None
        if row is None:
            row = Together(step, point.time_us, {}, {})
        row.values[key], row.places[key] = point.value, point.place
    if row is not None:
        yield row
