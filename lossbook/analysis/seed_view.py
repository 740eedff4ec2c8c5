"""Makes the view `seeds` of `book.sql`: the last value of each metric over each group of runs that differ in their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
import orjson

from lossbook.analysis.resampling import summarize_places
from lossbook.analysis.seed_groups import group_runs

if TYPE_CHECKING:
    import duckdb

    from lossbook.reading import RecordedRun

_COLUMNS = {
    "project": "VARCHAR",
    "metric": "VARCHAR",
    "settings": "VARCHAR",
    "runs": "BIGINT",
    "mean": "DOUBLE",
    "median": "DOUBLE",
    "std": "DOUBLE",
    "standard_error": "DOUBLE",
    "low": "DOUBLE",
    "high": "DOUBLE",
}


def make_seeds_view(connection: duckdb.DuckDBPyConnection, runs: Sequence[RecordedRun]) -> None:
    """Make it: a line for each project, group and metric; `runs` counts those whose last value is finite.

    The groups are those of `seed_table` within each project; the interval is that of 95 %. What cannot be told is null.
    """
    columns: dict[str, list[object]] = {name: [] for name in _COLUMNS}
    projects: dict[str, list[RecordedRun]] = {}
    for run in runs:
        projects.setdefault(run.project, []).append(run)
    for project, members in sorted(projects.items()):
        for group in group_runs(members).groups:
            tables = [run.record.metrics for run in group.runs]
            keys = sorted(set().union(*tables))
            values = numpy.full((len(tables), len(keys)), numpy.nan)  # (runs, metrics)
            place = {key: at for at, key in enumerate(keys)}
            for number, table in enumerate(tables):
                for key in table:
                    last = table.value(key, "last")
                    values[number, place[key]] = numpy.nan if last is None else last
            found = summarize_places(values)
            columns["project"] += [project] * len(keys)
            columns["metric"] += keys
            columns["settings"] += [orjson.dumps(group.settings).decode()] * len(keys)
            columns["runs"] += found.count.tolist()
            for name in ("mean", "median", "std", "standard_error", "low", "high"):
                array = getattr(found, name)
                columns[name] += [None if value != value else value for value in array.tolist()]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in _COLUMNS.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE seed_rows AS SELECT {unnested}", list(columns.values()))
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW seeds AS SELECT * REPLACE (settings::JSON AS settings) FROM seed_rows"
    )
