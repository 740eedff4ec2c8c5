"""The small files that followers write beside a run's rows, checked: summary.json, seal.json, watch.json."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lossbook.errors import DamagedFile, LossbookError
from lossbook.json_shapes import (
    JsonObject,
    Shape,
    each,
    fit,
    has,
    is_attempt_number,
    is_count,
    is_object,
    is_shallow,
    is_step,
    is_text,
    is_texts,
    is_time,
    maybe,
    object_or_empty,
    text_or_none,
    texts_of,
    whole_or_none,
)
from lossbook.paths import RunFolder, read_json

_NONE = type(None)
_NOT_FINITE = frozenset(("NaN", "Infinity", "-Infinity"))


def read_summary(folder: RunFolder) -> JsonObject:
    """A run's `summary.json`; nothing when there is none.

    Raises:
        DamagedFile: it is no summary, in whole or in part.
        StoreError: it cannot be read.
    """
    summary, wrong = fit(read_json(folder.summary_json) or {}, SUMMARY)
    if wrong:
        raise DamagedFile(f"{folder.summary_json} is damaged: {', '.join(wrong)}")
    return summary


@dataclass(frozen=True)
class SealNotes:
    """What sealing noted of a run, by rank: where a resumed attempt goes on, and what was found damaged.

    Attributes:
        next_row: the number of the row behind the last sealed one.
        last_segment: the number of the last sealed segment.
        last_attempt: the attempt that wrote it.
        last_step: the highest step among its last rows.
        problems: a sentence each.
    """

    next_row: dict[int, int] = field(default_factory=dict)
    last_segment: dict[int, int] = field(default_factory=dict)
    last_attempt: dict[int, int] = field(default_factory=dict)
    last_step: dict[int, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class WatchNotes:
    """What a follower noted of the end of an attempt that did not tell it; `ended` in µs."""

    attempt: int = 0
    state: str | None = None
    error: str | None = None
    ended: int | None = None


def read_seal_notes(folder: RunFolder) -> SealNotes:
    """What sealing noted of a run (`followers/seal.json`).

    Raises:
        DamagedFile, StoreError: it cannot be read.
    """
    found = fit(read_json(os.path.join(folder.followers, "seal.json")) or {}, _SEALING)[0]
    return SealNotes(
        **{name: _by_rank(found.get(name)) for name in ("next_row", "last_segment", "last_attempt", "last_step")},
        problems=texts_of(found.get("problems")),
    )


def read_watch_notes(folder: RunFolder) -> WatchNotes:
    """What a follower noted of the run's end (`followers/watch.json`); nothing where that cannot be read."""
    try:
        found = fit(read_json(os.path.join(folder.followers, "watch.json")) or {}, _WATCHED)[0]
    except LossbookError:
        return WatchNotes()
    return WatchNotes(
        whole_or_none(found.get("attempt")) or 0,
        text_or_none(found.get("state")),
        text_or_none(found.get("error")),
        whole_or_none(found.get("ended")),
    )


def _by_rank(value: object) -> dict[int, int]:
    """`{"r0": 7}` as `{0: 7}`; what is no number of a rank is left out."""
    found = {}
    for name, number in object_or_empty(value).items():
        if name[:1] == "r" and name[1:].lstrip("-").isdecimal() and type(number) is int:
            found[int(name[1:])] = number
    return found


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


_DEFINITION = has({"pattern": maybe(is_text), "goal": maybe(is_text)})
_STATISTICS: dict[str, tuple[type, ...]] = {
    "last": (int, float, str, _NONE), "last_step": (int, float, _NONE), "min": (int, float, str, _NONE),
    "min_step": (int, _NONE), "max": (int, float, str, _NONE), "max_step": (int, _NONE),
    "mean": (int, float, str, _NONE), "count": (int, _NONE), "nonfinite": (int, _NONE),
}  # fmt: skip
_TYPES_SEEN: set[tuple[type, ...]] = set()

SUMMARY: Shape = {
    "state": (maybe(is_text), "a text"),
    "error": (maybe(is_text), "a text"),
    "started": (maybe(is_time), "a time in microseconds"),
    "ended": (maybe(is_time), "a time in microseconds"),
    "last_time": (maybe(is_step), "a time in microseconds"),
    "rows": (maybe(is_count), "a count"),
    "last_step": (maybe(is_step), "a step"),
    "config": (maybe(is_object), "an object"),
    "summary": (maybe(is_object), "an object"),
    "define": (maybe(each(lambda one: _DEFINITION(one) and is_shallow(one))), "a list of definitions"),
    "metrics": (maybe(_is_metrics), "statistics of each key"),
    "alerts": (maybe(is_count), "a count"),
    "problems": (maybe(is_texts), "a list of texts"),
    "cursor": (maybe(_is_cursor), "how far each file was read"),
}
_SEALING: Shape = {
    "problems": (is_texts, "a list of texts"),
    **{name: (lambda value: type(value) is dict, "an object") for name in ("next_row", "last_segment", "last_step")},
}
_WATCHED: Shape = {
    "attempt": (is_attempt_number, "a number"),
    "state": (maybe(is_text), "a text"),
    "error": (maybe(is_text), "a text"),
    "ended": (maybe(is_time), "a time in microseconds"),
}
