"""Takes a journal segment over from a writer that cannot be seen to be over, so that no row is lost if it is not.

A segment is taken over by a rename, `r0-000001.jsonl` to `r0-000001.taken-0.jsonl`. A writer that lives finds its file
gone from its path and begins another segment; what it adds to this one until then stays in the file. The number in the
name says how many bytes are sealed as soon as the segment's Parquet file is there. What stands behind them is added to
the run as a segment of its own, and the file is removed only when its writer is over or has begun another segment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from lossbook.journal.attempt_row import AttemptRow, attempt_of
from lossbook.journal.digest import extend_digest
from lossbook.journal.line import encode_event, number_line
from lossbook.journal.reader import JournalSegment, first_row, journal_segments
from lossbook.journal.segment_numbers import next_segment
from lossbook.paths import RunFolder, SegmentName, fsync_folder
from lossbook.run_info import Attempt


def take_over(segment: JournalSegment, *, sealed_bytes: int = 0) -> JournalSegment:
    """Rename a segment away from its writer, or note in its name how much of it is being sealed.

    Raises:
        OSError: it cannot be renamed; it is as it was.
    """
    path = os.path.join(os.path.dirname(segment.path), f"{segment.name.stem}.taken-{sealed_bytes}.jsonl")
    if path != segment.path:
        os.rename(segment.path, path)
        fsync_folder(os.path.dirname(path))
    return JournalSegment(segment.name, path)


def bring_rest_home(
    folder: RunFolder, segment: JournalSegment, *, next_row: Callable[[RunFolder, int], int]
) -> JournalSegment:
    """Add the rows behind what was sealed of a segment that was taken over to the run, each exactly once.

    Args:
        next_row: tells which number the first of them gets.

    Returns:
        The segment under the name that it has then.

    Raises:
        OSError: the run's folder cannot be written; nothing is lost.
    """
    sealed = segment.taken_bytes or 0
    rank = segment.name.rank
    with open(segment.path, "rb") as file:
        file.seek(sealed)
        lines = [line for line in file if line.endswith(b"\n")]
    if not lines:
        return segment
    source = f"{segment.name.stem}.taken-{sealed}"
    others = (attempt_of(first_row(one.path)) for one in journal_segments(folder.journal) if one.name.rank == rank)
    if not any(one is not None and one.spill == source for one in others):
        head = attempt_of(first_row(segment.path)) or AttemptRow(Attempt(), rank)
        row = next_row(folder, rank)
        value = head.continued(spill=source).to_json()
        text = encode_event(row, time.time_ns() // 1000, None, "attempt", None, value)
        # A damaged line stays as it is: whoever reads the segment reports it.
        text += b"".join(
            number_line(line, row + 1 + at) if line.startswith(b'{"i":') and b"," in line else line
            for at, line in enumerate(lines)
        )
        add_segment(folder, rank, text)
    return take_over(segment, sealed_bytes=sealed + sum(map(len, lines)))


def add_segment(folder: RunFolder, rank: int, contents: bytes) -> None:
    """Put a whole segment under the next number of a rank, which another process may be taking at the same time.

    Raises:
        OSError: the folder cannot be written.
    """
    os.makedirs(folder.journal, exist_ok=True)
    partial = os.path.join(folder.journal, f"{os.getpid()}-{os.urandom(3).hex()}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        number = next_segment(folder, rank)
        while True:
            path = os.path.join(folder.journal, f"{SegmentName(rank, number, number).stem}.jsonl")
            try:
                # A rename would replace a segment that its writer has just begun.
                os.link(partial, path)
                break
            except FileExistsError:
                number += 1
            except OSError:  # a file system without links
                if os.path.exists(path):
                    number += 1
                    continue
                os.rename(partial, path)
                break
    finally:
        try:
            os.unlink(partial)
        except OSError:
            pass
    fsync_folder(folder.journal)
    with suppress(OSError):  # covered when it is sealed, at the latest
        extend_digest(folder, path, to_end=True)
