"""The statistics under the detectors agree with those of the standard library, whatever comes."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, strategies as st

from lossbook.diagnosis.windows import SIGMA_OF_MAD, Held, SortedWindow, median, sigma

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=200), st.integers(1, 40))
def test_a_window_holds_the_last_values_in_order_of_size(values: list[float], size: int) -> None:
    window = SortedWindow(size)
    for value in values:
        window.add(value)
    assert window.values == sorted(values[-size:])


@given(st.lists(finite, min_size=1, max_size=60))
def test_the_median_is_the_median(values: list[float]) -> None:
    assert median(sorted(values)) == pytest.approx(statistics.median(values))


@given(st.lists(finite, min_size=1, max_size=60))
def test_sigma_is_the_scaled_median_of_distances(values: list[float]) -> None:
    centre = median(sorted(values))
    distances = sorted(abs(value - centre) for value in values)
    assert sigma(sorted(values), centre) == pytest.approx(SIGMA_OF_MAD * distances[len(values) // 2])


def held() -> Held:
    return Held(60, least=5, share=0.8, gap_seconds=120)


def test_a_condition_counts_once_it_has_held_for_long_enough() -> None:
    condition = held()
    assert [condition.take(True, at, at * 10_000_000) for at in range(8)] == [False] * 6 + [True] * 2


def test_a_sample_otherwise_is_forgiven_and_several_in_a_row_are_not() -> None:
    condition = held()
    for at in range(30):
        condition.take(at % 10 != 5, at, at * 10_000_000)
    assert condition.take(True, 30, 300_000_000)
    for at in range(31, 36):
        condition.take(False, at, at * 10_000_000)
    assert not condition.take(True, 36, 360_000_000)


def test_samples_far_apart_say_nothing_about_the_time_between() -> None:
    condition = held()
    assert not any(condition.take(True, at, at * 121_000_000) for at in range(20))
