"""Keeps arrays that were read, by name, within one bound on memory; the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from lossbook.errors import LossbookError

if TYPE_CHECKING:
    from lossbook.storage.schema import Columns

#: What arrays are kept under: a file, a key, a level, and whatever tells them from others.
Name: TypeAlias = "tuple[str | int, ...]"

#: What a dictionary of arrays takes beside its numbers.
_OVERHEAD_BYTES = 2048


class ArrayCache:
    """Columns by name, of all runs of a book together; least recently used ones are dropped. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Name, Columns] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def get(self, name: Name) -> Columns | None:
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
            return found

    def put(self, name: Name, arrays: Columns) -> None:
        """Keep arrays, unless they alone would take half of all there is."""
        size = _size_bytes(arrays)
        with self._lock:
            self._drop(name)
            if size > self._limit_bytes // 2:
                return
            self._kept[name] = arrays
            self.bytes += size
            while self.bytes > self._limit_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, name: Name) -> None:
        dropped = self._kept.pop(name, None)
        if dropped is not None:
            self.bytes -= _size_bytes(dropped)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.bytes = 0


def _size_bytes(arrays: Columns) -> int:
    # Rows share one array for their first and last step, and so on: it is counted once.
    shared = {id(array): array.nbytes for array in arrays.values()}
    return sum(shared.values()) + _OVERHEAD_BYTES


class FilesReplaced(LossbookError):
    """A file went between the look at the folder and the reading: what stands in its place is read next time."""
