"""Reading a journal while it is written, after it was cut off, and after it was damaged.

A reader takes whole lines only: a torn last line is not there yet. A damaged line, also one that only its digest tells
(`digest`), costs that line and one sentence; everything else is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from lossbook.journal.digest import DamagedPart, damaged_parts
from lossbook.journal.line import DamagedLine, PlainRows, Row, decode, decode_plain
from lossbook.paths import SegmentName, file_names, parse_segment_name

#: How much of a segment one read takes: bounds the reader's memory whatever the journal's size.
CHUNK_BYTES = 8 << 20
_BACKWARDS_BYTES = 1 << 16
#: Lines that are decoded together, where all are plain rows.
_PLAIN_LINES = 512
_NO_WORDS = [None] * _PLAIN_LINES
#: The name of a segment that was taken over: `r0-000001.taken-4096.jsonl`.
_TAKEN = re.compile(r"\.taken-(\d+)\.jsonl\Z")


class Problem(NamedTuple):
    """Something wrong with a journal: where, and one sentence."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line}" if self.line else self.path
        return f"{where}: {self.message}"


class Reading(NamedTuple):
    """Rows read from one segment, the offset (bytes) behind the last whole line, and what was wrong."""

    rows: list[Row]
    offset: int
    problems: list[Problem]
    torn: bytes


def _doubles(rows: PlainRows) -> list[dict[str, float]]:
    """The metrics of rows, whole numbers (JSON has them without a point) made doubles like the others."""
    metrics, values = rows.metrics, rows.values
    if int not in set(map(type, values)):
        return metrics
    keys = tuple(metrics[0])
    if any(tuple(one) != keys for one in metrics):
        return [{key: float(value) for key, value in one.items()} for one in metrics]
    for place, key in enumerate(keys):
        column = values[place :: len(keys)]
        if int in set(map(type, column)):
            for one, value in zip(metrics, column, strict=True):
                one[key] = float(value)
    return metrics


class JournalSegment(NamedTuple):
    """One journal file."""

    name: SegmentName
    path: str

    @property
    def taken_bytes(self) -> int | None:
        """For a segment that was taken over from its writer: how much of it is sealed once its number is; else None."""
        matched = _TAKEN.search(self.path)
        return None if matched is None else int(matched[1])

    def size_bytes(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0


def journal_segments(journal: str) -> list[JournalSegment]:
    """List the journal files of a run folder's `journal/`, by rank and number; foreign files are passed over."""
    found: dict[SegmentName, JournalSegment] = {}
    for filename in sorted(file_names(journal)):
        if not filename.endswith(".jsonl"):
            continue
        name = parse_segment_name(filename)
        # A listing during a rename may show both names of a segment: the later one, which sorts behind, is there.
        if name is not None and _TAKEN.sub(".jsonl", filename) == f"{name.stem}.jsonl":
            found[name] = JournalSegment(name, os.path.join(journal, filename))
    return sorted(found.values())


def read_segment(path: str, *, offset: int = 0, first_line: int = 1, limit_bytes: int | None = None) -> Reading:
    """Read the whole lines of a segment from `offset` on.

    Args:
        offset: bytes; the start of a line.
        first_line: the number of the line at `offset`, for the sentences about damage.
        limit_bytes: read about that much and stop at a line's end (a longer line is read whole).

    Raises:
        OSError: the file cannot be opened (a sealed segment has gone: list the folder again).
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    number = first_line
    torn = b""
    taken = 0
    parts = damaged_parts(path, offset, None if limit_bytes is None else offset + limit_bytes)
    with open(path, "rb") as file:
        file.seek(offset)
        while True:
            chunk = file.read(CHUNK_BYTES if limit_bytes is None else min(CHUNK_BYTES, max(1, limit_bytes - taken)))
            if not chunk:
                break
            if not chunk.endswith(b"\n"):
                chunk += file.readline()
            if not chunk.endswith(b"\n"):
                end = chunk.rfind(b"\n") + 1
                torn = chunk[end:]
                chunk = chunk[:end]
            at = offset + taken
            lines = chunk.split(b"\n")
            lines.pop()
            for start in range(0, len(lines), _PLAIN_LINES):
                some = lines[start : start + _PLAIN_LINES]
                plain = None if parts else decode_plain(some)
                if plain is not None:
                    rows += map(Row, plain.i, plain.t, plain.step, _NO_WORDS, _NO_WORDS, _doubles(plain))
                    number += len(some)
                    continue
                for line in some:
                    try:
                        if parts and is_damaged(parts, at, at + len(line) + 1):
                            raise DamagedLine("it is not what was written, its checksum disagrees")
                        rows.append(decode(line))
                    except DamagedLine as error:
                        problems.append(Problem(path, number, f"damaged line passed over: {error}"))
                    number += 1
                    at += len(line) + 1
            taken += len(chunk)
            if torn or (limit_bytes is not None and taken >= limit_bytes):
                break
    return Reading(rows, offset + taken, problems, torn)


def is_damaged(parts: list[DamagedPart], start: int, end: int) -> bool:
    """Whether a line between two places, the second behind it, lies in one of these parts in whole or in part."""
    return any(part.start < end and start < part.end for part in parts)


def first_row(path: str) -> Row | None:
    """The first readable row of a segment (it tells the attempt); None when there is none yet."""
    try:
        with open(path, "rb") as file:
            for _ in range(100):
                line = file.readline()
                if not line.endswith(b"\n"):
                    return None
                try:
                    return decode(line)
                except DamagedLine:
                    continue
    except OSError:
        return None
    return None


def last_row(path: str) -> Row | None:
    """The last whole, readable row of a segment; None when there is none."""
    return next(rows_backwards(path), None)


def rows_backwards(path: str) -> Iterator[Row]:
    """The whole, readable rows of a segment from its end on; reads no more of the file than is asked for.

    Damaged lines and a torn last one are passed over; so is a file that cannot be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.seek(0, os.SEEK_END)
            size = _BACKWARDS_BYTES
            rest = b""
            torn = True
            while start > 0:
                end, start = start, max(0, start - size)
                parts = damaged_parts(path, start, end + len(rest))
                file.seek(start)
                text = file.read(end - start) + rest
                # `rest` is a line without its end.
                behind = start + len(text) + (not torn)
                lines = text.split(b"\n")
                if torn and len(lines) > 1:
                    behind -= len(lines.pop())
                    torn = False
                # The first piece may be the tail of a longer line, unless the file begins here.
                rest = lines.pop(0) if start > 0 else b""
                if torn:
                    size *= 2
                    continue
                for line in reversed(lines):
                    behind -= len(line) + 1
                    if parts and is_damaged(parts, behind, behind + len(line) + 1):
                        continue
                    try:
                        row = decode(line)
                    except DamagedLine:
                        continue
                    yield row
                size *= 2
    except OSError:
        return


def find_gaps(rows: list[Row], path: str, expected: int | None = None) -> list[Problem]:
    """Say in one sentence each where row numbers are missing or come twice.

    Args:
        rows: rows of one segment in the order of the file.
        expected: the number that the first row should have; None where that is not known.
    """
    problems = []
    for row in rows:
        if expected is not None and row.i > expected:
            problems.append(Problem(path, 0, f"rows {expected} to {row.i - 1} are missing"))
        elif expected is not None and row.i < expected:
            problems.append(
                Problem(path, 0, f"row {row.i} comes again: two processes wrote as the same rank, both are kept")
            )
        expected = max(row.i + 1, expected or 0)
    return problems[:20]
