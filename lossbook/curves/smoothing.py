"""Parses a smoothing such as "ema:0.99" and smooths a series of rows by it.

Every filter gives an array of the shape it was given. Values that are not finite stay where they are, and the others
are smoothed as if those rows had not been logged. A spike, however high, changes only what its weight reaches: no
filter here subtracts one long running sum from another, nor transforms the whole series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.errors import BadArgument

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KINDS = ("ema", "mean", "median", "gaussian")
ALLOWED = '"ema:0.99" (or 0.99), "mean:50", "median:50" or "gaussian:20"'
#: A Gaussian narrower than that many rows is convolved with its own kernel, a wider one is made of moving averages.
_NARROW = 8.0
#: Moving averages that make a wide Gaussian.
_PASSES = 4
#: Medians are taken for so many rows at a time: what they need then stays in the processor's cache.
_BLOCK = 8192
#: The average of the largest doubles may be infinite: that is no cause for a warning.
_QUIET = numpy.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True)
class Smoothing:
    """A filter and how much of it: the EMA's beta, a window in rows, or a Gaussian's standard deviation in rows."""

    kind: str
    amount: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"


def parse_smoothing(value: str | float | Smoothing | None) -> Smoothing | None:
    """Read what was asked for: "ema:0.99", a bare 0.99 (an EMA), "mean:50", "median:50", "gaussian:20".

    Returns:
        The filter; None for None, an empty text and 0.

    Raises:
        BadArgument: it is none of these, or the amount cannot be meant.
    """
    if value is None or isinstance(value, Smoothing):
        return value
    refusal = f"smoothing {value!r} cannot be understood: give {ALLOWED}"
    if isinstance(value, bool) or not isinstance(value, (str, float, int, numpy.number)):
        raise BadArgument(refusal)
    kind, amount_text = "ema", str(value).strip().lower()
    if not amount_text:
        return None
    if ":" in amount_text:
        kind, _, amount_text = (part.strip() for part in amount_text.partition(":"))
    try:
        amount = float(amount_text)
    except ValueError:
        raise BadArgument(refusal) from None
    if kind not in KINDS:
        raise BadArgument(refusal)
    if kind == "ema":
        if not 0 <= amount < 1:
            raise BadArgument(f"smoothing {value!r}: an EMA's beta is 0 or more and below 1; otherwise give {ALLOWED}")
        return Smoothing(kind, amount) if amount else None
    if kind == "gaussian":
        if not (math.isfinite(amount) and amount > 0):
            raise BadArgument(f"smoothing {value!r}: a Gaussian's width is a number of rows above 0")
    elif not (math.isfinite(amount) and amount >= 1 and amount == int(amount)):
        raise BadArgument(f"smoothing {value!r}: a window is a whole number of rows, 1 or more")
    return Smoothing(kind, amount)


def smooth(values: ArrayLike, smoothing: Smoothing) -> NDArray[numpy.float64]:
    """Smooth rows, shape (n,), with the filter that was asked for; the same shape comes back."""
    if smoothing.kind == "ema":
        return exponential_moving_average(values, smoothing.amount)
    if smoothing.kind == "mean":
        return moving_average(values, int(smoothing.amount))
    if smoothing.kind == "median":
        return moving_median(values, int(smoothing.amount))
    return gaussian(values, smoothing.amount)


@_QUIET
def smooth_buckets(
    means: NDArray[numpy.float64], counts: NDArray[numpy.int64], smoothing: Smoothing
) -> NDArray[numpy.float64]:
    """Smooth the means of buckets of rows as if each row had its bucket's mean.

    An EMA decays by `beta**count` a bucket. A window is made narrower by the buckets' usual size, one bucket at least.

    Args:
        means: shape (n,); NaN where a bucket has no finite row.
        counts: finite rows of each, shape (n,).
    """
    if smoothing.kind == "ema":
        return _weighted_ema(means, smoothing.amount, numpy.asarray(counts, dtype=numpy.float64))
    rows_each = float(numpy.median(counts)) if len(counts) else 1.0
    amount = smoothing.amount / max(rows_each, 1.0)
    return smooth(means, Smoothing(smoothing.kind, amount if smoothing.kind == "gaussian" else max(1, round(amount))))


# -- the filters --------------------------------------------------------------------------------------------------


@_QUIET
def exponential_moving_average(values: ArrayLike, beta: float) -> NDArray[numpy.float64]:
    """Average rows with weights that fall by `beta` a row, without a bias towards zero at the beginning.

    The running average is divided by 1 - beta**t, as Adam's moments are (Kingma and Ba, "Adam", 2014, section 3), so
    the first smoothed value is the first value.

    Args:
        values: shape (n,).
        beta: 0 or more, below 1.

    Raises:
        BadArgument: `beta` is no such number.
    """
    if not 0 <= beta < 1:
        raise BadArgument(f"beta={beta!r}: an EMA's beta is 0 or more and below 1")
    return _weighted_ema(_as_rows(values), beta, None)


@_QUIET
def moving_average(values: ArrayLike, window: int) -> NDArray[numpy.float64]:
    """Average over `window` rows around each, fewer at the ends.

    An even window has one row more after than before. Each sum is put together from the two halves of blocks that the
    window crosses (van Herk 1992, there for extremes), so that no large value is added and taken away again.

    Raises:
        BadArgument: `window` is no whole number of rows.
    """
    rows = _as_rows(values)
    window = _check_window(window, len(rows))
    finite = numpy.isfinite(rows)
    before, after = (window - 1) // 2, window // 2
    total = _window_sums(numpy.where(finite, rows, 0.0), before, after)
    if bool(finite.all()):
        position = numpy.arange(len(rows))
        count = numpy.minimum(position + after, len(rows) - 1) - numpy.maximum(position - before, 0) + 1
        average: NDArray[numpy.float64] = total / count
        return average
    return numpy.where(
        finite, total / numpy.maximum(_window_sums(finite.astype(numpy.float64), before, after), 1), rows
    )


@_QUIET
def moving_median(values: ArrayLike, window: int) -> NDArray[numpy.float64]:
    """Take the median of `window` rows around each, fewer at the ends: a spike shorter than half of it is gone.

    Exact, and about as fast whatever the window: each window asks a wavelet matrix for its middle (Claude, Navarro
    and Ordóñez, "The wavelet matrix", 2015).

    Raises:
        BadArgument: `window` is no whole number of rows.
    """
    rows = _as_rows(values)
    window = _check_window(window, len(rows))
    finite = numpy.isfinite(rows)
    kept = rows[finite]
    if len(kept) == 0:
        return rows.copy()
    at = numpy.flatnonzero(finite)
    known = numpy.concatenate(([0], numpy.cumsum(finite)))
    begins = known[numpy.maximum(at - (window - 1) // 2, 0)]
    ends = known[numpy.minimum(at + window // 2 + 1, len(rows))]
    smoothed = rows.copy()
    block = max(_BLOCK, 2 * window)
    for start in range(0, len(kept), block):
        begin, end = begins[start : start + block], ends[start : start + block]
        first = int(begin[0])
        smoothed[at[start : start + block]] = _medians(kept[first : int(end[-1])], begin - first, end - first)
    return smoothed


@_QUIET
def gaussian(values: ArrayLike, width: float) -> NDArray[numpy.float64]:
    """Average rows with the weights of a bell whose standard deviation is `width` rows.

    A wide bell is made of four moving averages of the same variance (Kovesi, "Fast almost-Gaussian filtering", 2010):
    its weights differ from the bell's by at most 3 % of the highest, and any width costs the same.

    Raises:
        BadArgument: `width` is not above 0.
    """
    if not (math.isfinite(width) and width > 0):
        raise BadArgument(f"width={width!r}: a Gaussian's width is a number of rows above 0")
    rows = _as_rows(values)
    if len(rows) == 0:
        return rows
    finite = numpy.isfinite(rows)
    # A bell far wider than the series is flat over it.
    width = min(width, 4.0 * len(rows))
    total = _bell(numpy.where(finite, rows, 0.0), width)
    if not bool(finite.all()):
        weight = _bell(finite.astype(numpy.float64), width)
        return numpy.where(finite, total / numpy.where(finite, weight, 1.0), rows)
    # Away from the ends all rows have the same weight.
    reach = min(math.ceil(5 * width), len(rows))
    at_end = _bell(numpy.ones(min(2 * reach + 1, len(rows))), width)
    if len(at_end) == len(rows):
        return total / at_end
    weight = numpy.full(len(rows), at_end[reach])
    weight[:reach], weight[-reach:] = at_end[:reach], at_end[-reach:]
    return total / weight


# -- how ----------------------------------------------------------------------------------------------------------


def _as_rows(values: ArrayLike) -> NDArray[numpy.float64]:
    rows = numpy.asarray(values, dtype=numpy.float64)
    if rows.ndim != 1:
        raise BadArgument(f"smoothing takes one series, an array of shape (n,); this one has shape {rows.shape}")
    return rows


def _check_window(window: int, length: int) -> int:
    if isinstance(window, bool) or not isinstance(window, (int, numpy.integer)) or window < 1:
        raise BadArgument(f"window={window!r}: a window is a whole number of rows, 1 or more")
    # A wider one reaches beyond both ends from everywhere.
    return min(int(window), 2 * length + 1)


def _weighted_ema(
    rows: NDArray[numpy.float64], beta: float, counts: NDArray[numpy.float64] | None
) -> NDArray[numpy.float64]:
    finite = numpy.isfinite(rows)
    kept = rows[finite]
    if len(kept) == 0 or beta == 0:
        return rows.copy()
    logarithm = math.log(beta)
    if counts is None:
        decay = numpy.full(len(kept), beta)
        gain = (1 - beta) * kept
        seen = numpy.arange(1, len(kept) + 1)
    else:
        decay = numpy.exp(counts[finite] * logarithm)
        gain = -numpy.expm1(counts[finite] * logarithm) * kept
        seen = numpy.cumsum(counts[finite])
    smoothed = rows.copy()
    # expm1 because 1 - beta**t loses its digits where beta is close to 1.
    smoothed[finite] = _recurrence(decay, gain) / -numpy.expm1(seen * logarithm)
    return smoothed


def _recurrence(decay: NDArray[numpy.float64], gain: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """y[t] = decay[t] * y[t-1] + gain[t], y[-1] = 0; shape (n,).

    The rows are cut into about sqrt(n) blocks that run side by side, each from zero; then what each block hands to the
    next is added.
    """
    length = len(gain)
    width = max(1, math.isqrt(length))
    blocks = -(-length // width)
    padding = blocks * width - length
    decays = numpy.ascontiguousarray(numpy.append(decay, numpy.ones(padding)).reshape(blocks, width).T)
    local = numpy.ascontiguousarray(numpy.append(gain, numpy.zeros(padding)).reshape(blocks, width).T)
    for position in range(1, width):
        local[position] += decays[position] * local[position - 1]
    reach = numpy.multiply.accumulate(decays, axis=0)  # (width, blocks)
    handed, carry = numpy.zeros(blocks), 0.0
    for block, (share, end) in enumerate(zip(reach[-1].tolist(), local[-1].tolist(), strict=True)):
        handed[block] = carry
        carry = share * carry + end
    result: NDArray[numpy.float64] = (local + reach * handed).T.reshape(-1)[:length]
    return result


def _window_sums(rows: NDArray[numpy.float64], before: int, after: int) -> NDArray[numpy.float64]:
    """The sum of rows from `before` rows before each to `after` rows after it."""
    window, length = before + after + 1, len(rows)
    blocks = -(-(length + window - 1) // window)
    padded = numpy.zeros(blocks * window)
    padded[before : before + length] = rows
    tiled = padded.reshape(blocks, window)
    from_left = numpy.cumsum(tiled, axis=1).reshape(-1)
    from_right = numpy.cumsum(tiled[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    sums = from_left[window - 1 : window - 1 + length].copy()
    # A window that is one whole block has its sum from the left alone.
    crossing = numpy.flatnonzero(numpy.arange(length) % window)
    sums[crossing] += from_right[:length][crossing]
    return sums


def _medians(
    rows: NDArray[numpy.float64], begins: NDArray[numpy.int64], ends: NDArray[numpy.int64]
) -> NDArray[numpy.float64]:
    """The median of each `rows[begin:end]`; `begins` and `ends` of shape (m,)."""
    size = ends - begins
    middle = _ranked(rows, begins, ends, (size - 1) // 2)
    even = numpy.flatnonzero(size % 2 == 0)
    if len(even):
        # Halved before they are added: the sum of two large doubles may be infinite.
        middle[even] = middle[even] / 2 + _ranked(rows, begins[even], ends[even], size[even] // 2) / 2
    return middle


def _ranked(
    rows: NDArray[numpy.float64], begins: NDArray[numpy.int64], ends: NDArray[numpy.int64], rank: NDArray[numpy.int64]
) -> NDArray[numpy.float64]:
    """The value of each `rank` (from 0) among `rows[begin:end]`; `begins`, `ends` and `rank` of shape (m,)."""
    order = numpy.argsort(rows, kind="stable")
    ranks = numpy.empty(len(rows), dtype=numpy.int32)
    ranks[order] = numpy.arange(len(rows), dtype=numpy.int32)
    starts, stops, wanted = (array.astype(numpy.int32) for array in (begins, ends, rank))
    found = numpy.zeros(len(starts), dtype=numpy.int32)
    for bit in range(max(1, (len(rows) - 1).bit_length()) - 1, -1, -1):
        high = (ranks >> bit) & 1 == 1
        lower = numpy.zeros(len(ranks) + 1, dtype=numpy.int32)
        numpy.cumsum(~high, out=lower[1:])
        low_begin, low_end = lower[starts], lower[stops]
        in_low = low_end - low_begin
        up = wanted >= in_low
        found |= up.astype(numpy.int32) << bit
        # The next level has the rows with this bit clear first, then those with it set, each in their old order.
        starts = numpy.where(up, lower[-1] + starts - low_begin, low_begin)
        stops = numpy.where(up, lower[-1] + stops - low_end, low_end)
        wanted = numpy.where(up, wanted - in_low, wanted)
        ranks = numpy.concatenate((ranks[~high], ranks[high]))
    middle: NDArray[numpy.float64] = rows[order[found]]
    return middle


def _bell(rows: NDArray[numpy.float64], width: float) -> NDArray[numpy.float64]:
    """Weighted sums of rows around each, zeros beyond the ends."""
    if width <= _NARROW:
        reach = max(1, math.ceil(4 * width))
        weights = numpy.exp(-0.5 * (numpy.arange(-reach, reach + 1) / width) ** 2)
        return numpy.convolve(rows, weights, "full")[reach : reach + len(rows)]
    # Odd windows of two neighbouring sizes, so many of each that their variances add up to the bell's.
    variance = 12 * width**2
    small = math.floor(math.sqrt(variance / _PASSES + 1))
    small -= 1 - small % 2
    count = round((variance - _PASSES * (small * small + 4 * small + 3)) / (-4 * small - 4))
    halves = [(small if number < count else small + 2) // 2 for number in range(_PASSES)]
    # What a pass carries beyond an end comes back in the next one.
    summed = numpy.pad(rows, sum(halves))
    for half in halves:
        summed = _window_sums(summed, half, half) / (2 * half + 1)
    return summed[sum(halves) : sum(halves) + len(rows)]
