"""The end of a file that grows: its last lines, read on from where the last look ended, in bounded memory.

Memory and time do not depend on how long the file is: a first look reads its last megabytes, a later one what is new.
A line is what a terminal would have left of it: behind the last carriage return, so that a progress bar is one line.
"""

from __future__ import annotations

import os
import re
from collections import deque

from lossbook.journal import ReadMark, mark_of
from lossbook.paths import file_names, open_plain

#: Lines and bytes that are kept of one file.
KEPT_LINES = 20_000
KEPT_BYTES = 4 << 20
#: A line longer than that is cut; nobody reads on.
LONGEST_LINE = 4_000
#: Colours and weights alone (SGR): a log is full of them, and without them it reads as it was meant.
_INK = re.compile(r"\x1b\[[0-9;:]*m")


class ConsoleTail:
    """The last lines of one file.

    Attributes:
        lines: whole lines as they were written, colours left out; the newest last.
        unfinished: what stands behind the last line end.
        dropped: whether earlier lines are not held any more.
        first_number: the number of `lines[0]` among all that were read, from 0.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.unfinished = ""
        self.dropped = False
        self.first_number = 0
        self._offset = 0
        self._rest = b""
        self._mark: ReadMark | None = None

    def read(self) -> bool:
        """Read what is new; says whether anything was.

        A file that is not there, or cannot be read, has no lines.
        """
        try:
            with open(self.path, "rb", opener=open_plain) as file:
                found = os.fstat(file.fileno())
                if self._mark is not None and not self._mark.is_of(file.fileno()):
                    self._forget()
                if found.st_size == self._offset:
                    return False
                if found.st_size - self._offset > KEPT_BYTES:
                    self._skip_to(found.st_size - KEPT_BYTES)
                file.seek(self._offset)
                read = file.read(found.st_size - self._offset)
                mark = mark_of(file.fileno(), self._offset + len(read))
        except OSError:
            changed = bool(self.lines or self.unfinished)
            self._forget()
            return changed
        self._offset += len(read)
        self._mark = mark
        *whole, self._rest = (self._rest + read).split(b"\n")
        if self.dropped and self.first_number == 0 and not self.lines and whole:
            # The first one was cut through.
            whole = whole[1:]
        excess = len(self.lines) + len(whole) - KEPT_LINES
        if excess > 0:
            self.dropped = True
            self.first_number += excess
        self.lines.extend(_as_left(line) for line in whole[-KEPT_LINES:])
        if len(self._rest) > KEPT_BYTES:
            self._rest = self._rest[-LONGEST_LINE:]
        self.unfinished = _as_left(self._rest)
        return True

    def _skip_to(self, offset: int) -> None:
        self.lines.clear()
        self._rest = b""
        self.dropped = True
        self._offset = offset


def _as_left(raw: bytes) -> str:
    """What a terminal would have left of a line."""
    text = raw.rstrip(b"\r").rpartition(b"\r")[2] or raw.rstrip(b"\r")
    return _INK.sub("", text[:LONGEST_LINE].decode("utf-8", "replace"))


def console_files(folder: str) -> list[str]:
    """The names of the console files in a run's folder, rank 0 first."""
    names = [name for name in file_names(folder) if name.endswith(".log")]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
