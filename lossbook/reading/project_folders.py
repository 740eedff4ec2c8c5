"""Says which run folders of a store came and went since the last look; a project is listed when it changed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import NamedTuple

from lossbook.paths import is_settled


class RunKey(NamedTuple):
    """Which run: the names of its project's folder and of its own."""

    project: str
    id: str


class ProjectFolders:
    """The projects of a store and the folders in each, as they stood at the last look."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._projects: dict[str, tuple[int, set[RunKey]]] = {}  # by folder: its mtime and what stood in it
        #: Folders that may not be listed, and why.
        self.unreadable: dict[str, str] = {}

    def compare(self, known_runs: Collection[RunKey]) -> tuple[set[RunKey], set[RunKey]]:
        """The folders that came since the last look, and those that went.

        Args:
            known_runs: the runs that the caller knows; of the first look they are compared with the folders.
        """
        looked_ns = time.time_ns()
        listed: dict[str, tuple[int, set[RunKey]]] = {}
        self.unreadable = {}
        appeared: set[RunKey] = set()
        gone: set[RunKey] = set()
        for project in _subfolders(self._store):
            path = os.path.join(self._store, project)
            try:
                mtime_ns = os.stat(path).st_mtime_ns
            except OSError:
                continue
            known = self._projects.get(project)
            if known is None or known[0] != mtime_ns:
                names = self._names_in(path)
                if names is None:
                    # What was known of it stays.
                    held = known[1] if known is not None else {key for key in known_runs if key.project == project}
                    listed[project] = (0, held)
                    continue
                keys = {RunKey(project, name) for name in names}
                appeared |= {key for key in keys if key not in known_runs}
                gone |= {key for key in (known[1] if known else ()) if key not in keys}
                known = (mtime_ns if is_settled(mtime_ns, looked_ns) else 0, keys)
            listed[project] = known
        if not self._projects or listed.keys() != self._projects.keys():
            gone |= {key for key in known_runs if key.project not in listed}
        if not self._projects:
            # The index was read before: what it had and is no more.
            gone |= {key for key in known_runs if key.project in listed and key not in listed[key.project][1]}
        self._projects = listed
        return appeared, gone

    def _names_in(self, path: str) -> list[str] | None:
        """The names of the folders in a project; None where it may not be listed."""
        try:
            return list_folders(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.unreadable[path] = error.strerror or str(error)
            return None


def _subfolders(path: str) -> list[str]:
    try:
        return list_folders(path)
    except OSError:
        return []


def list_folders(path: str) -> list[str]:
    """The names of the folders in a folder, but for those that begin with a dot.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
