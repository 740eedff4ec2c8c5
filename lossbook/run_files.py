"""The one door to the files of a run: what a row, a `run.json` or a listing names is opened through here.

A run's folder may come from anybody. A name leads to a plain file inside the folder, or to nothing: no absolute path, no
`..`, no symbolic link in any part, no pipe and no device. Each part is opened from the one before it, so that nobody
can put a link there in between. Hard links look like any other file: who may make one of a file can read it already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from lossbook.errors import StoreError
from lossbook.formatting import printable
from lossbook.paths import RunFolder

#: A name in a row is no longer than this, in characters.
LONGEST_NAME = 4096
#: Folders in folders; a deeper tree is nobody's.
DEEPEST = 32
_CHUNK_BYTES = 1 << 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A pipe is not waited for; it is then found to be no plain file.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NoSuchRunFile(StoreError, LookupError):
    """A run has no plain file of that name inside its folder, or it cannot be read."""


def open_run_file(run_path: str, name: str) -> int:
    """Open a file of a run for reading; returns the descriptor, which the caller closes.

    Args:
        run_path: the run's folder. It may be a link itself: that is the store's owner's doing.
        name: the file's path within it, with forward slashes.

    Raises:
        NoSuchRunFile: the name leads out of the folder, through a link, to something that is no plain file, or to nothing.
    """
    parts = _parts(run_path, name)
    try:
        holder = os.open(run_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                beneath = os.open(part, _FOLDER_FLAGS, dir_fd=holder)
                os.close(holder)
                holder = beneath
            # Looked at first: opening a device may do something.
            _check_plain(os.lstat(parts[-1], dir_fd=holder), run_path, name)
            descriptor = os.open(parts[-1], _FILE_FLAGS, dir_fd=holder)
        finally:
            os.close(holder)
    except NoSuchRunFile:
        raise
    except PermissionError:
        raise NoSuchRunFile(f"{_shown(name)} in {run_path} cannot be read; check who owns it") from None
    except (OSError, ValueError):
        raise NoSuchRunFile(
            f"there is no file {_shown(name)} in {run_path}{_link_on_the_way(run_path, parts)}"
        ) from None
    try:
        _check_plain(os.fstat(descriptor), run_path, name)
    except NoSuchRunFile:
        os.close(descriptor)
        raise
    return descriptor


def read_run_file(run_path: str, name: str, *, most_bytes: int | None = None) -> bytes:
    """The contents of a file of a run.

    Raises:
        NoSuchRunFile: as `open_run_file`; or it has more than `most_bytes`.
        OSError: it cannot be read to its end.
    """
    with open(open_run_file(run_path, name), "rb") as file:
        contents = file.read() if most_bytes is None else file.read(most_bytes + 1)
    if most_bytes is not None and len(contents) > most_bytes:
        raise NoSuchRunFile(f"{_shown(name)} in {run_path} has more than {most_bytes:,} bytes; it is not read")
    return contents


def copy_run_file(run_path: str, name: str, target: str) -> None:
    """Copy the contents of a file of a run to `target`, which is nobody's yet or is written over.

    Raises:
        NoSuchRunFile: as `open_run_file`.
        OSError: it cannot be read to its end, or `target` cannot be written.
    """
    with open(open_run_file(run_path, name), "rb") as file, open(target, "wb") as copy:
        while chunk := file.read(_CHUNK_BYTES):
            copy.write(chunk)


def resolved_inside(run_path: str, name: str) -> str:
    """The name without links, where all of them stay inside the run's folder: for a person who looks at what is there.

    Rows may not do that: what a mirror sends or a reader parses is a plain file under its own name.

    Raises:
        NoSuchRunFile: one leads out of the folder, or to nothing.
    """
    root = os.path.realpath(run_path)
    try:
        inside = os.path.relpath(os.path.realpath(os.path.join(root, *_parts(run_path, name)), strict=True), root)
    except PermissionError:
        raise NoSuchRunFile(f"{_shown(name)} in {run_path} cannot be read; check who owns it") from None
    except (OSError, ValueError):
        raise NoSuchRunFile(f"there is no file {_shown(name)} in {run_path}") from None
    if inside in (os.curdir, os.pardir) or inside.startswith(os.pardir + os.sep):
        raise NoSuchRunFile(f"{_shown(name)} is a link that leads out of {run_path}")
    return inside.replace(os.sep, "/")


def run_file_path(run_path: str, name: str) -> str:
    """The path of a file of a run, for a library that opens it itself; it is inside the folder, without a link.

    Raises:
        NoSuchRunFile: as `open_run_file`.
    """
    os.close(open_run_file(run_path, name))
    return os.path.join(run_path, *name.split("/"))


def has_run_file(run_path: str, name: str) -> bool:
    """Whether a run has a file of that name that can be opened."""
    try:
        run_file_path(run_path, name)
    except NoSuchRunFile:
        return False
    return True


class RunFile(NamedTuple):
    """A plain file of a run: its path within the folder, with forward slashes; its size; when it was changed (ns)."""

    name: str
    size_bytes: int
    changed_ns: int


def walk_run_files(
    run_path: str,
    below: str = "",
    *,
    links_inside: bool = False,
    most_entries: int | None = None,
    order: Callable[[str], int] = lambda name: 0,
) -> Iterator[RunFile]:
    """Every plain file of a run, or of one of its folders, sorted by name within each folder; no link is followed.

    Args:
        links_inside: also links to plain files inside the run's folder, under their own names.
        most_entries: no more of a folder are read: one of millions is not read to its end.
        order: what the names of the first folder are sorted by, before their own order.
    """
    try:
        with os.scandir(_folder(run_path, below)) as entries:
            listed = sorted(islice(entries, most_entries), key=lambda entry: (order(entry.name), entry.name))
    except OSError:
        return
    for entry in listed:
        name = f"{below}/{entry.name}" if below else entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                if name.count("/") < DEEPEST:
                    yield from walk_run_files(run_path, name, links_inside=links_inside, most_entries=most_entries)
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                yield RunFile(name, found.st_size, found.st_mtime_ns)
            elif links_inside and entry.is_symlink() and entry.is_file() and _stays_inside(run_path, name):
                found = entry.stat()
                yield RunFile(name, found.st_size, found.st_mtime_ns)
        except OSError:  # removed meanwhile
            continue


def links_of_run(folder: RunFolder) -> list[str]:
    """The symbolic links among the run's own files and folders, by their paths within it, the deepest last."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop(0)
        try:
            with os.scandir(_folder(folder.path, below)) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in listed:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_symlink():
                found.append(name)
            elif entry.is_dir(follow_symlinks=False) and name.count("/") < DEEPEST:
                waiting.append(name)
    return found


