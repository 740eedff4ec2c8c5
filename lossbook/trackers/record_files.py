"""Runs that a tracker keeps in record files, one a process, and that are read without its library.

The files of one id in one project are one run, in the order in which they began: each after the first is another attempt
of it. The place of a row names its file, so that reading goes on behind the row; `Rewritten` where that file is not there
any more. A file that says nothing of its run is passed over with a remark, a piece that is damaged with a warning row.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject, object_or_empty, whole_or_none
from lossbook.trackers.protobuf import BadMessage
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten, Source


@dataclass
class RecordHead:
    """What one file says of its run, as far as it was read.

    Attributes:
        started, last_seen: Unix seconds.
        rows: records that become rows.
    """

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    notes: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    started: float = 0.0
    last_seen: float = 0.0
    rows: int = 0


HeadT = TypeVar("HeadT", bound=RecordHead)


class RecordFile(NamedTuple, Generic[HeadT]):
    """One record file, what it says of its run, and its size in bytes."""

    path: str
    head: HeadT
    size: int

    @property
    def name(self) -> str:
        """What tells it from the others of a run, wherever their folders are kept."""
        return os.path.join(os.path.basename(os.path.dirname(self.path)), os.path.basename(self.path))

    def damage(self, time_us: int) -> ForeignRow:
        """The row in place of a piece that could not be read."""
        message = f"{self.name} is damaged here: a piece of up to 32 kB, and the records in it, could not be read"
        return ForeignRow(time_us, None, "warning", None, {"message": message})

    def bad_record(self, error: BadMessage, time_us: int) -> ForeignRow:
        """The row in place of a record that is no message of the tracker's."""
        message = f"a record of {self.name} could not be read ({error})"
        return ForeignRow(time_us, None, "warning", None, {"message": message})

    def read_beside(self, folder: str, name: str, largest_bytes: int) -> bytes | None:
        """A file in a folder beside this one; None for one that is not there, too large, or named outside of it."""
        if os.path.isabs(name) or ".." in name.split("/"):
            return None
        path = os.path.join(os.path.dirname(self.path), folder, name)
        try:
            # A pipe would be waited for.
            if not os.path.isfile(path) or os.path.getsize(path) > largest_bytes:
                return None
            with open(path, "rb") as opened:
                return opened.read()
        except OSError:
            return None


class RecordFiles(Source, ABC, Generic[HeadT]):
    """The runs in record files.

    Args:
        paths: the files.
    """

    #: Why a file is passed over, as a sentence that its path begins.
    passed_over: ClassVar[str]

    def __init__(self, location: str, paths: Sequence[str]) -> None:
        super().__init__(location)
        self._paths = paths
        self._remarks: list[str] = []

    @abstractmethod
    def open_file(self, path: str) -> RecordFile[HeadT] | None:
        """A file and what it says of its run; None for one that says nothing.

        Raises:
            StoreError: it cannot be read.
        """

    @abstractmethod
    def make_run(self, files: Sequence[RecordFile[HeadT]]) -> ForeignRun:
        """The run of these files, the oldest first; its `place` is the tuple of them."""

    @abstractmethod
    def rows_behind(self, run: ForeignRun) -> Iterator[ForeignRow]:
        """The rows behind the place `run.after`, each with its own: `file` and `name` as `files_left` has them."""

    def runs(self) -> Iterator[ForeignRun]:
        grouped: dict[tuple[str, str], list[RecordFile[HeadT]]] = {}
        self._remarks = []
        for path in self._paths:
            file = self.open_file(path)
            if file is None:
                self._remarks.append(f"{path} {self.passed_over}")
            else:
                grouped.setdefault((file.head.project, file.head.id), []).append(file)
        oldest_first = (sorted(files, key=lambda file: (file.head.started, file.path)) for files in grouped.values())
        yield from sorted(map(self.make_run, oldest_first), key=lambda run: run.created, reverse=True)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self.rows_behind(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def remarks(self, run: ForeignRun | None = None) -> Sequence[str]:
        return () if run is not None else self._remarks

    def row_count(self, run: ForeignRun) -> int | None:
        """About how many: a record may become more than one row, and several records one."""
        return sum(file.head.rows for file in self._files(run))

    def files_left(self, run: ForeignRun) -> Iterator[tuple[int, RecordFile[HeadT], JsonObject]]:
        """The files that are still to be read: which of the run it is, the file, the place behind which it goes on.

        The place is empty for a file of which nothing was read.

        Raises:
            Rewritten: the file that was read last is not there any more.
        """
        files, after = self._files(run), object_or_empty(run.after)
        first = whole_or_none(after.get("file")) or 0
        if after and [file.name for file in files[first : first + 1]] != [after["name"]]:
            raise Rewritten(f"{self.location} does not have the files of run {run.id} any more that were read before")
        for number in range(first, len(files)):
            yield number, files[number], after if number == first else {}

    def _files(self, run: ForeignRun) -> tuple[RecordFile[HeadT], ...]:
        assert isinstance(run.place, tuple)
        return run.place


def unreadable(path: str, error: OSError) -> StoreError:
    """What is raised where the system does not give a file's contents."""
    return StoreError(f"{path} cannot be read ({error.strerror}): check the disk, and who owns it")
