"""Opens a rank's console file safely, and counts the newlines before each block of it once.

Files that were looked at least recently are forgotten, and counted again the next time.
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lossbook.errors import StoreError
from lossbook.paths import RunFolder

#: A file larger than that is not counted for the sake of line numbers in its tail.
COUNTED_BYTES = 64 << 20
#: Files of which newlines are counted and kept.
_MOST_INDEXES = 64
#: So many bytes before the place that was counted to tell a file from another in its place.
_MARK_BYTES = 256
BLOCK_BYTES = 256 << 10
CHUNK_BYTES = 1 << 20


@dataclass
class NewlineIndex:
    """How many newlines lie before each block of a file, as far as was counted."""

    device: int
    inode: int
    counts: list[int] = field(default_factory=lambda: [0])  # before block k
    tail: int = 0  # newlines in the part of the last block that was counted
    counted: int = 0  # bytes
    open_line: tuple[int, int] = (-1, 0)  # where a line begins that had not ended, and how far that is known
    before: bytes = b""  # the last bytes that were counted
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_of(self, fd: int, status: os.stat_result) -> bool:
        """Whether an open file is the one whose newlines were counted, perhaps longer now."""
        if (self.device, self.inode) != (status.st_dev, status.st_ino) or self.counted > status.st_size:
            return False
        with self.lock:
            return os.pread(fd, len(self.before), self.counted - len(self.before)) == self.before

    def count_to(self, file: OpenConsole, end: int) -> None:
        """Count the newlines before a place that were not counted yet."""
        with self.lock:
            while self.counted < end:
                within = self.counted % BLOCK_BYTES
                chunk = os.pread(file.fd, min(BLOCK_BYTES - within, end - self.counted), self.counted)
                if not chunk:
                    return
                self.tail += chunk.count(b"\n")
                self.counted += len(chunk)
                self.before = (self.before + chunk)[-_MARK_BYTES:]
                if self.counted % BLOCK_BYTES == 0:
                    self.counts.append(self.counts[-1] + self.tail)
                    self.tail = 0

    @property
    def newlines(self) -> int:
        """In all that was counted."""
        return self.counts[-1] + self.tail

    def start_of(self, file: OpenConsole, line: int) -> int:
        """Where a line begins; the file's end where it has none of that number."""
        if line == 0:
            return 0
        while self.newlines < line and self.counted < file.size:
            self.count_to(file, min(file.size, self.counted + CHUNK_BYTES))
        if self.newlines < line:
            return file.size
        block = bisect_left(self.counts, line) - 1
        missing, at = line - self.counts[block], block * BLOCK_BYTES
        chunk = os.pread(file.fd, BLOCK_BYTES, at)
        position = -1
        for _ in range(missing):
            position = chunk.find(b"\n", position + 1)
        return at + position + 1

    def number_at(self, file: OpenConsole, offset: int) -> int | None:
        """The number of the line that begins at an offset; None where too much would have to be counted."""
        if offset == 0:
            return 0
        if offset - self.counted > COUNTED_BYTES:
            return None
        self.count_to(file, offset)
        block = offset // BLOCK_BYTES
        if block >= len(self.counts):
            return None
        within = os.pread(file.fd, offset - block * BLOCK_BYTES, block * BLOCK_BYTES)
        return self.counts[block] + within.count(b"\n")


@dataclass(frozen=True)
class OpenConsole:
    """A console file that is open; of a rank that printed nothing an empty one."""

    rank: int
    fd: int
    size: int
    index: NewlineIndex

    @property
    def can_be_counted(self) -> bool:
        """Whether counting the rest of its newlines costs little."""
        return self.size - self.index.counted <= COUNTED_BYTES


_indexes: OrderedDict[str, NewlineIndex] = OrderedDict()
_indexes_lock = threading.Lock()


@contextmanager
def open_console(folder: RunFolder, rank: int) -> Iterator[OpenConsole]:
    """Open what a rank printed; its newlines stay counted from one opening to the next.

    Raises:
        StoreError: it cannot be read, or is no plain file.
    """
    path = os.path.join(folder.console, f"r{int(rank)}.log")
    if os.path.islink(folder.console):
        raise StoreError(f"{folder.console} is a link; links in a run's folder are not followed")
    try:
        # A link may lead out of the store, and a pipe would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield OpenConsole(rank, -1, 0, NewlineIndex(0, 0))
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no file; it is not read")
        yield OpenConsole(rank, fd, status.st_size, _index_of(path, fd, status))
    finally:
        os.close(fd)


def _index_of(path: str, fd: int, status: os.stat_result) -> NewlineIndex:
    with _indexes_lock:
        index = _indexes.get(path)
        if index is None or not index.is_of(fd, status):
            # Another file under the same name, or one that was cut off.
            index = _indexes[path] = NewlineIndex(status.st_dev, status.st_ino)
        _indexes.move_to_end(path)
        if len(_indexes) > _MOST_INDEXES:
            _indexes.popitem(last=False)
        return index
