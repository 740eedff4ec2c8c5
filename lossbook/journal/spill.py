"""Spill files: rows that wait on the local disk while the run's file system does not answer, and their way home.

The first line of a spill file tells the run, the writer and its process; a row each follows. What is left when the
process ends stays in its file, and `bring_home` adds it to the run, each row exactly once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from lossbook.journal.attempt_row import AttemptRow, attempt_of, parse_attempt_row
from lossbook.journal.durability import file_system, is_network
from lossbook.journal.line import encode_event, number_line
from lossbook.journal.liveness import life_of
from lossbook.journal.reader import first_row, journal_segments
from lossbook.journal.takeover import add_segment
from lossbook.json_shapes import JsonObject, number_or_none, object_or_empty, text_or_none, whole_or_none
from lossbook.paths import RunFolder, cache_folder, write_json
from lossbook.processes import Life, boot_id, is_alive, process_start, this_place

_BATCH_BYTES = 1 << 20

#: Tells the number of a rank's next row in a run, sealed rows counted.
NextRow = Callable[[RunFolder, int], int]


@dataclass(frozen=True, slots=True)
class SpillHead:
    """The first line of a spill file: whose rows wait in it.

    Attributes:
        folder: the run's, as an absolute path.
        rank, attempt: the writer's.
        pid, start, boot: the process that wrote the file.
        run_json: the run's `run.json`, in case it never could be written; None where another rank writes it.
    """

    folder: str
    rank: int
    attempt: AttemptRow
    pid: int = 0
    start: float | None = None
    boot: str | None = None
    run_json: JsonObject | None = None

    @classmethod
    def of_this_process(
        cls, folder: RunFolder, rank: int, attempt: AttemptRow, run_json: JsonObject | None
    ) -> SpillHead:
        """The head of a file that this process begins now."""
        pid = os.getpid()
        return cls(os.path.abspath(folder.path), rank, attempt, pid, process_start(pid), boot_id(), run_json)

    def is_over(self, path: str) -> bool:
        """Whether the process that wrote the file at `path` has ended. Machines may share the folder of spill files."""
        attempt = self.attempt.attempt
        here = this_place()
        if attempt.host not in (None, here.host):
            return False
        if attempt.pid_namespace is None:  # of an earlier version
            return not is_alive(self.pid, self.start, self.boot)
        if self.boot != here.boot:
            # A disk of this machine's own, which was written in an earlier boot.
            return not is_network(file_system(path)[1])
        return life_of(attempt._replace(pid=self.pid, process_start=self.start, boot=self.boot)) is Life.DEAD

    def to_line(self) -> bytes:
        """As it stands in the file."""
        value: JsonObject = {
            "folder": self.folder,
            "rank": self.rank,
            "attempt": self.attempt.to_json(),
            "pid": self.pid,
            "start": self.start,
            "boot": self.boot,
            "identity": self.run_json,
        }
        return encode_event(0, time.time_ns() // 1000, None, "spill", None, value)


def read_spill_head(path: str) -> SpillHead | None:
    """Whose rows wait in a file; None where it is no spill file."""
    head = first_row(path)
    if head is None or head.kind != "spill":
        return None
    values: JsonObject = head.body
    return SpillHead(
        folder=str(values["folder"]),
        rank=whole_or_none(values.get("rank")) or 0,
        attempt=parse_attempt_row(object_or_empty(values.get("attempt"))),
        pid=whole_or_none(values.get("pid")) or 0,
        start=number_or_none(values.get("start")),
        boot=text_or_none(values.get("boot")),
        run_json=object_or_empty(values.get("identity")) or None,
    )


class SpillFile:
    """The spill file of one journal, written and read by its own process.

    Attributes:
        path: it is there while `count` is not 0.
        count: rows in it that are not home yet.
    """

    def __init__(self, run_path: str, rank: int) -> None:
        name = f"{os.path.basename(run_path)}-r{rank}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
        self.path = os.path.join(spill_folder(), name)
        self.count = 0
        self._taken_bytes = 0

    def begin(self, head: SpillHead) -> None:
        """Make the file.

        Raises:
            OSError: the local disk cannot be written.
        """
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(head.to_line())

    def append(self, line: bytes) -> None:
        """Add one row.

        Raises:
            OSError: the local disk cannot be written.
        """
        with open(self.path, "ab") as file:
            file.write(line)
        self.count += 1

    def next_lines(self) -> list[bytes]:
        """The oldest rows that are not home yet, about a megabyte of them."""
        if not self.count:
            return []
        with open(self.path, "rb") as file:
            if not self._taken_bytes:
                self._taken_bytes = len(file.readline())
            file.seek(self._taken_bytes)
            return file.readlines(_BATCH_BYTES)

    def forget(self, lines: list[bytes]) -> None:
        """Count these rows as home, also for whoever finds the file when this process is dead."""
        self._taken_bytes += sum(map(len, lines))
        self.count -= len(lines)
        if self.count:
            with open(_progress_path(self.path), "wb") as file:
                file.write(b"%d" % self._taken_bytes)
        else:
            _remove(self.path)
            self._taken_bytes = 0

    def put_in_front(self, lines: list[bytes]) -> None:
        """Add rows that are older than those that are not home yet.

        Raises:
            OSError: the local disk cannot be written; the file is as it was.
        """
        partial = f"{self.path}.tmp"
        with open(self.path, "rb") as spill, open(partial, "wb") as file:
            file.write(spill.readline())
            start = file.tell()
            file.writelines(lines)
            spill.seek(self._taken_bytes or start)
            shutil.copyfileobj(spill, file)
        try:
            os.unlink(_progress_path(self.path))
        except FileNotFoundError:
            pass
        os.replace(partial, self.path)
        self._taken_bytes = start
        self.count += len(lines)


def spill_folder() -> str:
    """Where rows wait on the local disk for their store to answer again."""
    return os.path.join(cache_folder(), "spill")


def bring_home(folder: RunFolder | None = None, *, store: str | None = None, next_row: NextRow) -> list[str]:
    """Add rows that were left in spill files of dead processes to their runs.

    Args:
        folder: only this run's; None for every run whose store answers.
        store: only those of this store.
        next_row: tells which number the first of them gets.

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
        head = read_spill_head(path)
        if head is None or (folder is not None and os.path.abspath(folder.path) != head.folder):
            continue
        if store is not None and os.path.dirname(os.path.dirname(head.folder)) != os.path.abspath(store):
            continue
        if not head.is_over(path):
            continue
        count = bring_file_home(path, next_row=next_row)
        if count is not None:
            done.append(f"{count} rows that waited in {path} were added to {head.folder}")
    return done


