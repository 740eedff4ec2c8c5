"""Rows that a follower writes itself, in a journal of its own in the run's folder: the machine's series, and alerts.

Only the training writes the training's journal. Beside rank r this one is rank -1000 - r; at any time one process writes
it, whatever else follows the run.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import islice

from lossbook.errors import LossbookError
from lossbook.follower.terminal_notice import Note, print_note
from lossbook.journal import AttemptRow, Journal, journal_segments, rows_backwards
from lossbook.json_shapes import JsonObject
from lossbook.paths import MONITOR_RANK, RunFolder, folder_lock
from lossbook.processes import process_start, this_place
from lossbook.run_info import Attempt, load_run_info
from lossbook.storage import last_step, next_row

#: The training's step is the highest among so many of its last rows: rows from a device may come a little late.
_LAST_ROWS = 16


class OwnRows:
    """The follower's journal of one run, opened with its first row.

    Args:
        rank: of the training process that the follower keeps company to.
        note: takes for a log what went wrong.
    """

    def __init__(self, folder: RunFolder, rank: int = 0, note: Note = print_note) -> None:
        self._note = note
        self.folder = folder
        self.rank = MONITOR_RANK - rank
        self._journal: Journal | None = None
        self._attempt: AttemptRow | None = None
        self._forked_at: int | None = None
        self._identity_mtime_ns = -1
        self._lock = ExitStack()

    def append_scalars(self, scalars: dict[str, float], *, time_us: int) -> bool:
        """Write one row at the training's step; False when another follower writes this journal already."""
        journal = self._open()
        if journal is None:
            return False
        journal.append_scalars(scalars, self.step(), time_us=time_us)
        return True

    def append_event(self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None) -> bool:
        """Write one row of another kind (an alert, say); False when another follower writes this journal already."""
        journal = self._open()
        if journal is None:
            return False
        journal.append_event(kind, value, key=key, step=step)
        return True

    def step(self) -> int:
        """The training's last step; before its first row, the step that this attempt goes on from, or 0."""
        if self._attempt is None:
            self._learn_attempt()
        segments = [segment for segment in journal_segments(self.folder.journal) if segment.name.rank == 0]
        steps: list[int] = []
        if segments:
            for row in islice(rows_backwards(segments[-1].path), 4 * _LAST_ROWS):
                if row.kind is None and row.step is not None:
                    steps.append(row.step)
                elif row.kind == "attempt" and not row.body.get("continues") and not steps:
                    resumed_at = row.body.get("resume_step")
                    if resumed_at is not None:
                        return int(resumed_at)
                if len(steps) == _LAST_ROWS:
                    break
        if steps:
            return max(steps)
        before = last_step(self.folder)
        return before if before is not None else self._forked_at or 0

    def close(self) -> None:
        """Let go of the journal; nobody writes to its segment any more, and it can be sealed."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.close()

    def _open(self) -> Journal | None:
        """The journal, begun anew when the run has begun another attempt."""
        if self._learn_attempt() and self._journal is not None:
            self.close()
        if self._journal is None and self._attempt is not None:
            # Two followers meet where a run is resumed while the first one still seals.
            if not self._lock.enter_context(folder_lock(self.folder, f"monitor{self.rank}", seconds=0.0)):
                self._lock.close()
                return None
            self._journal = Journal(
                self.folder,
                self.rank,
                self._attempt,
                row=next_row(self.folder, self.rank),
                warn=self._note,
            )
        return self._journal

    def _learn_attempt(self) -> bool:
        """Look which attempt the run is at; True when it is another than before."""
        try:
            mtime_ns = os.stat(self.folder.run_json).st_mtime_ns
            if mtime_ns == self._identity_mtime_ns:
                return False
            info = load_run_info(self.folder)
        except (LossbookError, OSError):
            return False
        self._identity_mtime_ns = mtime_ns
        self._forked_at = info.parent.step if info is not None and info.parent is not None else None
        before = self._attempt
        last = info.last_attempt if info is not None else Attempt()
        place = this_place()
        self._attempt = AttemptRow(
            Attempt(
                number=last.number,
                world_size=last.world_size,
                resume_step=last.resume_step,
                host=place.host,
                pid=os.getpid(),
                process_start=process_start(os.getpid()),
                boot=place.boot,
                pid_namespace=place.pid_namespace,
                launch=last.launch,
            ),
            self.rank,
            monitor=True,
        )
        return before is None or before.attempt.number != last.number
