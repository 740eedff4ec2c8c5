"""How a run's end is told and sealed where training could not: now, or by a later follower of the same place."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from lossbook.follower.followed import forget_followed, note_path, noted_runs
from lossbook.journal import Row, bring_home, drop_lease, journal_segments, last_row, segment_writers
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, file_names, folder_lock, make_folder, write_json
from lossbook.processes import Life, this_place
from lossbook.storage import ENDED_BY_SECONDS, LiveSummary, next_row, seal_run

#: A run without a journal is about to get one, unless its note is older.
_BEGIN_SECONDS = 86400.0


def has_finished(folder: RunFolder) -> bool:
    """Whether rank 0 said how it ended."""
    row, is_there = _last_row_of_rank_0(folder)
    return not is_there or (row is not None and row.kind == "finish")


def was_cut_short(folder: RunFolder) -> bool:
    """Whether rank 0 was killed, or said nothing."""
    row, is_there = _last_row_of_rank_0(folder)
    return is_there and (row is None or row.kind != "finish" or row.body.get("state") == "killed")


def is_missed(folder: RunFolder, *, is_alive: bool) -> bool:
    """Whether the run misses a rank that goes without a word now: it goes on, or was ended because of that.

    Args:
        is_alive: whether the process lives that was handed over. Ranks that are killed together have no first.
    """
    row, is_there = _last_row_of_rank_0(folder)
    if row is None or row.kind != "finish":
        return is_there and is_alive
    return row.body.get("state") != "finished" and time.time() - row.t / 1e6 < ENDED_BY_SECONDS


def _last_row_of_rank_0(folder: RunFolder) -> tuple[Row | None, bool]:
    segments = [segment for segment in journal_segments(folder.journal) if segment.name.rank == 0]
    return (last_row(segments[-1].path), True) if segments else (None, False)


def say_that_it_crashed(folder: RunFolder, attempt: int, *, error: str | None = None, ended: int | None = None) -> None:
    """Write down that training ended without a word: only training writes the journal, so it is said beside it.

    Args:
        error: how, where that is known.
        ended: when, in µs; now unless that is known.
    """
    ended = time.time_ns() // 1000 if ended is None else ended
    value: JsonObject = {"attempt": attempt, "state": "crashed", "ended": ended}
    if error:
        value["error"] = error
    make_folder(folder.followers)
    write_json(os.path.join(folder.followers, "watch.json"), value)


def seal_left_behind(store: str) -> list[str]:
    """Seal what killed trainings and followers of this place have left in a store; cheap where there is nothing.

    Returns:
        A sentence for each run that was sealed.

    Raises:
        LossbookError, OSError: a run cannot be sealed; the others are tried the next time.
    """
    done = []
    for folder in noted_runs(store):
        if not folder.exists():
            forget_followed(folder)
        elif _seal_left(folder):
            done.append(f"{folder.path} was left unsealed by a follower that was killed, and is sealed now")
    return done


def _seal_left(folder: RunFolder) -> bool:
    with ExitStack() as stack:
        for name in file_names(folder.followers):
            lock = name.removesuffix(".lock")
            is_one = name.startswith("follow-") and lock != name
            if is_one and not stack.enter_context(folder_lock(folder, lock, seconds=0.0)):
                return False  # a follower is at it
        return _seal_unfollowed(folder)


def _seal_unfollowed(folder: RunFolder) -> bool:
    place = this_place()
    writers = [writer for writer in segment_writers(folder.journal) if writer.place == place]
    if any(writer.life is not Life.DEAD for writer in writers):
        return False  # its follower is about to begin
    if not writers:
        if time.time() - os.stat(note_path(folder)).st_mtime > _BEGIN_SECONDS:
            forget_followed(folder)
        return False
    first = [writer for writer in writers if writer.segment.name.rank == 0]
    if first and first[-1].attempt is not None and not has_finished(folder):
        ended = int(os.stat(first[-1].segment.path).st_mtime * 1e6)
        say_that_it_crashed(folder, first[-1].attempt.number, ended=ended)
    bring_home(folder, next_row=next_row)
    report = seal_run(folder, finished=True, node_only=True)
    if first:
        LiveSummary(folder).write()
    drop_lease(folder, place)
    forget_followed(folder)
    return report.segments > 0
