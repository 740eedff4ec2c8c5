"""Runs as SQL: the views of `book.sql`, and the query behind `run.history`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from lossbook.journal.reader import first_row
from lossbook.store.attempts import is_shared, resume_steps
from lossbook.store.schema import METRICS, parquet, quote
from lossbook.store.sealing import quote_name

if TYPE_CHECKING:
    import duckdb

    from lossbook.store.curve import Source
    from lossbook.store.recorded import RecordedRun
    from lossbook.store.rows import RunRows
    from lossbook.store.segments import Segment

_COLUMNS = ", ".join(METRICS)
# JSON text of a journal line; the largest object is bounded by DuckDB, not by the format.
_LARGEST_LINE_BYTES = 256 << 20


def rows_query(rows: RunRows, *, keys: list[str] | None = None) -> str:
    """SQL for all rows of a run, hidden ones included, in the columns of the sealed schema.

    Args:
        keys: only these.
    """
    wanted = f" WHERE key IN ({', '.join(map(quote, keys))})" if keys is not None else ""
    sealed = [segment.metrics for segment in rows.segments if segment.metrics is not None]
    parts = []
    if sealed:
        parts.append(f"SELECT {_COLUMNS} FROM {parquet(sealed)}{wanted}")
    parts += [f"SELECT * FROM ({_live(segment)}){wanted}" for segment in rows.segments if segment.journal is not None]
    if not parts:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in METRICS.items())
        return f"SELECT {empty} WHERE false"
    return " UNION ALL ".join(parts)


def _live(segment: Segment) -> str:
    path = str(segment.journal)
    head = first_row(path)
    attempt = int(head.body["number"]) if head is not None and head.kind == "attempt" else 0
    source = (
        f"read_json({quote(_escape(path))}, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {_LARGEST_LINE_BYTES}, hive_partitioning = false, "
        "columns = {i: 'BIGINT', t: 'BIGINT', s: 'BIGINT', m: 'MAP(VARCHAR, DOUBLE)'})"
    )
    return (
        "SELECT unnest(map_keys(m)) AS key, i AS row, s AS step, make_timestamp(t) AS time, unnest(map_values(m)) AS "
        f"value, {segment.name.rank}::SMALLINT AS rank, {attempt}::SMALLINT AS attempt FROM {source} "
        "WHERE m IS NOT NULL AND i IS NOT NULL AND s IS NOT NULL"
    )


def _escape(path: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in path)


def visible_query(rows: RunRows, query: str) -> str:
    """SQL for the rows among `query` that no later attempt hides."""
    resumed = resume_steps(rows.identity)
    if len(resumed) <= 1:
        return query
    # The same rule as attempts.cutoffs, for all keys at once.
    steps = ", ".join(f"({number}, {'NULL' if step is None else step})" for number, step in sorted(resumed.items()))
    return f"""
        SELECT rows.* FROM ({query}) AS rows WHERE NOT EXISTS (
            SELECT 1 FROM (
                SELECT later.number, firsts.key, coalesce(later.step, firsts.first - 1) AS cut
                FROM (VALUES {steps}) AS later(number, step)
                LEFT JOIN (SELECT key, attempt, min(step) AS first FROM ({query}) GROUP BY key, attempt) AS firsts
                ON firsts.attempt = later.number AND later.step IS NULL
            ) AS hides
            WHERE hides.number > rows.attempt AND rows.step > hides.cut AND (hides.key IS NULL OR hides.key = rows.key)
        )"""


def history_query(
    sources: list[Source], keys: list[str], *, start: int | None, end: int | None, ranks: bool, hidden: bool
) -> str:
    """SQL for a wide table: step, time, then a column for each key."""
    parts = []
    for source in sources:
        query = rows_query(source.rows, keys=keys)
        if not hidden:
            query = visible_query(source.rows, query)
        parts.append(f"SELECT {_COLUMNS} FROM ({query}) WHERE step <= {source.last_step}")
    rows = " UNION ALL ".join(parts)
    bounds = [f"step >= {int(start)}"] if start is not None else []
    bounds += [f"step <= {int(end)}"] if end is not None else []
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    by = ["step"] + (["rank"] if ranks else []) + (["attempt"] if hidden else [])
    shared = set() if ranks else {key for key in keys if _is_shared(sources, key)}
    # Only a mean is computed: a value that stands alone keeps its bits.
    columns = ", ".join(
        f"{'avg' if key in shared else 'any_value'}(value) FILTER (key = {quote(key)}) AS {quote_name(key)}"
        for key in keys
    )
    # The n-th time that a key was logged at a step goes to the n-th line of that step.
    ranked = "rank" if ranks else f"CASE WHEN key IN ({', '.join(map(quote, sorted(shared)))}) THEN rank END"
    within = "key, step" + (f", {ranked}" if ranks or shared else "") + (", attempt" if hidden else "")
    turn = f"row_number() OVER (PARTITION BY {within} ORDER BY attempt, rank DESC, row)"
    numbered = f"SELECT *, {turn} AS turn FROM ({rows}){where}"
    shown = ", ".join([*by, "min(time) AS time", *([columns] if columns else [])])
    grouped = ", ".join([*by, "turn"])
    return f"SELECT {shown} FROM ({numbered}) GROUP BY {grouped} ORDER BY {grouped}"


def _is_shared(sources: list[Source], key: str) -> bool:
    return any(is_shared({part.rank for part in source.rows.parts(key)}) for source in sources)


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
    columns: dict[str, tuple[str, Any]] = {
        "id": ("VARCHAR", lambda one: one["id"]),
        "name": ("VARCHAR", lambda one: one["name"]),
        "project": ("VARCHAR", lambda one: one["project"]),
        "state": ("VARCHAR", lambda one: one["state"]),
        "created": ("BIGINT", lambda one: one["created_us"]),
        "ended": ("BIGINT", lambda one: int(one["ended"] * 1e6) if one["ended"] else None),
        "duration": ("DOUBLE", lambda one: one["duration"]),
        "group": ("VARCHAR", lambda one: one["group"]),
        "tags": ("VARCHAR[]", lambda one: one["tags"]),
        "notes": ("VARCHAR", lambda one: one["notes"]),
        "host": ("VARCHAR", lambda one: one["host"]),
        "last_step": ("BIGINT", lambda one: one["last_step"]),
        "config": ("VARCHAR", lambda one: orjson.dumps(one["config"]).decode()),
        "summary": ("VARCHAR", lambda one: orjson.dumps(one["summary"]).decode()),
        "metrics": ("VARCHAR", lambda one: orjson.dumps(one["metrics"]).decode()),
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
        resumed = not hidden and len(resume_steps(rows.identity)) > 1
        owner = (run.project, run.id, run.name)
        if resumed or any(segment.journal is not None for segment in rows.segments):
            query = rows_query(rows)
            query = visible_query(rows, query) if resumed else query
            parts.append(f"SELECT {', '.join(map(quote, owner))}, {_COLUMNS} FROM ({query})")
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
        parts.insert(0, f"SELECT project, run, name, {_COLUMNS} FROM {source} JOIN owners USING (filename)")
    if not parts:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in METRICS.items())
        parts = [f"SELECT ''::VARCHAR, ''::VARCHAR, ''::VARCHAR, {empty} WHERE false"]
    names = f"project, run, name, {_COLUMNS}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view}({names}) AS {' UNION ALL '.join(parts)}")


def _make_events(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    rows = [
        (run.project, run.id, run.name, event["row"], event["step"], int(event["time"] * 1e6), event["kind"],
         event["key"], event["rank"], event["attempt"], orjson.dumps(event["value"]).decode())
        for run in runs
        for event in run.events()
    ]  # fmt: skip
    kinds = {
        "project": "VARCHAR", "run": "VARCHAR", "name": "VARCHAR", "row": "BIGINT", "step": "BIGINT",
        "time": "BIGINT", "kind": "VARCHAR", "key": "VARCHAR", "rank": "SMALLINT", "attempt": "SMALLINT",
        "value": "VARCHAR",
    }  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in kinds]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {quote_name(name)}" for name, kind in kinds.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE event_lines AS SELECT {unnested}", columns)
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW events AS SELECT * REPLACE (make_timestamp(time) AS time, value::JSON AS value) "
        "FROM event_lines"
    )
