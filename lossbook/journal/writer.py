"""Writes one journal: a row is in the page cache when its append returns, so SIGKILL cannot take it.

One `Journal` belongs to one process and one rank; nobody else ever writes its files, so there are no locks
between processes. A segment that has grown past `SEGMENT_BYTES` is left behind and a new one begun; sealing takes
it from there.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable

import orjson

from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.line import NEWLINE, encode_event, encode_scalars
from lossbook.journal.segment_numbers import next_segment
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, SegmentName, fsync_folder, make_folder, replace_file

#: A live segment is read as JSON by everybody who looks at a running run: 8 MB parse in about 0.1 s.
SEGMENT_BYTES = 8 << 20
_named_bytes = os.environ.get("LOSSBOOK_SEGMENT_BYTES", "")
if _named_bytes.isdecimal() and int(_named_bytes) > 0:
    SEGMENT_BYTES = int(_named_bytes)
_LARGEST_STEP = (1 << 63) - 1
_DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
#: A disk that takes a row now and then is said to be full once in that time.
QUIET_SECONDS = 60.0

_dumps = orjson.dumps
#: The system's own, looked up once; tests put a disk that is full and a clock that goes back in their place.
write_bytes = os.write
clock_ns = time.time_ns


class NotPlain(Exception):
    """The scalars are not all finite `int` and `float` under string keys: they need the careful path."""


class Journal:
    """The journal of one process, durable against the death of the process.

    Args:
        folder: the run's folder.
        rank: which writer this is; the names of its files begin with it.
        attempt: the first row of each segment.
        row: the number of the first row.
        warn: called with one sentence when rows are being lost, and when they no longer are.
    """

    __slots__ = (
        "_fd",
        "_folder",
        "_lock",
        "_lost",
        "_said",
        "_size",
        "_synced",
        "_turning",
        "_warn",
        "attempt",
        "path",
        "rank",
        "row",
        "segment",
        "step",
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
    ) -> None:
        self._folder = folder
        self.attempt = attempt
        # Re-entrant, because a signal handler of the same thread may log while a row is being written.
        self._lock = threading.RLock()
        self._warn = warn or (lambda sentence: print(f"lossbook: {sentence}", file=sys.stderr))
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._synced = 0
        self._said = -QUIET_SECONDS
        self._turning = False
        self.rank = rank
        self.row = row
        self.step = step
        self.segment = 0
        self.path = ""

    # -- the path that every row takes ------------------------------------------------------------------------

    def append(self, scalars: dict[str, float], step: int | None) -> None:
        """Write one row of scalars with one `write(2)`.

        Args:
            step: None for the last step + 1.

        Raises:
            NotPlain, TypeError, OverflowError: nothing was written; `append_scalars` takes what this cannot.
            OSError: nothing was written (a full disk, say).
        """
        with self._lock:
            if step is None:
                step = self.step + 1
            elif type(step) is not int or step > _LARGEST_STEP:
                raise NotPlain
            row = self.row
            line = _dumps({"i": row, "t": clock_ns() // 1000, "s": step, "m": scalars}, None, NEWLINE)
            # A finite sum proves that every value is a finite number: strings, None, lists and dictionaries,
            # which orjson takes as well, cannot be added, and NaN or infinity stay in the sum.
            total = sum(scalars.values())
            size = len(line)
            if total - total != 0 or self.row != row or self._fd < 0:
                raise NotPlain
            # The row number moves before the write: an interrupt between the two calls must not use it twice.
            self.row = row + 1
            self.step = step
            try:
                written = write_bytes(self._fd, line)
            except OSError:
                self.row = row
                raise
            self._size += written
            if written != size or self._lost or self._size > SEGMENT_BYTES:
                self._after_write(line, written)

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        """Write one row of any floats; what cannot be written is counted as lost, never raised.

        Args:
            time_us: when it was logged, if that was earlier (µs); `log()` has counted its step by then.
        """
        with self._lock:
            if step is None:
                step = self.step + 1
            if time_us is None:
                self.step = step
            self._write_line(
                lambda row: encode_scalars(row, time_us if time_us is not None else self._now_us(), step, scalars)
            )

    def append_event(self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None) -> None:
        """Write one row of another kind; what cannot be written is counted as lost, never raised."""
        with self._lock:
            self._write_line(lambda row: encode_event(row, self._now_us(), step, kind, key, value))

    def _now_us(self) -> int:
        """The time of a row that has none of its own."""
        return clock_ns() // 1000

    def _write_line(self, encode: Callable[[int], bytes]) -> None:
        if self._fd < 0 and not self.begin_segment():
            return
        row = self.row
        line = encode(row)
        if self.row != row or self._fd < 0:
            # A signal handler has logged meanwhile.
            self._write_line(encode)
            return
        self.row = row + 1
        try:
            written = write_bytes(self._fd, line)
        except OSError as error:
            self.row = row
            self.count_lost(error)
            return
        self._size += written
        self._after_write(line, written)

    def _after_write(self, line: bytes, written: int) -> None:
        """Deal with what happens rarely: a short write, space that returned, a full segment."""
        while written != len(line):
            try:
                more = write_bytes(self._fd, line[written:])
            except OSError as error:
                self._take_back(written)
                self.count_lost(error)
                return
            written += more
            self._size += more
        if self._lost:
            self._tell_lost()
        if self._size > SEGMENT_BYTES:
            self.begin_segment()

    def _take_back(self, written: int) -> None:
        """Remove the half line at the end, which would cost the next row too."""
        self._size -= written
        self.row -= 1
        try:
            # By the file's own size: an interrupt may have kept ours from being counted up.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
        except OSError:
            # Left behind as a torn last line, it costs nothing: the next row begins another segment.
            Journal.close(self)

    def _tell_lost(self) -> None:
        """Say how many rows were lost, now that they are written again."""
        lost, self._lost = self._lost, 0
        message = f"{lost} rows could not be written to {self.path} and are lost; logging goes on now"
        self._write_line(
            lambda row: encode_event(row, clock_ns() // 1000, None, "warning", None, {"message": message, "lost": lost})
        )
        if self._lost:
            # There was no room for this one: the count goes on, and it is no row of the user's.
            self._lost = lost
        else:
            self._warn(message)

    def count_lost(self, error: OSError) -> None:
        """Count one row that the disk did not take; the first of a series is said loudly."""
        self._lost += 1
        now = time.monotonic()
        if self._lost == 1 and now - self._said >= QUIET_SECONDS:
            self._said = now
            why = "the disk is full" if error.errno in _DISK_FULL else str(error.strerror or error)
            self._warn(
                f"ROWS ARE BEING LOST: {self._folder.path} cannot be written ({why}); "
                "make room and logging resumes by itself"
            )

    # -- segments -----------------------------------------------------------------------------------------------

    def begin_segment(self) -> bool:
        """Begin the next segment; when that fails the current one goes on (False when there is none)."""
        if self._turning:
            # A signal handler logs while the segment is being changed.
            if self._fd < 0:
                self._lost += 1
            return self._fd >= 0
        self._turning = True
        try:
            return self._turn_over()
        finally:
            self._turning = False

    def _turn_over(self) -> bool:
        number = self.segment + 1 if self.segment else next_segment(self._folder, self.rank)
        before = self._fd, self._size, self.segment, self.path
        fd = -1
        path = ""
        try:
            while True:
                path = os.path.join(self._folder.journal, f"{SegmentName(self.rank, number, number).stem}.jsonl")
                try:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
                    break
                except FileExistsError:
                    number += 1
                except FileNotFoundError:
                    os.makedirs(self._folder.journal, exist_ok=True)
            value = (self.attempt.continued() if self.segment else self.attempt).to_json()
            row = -1
            while row != self.row:
                row = self.row
                head = encode_event(row, self._now_us(), None, "attempt", None, value)
                size = len(head)
            before = self._fd, self._size, self.segment, self.path
            # No call stands between here and the write, so no signal handler can log a row in front of the head.
            self._fd, self._size, self.segment, self.path, self.row = fd, size, number, path, row + 1
            if write_bytes(fd, head) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if fd >= 0:
                if self._fd == fd:
                    self._fd, self._size, self.segment, self.path = before
                    self.row = row
                os.close(fd)
                try:
                    os.unlink(path)
                except OSError:
                    pass
            if self._fd < 0:
                self.count_lost(error)
            return self._fd >= 0
        if before[0] >= 0:
            os.close(before[0])
        self._synced = self._synced or number
        return True

    def put_file(self, path: str, contents: bytes) -> None:
        """Keep a file of the run (media, say) unless it is there already; `path` is inside the run's folder."""
        try:
            write_once(path, contents)
        except OSError as error:
            self.count_lost(error)

    def append_text(self, path: str, text: bytes) -> None:
        """Append raw bytes to a side file (the console); nothing is said when that fails."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            try:
                make_folder(os.path.dirname(path))
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError:
                return
        except OSError:
            return
        try:
            write_bytes(fd, text)
        except OSError:
            pass
        finally:
            os.close(fd)

    def sync(self) -> bool:
        """Make every row written so far survive power loss; False when the disk refused."""
        if self._fd < 0:
            return True
        try:
            self._sync_older_segments()
            with self._lock:
                # Another thread may begin the next segment meanwhile, and must not wait for the disk.
                fd = os.dup(self._fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._warn(f"{self.path} could not be flushed to disk ({error.strerror})")
            return False
        fsync_folder(self._folder.journal)
        fsync_folder(self._folder.path)
        return True

    def _sync_older_segments(self) -> None:
        """Flush the segments left behind since the last time; those that were sealed are safe already."""
        for number in range(self._synced or self.segment, self.segment):
            path = os.path.join(self._folder.journal, f"{SegmentName(self.rank, number, number).stem}.jsonl")
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self._synced = self.segment

    def close(self, *, timeout_seconds: float = 0.0) -> None:
        """Close the file; later rows begin a new segment."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def forget(self) -> None:
        """Let go of the parent's file in a forked child, where closing the descriptor is all that may be done."""
        if self._fd >= 0:
            try:
                os.close(self._fd)
            except OSError:
                pass
            self._fd = -1


def write_once(path: str, contents: bytes) -> None:
    """Write a content-addressed file: present means complete."""
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    replace_file(path, contents, durable=False)
