"""What a name in `where`, `sort` and columns means for a run, whether any run has it, and which names are near it.

A name is a field of the run or a column of `lossbook ls` (`state`, `steps`), `config.a.b`, `summary.x`, or a metric
(`val/loss`: its last value; `val/loss.min`, `.max`, `.mean`, `.last`, `.count`). A name that some runs have is null for
the others; one that no run has is a mistake, and is refused with the nearest names. While one of the runs goes on it may
still come: it is only remarked on then.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from itertools import islice

from lossbook.errors import BadQuery
from lossbook.json_shapes import Json, JsonMapping
from lossbook.metrics import find_key, nearest
from lossbook.reading.record import IndexRecord

FIELDS = (
    "id",
    "name",
    "project",
    "state",
    "error",
    "group",
    "notes",
    "tags",
    "created",
    "ended",
    "host",
    "user",
    "attempts",
    "last_step",
    "rows",
    "duration",
    "alerts",
)
#: What `lossbook ls` calls some fields.
COLUMN_FIELDS = {"started": "created", "steps": "last_step"}
#: Fields that are Unix times.
MOMENTS = ("created", "ended", "started")
#: Titles of columns of `lossbook ls` that stand for a metric, unless a run has one of that very name.
_COLUMN_METRICS = {"val loss": "val/loss"}
_STATISTICS = ("last", "min", "max", "mean", "count", "last_step", "min_step", "max_step", "nonfinite")
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w./@\-]*\Z")
#: So many names are compared with one that nobody has, at the most.
_MOST_COMPARED = 20_000

Evaluate = Callable[[IndexRecord], Json]


def compile_value(name: str) -> Evaluate:
    """Turn one name (as in `sort=` and columns) into what it is for a run; None where the run does not have it."""
    return lookup(bare(name))


def bare(name: str) -> str:
    """A name without the quotes that it stands in."""
    text = name.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '`"':
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def lookup(name: str) -> Evaluate:
    """What a name without quotes is for a run."""
    field = COLUMN_FIELDS.get(name, name)
    if field in FIELDS:
        return operator.attrgetter(field)
    if name.startswith("config."):
        return lambda record: nested(record.config, name.removeprefix("config."))
    if name.startswith("summary."):
        return lambda record: nested(record.summary, name.removeprefix("summary."))

    def value(record: IndexRecord) -> Json:
        metric = _metric_of(record, name)
        if metric is not None:
            return record.metrics.value(*metric)
        found = nested(record.summary, name)
        return found if found is not None else nested(record.config, name)

    return value


def presence(name: str) -> Callable[[IndexRecord], bool]:
    """Whether a run has a name without quotes, whatever its value."""
    if COLUMN_FIELDS.get(name, name) in FIELDS:
        return lambda record: True
    if name.startswith("config."):
        return lambda record: _has(record.config, name.removeprefix("config."))
    if name.startswith("summary."):
        return lambda record: _has(record.summary, name.removeprefix("summary."))
    return lambda record: (
        _metric_of(record, name) is not None or _has(record.summary, name) or _has(record.config, name)
    )


def _metric_of(record: IndexRecord, name: str) -> tuple[str, str] | None:
    """The key and the statistic that a name means in a run."""
    key = _key_of(record, name)
    if key is not None:
        return key, "last"
    base, dot, statistic = name.rpartition(".")
    if dot and statistic in _STATISTICS:
        key = _key_of(record, base)
        if key is not None:
            return key, statistic
    return None


def _key_of(record: IndexRecord, name: str) -> str | None:
    key = find_key(name, record.metrics)
    return find_key(_COLUMN_METRICS[name], record.metrics) if key is None and name in _COLUMN_METRICS else key


def quoted(name: str) -> str:
    """A name as an expression has it: in double quotes where it has spaces, say."""
    return name if _PLAIN_NAME.match(name) else '"' + name.replace('"', '""') + '"'


def refuse_unknown(name: str, records: Iterable[IndexRecord], what: str) -> str | None:
    """Refuse a name that none of some runs has.

    Args:
        name: without quotes.
        what: what was asked for, such as "where".

    Returns:
        None where a run has it, and where there is no run; a remark where none has it yet and one of them goes on.

    Raises:
        BadQuery: none has it, and none goes on; the sentence has the nearest names.
    """
    has = presence(name)
    known = list(records)
    if not known or any(map(has, known)):
        return None
    return unknown_name(name, known, what)


def unknown_name(name: str, records: Iterable[IndexRecord], what: str, *, hint: str = "") -> str:
    """What is said of a name that none of some runs has; a remark while one of them goes on.

    Raises:
        BadQuery: none goes on, so it will not come.
    """
    known = list(records)
    close = nearest(name, islice(all_names(known), _MOST_COMPARED), 3)
    near = f"; the nearest are {', '.join(map(quoted, close))}" if close else ""
    if any(record.state == "running" for record in known):
        return f"{what}: no run has {quoted(name)} yet{near}{hint}"
    raise BadQuery(f"{what}: no run has {quoted(name)}{near}{hint}")


def all_names(records: Iterable[IndexRecord]) -> Iterable[str]:
    """Every name that some runs have, each once."""
    yield from FIELDS
    yield from COLUMN_FIELDS
    seen: set[str] = set()
    for record in records:
        for name in (
            *(f"config.{name}" for name in dotted_names(record.config)),
            *(f"summary.{name}" for name in dotted_names(record.summary)),
            *record.metrics,
        ):
            if name not in seen:
                seen.add(name)
                yield name


def dotted_names(values: JsonMapping, before: str = "") -> Iterable[str]:
    """The names in a nested object: `optimizer.lr`; an empty object is a value of its own."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from dotted_names(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def nested(values: JsonMapping, path: str) -> Json:
    """The value at `a.b.c` (or under a key that has dots of its own); None where there is none."""
    if path in values:
        return plain_number(values[path])
    head, dot, rest = path.partition(".")
    inner = values.get(head)
    if dot and isinstance(inner, dict):
        return nested(inner, rest)
    return None


def _has(values: JsonMapping, path: str) -> bool:
    if path in values:
        return True
    head, dot, rest = path.partition(".")
    inner = values.get(head)
    return bool(dot) and isinstance(inner, dict) and _has(inner, rest)


def plain_number(value: Json) -> Json:
    """A value as the summary holds it, with what is not finite as a float."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
