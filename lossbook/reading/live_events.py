"""Finds the events of a live journal, on from where the last look ended, without parsing lines of scalars."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from lossbook.journal import (
    CHUNK_BYTES,
    DamagedLine,
    ReadMark,
    damaged_parts,
    decode,
    is_damaged,
    is_same_file,
    mark_of,
)

#: What every line of an event has and no line of scalars, but one with a metric of that name.
_MARK = b'"k":'


class EventPlace(NamedTuple):
    """One event without its value: what it is and where it stands."""

    time_us: int
    rank: int
    row: int
    step: int | None
    kind: str
    key: str | None
    attempt: int
    journal: str | None = None  # else it is in a sealed file
    offset: int = 0
    length: int = 0


@dataclass
class LiveEvents:
    """The events of a live journal as far as it was read."""

    offset: int = 0
    attempt: int = 0
    places: list[EventPlace] = field(default_factory=list)
    mark: ReadMark | None = None

    def is_of(self, path: str) -> bool:
        """Whether the journal at a path is the one that was read.

        Raises:
            FileNotFoundError: it was sealed meanwhile.
        """
        return is_same_file(path, self.mark)

    def read_on(self, path: str, rank: int) -> None:
        """Note where the events stand that were added to a live self. Lines of scalars are not parsed.

        Raises:
            FileNotFoundError: it was sealed meanwhile.
        """
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size <= self.offset:
                return
            parts = damaged_parts(path, self.offset)
            file.seek(self.offset)
            while chunk := file.read(CHUNK_BYTES):
                if not chunk.endswith(b"\n"):
                    chunk += file.readline()
                # A torn last line is not there yet.
                for line in chunk.split(b"\n")[:-1]:
                    if _MARK in line and not (parts and is_damaged(parts, self.offset, self.offset + len(line) + 1)):
                        self._note(line, path, rank)
                    self.offset += len(line) + 1
            self.mark = mark_of(file.fileno(), self.offset)

    def _note(self, line: bytes, path: str, rank: int) -> None:
        try:
            row = decode(line)
        except DamagedLine:  # named among the run's problems
            return
        if row.kind is None:
            return
        if row.kind == "attempt":
            self.attempt = int(row.body["number"])
        self.places.append(
            EventPlace(row.t, rank, row.i, row.step, row.kind, row.key, self.attempt, path, self.offset, len(line))
        )


def read_live_value(place: EventPlace) -> bytes:
    """The value of an event in a live journal, as JSON.

    Raises:
        FileNotFoundError: the journal was sealed meanwhile.
    """
    assert place.journal is not None
    with open(place.journal, "rb") as file:
        line = os.pread(file.fileno(), place.length, place.offset)
    return orjson.dumps(decode(line).body)
