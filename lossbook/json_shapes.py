"""The types of JSON values, and checks of small files: a field of the wrong type is left out, and named.

A file can be whole JSON and still not be ours: edited by hand, or written by another program. What `check_fields` returns
has the types that its shape says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

#: What JSON can hold. A type checker takes `dict[str, int]` for no `JsonObject`: take a `JsonMapping` as an argument.
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
JsonMapping: TypeAlias = Mapping[str, Json]

Check = Callable[[object], bool]
#: Which check each field of an object has to pass, and what it should be, in words.
Shape = Mapping[str, tuple[Check, str]]

#: The last microsecond of the year 9999.
_LAST_TIME = 253_402_300_799_999_999
#: Objects in objects, deeper than anybody's configuration and shallower than what JSON writers give up at.
MOST_DEPTH = 100


def check_fields(values: JsonObject, shape: Shape) -> tuple[JsonObject, list[str]]:
    """Leave out the fields that have the wrong type. A field that is null passes: it says as much as one that is not there.

    Returns:
        The rest, and of each thing left out what it should be: `"tags" is not a list of texts`.
    """
    # Ten thousand runs are checked before the first listing: what is right costs one call a field.
    wrong = {
        name
        for name, value in values.items()
        if value is not None and (field := shape.get(name)) is not None and not field[0](value)
    }
    # Also what this version does not know: it is written back some time, and nothing writes what is nested so deeply.
    deep = {
        name
        for name, value in values.items()
        if name not in wrong and type(value) in (dict, list) and not is_shallow(value)
    }
    if not wrong and not deep:
        return values, []
    rest = {name: value for name, value in values.items() if name not in wrong and name not in deep}
    return rest, [
        *(f'"{name}" is not {words}' for name, (_, words) in shape.items() if name in wrong),
        *(f'"{name[:40]}" is nested deeper than {MOST_DEPTH} levels' for name in deep),
    ]


# -- checks -----------------------------------------------------------------------------------------------------------


def is_text(value: object) -> bool:
    return type(value) is str


def is_flag(value: object) -> bool:
    return type(value) is bool


def is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LAST_TIME


def is_step(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def is_attempt_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 15


def is_pid(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def is_number(value: object) -> bool:
    return type(value) in (int, float)


def is_object(value: object) -> bool:
    return type(value) is dict and is_shallow(value)


def is_texts(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is str for one in value)


def is_shallow(value: object) -> bool:
    """Whether objects and lists are nested no deeper than JSON can be written."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(each, (dict, list))
        ]
        if not level:
            return True
    return False


def is_object_with(fields: Mapping[str, Check], required: Sequence[str] = ()) -> Check:
    """A check of an object: those of `fields` that it has must fit or be null, and it must have the required ones."""

    def is_one(value: object) -> bool:
        if not isinstance(value, dict) or any(value.get(name) is None for name in required):
            return False
        for name, one in value.items():
            if one is not None and (check := fields.get(name)) is not None and not check(one):
                return False
        return True

    return is_one


def is_list_of(check: Check) -> Check:
    """A check of a list: each of its items must fit."""
    return lambda value: isinstance(value, list) and all(map(check, value))


# -- taking a value as what it was checked to be ----------------------------------------------------------------------


def text_or_none(value: object) -> str | None:
    """A text as it is; None for anything else."""
    return value if isinstance(value, str) else None


def whole_or_none(value: object) -> int | None:
    """A whole number as it is; None for anything else, True and False included."""
    return value if type(value) is int else None


def number_or_none(value: object) -> float | None:
    """A number as it is; None for anything else, True and False included."""
    return value if type(value) in (int, float) else None  # type: ignore[return-value]


def object_or_empty(value: object) -> JsonObject:
    """An object as it is; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def parse_object(text: str | bytes | None) -> JsonObject:
    """The JSON object in a text; an empty one where it holds none, or one that is nested too deeply."""
    import orjson

    try:
        return shallow_object(orjson.loads(text)) if text is not None else {}
    except orjson.JSONDecodeError:
        return {}


def shallow_object(value: object) -> JsonObject:
    """An object that JSON writers take, as it is; an empty one for anything else, what is nested too deeply included."""
    return value if isinstance(value, dict) and is_shallow(value) else {}


def texts_of(value: object) -> tuple[str, ...]:
    """The texts of a list; none for anything else."""
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def counts_of(value: object) -> dict[str, int]:
    """The whole numbers of an object, by name; none for anything else."""
    return {name: number for name, number in object_or_empty(value).items() if type(number) is int}


def list_or_empty(value: object) -> list[Json]:
    """A list as it is; an empty one for anything else."""
    return value if isinstance(value, list) else []
