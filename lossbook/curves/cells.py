"""Adds up rows or buckets in the cells of a heat map: sums, extremes and counts.

Memory is that of the cells, whatever the number of rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.storage import Columns

#: Steps of which the cell is worked out beforehand, at the most.
_MOST_STEPS = 4_000_000


@dataclass(frozen=True)
class Matrix:
    """Series over steps in cells. Arrays of shape (keys, columns), float64 but for the counts (int64).

    A cell without a finite value has NaN for `mean`, `min` and `max`; one without rows a `count` of 0.

    Attributes:
        keys: the series, one a line, as they were asked for.
        x_name: "step", or the axis that was asked for, on which cells are placed by the steps that lie there.
        edges: shape (columns + 1,), float64; a cell holds the rows from its edge up to the next one, the last cell those
            on its end as well.
        beyond: 0.0 where each row was put into its cell. Otherwise cells are made of rollup buckets, each counted whole
            in the cell that its middle lies in; no row lies further than this, in steps, beyond the edge of its
            cell. Either way each row is counted once.
    """

    keys: tuple[str, ...]
    x_name: str
    edges: NDArray[numpy.float64]
    mean: NDArray[numpy.float64]
    min: NDArray[numpy.float64]
    max: NDArray[numpy.float64]
    count: NDArray[numpy.int64]
    nonfinite: NDArray[numpy.int64]
    beyond: float


class Cells:
    """Sums, extremes and counts of every cell."""

    def __init__(self, lines: int, edges: NDArray[numpy.float64]) -> None:
        self._edges = edges
        self._first = math.floor(edges[0])
        # Series have the same steps as a rule: which cell each lies in is worked out once.
        steps = numpy.arange(self._first, min(math.ceil(edges[-1]), self._first + _MOST_STEPS) + 1)
        self._column_of = self._search(steps) if steps[-1] >= edges[-1] else None
        self._columns = len(edges) - 1
        self._shape = (lines, self._columns)
        size = lines * self._columns
        self._sum = numpy.zeros(size)
        self._min = numpy.full(size, numpy.inf)
        self._max = numpy.full(size, -numpy.inf)
        self._count = numpy.zeros(size, dtype=numpy.int64)
        self._nonfinite = numpy.zeros(size, dtype=numpy.int64)
        self._beyond = 0.0

    def add_rows(self, line: NDArray[numpy.int64], step: NDArray[numpy.int64], value: NDArray[numpy.float64]) -> None:
        """Put rows into cells. Arrays of shape (n,), sorted by line and step as a rule."""
        if len(line) == 0:
            return
        cell = line * self._columns + self._column(step)
        starts = numpy.concatenate(([0], numpy.flatnonzero(cell[1:] != cell[:-1]) + 1))
        at = cell[starts]
        numpy.add.at(self._count, at, numpy.diff(starts, append=len(cell)))
        low = high = total = value
        finite = numpy.isfinite(value)
        if not bool(finite.all()):
            numpy.add.at(self._nonfinite, at, numpy.add.reduceat((~finite).astype(numpy.int64), starts))
            low, high, total = (numpy.where(finite, value, other) for other in (numpy.inf, -numpy.inf, 0.0))
        self._add(at, starts, low, high, total)

    def add_buckets(self, line: NDArray[numpy.int64], buckets: Columns) -> None:
        """Put rollup buckets into the cells that their middles lie in."""
        if len(line) == 0:
            return
        first, last = buckets["first_step"], buckets["last_step"]
        column = self._column(first + (last - first) // 2)
        over = numpy.maximum(self._edges[column] - first, last - self._edges[column + 1])
        self._beyond = max(self._beyond, float(over.max()))
        cell = line * self._columns + column
        order = numpy.argsort(cell, kind="stable")
        cell = cell[order]
        starts = numpy.concatenate(([0], numpy.flatnonzero(cell[1:] != cell[:-1]) + 1))
        at = cell[starts]
        numpy.add.at(self._count, at, numpy.add.reduceat(buckets["count"][order], starts))
        numpy.add.at(self._nonfinite, at, numpy.add.reduceat(buckets["nonfinite"][order], starts))
        low = numpy.where(numpy.isnan(buckets["min"]), numpy.inf, buckets["min"])[order]
        high = numpy.where(numpy.isnan(buckets["max"]), -numpy.inf, buckets["max"])[order]
        self._add(at, starts, low, high, numpy.nan_to_num(buckets["sum"], nan=0.0, posinf=None, neginf=None)[order])

    def _add(
        self,
        at: NDArray[numpy.int64],
        starts: NDArray[numpy.int64],
        low: NDArray[numpy.float64],
        high: NDArray[numpy.float64],
        total: NDArray[numpy.float64],
    ) -> None:
        numpy.minimum.at(self._min, at, numpy.minimum.reduceat(low, starts))
        numpy.maximum.at(self._max, at, numpy.maximum.reduceat(high, starts))
        # A sum of the largest doubles is infinity: that is what they add up to.
        with numpy.errstate(over="ignore", invalid="ignore"):
            numpy.add.at(self._sum, at, numpy.add.reduceat(total, starts))

    def _column(self, step: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        """The column that each step lies in: from its edge up to the next one."""
        if self._column_of is None:
            return self._search(step)
        column: NDArray[numpy.int64] = self._column_of[numpy.clip(step - self._first, 0, len(self._column_of) - 1)]
        return column

    def _search(self, step: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        found = numpy.searchsorted(self._edges, step, side="right") - 1
        return numpy.clip(found, 0, len(self._edges) - 2).astype(numpy.int64)

    def finished(self, keys: tuple[str, ...], x_name: str, edges: NDArray[numpy.float64]) -> Matrix:
        """The heat map; `edges` as they are on its axis."""
        finite = self._count - self._nonfinite
        with numpy.errstate(invalid="ignore", divide="ignore"):
            mean = numpy.where(finite > 0, self._sum / finite, numpy.nan)
        self._min[finite == 0] = self._max[finite == 0] = numpy.nan
        shape = self._shape
        return Matrix(
            keys,
            x_name,
            edges,
            mean.reshape(shape),
            self._min.reshape(shape),
            self._max.reshape(shape),
            self._count.reshape(shape),
            self._nonfinite.reshape(shape),
            self._beyond,
        )
