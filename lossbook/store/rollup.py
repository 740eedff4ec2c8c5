"""Rollups: each series at a quarter of its resolution, and a quarter of that, down to one bucket.

A bucket of level k holds up to 2^k rows of one key, attempt and rank that follow one another in step order. It
keeps the first, last, least and greatest value, so that a curve drawn from any level shows every spike. Level
`TOP` is the whole file in one bucket per series; the levels between are there only for series longer than them.

Level k + 2 is made of level k, so building them all costs little more than the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbook.store import schema

if TYPE_CHECKING:
    import duckdb

    Array = np.ndarray[Any, Any]

#: The finest level. 2^6 was tried as well: rollups then cost 1.9 bytes a scalar, half of what the rows cost.
FIRST_LEVEL = 8
LEVEL_STEP = 2
TOP = 63

_EMPTY_SUM = 0.0


class RollupBuilder:
    """Builds the rollup of rows that come in pieces, so that memory does not grow with them.

    Args:
        counts: rows of each series (key and attempt), shape (series,), in the order in which the rows will come.
    """

    def __init__(self, counts: Array) -> None:
        self._counts = schema.int64(counts)
        ends = np.cumsum(self._counts)
        buckets = -(-self._counts >> FIRST_LEVEL)
        buckets = -((-self._counts) >> FIRST_LEVEL)
        self._series = np.repeat(np.arange(len(buckets)), buckets)
        within = np.arange(len(self._series)) - np.repeat(np.cumsum(buckets) - buckets, buckets)
        self._starts = (ends - self._counts)[self._series] + (within << FIRST_LEVEL)
        self._total = int(ends[-1]) if len(ends) else 0
        self._pieces: list[dict[str, Array]] = []
        self._taken = 0

    def pieces(self, rows: int) -> Iterator[tuple[int, int]]:
        """Split all rows into ranges of about `rows` that no bucket of the finest level crosses."""
        begin = 0
        while begin < self._total:
            if begin + rows >= self._total:
                end = self._total
            else:
                at = int(np.searchsorted(self._starts, begin + rows, side="right")) - 1
                end = int(self._starts[at])
                if end <= begin:
                    end = int(self._starts[at + 1]) if at + 1 < len(self._starts) else self._total
            yield begin, end
            begin = end

    def add(self, row: Array, step: Array, time: Array, value: Array) -> None:
        """Take the next piece: `row`, `step`, `time` (µs) int64, `value` float64, all of shape (rows of the piece,)."""
        if not len(value):
            return
        begin = self._taken
        self._taken += len(value)
        low, high = np.searchsorted(self._starts, (begin, self._taken))
        starts = self._starts[low:high] - begin
        finite = np.isfinite(value)
        all_finite = bool(finite.all())
        least = value if all_finite else np.where(finite, value, np.inf)
        greatest = value if all_finite else np.where(finite, value, -np.inf)
        sizes = np.diff(starts, append=len(value))
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.add.reduceat(value if all_finite else np.where(finite, value, _EMPTY_SUM), starts)
        self._pieces.append(
            _bucket(
                starts, sizes,
                first={"step": step, "row": row, "time": time, "value": value},
                last={"step": step, "row": row, "time": time, "value": value},
                least=least, least_step=step, greatest=greatest, greatest_step=step,
            )
            | {
                "sum": sums,
                "count": sizes,
                "nonfinite": np.zeros(len(starts), np.int64) if all_finite
                else np.add.reduceat((~finite).astype(np.int64), starts),
            }
        )  # fmt: skip

    def finish(self) -> dict[str, Array]:
        """Return all levels, unsorted: `series` and `level` beside the columns of `schema.ROLLUP`, shape (buckets,)."""
        if not self._pieces:
            return {}
        current = {name: np.concatenate([piece[name] for piece in self._pieces]) for name in self._pieces[0]}
        self._pieces = []
        series = self._series
        levels: list[dict[str, Array]] = []
        level = FIRST_LEVEL
        while True:
            kept = self._counts[series] > (1 << level)
            if kept.any():
                taken = {name: column[kept] for name, column in current.items()}
                levels.append(taken | {"series": series[kept], "level": np.full(int(kept.sum()), level, np.int8)})
            if len(series) == len(self._counts):
                break
            current, series = _coarser(current, series)
            level += LEVEL_STEP
        levels.append(current | {"series": series, "level": np.full(len(series), TOP, np.int8)})
        return {name: np.concatenate([part[name] for part in levels]) for name in levels[0]}


def _coarser(current: dict[str, Array], series: Array) -> tuple[dict[str, Array], Array]:
    begins = np.flatnonzero(np.diff(series, prepend=-1))
    within = np.arange(len(series)) - np.repeat(begins, np.diff(begins, append=len(series)))
    starts = np.flatnonzero(within % (1 << LEVEL_STEP) == 0)
    sizes = np.diff(starts, append=len(series))
    made = _bucket(
        starts, sizes,
        first={name: current[f"first_{name}"] for name in ("step", "row", "time", "value")},
        last={name: current[f"last_{name}"] for name in ("step", "row", "time", "value")},
        least=current["min"], least_step=current["min_step"],
        greatest=current["max"], greatest_step=current["max_step"],
    )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        made["sum"] = np.add.reduceat(current["sum"], starts)
    made["count"] = np.add.reduceat(current["count"], starts)
    made["nonfinite"] = np.add.reduceat(current["nonfinite"], starts)
    return made, series[starts]


def _bucket(
    starts: Array, sizes: Array, *, first: dict[str, Array], last: dict[str, Array],
    least: Array, least_step: Array, greatest: Array, greatest_step: Array,
) -> dict[str, Array]:  # fmt: skip
    """What a bucket takes from its parts; `starts` and `sizes` say which parts, shape (buckets,)."""
    ends = starts + sizes - 1
    low, high = np.minimum.reduceat(least, starts), np.maximum.reduceat(greatest, starts)
    made = {f"first_{name}": column[starts] for name, column in first.items()}
    made |= {f"last_{name}": column[ends] for name, column in last.items()}
    made["min"], made["max"] = low, high
    made["min_step"] = least_step[_first_hit(least == np.repeat(low, sizes), starts)]
    made["max_step"] = greatest_step[_first_hit(greatest == np.repeat(high, sizes), starts)]
    return made


def _first_hit(hits: Array, starts: Array) -> Array:
    """Index of the first true entry at or behind each start."""
    found = np.flatnonzero(hits)
    return found[np.searchsorted(found, starts)]


def write(
    connection: duckdb.DuckDBPyConnection, path: str, levels: dict[str, Array], keys: list[str], attempts: Array, rank: int
) -> int:
    """Write a rollup file and return its number of buckets.

    Args:
        levels: of `RollupBuilder.finish`.
        keys: the key of each series, shape (series,).
        attempts: the attempt of each series, int16, shape (series,).
    """
    if not levels:
        empty = ", ".join(f"NULL::{kind} AS {schema.quoted_name(name)}" for name, kind in schema.ROLLUP.items())
        schema.copy(connection, f"SELECT {empty} LIMIT 0", path, "rollup")
        return 0
    series = levels["series"]
    # Keys come sorted, and series of one key by attempt; within a key the order is level, attempt, first step.
    names = np.array(keys, dtype=object)
    new_key = np.array([at == 0 or keys[at] != keys[at - 1] for at in range(len(keys))])
    key_number = np.cumsum(new_key)
    position = np.arange(len(series))
    order = np.lexsort((position, series, levels["level"], key_number[series]))
    buckets = {name: np.ascontiguousarray(column[order]) for name, column in levels.items() if name != "series"}
    buckets["key"] = names[series[order]]
    buckets["attempt"] = np.asarray(attempts, np.int16)[series[order]]
    has = "nonfinite < count"
    connection.register("buckets", buckets)
    try:
        schema.copy(
            connection,
            f"""SELECT key, attempt, {rank}::SMALLINT AS rank, level, first_step, last_step, first_row, last_row,
                make_timestamp(first_time) AS first_time, make_timestamp(last_time) AS last_time,
                first_value AS first, last_value AS last,
                CASE WHEN {has} THEN min END AS min, CASE WHEN {has} THEN max END AS max,
                CASE WHEN {has} THEN sum END AS sum,
                CASE WHEN {has} THEN min_step END AS min_step, CASE WHEN {has} THEN max_step END AS max_step,
                count, nonfinite FROM buckets""",
            path, "rollup",
        )  # fmt: skip
    finally:
        connection.unregister("buckets")
    return len(series)
