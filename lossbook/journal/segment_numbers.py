"""The numbers of a run's next journal segment and next child process, from the names of its files, sealed or not."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lossbook.paths import LAST_MONITOR_RANK, RunFolder, SegmentName, file_names, is_monitor, parse_segment_name


def next_segment(folder: RunFolder, rank: int) -> int:
    """One more than the highest segment number of a rank, sealed or not."""
    return max((name.last for name in _segment_names(folder) if name.rank == rank), default=0) + 1


def is_taken_over(folder: RunFolder, segment: SegmentName) -> bool:
    """Whether sealing has renamed a segment away from its writer, or has sealed it already."""
    if any(name.startswith(f"{segment.stem}.taken-") for name in file_names(folder.journal)):
        return True
    sealed = map(parse_segment_name, file_names(folder.metrics))
    return any(name is not None and name.covers(segment) for name in sealed)


def next_child_rank(folder: RunFolder) -> int:
    """The next number below 0 that no child process of this run has used, and no follower ever does."""
    used = (name.rank for name in _segment_names(folder) if not is_monitor(name.rank))
    lowest = min(used, default=0)
    lowest = min(lowest, 0)
    return LAST_MONITOR_RANK - 1 if is_monitor(lowest - 1) else lowest - 1


def _segment_names(folder: RunFolder) -> Iterator[SegmentName]:
    # A journal that was deleted has left its digest, and its number stays its own.
    for directory in (folder.journal, folder.metrics, folder.digests):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for filename in names:
            name = parse_segment_name(filename)
            if name is not None:
                yield name
