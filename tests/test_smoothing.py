"""What smoothing promises: the filters do what their names say, gaps and spikes stay local, curves smooth every row."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from hypothesis import given, strategies as st
from journals import BEGIN, WrittenRun

import lossbook
import lossbook.curves.downsample
from lossbook.curves.smoothing import (
    Smoothing,
    exponential_moving_average,
    gaussian,
    moving_average,
    moving_median,
    parse_smoothing,
    smooth,
    smooth_buckets,
)
from lossbook.errors import BadArgument
from lossbook.reading.run import RecordedRun
from lossbook.storage.compaction import seal_run

FILTERS = ["ema:0.9", "mean:1", "mean:7", "mean:50", "median:7", "median:50", "gaussian:2", "gaussian:20"]
rows = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=200)


def named(text: str) -> Smoothing:
    found = parse_smoothing(text)
    assert found is not None
    return found


def row_by_row(values: list[float], window: int, function: Callable[[list[float]], float]) -> list[float]:
    """What a window around each row gives, computed one row at a time."""
    found = []
    for at, value in enumerate(values):
        around = values[max(0, at - (window - 1) // 2) : at + window // 2 + 1]
        found.append(function([one for one in around if math.isfinite(one)]) if math.isfinite(value) else value)
    return found


# -- what was asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("ema:0.99", Smoothing("ema", 0.99)),
        (0.99, Smoothing("ema", 0.99)),
        ("0.99", Smoothing("ema", 0.99)),
        (" Mean : 50 ", Smoothing("mean", 50)),
        ("median:51", Smoothing("median", 51)),
        ("gaussian:2.5", Smoothing("gaussian", 2.5)),
        (Smoothing("mean", 3), Smoothing("mean", 3)),
        (None, None),
        ("", None),
        (0, None),
        (0.0, None),
    ],
)
def test_a_smoothing_is_read(asked: str | float | None, meant: Smoothing | None) -> None:
    assert parse_smoothing(asked) == meant


@pytest.mark.parametrize(
    "asked",
    ["ema:1", "ema:-0.1", 50, -0.5, "mean:0", "mean:2.5", "mean:nan", "median:inf", "gaussian:0", "savgol:5", "ema:",
     "ema:0.9:2", "a lot", "nan", True],
)  # fmt: skip
def test_a_smoothing_that_cannot_be_meant_is_refused_with_what_is_allowed(asked: str | float) -> None:
    with pytest.raises(BadArgument, match="smoothing") as refused:
        parse_smoothing(asked)
    assert any(word in str(refused.value) for word in ("ema:0.99", "whole number of rows", "above 0"))


# -- the filters --------------------------------------------------------------------------------------------------


def test_an_ema_has_adams_bias_correction_so_it_begins_at_the_first_value() -> None:
    assert exponential_moving_average([10.0, 10.0, 10.0], 0.99).tolist() == pytest.approx([10.0, 10.0, 10.0])
    first, second = 4.0, 2.0
    corrected = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    assert exponential_moving_average([first, second], 0.9).tolist() == pytest.approx([first, corrected])


@given(rows, st.sampled_from([0.0, 0.01, 0.5, 0.99, 0.999999]))
def test_an_ema_is_the_recurrence_of_its_definition(values: list[float], beta: float) -> None:
    average, seen, expected = 0.0, 0, []
    for value in values:
        if math.isfinite(value):
            average, seen = beta * average + (1 - beta) * value, seen + 1
            value = average / -math.expm1(seen * math.log(beta)) if beta else value
        expected.append(value)
    found = exponential_moving_average(values, beta)
    numpy.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-6)


@given(rows, st.integers(1, 300))
def test_moving_averages_and_medians_are_those_of_the_window_around_each_row(values: list[float], window: int) -> None:
    mean = row_by_row(values, window, lambda around: math.fsum(around) / len(around))
    numpy.testing.assert_allclose(moving_average(values, window), mean, rtol=1e-9, atol=1e-6)
    median = row_by_row(values, window, lambda around: float(numpy.median(around)))
    numpy.testing.assert_allclose(moving_median(values, window), median, rtol=1e-9, atol=1e-9)


def test_a_median_is_exact_beyond_one_block_of_rows() -> None:
    values = numpy.random.default_rng(0).normal(size=20_000)
    values[5] = values[8_200] = numpy.nan
    found = moving_median(values, 10)
    for at in (0, 4, 8_185, 8_191, 8_192, 8_205, 16_390, 19_999):
        around = values[max(0, at - 4) : at + 6]
        assert found[at] == pytest.approx(float(numpy.nanmedian(around)))


@pytest.mark.parametrize("width", [0.4, 3.0, 8.0, 20.0, 150.0])
def test_a_gaussian_is_the_bell_of_that_width(width: float) -> None:
    impulse = numpy.zeros(4001)
    impulse[2000] = 1.0
    offsets = numpy.arange(-2000, 2001)
    bell = numpy.exp(-0.5 * (offsets / width) ** 2)
    found = gaussian(impulse, width)
    assert found.sum() == pytest.approx(1.0, abs=1e-3)
    numpy.testing.assert_allclose(found, bell / bell.sum(), atol=0.04 * (bell / bell.sum()).max())


@pytest.mark.parametrize("asked", FILTERS)
def test_a_constant_stays_what_it_is_to_both_ends(asked: str) -> None:
    values = numpy.full(997, 2.5)
    values[[0, 40, 996]] = numpy.nan
    numpy.testing.assert_allclose(smooth(values, named(asked)), values, rtol=1e-12)


@pytest.mark.parametrize("asked", FILTERS)
@given(values=rows)
def test_values_that_are_not_finite_stay_where_they_are_and_poison_nothing(asked: str, values: list[float]) -> None:
    given_rows = numpy.array(values, dtype=numpy.float64)
    found = smooth(given_rows, named(asked))
    assert found.shape == given_rows.shape
    finite = numpy.isfinite(given_rows)
    numpy.testing.assert_array_equal(found[~finite], given_rows[~finite])
    assert bool(numpy.isfinite(found[finite]).all())
    if finite.any():
        low, high = given_rows[finite].min(), given_rows[finite].max()
        assert bool(((found[finite] >= low - 1e-6) & (found[finite] <= high + 1e-6)).all())


@pytest.mark.parametrize("asked", ["mean:50", "median:50", "gaussian:5", "gaussian:20"])
def test_a_spike_of_1e30_leaves_rows_beyond_its_window_alone(asked: str) -> None:
    calm = numpy.sin(numpy.arange(3000) / 50)
    spiked = calm.copy()
    spiked[1500] = 1e30
    expected, found = smooth(calm, named(asked)), smooth(spiked, named(asked))
    numpy.testing.assert_allclose(found[:1300], expected[:1300], rtol=1e-12, atol=1e-14)
    numpy.testing.assert_allclose(found[1700:], expected[1700:], rtol=1e-12, atol=1e-14)


def test_smoothing_leaves_the_given_array_alone_and_takes_empty_ones() -> None:
    values = numpy.arange(100.0)
    for asked in FILTERS:
        smooth(values, named(asked))
        assert smooth([], named(asked)).shape == (0,)
    assert values.tolist() == list(range(100))


def test_only_one_series_can_be_smoothed_at_a_time() -> None:
    with pytest.raises(BadArgument, match="shape"):
        moving_average(numpy.zeros((3, 3)), 2)
    with pytest.raises(BadArgument, match="window"):
        moving_median([1.0], 0)
    with pytest.raises(BadArgument, match="beta"):
        exponential_moving_average([1.0], 1.0)
    with pytest.raises(BadArgument, match="width"):
        gaussian([1.0], math.nan)


def test_an_ema_of_buckets_ends_where_the_ema_of_their_rows_does() -> None:
    means = numpy.array([5.0, 3.0, math.nan, 4.0, 2.0])
    counts = numpy.array([64, 64, 0, 64, 10])
    in_rows = numpy.repeat(means, counts)
    ends = numpy.cumsum(counts) - 1
    found = smooth_buckets(means, counts, Smoothing("ema", 0.99))
    expected = exponential_moving_average(in_rows, 0.99)[ends]
    assert math.isnan(found[2])
    numpy.testing.assert_allclose(found[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


# -- smoothed curves ----------------------------------------------------------------------------------------------


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., WrittenRun]:
    def make(name: str = "a1", **identity: object) -> WrittenRun:
        return WrittenRun(tmp_path / "store" / "tests" / name, name=name, **identity)

    return make


MakeRun = Callable[..., WrittenRun]


def reading(run: WrittenRun) -> RecordedRun:
    return lossbook.open(os.path.dirname(os.path.dirname(run.folder.path))).run(os.path.basename(run.folder.path))


def noisy(count: int, seed: int = 0) -> list[float]:
    generator = numpy.random.default_rng(seed)
    return (3 + numpy.exp(-numpy.arange(count) / 500) + generator.normal(0, 0.3, count)).tolist()


def test_a_curve_smooths_every_row_before_it_is_decimated(make_run: MakeRun) -> None:
    run, values = make_run(), noisy(5000)
    run.segment([{"loss": value} for value in values[:3000]])
    run.segment([{"loss": value} for value in values[3000:]], first_step=3000, head=False)
    seal_run(run.folder, finished=True)
    expected = exponential_moving_average(values, 0.99)
    curve = reading(run).curve("loss", points=50, smoothing="ema:0.99")
    assert len(curve) == 50
    assert curve.count.sum() == 5000
    assert curve.last[-1] == pytest.approx(expected[-1])
    for bucket in range(50):
        within = expected[int(curve.x[bucket]) : int(curve.x_end[bucket]) + 1]
        assert curve.min[bucket] == pytest.approx(within.min())
        assert curve.max[bucket] == pytest.approx(within.max())
        assert curve.mean[bucket] == pytest.approx(within.mean())


def test_a_zoom_shows_the_same_smoothed_line_only_nearer(make_run: MakeRun) -> None:
    run, values = make_run(), noisy(2000)
    run.segment([{"loss": value} for value in values])
    for asked in ("ema:0.9", "mean:31", "median:31", "gaussian:12"):
        whole = reading(run).curve("loss", points=2000, smoothing=asked)
        part = reading(run).curve("loss", points=2000, smoothing=asked, start=700, end=799)
        assert part.x.tolist() == list(range(700, 800))
        numpy.testing.assert_allclose(part.mean, whole.mean[700:800])


def test_nan_is_counted_in_a_smoothed_curve_and_spoils_nothing(make_run: MakeRun) -> None:
    run, values = make_run(), noisy(100)
    values[40] = math.nan
    run.segment([{"loss": value} for value in values])
    curve = reading(run).curve("loss", smoothing=0.9)
    assert curve.nonfinite.tolist() == [int(step == 40) for step in range(100)]
    assert math.isnan(curve.mean[40])
    assert bool(numpy.isfinite(numpy.delete(curve.mean, 40)).all())


def test_ranks_are_averaged_step_by_step_before_they_are_smoothed(make_run: MakeRun) -> None:
    run = make_run()
    first, second = noisy(300, seed=1), noisy(300, seed=2)
    run.segment([{"loss": value} for value in first], rank=0)
    run.segment([{"loss": value} for value in second], rank=1)
    expected = moving_average((numpy.array(first) + second) / 2, 9)
    curve = reading(run).curve("loss", smoothing="mean:9")
    numpy.testing.assert_allclose(curve.mean, expected)


def test_rows_that_a_resumed_attempt_replaced_do_not_reach_the_smoothed_line(make_run: MakeRun) -> None:
    entries = [WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, resume_step=49)]
    run, values = make_run(attempts=entries), noisy(100)
    run.segment([{"loss": value} for value in [*values[:50], *[1e9] * 20]])
    run.segment([{"loss": value} for value in values[50:]], attempt=1, first_step=50)
    curve = reading(run).curve("loss", smoothing="mean:11")
    numpy.testing.assert_allclose(curve.mean, moving_average(values, 11))


def test_a_run_beyond_the_limit_is_smoothed_by_its_rollup(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run, values = make_run(), noisy(120_000)
    run.segment([{"loss": value} for value in values])
    seal_run(run.folder, finished=True)
    by_rows = reading(run).curve("loss", points=200, smoothing="ema:0.999")
    monkeypatch.setattr("lossbook.curves.axes.SMOOTHED_POINTS", 1500)
    monkeypatch.setattr(lossbook.curves.downsample, "RAW_ROWS", 1000)
    by_buckets = reading(run).curve("loss", points=200, smoothing="ema:0.999")
    assert by_buckets.count.sum() == 120_000
    at = numpy.interp(by_rows.x, by_buckets.x, by_buckets.mean)
    # A bucket stands for 64 rows, so the line is as much coarser in x.
    numpy.testing.assert_allclose(at[5:], by_rows.mean[5:], atol=0.02)


def test_smoothing_goes_with_every_axis(make_run: MakeRun) -> None:
    run, values = make_run(), noisy(400)
    run.segment([{"loss": value, "tokens": 1024.0 * step} for step, value in enumerate(values)])
    expected = exponential_moving_average(values, 0.9)
    for x in ("step", "tokens", "time", "wallclock", "elapsed"):
        curve = reading(run).curve("loss", x=x, smoothing=0.9)
        numpy.testing.assert_allclose(curve.mean, expected)
    curve = reading(run).curve("loss", x="tokens", smoothing=0.9, start=1024 * 100, end=1024 * 109)
    numpy.testing.assert_allclose(curve.mean, expected[100:110])


# -- elapsed ------------------------------------------------------------------------------------------------------


def test_elapsed_counts_the_gap_between_attempts_and_wallclock_leaves_it_out(make_run: MakeRun) -> None:
    hour = 3600 * 1_000_000
    entries = [
        WrittenRun.attempt_entry(0) | {"started": BEGIN - 2_000_000},
        WrittenRun.attempt_entry(1, resume_step=9) | {"started": BEGIN + hour},
    ]
    run = make_run(attempts=entries)
    run.segment([{"loss": 1.0}] * 10)
    resumed = run.segment([{"loss": 1.0}] * 10, attempt=1, first_step=10)
    with open(resumed, "rb") as file:
        lines = file.read()
    for row in range(11, 22):
        # The second attempt writes its rows an hour later.
        lines = lines.replace(b'"t":%d' % (BEGIN + row * 1000), b'"t":%d' % (BEGIN + hour + row * 1000))
    with open(resumed, "wb") as file:
        file.write(lines)
    elapsed = reading(run).curve("loss", x="elapsed").x
    wallclock = reading(run).curve("loss", x="wallclock").x
    assert elapsed[0] == pytest.approx(2.001, abs=1e-3)
    assert elapsed[10] == pytest.approx(3602.012, abs=1e-3)
    assert wallclock[0] == pytest.approx(elapsed[0])
    assert wallclock[10] < 3
    zoomed = reading(run).curve("loss", x="elapsed", start=3000)
    assert len(zoomed) == 10
