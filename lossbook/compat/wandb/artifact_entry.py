"""`ArtifactEntry`: one file of an artifact, and the paths that a file may have in one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from lossbook.errors import BadArgument


class EntryOwner(Protocol):
    """What a file asks of the artifact that it belongs to."""

    @property
    def default_root(self) -> str: ...

    @property
    def qualified_name(self) -> str: ...

    def copy_entry(self, entry: ArtifactEntry, root: str) -> None: ...


@dataclass
class ArtifactEntry:
    """One file of an artifact: a path inside it, and where its contents are.

    Attributes:
        path: with "/" between folders.
        digest: SHA-256 of the contents, 64 hex digits; empty for what is not copied.
        size: in bytes.
        source: the file on this machine that is to be copied when the artifact is logged.
        ref: the address of a reference, which is never copied.
    """

    path: str
    digest: str = ""
    size: int = 0
    source: str | None = None
    ref: str | None = None
    artifact: EntryOwner | None = None

    def download(self, root: str | None = None, *_: object, **__: object) -> str:
        """Copy this file to `root` (default: the artifact's own folder) and return its path there."""
        assert self.artifact is not None
        target = root or self.artifact.default_root
        self.artifact.copy_entry(self, target)
        return os.path.join(target, *self.path.split("/"))


def inside(name: object) -> str:
    """A path inside an artifact, with "/" between folders.

    Raises:
        BadArgument: it leads out of it.
    """
    path = os.path.normpath(os.fsdecode(name) if isinstance(name, os.PathLike) else str(name)).replace(os.sep, "/")
    if path in (".", "") or path.startswith(("/", "../")) or path == "..":
        raise BadArgument(f"{str(name)!r} is no path inside an artifact")
    return path


def sha256_of(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
