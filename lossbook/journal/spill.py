"""A journal on a file system that may hang: training hands rows over and never waits.

A thread writes what a bounded queue holds. While the file system does not answer, the queue fills and its oldest
rows move to a spill file on the local disk; when it answers again, the thread writes them home first, so the
order stays. What is left when the process ends stays in the spill file, and `bring_home` adds it to the run.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from lossbook.journal.line import NEWLINE, encode_event, encode_scalars
from lossbook.journal.reader import first_row, journal_segments
from lossbook.journal.writer import Attempt, Journal, NotPlain, next_row, next_segment
from lossbook.layout import RunFolder, SegmentName, cache_folder, fsync_folder, write_json
from lossbook.processes import boot_id, is_alive, process_start

#: Bytes of rows held in memory while the file system does not answer.
QUEUE_BYTES = 16 << 20
_BATCH_BYTES = 1 << 20


def spill_folder() -> str:
    """Where rows wait on the local disk for their store to answer again."""
    return os.path.join(cache_folder(), "spill")


class AsyncJournal(Journal):
    """A `Journal` whose file is written by a thread; `append` only encodes and queues.

    Args:
        prepare: run by the thread before anything else (it may touch the file system); returns the first row
            number and the attempt's contents.
        identity: the run's `run.json`, kept with the spilled rows in case it never could be written.
    """

    __slots__ = ("_bytes", "_changed", "_closing", "_dropped", "_identity", "_in_flight", "_prepare", "_queue", "_spill_count",
                 "_spill_path", "_spill_taken", "_stuck", "_thread")  # fmt: skip

    def __init__(
        self, folder: RunFolder, rank: int, attempt: Attempt, *, row: int = 0, step: int = -1,
        warn: Callable[[str], None] | None = None, prepare: Callable[[], tuple[int, Attempt]] | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, rank, attempt, row=row, step=step, warn=warn)
        self._identity = identity
        self._prepare = prepare
        self._queue: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._stuck = False
        self._in_flight: list[bytes] = []
        self._dropped = 0
        self._spill_count = 0
        self._spill_taken = 0
        name = f"{os.path.basename(folder.path)}-r{rank}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
        self._spill_path = os.path.join(spill_folder(), name)
        self._thread = threading.Thread(target=self._work, name="lossbook-journal", daemon=True)
        self._thread.start()

    # -- the training thread's side -----------------------------------------------------------------------------

    def append(self, scalars: dict[str, Any], step: int | None) -> None:
        with self._lock:
            if step is None:
                step = self.step + 1
            elif type(step) is not int or not -(1 << 63) <= step < 1 << 63:
                raise NotPlain
            line = orjson.dumps({"i": 0, "t": time.time_ns() // 1000, "s": step, "m": scalars}, None, NEWLINE)
            total = sum(scalars.values())
            if total - total != 0:
                raise NotPlain
            self.step = step
            self._put(line)

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        with self._lock:
            step = self.step + 1 if step is None else step
            self.step = step
            self._put(encode_scalars(0, time.time_ns() // 1000 if time_us is None else time_us, step, scalars))

    def append_event(
        self, kind: str, value: dict[str, Any], *, key: str | None = None, step: int | None = None
    ) -> None:
        self._put(encode_event(0, time.time_ns() // 1000, step, kind, key, value))

    def put_file(self, path: str, contents: bytes) -> None:
        self._put(contents, f"file:{path}")

    def append_text(self, path: str, text: bytes) -> None:
        self._put(text, f"text:{path}")

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
        if target:
            # Console text and media are not rows: they are given up, and counted.
            self._dropped += 1
            return
        try:
            if self._spill_count == 0:
                self._begin_spill()
            with open(self._spill_path, "ab") as file:
                file.write(contents)
            self._spill_count += 1
        except OSError as error:
            self.count_lost(error)

    def _begin_spill(self) -> None:
        os.makedirs(os.path.dirname(self._spill_path), exist_ok=True)
        value = {
            "folder": os.path.abspath(self._folder.path), "rank": self.rank, "attempt": dict(self._attempt),
            "pid": os.getpid(), "start": process_start(os.getpid()), "boot": boot_id(), "identity": self._identity,
        }  # fmt: skip
        with open(self._spill_path, "wb") as file:
            file.write(encode_event(0, time.time_ns() // 1000, None, "spill", None, value))
        self._warn(f"{self._folder.path} does not answer; rows wait in {self._spill_path} until it does")

    # -- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._open()
        except Exception as error:
            self._warn(f"{self._folder.path} cannot be written ({error}); rows wait in {self._spill_path}")
            self._stuck = True
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue and self._closing:
                    return
                # The spill holds what is older than the queue: it goes home first.
                spilled = self._take_spill()
                batch = [] if spilled else self._take_batch()
                self._in_flight = spilled or [contents for target, contents in batch if not target]
            if self._in_flight:
                self._write_lines(self._in_flight)
            for target, contents in batch:
                if target.startswith("file:"):
                    super().put_file(target[5:], contents)
                elif target:
                    super().append_text(target[5:], contents)
            with self._changed:
                self._in_flight = []
                self._changed.notify_all()

    def _open(self) -> None:
        if self._prepare is not None:
            self.row, self._attempt = self._prepare()
        while not self.begin_segment():
            if self._closing:
                raise OSError("it still could not be written when the run ended")
            time.sleep(0.5)
        self._lost = 0

    def _take_spill(self) -> list[bytes]:
        if not self._spill_count:
            return []
        with open(self._spill_path, "rb") as file:
            if not self._spill_taken:
                self._spill_taken = len(file.readline())
            file.seek(self._spill_taken)
            lines = file.readlines(_BATCH_BYTES)
        self._spill_taken += sum(map(len, lines))
        self._spill_count -= len(lines)
        if not self._spill_count:
            os.unlink(self._spill_path)
            self._spill_taken = 0
        return lines

    def _take_batch(self) -> list[tuple[str, bytes]]:
        batch: list[tuple[str, bytes]] = []
        taken = 0
        while self._queue and taken < _BATCH_BYTES:
            item = self._queue.popleft()
            taken += len(item[1])
            batch.append(item)
        self._bytes -= taken
        return batch

    def _write_lines(self, lines: list[bytes]) -> None:
        for start in range(0, len(lines), 1000):
            part = lines[start : start + 1000]
            text = b"".join(number_line(line, self.row + at) for at, line in enumerate(part))
            while True:
                try:
                    written = os.write(self._fd, text)
                except OSError as error:
                    # Nothing is given up here: the queue behind spills to the local disk meanwhile.
                    if self._closing:
                        self._stuck = True
                        self._in_flight = lines[start:]
                        return
                    self.count_lost(error)
                    time.sleep(0.5)
                    continue
                if written < len(text):
                    text = text[written:]
                    continue
                break
            self._lost = 0
            self.row += len(part)
            self._size += sum(map(len, part))
        from lossbook.journal import writer

        if self._size > writer.SEGMENT_BYTES:
            self.begin_segment()

    def wait_until_open(self, timeout_seconds: float) -> bool:
        """Wait for the file system to take the first segment; False when it does not in time."""
        deadline = time.monotonic() + timeout_seconds
        while self._fd < 0 and not self._stuck and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._fd >= 0

    def sync(self, timeout_seconds: float = 5.0) -> bool:
        """Wait for the queue to be written, then fsync; False when the file system did not answer in time."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: not self._queue and not self._spill_count and not self._in_flight, timeout_seconds
            )
        return done and self._sync_in_time(timeout_seconds)

    def _sync_in_time(self, timeout_seconds: float) -> bool:
        result: list[bool] = []
        worker = threading.Thread(target=lambda: result.append(Journal.sync(self)), daemon=True)
        worker.start()
        worker.join(timeout_seconds)
        return bool(result and result[0])

    def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Write what is queued; what the file system does not take in time stays in the spill file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive() or self._stuck:
            with self._changed:
                self._spill_rest()
            if self._spill_count:
                self._warn(
                    f"{self._folder.path} did not answer: {self._spill_count} rows wait in {self._spill_path}; "
                    "`lossbook seal` adds them to the run when it does"
                )
            return
        super().close()

    def _spill_rest(self) -> None:
        """Put what has not been written, in its order, into the spill file: in flight, spilled, queued."""
        spilled: list[bytes] = []
        while self._spill_count:
            spilled += self._take_spill()
        for line in [*self._in_flight, *spilled]:
            self._to_spill("", line)
        self._in_flight = []
        while self._queue:
            self._to_spill(*self._queue.popleft())


