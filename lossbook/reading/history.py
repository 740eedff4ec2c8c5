"""Writes the SQL of `run.history`: a run's rows over its files, without those that a later attempt hides."""

from __future__ import annotations

import atexit
import os
from functools import cache
from typing import TYPE_CHECKING

from lossbook.journal import DamagedPart, damaged_parts, first_row
from lossbook.storage import METRICS, is_shared, parquet, quote, quote_name

if TYPE_CHECKING:
    from lossbook.curves import Source
    from lossbook.storage import RunRows, Segment

COLUMNS = ", ".join(METRICS)
# JSON text of a journal line; the largest object is bounded by DuckDB, not by the format.
_LARGEST_LINE_BYTES = 256 << 20


def rows_query(rows: RunRows, *, keys: list[str] | None = None) -> str:
    """SQL for all rows of a run, hidden ones included, in the columns of the sealed schema.

    Args:
        keys: only these.
    """
    wanted = f" WHERE key IN ({', '.join(map(quote, keys))})" if keys is not None else ""
    sealed = rows.usable_sources()
    whole = [str(segment.metrics) for segment, _ in sealed if segment.first_row is None]
    parts = []
    if whole:
        parts.append(f"SELECT {COLUMNS} FROM {parquet(whole)}{wanted}")
    parts += [f"SELECT {COLUMNS} FROM {source}{wanted}" for segment, source in sealed if segment.first_row is not None]
    parts += [
        f"SELECT * FROM ({_live(rows, segment)}){wanted}" for segment in rows.segments if segment.journal is not None
    ]
    if not parts:
        empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in METRICS.items())
        return f"SELECT {empty} WHERE false"
    return " UNION ALL ".join(parts)


def _live(rows: RunRows, segment: Segment) -> str:
    path = str(segment.journal)
    try:
        head = first_row(path)
        parts = damaged_parts(path)
    except FileNotFoundError:
        raise rows.replaced(path) from None
    attempt = int(head.body["number"]) if head is not None and head.kind == "attempt" else 0
    read = _without(path, parts) if parts else path
    source = (
        f"read_json({quote(_escape(read))}, format = 'newline_delimited', ignore_errors = true, "
        f"maximum_object_size = {_LARGEST_LINE_BYTES}, hive_partitioning = false, "
        "columns = {i: 'BIGINT', t: 'BIGINT', s: 'BIGINT', m: 'MAP(VARCHAR, DOUBLE)'})"
    )
    return (
        "SELECT unnest(map_keys(m)) AS key, i AS row, s AS step, make_timestamp(t) AS time, unnest(map_values(m)) AS "
        f"value, {segment.name.rank}::SMALLINT AS rank, {attempt}::SMALLINT AS attempt FROM {source} "
        f"WHERE m IS NOT NULL AND i >= {segment.first_row or 0} AND s IS NOT NULL"
    )


def _without(path: str, parts: list[DamagedPart]) -> str:
    """A copy of a journal without the lines that are not what was written: DuckDB cannot pass over them."""
    with open(path, "rb") as file:
        text = file.read()
    kept, at = [], 0
    for part in parts:
        kept.append(text[at : part.start])
        end = text.find(b"\n", part.end - 1)
        at = end + 1 if end >= 0 else len(text)
    kept.append(text[at:])
    copy = os.path.join(_scratch(os.getpid()), f"{len(os.listdir(_scratch(os.getpid())))}.jsonl")
    with open(copy, "wb") as file:
        file.write(b"".join(kept))
    return copy


@cache
def _scratch(pid: int) -> str:
    """A folder of this process for copies of damaged journals; it goes with the process."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="lossbook-read-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _escape(path: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in path)


def visible_query(rows: RunRows, query: str) -> str:
    """SQL for the rows among `query` that no later attempt hides."""
    resumed = rows.info.resume_steps()
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


def sources_query(sources: list[Source], *, keys: list[str] | None = None, hidden: bool = False) -> str:
    """SQL for the rows of a run and of those that it was forked from, in the columns of the sealed schema.

    Args:
        keys: only these.
        hidden: those that a later attempt hides as well.
    """
    parts = []
    for source in sources:
        query = rows_query(source.rows, keys=keys)
        if not hidden:
            query = visible_query(source.rows, query)
        parts.append(f"SELECT {COLUMNS} FROM ({query}) WHERE step <= {source.last_step}")
    return " UNION ALL ".join(parts)


def history_query(
    sources: list[Source], keys: list[str], *, start: int | None, end: int | None, ranks: bool, hidden: bool
) -> str:
    """SQL for a wide table: step, time, then a column for each key."""
    rows = sources_query(sources, keys=keys, hidden=hidden)
    bounds = [f"step >= {int(start)}"] if start is not None else []
    bounds += [f"step <= {int(end)}"] if end is not None else []
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    by = ["step"] + (["rank"] if ranks else []) + (["attempt"] if hidden else [])
    shared = set() if ranks else {key for key in keys if _is_shared(sources, key)}
    named = column_names(keys, [*by, "time"])
    # Only a mean is computed: a value that stands alone keeps its bits.
    columns = ", ".join(
        f"{'avg' if key in shared else 'any_value'}(value) FILTER (key = {quote(key)}) AS {quote_name(named[key])}"
        for key in keys
    )
    if len(keys) == 1 and not shared:
        # Each of its rows is a line: they are put in order, nothing is grouped. That takes a quarter of the time.
        shown = ", ".join(f"lines.{name}" for name in [*by, "time"])
        order = ", ".join(f"lines.{name}" for name in [*by, "attempt", "rank DESC", "row"])
        value = f"lines.value AS {quote_name(named[keys[0]])}"
        return f"SELECT {shown}, {value} FROM (SELECT * FROM ({rows}){where}) AS lines ORDER BY {order}"
    # The n-th time that a key was logged at a step goes to the n-th line of that step.
    ranked = "rank" if ranks else f"CASE WHEN key IN ({', '.join(map(quote, sorted(shared)))}) THEN rank END"
    within = "key, step" + (f", {ranked}" if ranks or shared else "") + (", attempt" if hidden else "")
    turn = f"row_number() OVER (PARTITION BY {within} ORDER BY attempt, rank DESC, row)"
    numbered = f"SELECT *, {turn} AS turn FROM ({rows}){where}"
    # A key may have the name of a column, whatever its capitals: those of the lines are told by where they come from.
    grouped = ", ".join(f"lines.{name}" for name in [*by, "turn"])
    shown = ", ".join([f"lines.{name}" for name in by] + ["min(lines.time) AS time", *([columns] if columns else [])])
    return f"SELECT {shown} FROM ({numbered}) AS lines GROUP BY {grouped} ORDER BY {grouped}"


def column_names(keys: list[str], taken: list[str]) -> dict[str, str]:
    """The column of each key in a table that has columns of its own: a metric called `step` is `metric/step` there."""
    names = {}
    for key in keys:
        name = key
        while name in taken or (name != key and name in keys):
            name = f"metric/{name}"
        names[key] = name
    return names


def _is_shared(sources: list[Source], key: str) -> bool:
    return any(is_shared({part.rank for part in source.rows.parts(key)}) for source in sources)
