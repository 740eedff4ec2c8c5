"""Finds the runs that a run was forked from: by when they were created, because an id can be given again."""

from __future__ import annotations

import os
from typing import NamedTuple

from lossbook.errors import BadArgument
from lossbook.paths import RunFolder, run_entries, run_folder
from lossbook.run_info import Parent, RunInfo, read_run_info
from lossbook.storage.attempts import NEVER

#: A fork of a fork of a fork: deeper than that is a circle.
DEEPEST = 50


class Ancestor(NamedTuple):
    """A run whose history another continues.

    Attributes:
        folder: where it lies, or should.
        is_there: whether it does.
        last_step: the last step of it that counts.
    """

    folder: RunFolder
    is_there: bool
    last_step: int


def find_parent(store: str, parent: Parent) -> RunFolder | None:
    """Where the run lies that another was forked from; None where it is not in the store, or another has its id by now.

    Raises:
        StoreError: the store cannot be listed.
    """
    expected = _expected(store, parent)
    if expected is not None and expected.exists() and _is_that_run(expected, parent):
        return expected
    for _, entry in run_entries(store):
        if entry.name == parent.run and (folder := RunFolder(entry.path)).exists() and _is_that_run(folder, parent):
            return folder
    return None


def _is_that_run(folder: RunFolder, parent: Parent) -> bool:
    if parent.created is None:
        return True
    created = read_run_info(folder)[0].created
    return created in (0, parent.created)


def _expected(store: str, parent: Parent) -> RunFolder | None:
    try:
        return run_folder(store, parent.project, parent.run)
    except BadArgument:
        return None


def ancestors(folder: RunFolder, info: RunInfo) -> list[Ancestor]:
    """The runs that a run was forked from, the nearest first, up to one that is not there."""
    store = os.path.dirname(os.path.dirname(folder.path))
    found: list[Ancestor] = []
    last = NEVER
    while info.parent is not None and len(found) < DEEPEST:
        last = min(last, info.parent.step or 0)
        there = find_parent(store, info.parent)
        place = there or _expected(store, info.parent)
        if place is None or any(place == one.folder for one in found):
            break
        found.append(Ancestor(place, there is not None, last))
        if there is None:
            break
        info = read_run_info(place)[0]
    return found