def number_line(line: bytes, row: int) -> bytes:
    """Give an encoded line its row number."""
    return b'{"i":%d%b' % (row, line[line.index(b",") :])


def bring_home(folder: RunFolder | None = None) -> list[str]:
    """Add rows that were left in spill files of dead processes to their runs.

    Args:
        folder: only this run's; None for every run whose store answers.

    Returns:
        One sentence for each spill file dealt with.
    """
    done = []
    try:
        names = sorted(name for name in os.listdir(spill_folder()) if name.endswith(".jsonl"))
    except OSError:
        return []
    for name in names:
        path = os.path.join(spill_folder(), name)
        head = first_row(path)
        if head is None or head.kind != "spill":
            continue
        home = RunFolder(str(head.body["folder"]))
        if folder is not None and os.path.abspath(folder.path) != home.path:
            continue
        if is_alive(int(head.body["pid"]), head.body.get("start"), head.body.get("boot")):
            continue
        if head.body.get("identity") and not os.path.exists(home.run_json):
            os.makedirs(home.journal, exist_ok=True)
            write_json(home.run_json, head.body["identity"])
        count = _bring_one_home(path, name, home, int(head.body["rank"]), head.body["attempt"])
        done.append(f"{count} rows that waited in {path} were added to {home.path}")
    return done


def _bring_one_home(path: str, name: str, home: RunFolder, rank: int, attempt: dict[str, Any]) -> int:
    with open(path, "rb") as file:
        lines = [line for line in file.read().splitlines(keepends=True)[1:] if line.endswith(b"\n")]
    present = {
        str(head.body.get("spill"))
        for segment in journal_segments(home.journal)
        if (head := first_row(segment.path)) is not None
    }
    if name not in present and lines:
        # A write that was under way when the process ended may have arrived after all: those rows are there.
        last = max((part for part in journal_segments(home.journal) if part.name.rank == rank), default=None)
        arrived: set[bytes] = set()
        if last is not None:
            with open(last.path, "rb") as file:
                arrived = {line[line.index(b",") :] for line in file if b"," in line}
        lines = [line for line in lines if line[line.index(b",") :] not in arrived]
        row = next_row(home, rank)
        number = next_segment(home, rank)
        head_line = encode_event(
            row, time.time_ns() // 1000, None, "attempt", None, {**attempt, "continues": True, "spill": name}
        )
        text = head_line + b"".join(number_line(line, row + 1 + at) for at, line in enumerate(lines))
        os.makedirs(home.journal, exist_ok=True)
        partial = os.path.join(home.journal, f"{name}.tmp")
        with open(partial, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, os.path.join(home.journal, f"{SegmentName(rank, number, number).stem}.jsonl"))
        fsync_folder(home.journal)
    os.unlink(path)
    return len(lines)
