"""Segments that hold the same rows, left by two sealings at once: each row counts once, by its number.

Of two segments that overlap the one that begins first gives all of its rows, the other those with higher numbers. Rows of
one rank are numbered without gaps, so that the highest number of the first tells where the other begins to count.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lossbook.journal import JournalSegment, last_row
from lossbook.storage.schema import METRICS, connect, parquet
from lossbook.storage.sealed_files import events_source, leave_out, metrics_source

if TYPE_CHECKING:
    from lossbook.storage.segment import Segment

_last_rows: dict[tuple[str | int, ...], int | None] = {}
_lock = threading.Lock()


def count_once(sealed: Sequence[Segment]) -> list[Segment]:
    """Sealed segments of which no two give the same row, in their order.

    Raises:
        FileNotFoundError: one was merged into another meanwhile.
    """
    counted: list[Segment] = []
    for segment in sealed:
        before = [one for one in counted if one.name.rank == segment.name.rank and one.name.last >= segment.name.first]
        lasts = [last for one in before if (last := last_row_of(one)) is not None]
        counted.append(replace(segment, first_row=max(lasts) + 1) if lasts else segment)
    return counted


def is_replaceable(segment: Segment, journals: Sequence[JournalSegment]) -> bool:
    """Whether a sealed segment is damaged, in part at least, and all the journals that it was made of are still there.

    Raises:
        FileNotFoundError: as `count_once`.
    """
    numbers = {one.name.first for one in journals if segment.name.covers(one.name) and one.taken_bytes is None}
    if len(numbers) <= segment.name.last - segment.name.first:
        return False
    return metrics_source(segment) is None or (segment.events is not None and events_source(segment) is None)


def first_row_beyond(journal: JournalSegment, sealed: Segment) -> int | None:
    """From which row on a journal counts that was sealed already; None where it adds nothing.

    It was sealed while it was still written, or the sealed file is damaged.

    Raises:
        FileNotFoundError: as `count_once`.
    """
    last = last_row(journal.path)
    if last is None:
        return None
    sealed_to = last_row_of(sealed)
    if sealed_to is None:
        return 0
    return sealed_to + 1 if last.i > sealed_to else None


def last_row_of(segment: Segment) -> int | None:
    """The highest row number of a sealed segment; None where its files are all damaged, or hold no row.

    Raises:
        FileNotFoundError: as `count_once`.
    """
    import duckdb

    files = {segment.metrics: metrics_source(segment), segment.events: events_source(segment)}
    name: tuple[str | int, ...] = tuple(
        part for path, source in files.items() if source is not None for part in _identity(str(path))
    )
    with _lock:
        if name in _last_rows:
            return _last_rows[name]
    found: list[int] = []
    connection = connect()
    try:
        for path, source in files.items():
            if source is None:
                continue
            try:
                row = connection.execute(f"SELECT max(row) FROM {source}").fetchone()
            except (duckdb.Error, UnicodeDecodeError) as error:
                leave_out(str(path), error)
                return last_row_of(segment)
            if row is not None and row[0] is not None:
                found.append(int(row[0]))
    finally:
        connection.close()
    last = max(found, default=None)
    with _lock:
        if len(_last_rows) > 10_000:
            _last_rows.clear()
        _last_rows[name] = last
    return last


def _identity(path: str) -> tuple[str | int, ...]:
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns


def overlap_problems(segments: Sequence[Segment]) -> list[str]:
    """A sentence for each segment of which some rows are in another too."""
    said = []
    for segment in segments:
        if segment.first_row is None:
            continue
        path = segment.metrics or str(segment.journal)
        sentence = f"{path}: rows before {segment.first_row} are in another file too; each is counted once"
        if segment.metrics is not None and (differing := _differing(segment, segments)):
            sentence += f", and {differing} values differ: those of the other file are read"
        said.append(sentence)
    return said


def _differing(segment: Segment, segments: Sequence[Segment]) -> int:
    """How many scalars of the rows that a segment shares with others are not the same there."""
    import duckdb

    others = [
        str(one.metrics)
        for one in segments
        if one.metrics is not None
        and one.name.rank == segment.name.rank
        and one.name.first < segment.name.first <= one.name.last
    ]
    if not others:
        return 0
    columns = ", ".join(METRICS)
    connection = connect()
    try:
        row = connection.execute(
            f"SELECT count(*) FROM (SELECT {columns} FROM {parquet(str(segment.metrics))} WHERE row < {segment.first_row} "
            f"EXCEPT ALL SELECT {columns} FROM {parquet(others)})"
        ).fetchone()
    except (duckdb.Error, UnicodeDecodeError):
        return 0
    finally:
        connection.close()
    return int(row[0]) if row else 0
