"""What a rank printed, read by line or by byte: a page, the end, what came since, and what holds a text.

A page or the end of a file of any size costs what it shows. To find a line by its number, newlines are counted once,
and how many lie before each quarter of a megabyte is kept for the files that were looked at last.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lossbook.errors import BadArgument, StoreError
from lossbook.paths import RunFolder
from lossbook.reading.ansi import WIDEST, ConsoleSpan, show_line

#: Lines of one page, at the most.
MOST_LINES = 5_000
#: A file larger than that is not counted for the sake of line numbers in its tail.
COUNTED_BYTES = 64 << 20
#: Files of which newlines are counted and kept.
_MOST_INDEXES = 64
BLOCK_BYTES = 256 << 10
_CHUNK_BYTES = 1 << 20
#: So far back the beginning of the last lines is looked for.
TAIL_BYTES = 16 << 20
#: Bytes of one line that are looked at, at either end: what a progress bar wrote over itself is not shown anyway.
_LINE_BYTES = WIDEST * 4
_NAME = re.compile(r"r(-?\d+)\.log\Z")
_ESCAPES = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")


@dataclass(frozen=True)
class ConsoleFile:
    """What one rank printed: how much, and when it printed last (Unix seconds)."""

    rank: int
    bytes: int
    modified: float


@dataclass(frozen=True)
class ConsoleLine:
    """One line as a terminal shows it in the end.

    Attributes:
        number: from 0; None in a large file whose lines were not counted up to here.
        offset: where it begins, in bytes.
        text: without colour codes and what was overwritten.
        spans: its colours.
        is_whole: whether it has ended; one that has not may still change.
        is_cut: it is longer than what is shown of it.
    """

    number: int | None
    offset: int
    text: str
    spans: tuple[ConsoleSpan, ...] = ()
    is_whole: bool = True
    is_cut: bool = False


@dataclass(frozen=True)
class ConsolePage:
    """Some lines in a row.

    Attributes:
        first_line: the number of the first of them, None where it is not known.
        total_lines: of the file as it is now, one that has not ended included; None where it is not known.
        offset, next_offset: bytes: where the first line begins, and where to go on (the beginning of a line that has not
            ended, so that it is read again).
        size_bytes: of the file as it was read.
        at_end: whether nothing follows.
    """

    rank: int
    lines: tuple[ConsoleLine, ...]
    first_line: int | None
    total_lines: int | None
    offset: int
    next_offset: int
    size_bytes: int
    at_end: bool


@dataclass(frozen=True)
class ConsoleMatches:
    """Lines that hold a text; `next_offset` is where to search on, None at the end of the file."""

    lines: tuple[ConsoleLine, ...]
    next_offset: int | None
    searched_bytes: int
    size_bytes: int


def list_consoles(folder: RunFolder) -> list[ConsoleFile]:
    """What there is of each rank, sorted; empty where nothing was printed."""
    found = []
    try:
        with os.scandir(folder.console) as entries:
            for entry in entries:
                matched = _NAME.match(entry.name)
                if matched is not None and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append(ConsoleFile(int(matched[1]), status.st_size, status.st_mtime))
    except OSError:
        return []
    return sorted(found, key=lambda one: (one.rank < 0, abs(one.rank)))


def read_console(folder: RunFolder, rank: int = 0, *, start_line: int | None = None, lines: int = 200) -> ConsolePage:
    """Read some lines, or the last ones.

    Args:
        start_line: the number of the first line, from 0; None for the end of the file.
        lines: so many at the most, 1 to 5,000.

    Returns:
        A page; without lines where the rank printed nothing or has no such line.

    Raises:
        BadArgument: `lines` or `start_line` cannot be meant.
        StoreError: the file is there and cannot be read.
    """
    _check_lines(lines)
    if start_line is not None and start_line < 0:
        raise BadArgument(f"start_line={start_line}: lines are counted from 0")
    with _opened(folder, rank) as file:
        if start_line is not None:
            return _page(file, file.index.start_of(file, start_line), lines, start_line)
        return _page(file, _start_of_tail(file, lines), lines, None)


def follow_console(folder: RunFolder, rank: int, offset: int, *, lines: int = 200) -> ConsolePage:
    """Read on from where another page ended.

    Args:
        offset: bytes: the `next_offset` of the page before. Beyond the end of a file that was begun again, it is read from
            its beginning.

    Raises:
        BadArgument, StoreError: as `read_console`.
    """
    _check_lines(lines)
    if offset < 0:
        raise BadArgument(f"offset={offset}: bytes are counted from 0")
    with _opened(folder, rank) as file:
        return _page(file, offset if offset <= file.size else 0, lines, None)


def search_console(
    folder: RunFolder, rank: int, text: str, *, offset: int = 0, most: int = 100, seconds: float = 0.2
) -> ConsoleMatches:
    """Find lines that hold a text, upper and lower case alike, in what a terminal shows of them.

    Args:
        offset: bytes: where to begin; the `next_offset` of the answer before.
        most: lines at the most.
        seconds: search no longer than about that; the answer says where to go on.

    Raises:
        BadArgument: the text is empty, or a number cannot be meant.
        StoreError: as `read_console`.
    """
    wanted = text.casefold()
    if not wanted.strip("\r\n"):
        raise BadArgument("there is no text to search for")
    if offset < 0 or most < 1:
        raise BadArgument(f"offset={offset}, most={most}: both are counted, the latter from 1")
    deadline = time.monotonic() + seconds
    found: list[ConsoleLine] = []
    with _opened(folder, rank) as file:
        at = begin = min(offset, file.size)
        while at < file.size and len(found) < most:
            at = _search_chunk(file, at, wanted, most, found)
            if time.monotonic() > deadline:
                break
        return ConsoleMatches(tuple(found), at if at < file.size else None, at - begin, file.size)


# -- the file -----------------------------------------------------------------------------------------------------


@dataclass
class _Index:
    """How many newlines lie before each block of a file, as far as was counted."""

    device: int
    inode: int
    counts: list[int] = field(default_factory=lambda: [0])  # before block k
    tail: int = 0  # newlines in the part of the last block that was counted
    counted: int = 0  # bytes
    open_line: tuple[int, int] = (-1, 0)  # where a line begins that had not ended, and how far that is known
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count_to(self, file: _File, end: int) -> None:
        with self.lock:
            while self.counted < end:
                within = self.counted % BLOCK_BYTES
                chunk = os.pread(file.fd, min(BLOCK_BYTES - within, end - self.counted), self.counted)
                if not chunk:
                    return
                self.tail += chunk.count(b"\n")
                self.counted += len(chunk)
                if self.counted % BLOCK_BYTES == 0:
                    self.counts.append(self.counts[-1] + self.tail)
                    self.tail = 0

    @property
    def newlines(self) -> int:
        """In all that was counted."""
        return self.counts[-1] + self.tail

    def start_of(self, file: _File, line: int) -> int:
        """Where a line begins; the file's end where it has none of that number."""
        if line == 0:
            return 0
        while self.newlines < line and self.counted < file.size:
            self.count_to(file, min(file.size, self.counted + _CHUNK_BYTES))
        if self.newlines < line:
            return file.size
        block = bisect_left(self.counts, line) - 1
        missing, at = line - self.counts[block], block * BLOCK_BYTES
        chunk = os.pread(file.fd, BLOCK_BYTES, at)
        position = -1
        for _ in range(missing):
            position = chunk.find(b"\n", position + 1)
        return at + position + 1

    def number_at(self, file: _File, offset: int) -> int | None:
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
class _File:
    rank: int
    fd: int
    size: int
    index: _Index


