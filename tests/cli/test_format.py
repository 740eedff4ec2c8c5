"""How numbers, durations, tables and JSON look."""

from __future__ import annotations

import json
import math

import pytest

from lossbook.cli.format import (
    Column,
    Screen,
    age,
    clip,
    duration,
    number,
    pad,
    printable,
    size,
    table,
    text_width,
    to_json,
)

TERMINAL = Screen(40, 24, color=False, unicode=True)
PIPE = Screen(0, 0, color=False, unicode=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.2171234, "3.2171"),
        (3e-4, "0.0003"),
        (1.5e-7, "1.5e-7"),
        (124_439_808, "124439808"),
        (2.0, "2"),
        (1e30, "1e30"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (None, "-"),
        (True, "true"),
        ("adamw", "adamw"),
    ],
)
def test_a_number_is_short_and_never_wrong(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.96, "10s"), (59.7, "1m 00s"), (3725, "1h 02m"), (200_000, "2d 07h"), (None, "-")],
)
def test_a_duration_has_two_units_at_the_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    assert age(1000.0, now=998.0) == "now"
    assert age(5000.0, now=1000.0) == "in the future"


def test_bytes_are_counted_in_units_of_1024() -> None:
    assert [size(812), size(3.4 * 2**20), size(5 * 2**40)] == ["812 B", "3.4 MiB", "5.0 TiB"]


def test_a_name_cannot_steer_the_terminal() -> None:
    assert printable("bad\x1b[31m\nname\u202e") == "bad\ufffd[31m name\ufffd"


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert text_width("模型") == 4
    assert text_width("e\u0301") == 1
    assert pad("模", 4) == "模  "
    assert clip("模型训练", 6) == "模型…"


def test_a_table_is_never_wider_than_the_terminal() -> None:
    columns = [Column("id", keep=9), Column("name", shrink=True, keep=8), Column("notes", keep=1), Column("loss", True)]
    rows = [["k3jd9f2a", "a-very-long-name-" * 3, "a note of some length", "3.14"], ["b", "模型" * 20, "", "NaN"]]

    lines = table(columns, rows, TERMINAL)

    assert all(text_width(line) <= 40 for line in lines)
    assert "k3jd9f2a" in lines[1]
    assert "…" in lines[1]
    assert "notes" not in lines[0]


def test_a_table_in_a_pipe_is_complete() -> None:
    long = "x" * 500
    assert long in table([Column("name", shrink=True)], [[long]], PIPE)[1]


def test_json_holds_what_json_cannot() -> None:
    value = {"loss": math.nan, "best": math.inf, "big": 2**70, "bad": "\ud800", 3: (1, 2)}
    assert json.loads(to_json(value)) == {"loss": "NaN", "best": "Infinity", "big": str(2**70), "bad": "?", "3": [1, 2]}
