"""Lists the pieces of a run's rows: which are live journal segments, which are sealed, and which file covers which."""

from __future__ import annotations

import os
from itertools import pairwise

from lossbook.journal import journal_segments
from lossbook.paths import RunFolder, file_names, parse_segment_name
from lossbook.storage.segment import Segment

#: Files are merged while they are listed so many times in a row at the most.
_MOST_TRIES = 20


def list_segments(folder: RunFolder) -> list[Segment]:
    """The pieces of a run as they stand, each row in exactly one of them, sorted by rank and number.

    Names that are not ours, half-written files and leftovers (covered by a larger file) are passed over. Where two pieces
    hold the same rows, one of them says from which row on it counts.
    """
    for _ in range(_MOST_TRIES):
        try:
            return _list_once(folder)
        except FileNotFoundError:
            continue  # merged into another between the look and a question that two files needed
    return _list_once(folder)


def _list_once(folder: RunFolder) -> list[Segment]:
    # Journals first: a segment that is sealed between the two looks is then seen twice, and the journal dropped;
    # in the other order it would be seen by neither.
    journals = journal_segments(folder.journal)
    sealed = sealed_segments(folder)
    if any(one.name.rank == other.name.rank and one.name.last >= other.name.first for one, other in pairwise(sealed)):
        from lossbook.storage.overlaps import count_once

        sealed = count_once(sealed)
    live: list[Segment] = []
    if any(segment.name.covers(journal.name) for journal in journals for segment in sealed):
        from lossbook.storage.overlaps import is_replaceable

        sealed = [segment for segment in sealed if not is_replaceable(segment, journals)]
    for journal in journals:
        covering = next((segment for segment in sealed if segment.name.covers(journal.name)), None)
        if covering is None:
            live.append(Segment(journal.name, journal=journal.path))
            continue
        if journal.taken_bytes is not None:
            continue  # what it has beyond the sealed file is added to the run by the one who took it over
        from lossbook.storage.overlaps import first_row_beyond

        first_row = first_row_beyond(journal, covering)
        if first_row is not None:
            live.append(Segment(journal.name, journal=journal.path, first_row=first_row))
    return sorted([*sealed, *live], key=lambda segment: segment.name)


def sealed_segments(folder: RunFolder) -> list[Segment]:
    """The sealed pieces alone."""
    metrics, events = frozenset(file_names(folder.metrics)), frozenset(file_names(folder.events))
    rollups = frozenset(file_names(folder.rollups)) if metrics else frozenset()
    names = set()
    for filename in metrics:
        name = parse_segment_name(filename)
        if name is not None and filename == f"{name.stem}.parquet":
            names.add(name)
    outer = [name for name in names if not any(other != name and other.covers(name) for other in names)]
    return [
        Segment(
            name,
            metrics=os.path.join(folder.metrics, f"{name.stem}.parquet"),
            rollup=_rollup(folder, name.stem, metrics, rollups),
            events=os.path.join(folder.events, f"{name.stem}.parquet") if f"{name.stem}.parquet" in events else None,
        )
        for name in sorted(outer)
    ]


def _rollup(folder: RunFolder, stem: str, metrics: frozenset[str], rollups: frozenset[str]) -> str | None:
    if f"{stem}.parquet" in rollups:
        return os.path.join(folder.rollups, f"{stem}.parquet")
    # Format 1 has it beside the rows.
    return os.path.join(folder.metrics, f"{stem}.rollup.parquet") if f"{stem}.rollup.parquet" in metrics else None
