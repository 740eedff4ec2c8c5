"""Makes foreign values plain: dictionaries, lists, texts and numbers, as JSON holds them, at every depth.

Never raises and always ends, whatever a value does when it is asked for its parts: what cannot be read is replaced by a
text that says so, and everything beside it is kept.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, MappingView, Sequence, Set
from enum import Enum
from itertools import islice
from math import isfinite
from os import PathLike
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from lossbook.handlers import is_of_handler
from lossbook.journal import encode_number
from lossbook.json_shapes import Json, JsonObject
from lossbook.redaction import mask_named_values
from lossbook.run.text import describe_briefly, text_of

#: Objects in objects, deeper than anybody's configuration and shallower than what JSON writers give up at.
DEEPEST = 50
#: Containers of one value are opened until they have had so many entries together: shared parts may multiply without end.
MOST_ENTRIES = 1_000_000
#: An array, a range or a plain object with more entries than that is data, and no configuration: it becomes a text.
MOST_ELEMENTS = 10_000
#: How libraries hand out an object as a dictionary: pydantic, transformers, ml_collections, absl.
_CONVERSIONS = ("model_dump", "to_dict", "_asdict", "flag_values_dict")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


def plain(value: object) -> Json:
    """`value` in the types that JSON has; what has no such form becomes its text."""
    return _Conversion().convert(value, ())


def plain_object(values: Mapping[Any, object]) -> JsonObject:
    """A dictionary in the types that JSON has."""
    return _Conversion().convert_entries(readable_items(values), (values,))


def plain_entries(entries: dict[str, object]) -> JsonObject:
    """As `plain_object`, of entries that `readable_items` and its like have named: the names are texts by now."""
    return _Conversion().convert_entries(iter(entries.items()), (entries,))


def readable_items(values: Mapping[Any, object]) -> Iterator[tuple[str, object]]:
    """The entries of a mapping; in place of a value that cannot be read, a text that says why.

    Raises:
        Exception: of any kind, where not even its keys can be read.
    """
    if type(values) is dict:
        for key, value in list(values.items()):
            yield key if type(key) is str and key.isascii() else text_of(key), value
        return
    for key in list(values):
        try:
            value = values[key]
        except Exception as error:
            if is_of_handler(error):
                raise
            value = unreadable(error)
        yield text_of(key), value


def declared_items(value: object) -> Iterator[tuple[str, object]] | None:
    """The named parts of an object whose class says which these are; None for any other object.

    These are named tuples, dataclasses, attrs and pydantic classes, namespaces, and what makes a dictionary of itself.
    """
    kind = type(value)
    if isinstance(value, tuple):
        names = getattr(kind, "_fields", None)
        return zip(map(text_of, names), value, strict=False) if names else None
    if getattr(kind, "__dataclass_fields__", None) is not None:
        return attributes(value, [field.name for field in sys.modules["dataclasses"].fields(value)])
    if (described := getattr(kind, "__attrs_attrs__", None)) is not None:
        return attributes(value, [attribute.name for attribute in described])
    for name in () if hasattr(kind, "shape") else _CONVERSIONS:
        try:
            convert = getattr(value, name, None)
            found = convert() if callable(convert) else None
        except Exception as error:  # its attributes may be read all the same
            if is_of_handler(error):
                raise
            continue
        if isinstance(found, Mapping):
            return readable_items(found)
    if isinstance(value, SimpleNamespace) or kind.__module__ == "argparse":
        return readable_items(vars(value))
    return None


def attribute_items(value: object) -> Iterator[tuple[str, object]] | None:
    """The public attributes of a plain object; None for classes, functions, models and Python's own objects."""
    kind = type(value)
    if callable(value) or isinstance(value, (ModuleType, BaseException)):
        return None
    if hasattr(kind, "shape") or kind.__module__ in sys.stdlib_module_names:
        return None
    names = public_names(value)
    return attributes(value, names) if names else None


def unreadable(error: BaseException) -> str:
    """What stands for a value that could not be read."""
    return f"<unreadable: {describe_briefly(error)}>"


def public_names(value: object) -> list[str]:
    """The names of an object's own attributes that do not begin with an underscore."""
    kind = type(value)
    names = [name for name in getattr(value, "__dict__", ()) if type(name) is str]
    if hasattr(kind, "__pydantic_extra__"):
        names += [name for name in value.__pydantic_extra__ or () if type(name) is str]  # type: ignore[attr-defined]
    if not names and kind.__str__ is object.__str__:
        for one in kind.__mro__:
            slots = one.__dict__.get("__slots__", ())
            names += [slots] if isinstance(slots, str) else slots
        names = [name for name in names if _is_set(value, name)]
    return [name for name in names if not name.startswith("_")]


def _is_set(value: object, name: str) -> bool:
    try:
        getattr(value, name)
    except Exception as error:
        if is_of_handler(error):
            raise
        return False
    return True


