"""A text that grows in a run's folder within a bound (the console): its beginning and its end are always kept.

A file that has grown past `LARGEST_BYTES` is put together again from its first and its last 16 MB, both cut at the end of
a line, with one line between them that says how much was left out. It is renamed into place, so that a reader has the
file before or after, never half of one.
"""

from __future__ import annotations

import fcntl
import os
import re
from typing import NamedTuple

from lossbook.handlers import is_of_handler

#: No more than that is kept of one file, in bytes, but for what was printed while it was being shortened.
LARGEST_BYTES = 64 << 20
#: Kept of it from its beginning and from its end.
HEAD_BYTES = TAIL_BYTES = 16 << 20
#: A file that cannot be shortened (a full disk) is tried again after so many more bytes.
_RETRY_BYTES = 8 << 20
_COPY_BYTES = 1 << 20
_GAP = re.compile(rb"(?:\A|(?<=\n))\[lossbook: (\d{1,18}) bytes of the console were left out here\]\n")


class Gap(NamedTuple):
    """The line that says what was left out: where it begins and ends in the file, and how many bytes lay there."""

    start: int
    end: int
    left_out: int

    def place_of(self, printed: int) -> int:
        """Where the byte that was printed as number `printed` lies in the file; of what was left out, the line itself."""
        if printed <= self.start:
            return printed
        return self.start if printed < self.start + self.left_out else printed - self.left_out + self.end - self.start

    def printed_at(self, place: int) -> int:
        """How many bytes had been printed before a place in the file."""
        return place if place <= self.start else place + self.left_out - (self.end - self.start)


def find_gap(fd: int) -> Gap | None:
    """What was left out of an open file; None where it is whole."""
    begin = HEAD_BYTES - _COPY_BYTES
    found = _GAP.search(os.pread(fd, _COPY_BYTES + 200, max(0, begin)))
    if found is None:
        return None
    return Gap(max(0, begin) + found.start(), max(0, begin) + found.end(), int(found[1]))


def append_bounded(path: str, text: bytes, *, folder_fd: int | None = None) -> None:
    """Append to a file, and shorten it where it has become too large.

    Args:
        path: from `folder_fd` on, where that is given.

    Raises:
        OSError: it could not be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=folder_fd)
    try:
        written = os.write(fd, text)
        size = os.fstat(fd).st_size
        if size > LARGEST_BYTES and not _shorten(fd, path, size, folder_fd) and size > 2 * LARGEST_BYTES:
            os.ftruncate(fd, size - written)
    finally:
        os.close(fd)


def _shorten(fd: int, path: str, size: int, folder_fd: int | None) -> bool:
    if size < _refused.get(path, 0):
        return False
    partial = f"{path}.tmp"
    try:
        # A forked child may write here too: one shortens, the other goes on.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gap = find_gap(fd)
        head = gap.start if gap is not None else _end_of_line(fd, HEAD_BYTES)
        tail = _end_of_line(fd, size - TAIL_BYTES)
        left_out = tail - head if gap is None else tail - gap.end + gap.left_out
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        new = os.open(partial, flags, 0o666, dir_fd=folder_fd)
        try:
            _copy(fd, new, 0, head)
            os.write(new, b"[lossbook: %d bytes of the console were left out here]\n" % left_out)
            # To the end as it is now: what was added meanwhile is kept.
            _copy(fd, new, tail, None)
        finally:
            os.close(new)
        os.rename(partial, path, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        _refused.pop(path, None)
        return True
    except OSError as error:
        if is_of_handler(error):
            raise
        _refused[path] = size + _RETRY_BYTES
        try:
            os.unlink(partial, dir_fd=folder_fd)
        except OSError:
            pass
        return False


#: Files that could not be shortened, and the size at which that is tried again.
_refused: dict[str, int] = {}


def _end_of_line(fd: int, place: int) -> int:
    """Behind the last line that ends before a place; the place itself where lines are that long."""
    begin = max(0, place - _COPY_BYTES // 2)
    newline = os.pread(fd, place - begin, begin).rfind(b"\n")
    return begin + newline + 1 if newline >= 0 else place


def _copy(source: int, target: int, start: int, end: int | None) -> None:
    while end is None or start < end:
        chunk = os.pread(source, _COPY_BYTES if end is None else min(_COPY_BYTES, end - start), start)
        if not chunk:
            return
        start += len(chunk)
        left = memoryview(chunk)
        while left:
            left = left[os.write(target, left) :]
