"""The parents of a forked run: what their visible rows add to the fork's metrics, and whether they changed.

A fork continues its parent's history up to a step. Its metrics are those of the rows that its curves and its history have: the
parent's that count up to there, those of the parent's parents, and its own.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from copy import copy

from lossbook.errors import LossbookError
from lossbook.journal import journal_segments
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, file_names
from lossbook.storage import Ancestor, LiveSummary, MetricTable, Statistics, statistics_of

#: Parents whose statistics are kept between questions.
_MOST_PARENTS = 16


def inherit(chain: list[Ancestor], problems: list[str]) -> dict[str, Statistics]:
    """What a run has of those that it was forked from: statistics by key over the rows that count; problems are added to."""
    found: dict[str, Statistics] = {}
    for ancestor in chain:
        if not ancestor.is_there:
            break
        try:
            older = _summary_of(ancestor.folder).up_to(ancestor.last_step)
        except (LossbookError, OSError) as error:
            problems.append(
                f"the rows of {ancestor.folder.path}, from which this run was forked, cannot be read: {error}"
            )
            continue
        for key, one in older.items():
            total = copy(one)
            # Row numbers of two runs say nothing of each other: of one step the later run's value is the last.
            total.last_row = -1
            if key in found:
                total.merge(found[key])
            found[key] = total
    return found


def with_inherited(own: MetricTable, inherited: dict[str, Statistics]) -> MetricTable:
    """The metrics of a fork: those of its parents' rows and of its own."""
    written: JsonObject = {**own.to_json()}
    for key, one in inherited.items():
        total = copy(one)
        if key in own:
            of_own = statistics_of(own[key])
            if of_own is None:
                continue
            of_own.last_row = 0
            total.merge(of_own)
        written[key] = total.to_json()
    return MetricTable(dict(sorted(written.items())))


_summaries: OrderedDict[tuple[str, int, int], LiveSummary] = OrderedDict()
_lock = threading.Lock()


def _summary_of(folder: RunFolder) -> LiveSummary:
    status = os.stat(folder.path)
    # A run that was removed and recorded again in the same place is another.
    name = (folder.path, status.st_dev, status.st_ino)
    with _lock:
        found = _summaries.get(name)
        if found is None:
            found = _summaries[name] = LiveSummary(folder)
        _summaries.move_to_end(name)
        while len(_summaries) > _MOST_PARENTS:
            _summaries.popitem(last=False)
    return found


def parents_stamp(folders: Sequence[str]) -> int:
    """A number that changes with the files of a fork's parents; 0 for a run that is no fork."""
    if not folders:
        return 0
    return zlib.crc32(repr([_state_of(RunFolder(path)) for path in folders]).encode()) + 1


def _state_of(folder: RunFolder) -> tuple[object, ...]:
    seen: list[object] = []
    for path in (folder.path, folder.run_json, folder.journal, folder.metrics):
        try:
            status = os.stat(path)
        except OSError:
            seen.append(None)
            continue
        seen.append((status.st_ino, status.st_mtime_ns))
    for segment in journal_segments(folder.journal) if file_names(folder.journal) else ():
        try:
            seen.append(os.stat(segment.path).st_size)
        except OSError:
            seen.append(None)
    return tuple(seen)
