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


def last_sealed_attempt(folder: RunFolder) -> int | None:
    """The number of the attempt that wrote the last sealed rows of rank 0; None when nothing of it was sealed."""
    noted = _seal_notes(folder).last_attempt.get(0)
    if noted is not None:
        return noted
    paths = _sealed_paths(folder, 0)
    return _highest(paths, "attempt") if paths else None


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
    highest = _highest(_sealed_paths(folder, rank), "row")
    return 0 if highest is None else highest + 1


def _sealed_paths(folder: RunFolder, rank: int) -> list[str]:
    return [
        os.path.join(directory, filename)
        for directory in (folder.metrics, folder.events)
        for filename in file_names(directory)
        if filename.endswith(".parquet")
        and ".rollup." not in filename
        and (name := parse_segment_name(filename)) is not None
        and name.rank == rank
    ]


def _highest(paths: list[str], column: str) -> int | None:
    """The highest number in a column of Parquet files; damaged ones are passed over, for the others still tell."""
    if not paths:
        return None
    import duckdb

    found: list[int] = []
    with duckdb.connect() as connection:
        for path in paths:
            try:
                row = connection.execute(f"SELECT max({column}) FROM read_parquet(?)", [path]).fetchone()
            except duckdb.Error:
                continue
            if row and row[0] is not None:
                found.append(int(row[0]))
    return max(found, default=None)
