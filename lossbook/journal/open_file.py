"""The file behind a journal's descriptor: whether it is still the one that is meant, what it holds, and a copy of it."""

from __future__ import annotations

import os
import time

#: How a journal's file is made: nobody else has it, and each write goes to its end.
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_COPY_BYTES = 1 << 20


def held_file(fd: int, place: tuple[int, int]) -> os.stat_result | None:
    """What a descriptor leads to; None where that is not the file of that device and inode, or cannot be read any more."""
    try:
        held = os.fstat(fd)
    except OSError:
        return None
    return held if (held.st_dev, held.st_ino) == place else None


def count_lines(path: str) -> int:
    """How many lines a file has.

    Raises:
        OSError: it cannot be read.
    """
    found = 0
    with open(path, "rb") as file:
        while chunk := file.read(_COPY_BYTES):
            found += chunk.count(b"\n")
    return found


def leads_to(path: str, held: os.stat_result) -> bool:
    """Whether a path leads to the file that a descriptor is open on."""
    try:
        return os.path.samestat(os.stat(path), held)
    except OSError:
        return False


def is_file(path: str, place: tuple[int, int]) -> bool:
    """Whether a path leads to the file of that device and inode."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == place


def copy_bytes(source: int, target: int, start: int) -> int:
    """Append what a file holds from `start` on to another one; returns how far that was.

    Raises:
        OSError: one of the two refuses.
    """
    while chunk := os.pread(source, _COPY_BYTES, start):
        start += len(chunk)
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
    return start


def put_copy(source: int, path: str) -> tuple[int, int, str]:
    """Write what a file without a name holds at `path`.

    Returns:
        The copy's descriptor, how many bytes it has, and where the file was put that stood in its place (empty where
        there was none).

    Raises:
        OSError: it cannot be written; a file that stood there may have its other name.
    """
    aside, partial = "", f"{path}.{os.getpid()}-{os.urandom(3).hex()}.tmp"
    fd = os.open(partial, NEW_FILE, 0o666)
    try:
        copied = copy_bytes(source, fd, 0)
        if os.path.lexists(path):
            aside = f"{path}.replaced-{time.time_ns() // 1_000_000}"
            os.rename(path, aside)
        os.rename(partial, path)
    except OSError:
        os.close(fd)
        try:
            os.unlink(partial)
        except OSError:
            pass
        raise
    return fd, copied, aside
