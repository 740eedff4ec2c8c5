"""Tells what became of an earlier attempt: whether it is still being written, how it ended, which run to go on with."""

from __future__ import annotations

import os

from lossbook.errors import LossbookError, UnknownRun
from lossbook.journal import attempt_of, first_row, journal_segments, last_row
from lossbook.paths import RunFolder, project_folder, run_folders
from lossbook.processes import host_name, is_alive
from lossbook.run_info import Attempt, Parent, load_run_info


def is_written_elsewhere(folder: RunFolder, attempt: Attempt) -> bool:
    """Whether another process of this machine is still writing that attempt."""
    if attempt.host != host_name() or attempt.pid == os.getpid() or _ended(folder, attempt):
        return False
    return is_alive(attempt.pid or 0, attempt.process_start, attempt.boot)


def _ended(folder: RunFolder, attempt: Attempt) -> bool:
    """Whether that attempt said that it finished (its process may live on: a notebook, a sweep)."""
    segments = [segment for segment in journal_segments(folder.journal) if segment.name.rank == 0]
    if not segments:
        from lossbook.storage.resume_point import sealed_at_us  # what reads a store is not loaded by `import lossbook`

        # Everything is sealed, or nothing of this attempt has been written yet.
        sealed = sealed_at_us(folder)
        return sealed is not None and sealed > (attempt.started or 0)
    head, row = attempt_of(first_row(segments[-1].path)), last_row(segments[-1].path)
    if head is not None and head.attempt.number != attempt.number:
        return False  # it is about to begin
    return row is not None and row.kind == "finish"


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
    if is_written_elsewhere(folder, last) or (last.pid == os.getpid() and not _ended(folder, last)):
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
    return Parent(parent.project, parent.id, step)
