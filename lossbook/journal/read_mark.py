"""Tells whether a file that grows is still the one that was read so far.

A run can be removed and recorded again under its name: the new file may even have the old one's inode, and be longer than
what was read. What stands before the place that was read to tells them apart: rows carry their times.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_BYTES = 128


class ReadMark(NamedTuple):
    """How far a file was read.

    Attributes:
        device, inode: of the file.
        offset: bytes that were read.
        before: the last of them.
    """

    device: int
    inode: int
    offset: int
    before: bytes

    def is_of(self, fd: int) -> bool:
        """Whether an open file is the one that was read, perhaps longer now."""
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self[:2] or status.st_size < self.offset:
            return False
        return os.pread(fd, len(self.before), self.offset - len(self.before)) == self.before


def mark_of(fd: int, offset: int) -> ReadMark:
    """Note how far an open file was read."""
    status = os.fstat(fd)
    length = min(_BYTES, offset)
    return ReadMark(status.st_dev, status.st_ino, offset, os.pread(fd, length, offset - length))


def is_same_file(path: str, mark: ReadMark | None) -> bool:
    """Whether the file at a path is the one that was read; true where nothing was.

    Raises:
        OSError: the file is gone, or cannot be read.
    """
    if mark is None:
        return True
    with open(path, "rb") as file:
        return mark.is_of(file.fileno())
