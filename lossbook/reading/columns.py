"""Keeps the values of a listing's columns until their run changes, and the names that columns can have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from lossbook.json_shapes import Json
from lossbook.reading.names import dotted_names
from lossbook.reading.record import IndexRecord

#: Columns and expressions that are kept.
_MOST_COLUMNS = 96
#: What changes with the clock alone.
CLOCKS = ("duration",)


class _Missing(Enum):
    VALUE = 0


_MISSING = _Missing.VALUE
_Value: TypeAlias = "Json | Literal[_Missing.VALUE]"


class ColumnName(NamedTuple):
    """Of a column ("value", "val/loss.min") or an expression ("where", "config.lr > 1e-4")."""

    kind: str
    text: str


class SlotRow(Protocol):
    """A run of the table: its place in every column, and how it stands."""

    slot: int
    state: str


Row = TypeVar("Row", bound=SlotRow)


class ColumnCache:
    """The values of columns by slot. Those of columns that were asked for least recently are forgotten."""

    def __init__(self) -> None:
        self._columns: OrderedDict[ColumnName, list[_Value]] = OrderedDict()
        self._slots = 0

    def make_room(self, slots: int) -> None:
        """Have so many slots at the least."""
        self._slots = max(self._slots, slots)
        for values in self._columns.values():
            values.extend([_MISSING] * (self._slots - len(values)))

    def forget(self, slot: int) -> None:
        """Forget the values of a run that changed or went."""
        for values in self._columns.values():
            values[slot] = _MISSING

    def fill(
        self,
        wanted: Mapping[ColumnName, Callable[[IndexRecord], Json]],
        rows: Iterable[Row | None],
        parse: Callable[[Row], IndexRecord],
    ) -> None:
        """Work out what is not known yet of some runs, each record parsed once for all columns."""
        for name in wanted:
            if name not in self._columns:
                self._columns[name] = [_MISSING] * self._slots
            self._columns.move_to_end(name)
        columns = [
            (self._columns[name], evaluate, any(clock in name.text for clock in CLOCKS))
            for name, evaluate in wanted.items()
        ]
        for row in rows:
            if row is None:
                continue
            # What the clock alone changes is worked out each time.
            missing = [
                (values, evaluate)
                for values, evaluate, is_clock in columns
                if values[row.slot] is _MISSING or (is_clock and row.state == "running")
            ]
            if not missing:
                continue
            record = parse(row)
            for values, evaluate in missing:
                values[row.slot] = evaluate(record)
        while len(self._columns) > max(_MOST_COLUMNS, len(wanted)):
            self._columns.popitem(last=False)

    def lacking(self, name: ColumnName, rows: Iterable[Row | None]) -> list[Row]:
        """The runs of which a value is not known yet."""
        values = self._columns.get(name)
        return [row for row in rows if row is not None and (values is None or values[row.slot] is _MISSING)]

    def of(self, name: ColumnName, rows: Sequence[Row | None]) -> list[Json]:
        """The values that `fill` worked out; None for a run that is gone."""
        values = self._columns[name]
        return [None if row is None or (value := values[row.slot]) is _MISSING else value for row in rows]


class RecordNames(NamedTuple):
    """The names that a record has: of its configuration and summary, with dots where they are nested, and its metrics."""

    config: tuple[str, ...]
    summary: tuple[str, ...]
    metrics: tuple[str, ...]


class NameSets:
    """Sets of names by number: thousands of runs have the same."""

    def __init__(self) -> None:
        self._numbers: dict[RecordNames, int] = {}
        self._sets: list[RecordNames] = []

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, number: int) -> RecordNames:
        return self._sets[number]

    def number_of(self, record: IndexRecord) -> int:
        """The number of the set of names that a record has."""
        names = RecordNames(
            tuple(dotted_names(record.config)), tuple(dotted_names(record.summary)), tuple(record.metrics)
        )
        number = self._numbers.get(names)
        if number is None:
            number = self._numbers[names] = len(self._sets)
            self._sets.append(names)
        return number

    def keep_only(self, used: Iterable[int]) -> dict[int, int]:
        """Forget all other sets; returns the new number of each that stays."""
        renumbered = {number: position for position, number in enumerate(sorted(set(used)))}
        self._sets = [self._sets[number] for number in renumbered]
        self._numbers = {names: number for number, names in enumerate(self._sets)}
        return renumbered