def bring_file_home(path: str, *, next_row: NextRow) -> int | None:
    """Add the rows of one spill file to its run, each exactly once, and remove the file.

    Returns:
        How many rows were added; None when another process is doing it, or there is no such file.

    Raises:
        OSError: the run's folder cannot be written; the file stays.
    """
    try:
        spill = open(path, "rb")  # noqa: SIM115 - closed below, where it is locked
    except FileNotFoundError:
        return None
    with spill:
        try:
            fcntl.flock(spill, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        head = read_spill_head(path)
        if head is None:
            return None
        home = RunFolder(head.folder)
        if head.run_json is not None and not os.path.exists(home.run_json):
            os.makedirs(home.journal, exist_ok=True)
            write_json(home.run_json, head.run_json)
        count = _add_lines(home, head, os.path.basename(path), _waiting_lines(path, spill), next_row)
        _remove(path)
    return count


def _waiting_lines(path: str, spill: IO[bytes]) -> list[bytes]:
    """The whole lines that were not known to be home yet."""
    first = len(spill.readline())
    try:
        with open(_progress_path(path), "rb") as file:
            first = max(first, int(file.read()))
    except (OSError, ValueError):
        pass
    spill.seek(first)
    return [line for line in spill if line.endswith(b"\n") and b"," in line]


def _add_lines(home: RunFolder, head: SpillHead, name: str, lines: list[bytes], next_row: NextRow) -> int:
    own = [segment for segment in journal_segments(home.journal) if segment.name.rank == head.rank]
    heads = [found for segment in own if (found := attempt_of(first_row(segment.path))) is not None]
    if any(one.spill == name for one in heads):
        return 0
    # Writes that were under way when the process ended may have arrived after all, the last in a new segment.
    arrived: set[bytes] = set()
    for segment in own[-2:]:
        with open(segment.path, "rb") as file:
            arrived.update(line[line.index(b",") :] for line in file if b"," in line)
    lines = [line for line in lines if line[line.index(b",") :] not in arrived]
    if not lines:
        return 0
    row = next_row(home, head.rank)
    value = head.attempt.continued(spill=name).to_json()
    head_line = encode_event(row, time.time_ns() // 1000, None, "attempt", None, value)
    text = head_line + b"".join(number_line(line, row + 1 + at) for at, line in enumerate(lines))
    add_segment(home, head.rank, text)
    return len(lines)


def _progress_path(spill_path: str) -> str:
    """Where it is noted how many bytes of a spill file are home already."""
    return f"{spill_path}.home"


def _remove(path: str) -> None:
    for one in (_progress_path(path), path):
        try:
            os.unlink(one)
        except FileNotFoundError:
            pass
