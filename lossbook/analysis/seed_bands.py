"""Puts several runs of one recipe on one grid: mean, spread, range and interval over seeds, at each place of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from lossbook.analysis.resampling import check_confidence, summarize_places
from lossbook.curves import CLOCKS, Curve, check_points, draw_on_axis, parse_smoothing, smooth
from lossbook.errors import BadArgument, UnknownKey
from lossbook.json_shapes import JsonObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.curves import Smoothing
    from lossbook.reading import RecordedRun

#: Numbers that are worked on at once: a million places of a thousand runs fit no memory.
_BLOCK = 1 << 22
#: More places than any run has rows.
_EVERY_ROW = 1 << 62
_COLUMNS = ("x", "count", "mean", "median", "std", "standard_error", "interval_low", "interval_high", "low", "high")


@dataclass(frozen=True)
class Band:
    """One metric over several runs. Arrays of shape (n,), float64 but for `count` (int64).

    NaN where too few runs are present: none for the mean and the range, one for what tells a spread.

    Attributes:
        key, x_name: the metric and the axis, as they were asked for.
        x: the common grid, increasing.
        mean, low, high: over the runs that are present at x: their mean, their lowest and their highest.
        count: how many runs are present.
        median, std, standard_error: over them; the standard deviation is that of a sample (n - 1).
        interval_low, interval_high: the bootstrap interval of the mean; NaN where none was asked for.
    """

    key: str
    x_name: str
    x: NDArray[numpy.float64]
    mean: NDArray[numpy.float64]
    low: NDArray[numpy.float64]
    high: NDArray[numpy.float64]
    count: NDArray[numpy.int64]
    median: NDArray[numpy.float64]
    std: NDArray[numpy.float64]
    standard_error: NDArray[numpy.float64]
    interval_low: NDArray[numpy.float64]
    interval_high: NDArray[numpy.float64]

    def __len__(self) -> int:
        return len(self.x)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The columns by name, `x` first."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def dicts(self) -> list[JsonObject]:
        """A dictionary for each place; None for NaN."""
        columns = [[None if value != value else value for value in array.tolist()] for array in self.arrays().values()]
        return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]

    def df(self) -> Any:
        """As a pandas DataFrame.

        Raises:
            MissingLibrary: pandas is not installed.
        """
        from lossbook.analysis.seed_summary import data_frame

        return data_frame(self.arrays())

    def csv(self) -> str:
        """Every value in full, a line for each place; nothing for NaN."""
        from lossbook.analysis.seed_summary import csv_text

        return csv_text(self.dicts()) if len(self) else ",".join(_COLUMNS) + "\n"


def seed_band(
    runs: Sequence[RecordedRun],
    key: str,
    *,
    x: str = "step",
    points: int | None = 500,
    start: float | None = None,
    end: float | None = None,
    smoothing: str | float | Smoothing | None = None,
    confidence: float | None = 0.95,
) -> Band:
    """Put the curves of several runs on one grid, and take their mean, spread and range at each place.

    Between its rows a run counts as the line between them, within its own range only: a run that ended early, or has no
    finite value any more, counts no further. Runs without the metric are left out.

    Args:
        runs: seeds of one recipe.
        key: metric name; an alias of it will do, in each run another.
        points: each run is decimated to so many means at the most, and so is the grid; None for every row of every run.
        x, start, end, smoothing: as for `RecordedRun.curve`; with `points=None` every row is smoothed, whatever their number.
        confidence: of the interval; None for none, which is faster.

    Returns:
        Band on a grid of `points` places, or on all places where a run has a row if these are no more.

    Raises:
        UnknownKey: none of the runs logged `key`.
        BadArgument: there are no runs, or an argument cannot be meant.
    """
    most = check_points(points) if points is not None else None
    wanted = check_confidence(confidence) if confidence is not None else None
    if not runs:
        raise BadArgument("a band is made of one run or more: none was given")
    lines: list[tuple[NDArray[numpy.float64], NDArray[numpy.float64]]] = []
    missing: UnknownKey | None = None
    found = 0
    for run in runs:
        try:
            if most is None:
                line = _every_row(run, key, x, start, end, smoothing)
            else:
                line = _finite_line(run.curve(key, x=x, points=most, start=start, end=end, smoothing=smoothing))
        except UnknownKey as error:
            missing = error
            continue
        found += 1
        if len(line[0]):
            lines.append(line)
    if missing is not None and not found:
        raise missing
    grid = numpy.unique(numpy.concatenate([at for at, _ in lines])) if lines else numpy.zeros(0)
    if most is not None and len(grid) > most:
        grid = numpy.linspace(grid[0], grid[-1], most)
    return _summarize(key, x, grid, lines, wanted)


def _summarize(
    key: str,
    x: str,
    grid: NDArray[numpy.float64],
    lines: list[tuple[NDArray[numpy.float64], NDArray[numpy.float64]]],
    confidence: float | None,
) -> Band:
    """Summarize lines on a grid, some of its places at a time: a long band of many runs needs no more memory than a short one."""
    names = ("mean", "low", "high", "median", "std", "standard_error", "interval_low", "interval_high")
    made = {name: numpy.full(len(grid), numpy.nan) for name in names}
    count = numpy.zeros(len(grid), dtype=numpy.int64)
    step = max(1, _BLOCK // max(1, len(lines)))
    for begin in range(0, len(grid), step):
        places = slice(begin, begin + step)
        # (runs, places of this block)
        values = numpy.array([numpy.interp(grid[places], at, shown, numpy.nan, numpy.nan) for at, shown in lines])
        one = summarize_places(values, confidence)
        count[places] = one.count
        made["low"][places] = numpy.fmin.reduce(values, axis=0)
        made["high"][places] = numpy.fmax.reduce(values, axis=0)
        for name in ("mean", "median", "std", "standard_error"):
            made[name][places] = getattr(one, name)
        made["interval_low"][places], made["interval_high"][places] = one.low, one.high
    return Band(key, x, grid, count=count, **made)


def _every_row(
    run: RecordedRun,
    key: str,
    x: str,
    start: float | None,
    end: float | None,
    smoothing: str | float | Smoothing | None,
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """Where each finite row lies, and its value; what several ranks, or several rows, have at one place is averaged."""
    filtering = parse_smoothing(smoothing)
    if start is not None and end is not None and start > end:
        raise BadArgument(f"start={start} is beyond end={end}")

    def drawn() -> Curve:
        axis = x if x == "step" or x in CLOCKS else run.find_key(x)
        # The range is cut out below: what is smoothed is the whole series, as in a curve.
        return draw_on_axis(
            run.sources(), run.find_key(key), axis, points=_EVERY_ROW, start=None, end=None, attempt=None
        )

    curve = run.consistently(drawn)
    at, value = curve.x, curve.mean
    if filtering is not None:
        value = numpy.where(numpy.isfinite(value), smooth(value, filtering), numpy.nan)
    inside = numpy.isfinite(value)
    inside &= True if start is None else at >= start
    inside &= True if end is None else at <= end
    at, value = at[inside], value[inside]
    if bool(numpy.any(at[1:] == at[:-1])):
        at, starts, sizes = numpy.unique(at, return_index=True, return_counts=True)
        value = numpy.add.reduceat(value, starts) / sizes
    return at, value


def _finite_line(curve: Curve) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """The middle and the mean of each bucket that has a finite row; its ends reach to the first and the last row."""
    finite = numpy.isfinite(curve.mean)
    at = (curve.x[finite] + curve.x_end[finite]) / 2
    if len(at) > 1:
        at[0], at[-1] = curve.x[finite][0], curve.x_end[finite][-1]
    return at, curve.mean[finite]
