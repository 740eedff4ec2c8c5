"""A disk that loses power: of the file operations that were written down, it keeps what was synced, and of the rest what it
is told to.

It owes nothing that was not asked for. What was written to a file may be lost until that file is fsynced; a name may be
lost, or a removed one come back, until its folder is. A rename is one change: it is lost or kept as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attack.shim import FileOperation

#: Asked for each change that was not synced ("data" or "name"): whether it is kept.
Keep = Callable[[str], bool]


@dataclass
class File:
    """A file or a folder by itself, whatever its names are."""

    is_folder: bool
    contents: bytearray = field(default_factory=bytearray)
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What one operation does to the disk.

    Attributes:
        sort: "data" or "name".
        synced_by: the files whose fsync makes it safe.
        moves: for names: (folder, name, file) each, file None for a name that goes.
    """

    sort: str
    synced_by: tuple[int, ...]
    file: int = 0
    offset: int = 0
    contents: bytes | None = None
    moves: tuple[tuple[int, str, int | None], ...] = ()


class Disk:
    """The changes of a program, and what may be left of them.

    Args:
        root: the folder that was watched.
        before: a copy of it from before, all of which is safe.
        done: what the program did.
    """

    def __init__(self, root: Path, before: Path, done: Iterable[FileOperation]) -> None:
        self._root = str(root)
        self._before = before
        self.done = list(done)

    def write_survivors(self, until: int, keep: Keep, target: Path) -> None:
        """Write to `target` what is there when power was lost behind the first `until` operations."""
        files = _load(self._before)
        changes, synced = self._changes_of(until, files)
        left = _load(self._before)
        for number, file in files.items():
            left.setdefault(number, File(file.is_folder))
        for number, change in enumerate(changes):
            if number in synced or keep(change.sort):
                _apply(change, left)
        _write(left, 0, target)

    def _changes_of(self, until: int, files: dict[int, File]) -> tuple[list[Change], set[int]]:
        """The changes of the first operations, done to `files`, and which of them were synced by then."""
        changes: list[Change] = []
        synced: set[int] = set()
        for operation in self.done[:until]:
            if operation.failed:
                continue
            if operation.kind == "fsync":
                file = self._find(operation.path, files)
                synced.update(number for number, change in enumerate(changes) if file in change.synced_by)
                continue
            change = self._change(operation, files)
            if change is not None:
                _apply(change, files)
                changes.append(change)
        return changes, synced

    def _change(self, operation: FileOperation, files: dict[int, File]) -> Change | None:
        file = self._find(operation.path, files)
        if operation.kind == "write" and file is not None:
            return Change("data", (file,), file, operation.offset, operation.contents)
        if operation.kind == "truncate" and file is not None:
            return Change("data", (file,), file, operation.offset)
        if operation.kind == "create" and file is not None:
            return Change("data", (file,), file)
        folder, name = self._place(operation.path, files)
        if operation.kind in ("create", "mkdir"):
            files[made := len(files)] = File(operation.kind == "mkdir")
            return Change("name", (folder,), moves=((folder, name, made),))
        if operation.kind in ("unlink", "rmdir"):
            return Change("name", (folder,), moves=((folder, name, None),))
        if operation.kind in ("rename", "link"):
            other, other_name = self._place(operation.other, files)
            gone = ((folder, name, None),) if operation.kind == "rename" else ()
            return Change("name", (other,), moves=(*gone, (other, other_name, file)))
        return None

    def _place(self, path: str, files: dict[int, File]) -> tuple[int, str]:
        folder = self._find(os.path.dirname(path), files)
        if folder is None:
            raise AssertionError(f"{path} was changed in a folder that the recording does not know")
        return folder, os.path.basename(path)

    def _find(self, path: str, files: dict[int, File]) -> int | None:
        found: int | None = 0
        for name in path[len(self._root) :].split("/"):
            if name and found is not None:
                found = files[found].entries.get(name)
        return found


def _apply(change: Change, files: dict[int, File]) -> None:
    for folder, name, file in change.moves:
        if file is None:
            files[folder].entries.pop(name, None)
        else:
            files[folder].entries[name] = file
    if change.sort != "data":
        return
    contents = files[change.file].contents
    if change.contents is None:
        del contents[change.offset :]
    contents.extend(bytes(max(0, change.offset - len(contents))))
    if change.contents is not None:
        contents[change.offset : change.offset + len(change.contents)] = change.contents


def _load(path: Path) -> dict[int, File]:
    """The files below a folder by number, the folder itself 0; the same numbers each time."""
    files = {0: File(True)}

    def load(folder: str, number: int) -> None:
        for name in sorted(os.listdir(folder)):
            inside = os.path.join(folder, name)
            made = len(files)
            files[number].entries[name] = made
            if os.path.isdir(inside):
                files[made] = File(True)
                load(inside, made)
            else:
                files[made] = File(False, bytearray(Path(inside).read_bytes()))

    if path.is_dir():
        load(str(path), 0)
    return files


def _write(files: dict[int, File], number: int, target: Path) -> None:
    if not files[number].is_folder:
        target.write_bytes(files[number].contents)
        return
    target.mkdir()
    for name, inside in files[number].entries.items():
        _write(files, inside, target / name)
