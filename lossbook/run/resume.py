"""What became of an earlier attempt: whether it is still being written, how it ended, and which run to go on with."""

from __future__ import annotations

import os
from typing import Any

from lossbook.errors import LossbookError
from lossbook.journal.reader import first_row, journal_segments, last_row
from lossbook.paths import RunFolder, project_folder, read_json
from lossbook.processes import host_name, is_alive


def is_written_elsewhere(folder: RunFolder, attempt: dict[str, Any]) -> bool:
    """Whether another process of this machine is still writing that attempt."""
    if attempt.get("host") != host_name() or attempt.get("pid") == os.getpid() or _ended(folder, attempt):
        return False
    return is_alive(int(attempt.get("pid", 0)), attempt.get("process_start"), attempt.get("boot"))


def _ended(folder: RunFolder, attempt: dict[str, Any]) -> bool:
    """Whether that attempt said that it finished (its process may live on: a notebook, a sweep)."""
    segments = [part for part in journal_segments(folder.journal) if part.name.rank == 0]
    if not segments:
        # Everything is sealed, or nothing of this attempt has been written yet.
        try:
            sealed = os.stat(os.path.join(folder.followers, "seal.json")).st_mtime * 1e6
        except OSError:
            return False
        return sealed > float(attempt.get("started") or 0)
    head, row = first_row(segments[-1].path), last_row(segments[-1].path)
    if head is not None and head.kind == "attempt" and head.body.get("number") != attempt.get("number"):
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
        folder = RunFolder(os.path.join(project_folder(store, project), name))
        try:
            identity = read_json(folder.run_json)
        except LossbookError:
            continue
        if identity is not None and not name.startswith("."):
            latest = max(latest or (0, ""), (int(identity.get("created") or 0), name))
    if latest is None:
        return None
    state = _state(RunFolder(os.path.join(project_folder(store, project), latest[1])))
    return None if state in ("running", "finished") else latest[1]


def _state(folder: RunFolder) -> str:
    """How a run ended, as its journal or its summary has it; "crashed" where neither says."""
    identity = read_json(folder.run_json) or {}
    last = (identity.get("attempts") or [{}])[-1]
    if is_written_elsewhere(folder, last) or (last.get("pid") == os.getpid() and not _ended(folder, last)):
        return "running"
    segments = [part for part in journal_segments(folder.journal) if part.name.rank == 0]
    row = last_row(segments[-1].path) if segments else None
    if row is not None:
        return str(row.body.get("state")) if row.kind == "finish" else "crashed"
    return str((read_json(folder.summary_json) or {}).get("state") or "crashed")
