"""Curves in the terminal: nothing that happened may be invisible."""

from __future__ import annotations

import math
import re

import pytest

from lossbook.cli.chart import draw
from lossbook.cli.format import Screen, text_width
from lossbook.terminal.drawing import Line

UNICODE = Screen(80, 24, color=False, unicode=True)
ASCII = Screen(80, 24, color=False, unicode=False)
COLOR = Screen(80, 24, color=True, unicode=True)


def line(values: list[float], label: str = "loss", spikes: dict[int, float] | None = None) -> Line:
    high = [(spikes or {}).get(at, value) for at, value in enumerate(values)]
    return Line(label, [float(at) for at in range(len(values))], values, high, values)


def plot_rows(picture: list[str]) -> list[str]:
    return [re.split("[┤│|+]", row, maxsplit=1)[1] for row in picture if re.match(r"[^─]*[┤│|+]", row)]


@pytest.mark.parametrize("view", [UNICODE, ASCII])
def test_a_spike_of_one_row_reaches_the_top_wherever_it_is(view: Screen) -> None:
    for at in (0, 57, 211, 399):
        top = plot_rows(draw([line([1.0] * 400, spikes={at: 9.0})], view, width=60, height=12))[0]
        assert top.strip(), f"the spike at {at} is not there"
        assert abs(len(top) - 1 - at / 400 * 57) <= 2


def test_the_picture_has_the_size_that_was_asked_for() -> None:
    for view in (UNICODE, ASCII):
        picture = draw([line([1.0, 5.0, 2.0])], view, width=50, height=10)
        assert len(picture) == 10 + 1  # and one line of legend
        assert all(text_width(row) <= 50 for row in picture)


def test_rows_that_are_not_finite_are_marked_at_their_place() -> None:
    curve = Line(
        "loss", [0.0, 50.0, 100.0], [1.0, math.nan, 1.0], [2.0, math.nan, 2.0], [1.5, math.nan, 1.5], [50.0], 3
    )
    picture = draw([curve], UNICODE, width=64, height=10)
    mark = next(row for row in picture if "×" in row and "finite" not in row)
    assert abs(mark.index("×") - 33) <= 2
    assert "3 not finite" in picture[-1]


@pytest.mark.parametrize(
    "values",
    [
        [],
        [math.nan, math.nan],
        [0.0],
        [3.0, 3.0, 3.0],
        [-1e308, 1e308],
        [5e-324, 1e-323],
        [1e15, 1e15 + 0.25],
        [math.inf, 1.0],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_no_values_break_the_drawing(values: list[float], log: bool) -> None:
    for view in (UNICODE, ASCII, COLOR):
        assert draw([line(values)], view, width=40, height=8, log=log)
        assert draw([line(values), line([1.0, 2.0])], view, width=40, height=8, log=log)


def test_one_value_lies_at_its_label() -> None:
    picture = draw([line([3.0, 3.0])], UNICODE, width=40, height=9)
    labelled = next(row for row in picture if "┤" in row)
    assert labelled.strip().startswith("3")
    assert labelled.split("┤")[1].strip()


def test_without_colour_each_of_several_curves_has_its_own_symbol() -> None:
    picture = "\n".join(draw([line([1.0] * 20, "a"), line([2.0] * 20, "b")], UNICODE, width=40, height=8))
    assert "** a" in picture
    assert "oo b" in picture
    assert "*****" in picture
    assert "ooooo" in picture


def test_ascii_is_ascii() -> None:
    curve = Line("loss", [0.0, 1.0], [1.0, 1.0], [2.0, 2.0], [1.5, 1.5], [1.0], 1)
    assert "\n".join(draw([curve], ASCII, width=40, height=8)).isascii()


def test_a_logarithmic_axis_says_what_it_leaves_out() -> None:
    picture = draw([line([-1.0, 0.0, 1.0, 1000.0])], UNICODE, width=40, height=12, log=True)
    assert "2 buckets reach zero or below" in picture[-1]
    assert any(row.strip().startswith("100 ") for row in picture)


def test_wallclock_is_labelled_in_hours() -> None:
    curve = Line("loss", [0.0, 7200.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    assert "1h 00m" in "\n".join(draw([curve], UNICODE, width=60, height=8, x="wallclock"))
