"""Writes one journal: a row is in the page cache when its append returns, so SIGKILL cannot take it.

One `Journal` belongs to one process and one rank; nobody else ever writes its files, so there are no locks
between processes. A segment that has grown past `SEGMENT_BYTES` is left behind and a new one begun; sealing takes
it from there.

A writer looks after its file, as `current_segment` says: about every `LOOK_SECONDS` while rows come, and with each row
of another kind, `sync()` and new segment.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from math import isfinite

import orjson

from lossbook.handlers import is_of_handler
from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.bounded_text import append_bounded
from lossbook.journal.clock import RowClock, count_ns
from lossbook.journal.current_segment import UNUSABLE, CurrentSegment
from lossbook.journal.flush import flush_file
from lossbook.journal.gate import TAKEN, Gate
from lossbook.journal.home import Home
from lossbook.journal.line import NEWLINE, encode_event, encode_scalars, number_line
from lossbook.journal.segment_numbers import next_segment
from lossbook.journal.side_files import write_once
from lossbook.json_shapes import JsonObject
from lossbook.paths import (
    RunFolder,
    SegmentName,
    make_folder,
)
from lossbook.processes import host_name

#: A live segment is read as JSON by everybody who looks at a running run: 8 MB parse in about 0.1 s.
SEGMENT_BYTES = 8 << 20
_named_bytes = os.environ.get("LOSSBOOK_SEGMENT_BYTES", "")
if _named_bytes.isdecimal() and int(_named_bytes) > 0:
    SEGMENT_BYTES = int(_named_bytes)
_LARGEST_STEP = (1 << 63) - 1
_DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
#: A disk that takes a row now and then is said to be full once in that time.
QUIET_SECONDS = 60.0
#: How long rows go into a file before the writer looks again whether the file is still at its path.
LOOK_SECONDS = 0.5

_dumps = orjson.dumps
#: The system's own, looked up once; tests put a disk that is full in its place.
write_bytes = os.write


class NotPlain(Exception):
    """The scalars are not all finite `int` and `float` under string keys: they need the careful path."""


class Journal(CurrentSegment):
    """The journal of one process, durable against the death of the process.

    Args:
        folder: the run's folder, or the `Home` that finds it.
        rank: which writer this is; the names of its files begin with it.
        attempt: the first row of each segment.
        row: the number of the first row.
        warn: called with one sentence when rows are being lost, when they no longer are, and when the file was gone.
    """

    __slots__ = (
        "_clock",
        "_line",
        "_look_at",
        "_lost",
        "_said",
        "_since_us",
        "_synced",
        "_turning",
        "_was_set",
        "attempt",
        "step",
    )

    def __init__(
        self,
        folder: RunFolder | Home,
        rank: int,
        attempt: AttemptRow,
        *,
        row: int = 0,
        step: int = -1,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(folder, rank, row=row, warn=warn)
        self.attempt = attempt
        self._lost = 0
        self._clock = RowClock()
        self._since_us = self._clock.since_us
        self._was_set = False
        self._synced = 0
        self._said = -QUIET_SECONDS
        self._turning = False
        # The row that `append` encodes: filled anew for each, as another dictionary a row is what costs.
        self._line: dict[str, object] = {"i": row, "t": 0, "s": step, "m": None}
        self._look_at = 0
        self.step = step

    # -- the path that every row takes ------------------------------------------------------------------------

    def append(self, scalars: dict[str, float], step: int | None) -> None:
        """Write one row of scalars with one `write(2)`.

        Args:
            step: None for the last step + 1.

        Raises:
            NotPlain, TypeError, OverflowError: nothing was written; `append_scalars` takes what this cannot.
            OSError: nothing was written (a full disk, say).
        """
        # One statement without a call: no other thread, signal handler or debugger can come between look and claim.
        gate, self._gate = self._gate, self._gate or TAKEN
        if gate:
            self._append_among_others(scalars, step)
            return
        try:
            if step is None:
                step = self.step + 1
            elif type(step) is not int or step > _LARGEST_STEP:
                raise NotPlain
            # Whoever interrupts this finds the gate taken, and does not use the dictionary.
            fields = self._line
            fields["i"] = row = self.row
            fields["t"] = now_us = count_ns() // 1000 + self._since_us
            fields["s"] = step
            fields["m"] = scalars
            line = _dumps(fields, None, NEWLINE)
            # A finite sum proves that every value is a finite number: strings, None, lists and dictionaries,
            # which orjson takes as well, cannot be added, and NaN or infinity stay in the sum. A row number that
            # has moved was used by a signal handler meanwhile.
            if not isfinite(sum(scalars.values())) or self.row != row:
                raise NotPlain
            # The row number moves before the write: an interrupt between the two calls must not use it twice.
            self.row = row + 1
            self.step = step
            try:
                written = write_bytes(self._fd, line)
            except BaseException as error:
                if not isinstance(error, OSError) or is_of_handler(error):
                    self._complete(row, line)
                    raise
                self.row = row
                if self._fd < 0:
                    self.step = step - 1  # it is counted once more where the file is opened
                    raise NotPlain from None
                raise
            self._size += written
            if written != len(line) or now_us > self._look_at or self._size > SEGMENT_BYTES:
                self._after_write(line, written)
        except BaseException:
            self._line["m"] = None  # it may be a tensor, whose memory training wants back
            raise
        finally:
            self._gate = self._left_as

    def _append_among_others(self, scalars: dict[str, float], step: int | None) -> None:
        """`append` where other threads write as well, or in a signal handler that has interrupted it."""
        if self._fd < 0 or not (step is None or (type(step) is int and step <= _LARGEST_STEP)):
            raise NotPlain
        if not isfinite(sum(scalars.values())):
            raise NotPlain
        self._alone(lambda: self._append_plain(scalars, step))

    def _append_plain(self, scalars: dict[str, float], step: int | None) -> None:
        if step is None:
            step = self.step + 1
        now_us = self.now_us()
        self._write_line(lambda row: _dumps({"i": row, "t": now_us, "s": step, "m": scalars}, None, NEWLINE))
        self.step = step

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        """Write one row of any floats; what cannot be written is counted as lost, never raised.

        Args:
            time_us: when it was logged, if that was earlier (µs); `log()` has counted its step by then.
        """
        self._alone(lambda: self._append_scalars(scalars, step, time_us))

    def _append_scalars(self, scalars: dict[str, float], step: int | None, time_us: int | None) -> None:
        counted = self.step + 1 if step is None else step
        if time_us is None:
            self.step = counted
        self._write_line(
            lambda row: encode_scalars(row, time_us if time_us is not None else self.now_us(), counted, scalars)
        )

    def append_refused(self, error: OSError, scalars: dict[str, float], step: int | None) -> None:
        """Deal with a row that `append` could not write: into another file where its own is gone, else count it."""
        if error.errno in UNUSABLE:
            self.append_scalars(scalars, self.step if step is None else step)
        else:
            self.count_lost(error)

    def append_event(self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None) -> None:
        """Write one row of another kind; what cannot be written is counted as lost, never raised."""

        def write() -> None:
            self._look()
            self._write_line(lambda row: encode_event(row, self.now_us(), step, kind, key, value))

        self._alone(write)

    def append_line(self, line: bytes) -> None:
        """Write a row that was encoded before, with the number that is its turn; as `append_event` otherwise."""
        self._alone(lambda: self._write_line(lambda row: number_line(line, row)))

    def now_us(self) -> int:
        """The time of a row that is logged now; a clock that is set meanwhile does not change it."""
        return count_ns() // 1000 + self._since_us

    def _write_line(self, encode: Callable[[int], bytes]) -> None:
        if self._fd < 0 and not self._begin_segment():
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
        except BaseException as error:
            if not isinstance(error, OSError) or is_of_handler(error):
                self._complete(row, line)
                raise
            self.row = row
            if error.errno in UNUSABLE and not self._turning and self._look():
                self._write_line(encode)
            else:
                self.count_lost(error)
            return
        self._size += written
        self._after_write(line, written)

    def _after_write(self, line: bytes, written: int) -> None:
        """Deal with what happens rarely: a short write, space that returned, a look at the file, a full segment."""
        while written != len(line):
            try:
                more = write_bytes(self._fd, line[written:])
            except BaseException as error:
                self._take_back(written)
                if not isinstance(error, OSError) or is_of_handler(error):
                    raise
                self.count_lost(error)
                return
            written += more
            self._size += more
        if self._lost:
            self._tell_lost()
        if self.now_us() > self._look_at:
            self._look()
        if self._size > SEGMENT_BYTES:
            self._begin_segment()

    def _complete(self, row: int, line: bytes) -> None:
        """See to it that a line is in the file whole, and once, when an exception came in the midst of its write."""
        if self.row != row + 1:
            return  # a signal handler has logged: what it wrote is not told from this line
        try:
            there = os.fstat(self._fd).st_size - self._size
            if there < len(line):
                there += write_bytes(self._fd, line[max(there, 0) :])
            self._size += there
        except OSError:
            pass

    def _take_back(self, written: int) -> None:
        """Remove the half line at the end, which would cost the next row too."""
        self._size -= written
        self.row -= 1
        try:
            # By the file's own size: an interrupt may have kept ours from being counted up.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
        except OSError:
            # Left behind as a torn last line, it costs nothing: the next row begins another segment.
            self._close_file()

    def _tell_lost(self) -> None:
        """Say how many rows were lost, now that they are written again."""
        lost, self._lost = self._lost, 0
        message = f"{lost} rows could not be written to {self.path} and are lost; logging goes on now"
        self._write_line(
            lambda row: encode_event(row, self.now_us(), None, "warning", None, {"message": message, "lost": lost})
        )
        if self._lost:
            # There was no room for this one: the count goes on, and it is no row of the user's.
            self._lost = lost
        else:
            self._warn(message)

    def count_lost(self, error: OSError) -> None:
        """Count one row that the disk did not take; the first of a series is said loudly."""
        if is_of_handler(error):
            raise error
        self._lost += 1
        self._look_at = -1  # the next row that is written tells how many were lost
        now = time.monotonic()
        if self._lost == 1 and now - self._said >= QUIET_SECONDS:
            self._said = now
            why = "the disk is full" if error.errno in _DISK_FULL else str(error.strerror or error)
            self._warn(
                f"ROWS ARE BEING LOST: {self.folder.path} cannot be written ({why}); "
                "make room and logging resumes by itself"
            )

    # -- segments -----------------------------------------------------------------------------------------------

    def begin_segment(self) -> bool:
        """Begin the next segment; when that fails the current one goes on (False when there is none)."""
        return self._alone(self._begin_segment)

    def _begin_segment(self) -> bool:
        if self._turning:
            # A signal handler logs while the segment is being changed.
            if self._fd < 0:
                self._lost += 1
            return self._fd >= 0
        if self._fd >= 0:
            self._look()
        self._turning = True
        try:
            return self._turn_over()
        finally:
            self._turning = False

    def _turn_over(self) -> bool:
        number = self.segment + 1 if self.segment else next_segment(self.folder, self.rank)
        before = self._fd, self._size, self.segment, self.path
        fd = -1
        path = ""
        try:
            fd, number, path = self._home.open_segment(self.rank, number, has_begun=self.segment > 0)
            value = (self.attempt.continued() if self.segment else self.attempt).to_json()
            row = -1
            while row != self.row:
                row = self.row
                head = encode_event(row, self.now_us(), None, "attempt", None, value)
                size = len(head)
            before = self._fd, self._size, self.segment, self.path
            # No call stands between here and the write, so no signal handler can log a row in front of the head.
            self._fd, self._size, self.segment, self.path, self.row = fd, size, number, path, row + 1
            if write_bytes(fd, head) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException as error:
            if fd >= 0 and (self._fd != fd or self.row == row + 1):
                if self._fd == fd:
                    self._fd, self._size, self.segment, self.path = before
                    self.row = row
                os.close(fd)
                try:
                    os.unlink(path)
                except OSError:
                    pass
            if not isinstance(error, OSError) or is_of_handler(error):
                raise
            if self._fd < 0:
                self.count_lost(error)
            return self._fd >= 0
        if before[0] >= 0:
            os.close(before[0])
        self._synced = self._synced or number
        self._first_row = row
        self._look_at = self.now_us() + int(LOOK_SECONDS * 1e6)
        self._know_file()
        return True

    # -- looking after the file -----------------------------------------------------------------------------------

    def look(self) -> bool:
        """See whether the file is still at its path, and go on in the right place where it is not.

        Returns:
            Whether all that was written is in files of the run.
        """
        return self._alone(self._look)

    def _look(self) -> bool:
        if self._turning:
            return False
        self._look_at = self.now_us() + int(LOOK_SECONDS * 1e6)
        self._look_at_clock()
        if self._fd >= 0 and not self._is_at_its_path():
            self._turning = True
            try:
                self._go_home()
            except OSError as error:
                if is_of_handler(error):
                    raise
                self._say_stray(error)
            finally:
                self._turning = False
        if self._lost:
            self._look_at = -1
        return not (self._stray or self._missing)

    def _look_at_clock(self) -> None:
        """See whether the machine has slept, or its clock was set; the latter is told once."""
        stepped = self._clock.look()
        self._since_us = self._clock.since_us
        if not stepped or self._was_set or self._fd < 0:
            return
        self._was_set = True
        message = (
            f"the clock of {host_name()} was set {'forward' if stepped > 0 else 'back'} by {abs(stepped):,.0f} s while the "
            "run was written; the times of its rows go on as if it had not been"
        )
        self._write_line(lambda row: encode_event(row, self.now_us(), None, "warning", None, {"message": message}))

    # -- files beside the journal -----------------------------------------------------------------------------------

    def put_file(self, path: str, contents: bytes) -> None:
        """Keep a file of the run (media, say) unless it is there already; `path` is inside the run's folder."""
        try:
            self.look()
            self.note_file(path)
            write_once(os.path.join(self.folder.path, path), contents)
        except OSError as error:
            self.count_lost(error)

    def append_text(self, path: str, text: bytes) -> None:
        """Append raw bytes to a side file (the console), whose middle goes when it is large; never raises."""
        where = os.path.join(self.folder.path, path)
        try:
            try:
                append_bounded(where, text)
            except FileNotFoundError as error:
                if is_of_handler(error):
                    raise
                self.look()  # the run may have been moved
                where = os.path.join(self.folder.path, path)
                make_folder(os.path.dirname(where))
                append_bounded(where, text)
        except OSError as error:
            if is_of_handler(error):
                raise

    # -- the end ----------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Make every row written so far survive power loss; False when the disk refused, or has not taken every row."""
        return self._flush() and not self._lost

    def _flush(self) -> bool:
        if self._fd < 0:
            return not self._missing
        is_whole = self.look()
        try:
            for number in range(self._synced or self.segment, self.segment):
                # Those that were sealed are safe already.
                flush_file(os.path.join(self.folder.journal, f"{SegmentName(self.rank, number, number).stem}.jsonl"))
            self._synced = self.segment
            # Another thread may begin the next segment meanwhile, and must not wait for the disk.
            fd = self._alone(lambda: os.dup(self._fd))
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            self._unflushed.flush(self.folder)
        except OSError as error:
            if is_of_handler(error):
                raise
            self._warn(f"{self.folder.path} could not be flushed to disk ({error.strerror or error})")
            return False
        return is_whole

    def close(self, *, timeout_seconds: float = 0.0) -> None:
        """Close the file; later rows begin a new segment."""
        self._alone(self._close_file)
        self._home.release()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def forget(self) -> Home:
        """Let go of the parent's file in a forked child, where closing the descriptor is all that may be done.

        Returns:
            What finds the run's folder, for the child's own journal.
        """
        if self._fd >= 0:
            try:
                os.close(self._fd)
            except OSError:
                pass
            self._fd = -1
        return self._home


Journal.passing_code = (*Gate.passing_code, Journal.append.__code__)
