"""Whether anybody still writes to a journal: what may be sealed, and which run has died without a word."""

from __future__ import annotations

import os
import time

from lossbook.journal.attempt_row import attempt_of
from lossbook.journal.reader import JournalSegment, first_row, journal_segments, last_row
from lossbook.paths import is_monitor
from lossbook.processes import host_name, is_alive

#: A writer on another machine counts as gone when its file has not changed for that long.
SILENT_SECONDS = 600.0


def writer_is_over(segment: JournalSegment) -> bool:
    """Whether no row will be added to this segment any more, as far as can be known from here.

    A writer is over when it said so (a `finish` row), when its process has ended, or, on another machine, when it
    has been silent for ten minutes. A follower never says so, for a row behind the training's last one would come too
    late for the mirrors: it closes its own segment and seals it.
    """
    last = last_row(segment.path)
    if last is not None and last.kind == "finish":
        return True
    head = attempt_of(first_row(segment.path))
    if head is not None and head.imported:
        return True
    if head is not None and head.attempt.host == host_name():
        if head.spill:
            return True
        if is_monitor(segment.name.rank) and head.attempt.pid == os.getpid():
            return True
        return not is_alive(head.attempt.pid or 0, head.attempt.process_start, head.attempt.boot)
    try:
        return time.time() - os.stat(segment.path).st_mtime > SILENT_SECONDS
    except OSError:
        return True


def live_writers(journal: str, *, host: str | None = None) -> list[JournalSegment]:
    """The newest segment of each rank of the training that somebody may still write to; followers do not count.

    Args:
        host: only writers on that machine.
    """
    newest: dict[int, JournalSegment] = {}
    for segment in journal_segments(journal):
        if is_monitor(segment.name.rank):
            continue
        newest[segment.name.rank] = segment
    live = []
    for segment in newest.values():
        if writer_is_over(segment):
            continue
        head = attempt_of(first_row(segment.path)) if host is not None else None
        if head is None or head.attempt.host == host:
            live.append(segment)
    return live