_indexes: OrderedDict[str, _Index] = OrderedDict()
_indexes_lock = threading.Lock()


@contextmanager
def _opened(folder: RunFolder, rank: int) -> Iterator[_File]:
    path = os.path.join(folder.console, f"r{int(rank)}.log")
    try:
        # A link may lead out of the store, and a pipe would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield _File(rank, -1, 0, _Index(0, 0))
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no file; it is not read")
        yield _File(rank, fd, status.st_size, _index_of(path, status))
    finally:
        os.close(fd)


def _index_of(path: str, status: os.stat_result) -> _Index:
    with _indexes_lock:
        index = _indexes.get(path)
        same = index is not None and (index.device, index.inode) == (status.st_dev, status.st_ino)
        if index is None or not same or index.counted > status.st_size:
            # Another file under the same name, or one that was cut off.
            index = _indexes[path] = _Index(status.st_dev, status.st_ino)
        _indexes.move_to_end(path)
        if len(_indexes) > _MOST_INDEXES:
            _indexes.popitem(last=False)
        return index


# -- lines --------------------------------------------------------------------------------------------------------


def _check_lines(lines: int) -> None:
    if not 1 <= lines <= MOST_LINES:
        raise BadArgument(f"lines={lines}: a page has 1 to {MOST_LINES:,} lines")


def _page(file: _File, offset: int, most: int, number: int | None) -> ConsolePage:
    lines: list[ConsoleLine] = []
    at = next_offset = offset
    if number is None and at <= file.size:
        number = file.index.number_at(file, at)
    first = number
    for _ in range(most):
        if at >= file.size:
            break
        line, at = _line_at(file, at, number)
        lines.append(line)
        number = number + 1 if number is not None else None
        next_offset = at if line.is_whole else line.offset
    total = None
    if file.size - file.index.counted <= COUNTED_BYTES:
        file.index.count_to(file, file.size)
        ends = file.size == 0 or os.pread(file.fd, 1, file.size - 1) == b"\n"
        total = file.index.newlines + (not ends)
    return ConsolePage(file.rank, tuple(lines), first, total, offset, next_offset, file.size, at >= file.size)


