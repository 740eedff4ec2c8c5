"""Writing one journal: a row is in the page cache when its append returns, so SIGKILL cannot take it.

One `Journal` belongs to one process and one rank; nobody else ever writes its files, so there are no locks
between processes. A segment that has grown past `SEGMENT_BYTES` is left behind and a new one begun; whoever
seals segments takes it from there. `AsyncJournal` (in `journal.spill`) keeps the same promises to a training
thread that must not wait for a network file system.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from lossbook.journal.line import NEWLINE, encode_event, encode_scalars
from lossbook.journal.reader import journal_segments, last_row
from lossbook.layout import RunFolder, SegmentName, fsync_folder, parse_segment_name, read_json

#: A live segment is read as JSON by everybody who looks at a running run: 8 MB parse in about 0.1 s.
SEGMENT_BYTES = int(os.environ.get("LOSSBOOK_SEGMENT_BYTES", 8 << 20))
_LARGEST_STEP = (1 << 63) - 1
_DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))

_dumps = orjson.dumps
_write = os.write
_time_ns = time.time_ns


class NotPlain(Exception):
    """The scalars are not all finite `int` and `float` under string keys: they need the careful path."""


class Attempt(dict[str, Any]):
    """The contents of the `attempt` row that begins every segment of one process's journal."""


