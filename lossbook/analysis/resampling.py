"""What several runs say of one number: mean, spread, a bootstrap interval of the mean, and permutation tests.

The interval is the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The tests
are Fisher's (The Design of Experiments, 1935, sections 21 and 21.1): what the difference of means would be had each pair, or
each run, been given its place by lot. Where all arrangements can be looked at, they are; else some are drawn, always the same
ones, and the one that was seen is counted among them (Phipson and Smyth, 2010).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING

import numpy

from lossbook.errors import BadArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Up to so many runs every resample is looked at (1,716 of them); of more, so many are drawn.
_EXACT_RUNS = 7
_RESAMPLES = 4000
#: Up to so many arrangements of a permutation test are all looked at; else so many are drawn.
MOST_ARRANGEMENTS = 100_000
_SEED = 20_260_101
#: Numbers that are worked on at once.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class PlaceStatistics:
    """Statistics over runs at each of some places. Arrays of shape (places,), float64 but for `count` (int64).

    NaN where there are too few runs: none for the mean and the median, one for all that tells a spread.
    """

    count: NDArray[numpy.int64]
    mean: NDArray[numpy.float64]
    median: NDArray[numpy.float64]
    std: NDArray[numpy.float64]
    standard_error: NDArray[numpy.float64]
    low: NDArray[numpy.float64]
    high: NDArray[numpy.float64]


def check_confidence(confidence: float) -> float:
    """Raise `BadArgument` unless it is the confidence of an interval."""
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise BadArgument(f"confidence={confidence!r}: it is a share between 0 and 1, such as 0.95")
    return float(confidence)


def summarize_places(values: NDArray[numpy.float64], confidence: float | None = 0.95) -> PlaceStatistics:
    """Summarize each column over the rows in which it is finite.

    Args:
        values: shape (runs, places).
        confidence: of the bootstrap interval; None for none, which saves its time.
    """
    present = numpy.isfinite(values)
    count = present.sum(axis=0)
    nothing = numpy.full(values.shape[1], numpy.nan)
    mean, median, std, low, high = (nothing.copy() for _ in range(5))
    for here, runs in _patterns(present):
        chosen = values[runs][:, here]  # (runs that are present, places)
        mean[here] = chosen.mean(axis=0)
        median[here] = numpy.median(chosen, axis=0)
        if len(runs) > 1:
            std[here] = chosen.std(axis=0, ddof=1)
            if confidence is not None:
                low[here], high[here] = bootstrap_interval(chosen, confidence)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        error = std / numpy.sqrt(count)
    return PlaceStatistics(count.astype(numpy.int64), mean, median, std, error, low, high)


def _patterns(present: NDArray[numpy.bool_]) -> Iterator[tuple[NDArray[numpy.int64], NDArray[numpy.int64]]]:
    """The places at which the same runs are present, and these runs; places without any are left out."""
    packed = numpy.packbits(present, axis=0)
    _, pattern_of = numpy.unique(packed, axis=1, return_inverse=True)
    pattern_of = pattern_of.reshape(-1)
    order = numpy.argsort(pattern_of, kind="stable")
    for here in numpy.split(order, numpy.flatnonzero(numpy.diff(pattern_of[order])) + 1):
        runs = numpy.flatnonzero(present[:, here[0]]) if len(here) else here
        if len(runs):
            yield here, runs


def bootstrap_interval(
    values: NDArray[numpy.float64], confidence: float
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """The percentile interval of the mean over rows, for each column.

    Args:
        values: shape (runs, places), two runs at the least, all finite.
    """
    shares, chances = _resamples(len(values))
    places = values.shape[1]
    low, high = numpy.empty(places), numpy.empty(places)
    step = max(1, _BLOCK // len(shares))
    tail = (1 - confidence) / 2
    for begin in range(0, places, step):
        means = shares @ values[:, begin : begin + step]  # (resamples, places of this block)
        order = numpy.argsort(means, axis=0, kind="stable")
        means = numpy.take_along_axis(means, order, axis=0)
        reached = numpy.cumsum(chances[order], axis=0)
        for end, bound in ((low, tail), (high, 1 - tail)):
            # The smallest mean that is reached with this chance; rounding must not push it to the next.
            at = numpy.minimum((reached < bound - 1e-9).sum(axis=0), len(shares) - 1)
            end[begin : begin + step] = means[at, numpy.arange(means.shape[1])]
    return low, high


def difference_interval(
    first: NDArray[numpy.float64], second: NDArray[numpy.float64], confidence: float
) -> tuple[float, float]:
    """The percentile interval of the difference of the means of two groups, each resampled by itself."""
    left, left_chances = _resamples(len(first))
    right, right_chances = _resamples(len(second))
    if len(left) * len(right) <= _BLOCK:
        means = ((left @ first)[:, None] - (right @ second)[None, :]).ravel()
        chances = (left_chances[:, None] * right_chances[None, :]).ravel()
    else:
        generator = numpy.random.Generator(numpy.random.PCG64(_SEED))
        draws = 10 * _RESAMPLES
        chosen = (
            generator.choice(side @ values, size=draws, p=chances)
            for side, values, chances in ((left, first, left_chances), (right, second, right_chances))
        )
        means = next(chosen) - next(chosen)
        chances = numpy.full(draws, 1 / draws)
    order = numpy.argsort(means, kind="stable")
    reached = numpy.cumsum(chances[order])
    tail = (1 - confidence) / 2
    low, high = (means[order[min(int((reached < bound - 1e-9).sum()), len(means) - 1)]] for bound in (tail, 1 - tail))
    return float(low), float(high)


@lru_cache(maxsize=16)
def _resamples(count: int) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """The share that each of `count` runs has in each resample, shape (resamples, runs), and each resample's chance."""
    if count <= _EXACT_RUNS:
        drawn = [numpy.bincount(one, minlength=count) for one in combinations_with_replacement(range(count), count)]
        times = numpy.array(drawn)
        ways = [math.factorial(count) / math.prod(math.factorial(int(one)) for one in row) for row in times]
        return times / count, numpy.array(ways) / count**count
    generator = numpy.random.Generator(numpy.random.PCG64(_SEED))
    times = generator.multinomial(count, numpy.full(count, 1 / count), size=_RESAMPLES)
    return times / count, numpy.full(_RESAMPLES, 1 / _RESAMPLES)


