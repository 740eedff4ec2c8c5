"""Buckets of a series: what is drawn, smoothed and put into cells. A row is a bucket of one; a rollup's hold many.

Their columns are arrays of shape (n,), sorted by step and row; times are in µs. First and last steps, rows and times,
`min_step`, `max_step`, `count` and `nonfinite` are int64; `first`, `last`, `min`, `max` and `sum` are float64. `min` and
`max` of a bucket without a finite value are NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossbook.storage.schema import Column

BUCKET_COLUMNS = (
    "first_step", "last_step", "first_row", "last_row", "first_time", "last_time", "first", "last", "min", "max",
    "sum", "min_step", "max_step", "count", "nonfinite",
)  # fmt: skip
#: The SQL of a bucket's columns: times in µs.
BUCKETS_SQL = ", ".join(
    f"epoch_us({column}) AS {column}" if column.endswith("_time") else f'"{column}"' for column in BUCKET_COLUMNS
)

Buckets: TypeAlias = "dict[str, Column]"


def buckets_of_rows(
    step: NDArray[numpy.int64], row: NDArray[numpy.int64], time: NDArray[numpy.int64], value: NDArray[numpy.float64]
) -> Buckets:
    """Rows as buckets of one row each; arrays are shared, not copied."""
    finite = numpy.isfinite(value)
    shown = value if bool(finite.all()) else numpy.where(finite, value, numpy.nan)
    ones = numpy.ones(len(value), dtype=numpy.int64)
    return {
        "first_step": step,
        "last_step": step,
        "first_row": row,
        "last_row": row,
        "first_time": time,
        "last_time": time,
        "first": value,
        "last": value,
        "min": shown,
        "max": shown,
        "sum": numpy.where(finite, value, 0.0),
        "min_step": step,
        "max_step": step,
        "count": ones,
        "nonfinite": ones - finite,
    }


def between(buckets: Buckets, first: int | None, last: int | None) -> Buckets:
    """Those of some rows' buckets that lie between two steps, both included."""
    step = buckets["first_step"]
    start = 0 if first is None else int(numpy.searchsorted(step, first, "left"))
    end = len(step) if last is None else int(numpy.searchsorted(step, last, "right"))
    if start == 0 and end == len(step):
        return buckets
    return {name: array[start:end] for name, array in buckets.items()}