class Journal:
    """The journal of one process, durable against the death of the process.

    Args:
        folder: the run's folder.
        rank: which writer this is; the names of its files begin with it.
        attempt: what the first row of each segment says of this attempt.
        row: the number of the first row.
        warn: called with one sentence when rows are being lost, and when they no longer are.
    """

    __slots__ = ("_attempt", "_fd", "_folder", "_lock", "_lost", "_size", "_synced", "_warn", "path", "rank",
                 "row", "segment", "step")  # fmt: skip

    def __init__(
        self, folder: RunFolder, rank: int, attempt: Attempt, *, row: int = 0, step: int = -1,
        warn: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._attempt = attempt
        # Re-entrant, because a signal handler of the same thread may log while a row is being written.
        self._lock = threading.RLock()
        self._warn = warn or (lambda sentence: print(f"lossbook: {sentence}", file=sys.stderr))
        self._lost = 0
        self._fd = -1
        self._size = 0
        self._synced = 0
        self.rank = rank
        self.row = row
        self.step = step
        self.segment = 0
        self.path = ""

    # -- the path that every row takes ------------------------------------------------------------------------

    def append(self, scalars: dict[str, Any], step: int | None) -> None:
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
            line = _dumps({"i": row, "t": _time_ns() // 1000, "s": step, "m": scalars}, None, NEWLINE)
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
                written = _write(self._fd, line)
            except OSError:
                self.row = row
                raise
            self._size += written
            if written != size or self._lost or self._size > SEGMENT_BYTES:
                self._after_write(line, written)

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        """Write one row of any floats; what cannot be written is counted as lost, never raised."""
        with self._lock:
            if step is None:
                step = self.step + 1
            self.step = step
            self._write_line(
                lambda row: encode_scalars(row, time_us if time_us is not None else _time_ns() // 1000, step, scalars)
            )

    def append_event(
        self, kind: str, value: dict[str, Any], *, key: str | None = None, step: int | None = None
    ) -> None:
        """Write one row of another kind; what cannot be written is counted as lost, never raised."""
        with self._lock:
            self._write_line(lambda row: encode_event(row, _time_ns() // 1000, step, kind, key, value))

    def _write_line(self, encode: Callable[[int], bytes]) -> None:
        if self._fd < 0 and not self.begin_segment():
            return
        row = self.row
        line = encode(row)
        self.row = row + 1
        try:
            written = _write(self._fd, line)
        except OSError as error:
            self.row = row
            self.count_lost(error)
            return
        self._size += written
        self._after_write(line, written)

    def _after_write(self, line: bytes, written: int) -> None:
        """Deal with what happens rarely: a short write, space that returned, a full segment."""
        if written != len(line):
            try:
                self._size += _write(self._fd, line[written:])
            except OSError as error:
                # Half a line would cost the next row too: take it back.
                self._size -= written
                self.row -= 1
                try:
                    os.ftruncate(self._fd, self._size)
                except OSError:
                    pass
                self.count_lost(error)
                return
        if self._lost:
            lost, self._lost = self._lost, 0
            message = f"{lost} rows could not be written to {self.path} and are lost; logging goes on now"
            self._write_line(
                lambda row: encode_event(
                    row, _time_ns() // 1000, None, "warning", None, {"message": message, "lost": lost}
                )
            )
            if not self._lost:
                self._warn(message)
        if self._size > SEGMENT_BYTES:
            self.begin_segment()

    def count_lost(self, error: OSError) -> None:
        """Count one row that the disk did not take; the first of a series is said loudly."""
        self._lost += 1
        if self._lost == 1:
            why = "the disk is full" if error.errno in _DISK_FULL else str(error.strerror or error)
            self._warn(
                f"ROWS ARE BEING LOST: {self._folder.path} cannot be written ({why}); "
                "make room and logging resumes by itself"
            )

    # -- segments -----------------------------------------------------------------------------------------------

    def begin_segment(self) -> bool:
        """Begin the next segment; when that fails the current one goes on (False when there is none)."""
        number = self.segment + 1 if self.segment else next_segment(self._folder, self.rank)
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
                    os.makedirs(self._folder.journal)
            value = dict(self._attempt, continues=True) if self.segment else dict(self._attempt)
            head = encode_event(self.row, _time_ns() // 1000, None, "attempt", None, value)
            if _write(fd, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                os.unlink(path)
            if self._fd < 0:
                self.count_lost(error)
            return self._fd >= 0
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self.segment, self.path = fd, len(head), number, path
        self._synced = self._synced or number
        self.row += 1
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
                os.makedirs(os.path.dirname(path), exist_ok=True)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            except OSError:
                return
        except OSError:
            return
        try:
            _write(fd, text)
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
            os.fsync(self._fd)
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
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

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
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        with open(partial, "wb") as file:
            file.write(contents)
        os.replace(partial, path)
    except OSError:
        try:
            os.unlink(partial)
        except OSError:
            pass
        raise


def next_segment(folder: RunFolder, rank: int) -> int:
    """One more than the highest segment number of a rank, sealed or not."""
    highest = 0
    for directory in (folder.journal, folder.metrics):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for filename in names:
            name = parse_segment_name(filename)
            if name is not None and name.rank == rank:
                highest = max(highest, name.last)
    return highest + 1


def next_row(folder: RunFolder, rank: int) -> int:
    """One more than the last row number that a rank has written, from its journal or from what was sealed."""
    rows = [
        row.i + 1
        for segment in journal_segments(folder.journal)
        if segment.name.rank == rank and (row := last_row(segment.path)) is not None
    ]
    sealed = (read_json(os.path.join(folder.followers, "seal.json")) or {}).get("next_row", {}).get(f"r{rank}")
    if isinstance(sealed, int):
        rows.append(sealed)
    elif not rows or next_segment(folder, rank) > 1:
        rows.append(_next_sealed_row(folder, rank))
    return max(rows, default=0)


def _next_sealed_row(folder: RunFolder, rank: int) -> int:
    """Ask the Parquet files themselves: slow (it loads DuckDB), and only for a run without `seal.json`."""
    paths = [
        os.path.join(directory, filename)
        for directory in (folder.metrics, folder.events)
        if os.path.isdir(directory)
        for filename in os.listdir(directory)
        if filename.endswith(".parquet") and ".rollup." not in filename
        and (name := parse_segment_name(filename)) is not None and name.rank == rank
    ]  # fmt: skip
    if not paths:
        return 0
    import duckdb

    found = duckdb.connect().execute("select max(row) from read_parquet(?, union_by_name = true)", [paths]).fetchone()
    return int(found[0]) + 1 if found and found[0] is not None else 0


def next_child_rank(folder: RunFolder) -> int:
    """The next number below 0 that no child process of this run has used."""
    lowest = 0
    for directory in (folder.journal, folder.metrics):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for filename in names:
            name = parse_segment_name(filename)
            if name is not None:
                lowest = min(lowest, name.rank)
    return lowest - 1
