"""Draws several runs of one recipe as one line with a band: mean and range over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.curves import Curve, check_points
from lossbook.errors import BadArgument, UnknownKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.curves import Smoothing
    from lossbook.reading import RecordedRun


@dataclass(frozen=True)
class Band:
    """Mean and range of one metric over several runs. Arrays of shape (n,), float64 but for `count` (int64).

    Attributes:
        key, x_name: the metric and the axis, as they were asked for.
        x: the common grid, increasing.
        mean, low, high: over the runs that are present at x; NaN where none is.
        count: how many runs are present.
    """

    key: str
    x_name: str
    x: NDArray[numpy.float64]
    mean: NDArray[numpy.float64]
    low: NDArray[numpy.float64]
    high: NDArray[numpy.float64]
    count: NDArray[numpy.int64]

    def __len__(self) -> int:
        return len(self.x)


def seed_band(
    runs: Sequence[RecordedRun],
    key: str,
    *,
    x: str = "step",
    points: int = 500,
    start: float | None = None,
    end: float | None = None,
    smoothing: str | float | Smoothing | None = None,
) -> Band:
    """Put the curves of several runs on one grid, and take their mean and range at each place.

    Each run is decimated to `points` means, and these are interpolated within the run's own range only: a run that
    ended early, or has no finite value any more, counts no further. Runs without the metric are left out.

    Args:
        runs: seeds of one recipe.
        key: metric name; an alias of it will do, in each run another.
        x, points, start, end, smoothing: as for `RecordedRun.curve`.

    Returns:
        Band on a grid of `points` places, or on all places where a run has a row if these are no more.

    Raises:
        UnknownKey: none of the runs logged `key`.
        BadArgument: there are no runs, or an argument cannot be meant.
    """
    points = check_points(points)
    if not runs:
        raise BadArgument("a band is made of one run or more: none was given")
    lines: list[tuple[NDArray[numpy.float64], NDArray[numpy.float64]]] = []
    missing: UnknownKey | None = None
    found = 0
    for run in runs:
        try:
            curve = run.curve(key, x=x, points=points, start=start, end=end, smoothing=smoothing)
        except UnknownKey as error:
            missing = error
            continue
        found += 1
        line = _finite_line(curve)
        if len(line[0]):
            lines.append(line)
    if missing is not None and not found:
        raise missing
    if not lines:
        nothing = numpy.zeros(0)
        return Band(key, x, nothing, nothing, nothing, nothing, numpy.zeros(0, dtype=numpy.int64))
    grid = numpy.unique(numpy.concatenate([at for at, _ in lines]))
    if len(grid) > points:
        grid = numpy.linspace(grid[0], grid[-1], points)
    # One run after the other, so that a thousand seeds need no more memory than two.
    total, count = numpy.zeros(len(grid)), numpy.zeros(len(grid), dtype=numpy.int64)
    low, high = numpy.full(len(grid), numpy.nan), numpy.full(len(grid), numpy.nan)
    for at, value in lines:
        present = (grid >= at[0]) & (grid <= at[-1])
        shown = numpy.interp(grid[present], at, value)
        total[present] += shown
        count[present] += 1
        low[present] = numpy.fmin(low[present], shown)
        high[present] = numpy.fmax(high[present], shown)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        mean = numpy.where(count > 0, total / count, numpy.nan)
    return Band(key, x, grid, mean, low, high, count)


def _finite_line(curve: Curve) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """The middle and the mean of each bucket that has a finite row; its ends reach to the first and the last row."""
    finite = numpy.isfinite(curve.mean)
    at = (curve.x[finite] + curve.x_end[finite]) / 2
    if len(at) > 1:
        at[0], at[-1] = curve.x[finite][0], curve.x_end[finite][-1]
    return at, curve.mean[finite]
