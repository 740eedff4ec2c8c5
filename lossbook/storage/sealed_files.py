"""Which of a sealed segment's files, and which of their rows, may be used: the SQL that readers put behind FROM.

A file that is not what was written, or that cannot be decoded, is left out; why, `known_disagreements` says. Of two
segments that hold the same rows the later one gives those alone that are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossbook.errors import StoreError
from lossbook.storage.digests import disagreement, note_unreadable
from lossbook.storage.schema import parquet

if TYPE_CHECKING:
    from lossbook.storage.segment import Segment


def rollup_file(segment: Segment) -> str | None:
    """The path of a segment's rollup; None where its rows have to stand in for it.

    Raises:
        FileNotFoundError: it was merged into another.
    """
    path = segment.rollup
    # Buckets of a file of which only some rows count hold all of them.
    if path is None or segment.first_row is not None or disagreement(path) is not None:
        return None
    return path


def metrics_source(segment: Segment) -> str | None:
    """What to select a segment's scalars from; None where its file is left out.

    Raises:
        FileNotFoundError: it was merged into another.
    """
    return _source(segment.metrics, segment.first_row)


def events_source(segment: Segment) -> str | None:
    """What to select a segment's events from; None where it has none, or its file is left out.

    Raises:
        FileNotFoundError: it was merged into another.
    """
    return _source(segment.events, segment.first_row)


def _source(path: str | None, first_row: int | None) -> str | None:
    if path is None or disagreement(path) is not None:
        return None
    return parquet(path) if first_row is None else f"(SELECT * FROM {parquet(path)} WHERE row >= {int(first_row)})"


def leave_out(path: str, error: Exception) -> None:
    """Leave out a file from now on because DuckDB cannot decode it.

    Raises:
        FileNotFoundError: it is gone (merged into another, say).
        StoreError: nothing is wrong with it: there is not enough memory, or the question was ended.
    """
    import duckdb

    if isinstance(error, duckdb.InterruptException):
        raise StoreError(f"reading {path} was given up: the question took too long") from None

    if isinstance(error, duckdb.OutOfMemoryException):
        raise StoreError(f"{path} needs more memory than there is") from None
    if note_unreadable(path, str(error).strip().splitlines()[0]) is None:
        raise FileNotFoundError(path)


def is_readable(segment: Segment) -> bool:
    """Decode a segment's scalars from end to end; those that cannot be are left out from then on.

    Raises:
        FileNotFoundError: as `metrics_source`.
    """
    import duckdb

    from lossbook.storage.schema import connect

    source = metrics_source(segment)
    if source is None:
        return False
    connection = connect()
    try:
        connection.execute(f"SELECT sum(hash(one)) FROM {source} AS one").fetchone()
    except (duckdb.Error, UnicodeDecodeError) as error:
        leave_out(str(segment.metrics), error)
        return False
    finally:
        connection.close()
    return True
