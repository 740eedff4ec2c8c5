"""Writes `visible/visible.parquet`: which sealed rows are a run's, for engines that read a store without Lossbook.

A line says that the rows of a key and an attempt of some run (the run itself, or one that it was forked from) are this
run's up to a step. The rule is `attempts.cutoffs`, as for every reader; the view that applies it stands in
`docs/format.md`. The file is derived, and replaced in one step after rows were sealed: until then an engine sees the run
as it was before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lossbook.paths import RunFolder, replacing
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage.attempts import NEVER, cutoffs
from lossbook.storage.digests import settle_digests, sha256_of, write_digests
from lossbook.storage.parents import ancestors
from lossbook.storage.schema import METRICS_ROW_GROUP, TOP_LEVEL, VISIBLE, connect, copy_to, parquet
from lossbook.storage.sealed_files import metrics_source, rollup_file
from lossbook.storage.segments import sealed_segments

if TYPE_CHECKING:
    import duckdb

_STEM = "visible"


def visible_path(folder: RunFolder) -> str:
    """Where the file stands."""
    return os.path.join(folder.visible, f"{_STEM}.parquet")


def write_visible(folder: RunFolder, own_steps: dict[str, dict[int, int]] | None = None) -> None:
    """Write down which sealed rows are a run's, as things stand.

    Args:
        own_steps: the first step of each key in each attempt of the run; None to ask its files.

    Raises:
        StoreError: the file cannot be written.
        OSError: likewise.
        FileNotFoundError: files were merged meanwhile; whoever merges them writes it.
    """
    columns: dict[str, list[object]] = {name: [] for name in VISIBLE}
    connection = connect()
    try:
        own: RunInfo | None = None
        for one, info, last in _chain(folder):
            own = own or info
            known = own_steps if own_steps is not None and one is folder else _first_steps(connection, one)
            for key, first_steps in sorted(known.items()):
                for attempt, cut in cutoffs(info.resume_steps(), first_steps).items():
                    line = (own.project, own.id, info.project, info.id, key, attempt, min(cut, last))
                    for name, value in zip(columns, line, strict=True):
                        columns[name].append(value)
        unnested = ", ".join(f"unnest(?::{kind}[]) AS {name}" for name, kind in VISIBLE.items())
        os.makedirs(folder.visible, exist_ok=True)
        path = visible_path(folder)
        with replacing(path) as partial:
            copy_to(
                connection,
                f"SELECT {unnested}",
                partial,
                row_group=METRICS_ROW_GROUP,
                parameters=[*columns.values()],
                durable=False,
            )
            digests = {os.path.relpath(path, folder.path): sha256_of(partial)}
            write_digests(folder, _STEM, digests, durable=False)
        settle_digests(folder, _STEM, digests, durable=False)
    finally:
        connection.close()


def _chain(folder: RunFolder) -> Iterator[tuple[RunFolder, RunInfo, int]]:
    """A run and those that it was forked from, each with the last step of it that counts."""
    own, _ = read_run_info(folder)
    yield folder, own, NEVER
    for one in ancestors(folder, own):
        if one.is_there:
            yield one.folder, read_run_info(one.folder)[0], one.last_step


def _first_steps(connection: duckdb.DuckDBPyConnection, folder: RunFolder) -> dict[str, dict[int, int]]:
    """The first step of each key in each attempt that has sealed rows."""
    parts = []
    for segment in sealed_segments(folder):
        if (rollup := rollup_file(segment)) is not None:
            parts.append(f"SELECT key, attempt, first_step FROM {parquet(rollup)} WHERE level = {TOP_LEVEL}")
        elif (source := metrics_source(segment)) is not None:
            parts.append(f"SELECT key, attempt, step AS first_step FROM {source}")
    found: dict[str, dict[int, int]] = {}
    if parts:
        query = f"SELECT key, attempt, min(first_step) FROM ({' UNION ALL '.join(parts)}) GROUP BY ALL ORDER BY ALL"
        for key, attempt, step in connection.execute(query).fetchall():
            found.setdefault(key, {})[attempt] = step
    return found
