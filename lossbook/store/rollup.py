"""Multi-resolution summaries of series: what lets a curve of any length be drawn from few rows.

Each level groups 2^k consecutive rows of one series (one key, attempt and rank, in the order of step and row) and
keeps their first, last, extremes, sum and counts. Levels are a factor of 4 apart, so a curve of n points reads at
most 4n buckets, and all levels together are a third larger than the finest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from lossbook.store.schema import TOP_LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINEST_LEVEL = 6
LEVEL_STEP = 2


class Series(NamedTuple):
    """Rows of several series, sorted by series, step, row. Arrays of shape (n,) but `starts`."""

    starts: NDArray[numpy.int64]  # (number of series,): where each begins
    step: NDArray[numpy.int64]
    row: NDArray[numpy.int64]
    time: NDArray[numpy.int64]  # µs
    value: NDArray[numpy.float64]


def rollup(series: Series) -> dict[str, NDArray[Any]]:
    """Summarise each series at every level that it is long enough for, and at the top level.

    Returns:
        Columns of the rollup file by name, keys, attempts and ranks left out: `series` (the index of the series)
        stands for them. Sorted by series, level, first_step.
    """
    count = len(series.value)
    lengths = numpy.diff(numpy.append(series.starts, count))
    finite = numpy.isfinite(series.value)
    # Extremes and sums over finite values: the others are replaced by what changes nothing.
    for_min = numpy.where(finite, series.value, numpy.inf)
    for_max = numpy.where(finite, series.value, -numpy.inf)
    for_sum = numpy.where(finite, series.value, 0.0)
    parts: list[dict[str, NDArray[Any]]] = []
    level = FINEST_LEVEL
    longest = int(lengths.max()) if count else 0
    levels = []
    while longest > 1 << level:
        levels.append(level)
        level += LEVEL_STEP
    for level in [*levels, TOP_LEVEL]:
        if level == TOP_LEVEL:
            chosen = numpy.arange(len(lengths))
            starts = series.starts
        else:
            chosen = numpy.flatnonzero(lengths > 1 << level)
            starts, chosen = _bucket_starts(series.starts, lengths, chosen, 1 << level)
        if len(starts) == 0:
            continue
        ends = _bucket_ends(starts, chosen, series.starts, lengths, level)
        # A sum of the largest doubles is infinity: that is what they add up to.
        with numpy.errstate(over="ignore", invalid="ignore"):
            part = _summarise(series, starts, ends, for_min, for_max, for_sum, finite)
        part["series"] = chosen.astype(numpy.int64)
        part["level"] = numpy.full(len(starts), level, dtype=numpy.int8)
        parts.append(part)
    if not parts:
        return {}
    columns = {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = numpy.lexsort((columns["first_step"], columns["level"], columns["series"]))
    return {name: column[order] for name, column in columns.items()}


def _bucket_starts(
    starts: NDArray[numpy.int64], lengths: NDArray[numpy.int64], chosen: NDArray[Any], width: int
) -> tuple[NDArray[numpy.int64], NDArray[Any]]:
    """Where each bucket of `width` rows begins, and which series it belongs to."""
    numbers = -(-lengths[chosen] // width)
    owner = numpy.repeat(chosen, numbers)
    first = numpy.cumsum(numbers) - numbers
    within = numpy.arange(int(numbers.sum())) - numpy.repeat(first, numbers)
    return starts[owner] + within * width, owner


def _bucket_ends(
    starts: NDArray[numpy.int64], owner: NDArray[Any], series_starts: NDArray[numpy.int64],
    lengths: NDArray[numpy.int64], level: int,
) -> NDArray[numpy.int64]:  # fmt: skip
    last = series_starts[owner] + lengths[owner]
    ends: NDArray[numpy.int64] = last if level == TOP_LEVEL else numpy.minimum(starts + (1 << level), last)
    return ends


def _summarise(
    series: Series, starts: NDArray[numpy.int64], ends: NDArray[numpy.int64], for_min: NDArray[numpy.float64],
    for_max: NDArray[numpy.float64], for_sum: NDArray[numpy.float64], finite: NDArray[numpy.bool_],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    edges = numpy.empty(2 * len(starts), dtype=numpy.int64)
    edges[0::2], edges[1::2] = starts, ends
    # reduceat takes pairs [start, end) at even places; an end behind the last row would be out of range.
    if edges[-1] == len(series.value):
        edges = edges[:-1]

    def reduce(function: Any, values: NDArray[Any]) -> NDArray[Any]:
        reduced: NDArray[Any] = function.reduceat(values, edges)[0::2]
        return reduced

    counts = ends - starts
    low, high = reduce(numpy.minimum, for_min), reduce(numpy.maximum, for_max)
    owner = numpy.repeat(numpy.arange(len(starts)), counts)
    inside = _positions(starts, counts)
    low_at = _first_match(for_min[inside] == low[owner], owner, inside, len(starts))
    high_at = _first_match(for_max[inside] == high[owner], owner, inside, len(starts))
    finite_counts = reduce(numpy.add, finite.astype(numpy.int64))
    empty = finite_counts == 0
    return {
        "first_step": series.step[starts],
        "last_step": series.step[ends - 1],
        "first_row": reduce(numpy.minimum, series.row),
        "last_row": reduce(numpy.maximum, series.row),
        "first_time": reduce(numpy.minimum, series.time),
        "last_time": reduce(numpy.maximum, series.time),
        "first": series.value[starts],
        "last": series.value[ends - 1],
        "min": numpy.where(empty, numpy.nan, low),
        "max": numpy.where(empty, numpy.nan, high),
        "sum": reduce(numpy.add, for_sum),
        "min_step": series.step[low_at],
        "max_step": series.step[high_at],
        "count": counts,
        "nonfinite": counts - finite_counts,
        "empty": empty,
    }


def _positions(starts: NDArray[numpy.int64], counts: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
    """The row positions of all buckets, one bucket behind the other."""
    total = int(counts.sum())
    before = numpy.cumsum(counts) - counts
    return numpy.arange(total) - numpy.repeat(before - starts, counts)


def _first_match(
    matches: NDArray[numpy.bool_], owner: NDArray[Any], positions: NDArray[numpy.int64], buckets: int
) -> NDArray[numpy.int64]:
    """For each bucket the position of its first match; every bucket has one."""
    at = numpy.flatnonzero(matches)
    owners, first = numpy.unique(owner[at], return_index=True)
    result = numpy.zeros(buckets, dtype=numpy.int64)
    result[owners] = positions[at[first]]
    return result
