"""Which shape a run's small files have: wherever they are read, what is of another is left out, with a sentence.

A file can be whole JSON and still not be ours: edited by hand, or written by another program. Who reads it through
here may trust the types of what it gets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lossbook.errors import DamagedFile, LossbookError
from lossbook.paths import RunFolder, read_json

Fits = Callable[[Any], bool]

#: The last microsecond of the year 9999.
_LAST_TIME = 253_402_300_799_999_999
#: Objects in objects, deeper than anybody's configuration and shallower than what JSON writers give up at.
_MOST_DEPTH = 100
_NOT_FINITE = frozenset(("NaN", "Infinity", "-Infinity"))
_NONE = type(None)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LAST_TIME


def _is_step(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_attempt_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 15


def _is_pid(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_shallow(value: Any) -> bool:
    """Whether objects and lists are nested no deeper than JSON can be written."""
    level = [value]
    for _ in range(_MOST_DEPTH):
        inner = [one for one in level if isinstance(one, (dict, list))]
        if not inner:
            return True
        level = [each for one in inner for each in (one.values() if isinstance(one, dict) else one)]
    return False


def _is_object(value: Any) -> bool:
    return type(value) is dict and _is_shallow(value)


def _is_texts(value: Any) -> bool:
    return type(value) is list and all(type(one) is str for one in value)


def _maybe(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _has(fields: Mapping[str, Fits], required: tuple[str, ...] = ()) -> Fits:
    def fits(value: Any) -> bool:
        return (
            type(value) is dict
            and all(name in value for name in required)
            and all(check(value[name]) for name, check in fields.items() if name in value)
        )

    return fits


def _is_attempts(value: Any) -> bool:
    return type(value) is list and all(_ATTEMPT(one) for one in value)


def _is_definitions(value: Any) -> bool:
    return type(value) is list and all(_DEFINITION(one) and _is_shallow(one) for one in value)


def _is_metrics(value: Any) -> bool:
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


def _is_cursor(value: Any) -> bool:
    return type(value) is dict and all(
        one is None or (type(one) is list and len(one) == 3 and all(_is_count(number) for number in one))
        for one in value.values()
    )


_ATTEMPT = _has(
    {
        "number": _is_attempt_number,
        "started": _maybe(_is_time),
        "resume_step": _maybe(_is_step),
        "host": _maybe(_is_text),
        "pid": _maybe(_is_pid),
        "process_start": _maybe(_is_number),
        "boot": _maybe(_is_text),
        "world_size": _maybe(_is_count),
        "launch": _maybe(_is_text),
        "argv": _maybe(_is_texts),
    }
)
_DEFINITION = _has({"pattern": _maybe(_is_text), "goal": _maybe(_is_text)})
_STATISTICS: dict[str, tuple[type, ...]] = {
    "last": (int, float, str, _NONE), "last_step": (int, float, _NONE), "min": (int, float, str, _NONE),
    "min_step": (int, _NONE), "max": (int, float, str, _NONE), "max_step": (int, _NONE),
    "mean": (int, float, str, _NONE), "count": (int, _NONE), "nonfinite": (int, _NONE),
}  # fmt: skip
_TYPES_SEEN: set[tuple[type, ...]] = set()

IDENTITY: dict[str, tuple[Fits, str]] = {
    "format": (_is_count, "a number"),
    "id": (_maybe(_is_text), "a text"),
    "name": (_maybe(_is_text), "a text"),
    "project": (_maybe(_is_text), "a text"),
    "created": (_maybe(_is_time), "a time in microseconds"),
    "config": (_maybe(_is_object), "an object"),
    "tags": (_maybe(_is_texts), "a list of texts"),
    "group": (_maybe(_is_text), "a text"),
    "notes": (_maybe(_is_text), "a text"),
    "host": (_maybe(_has({"name": _maybe(_is_text), "user": _maybe(_is_text)})), "an object"),
    "parent": (
        _maybe(_has({"project": _is_text, "run": _is_text, "step": _is_step}, ("project", "run"))),
        "a project, a run and a step",
    ),
    "mirrors": (_maybe(_is_texts), "a list of texts"),
    "attempts": (_maybe(_is_attempts), "a list of attempts"),
}
SUMMARY: dict[str, tuple[Fits, str]] = {
    "state": (_maybe(_is_text), "a text"),
    "error": (_maybe(_is_text), "a text"),
    "started": (_maybe(_is_time), "a time in microseconds"),
    "ended": (_maybe(_is_time), "a time in microseconds"),
    "last_time": (_maybe(_is_step), "a time in microseconds"),
    "rows": (_maybe(_is_count), "a count"),
    "last_step": (_maybe(_is_step), "a step"),
    "config": (_maybe(_is_object), "an object"),
    "summary": (_maybe(_is_object), "an object"),
    "define": (_maybe(_is_definitions), "a list of definitions"),
    "metrics": (_maybe(_is_metrics), "statistics of each key"),
    "alerts": (_maybe(_is_count), "a count"),
    "problems": (_maybe(_is_texts), "a list of texts"),
    "cursor": (_maybe(_is_cursor), "how far each file was read"),
}
_SEALING: dict[str, tuple[Fits, str]] = {
    "problems": (_is_texts, "a list of texts"),
    **{name: (lambda value: type(value) is dict, "an object") for name in ("next_row", "last_segment", "last_step")},
}
_WATCHED: dict[str, tuple[Fits, str]] = {
    "attempt": (_is_attempt_number, "a number"),
    "state": (_maybe(_is_text), "a text"),
    "error": (_maybe(_is_text), "a text"),
    "ended": (_maybe(_is_time), "a time in microseconds"),
}


def fit(values: dict[str, Any], shape: Mapping[str, tuple[Fits, str]]) -> tuple[dict[str, Any], list[str]]:
    """Leave out what has not the type that it should have.

    Returns:
        The rest, and of each thing left out what it should be: `"tags" is no list of texts`.
    """
    wrong = [name for name, (fits, _) in shape.items() if name in values and not fits(values[name])]
    if not wrong:
        return values, []
    rest = {name: value for name, value in values.items() if name not in wrong}
    return rest, [f'"{name}" is not {shape[name][1]}' for name in wrong]


def read_identity(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    """A run's `run.json`, as far as it can be read, and a sentence for each thing that is wrong with it."""
    path = folder.run_json
    try:
        identity = read_json(path)
    except LossbookError as error:
        return {}, [str(error)]
    if not identity:
        return {}, [f"{path} is missing: the run's name and configuration are not known"]
    identity, wrong = fit(identity, IDENTITY)
    return identity, [f"{path} is damaged: {one}; it is left out" for one in wrong]


def read_summary(folder: RunFolder) -> dict[str, Any]:
    """A run's `summary.json`; nothing when there is none.

    Raises:
        DamagedFile: it is no summary, in whole or in part.
        StoreError: it cannot be read.
    """
    summary, wrong = fit(read_json(folder.summary_json) or {}, SUMMARY)
    if wrong:
        raise DamagedFile(f"{folder.summary_json} is damaged: {', '.join(wrong)}")
    return summary


def read_sealing(folder: RunFolder) -> dict[str, Any]:
    """What sealing noted of a run: problems, and per rank the next row and the last segment.

    Raises:
        DamagedFile, StoreError: it cannot be read.
    """
    return fit(read_json(os.path.join(folder.followers, "seal.json")) or {}, _SEALING)[0]


def read_watched(folder: RunFolder) -> dict[str, Any]:
    """What a follower noted of the end of a run that did not tell it; nothing where that cannot be read."""
    try:
        return fit(read_json(os.path.join(folder.followers, "watch.json")) or {}, _WATCHED)[0]
    except LossbookError:
        return {}
