"""Holds texts in a file that has no name and goes with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

#: A smaller file is not worth writing anew.
_SMALL_BYTES = 8 << 20


class FilePlace(NamedTuple):
    """Where a text lies in the file."""

    offset: int
    length: int


class RecordFile:
    """Texts by their places. What was released is given back when the file is written anew."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lossbook-listing-")  # noqa: SIM115
        self._end = 0
        self._used = 0

    def __del__(self) -> None:
        # A listing goes when nobody holds it any more, and the file with it.
        self._file.close()

    @property
    def is_wasteful(self) -> bool:
        """Whether more than half of it was released."""
        return self._end > _SMALL_BYTES and self._used * 2 < self._end

    def append(self, text: bytes) -> FilePlace:
        place = FilePlace(self._end, len(text))
        written = 0
        while written < len(text):
            written += os.pwrite(self._file.fileno(), text[written:], place.offset + written)
        self._end += len(text)
        self._used += len(text)
        return place

    def read(self, place: FilePlace) -> bytes:
        return os.pread(self._file.fileno(), place.length, place.offset)

    def release(self, place: FilePlace) -> None:
        self._used -= place.length

    def compacted(self, places: Sequence[FilePlace]) -> tuple[RecordFile, list[FilePlace]]:
        """The texts at some places in a new file, and where each lies there; this one is closed."""
        fresh = RecordFile()
        moved = [fresh.append(self.read(place)) for place in places]
        self._file.close()
        return fresh, moved
