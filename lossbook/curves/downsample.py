"""Draws one series from few rows, with every spike kept.

A curve of n points is made of n to 8n rollup buckets, so it costs O(n) whatever the length of the run. Buckets that
a zoom or a resumed attempt cuts through are replaced by their rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lossbook.curves.smoothing import Smoothing, smooth, smooth_buckets
from lossbook.errors import BadArgument
from lossbook.lazy import shown_by
from lossbook.storage import BUCKET_COLUMNS, FINEST_LEVEL, LEVEL_STEP, Buckets, SeriesPart, between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.curves.sources import Places, Source
    from lossbook.storage import Column

MOST_POINTS = 100_000
#: A coarser level is taken only when it still has that many buckets for each drawn one.
FINENESS = 2
#: So many buckets of a series are replaced by their rows where steps are far apart, before all are read finer.
MOST_REFINED = 16
#: So many rows of one key are read as they are: it costs no more than buckets would.
RAW_ROWS = 20_000
#: Up to twice as many rows of one key are smoothed row by row, more of them by the finest rollup buckets.
SMOOTHED_POINTS = 2_000_000
#: Of more rows than that, an EMA that remembers many is made of the finest rollup buckets: fifty curves take no minute.
SMOOTHED_ROWS = 200_000
_PLACES = ("first_step", "last_step", "first_row", "last_row", "first_time", "last_time")


@dataclass(frozen=True)
class Curve:
    """One series, decimated. Arrays of shape (n,), float64 but for the counts (int64).

    A bucket without a finite value has NaN for `min`, `max` and `mean`, and `nonfinite` equal to `count`.
    """

    key: str
    x_name: str
    x: NDArray[numpy.float64]  # of the first row in each bucket
    x_end: NDArray[numpy.float64]  # of the last
    first: NDArray[numpy.float64]
    last: NDArray[numpy.float64]
    min: NDArray[numpy.float64]
    max: NDArray[numpy.float64]
    min_x: NDArray[numpy.float64]  # where the minimum stands
    max_x: NDArray[numpy.float64]
    mean: NDArray[numpy.float64]
    count: NDArray[numpy.int64]
    nonfinite: NDArray[numpy.int64]

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"<lossbook curve of {self.key} by {self.x_name}: {len(self):,} points>"

    _repr_html_ = shown_by("curve_html")


def check_points(points: int) -> int:
    """Raise `BadArgument` unless `points` is a number of buckets that can be drawn."""
    if isinstance(points, bool) or not isinstance(points, (int, numpy.integer)) or not 1 <= points <= MOST_POINTS:
        raise BadArgument(f"points={points!r}: a curve has 1 to {MOST_POINTS:,} points")
    return int(points)


def gather(
    sources: list[Source], key: str, *, points: int, first: int | None, last: int | None, attempt: int | None
) -> Buckets:
    """Collect buckets of a key that are fine enough to draw `points` of them between two steps.

    Returns:
        Buckets sorted by step and row, with `attempt`, `rank` and `source` (its index) beside them.
    """
    chosen: list[tuple[int, Source, SeriesPart, int]] = []
    for number, source in enumerate(sources):
        parts = source.rows.parts(key)
        visible = source.rows.last_visible(parts)
        for part in parts:
            if attempt is not None and part.attempt != attempt:
                continue
            cut = source.last_step if attempt is not None else min(visible[part.attempt], source.last_step)
            if last is not None:
                cut = min(cut, last)
            if part.first_step <= cut and (first is None or part.last_step >= first):
                chosen.append((number, source, part, cut))
    level = _choose_level(chosen, points, first)
    low = min(
        (max(part.first_step, first if first is not None else part.first_step) for _, _, part, _ in chosen), default=0
    )
    high = max((min(part.last_step, cut) for _, _, part, cut in chosen), default=0)
    # A bucket wider than this is not drawn as one: steps are sparse there, or far apart.
    widest = 2 * max((high - low) / points, 1.0)
    while True:
        pieces = [_piece(key, number, source, part, level, first, cut, widest) for number, source, part, cut in chosen]
        buckets = _join(pieces)
        if level == 0 or not bool(numpy.any(buckets["last_step"] - buckets["first_step"] > widest)):
            return buckets
        level = level - LEVEL_STEP if level > FINEST_LEVEL else 0
        if level == 0 and sum(part.count for _, _, part, _ in chosen) > 50 * RAW_ROWS:
            return buckets


def _choose_level(chosen: list[tuple[int, Source, SeriesPart, int]], points: int, first: int | None) -> int:
    total = 0.0
    for _, _, part, cut in chosen:
        span = part.last_step - part.first_step
        low, high = max(part.first_step, first if first is not None else part.first_step), min(part.last_step, cut)
        total += part.count * ((high - low) / span if span > 0 else 1.0)
    return level_for(total, points)


def level_for(rows: float, points: int) -> int:
    """The rollup level whose buckets are fine enough to draw so many rows in `points`; 0 for the rows themselves."""
    if rows <= max(RAW_ROWS, FINENESS * points):
        return 0
    level = FINEST_LEVEL
    if rows / (1 << level) < points:
        return 0 if rows <= 50 * RAW_ROWS else level
    while rows / (1 << (level + LEVEL_STEP)) >= FINENESS * points:
        level += LEVEL_STEP
    return level


def _piece(
    key: str, number: int, source: Source, part: SeriesPart, level: int, first: int | None, last: int, widest: float
) -> Buckets:
    rows = source.rows
    if level == 0:
        whole = part.last_step <= last and (first is None or part.first_step >= first)
        if whole or part.count <= RAW_ROWS:
            found = between(rows.buckets(key, part, 0), first, last)
        else:
            found = rows.rows(key, part, first, last)
        return _mark(found, part, number)
    found = rows.buckets(key, part, level)
    inside = found["last_step"] <= last
    if first is not None:
        inside &= found["first_step"] >= first
    wide = found["last_step"] - found["first_step"] > widest
    if int(wide.sum()) <= MOST_REFINED:
        inside &= ~wide
    if bool(inside.all()):
        return _mark(found, part, number)
    pieces = [{name: array[inside] for name, array in found.items()}]
    crossed = ~inside & (found["first_step"] <= last)
    if first is not None:
        crossed &= found["last_step"] >= first
    for position in numpy.flatnonzero(crossed):
        low, high = int(found["first_step"][position]), int(found["last_step"][position])
        low_row, high_row = int(found["first_row"][position]), int(found["last_row"][position])
        edge = rows.rows(key, part, max(low, first) if first is not None else low, min(high, last))
        # Two buckets may meet within one step: each keeps its own rows.
        own = (edge["first_row"] >= low_row) & (edge["first_row"] <= high_row)
        pieces.append({name: array[own] for name, array in edge.items()})
    return _mark(_join(pieces), part, number)


def _mark(buckets: Buckets, part: SeriesPart, source: int) -> Buckets:
    size = len(buckets["first_step"])
    return {
        **buckets,
        "attempt": numpy.full(size, part.attempt),
        "rank": numpy.full(size, part.rank),
        "source": numpy.full(size, source),
    }


def _join(pieces: list[Buckets]) -> Buckets:
    if not pieces:
        empty = numpy.zeros(0)
        return dict.fromkeys((*BUCKET_COLUMNS, "attempt", "rank", "source"), empty)
    if len(pieces) == 1:
        return pieces[0]
    # Rows have one array for their first and last step, and so on: what is shared stays shared.
    made: dict[tuple[int, ...], Column] = {}
    joined: Buckets = {}
    for name in pieces[0]:
        arrays = tuple(id(piece[name]) for piece in pieces)
        if arrays not in made:
            made[arrays] = numpy.concatenate([piece[name] for piece in pieces])
        joined[name] = made[arrays]
    steps = joined["first_step"]
    if bool(numpy.any(steps[1:] < steps[:-1])):
        order = numpy.lexsort((joined["first_row"], steps))
        in_order = {id(array): array[order] for array in made.values()}
        joined = {name: in_order[id(array)] for name, array in joined.items()}
    return joined


def smoothed(buckets: Buckets, smoothing: Smoothing) -> Buckets:
    """Smooth rows, or the means of buckets of rows; what several ranks logged at one step is averaged first.

    Args:
        buckets: of `gather`, sorted by step.

    Returns:
        Buckets of which first, last, minimum, maximum and mean are the smoothed value, NaN where no row is finite.
    """
    finite = buckets["count"] - buckets["nonfinite"]
    total = buckets["sum"]
    joined = {name: buckets[name] for name in (*_PLACES, "count", "nonfinite", "attempt", "rank", "source")}
    steps = buckets["first_step"]
    if len(steps) and bool(numpy.any(buckets["rank"] > 0)):
        starts = numpy.concatenate(([0], numpy.flatnonzero(steps[1:] != steps[:-1]) + 1))
        ends = numpy.append(starts[1:], len(steps)) - 1
        joined = {name: array[ends if name.startswith("last_") else starts] for name, array in joined.items()}
        for name in ("count", "nonfinite"):
            joined[name] = numpy.add.reduceat(buckets[name], starts)
        finite, total = numpy.add.reduceat(finite, starts), numpy.add.reduceat(total, starts)
        joined["rank"] = numpy.zeros(len(starts), dtype=numpy.int64)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        mean = numpy.where(finite > 0, total / finite, numpy.nan)
    single = bool(numpy.all(joined["last_row"] == joined["first_row"]))
    value = smooth(mean, smoothing) if single else smooth_buckets(mean, finite, smoothing)
    shown = numpy.where(finite > 0, value, numpy.nan)
    with numpy.errstate(over="ignore"):
        total = numpy.where(finite > 0, value * finite, 0.0)
    # A smoothed bucket has its one value in its middle.
    middle = joined["first_step"] + (joined["last_step"] - joined["first_step"]) // 2
    return joined | {
        "first": shown,
        "last": shown,
        "min": shown,
        "max": shown,
        "sum": total,
        "min_step": middle,
        "max_step": middle,
    }


def draw(
    key: str,
    x_name: str,
    buckets: Buckets,
    x_first: Column,
    x_last: Column,
    x_of_step: Callable[[Places], Places],
    points: int,
) -> Curve:
    """Put buckets into at most `points` drawn ones of equal width on x.

    Args:
        x_first, x_last: where each bucket begins and ends on the axis; shape as the buckets'.
        x_of_step: where a step lies on the axis, for the places of extremes.
    """
    known = ~(numpy.isnan(x_first) | numpy.isnan(x_last))
    if not bool(known.all()):
        buckets = {name: array[known] for name, array in buckets.items()}
        x_first, x_last = x_first[known], x_last[known]
    if len(x_first) and bool(numpy.any(x_first[1:] < x_first[:-1])):
        order = numpy.argsort(x_first, kind="stable")
        buckets = {name: array[order] for name, array in buckets.items()}
        x_first, x_last = x_first[order], x_last[order]
    if len(x_first) <= points:
        starts = numpy.arange(len(x_first))
        if bool(numpy.any(buckets["rank"] > 0)):
            # What several ranks logged at one step is one point: their mean, minimum and maximum.
            starts = numpy.concatenate(([0], numpy.flatnonzero(x_first[1:] != x_first[:-1]) + 1))
    else:
        low, high = float(x_first[0]), float(x_first[-1])
        place = numpy.zeros(len(x_first), dtype=numpy.int64)
        if high > low:
            place = numpy.minimum(((x_first - low) * (points / (high - low))).astype(numpy.int64), points - 1)
        starts = numpy.concatenate(([0], numpy.flatnonzero(place[1:] != place[:-1]) + 1))
    if len(starts) == 0:
        empty, none = numpy.zeros(0), numpy.zeros(0, dtype=numpy.int64)
        return Curve(key, x_name, empty, empty, empty, empty, empty, empty, empty, empty, empty, none, none)
    ends = numpy.append(starts[1:], len(x_first)) - 1
    single = len(starts) == len(x_first)
    low_values, high_values = buckets["min"], buckets["max"]
    count = _sum(buckets["count"], starts, single)
    nonfinite = _sum(buckets["nonfinite"], starts, single)
    total = _sum(buckets["sum"], starts, single)
    lowest, lowest_at = _extreme(low_values, starts, ends, single, numpy.fmin)
    highest, highest_at = _extreme(high_values, starts, ends, single, numpy.fmax)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        mean = numpy.where(count > nonfinite, total / (count - nonfinite), numpy.nan)
    steps_are_x = x_name == "step"
    min_step = numpy.nan_to_num(buckets["min_step"][lowest_at].astype(numpy.float64))
    max_step = numpy.nan_to_num(buckets["max_step"][highest_at].astype(numpy.float64))
    return Curve(
        key=key,
        x_name=x_name,
        x=x_first[starts].astype(numpy.float64),
        x_end=numpy.maximum(x_last[ends], x_first[starts]).astype(numpy.float64),
        first=buckets["first"][starts].astype(numpy.float64),
        last=buckets["last"][ends].astype(numpy.float64),
        min=lowest,
        max=highest,
        min_x=min_step if steps_are_x else x_of_step(min_step),
        max_x=max_step if steps_are_x else x_of_step(max_step),
        mean=mean,
        count=count.astype(numpy.int64),
        nonfinite=nonfinite.astype(numpy.int64),
    )


def _sum(values: Column, starts: NDArray[numpy.int64], single: bool) -> Column:
    if single:
        return values
    summed: Column = numpy.add.reduceat(values, starts)
    return summed


def _extreme(
    values: Column, starts: NDArray[numpy.int64], ends: NDArray[numpy.int64], single: bool, function: numpy.ufunc
) -> tuple[NDArray[numpy.float64], NDArray[numpy.int64]]:
    """The extreme of each drawn bucket (NaN left out), and which bucket has it."""
    values = values.astype(numpy.float64)
    if single:
        return values, starts
    extreme = function.reduceat(values, starts)
    owner = numpy.repeat(numpy.arange(len(starts)), ends - starts + 1)
    at = numpy.flatnonzero(values == extreme[owner])
    owners, first = numpy.unique(owner[at], return_index=True)
    where = starts.copy()
    where[owners] = at[first]
    return extreme, where
