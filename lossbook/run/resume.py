"""Tells what became of an earlier attempt: whether it is still being written, how it ended, which run to go on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError, UnknownRun
from lossbook.journal import (
    attempt_of,
    first_row,
    is_this_process,
    journal_segments,
    last_row,
    last_sign,
    life_of,
    named_limit,
    place_of,
    segment_writers,
    server_clock,
    take_over,
)
from lossbook.paths import RunFolder, folder_lock, project_folder, run_folders
from lossbook.processes import Life
from lossbook.run_info import Attempt, Parent, load_run_info

if TYPE_CHECKING:
    from lossbook.journal import Sign


#: `init()` waits for an expiry that is no further away; `LOSSBOOK_TAKEOVER_SECONDS` may name a longer one.
WAIT_SECONDS = 60.0
#: A lease that is renewed so often while `init()` waits belongs to a process that lives, and is not about to end.
_RENEWALS = 2
_LOOK_SECONDS = 0.25


def life_of_writer(folder: RunFolder, attempt: Attempt) -> Life:
    """Whether the process of an attempt may still write it: dead also when it said that it finished."""
    if attempt.host is None and attempt.pid is None:
        return Life.DEAD  # no process of its own: imported, or another program's
    if is_this_process(attempt) or _ended(folder, attempt):
        return Life.DEAD
    return life_of(attempt)


def wait_for_writer(
    folder: RunFolder, attempt: Attempt, warn: Callable[[str], None], pause: Callable[[float], None] | None = None
) -> str | None:
    """Wait until an attempt's process is over, or its last sign of life is so old that the run may be gone on with.

    Args:
        warn: takes one sentence when this takes a while.
        pause: waits for so many seconds.

    Returns:
        None when the run can be gone on with; else why not, as half a sentence, and what to do.

    Raises:
        OSError: the run's folder cannot be written.
    """
    deadline = time.monotonic() + max(WAIT_SECONDS, named_limit() or 0.0)
    renewed: set[float] = set()
    has_warned = False
    while (life := life_of_writer(folder, attempt)) is not Life.DEAD:
        who = f"process {attempt.pid} on {attempt.host}"
        if life is Life.ALIVE:
            return f"is being written by process {attempt.pid} right now; end that process first"
        sign = _last_sign(folder, attempt)
        if sign is None:
            return None
        age = server_clock(folder) - sign.seconds
        left = sign.limit_seconds - age
        if left < 0:
            return None
        renewed.add(sign.seconds)
        kind = "its lease was renewed" if sign.is_lease else "its journal was written"
        if len(renewed) > _RENEWALS or time.monotonic() + left > deadline:
            return (
                f"may be being written by {who}, which cannot be seen from here: {kind} {max(0.0, age):.0f} seconds "
                f"ago; end that process and wait until that is {sign.limit_seconds:.0f} seconds ago "
                "(LOSSBOOK_TAKEOVER_SECONDS)"
            )
        if not has_warned:
            has_warned = True
            warn(
                f"the run {os.path.basename(folder.path)} may still be being written by {who} ({kind} "
                f"{max(0.0, age):.0f} seconds ago); waiting up to {left:.0f} seconds for that to be over"
            )
        (pause or time.sleep)(min(_LOOK_SECONDS, left + 0.01))
    return None


def take_over_left(folder: RunFolder) -> None:
    """Take over what writers left that cannot be seen from here, where their last sign of life is old enough.

    Raises:
        OSError: the run's folder cannot be written.
    """
    unseen = [
        writer
        for writer in segment_writers(folder.journal)
        if writer.life is Life.UNKNOWN and writer.segment.taken_bytes is None
    ]
    if not unseen:
        return
    now = server_clock(folder)
    with folder_lock(folder, "seal", seconds=5.0):
        for writer in unseen:
            sign = None if writer.place is None else last_sign(folder, writer.place, [writer.segment.path])
            if sign is None or now - sign.seconds < sign.limit_seconds:
                continue
            try:
                take_over(writer.segment)
            except FileNotFoundError:
                continue  # sealed meanwhile


def _last_sign(folder: RunFolder, attempt: Attempt) -> Sign | None:
    """The last sign of life of an attempt: of its lease, its journals, or, where it has none yet, that it began."""
    place = place_of(attempt)
    journals = [writer.segment.path for writer in segment_writers(folder.journal) if writer.place == place]
    return last_sign(folder, place, journals or [folder.run_json])


def _ended(folder: RunFolder, attempt: Attempt) -> bool:
    """Whether that attempt said that it finished (its process may live on: a notebook, a sweep)."""
    segments = [segment for segment in journal_segments(folder.journal) if segment.name.rank == 0]
    if not segments:
        from lossbook.storage.resume_point import (
            last_sealed_attempt,  # what reads a store is not loaded by `import lossbook`
        )

        # Everything is sealed, or nothing of this attempt has been written yet.
        sealed = last_sealed_attempt(folder)
        return sealed is not None and sealed >= attempt.number
    head, row = attempt_of(first_row(segments[-1].path)), last_row(segments[-1].path)
    if head is not None and head.attempt.number != attempt.number:
        return False  # it is about to begin
    return row is not None and row.kind == "finish"


def has_ended(folder: RunFolder) -> bool:
    """Whether the run's last attempt said that it finished, as far as its `run.json` can be read."""
    try:
        info = load_run_info(folder)
    except LossbookError:
        return False
    return info is not None and _ended(folder, info.last_attempt)


def came_to_a_good_end(folder: RunFolder) -> bool:
    """Whether there is nothing to go on with: the run finished, or is gone, or cannot be read."""
    try:
        if load_run_info(folder) is None:
            return True
        return _state(folder) == "finished"
    except LossbookError:
        return True


def run_to_resume(store: str, project: str) -> str | None:
    """The id of the project's latest run, if that neither goes on nor came to a good end (`resume="auto"`)."""
    latest: tuple[int, str] | None = None
    try:
        names = os.listdir(project_folder(store, project))
    except OSError:
        return None
    for name in names:
        try:
            info = load_run_info(RunFolder(os.path.join(project_folder(store, project), name)))
        except LossbookError:
            continue
        if info is not None and not name.startswith("."):
            latest = max(latest or (0, ""), (info.created, name))
    if latest is None:
        return None
    state = _state(RunFolder(os.path.join(project_folder(store, project), latest[1])))
    return None if state in ("running", "finished") else latest[1]


def _state(folder: RunFolder) -> str:
    """How a run ended, or that it goes on."""
    info = load_run_info(folder)
    last = info.last_attempt if info is not None else Attempt()
    if not _ended(folder, last) and (is_this_process(last) or life_of(last) is Life.ALIVE):
        return "running"
    from lossbook.storage.resume_point import recorded_state  # as in _ended

    return recorded_state(folder)


def find_parent(store: str, project: str, wanted: str, step: int) -> Parent:
    """Where the run to fork from lies: by id or name, in this project first, the newest where there are several.

    Raises:
        UnknownRun: there is none in the store.
    """
    found = []
    for folder in run_folders(store):
        try:
            info = load_run_info(folder)
        except LossbookError:
            continue
        if info is not None and wanted in (info.id, info.name):
            found.append((info.project == project, info.created, info))
    if not found:
        raise UnknownRun(f"fork_from names the run {wanted!r}, which is not in the store {store}")
    parent = max(found, key=lambda one: one[:2])[2]
    return Parent(parent.project, parent.id, step, parent.created or None)
