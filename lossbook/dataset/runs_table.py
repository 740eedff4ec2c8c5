"""The table of runs: a line each, with a typed column for each value of the configurations and of what was summed up.

The type of a column is the narrowest that holds every run's value: BOOLEAN, BIGINT, DOUBLE, or VARCHAR where runs
disagree (a number in one, a text in another): numbers are in their JSON form then, texts as they are. A list is JSON text.
Some engines tell names apart by more than upper and lower case, others do not: the second of two that differ in nothing
else gets `_2` behind it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

from lossbook.json_shapes import Json, JsonMapping, JsonObject
from lossbook.storage import quote, quote_name

if TYPE_CHECKING:
    from lossbook.reading import IndexRecord

#: Columns of configurations and summaries, those of the most runs first; the rest is in the columns `config` and `summary`.
MOST_COLUMNS = 2_000
_FIXED = {
    "project": "VARCHAR",
    "run": "VARCHAR",
    "run_name": "VARCHAR",
    "state": "VARCHAR",
    "error": "VARCHAR",
    "created": "TIMESTAMP",
    "started": "TIMESTAMP",
    "ended": "TIMESTAMP",
    "duration": "DOUBLE",
    "group": "VARCHAR",
    "tags": "VARCHAR[]",
    "notes": "VARCHAR",
    "host": "VARCHAR",
    "user": "VARCHAR",
    "attempts": "BIGINT",
    "last_step": "BIGINT",
    "rows": "BIGINT",
    "parent_project": "VARCHAR",
    "parent_run": "VARCHAR",
    "parent_step": "BIGINT",
    "config": "VARCHAR",
    "summary": "VARCHAR",
}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1
_LARGEST_LINE_BYTES = 256 << 20


def write_lines(path: str, runs: Sequence[tuple[IndexRecord, JsonMapping]]) -> str:
    """Write a line of JSON for each run to a scratch file; returns the SQL that reads the table from it.

    Args:
        runs: of each its record, and what else is known of it by column.
    """
    flat = [dict(_values_of(record)) for record, _ in runs]
    columns = _columns(flat)
    types = {name: _type_of([values.get(name) for values in flat]) for name in columns}
    with open(path, "wb") as file:
        for (record, more), values in zip(runs, flat, strict=True):
            line: JsonObject = {**_fixed(record), **more}
            numbered: JsonObject = {f"f{number}": line.get(name) for number, name in enumerate(_FIXED)}
            numbered |= {
                f"v{number}": _as(values.get(name), types[name])
                for number, name in enumerate(columns)
                if values.get(name) is not None
            }
            file.write(orjson.dumps(numbered) + b"\n")
    shown = {f"f{number}": (name, kind) for number, (name, kind) in enumerate(_FIXED.items())}
    shown |= {f"v{number}": (columns[name], types[name]) for number, name in enumerate(columns)}
    # Times are numbers in the lines: a text would lose their microseconds' exactness, or be read in a time zone.
    read = {column: "BIGINT" if kind == "TIMESTAMP" else kind for column, (_, kind) in shown.items()}
    described = ", ".join(f"{column}: {quote(kind)}" for column, kind in read.items())
    selected = ", ".join(
        f"{f'make_timestamp({column})' if kind == 'TIMESTAMP' else column} AS {quote_name(name)}"
        for column, (name, kind) in shown.items()
    )
    escaped = "".join(f"[{one}]" if one in "*?[" else one for one in path)
    return (
        f"SELECT {selected} FROM read_json({quote(escaped)}, format = 'newline_delimited', hive_partitioning = false, "
        f"maximum_object_size = {_LARGEST_LINE_BYTES}, columns = {{{described}}})"
        if os.path.getsize(path)
        else f"SELECT {', '.join(f'NULL::{kind} AS {quote_name(name)}' for name, kind in _FIXED.items())} WHERE false"
    )


def _fixed(record: IndexRecord) -> JsonObject:
    return {
        "project": record.project,
        "run": record.id,
        "run_name": record.name,
        "state": record.state,
        "error": record.error,
        "created": record.created_us or None,
        "started": round(record.started * 1e6) or None,
        "ended": round(record.ended * 1e6) if record.ended else None,
        "duration": record.duration,
        "group": record.group,
        "tags": [*record.tags],
        "notes": record.notes,
        "host": record.host,
        "user": record.user,
        "attempts": record.attempts,
        "last_step": record.last_step,
        "rows": record.rows,
        "config": orjson.dumps(record.config).decode(),
        "summary": orjson.dumps(record.summary).decode(),
    }


def _values_of(record: IndexRecord) -> Iterator[tuple[str, Json]]:
    for prefix, values in (("config", record.config), ("summary", record.summary)):
        yield from _flatten(prefix, values)


def _flatten(prefix: str, values: JsonMapping) -> Iterator[tuple[str, Json]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value


def _columns(flat: Sequence[JsonMapping]) -> dict[str, str]:
    """What each value is called in the table, in the order of the names; those of the most runs where there are too many."""
    held = Counter(name for values in flat for name, value in values.items() if value is not None)
    taken = set(_FIXED)
    columns: dict[str, str] = {}
    for name in sorted(name for name, _ in held.most_common(MOST_COLUMNS)):
        shown, number = name, 2
        while shown.lower() in taken:
            shown, number = f"{name}_{number}", number + 1
        taken.add(shown.lower())
        columns[name] = shown
    return columns


def _type_of(values: Sequence[Json]) -> str:
    found = {_kind(value) for value in values if value is not None}
    if len(found) == 1:
        return found.pop()
    return "DOUBLE" if found == {"BIGINT", "DOUBLE"} else "VARCHAR"


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT" if _SMALLEST <= value <= _LARGEST else "DOUBLE"
    if isinstance(value, float) or value in _NOT_FINITE:
        return "DOUBLE"
    return "VARCHAR"


def _as(value: Json, kind: str) -> Json:
    if kind != "VARCHAR" or value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
