"""Reads the rows of journal segments into columns, and sorts them for their Parquet files.

Every whole line is taken: one that is damaged is kept as an event and reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy
import orjson

from lossbook.journal import DamagedLine, JournalSegment, decode, decode_number, decode_plain, is_place, is_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Row, step, time (µs), kind, key, attempt, value as JSON.
EventRow: TypeAlias = tuple[int, int | None, int, str, str | None, int, str]
#: The kind under which a line that could not be read is kept, so that nothing is thrown away.
DAMAGED = "damaged"
#: Lines are taken by so many bytes at once: one odd line among them sends them all the careful way.
PLAIN_BYTES = 1 << 16
#: What a row's numbers are as a rule; columns of doubles take them as they are.
_NUMBERS = frozenset((float, int))


@dataclass
class JournalRows:
    """A segment's rows as columns: lists of one entry a scalar row, `keys` and `values` flat."""

    i: list[int] = field(default_factory=list)
    t: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    attempt: list[int] = field(default_factory=list)
    codes: list[NDArray[numpy.int32]] = field(default_factory=list)  # per row: the numbers of its keys
    values: list[float] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # key to its number
    events: list[EventRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    next_row: int = 0
    last_attempt: int = 0

    key_sets: dict[tuple[str, ...], NDArray[numpy.int32]] = field(default_factory=dict)

    @property
    def scalars(self) -> int:
        return len(self.values)

    def add_keys(self, keys: tuple[str, ...]) -> None:
        """Note the keys of the next row; rows with the same keys share one array."""
        codes = self.key_sets.get(keys)
        if codes is None:
            names = self.names
            codes = numpy.array([names.setdefault(key, len(names)) for key in keys], dtype=numpy.int32)
            self.key_sets[keys] = codes
        self.codes.append(codes)


class JournalRead(NamedTuple):
    """How much of a segment was read: its whole lines, and with a torn last one, in bytes."""

    whole_bytes: int
    bytes: int


def read_journal(journal: JournalSegment, rows: JournalRows) -> JournalRead:
    """Add a segment to `rows`: every whole line, damaged ones kept as events and reported.

    Raises:
        FileNotFoundError: it has been sealed meanwhile.
    """
    loads = orjson.loads
    attempt = rows.last_attempt
    expected: int | None = rows.next_row or None
    number = 0
    torn = b""
    with open(journal.path, "rb") as file:
        # Behind a torn line there is nothing, or what has been written since.
        while not torn and (lines := file.readlines(PLAIN_BYTES)):
            if not lines[-1].endswith(b"\n"):
                torn = lines.pop()
                rows.problems.append(
                    f"{journal.path}: the last line is torn off after {len(torn)} bytes; it was never a whole row"
                )
            if _take_plain(lines, rows, attempt, expected):
                number += len(lines)
                expected = rows.i[-1] + 1
                continue
            for line in lines:
                number += 1
                try:
                    fields = loads(line)
                    metrics = fields["m"]
                    i, t, step = fields["i"], fields["t"], fields["s"]
                    if not is_place(i, t) or not is_step(step) or i < 0 or "k" in fields:
                        raise TypeError
                    if not _NUMBERS.issuperset(map(type, metrics.values())):
                        metrics = {key: decode_number(value) for key, value in metrics.items()}
                except (ValueError, KeyError, TypeError, AttributeError):
                    try:
                        row = decode(line)
                    except DamagedLine as error:
                        rows.problems.append(f"{journal.path}, line {number}: damaged line passed over: {error}")
                        _keep_damaged(rows, line, number, expected or 0, attempt)
                        # A damaged line was a row: its number is not missing.
                        expected = None if expected is None else expected + 1
                        continue
                    if row.kind == "attempt":
                        attempt = rows.last_attempt = int(row.body["number"])
                    text = orjson.dumps(row.body).decode()
                    rows.events.append((row.i, row.step, row.t, str(row.kind), row.key, attempt, text))
                    i = row.i
                else:
                    rows.add_keys(tuple(metrics))
                    rows.values.extend(metrics.values())
                    rows.i.append(i)
                    rows.t.append(t)
                    rows.step.append(step)
                    rows.attempt.append(attempt)
                if expected is not None and i != expected and len(rows.problems) < 100:
                    rows.problems.append(_gap(journal.path, expected, i))
                expected = i + 1 if expected is None else max(expected, i + 1)
        size = file.tell()
    rows.next_row = expected or 0
    return JournalRead(size - len(torn), size)


def _take_plain(lines: list[bytes], rows: JournalRows, attempt: int, expected: int | None) -> bool:
    """Add lines that are all rows of finite numbers, as training writes them, without a loop in Python.

    Returns:
        False, with nothing added, when there is anything else among them: the careful path takes them then.
    """
    found = decode_plain(lines)
    if found is None or (expected is not None and found.i[0] != expected):
        return False
    i, t, step, metrics, values = found
    for key_set in map(tuple, metrics):
        rows.add_keys(key_set)
    rows.values.extend(values)
    rows.i.extend(i)
    rows.t.extend(t)
    rows.step.extend(step)
    rows.attempt.extend([attempt] * len(i))
    return True


def _gap(path: str, expected: int, found: int) -> str:
    if found > expected:
        return f"{path}: rows {expected} to {found - 1} are missing"
    return f"{path}: row {found} comes again: two processes wrote as the same rank, both are kept"


def _keep_damaged(rows: JournalRows, line: bytes, number: int, i: int, attempt: int) -> None:
    text = orjson.dumps({"line": number, "text": line.decode("latin-1").rstrip("\n")[:100_000]}).decode()
    rows.events.append((i, None, rows.t[-1] if rows.t else 0, DAMAGED, None, attempt, text))


@dataclass
class SortedColumns:
    """Scalars sorted by key, step, row. Arrays of shape (n,); `code` indexes `names`, which are sorted."""

    names: list[str]
    code: NDArray[numpy.int32]
    row: NDArray[numpy.int64]
    step: NDArray[numpy.int64]
    time: NDArray[numpy.int64]
    value: NDArray[numpy.float64]
    attempt: NDArray[numpy.int16]


def sort_columns(rows: JournalRows) -> SortedColumns:
    """Flatten and sort a segment's scalars."""
    names = sorted(rows.names, key=lambda key: key.encode("utf-8", "surrogatepass"))
    place = numpy.empty(len(names), dtype=numpy.uint16 if len(names) < 1 << 16 else numpy.int32)
    for position, key in enumerate(names):
        place[rows.names[key]] = position
    counts = numpy.fromiter(map(len, rows.codes), dtype=numpy.int64, count=len(rows.codes))
    code = place[numpy.concatenate(rows.codes)] if rows.codes else place[:0]
    step = numpy.repeat(numpy.array(rows.step, dtype=numpy.int64), counts)
    row = numpy.repeat(numpy.array(rows.i, dtype=numpy.int64), counts)
    # A stable sort by key alone keeps the order of rows, which is that of steps as a rule.
    order = numpy.argsort(code, kind="stable")
    code, step, row = code[order], step[order], row[order]
    same_key = code[1:] == code[:-1]
    later = (step[1:] > step[:-1]) | ((step[1:] == step[:-1]) & (row[1:] >= row[:-1]))
    if not bool(numpy.all(later | ~same_key)):
        again = numpy.lexsort((row, step, code))
        order, code, step, row = order[again], code[again], step[again], row[again]
    return SortedColumns(
        names=names,
        code=code.astype(numpy.int32),
        row=row,
        step=step,
        time=numpy.repeat(numpy.array(rows.t, dtype=numpy.int64), counts)[order],
        value=numpy.array(rows.values, dtype=numpy.float64)[order],
        attempt=numpy.repeat(numpy.array(rows.attempt, dtype=numpy.int16), counts)[order],
    )