def refuse_linked_folders(folder: RunFolder) -> None:
    """Check before writing into a run that none of its own folders is a link to somewhere else.

    Raises:
        StoreError: one is.
    """
    for path in (
        folder.journal,
        folder.metrics,
        folder.rollups,
        folder.visible,
        folder.events,
        folder.media,
        folder.console,
        folder.code,
        folder.digests,
        folder.followers,
    ):
        if os.path.islink(path):
            raise StoreError(
                f"{path} is a link; Lossbook writes into no link of a run's folder: put the folder itself there, "
                "or link the whole run"
            )


def _stays_inside(run_path: str, name: str) -> bool:
    try:
        resolved_inside(run_path, name)
    except NoSuchRunFile:
        return False
    return True


def _parts(run_path: str, name: str) -> list[str]:
    parts = name.split("/")
    if len(name) > LONGEST_NAME or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise NoSuchRunFile(f"{_shown(name)} is no path inside {run_path}; it is not opened")
    return parts


def _folder(run_path: str, below: str) -> str:
    """A folder of a run; the run's own may be a link, none below it."""
    path = run_path
    for part in below.split("/") if below else ():
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise StoreError(f"{path} is a link; it is not followed")
    return path


def _check_plain(found: os.stat_result, run_path: str, name: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NoSuchRunFile(f"{_shown(name)} in {run_path} is a link; links in a run's folder are not followed")
    if not stat.S_ISREG(found.st_mode):
        raise NoSuchRunFile(f"{_shown(name)} in {run_path} is no plain file; it is not opened")


def _link_on_the_way(run_path: str, parts: list[str]) -> str:
    path = run_path
    for part in parts:
        path = os.path.join(path, part)
        try:
            if os.path.islink(path):
                return f": {part} is a link, and links in a run's folder are not followed"
        except ValueError:
            break
    return ""


def _shown(name: str) -> str:
    text = repr(printable(name))
    return text if len(text) <= 120 else f"{text[:117]}...'"
