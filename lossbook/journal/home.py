"""Where a run's folder is: found again when somebody moves it, and made again when somebody removes it.

A writer keeps a descriptor of its run's folder. The descriptor leads to the folder wherever it is now, so that a run
that is moved, by itself or with its project or its store, stays one run.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import Enum

from lossbook.journal.open_file import NEW_FILE, held_file
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, SegmentName, make_folder, write_json

#: What the system says of a file or a folder that is not there (any more).
NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ESTALE))


class Found(Enum):
    """What became of a run's folder since the last look."""

    HERE = "where it was"
    MOVED = "somewhere else"
    GONE = "removed, or out of reach"


class Home:
    """The folder of a run that this process writes.

    Args:
        folder: where it lies now.
        identity: gives the contents of `run.json`, for a folder that has to be made again; None where the folder may
            not be made again by this writer.

    Attributes:
        folder: where it was found last.
    """

    __slots__ = ("_fd", "_identity", "_place", "folder")

    def __init__(self, folder: RunFolder, identity: Callable[[], JsonObject] | None = None) -> None:
        self.folder = folder
        self._identity = identity
        self._fd = -1
        self._place = (0, 0)  # device and inode

    @property
    def can_be_made_again(self) -> bool:
        """Whether this writer knows what to put into `run.json`."""
        return self._identity is not None

    def set_identity(self, identity: Callable[[], JsonObject]) -> None:
        """Give what `run.json` says, should the folder have to be made again."""
        self._identity = identity

    def move(self, folder: RunFolder) -> None:
        """Take another folder for the run's: the one that was meant is another run's."""
        self.release()
        self.folder = folder

    def hold(self) -> None:
        """Keep the folder's descriptor; where there is none to be had, the folder is known by its path alone."""
        if self._fd >= 0 or not self.folder.path:
            return
        try:
            self._fd = os.open(self.folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            place = os.fstat(self._fd)
            self._place = place.st_dev, place.st_ino
        except OSError:
            self.release()

    def release(self) -> None:
        """Let go of the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass

    def find(self) -> Found:
        """Look where the folder is. What cannot be told (permissions, a device that fails) counts as unchanged."""
        try:
            at_path = os.stat(self.folder.path)
        except OSError as error:
            if error.errno not in NOT_THERE:
                return Found.HERE
            at_path = None
        held = self._held()
        if held is None:
            return Found.GONE if at_path is None else Found.HERE
        if at_path is not None and os.path.samestat(at_path, held):
            return Found.HERE
        path = _path_of(self._fd)
        try:
            if path and os.path.samestat(os.stat(path), held):
                self.folder = self.folder._replace(path=path)
                return Found.MOVED
        except OSError:
            pass
        return Found.GONE

    def _held(self) -> os.stat_result | None:
        """What the descriptor leads to; None where it is not this writer's any more (a program closed them all)."""
        if self._fd < 0:
            return None
        held = held_file(self._fd, self._place)
        if held is None:
            self._fd = -1  # it may be another file's by now, so it is not closed
        return held

    def make_again(self) -> None:
        """Make the folder where it was, with its `run.json`.

        Raises:
            OSError: it cannot be made, or not by this writer.
        """
        if self._identity is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.folder.path)
        self.release()
        os.makedirs(self.folder.journal, exist_ok=True)
        if not os.path.exists(self.folder.run_json):
            write_json(self.folder.run_json, self._identity(), durable=False)
        self.hold()

    def open_segment(self, rank: int, number: int, *, has_begun: bool) -> tuple[int, int, str]:
        """Make the file of the first segment from `number` on that nobody has; its descriptor, number and path.

        Args:
            has_begun: whether this writer has written a segment before.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            path = os.path.join(self.folder.journal, f"{SegmentName(rank, number, number).stem}.jsonl")
            try:
                return os.open(path, NEW_FILE, 0o666), number, path
            except FileExistsError:
                number += 1
            except FileNotFoundError:
                if self.find() is Found.GONE and self.can_be_made_again:
                    self.make_again()
                elif has_begun:
                    # Never the folders above it: a run that was moved away or removed is not begun again.
                    make_folder(self.folder.journal)
                else:
                    os.makedirs(self.folder.journal, exist_ok=True)


def _path_of(fd: int) -> str:
    """The path that a descriptor leads to now; empty where the system does not tell."""
    try:
        if sys.platform == "darwin":
            import fcntl

            return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
