"""Makes the views of `book.sql`: runs, metrics, all_metrics and events of all runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

import orjson

from lossbook.reading.history import COLUMNS, rows_query, visible_query
from lossbook.storage import METRICS, parquet, quote, quote_name

if TYPE_CHECKING:
    import duckdb

    from lossbook.reading.record import IndexRecord
    from lossbook.reading.run import RecordedRun


def prepare(connection: duckdb.DuckDBPyConnection, query: str, runs: list[RecordedRun]) -> None:
    """Make those views that a query mentions."""
    mentioned = set(re.findall(r"[a-z_]+", query.lower()))
    if "runs" in mentioned:
        _make_runs(connection, runs)
    for name, hidden in (("metrics", False), ("all_metrics", True)):
        if name in mentioned:
            _make_metrics(connection, name, runs, hidden=hidden)
    if "events" in mentioned:
        _make_events(connection, runs)


def _make_runs(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    columns: dict[str, tuple[str, Callable[[IndexRecord], object]]] = {
        "id": ("VARCHAR", attrgetter("id")),
        "name": ("VARCHAR", attrgetter("name")),
        "project": ("VARCHAR", attrgetter("project")),
        "state": ("VARCHAR", attrgetter("state")),
        "created": ("BIGINT", attrgetter("created_us")),
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


def _make_metrics(connection: duckdb.DuckDBPyConnection, view: str, runs: list[RecordedRun], *, hidden: bool) -> None:
    plain: list[str] = []
    parts: list[str] = []
    owners: list[tuple[str, str, str, str]] = []
    for run in runs:
        rows = run.rows()
        resumed = not hidden and len(rows.info.resume_steps()) > 1
        owner = (run.project, run.id, run.name)
        if resumed or any(segment.journal is not None for segment in rows.segments):
            query = rows_query(rows)
            query = visible_query(rows, query) if resumed else query
            parts.append(f"SELECT {', '.join(map(quote, owner))}, {COLUMNS} FROM ({query})")
            continue
        for segment in rows.segments:
            if segment.metrics is not None:
                plain.append(segment.metrics)
                owners.append((segment.metrics, *owner))
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
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view}({names}) AS {' UNION ALL '.join(parts)}")


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
