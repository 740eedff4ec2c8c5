"""A source whose runs are made up: what `lossbook.trackers.ingest` promises is tested on it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson

from lossbook.trackers.source import ForeignRow, ForeignRun, Source


class Recorded(Source):
    """One run of so many rows; `stop_at` raises in the middle, as a lost connection does."""

    kind: ClassVar[str] = "recorded"

    def __init__(self, location: str, rows: int = 10, version: str = "1", **named: Any) -> None:
        super().__init__(location)
        self.count, self.version, self.named = rows, version, named
        self.stop_at: int | None = None
        self.asked: list[tuple[int, Any]] = []

    def runs(self) -> Iterator[ForeignRun]:
        named = {
            "id": "abc",
            "name": "first",
            "project": "there",
            "created": 1.7e9,
            "config": {"lr": 0.1},
            **self.named,
        }
        yield ForeignRun(version=self.version, **named)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        self.asked.append((start, run.after))
        for number in range(start, self.count):
            if number == self.stop_at:
                raise OSError("the line went dead")
            yield make_row(number)


def make_row(number: int) -> ForeignRow:
    """Every tenth row is a text, and every tenth a line of the console."""
    time_us = 1_700_000_000_000_000 + number * 1000
    if number % 10 == 3:
        return ForeignRow(time_us, number, "text", "sample", {"text": f"text {number}"}, place={"at": number})
    if number % 10 == 7:
        return ForeignRow(time_us, None, "console", None, {"text": f"line {number}\n"}, place={"at": number})
    return ForeignRow(time_us, number, None, None, {"loss": 1.0 / (number + 1), "n": number}, place={"at": number})


def expected_losses(rows: int) -> dict[int, float]:
    return {number: 1.0 / (number + 1) for number in range(rows) if number % 10 not in (3, 7)}


def import_all(store: str, rows: int, version: str) -> None:
    """Import the run, as a program that may be killed anywhere."""
    from lossbook.trackers import ingest, staging

    staging.BATCH_ROWS = int(os.environ.get("BATCH_ROWS", "50"))
    source = Recorded("memory", rows=rows, version=version)
    for run in source.runs():
        ingest.import_rows(ingest.import_run(store, source, run), source, run)


def check_every_place(source: Source) -> int:
    """Reading on from any row gives exactly the rows behind it; returns how many rows there are."""
    count = 0
    for run in source.runs():
        # Through JSON, as the cursor keeps it; NaN is not equal to itself, its text is.
        rows = [row._replace(place=orjson.loads(orjson.dumps(row.place))) for row in source.rows(run)]
        for number, row in enumerate(rows):
            behind = list(source.rows(dataclasses.replace(run, after=row.place), number + 1))
            assert repr([one[:6] for one in behind]) == repr([one[:6] for one in rows[number + 1 :]])
        assert repr(list(source.rows(run, 3))) == repr(list(source.rows(run))[3:])
        count += len(rows)
    return count
