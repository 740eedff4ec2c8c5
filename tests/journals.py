"""Journals written line by line, for tests of what reads them: a real trainer's writer is not needed for that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from lossbook.journal.line import encode_event, encode_scalars
from lossbook.paths import RunFolder, SegmentName, write_json
from lossbook.processes import this_place

BEGIN = 1_763_688_000_000_000  # µs
#: A process of this machine that is over: the number is another's by now, if anybody's.
ENDED: dict[str, Any] = {**this_place()._asdict(), "pid": 4_194_303, "process_start": 1.0}


class WrittenRun:
    """A run folder whose journal segments are written by hand, row numbers and times given unless said otherwise."""

    def __init__(self, path: os.PathLike[str] | str, **identity: Any) -> None:
        self.folder = RunFolder(os.fspath(path))
        self.next_row: dict[int, int] = {}
        self.next_number: dict[int, int] = {}
        os.makedirs(self.folder.journal)
        self.identity: dict[str, Any] = {
            "format": 1,
            "id": os.path.basename(self.folder.path),
            "name": "run",
            "project": "tests",
            "created": BEGIN,
            "config": {},
            "tags": [],
            "group": None,
            "notes": None,
            "attempts": [self.attempt_entry(0)],
        } | identity
        self.write_identity()

    @staticmethod
    def attempt_entry(number: int, resume_step: int | None = None, **fields: Any) -> dict[str, Any]:
        return {
            "number": number,
            "started": BEGIN + number * 1_000_000,
            "host": "elsewhere",
            "pid": 1,
            "process_start": None,
            "boot": None,
            "launch": f"launch-{number}",
            "world_size": 1,
            "resume_step": resume_step,
            "argv": [],
        } | fields

    def write_identity(self) -> None:
        write_json(self.folder.run_json, self.identity)

    def segment(
        self,
        rows: Iterable[Mapping[str, float] | tuple[int, Mapping[str, float]] | bytes | tuple[str, Any]],
        *,
        rank: int = 0,
        number: int | None = None,
        attempt: int = 0,
        first_step: int = 0,
        head: bool = True,
        end: str | None = None,
        tail: bytes = b"",
        process: Mapping[str, Any] = ENDED,
    ) -> str:
        """Write one segment and return its path.

        Args:
            rows: each `{key: value}` (the next step), `(step, {key: value})`, `(kind, value)` or raw bytes of a line.
            head: begin with the `attempt` row.
            end: the state of a `finish` row at the end.
            tail: bytes behind the last line.
            process: who writes it, as its first row says.
        """
        number = self.next_number.get(rank, 1) if number is None else number
        self.next_number[rank] = number + 1
        lines: list[bytes] = []
        step = first_step
        i = self.next_row.get(rank, 0)
        if head:
            value = {"number": attempt, "rank": rank, "format": 1, **process}
            lines.append(encode_event(i, BEGIN + i, None, "attempt", None, value))
            i += 1
        for row in rows:
            if isinstance(row, bytes):
                lines.append(row)
            elif isinstance(row, tuple) and isinstance(row[0], str):
                lines.append(encode_event(i, BEGIN + i * 1000, step, row[0], None, row[1]))
            else:
                at, scalars = row if isinstance(row, tuple) else (step, row)
                lines.append(encode_scalars(i, BEGIN + i * 1000, at, dict(scalars)))
                step = at + 1
            i += 1
        if end is not None:
            lines.append(encode_event(i, BEGIN + i * 1000, None, "finish", None, {"state": end, "error": None}))
            i += 1
        self.next_row[rank] = i
        path = os.path.join(self.folder.journal, f"{SegmentName(rank, number, number).stem}.jsonl")
        with open(path, "wb") as file:
            file.write(b"".join(lines) + tail)
        # As if its writer had gone long ago.
        os.utime(path, (BEGIN / 1e6, BEGIN / 1e6))
        return path


def all_rows(folder: RunFolder) -> list[tuple[str, int, int, float, int, int]]:
    """Every scalar of a run, sealed or live, as (key, row, step, value, rank, attempt), sorted."""
    from lossbook.journal.reader import read_segment
    from lossbook.storage.schema import connect, parquet
    from lossbook.storage.segments import list_segments

    found: list[tuple[str, int, int, float, int, int]] = []
    connection = connect()
    try:
        for segment in list_segments(folder):
            if segment.metrics is not None:
                found += connection.execute(
                    f"SELECT key, row, step, value, rank, attempt FROM {parquet(segment.metrics)}"
                ).fetchall()
                continue
            attempt = 0
            for row in read_segment(str(segment.journal)).rows:
                if row.kind == "attempt":
                    attempt = row.body["number"]
                elif row.kind is None:
                    found += [
                        (key, row.i, int(row.step or 0), value, segment.name.rank, attempt)
                        for key, value in row.body.items()
                    ]
    finally:
        connection.close()
    return sorted(found)
