"""How a run begins: as long as it has hardly a row, its follower loads nothing that it can do without.

The code of summary and diagnosis takes longer to load than all else that a follower does in a minute. A reader makes the
summary of a short journal itself in no time, and hardly anything can be wrong with a run yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from lossbook.paths import RunFolder

#: A run is at its beginning until one of its journals has so many rows, or they are so long together, or it has been
#: followed for so long. The noise of a loss is not known before some dozens of rows.
BEGINNING_ROWS, BEGINNING_BYTES, BEGINNING_SECONDS = 100, 32 << 10, 120.0
#: What is to be said at once: a value that is not finite, and an alert of the training's own.
_AT_ONCE = (b'"NaN"', b'Infinity"', b'"alert"')


class Beginning:
    """Whether a run is at its beginning still.

    Args:
        folder: the run; one that has a summary already goes on, and is past its beginning.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._is_over = os.path.exists(folder.summary_json)
        self._ends = time.monotonic() + BEGINNING_SECONDS
        self._looked_at: dict[str, int] = {}
        self._rows: dict[str, int] = {}

    def is_over(self, sizes: Mapping[str, int]) -> bool:
        """Whether the run needs its summary and its diagnosis.

        Args:
            sizes: how long the files of its journal are, by name.
        """
        if not self._is_over:
            is_long = sum(sizes.values()) >= BEGINNING_BYTES
            self._is_over = is_long or time.monotonic() >= self._ends or any(map(self._tells, sizes, sizes.values()))
        return self._is_over

    def _tells(self, name: str, size: int) -> bool:
        """Whether a file has many rows by now, or what was added to it is to be said at once."""
        begin = self._looked_at.get(name, 0)
        if size <= begin:
            return False
        try:
            with open(os.path.join(self._folder.journal, name), "rb") as file:
                file.seek(begin)
                added = file.read(size - begin)
        except OSError:
            return False
        # A row that is half written is looked at again with its rest.
        self._looked_at[name] = begin + added.rfind(b"\n") + 1
        self._rows[name] = self._rows.get(name, 0) + added.count(b"\n")
        return self._rows[name] >= BEGINNING_ROWS or any(sign in added for sign in _AT_ONCE)
