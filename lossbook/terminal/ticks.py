"""Where the ticks of an axis lie, and what they say."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from lossbook.formatting import duration, number, short_number


def _nice_step(span: float, count: int) -> float:
    raw = span / max(1, count)
    if raw <= 0 or not math.isfinite(raw):
        return 0.0
    power = 10.0 ** math.floor(math.log10(raw))
    if power == 0.0:
        return 0.0
    return next((factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if raw <= factor * power * 1.0000001), raw)


def steady_ends(low: float, high: float, count: int) -> tuple[float, float]:
    """Ends of an axis that stand while values move a little: at quarters of a tick."""
    quarter = _nice_step(high - low, count) / 4
    if not quarter or not math.isfinite(high - low) or max(abs(low), abs(high)) > quarter * 1e12:
        return low, high
    return math.floor(low / quarter) * quarter, math.ceil(high / quarter) * quarter


def linear_ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    for finer in (1, 2, 4):
        ticks = _even_ticks(low, high, count * finer, whole=whole)
        if len(ticks) > 1 and ticks != [low, high]:
            break
    return ticks


def _even_ticks(low: float, high: float, count: int, *, whole: bool) -> list[float]:
    step = _nice_step(high - low, count)
    if whole and step:
        step = max(1.0, float(round(step)))
    # The ends alone: one value, a span past the largest double, or one too small for its distance from zero.
    if not step or not math.isfinite(high - low) or abs(low) > step * 1e12 or abs(high) > step * 1e12:
        return [low] if low == high else [low, high]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    ticks = [one * step for one in range(first, last + 1)]
    return ticks if len(ticks) > 1 else [low, high]


def log_ticks(low: float, high: float, rows: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        powers = range(math.floor(math.log10(low)), last + 1)
        ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if power > -308]
        ticks = [tick for tick in ticks if low <= tick <= high]
        return ticks if len(ticks) > 1 else [low, high]
    every = max(1, math.ceil((last - first) / max(1, rows // 2)))
    return [10.0**power for power in range(first, last + 1, every) if -308 <= power <= 308]


def x_ticks(left: float, right: float, count: int, x: str) -> tuple[list[float], list[str]]:
    if x == "time":
        ticks = _steps(left, right, count, (1, 5, 15, 60, 300, 900, 3600, 10800, 43200, 86400, 604800))
        pattern = "%H:%M:%S" if right - left < 600 else "%H:%M" if right - left < 2 * 86400 else "%m-%d"
        return ticks, [time.strftime(pattern, time.localtime(tick)) for tick in ticks]
    if x == "wallclock":
        ticks = _steps(left, right, count, (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400))
        if right - left < 10:
            return ticks, [f"{number(tick, 4)}s" for tick in ticks]
        return ticks, [duration(tick) if tick else "0" for tick in ticks]
    ticks = linear_ticks(left, right, count, whole=x in ("step", "tokens", "gradient_step"))
    return ticks, [short_number(tick) for tick in ticks]


def _steps(low: float, high: float, count: int, sizes: Sequence[int]) -> list[float]:
    span = high - low
    if span < 2:
        return linear_ticks(low, high, count)
    step = next((one for one in sizes if span / one <= count), max(1, math.ceil(span / count / 86400)) * 86400)
    ticks = [float(one * step) for one in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return ticks or [low, high]
