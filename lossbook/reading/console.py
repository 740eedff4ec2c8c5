"""Reads what a rank printed: a page, the end, what came since, and the lines that hold a text.

A page or the end of a file of any size costs what it shows. To find a line by its number, newlines are counted once,
and how many lie before each quarter of a megabyte is kept for the files that were looked at last.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from lossbook.errors import BadArgument
from lossbook.paths import RunFolder
from lossbook.reading.ansi import WIDEST, ConsoleSpan, show_line
from lossbook.reading.console_file import CHUNK_BYTES, OpenConsole, open_console
from lossbook.run_files import walk_run_files

#: Lines of one page, at the most.
MOST_LINES = 5_000
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
    found = [
        ConsoleFile(int(matched[1]), one.size_bytes, one.changed_ns / 1e9)
        for one in walk_run_files(folder.path, "console")
        if (matched := _NAME.match(one.name.removeprefix("console/"))) is not None
    ]
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
    with open_console(folder, rank) as file:
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
    with open_console(folder, rank) as file:
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
    with open_console(folder, rank) as file:
        at = begin = min(offset, file.size)
        while at < file.size and len(found) < most:
            at = _search_chunk(file, at, wanted, most, found)
            if time.monotonic() > deadline:
                break
        return ConsoleMatches(tuple(found), at if at < file.size else None, at - begin, file.size)


# -- lines --------------------------------------------------------------------------------------------------------


def _check_lines(lines: int) -> None:
    if not 1 <= lines <= MOST_LINES:
        raise BadArgument(f"lines={lines}: a page has 1 to {MOST_LINES:,} lines")


def _page(file: OpenConsole, offset: int, most: int, number: int | None) -> ConsolePage:
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
    if file.can_be_counted:
        file.index.count_to(file, file.size)
        ends = file.size == 0 or os.pread(file.fd, 1, file.size - 1) == b"\n"
        total = file.index.newlines + (not ends)
    return ConsolePage(file.rank, tuple(lines), first, total, offset, next_offset, file.size, at >= file.size)


def _line_at(file: OpenConsole, offset: int, number: int | None) -> tuple[ConsoleLine, int]:
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


def _end_of_line(file: OpenConsole, offset: int, at: int) -> int:
    """Where the line that begins at an offset ends, its newline included; the file's end if it has none."""
    index = file.index
    if index.open_line[0] == offset:
        at = max(at, index.open_line[1])
    while at < file.size:
        chunk = os.pread(file.fd, min(CHUNK_BYTES, file.size - at), at)
        newline = chunk.find(b"\n")
        if newline >= 0:
            return at + newline + 1
        if not chunk:
            break
        at += len(chunk)
    # A progress bar's line grows for days: what of it holds no newline is not read again.
    index.open_line = (offset, at)
    return file.size


def _start_of_tail(file: OpenConsole, lines: int) -> int:
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
        at, size = begin, min(size * 2, CHUNK_BYTES)
    if least == 0:
        return 0
    # Fewer lines than were asked for, because they are so long: begin with one that begins here.
    chunk = os.pread(file.fd, end - least, least)
    newline = chunk.find(b"\n")
    return least + newline + 1 if newline >= 0 else _start_of_line(file, least)


def _start_of_line(file: OpenConsole, at: int) -> int:
    while at > 0:
        begin = max(0, at - CHUNK_BYTES)
        newline = os.pread(file.fd, at - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    return 0


# -- searching ----------------------------------------------------------------------------------------------------


def _search_chunk(file: OpenConsole, offset: int, wanted: str, most: int, found: list[ConsoleLine]) -> int:
    """Search about a megabyte of whole lines; returns where to go on."""
    chunk = os.pread(file.fd, min(CHUNK_BYTES, file.size - offset), offset)
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


def _numbered(file: OpenConsole, line: ConsoleLine) -> ConsoleLine:
    number = file.index.number_at(file, line.offset)
    return ConsoleLine(number, line.offset, line.text, line.spans, line.is_whole, line.is_cut)
