"""The segment that a writer writes: whether its file is still at its path, and where rows go on when it is not.

Where the file was removed, replaced, moved with the run's folder, or taken over by a rename, rows go on in the right
place: the same file at its new path, the segment written again from the file that is open, or the next segment. One
sentence says so. Where there is no such place they go on into the open file, and that is said. What cannot be told
counts as unchanged. Whoever asks has the gate, and may be interrupted by a signal handler that logs.
"""

from __future__ import annotations

import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

from lossbook.handlers import is_of_handler
from lossbook.journal.flush import Unflushed
from lossbook.journal.gate import Gate
from lossbook.journal.home import NOT_THERE, Found, Home
from lossbook.journal.open_file import copy_bytes, count_lines, held_file, is_file, leads_to, put_copy
from lossbook.journal.segment_numbers import is_taken_over
from lossbook.paths import RunFolder, SegmentName, make_folder

#: The descriptor leads to no file of ours any more: a server has forgotten it, or the program has closed it.
UNUSABLE = frozenset((errno.ESTALE, errno.EBADF))


class CurrentSegment(Gate, ABC):
    """What a writer inherits from that keeps one file of the run open.

    Args:
        folder: the run's folder, or the `Home` that finds it.
        rank: which writer this is.
        row: the number of the next row.
        warn: called with one sentence when the file was not at its path.

    Attributes:
        path: of the file; empty before the first.
        segment: its number; 0 before the first.
    """

    __slots__ = (
        "_can_tell",
        "_fd",
        "_file",
        "_first_row",
        "_home",
        "_missing",
        "_size",
        "_stray",
        "_unflushed",
        "_warn",
        "path",
        "rank",
        "row",
        "segment",
    )

    def __init__(self, folder: RunFolder | Home, rank: int, *, row: int, warn: Callable[[str], None] | None) -> None:
        super().__init__()
        self._home = folder if isinstance(folder, Home) else Home(folder)
        self._warn = warn or (lambda sentence: print(f"lossbook: {sentence}", file=sys.stderr))
        self._fd = -1
        self._file = (0, 0)  # device and inode
        self._can_tell = True
        self._size = 0
        self._first_row = 0
        self._missing = False
        self._stray = False
        self._unflushed = Unflushed()
        self.rank = rank
        self.row = row
        self.segment = 0
        self.path = ""

    @property
    def folder(self) -> RunFolder:
        """The run's folder, where it was found last."""
        return self._home.folder

    @property
    def home(self) -> Home:
        """What finds the run's folder."""
        return self._home

    def note_file(self, path: str) -> None:
        """Have a file of the run flushed with the next `sync()`; `path` is relative to the run's folder."""
        self._unflushed.note(path)

    @abstractmethod
    def _turn_over(self) -> bool:
        """Begin the next segment; when that fails the current one goes on (False when there is none)."""

    def _know_file(self) -> None:
        """Note which file this is, to know it again."""
        self._stray = False
        self._home.hold()
        try:
            held = os.fstat(self._fd)
            self._file = held.st_dev, held.st_ino
            # Some file systems number a file anew at each look: there only its absence shows.
            self._can_tell = os.path.samestat(held, os.stat(self.path))
        except OSError as error:
            if is_of_handler(error):
                raise
            self._can_tell = False

    def _is_at_its_path(self) -> bool:
        """Whether the path leads to the file that is written; what cannot be told counts as unchanged."""
        # Read at once: a signal handler may log between the calls, and begin another segment.
        fd, path, size = self._fd, self.path, self._size
        try:
            held, at_path = os.fstat(fd), os.stat(path)
        except OSError as error:
            if is_of_handler(error):
                raise
            return (error.errno not in NOT_THERE and error.errno not in UNUSABLE) or self._fd != fd
        is_there = not self._can_tell or (os.path.samestat(held, at_path) and held.st_size >= size)
        return is_there or self._fd != fd

    def _go_home(self) -> None:
        """Go on in the right place, and say it.

        Raises:
            OSError: there is none: rows go on into the file that is open.
        """
        folder, path = self.folder.path, self.path
        found = self._home.find()
        held = held_file(self._fd, self._file)
        here = os.path.join(self.folder.journal, os.path.basename(path))
        if held is not None and leads_to(here, held) and held.st_size >= self._size:
            self.path = here
            self._stray = False
            self._warn(f"{folder} was moved to {self.folder.path} while the run was written; logging goes on there")
            return
        if found is Found.GONE:
            self._home.make_again()
            self.note_file("run.json")
        if held is None:
            # Its number may be another file's by now, so that it is not closed.
            self._fd = -1
            self._missing = self._missing or not is_file(here, self._file)
            self._begin_after(f"{path} was closed, or its server has forgotten it, while the run was written")
        elif leads_to(here, held):
            if count_lines(here) >= self.row - self._first_row:
                # A signal handler has begun this segment while a row went into the one before, which counted here.
                self._size = held.st_size
                return
            self._missing = True
            self._begin_after(f"{path} was cut short while the run was written: rows in it are lost")
        elif is_taken_over(self.folder, SegmentName(self.rank, self.segment, self.segment)):
            self._begin_after(f"{path} was taken over by another process, which holds its writer for dead")
        else:
            aside = self._restore(here)
            self._say_restored(folder if found is Found.GONE else path, aside, whole=found is not Found.GONE)

    def _restore(self, path: str) -> str:
        """Write the segment again, from the file that is open and has no name any more.

        Returns:
            Where the file was put that stood in its place; empty where there was none.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        make_folder(self.folder.journal)
        fd, copied, aside = put_copy(self._fd, path)
        try:
            row = -1
            while row != self.row:
                row = self.row
                copied = copy_bytes(self._fd, fd, copied)
        except OSError:
            os.close(fd)
            raise
        # No call stands between the comparison and here, so no row of a signal handler's is left behind.
        before, self._fd, self.path = self._fd, fd, path
        os.close(before)
        self._know_file()
        return aside

    def _begin_after(self, what: str) -> None:
        if self._turn_over():
            self._warn(f"{what}; rows go on in {self.path}")

    def _say_restored(self, what: str, aside: str, *, whole: bool) -> None:
        sentence = f"{what} was {'replaced' if aside else 'removed'} while the run was written"
        if not whole and self._first_row:
            self._missing = True
            sentence += f"; it was made again from row {self._first_row} on, and the rows before are gone"
        else:
            sentence += "; it was made again with all of its rows"
        self._warn(f"{sentence}, and what stood there is {aside} now" if aside else sentence)

    def _say_stray(self, error: OSError) -> None:
        if not self._stray:
            self._stray = True
            self._warn(
                f"{self.path} is not at its place any more, and no other file can be begun there "
                f"({error.strerror or error}): rows are kept in the open file, which ends with this process, until "
                f"{self.folder.path} can be written"
            )

    def was_removed(self) -> bool:
        """Whether the run's folder was removed after the last row: what is over need not be made again."""
        if self._fd < 0 or self._is_at_its_path() or self._home.find() is not Found.GONE:
            return False
        held = held_file(self._fd, self._file)
        # Losing its name changes the file, and so does a row; a row alone sets both times.
        return held is None or (held.st_nlink == 0 and held.st_ctime_ns > held.st_mtime_ns)
