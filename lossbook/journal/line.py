"""One line of the journal: the only place that knows its JSON.

    {"i":12,"t":1763688000123456,"s":100,"m":{"train/loss":3.21}}
    {"i":13,"t":1763688000123501,"s":100,"k":"text","key":"sample","v":{"text":"once upon"}}

`i` row number of this writer from 0, without gaps; `t` Unix time in µs; `s` step (absent where a row has none);
`m` scalars; `k` the kind of a row that is no set of scalars, with `key` and `v` its name and contents.
Numbers that JSON cannot hold are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import orjson

from lossbook.json_shapes import MOST_DEPTH, JsonObject, is_shallow

#: Kinds of row that this version writes; a reader passes over others.
KINDS = frozenset(
    ("attempt", "config", "summary", "define", "text", "histogram", "image", "table", "alert", "checkpoint",
     "stage", "note", "file", "artifact", "warning", "finish")
)  # fmt: skip

NEWLINE = orjson.OPT_APPEND_NEWLINE
_NUMBERS = frozenset((float, int))
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Row(NamedTuple):
    """One line, decoded. `kind` is None for scalars, and `body` is then `{key: float}`."""

    i: int
    t: int
    step: int | None
    kind: str | None
    key: str | None
    body: dict[str, Any]


def merge_config(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """What a `config` or `summary` row makes of what was there: objects merge, everything else replaces.

    Returns:
        A new dictionary; `base` stays as it is.
    """
    merged = dict(base)
    for key, value in change.items():
        before = merged.get(key)
        both = isinstance(value, dict) and isinstance(before, dict)
        merged[key] = merge_config(before, value) if both else value  # type: ignore[arg-type]
    return merged


class DamagedLine(ValueError):
    """A line that is not a journal row; readers report it and go on."""


def encode_number(value: float) -> float | str:
    """Return `value` as JSON can hold it: itself, or the name of what is not finite."""
    if math.isfinite(value):
        return value
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def decode_number(value: object) -> float:
    """Read a number back.

    Raises:
        DamagedLine: `value` is neither a number, a boolean nor one of the three names.
    """
    if type(value) is float:
        return value
    if type(value) is int or type(value) is bool:
        return float(value)
    if type(value) is str and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise DamagedLine(f"{value!r} is no number")


def encode_scalars(i: int, t: int, step: int, scalars: dict[str, float]) -> bytes:
    """Encode one row of scalars, of any float values."""
    numbers = {key: encode_number(value) for key, value in scalars.items()}
    return orjson.dumps({"i": i, "t": t, "s": step, "m": numbers}, None, NEWLINE)


def encode_event(i: int, t: int, step: int | None, kind: str, key: str | None, value: JsonObject) -> bytes:
    """Encode one row of another kind; `value` holds only what JSON can."""
    line: JsonObject = {"i": i, "t": t}
    if step is not None:
        line["s"] = step
    line["k"] = kind
    if key is not None:
        line["key"] = key
    line["v"] = value
    return orjson.dumps(line, _plain, NEWLINE | orjson.OPT_NON_STR_KEYS)


def number_line(line: bytes, row: int) -> bytes:
    """Give an encoded line its row number."""
    return b'{"i":%d%b' % (row, line[line.index(b",") :])


def _plain(value: object) -> object:
    """Stand in for what JSON does not know, so that one odd value never costs the row."""
    for attribute in ("tolist", "item"):
        convert = getattr(value, attribute, None)
        if callable(convert):
            return convert()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)


def decode(line: bytes) -> Row:
    """Decode one line, with or without its newline.

    Raises:
        DamagedLine: it is not JSON, or not a row.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DamagedLine(f"not JSON ({error.msg})") from None
    try:
        i, t, kind = fields["i"], fields["t"], fields.get("k")
        if kind is None:
            body = {key: value if type(value) is float else decode_number(value) for key, value in fields["m"].items()}
            row = Row(i, t, fields["s"], None, None, body)
        else:
            row = Row(i, t, fields.get("s"), kind, fields.get("key"), fields.get("v") or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedLine(f"no journal row ({type(error).__name__}: {error})") from None
    if not is_place(row.i, row.t) or row.i < 0 or not (row.step is None or is_step(row.step)):
        raise DamagedLine("row number, time and step must be integers that fit 64 bits")
    if kind is None and row.step is None:
        raise DamagedLine("a row of scalars has no step")
    if kind is not None and (
        type(kind) is not str or type(row.body) is not dict or not (row.key is None or type(row.key) is str)
    ):
        raise DamagedLine("the kind and key of a row must be strings and its contents an object")
    # As many brackets are needed to nest as deeply: most lines have fewer.
    if kind is not None and line.count(b"{") + line.count(b"[") > MOST_DEPTH and not is_shallow(row.body):
        raise DamagedLine(f"its contents are nested deeper than {MOST_DEPTH} levels")
    if kind == "attempt" and not is_attempt(row.body.get("number")):
        raise DamagedLine("the number of an attempt must be an integer from 0 to 32767")
    return row


class PlainRows(NamedTuple):
    """Rows of finite numbers, a list for each field: what training writes, as a rule. `metrics` are as JSON has them."""

    i: list[int]
    t: list[int]
    step: list[int]
    metrics: list[dict[str, float]]
    values: list[float]


def decode_plain(lines: Sequence[bytes]) -> PlainRows | None:
    """Decode lines that are all rows of finite numbers, numbered without a gap; several times faster than `decode`.

    Returns:
        None when there is anything else among them: each is to be decoded by itself then.
    """
    try:
        found = list(map(orjson.loads, lines))
        if set(map(len, found)) != {4}:
            return None
        i = [row["i"] for row in found]
        t = [row["t"] for row in found]
        step = [row["s"] for row in found]
        metrics = [row["m"] for row in found]
        values = list(chain.from_iterable([one.values() for one in metrics]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not _NUMBERS.issuperset(map(type, values)) or set(map(type, chain(i, t, step))) != {int}:
        return None
    if i[0] < 0 or i != list(range(i[0], i[0] + len(i))):
        return None
    if not (is_place(i[-1], min(t)) and is_place(i[-1], max(t)) and is_step(min(step)) and is_step(max(step))):
        return None
    return PlainRows(i, t, step, metrics, values)


def is_place(i: object, t: object) -> bool:
    """Whether a row number and a time (µs) are such: the time within what Parquet and DuckDB can hold."""
    return type(i) is int and type(t) is int and i < 1 << 62 and -(1 << 62) < t < 1 << 62


def is_step(step: object) -> bool:
    """Whether a step is a 64-bit integer."""
    return type(step) is int and -(1 << 63) <= step < 1 << 63


def is_attempt(number: object) -> bool:
    """Whether the number of an attempt is one (Parquet holds it in 16 bits)."""
    return type(number) is int and 0 <= number < 1 << 15
