"""What one metric says over several runs: `Statistics`, the groups that have them, and their columns in tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbook.analysis.seed_groups import RunGroup, setting_text
from lossbook.errors import BadArgument, MissingLibrary
from lossbook.formatting import csv_cell, number
from lossbook.json_shapes import Json, JsonObject

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

#: What columns of tables and of bands are called.
_TAKEN = frozenset(
    [
        "project",
        "runs",
        "mean",
        "median",
        "std",
        "standard_error",
        "low",
        "high",
        "x",
        "count",
        "interval_low",
        "interval_high",
    ]
)


@dataclass(frozen=True)
class Statistics:
    """One number over several runs.

    Attributes:
        n: how many runs.
        mean, median: None where there is no run.
        std: the standard deviation of the sample (n - 1); None for less than two runs, as all that follow.
        standard_error: of the mean: std / sqrt(n).
        low, high: the bootstrap interval of the mean (percentile; Efron and Tibshirani 1993, chapter 13). All resamples are
            looked at of up to 7 runs, else 4,000, the same ones each time. Of few runs it is too narrow.
    """

    n: int
    mean: float | None = None
    median: float | None = None
    std: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None


def summarize(values: Iterable[float], confidence: float = 0.95) -> Statistics:
    """Summarize finite numbers, one a run.

    Raises:
        BadArgument: one is not finite, or the confidence is none.
    """
    import numpy

    from lossbook.analysis.resampling import check_confidence, summarize_places

    wanted = check_confidence(confidence)
    given = [float(value) for value in values]
    wrong = next((value for value in given if not math.isfinite(value)), None)
    if wrong is not None:
        raise BadArgument(f"{number(wrong)} is no number to summarize: leave it out, and say so")
    if not given:
        return Statistics(0)
    found = summarize_places(numpy.array(given)[:, None], wanted)
    if len(given) == 1:
        return Statistics(1, float(found.mean[0]), float(found.median[0]))
    return Statistics(
        len(given),
        float(found.mean[0]),
        float(found.median[0]),
        float(found.std[0]),
        float(found.standard_error[0]),
        float(found.low[0]),
        float(found.high[0]),
    )


@dataclass(frozen=True)
class Excluded:
    """A run whose value does not count, and why."""

    run: str
    why: str


@dataclass(frozen=True)
class SeedGroup:
    """One line of a table over seeds.

    Attributes:
        project: theirs; empty where they are of several.
        settings: what tells this group from the others.
        runs: all its runs.
        values: of the runs that have one, in the order of `runs`.
        statistics: over these.
        excluded: the other runs.
    """

    project: str
    settings: JsonObject
    runs: tuple[RecordedRun, ...]
    values: tuple[float, ...]
    statistics: Statistics
    excluded: tuple[Excluded, ...] = ()

    @property
    def label(self) -> str:
        """The settings in one line, such as `optimizer=adamw, lr=0.001`; `all` where nothing differs."""
        return RunGroup(self.project, self.settings, self.runs).label


def statistics_columns(one: Statistics) -> JsonObject:
    """Statistics as columns of a table."""
    return {
        "runs": one.n,
        "mean": one.mean,
        "median": one.median,
        "std": one.std,
        "standard_error": one.standard_error,
        "low": one.low,
        "high": one.high,
    }


def setting_column(name: str) -> str:
    """What a setting's column is called beside those of the statistics; no reader may tell two names by their case alone."""
    return f"config.{name}" if name.lower() in _TAKEN else name


def csv_text(rows: Sequence[JsonObject]) -> str:
    """Rows of the same columns as CSV; nothing for None."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    names = list(rows[0]) if rows else []
    writer.writerow(map(csv_cell, names))
    for row in rows:
        writer.writerow([_csv_value(row[name]) for name in names])
    return written.getvalue()


def _csv_value(value: Json) -> object:
    if value is None:
        return ""
    if isinstance(value, (bool, list, dict)):
        return csv_cell(setting_text(value))
    return csv_cell(value)


def data_frame(rows: object) -> Any:
    """Rows, or arrays by column, as a pandas DataFrame.

    Raises:
        MissingLibrary: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise MissingLibrary("this needs pandas: pip install pandas") from None
    return pandas.DataFrame(rows)
