"""Keeps the contents of artifacts in a store, each once, named by their SHA-256.

<store>/.artifacts/objects/<2 hex digits>/<sha256>
"""

from __future__ import annotations

import os
import re
import tempfile

from lossbook.errors import StoreError
from lossbook.paths import artifacts_folder
from lossbook.run import copy_by_content, current_run

_DIGEST = re.compile(r"[0-9a-f]{64}")
_staging: tempfile.TemporaryDirectory[str] | None = None


class ContentStore:
    """The contents of a store's artifacts."""

    def __init__(self, store: str) -> None:
        self.path = artifacts_folder(os.path.abspath(store))

    def object_path(self, digest: str) -> str:
        """Where contents of that SHA-256 lie."""
        if not _DIGEST.fullmatch(digest):  # a version's file may be anybody's
            raise StoreError(f"{digest[:80]!r} is no SHA-256, so nothing in {self.path} has that name")
        return os.path.join(self.path, "objects", digest[:2], digest)

    def take(self, source: str) -> tuple[str, int]:
        """Copy a file's contents in; returns their digest and their size in bytes.

        Raises:
            OSError: it cannot be read, or the store cannot be written.
        """
        objects = os.path.join(self.path, "objects")
        os.makedirs(objects, exist_ok=True)
        return copy_by_content(source, objects, lambda digest: os.path.join(digest[:2], digest))


def store_of(run_path: str) -> str | None:
    """The store that a run's folder lies in; None where nothing is recorded."""
    return os.path.dirname(os.path.dirname(run_path)) if run_path else None


def current_contents() -> ContentStore | None:
    """Where what is added to an artifact goes: the current run's store; before there is a run, a folder that is removed
    when the process ends. None where the current run records nothing.
    """
    global _staging
    if (run := current_run()) is not None:
        store = store_of(run.path)
    else:
        if _staging is None:
            _staging = tempfile.TemporaryDirectory(prefix="lossbook-artifacts-")
        store = _staging.name
    return None if store is None else ContentStore(store)
