"""Rows of plain numbers are read many at a time; what comes out is what reading them one by one gives."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from lossbook.journal.line import decode, decode_plain, encode_scalars
from lossbook.journal.reader import read_segment
from lossbook.storage.statistics import Statistics


def lines_of(count: int, *, first: int = 0) -> list[bytes]:
    return [
        encode_scalars(i, 1_763_688_000_000_000 + i, i // 2, {"loss": i / 7, "tokens": i * 1000, "lr": 1e-3})  # type: ignore[dict-item]
        for i in range(first, first + count)
    ]


def written(path: Path, lines: list[bytes]) -> str:
    path.write_bytes(b"".join(lines))
    return str(path)


def test_many_rows_at_once_are_the_rows_one_by_one(tmp_path: Path) -> None:
    lines = lines_of(2000)
    reading = read_segment(written(tmp_path / "r0-000001.jsonl", lines))
    assert reading.rows == [decode(line) for line in lines]
    assert {type(value) for row in reading.rows for value in row.body.values()} == {float}


@pytest.mark.parametrize(
    "odd",
    [
        b'{"i":700,"t":1763688000000700,"s":3,"k":"note","v":{"text":"x"}}\n',
        b'{"i":700,"t":1763688000000700,"s":3,"m":{"loss":"NaN"}}\n',
        b'{"i":700,"t":1763688000000700,"s":3,"m":{"loss":true}}\n',
        b'{"i":700,"t":1763688000000700,"s":3,"m":{}}\n',
        b'{"i":700,"t":1763688000000700,"s":3,"m":{"loss":1},"later":2}\n',
    ],
)
def test_an_odd_row_among_them_is_read_as_ever(tmp_path: Path, odd: bytes) -> None:
    lines = [*lines_of(700), odd, *lines_of(700, first=701)]
    reading = read_segment(written(tmp_path / "r0-000001.jsonl", lines))
    assert str(reading.rows) == str([decode(line) for line in lines])  # NaN is not equal to itself
    assert reading.problems == []


def test_a_damaged_line_among_them_costs_itself(tmp_path: Path) -> None:
    lines = [*lines_of(700), b'{"i":700,"t":17636880\n', *lines_of(700, first=701)]
    reading = read_segment(written(tmp_path / "r0-000001.jsonl", lines))
    assert [row.i for row in reading.rows] == [i for i in range(1401) if i != 700]
    assert [problem.line for problem in reading.problems] == [701]


def test_rows_with_a_gap_are_not_taken_for_plain_ones() -> None:
    assert decode_plain([*lines_of(3), *lines_of(3, first=4)]) is None
    assert decode_plain(lines_of(3)) is not None
    assert decode_plain([b"no JSON\n"]) is None


@pytest.mark.parametrize("seed", range(5))
def test_many_values_added_at_once_are_added_one_by_one(seed: int) -> None:
    import numpy

    chance = random.Random(seed)
    one, many = Statistics(), Statistics()
    for _ in range(4):
        count = chance.randint(1, 300)
        steps = [chance.randint(0, 200) for _ in range(count)]
        rows = sorted(chance.sample(range(10_000), count))
        values = [chance.choice((math.nan, math.inf, -math.inf, 1.5, chance.gauss(0, 1))) for _ in range(count)]
        for step, row, value in zip(steps, rows, values, strict=True):
            one.add(step, row, value)
        many.add_many(numpy.array(steps), numpy.array(rows), numpy.array(values))
        assert str(many) == str(one)  # NaN is not equal to itself
