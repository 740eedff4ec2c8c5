"""Summarises series at several resolutions, so that a curve of any length is drawn from few rows.

Each level groups 2^k consecutive rows of one series (one key, attempt and rank, in the order of step and row) and
keeps their first, last, extremes, sum and counts. Levels are a factor of 4 apart, so a curve of n points reads at
most 4n buckets, and all levels together are a third larger than the finest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy

from lossbook.storage.schema import TOP_LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.storage.schema import Columns

FINEST_LEVEL = 6
LEVEL_STEP = 2


class Series(NamedTuple):
    """Rows of several series, sorted by series, step, row. Arrays of shape (n,) but `starts`."""

    starts: NDArray[numpy.int64]  # (number of series,): where each begins
    step: NDArray[numpy.int64]
    row: NDArray[numpy.int64]
    time: NDArray[numpy.int64]  # µs
    value: NDArray[numpy.float64]


def rollup(series: Series) -> Columns:
    """Summarise each series at every level that it is long enough for, and at the top level.

    Returns:
        Columns of the rollup file by name, keys, attempts and ranks left out: `series` (the index of the series)
        stands for them. Sorted by series, level, first_step.
    """
    lengths = numpy.diff(numpy.append(series.starts, len(series.value)))
    return coarser_levels(finest_level(series), lengths)


def finest_level(series: Series) -> Columns:
    """Buckets of the finest level for every series, short ones as well; `series` is the index of the series.

    A long series may be summarised in pieces of a whole number of buckets, one behind the other.
    """
    count = len(series.value)
    if count == 0:
        return {}
    width = 1 << FINEST_LEVEL
    lengths = numpy.diff(numpy.append(series.starts, count))
    numbers = -(-lengths // width)
    owner = numpy.repeat(numpy.arange(len(lengths)), numbers)
    within = numpy.arange(len(owner)) - numpy.repeat(numpy.cumsum(numbers) - numbers, numbers)
    starts = series.starts[owner] + within * width
    finite = numpy.isfinite(series.value)
    # Extremes and sums over finite values: the others are replaced by what changes nothing.
    low_of, high_of, sum_of = (numpy.where(finite, series.value, other) for other in (numpy.inf, -numpy.inf, 0.0))
    counts = numpy.diff(starts, append=count)
    nonfinite = numpy.add.reduceat((~finite).astype(numpy.int64), starts)
    empty = nonfinite == counts
    rows: Columns = {
        "first_step": series.step,
        "last_step": series.step,
        "first_row": series.row,
        "last_row": series.row,
        "first_time": series.time,
        "last_time": series.time,
        "first": series.value,
        "last": series.value,
        "min": low_of,
        "max": high_of,
        "min_step": series.step,
        "max_step": series.step,
    }
    buckets = _join(rows, starts, counts)
    # A sum of the largest doubles is infinity: that is what they add up to.
    with numpy.errstate(over="ignore", invalid="ignore"):
        buckets["sum"] = numpy.add.reduceat(sum_of, starts)
    buckets |= {"count": counts, "nonfinite": nonfinite, "series": owner}
    buckets["min"][empty] = numpy.inf
    buckets["max"][empty] = -numpy.inf
    return buckets


def coarser_levels(finest: Columns, lengths: NDArray[numpy.int64]) -> Columns:
    """Make every level of the finest one's buckets, each of the level below it.

    Args:
        finest: of `finest_level`, series by series.
        lengths: rows of each series, shape (series,).

    Returns:
        As `rollup`.
    """
    if not finest:
        return {}
    current, level = finest, FINEST_LEVEL
    parts: list[Columns] = []
    while True:
        owner = current["series"]
        chosen = lengths[owner] > 1 << level
        if chosen.any():
            part = {name: column[chosen] for name, column in current.items()}
            parts.append(part | {"level": numpy.full(len(part["series"]), level, dtype=numpy.int8)})
        if len(owner) == len(lengths):
            break
        begins = numpy.flatnonzero(numpy.diff(owner, prepend=-1))
        within = numpy.arange(len(owner)) - numpy.repeat(begins, numpy.diff(begins, append=len(owner)))
        starts = numpy.flatnonzero(within % (1 << LEVEL_STEP) == 0)
        joined = _join(current, starts, numpy.diff(starts, append=len(owner)))
        with numpy.errstate(over="ignore", invalid="ignore"):
            joined |= {name: numpy.add.reduceat(current[name], starts) for name in ("sum", "count", "nonfinite")}
        current = joined | {"series": owner[starts]}
        level += LEVEL_STEP
    parts.append(current | {"level": numpy.full(len(lengths), TOP_LEVEL, dtype=numpy.int8)})
    columns = {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["empty"] = columns["count"] == columns["nonfinite"]
    order = numpy.lexsort((columns["first_step"], columns["level"], columns["series"]))
    return {name: column[order] for name, column in columns.items()}


def _join(parts: Columns, starts: NDArray[numpy.int64], sizes: NDArray[numpy.int64]) -> Columns:
    """What buckets keep of rows, or of smaller buckets; bucket k is made of `sizes[k]` of them from `starts[k]` on."""
    ends = starts + sizes - 1
    low, high = numpy.minimum.reduceat(parts["min"], starts), numpy.maximum.reduceat(parts["max"], starts)
    low_at = _first_match(parts["min"] == numpy.repeat(low, sizes), starts)
    high_at = _first_match(parts["max"] == numpy.repeat(high, sizes), starts)
    return {
        "first_step": parts["first_step"][starts],
        "last_step": parts["last_step"][ends],
        "first_row": numpy.minimum.reduceat(parts["first_row"], starts),
        "last_row": numpy.maximum.reduceat(parts["last_row"], starts),
        "first_time": numpy.minimum.reduceat(parts["first_time"], starts),
        "last_time": numpy.maximum.reduceat(parts["last_time"], starts),
        "first": parts["first"][starts],
        "last": parts["last"][ends],
        "min": low,
        "max": high,
        "min_step": parts["min_step"][low_at],
        "max_step": parts["max_step"][high_at],
    }


def _first_match(matches: NDArray[numpy.bool_], starts: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
    """The position of the first match at or behind each start; every bucket has one."""
    at = numpy.flatnonzero(matches)
    found: NDArray[numpy.int64] = at[numpy.searchsorted(at, starts)]
    return found
