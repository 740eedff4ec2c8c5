"""`summary.json`: how a run stands, in one small file. Parses, checks and writes it; nothing else names its fields.

It can be made again from the run's rows, so one of which a part has the wrong type is damaged as a whole. Fields that
this version does not know are kept and written back as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from lossbook.errors import DamagedFile
from lossbook.json_shapes import (
    Json,
    JsonMapping,
    JsonObject,
    Shape,
    check_fields,
    is_count,
    is_list_of,
    is_object,
    is_object_with,
    is_shallow,
    is_step,
    is_text,
    is_texts,
    is_time,
    object_or_empty,
    text_or_none,
    texts_of,
    whole_or_none,
)
from lossbook.paths import FORMAT, RunFolder, read_json, write_json

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


_NOTHING: JsonMapping = MappingProxyType({})


@dataclass(frozen=True)
class MetricStatistics:
    """One metric of a run in numbers, over the rows that count; extremes and mean over its finite values.

    None stands for what is not known, or for the extremes and the mean of a metric without a finite value.
    """

    last: float | None = None
    last_step: int | None = None
    min: float | None = None
    min_step: int | None = None
    max: float | None = None
    max_step: int | None = None
    mean: float | None = None
    count: int = 0
    nonfinite: int = 0


class MetricTable(Mapping[str, MetricStatistics]):
    """The statistics of a run's metrics by key.

    They are held as JSON has them, and parsed when one of them is asked for: of ten thousand runs with a hundred
    metrics each, few are.
    """

    __slots__ = ("_written",)

    def __init__(self, written: JsonObject | None = None) -> None:
        self._written: JsonObject = written if written is not None else {}

    def __getitem__(self, key: str) -> MetricStatistics:
        get = object_or_empty(self._written[key]).get
        return MetricStatistics(
            _number(get("last")),
            _whole(get("last_step")),
            _number(get("min")),
            _whole(get("min_step")),
            _number(get("max")),
            _whole(get("max_step")),
            _number(get("mean")),
            _whole(get("count")) or 0,
            _whole(get("nonfinite")) or 0,
        )

    def value(self, key: str, statistic: str) -> float | None:
        """One statistic of one metric, such as "last"; None where it is not known.

        Raises:
            KeyError: there is no such metric.
        """
        return _number(object_or_empty(self._written[key]).get(statistic))

    def __contains__(self, key: object) -> bool:
        return key in self._written

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)

    def __repr__(self) -> str:
        return f"<statistics of {len(self)} metrics>"

    def to_json(self) -> JsonObject:
        """As it stands in `summary.json`."""
        return self._written


class ReadTo(NamedTuple):
    """How far a journal was read: a place in bytes, the number of the line there, and of the row that is next."""

    offset: int
    line: int
    next_row: int


class RunSummary(NamedTuple):
    """How a run stands: the contents of its `summary.json`. Times in µs since 1970, UTC.

    Attributes:
        state: running, finished, failed, interrupted, killed, preempted or crashed; None where it is not known.
        started: when the last attempt began.
        earlier: µs that the attempts before it ran, each from its beginning to its last row; None where it is not known.
        updated: when this was written.
        rows: of all kinds, those of followers left out.
        last_step: the furthest that training has come.
        config: changes to what `init()` was given.
        summary: what the training code set in `run.summary`.
        define: what it said of its metrics (`define_metric`), one object each.
        metrics: in the order of their keys.
        problems: a sentence each.
        cursor: by file, how far it was read to make this; None for a sealed file, which was read whole.
        more: fields that this version does not know.
    """

    state: str | None = None
    error: str | None = None
    started: int | None = None
    earlier: int | None = None
    ended: int | None = None
    updated: int | None = None
    rows: int = 0
    last_step: int | None = None
    last_time: int | None = None
    config: JsonObject = {}  # noqa: RUF012  # nobody changes it in place
    summary: JsonObject = {}  # noqa: RUF012
    define: tuple[JsonObject, ...] = ()
    metrics: MetricTable = MetricTable()
    alerts: int = 0
    problems: tuple[str, ...] = ()
    cursor: Mapping[str, ReadTo | None] = MappingProxyType({})
    more: JsonMapping = _NOTHING

    def to_json(self) -> JsonObject:
        """As it stands in `summary.json`."""
        return {
            "format": FORMAT,
            "state": self.state,
            "error": self.error,
            "started": self.started,
            **({"earlier": self.earlier} if self.earlier is not None else {}),
            "ended": self.ended,
            "updated": self.updated,
            "rows": self.rows,
            "last_step": self.last_step,
            "last_time": self.last_time,
            "config": self.config,
            "summary": self.summary,
            "define": [*self.define],
            "metrics": self.metrics.to_json(),
            "alerts": self.alerts,
            "problems": [*self.problems],
            "cursor": {name: None if place is None else [*place] for name, place in self.cursor.items()},
            **self.more,
        }


def read_summary(folder: RunFolder) -> RunSummary | None:
    """A run's `summary.json`; None when there is none.

    Raises:
        DamagedFile: it is no summary, in whole or in part.
        StoreError: it cannot be read.
    """
    values = read_json(folder.summary_json)
    if not values:
        return None
    good, wrong = check_fields(values, _SUMMARY)
    if wrong:
        raise DamagedFile(f"{folder.summary_json} is damaged: {', '.join(wrong)}")
    return _parsed(good)


def write_summary(folder: RunFolder, summary: RunSummary) -> None:
    """Replace a run's `summary.json` in one step.

    Raises:
        OSError: it cannot be written.
    """
    write_json(folder.summary_json, summary.to_json(), durable=False)


def _parsed(values: JsonObject) -> RunSummary:
    define = values.get("define")
    return RunSummary(
        state=text_or_none(values.get("state")),
        error=text_or_none(values.get("error")),
        started=whole_or_none(values.get("started")),
        earlier=whole_or_none(values.get("earlier")),
        ended=whole_or_none(values.get("ended")),
        updated=whole_or_none(values.get("updated")),
        rows=whole_or_none(values.get("rows")) or 0,
        last_step=whole_or_none(values.get("last_step")),
        last_time=whole_or_none(values.get("last_time")),
        config=object_or_empty(values.get("config")),
        summary=object_or_empty(values.get("summary")),
        define=tuple(object_or_empty(one) for one in define) if isinstance(define, list) else (),
        metrics=MetricTable(object_or_empty(values.get("metrics"))),
        alerts=whole_or_none(values.get("alerts")) or 0,
        problems=texts_of(values.get("problems")),
        cursor={name: _read_to(place) for name, place in object_or_empty(values.get("cursor")).items()},
        more={name: value for name, value in values.items() if name not in _KNOWN},
    )


def _read_to(place: Json) -> ReadTo | None:
    if not isinstance(place, list):
        return None
    offset, line, next_row = (whole_or_none(one) or 0 for one in place)
    return ReadTo(offset, line, next_row)


def _number(value: Json) -> float | None:
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    return value if isinstance(value, (int, float)) else None


def _whole(value: Json) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None


_KNOWN = frozenset((*RunSummary._fields, "format"))

# -- checks -----------------------------------------------------------------------------------------------------------


def _is_metrics(value: object) -> bool:
    if type(value) is not dict:
        return False
    # A run has few combinations of types, and perhaps a hundred thousand keys.
    for one in value.values():
        if type(one) is not dict:
            return False
        numbers = [one.get(name) for name in _STATISTICS]
        types = tuple(map(type, numbers))
        if types not in _TYPES_SEEN:
            if not all(kind in allowed for kind, allowed in zip(types, _STATISTICS.values(), strict=True)):
                return False
            _TYPES_SEEN.add(types)
        if str in types and any(type(number) is str and number not in _NOT_FINITE for number in numbers):
            return False
    return True


def _is_cursor(value: object) -> bool:
    return isinstance(value, dict) and all(
        one is None or (type(one) is list and len(one) == 3 and all(is_count(number) for number in one))
        for one in value.values()
    )


_DEFINITION = is_object_with({"pattern": is_text, "goal": is_text})
_STATISTICS: dict[str, tuple[type, ...]] = {
    "last": (int, float, str, type(None)), "last_step": (int, float, type(None)), "min": (int, float, str, type(None)),
    "min_step": (int, type(None)), "max": (int, float, str, type(None)), "max_step": (int, type(None)),
    "mean": (int, float, str, type(None)), "count": (int, type(None)), "nonfinite": (int, type(None)),
}  # fmt: skip
_TYPES_SEEN: set[tuple[type, ...]] = set()

_SUMMARY: Shape = {
    "state": (is_text, "a text"),
    "error": (is_text, "a text"),
    "started": (is_time, "a time in microseconds"),
    "earlier": (is_count, "a count"),
    "ended": (is_time, "a time in microseconds"),
    "last_time": (is_step, "a time in microseconds"),
    "rows": (is_count, "a count"),
    "last_step": (is_step, "a step"),
    "config": (is_object, "an object"),
    "summary": (is_object, "an object"),
    "define": (is_list_of(lambda one: _DEFINITION(one) and is_shallow(one)), "a list of definitions"),
    "metrics": (_is_metrics, "statistics of each key"),
    "alerts": (is_count, "a count"),
    "problems": (is_texts, "a list of texts"),
    "cursor": (_is_cursor, "how far each file was read"),
}
