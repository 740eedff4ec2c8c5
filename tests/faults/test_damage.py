"""Whatever happens to the bytes of a journal, only the lines that it happened to are gone, and nothing raises."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

import lossbook
from lossbook.journal.line import DamagedLine, Row, decode, encode_event, encode_scalars
from lossbook.journal.reader import find_gaps, first_row, last_row, read_segment, rows_backwards
from lossbook.paths import write_json

BEGIN = 1_763_688_000_000_000


def written_lines() -> list[bytes]:
    """A journal of every kind of row, with all that a value and a key can be."""
    lines = [encode_event(0, BEGIN, None, "attempt", None, {"number": 0, "rank": 0, "host": "elsewhere", "pid": 1})]
    for step in range(12):
        scalars = {"train/loss": 1 / (step + 1), "läuft/✓": float("nan"), "big": 1e308 * (step % 2 or -10), " ": 0.0}
        lines.append(encode_scalars(len(lines), BEGIN + step, step, scalars))
        if step % 4 == 0:
            body: dict[str, Any] = {"text": 'once "upon"\n{"i":3,"t":1}\n a time'}
            lines.append(encode_event(len(lines), BEGIN + step, step, "text", "sample", body))
            lines.append(encode_event(len(lines), BEGIN + step, step, "unheard of", None, {"v": [1, None]}))
    lines.append(encode_event(len(lines), BEGIN, None, "finish", None, {"state": "finished", "error": None}))
    return lines


LINES = written_lines()
WHOLE = b"".join(LINES)
#: Where each line begins, and where the file ends.
STARTS = [sum(map(len, LINES[:number])) for number in range(len(LINES) + 1)]
ROWS = [decode(line) for line in LINES]


def lines_in(first: int, last: int) -> set[int]:
    """The lines that have a byte (or their newline) in the range `first` to `last`."""
    return {number for number in range(len(LINES)) if STARTS[number] < last and STARTS[number + 1] > first}


def same(row: Row, other: Row) -> bool:
    return repr(row) == repr(other)


def read_all(contents: bytes) -> list[Row]:
    """Read bytes as a segment in every way there is; all must agree."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "r0-000001.jsonl")
        Path(path).write_bytes(contents)
        reading = read_segment(path)
        assert reading.offset == contents.rfind(b"\n") + 1
        assert reading.offset + len(reading.torn) == len(contents)
        # Line by line, from wherever the last reading ended, gives the same.
        rows: list[Row] = []
        offset, line = 0, 1
        while (part := read_segment(path, offset=offset, first_line=line, limit_bytes=64)).offset > offset:
            rows += part.rows
            line += len(part.rows) + len(part.problems)
            offset = part.offset
        assert list(map(repr, rows)) == list(map(repr, reading.rows))
        assert [repr(row) for row in rows_backwards(path)] == [repr(row) for row in reversed(rows)]
        assert repr(last_row(path)) == repr(rows[-1] if rows else None)
        first_row(path)
        for problem in [*reading.problems, *find_gaps(reading.rows, path, 0)]:
            assert str(problem)
        return reading.rows


def assert_kept(contents: bytes, harmed: set[int]) -> None:
    """Every row but those of the harmed lines is read, in order."""
    found = iter(read_all(contents))
    for number, row in enumerate(ROWS):
        if number not in harmed:
            assert any(same(one, row) for one in found), f"line {number} is lost"


@given(st.integers(0, len(WHOLE)))
def test_a_journal_cut_off_anywhere_keeps_its_whole_lines(length: int) -> None:
    whole = sum(1 for start in STARTS[1:] if start <= length)
    rows = read_all(WHOLE[:length])
    assert len(rows) == whole
    assert all(same(row, other) for row, other in zip(rows, ROWS, strict=False))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_flipped_byte_costs_its_own_line_at_the_most(place: int, flip: int) -> None:
    contents = bytearray(WHOLE)
    contents[place] ^= flip
    # A newline that is none any more joins two lines.
    assert_kept(bytes(contents), lines_in(place, place + 1 + (WHOLE[place] == 10)))


@given(st.integers(0, len(WHOLE)), st.integers(0, 300), st.binary(max_size=200))
@settings(max_examples=300)
def test_bytes_replaced_anywhere_cost_the_lines_they_touch(first: int, size: int, instead: bytes) -> None:
    last = min(len(WHOLE), first + size)
    # What stands in the way is joined to the lines on both of its sides.
    assert_kept(WHOLE[:first] + instead + WHOLE[last:], lines_in(max(0, first - 1), last + 1))


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8))
def test_scattered_damage_costs_each_line_it_touches(damage: list[tuple[int, int]]) -> None:
    contents = bytearray(WHOLE)
    harmed: set[int] = set()
    for place, value in damage:
        contents[place] = value
        harmed |= lines_in(place, place + 1 + (WHOLE[place] == 10))
    assert_kept(bytes(contents), harmed)


@given(st.binary(max_size=2000))
def test_any_bytes_at_all_can_be_read(contents: bytes) -> None:
    read_all(contents)


@given(st.binary(max_size=200))
def test_a_line_of_any_bytes_is_a_row_or_damaged(line: bytes) -> None:
    try:
        assert decode(line).i >= 0
    except DamagedLine as error:
        assert str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("itsmkv"), inner, max_size=6),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["i", "t", "s", "m", "k", "key", "v"]), JSON, max_size=7))
def test_a_line_that_is_json_but_no_row_is_damaged(fields: dict[str, Any]) -> None:
    import orjson

    try:
        line = orjson.dumps(fields)
    except TypeError:  # an integer past 64 bits: no JSON of ours
        return
    try:
        row = decode(line)
    except DamagedLine:
        return
    assert type(row.i) is int
    assert type(row.t) is int
    assert all(type(value) is float for value in row.body.values()) or row.kind is not None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(STARTS[1], len(WHOLE) - 1), size=st.integers(0, 200), instead=st.binary(max_size=40))
def test_a_damaged_run_is_opened_sealed_and_drawn(tmp_path: Path, place: int, size: int, instead: bytes) -> None:
    store = Path(tempfile.mkdtemp(dir=tmp_path))
    folder = store / "p" / "damaged"
    (folder / "journal").mkdir(parents=True)
    attempt = {"number": 0, "host": "elsewhere", "pid": 1, "started": BEGIN}
    identity = {
        "format": 1,
        "id": "damaged",
        "name": "damaged",
        "project": "p",
        "created": BEGIN,
        "config": {},
        "tags": [],
        "group": None,
        "notes": None,
        "attempts": [attempt],
    }
    write_json(str(folder / "run.json"), identity)
    journal = folder / "journal" / "r0-000001.jsonl"
    last = min(len(WHOLE), place + size)
    journal.write_bytes(WHOLE[:place] + instead + WHOLE[last:])
    os.utime(journal, (BEGIN / 1e6, BEGIN / 1e6))
    harmed = lines_in(place - 1, last + 1)
    kept = {row.step for number, row in enumerate(ROWS) if row.kind is None and number not in harmed}
    damaged = read_segment(str(journal)).problems
    run = lossbook.open(store).run("damaged")
    problems = run.problems()
    if kept:
        curve = run.curve("train/loss", points=100)
        assert kept <= set(curve.x.astype(int).tolist())
        values = dict(zip(curve.x.astype(int).tolist(), curve.last.tolist(), strict=True))
        assert all(values[step] == 1 / (step + 1) for step in kept)
        assert run.metrics["train/loss"]["count"] >= len(kept)
    assert bool(damaged) <= bool(problems)
