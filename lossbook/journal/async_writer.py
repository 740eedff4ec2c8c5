"""Writes a journal on a file system that may hang: training hands rows over and never waits.

A thread writes what a bounded queue holds. While the file system does not answer, the queue fills and its oldest
rows move to a spill file on the local disk; when it answers again, the thread writes them home first, so the
order stays. What is left when the process ends stays in the spill file.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

from lossbook.journal import writer
from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.current_segment import UNUSABLE
from lossbook.journal.encoded import EncodedJournal
from lossbook.journal.line import number_line
from lossbook.journal.spill import NextRow, SpillFile, SpillHead, bring_file_home
from lossbook.journal.writer import Journal
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder

#: Bytes of rows held in memory while the file system does not answer.
QUEUE_BYTES = 16 << 20
_BATCH_BYTES = 1 << 20
#: In the queue: what stands in front of it is to be flushed to disk.
_SYNC = "sync"
#: How long a file system that refuses is left alone before the next try, in seconds.
RETRY_SECONDS = 0.5


class AsyncJournal(EncodedJournal):
    """A `Journal` whose file is written by a thread; `append` only encodes and queues.

    Args:
        prepare: run by the thread before anything else (it may touch the file system); returns the run's folder,
            the first row number and the attempt's contents.
        run_json: the run's `run.json`, kept with the spilled rows in case it never could be written.
        next_row: tells the number of the next row, where spilled rows are added after the run's end.
    """

    __slots__ = (
        "_abandoned",
        "_busy",
        "_bytes",
        "_changed",
        "_closing",
        "_dropped",
        "_given_up",
        "_in_flight",
        "_is_synced",
        "_next_row",
        "_prepare",
        "_queue",
        "_run_json",
        "_stuck",
        "_syncs_asked",
        "_syncs_done",
        "_thread",
        "_waiting",
        "spill",
    )

    def __init__(
        self,
        folder: RunFolder,
        rank: int,
        attempt: AttemptRow,
        *,
        row: int = 0,
        step: int = -1,
        warn: Callable[[str], None] | None = None,
        run_json: JsonObject | None = None,
        next_row: NextRow,
        prepare: Callable[[AsyncJournal], tuple[RunFolder, int, AttemptRow]] | None = None,
    ) -> None:
        super().__init__(folder, rank, attempt, row=row, step=step, warn=warn)
        self._mark = 0
        self._run_json = run_json
        self._next_row = next_row
        self._prepare = prepare
        self._queue: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._stuck = False
        self._in_flight: list[bytes] = []
        self._busy = False
        self._waiting = False
        self._abandoned = False
        self._dropped = 0
        self._given_up = 0
        self._syncs_asked = 0
        self._syncs_done = 0
        self._is_synced = False
        self.spill = SpillFile(folder.path, rank)
        self._thread = threading.Thread(target=self._work, name="lossbook-journal", daemon=True)
        self._thread.start()

    # -- the training thread's side -----------------------------------------------------------------------------

    def _put(self, contents: bytes, target: str = "") -> None:
        with self._changed:
            self._queue.append((target, contents))
            self._bytes += len(contents)
            while self._bytes > QUEUE_BYTES:
                target, oldest = self._queue.popleft()
                self._bytes -= len(oldest)
                self._to_spill(target, oldest)
            self._changed.notify()

    def _to_spill(self, target: str, contents: bytes) -> None:
        if target == _SYNC:
            return
        if target:
            # Console text and media are not rows: they are given up, and counted.
            self._dropped += 1
            return
        try:
            if self.spill.count == 0:
                self.spill.begin(SpillHead.of_this_process(self.folder, self.rank, self.attempt, self._run_json))
                self._warn(f"{self.folder.path} does not answer; rows wait in {self.spill.path} until it does")
            self.spill.append(contents)
        except OSError as error:
            self._given_up += 1
            self.count_lost(error)

    # -- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._open()
            while not self._abandoned and self._write_next():
                pass
        except Exception as error:
            self._stuck = True
            if not self._abandoned:
                self._warn(f"{self.folder.path} cannot be written ({error}); rows wait in {self.spill.path}")
        if self._abandoned:
            self._come_home()

    def _open(self) -> None:
        if self._prepare is not None:
            # The run may turn out to be another, when its id is taken.
            folder, self.row, self.attempt = self._prepare(self)
            self._home.move(folder)
        while not self._abandoned and not self.begin_segment():
            if self._closing:
                raise OSError("it still could not be written when the run ended")
            time.sleep(RETRY_SECONDS)
        self._lost = 0

    def _write_next(self) -> bool:
        """Write one batch, the oldest there is; False when the journal is closed and nothing is left."""
        batch: list[tuple[str, bytes]] = []
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self.spill.count or self._closing)
            if not self._queue and not self.spill.count:
                return not self._closing
            # The spill holds what is older than the queue: it goes home first.
            spilled = self.spill.next_lines()
            if not spilled:
                batch = self._take_batch()
                self._in_flight = [contents for target, contents in batch if not target]
            self._busy = True
        if not self._write_lines(spilled or self._in_flight):
            return False
        for target, contents in batch:
            if target == _SYNC:
                self._sync_now()
            elif target.startswith("file:"):
                Journal.put_file(self, target[5:], contents)
            elif target:
                Journal.append_text(self, target[5:], contents)
        with self._changed:
            if self._abandoned:
                return False
            if spilled:
                self.spill.forget(spilled)
            self._in_flight = []
            self._busy = False
            if (self._given_up or self._dropped) and not self.spill.count:
                self._tell_given_up()
            self._changed.notify_all()
        return True

    def _take_batch(self) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        taken = 0
        while self._queue and taken < _BATCH_BYTES:
            item = self._queue.popleft()
            taken += len(item[1])
            batch.append(item)
        self._bytes -= taken
        return batch

    def _write_lines(self, lines: list[bytes]) -> bool:
        """Write rows, however long it takes; False when the run has ended before all were written."""
        for start in range(0, len(lines), 1000):
            if not self._write_part(lines[start : start + 1000]):
                return False
        self._waiting = False
        if self.now_us() > self._look_at:
            self.look()
        if self._size > writer.SEGMENT_BYTES:
            self.begin_segment()
        return True

    def _write_part(self, lines: list[bytes]) -> bool:
        while lines:
            numbered = [number_line(line, self.row + at) for at, line in enumerate(lines)]
            left = b"".join(numbered)
            whole = len(left)
            is_usable = True
            while left and is_usable:
                if self._abandoned:
                    return False
                try:
                    left = left[os.write(self._fd, left) :]
                except OSError as error:
                    # Nothing is given up here: the queue behind spills to the local disk meanwhile.
                    if self._closing:
                        self._stuck = True
                        return False
                    self._say_waiting(error)
                    time.sleep(RETRY_SECONDS)
                    is_usable = error.errno not in UNUSABLE
            written = whole - len(left)
            done = 0
            while done < len(numbered) and written >= len(numbered[done]):
                written -= len(numbered[done])
                self._size += len(numbered[done])
                done += 1
            self.row += done
            lines = lines[done:]
            if not is_usable:
                self.look()
        return True

    def _say_waiting(self, error: OSError) -> None:
        if not self._waiting:
            self._waiting = True
            self._warn(
                f"{self.folder.path} cannot be written ({error.strerror}); rows wait on this machine until it can"
            )

    def _tell_given_up(self) -> None:
        """Record how much did not wait for the file system to answer."""
        lost, dropped = self._given_up, self._dropped
        self._given_up = self._dropped = self._lost = 0
        message = (
            f"while {self.folder.path} did not answer, {lost} rows and {dropped} pieces of console output or media "
            "could not be kept on this machine and are lost; logging goes on now"
        )
        self.append_event("warning", {"message": message, "lost": lost})
        self._warn(message)

    def _come_home(self) -> None:
        """Add what `close` has left in the spill file, now that the file system answers after all."""
        try:
            Journal.close(self)
            bring_file_home(self.spill.path, next_row=self._next_row)
        except Exception as error:
            self._warn(f"the rows in {self.spill.path} wait for `lossbook seal` ({error})")

    def look(self) -> bool:
        """As `Journal.look`, where the journal's own thread asks; nobody else may wait for the file system."""
        return super().look() if threading.get_ident() == self._thread.ident else True

    def was_removed(self) -> bool:
        return False

    def wait_until_open(self, timeout_seconds: float) -> bool:
        """Wait for the file system to take the first segment; False when it does not in time."""
        deadline = time.monotonic() + timeout_seconds
        while self._fd < 0 and not self._stuck and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._fd >= 0

    def sync(self, timeout_seconds: float = 5.0) -> bool:
        """Have everything that is queued written and flushed; False when the file system did not do it in time."""
        if not self._thread.is_alive():
            return super().sync()
        with self._changed:
            self._syncs_asked += 1
            mine = self._syncs_asked
            self._queue.append((_SYNC, b""))
            self._changed.notify()
            return self._changed.wait_for(lambda: self._syncs_done >= mine, timeout_seconds) and self._is_synced

    def _sync_now(self) -> None:
        done = self._flush()
        with self._changed:
            self._syncs_done += 1
            self._is_synced = done
            self._changed.notify_all()

    def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Write what is queued; what the file system does not take in time stays in the spill file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive() or self._stuck:
            with self._changed:
                self._spill_rest()
                self._abandoned = True
            if self.spill.count:
                self._warn(
                    f"{self.folder.path} did not answer: {self.spill.count} rows wait in {self.spill.path}; "
                    "`lossbook seal` adds them to the run when it does"
                )
            return
        super().close()

    def _spill_rest(self) -> None:
        """Put what has not been written into the spill file, in its order: in flight, spilled, queued."""
        try:
            if self._in_flight and self.spill.count:
                self.spill.put_in_front(self._in_flight)
                self._in_flight = []
        except OSError as error:
            self._warn(f"the order of rows in {self.spill.path} could not be kept ({error.strerror})")
        for line in self._in_flight:
            self._to_spill("", line)
        self._in_flight = []
        while self._queue:
            self._to_spill(*self._queue.popleft())
