"""Says where the series of a run lie: one part for each key, attempt and rank of each segment, packed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy

if TYPE_CHECKING:
    from lossbook.storage.buckets import Buckets
    from lossbook.storage.schema import Columns
    from lossbook.storage.segment import Segment


class LiveRows(Protocol):
    """The rows of a series in a journal that is still written."""

    def __len__(self) -> int: ...

    def buckets(self) -> Buckets: ...


@dataclass(frozen=True)
class SeriesPart:
    """One series (a key of one attempt and rank) within one segment; times in µs."""

    segment: Segment
    attempt: int
    rank: int
    first_step: int
    last_step: int
    first_time: int
    last_time: int
    count: int
    live: LiveRows | None = field(default=None, compare=False, repr=False)


class SealedParts:
    """The parts of one sealed file. Five thousand series take half a megabyte here and eight as objects.

    Args:
        columns: as fetched: keys, then attempt, rank, first and last step, first and last time, count; {} for none.
    """

    def __init__(self, segment: Segment, columns: Columns) -> None:
        self.segment = segment
        arrays = list(columns.values()) or [numpy.zeros(0, dtype=numpy.int64)] * 8
        names = arrays[0].tolist()
        order = sorted(range(len(names)), key=names.__getitem__)
        self._numbers = numpy.array([array[order].astype(numpy.int64) for array in arrays[1:]])  # (7, series)
        firsts: dict[str, int] = {}
        for position, at in enumerate(order):
            firsts.setdefault(names[at], position)
        # Where the series of each key begin; the next key's beginning is their end.
        self._starts = numpy.append(numpy.array(list(firsts.values()), dtype=numpy.int64), len(names))
        self._place = {key: place for place, key in enumerate(firsts)}

    @property
    def keys(self) -> list[str]:
        """Every key of the file, in the order of its rows."""
        return list(self._place)

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory, about."""
        return int(self._numbers.nbytes + self._starts.nbytes + sum(150 + len(key) for key in self._place))

    def of(self, key: str) -> list[SeriesPart]:
        """The parts of one key."""
        place = self._place.get(key)
        if place is None:
            return []
        chosen = self._numbers[:, self._starts[place] : self._starts[place + 1]].T.tolist()
        return [SeriesPart(self.segment, *numbers) for numbers in chosen]

    def lengths(self) -> dict[str, int]:
        """How many rows each key has, in the order of the file's rows."""
        if not self._place:
            return {}
        counts = numpy.add.reduceat(self._numbers[-1], self._starts[:-1])
        return dict(zip(self._place, counts.tolist(), strict=True))

    def attempt_times(self) -> dict[int, tuple[int, int]]:
        """When the first and the last row of each attempt were logged, in µs."""
        attempts, _, _, _, first, last, _ = self._numbers
        return {
            int(attempt): (int(first[attempts == attempt].min()), int(last[attempts == attempt].max()))
            for attempt in numpy.unique(attempts)
        }