def attributes(value: object, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Attributes of an object by their names; in place of one that cannot be read, a text that says why."""
    for name in names:
        try:
            found = getattr(value, name)
        except Exception as error:
            if is_of_handler(error):
                raise
            found = unreadable(error)
        yield text_of(name), found


class _Conversion:
    """One value on its way; counts the entries, so that it ends."""

    def __init__(self) -> None:
        self._left = MOST_ENTRIES

    def convert(self, value: object, outer: tuple[object, ...]) -> Json:
        """One value, within the containers `outer`."""
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is int or kind is float:
            return _scalar(value)
        try:
            return self._convert_other(value, outer)
        except Exception as error:
            if is_of_handler(error):
                raise
            return unreadable(error)

    def convert_entries(self, entries: Iterator[tuple[str, object]], outer: tuple[object, ...]) -> JsonObject:
        """Named values, within the containers `outer`."""
        found: JsonObject = {}
        for name, value in entries:
            self._left -= 1
            if (type(value) is str and value.isascii()) or (type(value) is float and isfinite(value)):
                found[name] = value
            else:
                found[name] = self.convert(value, outer)
            if self._left < 0:
                found["..."] = "<left out: too many values>"
                break
        return found

    def _convert_other(self, value: object, outer: tuple[object, ...]) -> Json:
        if type(value) in (dict, list, tuple):
            return self._convert_container(value, outer)
        if isinstance(value, Enum):
            return _scalar(value.value) if isinstance(value.value, (str, int, float)) else value.name
        if isinstance(value, (str, int, float)):
            return _scalar(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return text_of(value)
        if isinstance(value, PathLike):
            return text_of(value.__fspath__())
        return self._convert_container(value, outer)

    def _convert_container(self, value: Any, outer: tuple[object, ...]) -> Json:
        name = type(value).__name__
        if any(value is one for one in outer):
            return f"<{name} that contains itself>"
        if len(outer) > DEEPEST:
            return f"<{name}, nested deeper than {DEEPEST}>"
        inside = (*outer, value)
        if type(value) in (list, tuple):
            return self._convert_elements(value, inside)
        if isinstance(value, Mapping):
            return self.convert_entries(readable_items(value), inside)
        if (entries := declared_items(value)) is not None:
            return self.convert_entries(entries, inside)
        if isinstance(value, range) and len(value) > MOST_ELEMENTS:
            return text_of(value)
        if isinstance(value, (Sequence, Set, MappingView)):
            return self._convert_elements(value, inside)
        if all(hasattr(type(value), part) for part in ("ndim", "shape", "tolist")):
            return self._convert_array(value, inside)
        if (entries := attribute_items(value)) is not None:
            return self._convert_attributes(value, entries, inside)
        number = getattr(value, "value", None)  # ctypes and multiprocessing
        if type(number) in (str, int, float):
            return _scalar(number)
        return _text_of_object(value)

    def _convert_attributes(
        self, value: object, entries: Iterator[tuple[str, object]], inside: tuple[object, ...]
    ) -> Json:
        """A plain object by its attributes; as a text where these lead to more than somebody has set by hand."""
        before = self._left
        self._left = min(before, MOST_ELEMENTS)
        budget = self._left
        found = self.convert_entries(entries, inside)
        is_whole = self._left >= 0
        self._left = before - (budget - self._left)
        return found if is_whole else _text_of_object(value)

    def _convert_elements(self, value: Any, inside: tuple[object, ...]) -> list[Json]:
        found: list[Json] = []
        for one in _elements(value):
            self._left -= 1
            found.append(self.convert(one, inside))
            if self._left < 0:
                found.append("<left out: too many values>")
                break
        return found

    def _convert_array(self, value: Any, inside: tuple[object, ...]) -> Json:
        size = 1
        for extent in value.shape:
            size *= int(extent)
        if value.ndim and (size > MOST_ELEMENTS or value.ndim > 1):
            return text_of(value)
        return self.convert(value.tolist(), inside)


def _elements(value: Any) -> Iterator[object]:
    """The elements of a sequence or a set; those of a set in an order of their own, so that equal sets look equal."""
    if isinstance(value, Set) and not isinstance(value, Sequence):
        found = list(islice(value, MOST_ENTRIES))
        try:
            yield from sorted(found)
        except Exception as error:
            if is_of_handler(error):
                raise
            yield from sorted(found, key=text_of)
        return
    try:
        yield from list(islice(value, MOST_ENTRIES))
        return
    except Exception as error:
        if is_of_handler(error):
            raise
        length = len(value)  # one element cannot be read: the others may
    for place in range(min(length, MOST_ENTRIES)):
        try:
            yield value[place]
        except Exception as error:
            if is_of_handler(error):
                raise
            yield unreadable(error)


def _scalar(value: Any) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, int):
        number = int(value)
        return number if -(1 << 63) <= number < 1 << 64 else str(number)
    return encode_number(float(value))


def _text_of_object(value: object) -> str:
    """The text of an object without its address in memory, which would make equal configurations differ."""
    kind = type(value)
    if isinstance(value, _FUNCTIONS):
        return text_of(f"{value.__module__}.{value.__qualname__}")
    if kind.__repr__ is object.__repr__ and kind.__str__ is object.__str__:
        return f"<{kind.__module__}.{kind.__qualname__}>"
    return mask_named_values(_ADDRESS.sub("", text_of(value)))
