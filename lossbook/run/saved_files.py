"""Keeps files in a run: copied into `media/`, named by their content, so the same bytes are kept once."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lossbook.handlers import is_of_handler
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, absolute_path
from lossbook.run.text import describe

#: How long the end of a run waits for copies to a network file system, in seconds.
COPY_SECONDS = 10.0

_CHUNK_BYTES = 1 << 20
_ENDING = re.compile(r"[a-z0-9]{1,10}\Z")


class KeptFile(NamedTuple):
    """A file of the run: its path inside the run's folder, and its size."""

    path: str
    size_bytes: int


class FileWork:
    """What a run does with files beside its journal.

    Args:
        in_thread: in a thread, where the store's file system may hang, so that training does not wait for it.
        ready: set when the run's folder is known; None where it is.
    """

    def __init__(self, *, in_thread: bool, ready: threading.Event | None = None) -> None:
        self._in_thread = in_thread
        self._ready = ready
        self._threads: list[threading.Thread] = []

    def do(self, work: Callable[[], None]) -> None:
        """Do it now, or let a thread do it."""
        if not self._in_thread:
            work()
            return
        thread = threading.Thread(target=self._do, args=(work,), name="lossbook-files", daemon=True)
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def _do(self, work: Callable[[], None]) -> None:
        if self._ready is not None:
            self._ready.wait()
        work()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the threads; False when the file system did not answer in time."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class SavedFiles:
    """The files that one run keeps.

    Args:
        folder: tells where the run's folder is now.
        record: writes a `file` row.
        warn: takes one sentence about what could not be kept.
    """

    def __init__(
        self,
        folder: Callable[[], RunFolder],
        work: FileWork,
        *,
        record: Callable[[JsonObject], None],
        warn: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._work = work
        self._record = record
        self._warn = warn
        # By path: the name that it is kept under, and its time of change (ns) and size (bytes) when it was copied.
        self._kept: dict[str, tuple[str, tuple[int, int]]] = {}

    def save(self, wanted: object, base_path: object, *, policy: str, is_pattern: bool) -> list[str]:
        """Copy the files that a path or a pattern names; returns them. Never raises."""
        found: list[str] = []
        try:
            for path, name in files_to_keep(wanted, base_path, is_pattern=is_pattern):
                found.append(path)
                self._work.do(lambda path=path, name=name: self._keep(path, name, policy))  # type: ignore[misc]  # a loop's names are bound by defaults
            if not found:
                self._warn(f"save({str(wanted)!r}) found no file")
        except Exception as error:
            if is_of_handler(error):
                raise
            self._warn(f"save({str(wanted)!r}) could not keep every file ({describe(error)})")
        return found

    def finish(self) -> None:
        """Copy again what has changed since it was saved; give up on a file system that does not answer."""
        deadline = time.monotonic() + COPY_SECONDS
        done = self._work.wait(COPY_SECONDS)
        if self._kept:
            self._work.do(self._keep_changed)
            done = self._work.wait(deadline - time.monotonic())
        if not done:
            self._warn(f"saved files may be missing in {self._folder().path}: its file system does not answer")

    def _keep(self, path: str, name: str, policy: str) -> None:
        try:
            seen = os.stat(path)
            kept = keep_file(self._folder(), path)
            self._record({"path": name, "file": kept.path, "bytes": kept.size_bytes})
            if policy != "now":
                self._kept[path] = (name, (seen.st_mtime_ns, seen.st_size))
        except OSError as error:
            if is_of_handler(error):
                raise
            self._warn(f"{path} could not be kept ({error.strerror or error})")

    def _keep_changed(self) -> None:
        for path, (name, before) in list(self._kept.items()):
            try:
                now = os.stat(path)
            except OSError:  # what was saved stays saved
                continue
            if (now.st_mtime_ns, now.st_size) != before:
                self._keep(path, name, "now")


def files_to_keep(wanted: object, base_path: object = None, *, is_pattern: bool = True) -> Iterator[tuple[str, str]]:
    """The files that a path or a pattern names: (absolute path, name to keep it under).

    A name is relative to `base_path`; without one to the working directory, and for an absolute path (or one that
    leads out of the working directory) to the folder that it lies in.
    """
    import glob

    text = os.fsdecode(wanted) if isinstance(wanted, (str, bytes, os.PathLike)) else str(wanted)
    base = (
        None if base_path is None else os.fsdecode(base_path) if isinstance(base_path, os.PathLike) else str(base_path)
    )
    if base is None:
        base = os.path.dirname(text) if os.path.isabs(text) or text.startswith("..") else "."
        # A pattern may stand in the folders too: names then begin where the pattern does.
        while glob.has_magic(base):
            base = os.path.dirname(base)
    elif not os.path.isabs(text) and not os.path.exists(text) and not glob.glob(text):
        text = os.path.join(base, text)
    found = sorted(glob.glob(text, recursive=True)) if is_pattern and glob.has_magic(text) else [text]
    if found == [text] and not os.path.exists(text):
        return
    for path in found:
        for file in _files_in(path):
            yield absolute_path(file), os.path.relpath(absolute_path(file), absolute_path(base or ""))


def _files_in(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))


def keep_file(folder: RunFolder, source: str) -> KeptFile:
    """Copy a file into the run's `media/`, unless it lies in the run's folder already.

    Raises:
        OSError: it cannot be read, or the run's folder cannot be written.
    """
    inside = os.path.relpath(os.path.realpath(source), os.path.realpath(folder.path))
    if not inside.startswith(os.pardir + os.sep):
        return KeptFile(inside.replace(os.sep, "/"), os.stat(source).st_size)
    os.makedirs(folder.media, exist_ok=True)
    ending = os.path.splitext(source)[1].lstrip(".").lower()
    ending = ending if _ENDING.match(ending) else "bin"
    digest, size_bytes = copy_by_content(source, folder.media, lambda digest: f"{digest}.{ending}")
    return KeptFile(f"media/{digest}.{ending}", size_bytes)


def copy_by_content(source: str, target: str, name_of: Callable[[str], str]) -> tuple[str, int]:
    """Copy a file into a folder under a name made of its SHA-256, reading it once.

    Args:
        name_of: takes the 64 hex digits, returns a path inside `target`.

    Returns:
        The digest and the size in bytes.

    Raises:
        OSError: it cannot be read, or the folder cannot be written; nothing is left behind then.
    """
    import hashlib

    hashing = hashlib.sha256()
    size_bytes = 0
    partial = os.path.join(target, f"{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(source, "rb") as reading, open(partial, "wb") as writing:
            while chunk := reading.read(_CHUNK_BYTES):
                hashing.update(chunk)
                writing.write(chunk)
                size_bytes += len(chunk)
        digest = hashing.hexdigest()
        path = os.path.join(target, name_of(digest))
        if os.path.exists(path):
            os.unlink(partial)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(partial, path)
    except BaseException:
        try:
            os.unlink(partial)
        except OSError:
            pass
        raise
    return digest, size_bytes