@dataclass(frozen=True)
class PermutationTest:
    """A two-sided permutation test of a difference of means.

    Attributes:
        p_value: the share of arrangements with a difference as large as the one that was seen, or larger.
        smallest_p_value: what it can be at the least with so many runs.
        arrangements: how many were looked at.
        is_exact: whether these are all that there are.
    """

    p_value: float
    smallest_p_value: float
    arrangements: int
    is_exact: bool


def sign_flip_test(differences: NDArray[numpy.float64]) -> PermutationTest:
    """Test pairs: by chance, each difference could as well have had the other sign."""
    count = len(differences)
    seen = abs(float(differences.sum()))
    least = seen - _rounding(differences)
    total = 2**count
    if total <= MOST_ARRANGEMENTS:
        flips = (numpy.arange(total)[:, None] >> numpy.arange(count)) & 1  # (arrangements, pairs)
        as_large = int((numpy.abs((1.0 - 2.0 * flips) @ differences) >= least).sum())
        return PermutationTest(as_large / total, min(1.0, 2 / total), total, True)
    generator = numpy.random.Generator(numpy.random.PCG64(_SEED))
    as_large, left = 1, MOST_ARRANGEMENTS - 1
    while left:
        block = min(left, max(1, _BLOCK // count))
        signs = generator.integers(0, 2, size=(block, count)) * 2.0 - 1.0
        as_large += int((numpy.abs(signs @ differences) >= least).sum())
        left -= block
    return PermutationTest(as_large / MOST_ARRANGEMENTS, 1 / MOST_ARRANGEMENTS, MOST_ARRANGEMENTS, False)


def two_sample_test(first: NDArray[numpy.float64], second: NDArray[numpy.float64]) -> PermutationTest:
    """Test two groups: by chance, each run could as well have been of the other group."""
    pooled = numpy.concatenate((first, second))
    count, size = len(pooled), len(first)
    pooled = pooled - pooled.mean()
    # With the mean taken away, the sum of one group tells the difference of means.
    seen = abs(float(pooled[:size].sum()))
    least = seen - _rounding(pooled)
    total = math.comb(count, size)
    if total <= MOST_ARRANGEMENTS:
        as_large = sum(
            int((numpy.abs(pooled[chosen].sum(axis=1)) >= least).sum()) for chosen in _all_choices(count, size, total)
        )
        smallest = (2 if 2 * size == count else 1) / total
        return PermutationTest(as_large / total, min(1.0, smallest), total, True)
    generator = numpy.random.Generator(numpy.random.PCG64(_SEED))
    as_large, left = 1, MOST_ARRANGEMENTS - 1
    while left:
        block = min(left, max(1, _BLOCK // count))
        chosen = numpy.argsort(generator.random((block, count)), axis=1)[:, :size]
        as_large += int((numpy.abs(pooled[chosen].sum(axis=1)) >= least).sum())
        left -= block
    return PermutationTest(as_large / MOST_ARRANGEMENTS, 1 / MOST_ARRANGEMENTS, MOST_ARRANGEMENTS, False)


def _all_choices(count: int, size: int, total: int) -> Iterator[NDArray[numpy.int64]]:
    flat = numpy.fromiter(
        (one for chosen in combinations(range(count), size) for one in chosen), dtype=numpy.int64, count=total * size
    )
    step = max(1, _BLOCK // size)
    chosen = flat.reshape(total, size)
    for begin in range(0, total, step):
        yield chosen[begin : begin + step]


def _rounding(values: NDArray[numpy.float64]) -> float:
    """How far two sums of the same numbers can lie apart."""
    return 1e-12 * float(numpy.abs(values).sum())
