"""Whether anybody may still write to a journal: what may be sealed, by whom, and which run has died without a word.

There are three answers. A writer is over only by proof: it said so (a `finish` row), its rows were written whole before
the segment was there (imported, or brought home from a spill file), it has begun a later segment, or its process is
gone, seen from the place where its id means it. Everything else that is not seen to live is unknown, and counts as
alive for whatever cannot be undone.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from lossbook.errors import LossbookError
from lossbook.journal.attempt_row import AttemptRow, attempt_of
from lossbook.journal.lease import last_sign, seems_alive, server_clock
from lossbook.journal.reader import JournalSegment, first_row, journal_segments, last_row
from lossbook.paths import RunFolder, is_monitor
from lossbook.processes import Life, Place, process_life, process_start, this_place
from lossbook.run_info import Attempt, load_run_info

#: A segment without a first row that is no older is about to get one; a wrong guess only ends a follower early.
_BEGIN_SECONDS = 60.0


class Writer(NamedTuple):
    """Who writes a journal segment.

    Attributes:
        attempt: as its first row says; None where that row is damaged or not there yet.
        life: whether the writer may still add a row to this segment.
        is_whole: whether the segment never had a writer here: its rows were there before it was.
    """

    segment: JournalSegment
    attempt: Attempt | None
    life: Life
    is_whole: bool = False

    @property
    def place(self) -> Place | None:
        """Where it runs."""
        return None if self.attempt is None else place_of(self.attempt)


def place_of(attempt: Attempt) -> Place:
    """Where an attempt's process ran."""
    return Place(attempt.host, attempt.boot, attempt.pid_namespace)


def life_of(attempt: Attempt) -> Life:
    """Whether the process of an attempt lives, as far as can be seen from here."""
    if not attempt.pid:
        return Life.UNKNOWN
    here, place = this_place(), place_of(attempt)
    if place == here and (here.pid_namespace is not None or here.boot is None):
        return process_life(attempt.pid, attempt.process_start)
    if place.pid_namespace is None and place[:2] == here[:2] and attempt.process_start is not None:
        # Of an earlier version: it may have run in a container, but the process that is seen is no other.
        seen = process_life(attempt.pid, attempt.process_start)
        return Life.ALIVE if seen is Life.ALIVE else Life.UNKNOWN
    return Life.UNKNOWN


def is_this_process(attempt: Attempt) -> bool:
    """Whether an attempt is written by this very process."""
    return (
        attempt.pid == os.getpid()
        and place_of(attempt) == this_place()
        and attempt.process_start in (None, process_start(os.getpid()))
    )


def segment_writers(journal: str) -> list[Writer]:
    """Who writes each segment of a run folder's `journal/`, in the order of `journal_segments`."""
    writers: list[Writer] = []
    # By rank: the processes that have begun a later segment, and the number of one that goes on from the one before.
    begun: dict[int, set[tuple[Place, int | None, float | None]]] = {}
    continued: dict[int, tuple[int, Attempt]] = {}
    for segment in reversed(journal_segments(journal)):
        rank = segment.name.rank
        row = attempt_of(first_row(segment.path))
        if row is not None:
            attempt: Attempt | None = row.attempt
            process = (place_of(row.attempt), row.attempt.pid, row.attempt.process_start)
            is_whole = row.imported or row.spill is not None
            if not is_whole and process in begun.get(rank, ()):
                writers.append(Writer(segment, attempt, Life.DEAD))
                continue
            if not is_whole:
                begun.setdefault(rank, set()).add(process)
            if row.continues and not is_whole:
                continued[rank] = (segment.name.first, row.attempt)
            writers.append(Writer(segment, attempt, writer_life(segment, row), is_whole))
            continue
        follows = continued.get(rank)
        if follows is not None and follows[0] == segment.name.last + 1:
            writers.append(Writer(segment, follows[1], Life.DEAD))
            continue
        attempt = _attempt_of_damaged(journal, rank)
        ended = _said_finish(segment)
        life = Life.DEAD if ended else Life.UNKNOWN if attempt is None else life_of(attempt)
        writers.append(Writer(segment, attempt, life))
    writers.reverse()
    return writers


def writer_life(segment: JournalSegment, row: AttemptRow | None = None) -> Life:
    """Whether a row may still be added to one segment, looked at by itself.

    A follower never says that it ends, for a row behind the training's last one would come too late for the mirrors:
    it closes its own segment and seals it.
    """
    row = row or attempt_of(first_row(segment.path))
    if (row is not None and (row.imported or row.spill is not None)) or _said_finish(segment):
        return Life.DEAD
    if row is None:
        return Life.UNKNOWN
    if is_monitor(segment.name.rank) and is_this_process(row.attempt):
        return Life.DEAD
    return life_of(row.attempt)


def writer_is_over(segment: JournalSegment) -> bool:
    """Whether it is proven that no row will be added to this segment any more."""
    return writer_life(segment) is Life.DEAD


def live_writers(journal: str, *, place: Place | None = None) -> list[JournalSegment]:
    """The segments of the training that somebody may still write to; followers do not count.

    Args:
        place: only writers there.
    """
    return [
        writer.segment
        for writer in segment_writers(journal)
        if writer.life is not Life.DEAD
        and not is_monitor(writer.segment.name.rank)
        and (place is None or writer.place == place or (writer.place is None and _is_new(writer.segment)))
    ]


def living_writer(folder: RunFolder) -> Writer | None:
    """A writer of a run that lives, or may live by the last sign of life of its place; None when there is none.

    Raises:
        OSError: the run's folder cannot be written, so the file server's clock is not known.
    """
    writers = segment_writers(folder.journal)
    for writer in writers:
        if writer.life is Life.ALIVE:
            return writer
    for writer in writers:
        if writer.life is Life.UNKNOWN and writer.place is not None:
            journals = [one.segment.path for one in writers if one.place == writer.place]
            sign = last_sign(folder, writer.place, journals)
            if sign is not None and server_clock(folder) - sign.seconds < sign.limit_seconds:
                return writer
    return None


def seems_over(segment: JournalSegment) -> bool:
    """Whether nobody seems to write a segment any more: for what is shown, for it proves nothing."""
    life = writer_life(segment)
    if life is not Life.UNKNOWN:
        return life is Life.DEAD
    row = attempt_of(first_row(segment.path))
    folder = RunFolder(os.path.dirname(os.path.dirname(segment.path)))
    return not seems_alive(folder, Place(None, None, None) if row is None else place_of(row.attempt))


def _is_new(segment: JournalSegment) -> bool:
    """Whether a segment that does not tell its writer may be one whose first row is about to be written."""
    try:
        return time.time() - os.stat(segment.path).st_mtime < _BEGIN_SECONDS
    except OSError:
        return False


def _said_finish(segment: JournalSegment) -> bool:
    last = last_row(segment.path)
    return last is not None and last.kind == "finish"


def _attempt_of_damaged(journal: str, rank: int) -> Attempt | None:
    """Whose segment it is when its first row cannot be read: rank 0 has a single attempt in `run.json`, or it is not known."""
    if rank != 0:
        return None
    try:
        info = load_run_info(RunFolder(os.path.dirname(journal)))
    except LossbookError:
        return None
    if info is None or not info.attempts:
        return None
    places = {place_of(one) for one in info.attempts}
    # With several places it could be anybody's.
    return info.last_attempt if len(places) == 1 else None
