"""`RecordedMapping`: the configuration or the summary of a run; each change of it is a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

from lossbook.journal import encode_number
from lossbook.json_shapes import JsonObject
from lossbook.run.config import config_entries, plain_config
from lossbook.run.numbers import number_of
from lossbook.run.plain_values import plain
from lossbook.run.split import split
from lossbook.run.values import Media


class RecordedMapping(MutableMapping[str, Any]):
    """A dictionary, also by attribute, whose changes are written to the journal. What it holds is the user's.

    Args:
        initial: what is there already.
        record: takes each change.
        kind: "config" or "summary": whose further words W&B's users may ask for.
    """

    def __init__(
        self, initial: Mapping[str, object], record: Callable[[dict[str, object]], None], *, kind: str = "config"
    ) -> None:
        self._values: dict[str, Any] = dict(initial)
        self._record = record
        self._kind = kind

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._record({key: None})

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_values", "_record", "_kind"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        # Loaded for W&B's users alone; it raises AttributeError for what is no word of W&B's either.
        return import_module("lossbook.compat.wandb.mapping_methods").find_word(self, self._kind, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __reduce__(self) -> tuple[object, ...]:
        # A copy records nothing: it is a plain dictionary.
        return dict, (self._values,)

    def update(self, *others: object, allow_val_change: bool | None = None, **named: object) -> None:
        """Change several keys with one row; takes all that `init(config=…)` takes. Any value may change."""
        changes: dict[str, object] = {}
        for other in others:
            changes.update(_entries(other))
        changes.update(named)
        self._values.update(changes)
        self._record(changes)

    def setdefaults(self, defaults: object) -> None:
        """Set the keys that are not set yet."""
        self.update({key: value for key, value in _entries(defaults).items() if key not in self._values})

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary of what is set."""
        return dict(self._values)


def _entries(given: object) -> Mapping[str, object]:
    """What `update` is given, by name: the values of a mapping as they are, of anything else made plain."""
    return config_entries(given) if isinstance(given, Mapping) else plain_config(given)


def plain_summary(changes: dict[str, object]) -> JsonObject:
    """Changes of the summary as JSON holds them: numbers of any library, a device waited for."""
    recorded: JsonObject = {}
    for key, value in changes.items():
        if isinstance(value, Media) or value is None or isinstance(value, (str, list, tuple)):
            recorded[key] = plain(value)
            continue
        parts = split({key: value})
        recorded.update({name: encode_number(number) for name, number in parts.scalars.items()})
        for name, tensor in parts.deferred.items():
            # A summary is written once, at the end as a rule: here waiting for the device is right.
            recorded[name] = encode_number(number_of(tensor))
        if parts.warnings:
            recorded[key] = plain(value)
    return recorded
