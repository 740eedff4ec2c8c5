"""Reads a run's events, which are its rows that are no scalars, sealed and live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossbook.journal import read_segment
from lossbook.json_shapes import parse_object
from lossbook.storage import RunRows, events_source, leave_out

if TYPE_CHECKING:
    import duckdb

    from lossbook.storage import Rows, Segment


def read_events(rows: RunRows, connection: duckdb.DuckDBPyConnection, kind: str | None = None) -> list[dict[str, Any]]:
    """Read a run's rows of other kinds, by time; `value` is parsed, `time` in Unix seconds."""
    found: list[dict[str, Any]] = []
    for segment in rows.segments:
        rank = segment.name.rank
        if segment.events is not None:
            for row, step, when, name, key, attempt, value in _fetch(rows, segment, connection, kind):
                found.append(_event(row, step, when, name, key, rank, attempt, _parsed(value)))
        elif segment.journal is not None:
            attempt = 0
            try:
                reading = read_segment(segment.journal)
            except FileNotFoundError:
                rows.refresh()
                return read_events(rows, connection, kind)
            for one in reading.rows:
                if one.kind == "attempt":
                    attempt = int(one.body["number"])
                if one.i < (segment.first_row or 0):
                    continue
                if one.kind is not None and (kind is None or one.kind == kind):
                    found.append(_event(one.i, one.step, one.t, one.kind, one.key, rank, attempt, one.body))
    return sorted(found, key=lambda event: (event["time"], event["rank"], event["row"]))


def _fetch(rows: RunRows, segment: Segment, connection: duckdb.DuckDBPyConnection, kind: str | None) -> Rows:
    """A sealed segment's events; none where its file is damaged, which the run's problems say."""
    import duckdb

    path = str(segment.events)
    try:
        source = events_source(segment)
        if source is None:
            return []
        query = f"SELECT row, step, epoch_us(time), kind, key, attempt, value FROM {source}"
        if kind is not None:
            query += " WHERE kind = ?"
        try:
            return connection.execute(query, [kind] if kind is not None else None).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            leave_out(path, error)
            return []
    except FileNotFoundError:
        raise rows.replaced(path) from None


def _parsed(value: str) -> Any:
    return parse_object(value)


def _event(
    row: int, step: int | None, when: int, kind: str, key: str | None, rank: int, attempt: int, value: Any
) -> dict[str, Any]:
    return {
        "row": row,
        "step": step,
        "time": when / 1e6,
        "kind": kind,
        "key": key,
        "rank": rank,
        "attempt": attempt,
        "value": value,
    }
