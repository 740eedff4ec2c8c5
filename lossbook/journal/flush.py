"""What a loss of power cannot take once `sync()` or `finish()` has returned: the one list of it, and its way to the disk.

| flushed | what it is |
| --- | --- |
| `journal/r<rank>-<segment>.jsonl` | every segment that this writer has written since the last time |
| `run.json` | as this process wrote it last |
| `media/...`, `files/...` | every file that a row names, written since the last time |
| `media/`, `files/...`, `journal/`, the run's folder | the names in them |
| the project's folder, the store, and the folder that it lies in | the names of what was made with the run |
| each folder above that changed within the last hour | the same |

What other programs derive from these (Parquet, summaries, digests), the console and the captured code are not in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count

from lossbook.paths import RunFolder, fsync_folder

#: So many names are remembered; beyond, everything in `media/` is flushed.
MOST_NAMES = 1000

#: The run's project, its store and the folder that holds the store: their names may always be new.
_FOLDERS_ABOVE = 3
#: A folder above those that has not changed for so long has its names on the disk already, in seconds.
SETTLED_SECONDS = 3600.0
#: Folders whose own name this process has flushed already: their path, device and inode.
folders_with_safe_names: set[tuple[str, int, int]] = set()


class Unflushed:
    """The files of a run, besides its journal, that this process has written and not flushed."""

    __slots__ = ("_all_media", "_names")

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._all_media = False

    def note(self, name: str) -> None:
        """Remember a file; its path is relative to the run's folder."""
        if len(self._names) >= MOST_NAMES:
            self._all_media = True
            if name.startswith("media/"):
                return
        self._names.add(name)

    def flush(self, folder: RunFolder) -> None:
        """Flush what was noted since the last time, and the names of everything.

        Raises:
            OSError: the disk refuses a file; it is still to be flushed.
        """
        names, self._names = self._names, set()
        all_media, self._all_media = self._all_media, False
        try:
            if all_media:
                names |= {f"media/{name}" for name in os.listdir(folder.media)}
            for name in names:
                flush_file(os.path.join(folder.path, name))
        except OSError:
            self._names |= names
            self._all_media = self._all_media or all_media
            raise
        for path in {folder.path, folder.journal, *_folders_of(folder, names)}:
            fsync_folder(path)
        _flush_names_above(folder.path)


def flush_file(path: str) -> None:
    """Flush a file; one that is not there (any more) is passed over.

    Raises:
        OSError: the disk refuses.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _folders_of(folder: RunFolder, names: set[str]) -> Iterator[str]:
    for name in names:
        *above, _ = name.split("/")
        yield from (os.path.join(folder.path, *above[: depth + 1]) for depth in range(len(above)))


def _flush_names_above(path: str) -> None:
    """Flush the folders above, as far as this file system goes, where the name of the one below is not known to be safe."""
    for height in count(1):
        above = os.path.dirname(path)
        try:
            own, other = os.stat(path), os.stat(above)
        except OSError:
            return
        name = (path, own.st_dev, own.st_ino)
        if above == path or other.st_dev != own.st_dev or name in folders_with_safe_names:
            return
        if height > _FOLDERS_ABOVE and time.time() - other.st_mtime > SETTLED_SECONDS:
            return
        fsync_folder(above)
        folders_with_safe_names.add(name)
        path = above
