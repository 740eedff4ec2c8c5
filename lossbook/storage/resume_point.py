"""Where a resumed run goes on: its next row, its last step and how it ended, from its journal or from what was sealed."""

from __future__ import annotations

import os
from itertools import islice

from lossbook.errors import LossbookError
from lossbook.journal import journal_segments, last_row, next_segment, rows_backwards
from lossbook.json_shapes import text_or_none, whole_or_none
from lossbook.paths import RunFolder, file_names, parse_segment_name, read_json
from lossbook.storage.derived_files import SealNotes, read_seal_notes

#: A run that goes on counts from the highest step among that many of its last rows: rows from a device may come a
#: little later than their successors.
LAST_ROWS = 1000


def next_row(folder: RunFolder, rank: int) -> int:
    """One more than the last row number that a rank has written, from its journal or from what was sealed."""
    rows = [
        row.i + 1
        for segment in journal_segments(folder.journal)
        if segment.name.rank == rank and (row := last_row(segment.path)) is not None
    ]
    sealed = _seal_notes(folder).next_row.get(rank)
    if sealed is not None:
        rows.append(sealed)
    elif not rows or next_segment(folder, rank) > 1:
        rows.append(_next_sealed_row(folder, rank))
    return max(rows, default=0)


def last_step(folder: RunFolder) -> int | None:
    """The highest step among the last rows of scalars of rank 0, sealed or not; None when there is none."""
    for segment in reversed(journal_segments(folder.journal)):
        if segment.name.rank == 0:
            rows = (row.step for row in rows_backwards(segment.path) if row.kind is None and row.step is not None)
            steps = list(islice(rows, LAST_ROWS))
            if steps:
                return max(steps)
    noted = _seal_notes(folder).last_step.get(0)
    return noted if noted is not None else whole_or_none(_summary_field(folder, "last_step"))


def sealed_at_us(folder: RunFolder) -> float | None:
    """When something of the run was sealed last, in µs since 1970; None when nothing was."""
    try:
        return os.stat(os.path.join(folder.followers, "seal.json")).st_mtime * 1e6
    except OSError:
        return None


def recorded_state(folder: RunFolder) -> str:
    """How a run that nobody writes any more ended, as its journal or its summary has it; "crashed" where neither says."""
    segments = [segment for segment in journal_segments(folder.journal) if segment.name.rank == 0]
    row = last_row(segments[-1].path) if segments else None
    if row is not None:
        return str(row.body.get("state")) if row.kind == "finish" else "crashed"
    return text_or_none(_summary_field(folder, "state")) or "crashed"


def _seal_notes(folder: RunFolder) -> SealNotes:
    try:
        return read_seal_notes(folder)
    except LossbookError:  # the journal and the Parquet files tell it too, only slower
        return SealNotes()


def _summary_field(folder: RunFolder, name: str) -> object:
    try:
        return (read_json(folder.summary_json) or {}).get(name)
    except LossbookError:
        return None


def _next_sealed_row(folder: RunFolder, rank: int) -> int:
    """Ask the Parquet files themselves: slow (it loads DuckDB), and only for a run without `seal.json`."""
    paths = [
        os.path.join(directory, filename)
        for directory in (folder.metrics, folder.events)
        for filename in file_names(directory)
        if filename.endswith(".parquet")
        and ".rollup." not in filename
        and (name := parse_segment_name(filename)) is not None
        and name.rank == rank
    ]
    if not paths:
        return 0
    import duckdb

    highest = -1
    with duckdb.connect() as connection:
        for path in paths:
            try:
                found = connection.execute("select max(row) from read_parquet(?)", [path]).fetchone()
            except duckdb.Error:  # damaged: the others still tell where to go on
                continue
            highest = max(highest, int(found[0]) if found and found[0] is not None else -1)
    return highest + 1
