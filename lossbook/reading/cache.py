"""Keeps the runs of a book between questions, within its memory, and shares that memory out.

Everything cached here can be read again. What was used least recently goes first; nothing grows with the number of
questions.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbook.access import check_store, why_unreadable
from lossbook.errors import BadArgument, UnknownRun
from lossbook.paths import RunFolder, folder_mark, is_settled, run_folder

if TYPE_CHECKING:
    from lossbook.reading.run import RecordedRun

#: The smallest memory in which a curve of a long run can be drawn.
LEAST_MEMORY_BYTES = 32 << 20
#: Runs of which the reading state is cached, at the most.
MOST_RUNS = 512
#: A running run's state and last values are not read anew more often than this.
REFRESH_SECONDS = 1.0


@dataclass(frozen=True)
class MemoryLimits:
    """How a book's memory is shared out, in bytes."""

    arrays_bytes: int
    runs_bytes: int
    duckdb: str  # as DuckDB has it


def share_memory(memory_bytes: int | None) -> MemoryLimits:
    """Share out the memory of a book; None for one that sorts a hundred million rows without a disk.

    Raises:
        BadArgument: too little to draw a curve.
    """
    if memory_bytes is None:
        return MemoryLimits(128 << 20, 128 << 20, "4GB")
    if memory_bytes < LEAST_MEMORY_BYTES:
        raise BadArgument(f"memory_bytes={memory_bytes}: a book needs {LEAST_MEMORY_BYTES >> 20} MB at least")
    # DuckDB decodes whole row groups on each thread; what is beyond that it uses to keep file blocks.
    return MemoryLimits(memory_bytes * 3 // 8, memory_bytes // 8, f"{memory_bytes // 2 >> 20}MiB")


@dataclass
class _CachedRun:
    run: RecordedRun
    lock: threading.Lock
    mark: int = 0  # of the run's folder when it was read; 0 where it may have changed since without showing it
    looked: float = 0.0
    bytes: int = 0


class RunCache:
    """The runs of a book that were asked for last, each with its reading state. Thread-safe."""

    def __init__(self, store: str, make_run: Callable[[RunFolder], RecordedRun], limit_bytes: int) -> None:
        self._store = store
        self._make_run = make_run
        self._limit_bytes = limit_bytes
        self._runs: OrderedDict[str, _CachedRun] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, project: str, id: str) -> RecordedRun:
        """As `Book.kept_run`."""
        try:
            folder = run_folder(self._store, project, id)
        except BadArgument as error:
            raise UnknownRun(str(error)) from None
        try:
            status = os.stat(folder.path)
        except OSError:
            status = None
        if status is None or not folder.exists():
            check_store(self._store)
            if (why := why_unreadable(folder)) is not None:
                raise UnknownRun(f"{folder.path} cannot be read ({why}); check who owns it")
            with self._lock:
                self._runs.pop(folder.path, None)
            raise UnknownRun(f"there is no run {id!r} in the project {project!r} of {self._store}")
        with self._lock:
            cached = self._runs.get(folder.path)
            if cached is None:
                cached = self._runs[folder.path] = _CachedRun(self._make_run(folder), threading.Lock())
            self._runs.move_to_end(folder.path)
        with cached.lock:
            self._refresh(cached, status)
        self._shrink(cached)
        return cached.run

    def _refresh(self, cached: _CachedRun, status: os.stat_result) -> None:
        mark = folder_mark(status)
        now = time.monotonic()
        is_due = cached.mark != mark or (cached.run.state == "running" and now - cached.looked >= REFRESH_SECONDS)
        if cached.looked and not is_due and cached.run.is_current:
            return
        looked_ns = time.time_ns()
        cached.run.refresh()
        cached.mark = mark if is_settled(status.st_mtime_ns, looked_ns) else 0
        cached.looked = now

    def _shrink(self, used: _CachedRun) -> None:
        size = used.run.kept_bytes()
        with self._lock:
            used.bytes = size
            total = sum(cached.bytes for cached in self._runs.values())
            while len(self._runs) > 1 and (total > self._limit_bytes or len(self._runs) > MOST_RUNS):
                path, oldest = next(iter(self._runs.items()))
                if oldest is used:
                    break
                del self._runs[path]
                total -= oldest.bytes

    def clear(self) -> None:
        with self._lock:
            self._runs.clear()

    def __len__(self) -> int:
        return len(self._runs)