def _line_at(file: _File, offset: int, number: int | None) -> tuple[ConsoleLine, int]:
    """The line that begins at an offset, and where the next one does."""
    head = os.pread(file.fd, min(_LINE_BYTES, file.size - offset), offset)
    newline = head.find(b"\n")
    if newline >= 0 or offset + len(head) >= file.size:
        raw = head[:newline] if newline >= 0 else head
        text, spans = show_line(raw)
        is_cut = len(text) >= WIDEST
        end = offset + (newline + 1 if newline >= 0 else len(head))
        return ConsoleLine(number, offset, text, spans, newline >= 0, is_cut), end
    end = _end_of_line(file, offset, offset + len(head))
    is_whole = end < file.size or os.pread(file.fd, 1, file.size - 1) == b"\n"
    stop = end - 1 if is_whole else end
    begin = max(offset, stop - _LINE_BYTES)
    tail = os.pread(file.fd, stop - begin, begin)
    # What was written over is not shown: only the end of a line that was overwritten matters.
    overwritten = tail.rstrip(b"\r").rfind(b"\r")
    text, spans = show_line(tail[tail.find(b"\r") :] if overwritten >= 0 else head)
    return ConsoleLine(number, offset, text, spans, is_whole, overwritten < 0), end


def _end_of_line(file: _File, offset: int, at: int) -> int:
    """Where the line that begins at an offset ends, its newline included; the file's end if it has none."""
    index = file.index
    if index.open_line[0] == offset:
        at = max(at, index.open_line[1])
    while at < file.size:
        chunk = os.pread(file.fd, min(_CHUNK_BYTES, file.size - at), at)
        newline = chunk.find(b"\n")
        if newline >= 0:
            return at + newline + 1
        if not chunk:
            break
        at += len(chunk)
    # A progress bar's line grows for days: what of it holds no newline is not read again.
    index.open_line = (offset, at)
    return file.size


def _start_of_tail(file: _File, lines: int) -> int:
    """Where the last lines begin."""
    end, size = file.size, 64 << 10
    if end and os.pread(file.fd, 1, end - 1) == b"\n":
        end -= 1
    least = max(0, end - TAIL_BYTES)
    missing, at = lines, end
    while at > least:
        begin = max(least, at - size)
        chunk = os.pread(file.fd, at - begin, begin)
        count = chunk.count(b"\n")
        if count >= missing:
            position = len(chunk)
            for _ in range(missing):
                position = chunk.rfind(b"\n", 0, position)
            return begin + position + 1
        missing -= count
        at, size = begin, min(size * 2, _CHUNK_BYTES)
    if least == 0:
        return 0
    # Fewer lines than were asked for, because they are so long: begin with one that begins here.
    chunk = os.pread(file.fd, end - least, least)
    newline = chunk.find(b"\n")
    return least + newline + 1 if newline >= 0 else _start_of_line(file, least)


def _start_of_line(file: _File, at: int) -> int:
    while at > 0:
        begin = max(0, at - _CHUNK_BYTES)
        newline = os.pread(file.fd, at - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    return 0


# -- searching ----------------------------------------------------------------------------------------------------


def _search_chunk(file: _File, offset: int, wanted: str, most: int, found: list[ConsoleLine]) -> int:
    """Search about a megabyte of whole lines; returns where to go on."""
    chunk = os.pread(file.fd, min(_CHUNK_BYTES, file.size - offset), offset)
    end = chunk.rfind(b"\n") + 1
    if end == 0:
        line, following = _line_at(file, offset, None)
        if wanted in line.text.casefold():
            found.append(_numbered(file, line))
        return following
    chunk = chunk[:end]
    plain = _ESCAPES.sub(b"", chunk) if b"\x1b" in chunk else chunk
    # Most chunks hold nothing: they are passed over before any line is looked at.
    if wanted not in plain.decode("utf-8", "replace").casefold() and b"\b" not in chunk:
        return offset + end
    at = 0
    while at < end and len(found) < most:
        newline = chunk.index(b"\n", at)
        raw = chunk[at:newline]
        if raw:
            text, spans = show_line(raw)
            if wanted in text.casefold():
                line = ConsoleLine(None, offset + at, text, spans, True, len(text) >= WIDEST)
                found.append(_numbered(file, line))
        at = newline + 1
    return offset + at


def _numbered(file: _File, line: ConsoleLine) -> ConsoleLine:
    number = file.index.number_at(file, line.offset)
    return ConsoleLine(number, line.offset, line.text, line.spans, line.is_whole, line.is_cut)
