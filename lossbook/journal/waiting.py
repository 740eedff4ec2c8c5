"""Keeps rows on this machine until it is known which run they belong to.

Each row is in a spill file on the local disk when its append returns, so SIGKILL cannot take it: what is left there
when the process has died is a run by itself, which `lossbook seal` brings home. Console text and media wait in memory,
up to a limit. `settle` writes everything to the journal of the run, in its order, and passes on what comes later.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.encoded import EncodedJournal
from lossbook.journal.spill import SpillFile, SpillHead
from lossbook.journal.writer import Journal
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder

#: Bytes of console text and media that are held in memory.
HELD_BYTES = 16 << 20
#: In place of a row's number: the row counts only where this process turns out to be the run's rank 0.
_OF_RANK_0 = -1
_OF_RANK_0_HEAD = b'{"i":-1,'
#: So many rows at the most are written while training may be waiting to log the next one.
_FEW = 100


class WaitingJournal(EncodedJournal):
    """A `Journal` of a run that is not known yet.

    Args:
        folder: of the run that this becomes where it stays by itself.
        rank: of this process, as its launch says.
        run_json: the `run.json` of that run.

    Attributes:
        first_row_at: on the monotonic clock; None before the first row.
    """

    __slots__ = ("_dropped", "_held", "_held_bytes", "_run_json", "_settled", "_spill", "first_row_at")

    def __init__(
        self,
        folder: RunFolder,
        rank: int,
        attempt: AttemptRow,
        *,
        step: int,
        run_json: JsonObject,
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(folder, rank, attempt, step=step, warn=warn)
        self._mark = 0
        self._run_json = run_json
        self._spill = SpillFile(folder.path, rank)
        self._held: list[tuple[str, bytes]] = []
        self._held_bytes = 0
        self._dropped = 0
        self._settled: Journal | None = None
        self.first_row_at: float | None = None

    def for_rank_0(self, write: Callable[[], None]) -> None:
        """Take what is written meanwhile as rows that count only where this process is the run's rank 0."""
        with self._lock:
            before, self._mark = self._mark, _OF_RANK_0
            try:
                write()
            finally:
                self._mark = before

    def append_for_rank_0(self, scalars: dict[str, float], step: int | None) -> None:
        """As `append`, for a row that counts only where this process is the run's rank 0."""
        self.for_rank_0(lambda: self.append(scalars, step))

    def _put(self, contents: bytes, target: str = "") -> None:
        with self._lock:
            if self._settled is not None:
                self._pass_on(self._settled, contents, target)
            elif not target:
                self._keep(contents)
            elif self._held_bytes + len(contents) <= HELD_BYTES:
                self._held.append((target, contents))
                self._held_bytes += len(contents)
            else:
                self._dropped += 1

    def _keep(self, line: bytes) -> None:
        if self.first_row_at is None:
            self.first_row_at = time.monotonic()
        try:
            if self._spill.count == 0:
                self._spill.begin(SpillHead.of_this_process(self.folder, 0, self.attempt, self._run_json))
            self._spill.append(line)
        except OSError as error:
            self.count_lost(error)

    def settle(self, journal: Journal) -> None:
        """Write what has waited to the journal of the run, and pass on to it what comes from now on."""
        for target, contents in self._held_until_now():
            self._pass_on(journal, contents, target)
        while self._spill.count > _FEW:
            with self._lock:
                lines = self._spill.next_lines()
            for line in lines:
                self._pass_on(journal, line)
            with self._lock:
                self._spill.forget(lines)
        with self._lock:
            while lines := self._spill.next_lines():
                for line in lines:
                    self._pass_on(journal, line)
                self._spill.forget(lines)
            for target, contents in self._held_until_now():
                self._pass_on(journal, contents, target)
            journal.step = max(journal.step, self.step)
            self._settled = journal
        if self._lost or self._dropped:
            message = (
                f"while it was not known which run this process belongs to, {self._lost} rows and {self._dropped} pieces of "
                "console output or media could not be kept on this machine and are lost"
            )
            journal.append_event("warning", {"message": message, "lost": self._lost})
            self._warn(message)

    def _held_until_now(self) -> list[tuple[str, bytes]]:
        with self._lock:
            held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _pass_on(self, journal: Journal, contents: bytes, target: str = "") -> None:
        if target.startswith("file:"):
            journal.put_file(target[5:], contents)
        elif target:
            own, its = f"console/r{self.rank}.log", f"console/r{journal.rank}.log"
            journal.append_text(its if target[5:] == own else target[5:], contents)
        elif journal.rank == 0 or not contents.startswith(_OF_RANK_0_HEAD):
            journal.append_line(contents)
            journal.step = max(journal.step, self.step) if self._settled is journal else journal.step

    # -- what a journal with a file of its own does -----------------------------------------------------------------

    def begin_segment(self) -> bool:
        return True

    def look(self) -> bool:
        return True

    def was_removed(self) -> bool:
        return False

    def sync(self) -> bool:
        """Whether every row so far would survive power loss: not before the run is known."""
        return self._settled is not None and self._settled.sync()

    def close(self, *, timeout_seconds: float = 0.0) -> None:
        if self._settled is not None:
            self._settled.close(timeout_seconds=timeout_seconds)
        elif self._spill.count:
            self._warn(
                f"the store did not answer: {self._spill.count} rows wait in {self._spill.path}; `lossbook seal` adds them "
                "to a run of their own when it does"
            )
