"""Sorts what a user logs: which value is a scalar, which waits for its device, which is a row of its own.

Scalars become floats, exactly; tensors on a device are left for `run.deferred`; `Text`, `Histogram`, `Table` and
`Image` become rows of their own, a frame becomes a table; the rest becomes a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lossbook.handlers import is_of_handler
from lossbook.redaction import MASK, is_secret_name, mask_text
from lossbook.run.numbers import as_float, element_count, is_on_device, number_of
from lossbook.run.text import clean_text, describe, shown
from lossbook.run.values import Event, Image, Media, Table

#: Nested dictionaries are flattened that deep; deeper ones are a warning.
DEEPEST = 20


class Split(NamedTuple):
    """One logged dictionary, sorted by what becomes of each value."""

    scalars: dict[str, float]
    deferred: dict[str, object]
    events: list[Event]
    warnings: list[tuple[str, str]]


def split(metrics: object) -> Split:
    """Sort a logged dictionary by what each value becomes; never raises.

    Nested dictionaries are flattened with "/". A value that is no number becomes a warning: (key, sentence).
    """
    result = Split({}, {}, [], [])
    if not isinstance(metrics, Mapping):
        result.warnings.append(("", f"log() takes a dictionary, not {type(metrics).__name__}"))
        return result
    _flatten(metrics, "", result, ())
    return result


def _flatten(metrics: Mapping[object, object], prefix: str, result: Split, outer: tuple[object, ...]) -> None:
    outer = (*outer, metrics)
    for name, value in list(metrics.items()):
        key = prefix
        try:
            key = prefix + clean_text(name)
            _place(key, value, result, outer)
        except Exception as error:  # a foreign type may do anything when it is asked for its value
            if is_of_handler(error):
                raise
            result.warnings.append((key, f"{key!r} could not be recorded ({describe(error)})"))


def _is_frame(value: object) -> bool:
    """Whether a value is a pandas or a Polars frame, neither of which need be installed."""
    return type(value).__name__ == "DataFrame" and type(value).__module__.partition(".")[0] in ("pandas", "polars")


def _place(key: str, value: object, result: Split, outer: tuple[object, ...]) -> None:
    if type(value) is float:
        result.scalars[key] = value
    elif type(value) is int or type(value) is bool:
        result.scalars[key] = as_float(value)
    elif isinstance(value, Media):
        result.events.append(value.event(key))
    elif isinstance(value, Mapping):
        if len(outer) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} dictionaries")
        if any(value is one for one in outer):
            raise ValueError("the dictionary contains itself")
        _flatten(value, f"{key}/", result, outer)
    elif isinstance(value, (list, tuple)) and value and all(isinstance(one, Media) for one in value):
        result.events.extend(one.event(key) for one in value)
    elif callable(getattr(value, "savefig", None)):
        result.events.append(Image(value).event(key))
    elif _is_frame(value):
        result.events.append(Table(dataframe=value).event(key))
    elif is_on_device(value):
        if element_count(value) != 1:
            raise ValueError(f"it has {element_count(value)} elements; log a scalar or lossbook.Histogram of it")
        result.deferred[key] = value
    elif isinstance(value, (str, bytes)) or value is None:
        # A warning is a row like any other: it repeats no secret.
        said = MASK if is_secret_name(key) else mask_text(shown(value))
        raise TypeError(f"{said} is no number; log lossbook.Text for a text")
    else:
        result.scalars[key] = number_of(value)
