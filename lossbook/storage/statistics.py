"""Adds series up in numbers: row by row, from a sealed file, or up to a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lossbook.journal import Row, encode_number, read_segment
from lossbook.json_shapes import JsonObject, shallow_object
from lossbook.storage.attempts import NEVER
from lossbook.storage.digests import known_disagreements
from lossbook.storage.schema import TOP_LEVEL, connect, parquet
from lossbook.storage.sealed_files import events_source, leave_out, metrics_source, rollup_file
from lossbook.storage.segment import Segment
from lossbook.storage.summary_file import MetricStatistics

if TYPE_CHECKING:
    import duckdb

    from lossbook.storage.schema import Rows

if TYPE_CHECKING:
    from lossbook.storage.schema import Column

#: Kinds of rows that say something of the run as a whole.
KINDS_THAT_COUNT = frozenset(("config", "summary", "define", "finish", "alert", "warning"))

SeriesName = tuple[str, int, int]  # key, attempt, rank


class Event(NamedTuple):
    """A row that says something of the run as a whole."""

    time_us: int
    rank: int
    attempt: int
    kind: str
    value: JsonObject


@dataclass(slots=True)
class Statistics:
    """One series (a key of one attempt and rank) in numbers; extremes, sum and mean over finite values.

    Of several steps with the same extreme the first is told.
    """

    last: float = math.nan
    last_step: int = 0
    last_row: int = -1
    first_step: int = NEVER
    min: float = math.inf
    min_step: int | None = None
    max: float = -math.inf
    max_step: int | None = None
    sum: float = 0.0
    count: int = 0
    nonfinite: int = 0

    def add(self, step: int, row: int, value: float) -> None:
        if self.count == 0 or (step, row) >= (self.last_step, self.last_row):
            self.last, self.last_step, self.last_row = value, step, row
        self.count += 1
        if step < self.first_step:
            self.first_step = step
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        self.sum += value
        if value <= self.min and (value < self.min or self.min_step is None or step < self.min_step):
            self.min, self.min_step = value, step
        if value >= self.max and (value > self.max or self.max_step is None or step < self.max_step):
            self.max, self.max_step = value, step

    def add_many(self, steps: Column, rows: Column, values: Column) -> None:
        """As `add` of each in turn; arrays of shape (n,), n at least 1."""
        import numpy

        at = int(numpy.lexsort((rows, steps))[-1])
        if self.count == 0 or (steps[at], rows[at]) >= (self.last_step, self.last_row):
            self.last, self.last_step, self.last_row = float(values[at]), int(steps[at]), int(rows[at])
        self.count += len(values)
        self.first_step = min(self.first_step, int(steps.min()))
        is_finite = numpy.isfinite(values)
        if not is_finite.all():
            self.nonfinite += int((~is_finite).sum())
            steps, values = steps[is_finite], values[is_finite]
            if len(values) == 0:
                return
        # One after the other, as `add` does it: the sum does not depend on how the rows came in.
        self.sum = float(numpy.add.accumulate(numpy.concatenate(([self.sum], values)))[-1])
        low, high = float(values.min()), float(values.max())
        low_step, high_step = int(steps[values == low].min()), int(steps[values == high].min())
        if _is_first(low, low_step, self.min, self.min_step):
            self.min, self.min_step = low, low_step
        if _is_first(-high, high_step, -self.max, self.max_step):
            self.max, self.max_step = high, high_step

    def merge(self, other: Statistics) -> None:
        if other.count == 0:
            return
        if self.count == 0 or (other.last_step, other.last_row) >= (self.last_step, self.last_row):
            self.last, self.last_step, self.last_row = other.last, other.last_step, other.last_row
        self.count += other.count
        self.nonfinite += other.nonfinite
        self.sum += other.sum
        self.first_step = min(self.first_step, other.first_step)
        if other.min_step is not None and _is_first(other.min, other.min_step, self.min, self.min_step):
            self.min, self.min_step = other.min, other.min_step
        if other.max_step is not None and _is_first(-other.max, other.max_step, -self.max, self.max_step):
            self.max, self.max_step = other.max, other.max_step

    @property
    def furthest_step(self) -> int:
        """The last step that is known to be in it."""
        return max(self.last_step, self.min_step or self.last_step, self.max_step or self.last_step)

    def to_json(self) -> JsonObject:
        """As `summary.json` has it."""
        finite = self.count - self.nonfinite
        return {
            "last": encode_number(self.last),
            "last_step": self.last_step,
            "min": self.min if finite else None,
            "min_step": self.min_step,
            "max": self.max if finite else None,
            "max_step": self.max_step,
            "mean": encode_number(self.sum / finite) if finite else None,
            "count": self.count,
            "nonfinite": self.nonfinite,
        }


def _is_first(value: float, step: int, known: float, known_step: int | None) -> bool:
    return known_step is None or value < known or (value == known and step < known_step)


def statistics_of(written: MetricStatistics) -> Statistics | None:
    """What a summary says of a key, the sum as exact as a mean tells it; None where it does not say enough."""
    if written.last is None or written.last_step is None:
        return None
    found = Statistics(
        last=written.last,
        last_step=written.last_step,
        min_step=written.min_step,
        max_step=written.max_step,
        count=written.count,
        nonfinite=written.nonfinite,
    )
    finite = written.count - written.nonfinite
    if finite > 0:
        if written.min is None or written.max is None or written.mean is None:
            return None
        if written.min_step is None or written.max_step is None:
            return None
        found.min, found.max, found.sum = written.min, written.max, written.mean * finite
    return found


@dataclass
class SealedPart:
    """What a sealed file holds, or its rows from one on."""

    series: dict[SeriesName, Statistics] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    rows: int = 0
    last_time: int = 0
    next_row: int = 0
    ends: dict[int, int] = field(default_factory=dict)  # when the last row of each attempt was logged
    problems: list[str] = field(default_factory=list)

    def note_time(self, attempt: int, time_us: int) -> None:
        self.last_time = max(self.last_time, time_us)
        self.ends[attempt] = max(self.ends.get(attempt, 0), time_us)


def read_sealed(segment: Segment, first_row: int | None = None) -> SealedPart:
    """Read what a sealed file holds; the top level of its rollup tells it without a look at the rows.

    Args:
        first_row: only rows from that number on.

    Raises:
        FileNotFoundError: it was merged into another.
    """
    import orjson

    part = SealedPart(next_row=first_row or 0)
    later = "" if first_row is None else f" WHERE row >= {int(first_row)}"
    row_numbers: list[int] = []
    connection = connect()
    for key, attempt, rank, first, *numbers, last_time in _top_level(connection, segment, later):
        part.series[(key, attempt, rank)] = one = _statistics(*numbers)
        part.note_time(attempt, last_time)
        part.next_row = max(part.next_row, one.last_row + 1)
        row_numbers += [first, one.last_row]
    events = events_source(segment)
    query = f"SELECT row, epoch_us(time), kind, rank, attempt, value FROM {events}{later} ORDER BY row"
    found = _fetch(connection, segment.events, query) if events is not None else None
    for row, when, kind, rank, attempt, value in found or ():
        row_numbers.append(row)
        part.next_row = max(part.next_row, row + 1)
        part.note_time(attempt, when)
        if kind in KINDS_THAT_COUNT:
            try:
                part.events.append(Event(when, rank, attempt, kind, shallow_object(orjson.loads(value))))
            except orjson.JSONDecodeError:
                part.problems.append(f"{segment.events}: the contents of row {row} are no JSON; it is left out")
    connection.close()
    part.rows = max(row_numbers) - min(row_numbers) + 1 if row_numbers else 0
    part.problems += known_disagreements(
        path for path in (segment.rollup, segment.metrics, segment.events) if path is not None
    )
    return part


def _top_level(connection: duckdb.DuckDBPyConnection, segment: Segment, later: str) -> Rows:
    """Each series of a segment in numbers: from its rollup, or from its rows where there is none or `later` chooses some."""
    rollup = rollup_file(segment) if not later else None
    if rollup is not None:
        query = (
            "SELECT key, attempt, rank, first_row, first_step, last_step, last_row, last, min, min_step, max, max_step, "
            f"sum, count, nonfinite, epoch_us(last_time) FROM {parquet(rollup)} WHERE level = {TOP_LEVEL}"
        )
        found = _fetch(connection, rollup, query)
        if found is not None:
            return found
    source = metrics_source(segment)
    if source is None:
        return []
    return _fetch(connection, segment.metrics, _top_level_from_rows(source, later)) or []


def _fetch(connection: duckdb.DuckDBPyConnection, path: str | None, query: str) -> Rows | None:
    """Ask a question of one sealed file; None when it cannot be decoded, which is remembered."""
    import duckdb

    try:
        return connection.execute(query).fetchall()
    except (duckdb.Error, UnicodeDecodeError) as error:
        leave_out(str(path), error)
        return None


def _statistics(
    first_step: int,
    last_step: int,
    last_row: int,
    last: float,
    low: float | None,
    low_step: int | None,
    high: float | None,
    high_step: int | None,
    total: float | None,
    count: int,
    nonfinite: int,
) -> Statistics:
    return Statistics(
        last=last,
        last_step=last_step,
        last_row=last_row,
        first_step=first_step,
        min=math.inf if low is None else low,
        min_step=low_step,
        max=-math.inf if high is None else high,
        max_step=high_step,
        sum=total or 0.0,
        count=count,
        nonfinite=nonfinite,
    )


def _top_level_from_rows(source: str, where: str) -> str:
    return (
        "SELECT key, attempt, rank, min(row), min(step), max(step), max(row), arg_max(value, (step, row)), "
        "min(value) FILTER (isfinite(value)), arg_min(step, (value, step)) FILTER (isfinite(value)), "
        "max(value) FILTER (isfinite(value)), arg_min(step, (-value, step)) FILTER (isfinite(value)), "
        "sum(value) FILTER (isfinite(value)), count(*), count(*) FILTER (NOT isfinite(value)), epoch_us(max(time)) "
        f"FROM {source}{where} GROUP BY key, attempt, rank"
    )


def statistics_up_to(
    segments: Iterable[Segment], attempt: int, rank: int, cut: int, keys: set[str]
) -> dict[str, Statistics]:
    """Statistics of some series of one attempt and rank up to a step, from their rows: each file is read once.

    Raises:
        FileNotFoundError: a file was sealed or merged meanwhile.
    """
    result: dict[str, Statistics] = {}
    for segment in segments:
        if segment.name.rank != rank:
            continue
        if segment.journal is not None:
            current = 0
            for row in read_segment(segment.journal).rows:
                if row.kind == "attempt":
                    current = int(row.body["number"])
                elif row.i < (segment.first_row or 0):
                    continue
                elif row.kind is None and current == attempt and (row.step or 0) <= cut:
                    add_row(result, row, keys)
            continue
        source = metrics_source(segment)
        if source is None:
            continue
        where = f" WHERE attempt = {int(attempt)} AND rank = {int(rank)} AND step <= {int(cut)}"
        query = _top_level_from_rows(source, where)
        for key, _, _, _, *numbers, _ in _fetch(connect(), segment.metrics, query) or ():
            if key in keys:
                result.setdefault(key, Statistics()).merge(_statistics(*numbers))
    return result


def add_row(result: dict[str, Statistics], row: Row, keys: set[str]) -> None:
    """Add those of a row's values that belong to some keys."""
    for key in keys.intersection(row.body):
        one = result.get(key)
        if one is None:
            one = result[key] = Statistics()
        one.add(row.step or 0, row.i, row.body[key])
