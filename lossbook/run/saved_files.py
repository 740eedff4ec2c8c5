"""Files that a run keeps: copied into `media/`, named by their content, so the same bytes are kept once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lossbook.paths import RunFolder

_CHUNK_BYTES = 1 << 20
_ENDING = re.compile(r"[a-z0-9]{1,10}\Z")


class KeptFile(NamedTuple):
    """A file of the run: its path inside the run's folder, and its size."""

    path: str
    size_bytes: int


def files_to_keep(wanted: Any, base_path: Any = None, *, is_pattern: bool = True) -> Iterator[tuple[str, str]]:
    """The files that a path or a pattern names: (absolute path, name to keep it under).

    A name is relative to `base_path`; without one to the working directory, and for an absolute path (or one that
    leads out of the working directory) to the folder that it lies in.
    """
    import glob

    text = os.fspath(wanted) if isinstance(wanted, (str, os.PathLike)) else str(wanted)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    base = os.fspath(base_path) if base_path is not None else None
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
            yield os.path.abspath(file), os.path.relpath(file, base or ".")


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


def copy_by_content(source: str, target: str, name_of: Any) -> tuple[str, int]:
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


__all__ = ["KeptFile", "copy_by_content", "files_to_keep", "keep_file"]
