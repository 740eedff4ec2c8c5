"""Statistics of what came last, kept up row by row in constant memory."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

CALM_SAMPLES = 5
#: The standard deviation of normal noise is so many times its median absolute deviation.
SIGMA_OF_MAD = 1.4826


def median(values: list[float]) -> float:
    """The median of values that are sorted already."""
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def sigma(values: list[float], centre: float) -> float:
    """1.4826 times the median absolute deviation around `centre` of values that are sorted already."""
    # From the centre outwards the smaller of both sides' distances is the next one: no second sort is needed.
    right = bisect_left(values, centre)
    left = right - 1
    count, wanted, distance = len(values), len(values) // 2, 0.0
    for _ in range(wanted + 1):
        below = centre - values[left] if left >= 0 else float("inf")
        above = values[right] - centre if right < count else float("inf")
        if below <= above:
            distance, left = below, left - 1
        else:
            distance, right = above, right + 1
    return SIGMA_OF_MAD * distance


class SortedWindow:
    """The last `size` values, in order of size as well as of arrival."""

    __slots__ = ("_arrived", "_size", "values")

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrived: deque[float] = deque()
        self.values: list[float] = []

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        """Take a finite value; the oldest one goes when the window is full."""
        if len(self._arrived) == self._size:
            del self.values[bisect_left(self.values, self._arrived.popleft())]
        self._arrived.append(value)
        insort(self.values, value)

    def last(self, count: int) -> list[float]:
        """The newest `count` values, oldest first."""
        return list(self._arrived)[-count:]

    def clear(self) -> None:
        self._arrived.clear()
        self.values.clear()


class Held:
    """How long a condition has held, a few samples otherwise forgiven; `CALM_SAMPLES` otherwise in a row end it.

    Args:
        seconds: after which it counts.
        least: samples that must speak for it.
        share: of all samples since it began, those that must.
        gap_seconds: samples further apart begin anew.
    """

    __slots__ = ("_calm", "_gap_us", "_least", "_seconds", "_share", "all", "first_step", "last_us", "since_us", "yes")

    def __init__(self, seconds: float, *, least: int, share: float, gap_seconds: float) -> None:
        self._seconds, self._least, self._share, self._gap_us = seconds, least, share, gap_seconds * 1e6
        self.since_us, self.last_us, self.first_step, self.yes, self.all, self._calm = 0, 0, 0, 0, 0, 0

    def take(self, holds: bool, step: int, time_us: int) -> bool:
        """Take a sample; returns whether the condition has held for long enough."""
        self._calm = 0 if holds else self._calm + 1
        if self.all and (
            time_us - self.last_us > self._gap_us
            or self._calm >= CALM_SAMPLES
            or (self.yes + holds) / (self.all + 1) < self._share
        ):
            self.all = self.yes = 0
        self.last_us = time_us
        if not self.all:
            if not holds:
                return False
            self.since_us, self.first_step = time_us, step
        self.all += 1
        self.yes += holds
        return self.yes >= self._least and time_us - self.since_us >= self._seconds * 1e6

    @property
    def seconds(self) -> float:
        """Since when it has held."""
        return (self.last_us - self.since_us) / 1e6 if self.all else 0.0
