"""Makes the views of `book.sql`: runs, metrics, finite_metrics, all_metrics and events of all runs.

`metrics` has the rows that count, as `run.history` shows them: those that no later attempt hides, and of a fork its parent's
up to the step where it began. `finite_metrics` leaves out NaN and infinities, which DuckDB's `max` and `avg` would give back:
its maximum, minimum and mean are those of `run.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import orjson

from lossbook.errors import BadQuery
from lossbook.reading.history import COLUMNS, rows_query, visible_query
from lossbook.reading.query_result import QueryResult, first_sentence
from lossbook.storage import METRICS, compare_ahead, parquet, quote, quote_name

if TYPE_CHECKING:
    import duckdb

    from lossbook.reading.record import IndexRecord
    from lossbook.reading.run import RecordedRun


#: Files are replaced while views are made of them so many times in a row at the most.
_MOST_TRIES = 5


def query_runs(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    runs: list[RecordedRun],
    parameters: Sequence[object] | None = None,
) -> QueryResult:
    """Ask SQL of some runs, with the views of `prepare`.

    Raises:
        BadQuery: the query cannot be run.
    """
    text = query.strip().rstrip(";")
    made = _prepare_surely(connection, query, runs)

    def renew() -> str | None:
        nonlocal made
        fresh = _prepare_surely(connection, query, runs)
        if fresh == made and [run for run in runs if run.consistently(run.find_damage)]:
            fresh = _prepare_surely(connection, query, runs)
        if fresh == made:
            return None
        made = fresh
        return text

    return QueryResult(connection, text, parameters, renew=renew)


def _prepare_surely(connection: duckdb.DuckDBPyConnection, query: str, runs: list[RecordedRun]) -> list[str]:
    """As `prepare`; again where a file was sealed or merged between the look and the making, or turns out to be damaged.

    Raises:
        BadQuery: the views cannot be made.
    """
    import duckdb

    for turn in range(_MOST_TRIES):
        try:
            return prepare(connection, query, runs)
        except (duckdb.Error, UnicodeDecodeError) as error:
            last = turn == _MOST_TRIES - 1
            if last and not [run for run in runs if run.consistently(run.find_damage)]:
                raise BadQuery(first_sentence(error)) from None
    try:
        return prepare(connection, query, runs)
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise BadQuery(first_sentence(error)) from None


def prepare(connection: duckdb.DuckDBPyConnection, query: str, runs: list[RecordedRun]) -> list[str]:
    """Make those views that a query mentions.

    Returns:
        What they select from files: it changes when files take the place of others.
    """
    made: list[str] = []
    mentioned = set(re.findall(r"[a-z_]+", query.lower()))
    if "runs" in mentioned:
        _make_runs(connection, runs)
    if "metrics" in mentioned or "finite_metrics" in mentioned:
        made.append(_make_metrics(connection, "metrics", runs, hidden=False))
    if "finite_metrics" in mentioned:
        connection.execute("CREATE OR REPLACE TEMP VIEW finite_metrics AS SELECT * FROM metrics WHERE isfinite(value)")
    if "all_metrics" in mentioned:
        made.append(_make_metrics(connection, "all_metrics", runs, hidden=True))
    if "events" in mentioned:
        _make_events(connection, runs)
    return made


def _make_runs(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    columns: dict[str, tuple[str, Callable[[IndexRecord], object]]] = {
        "id": ("VARCHAR", attrgetter("id")),
        "name": ("VARCHAR", attrgetter("name")),
        "project": ("VARCHAR", attrgetter("project")),
        "state": ("VARCHAR", attrgetter("state")),
        "created": ("BIGINT", lambda one: one.created_us or None),
        "ended": ("BIGINT", lambda one: int(one.ended * 1e6) if one.ended else None),
        "duration": ("DOUBLE", attrgetter("duration")),
        "group": ("VARCHAR", attrgetter("group")),
        "tags": ("VARCHAR[]", attrgetter("tags")),
        "notes": ("VARCHAR", attrgetter("notes")),
        "host": ("VARCHAR", attrgetter("host")),
        "last_step": ("BIGINT", attrgetter("last_step")),
        "config": ("VARCHAR", lambda one: orjson.dumps(one.config).decode()),
        "summary": ("VARCHAR", lambda one: orjson.dumps(one.summary).decode()),
        "metrics": ("VARCHAR", lambda one: orjson.dumps(one.metrics.to_json()).decode()),
    }
    shown = {"created": "make_timestamp(created)", "ended": "make_timestamp(ended)"}
    shown.update({name: f"{name}::JSON" for name in ("config", "summary", "metrics")})
    records = [run.record for run in runs]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {quote_name(name)}" for name, (kind, _) in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE run_rows AS SELECT {unnested}",
        [[of(record) for record in records] for _, of in columns.values()],
    )
    selected = ", ".join(f"{shown.get(name, quote_name(name))} AS {quote_name(name)}" for name in columns)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW runs AS SELECT {selected} FROM run_rows")


def _make_metrics(connection: duckdb.DuckDBPyConnection, view: str, runs: list[RecordedRun], *, hidden: bool) -> str:
    """Make a view of scalars; returns its SQL."""
    plain: list[str] = []
    parts: list[str] = []
    owners: list[tuple[str, str, str, str]] = []
    compare_ahead(segment.metrics for run in runs for segment in run.rows().segments if segment.metrics is not None)
    for run in runs:
        query, files = run.consistently(partial(_scalars_of, run, hidden))
        owner = (run.project, run.id, run.name)
        if query:
            parts.append(f"SELECT {', '.join(map(quote, owner))}, {COLUMNS} FROM ({query})")
        plain += files
        owners += [(path, *owner) for path in files]
    if plain:
        # One scan over all sealed files: ten thousand small queries would take a minute to plan.
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE owners AS SELECT unnest(?::VARCHAR[]) AS filename, unnest(?::VARCHAR[]) AS "
            "project, unnest(?::VARCHAR[]) AS run, unnest(?::VARCHAR[]) AS name",
            [list(column) for column in zip(*owners, strict=True)],
        )
        source = parquet(plain).replace("hive_partitioning = false", "hive_partitioning = false, filename = true")
        parts.insert(0, f"SELECT project, run, name, {COLUMNS} FROM {source} JOIN owners USING (filename)")
    if not parts:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in METRICS.items())
        parts = [f"SELECT ''::VARCHAR, ''::VARCHAR, ''::VARCHAR, {empty} WHERE false"]
    names = f"project, run, name, {COLUMNS}"
    query = " UNION ALL ".join(parts)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view}({names}) AS {query}")
    return query


def _scalars_of(run: RecordedRun, hidden: bool) -> tuple[str, list[str]]:
    """A query of one run's scalars; empty where all rows of some sealed files are it, which are named then."""
    rows = run.rows()
    resumed = not hidden and len(rows.info.resume_steps()) > 1
    if resumed or any(one.journal is not None or one.first_row is not None for one in rows.segments):
        query = rows_query(rows)
        return (visible_query(rows, query) if resumed else query), []
    return "", [str(segment.metrics) for segment, _ in rows.usable_sources()]


def _make_events(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    rows = [
        (
            run.project,
            run.id,
            run.name,
            event["row"],
            event["step"],
            int(event["time"] * 1e6),
            event["kind"],
            event["key"],
            event["rank"],
            event["attempt"],
            orjson.dumps(event["value"]).decode(),
        )
        for run in runs
        for event in run.events()
    ]
    kinds = {
        "project": "VARCHAR",
        "run": "VARCHAR",
        "name": "VARCHAR",
        "row": "BIGINT",
        "step": "BIGINT",
        "time": "BIGINT",
        "kind": "VARCHAR",
        "key": "VARCHAR",
        "rank": "SMALLINT",
        "attempt": "SMALLINT",
        "value": "VARCHAR",
    }
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in kinds]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {quote_name(name)}" for name, kind in kinds.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE event_lines AS SELECT {unnested}", columns)
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW events AS SELECT * REPLACE (make_timestamp(time) AS time, value::JSON AS value) "
        "FROM event_lines"
    )
