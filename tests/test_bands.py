"""What a band over seeds promises: each run counts where it is, its mean and its range are those of the runs there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from journals import WrittenRun

import lossbook
from lossbook.analysis.seed_bands import seed_band
from lossbook.errors import BadArgument, UnknownKey
from lossbook.reading.run import RecordedRun

Seed = Callable[..., RecordedRun]


@pytest.fixture
def seed(tmp_path: Path) -> Seed:
    """`seed("a", [3.0, 2.0])`: a run that logged these losses at steps 0, 1, ...; pairs name their steps."""

    def make(name: str, losses: list[float] | list[tuple[int, float]], key: str = "train/loss") -> RecordedRun:
        run = WrittenRun(tmp_path / "store" / "tests" / name, name=name)
        rows = [one if isinstance(one, tuple) else (step, one) for step, one in enumerate(losses)]
        run.segment([(step, {key: value, "tokens": 100.0 * step}) for step, value in rows])
        return lossbook.open(tmp_path / "store").run(name)

    return make


def test_a_band_is_the_mean_and_the_range_of_the_runs(seed: Seed) -> None:
    band = seed_band([seed("a", [4.0, 2.0]), seed("b", [6.0, 1.0]), seed("c", [5.0, 3.0])], "train/loss")
    assert band.x.tolist() == [0, 1]
    assert band.mean.tolist() == [5.0, 2.0]
    assert band.low.tolist() == [4.0, 1.0]
    assert band.high.tolist() == [6.0, 3.0]
    assert band.count.tolist() == [3, 3]
    assert len(band) == 2


def test_a_run_counts_only_between_its_own_first_and_last_row(seed: Seed) -> None:
    long, short = seed("long", [1.0] * 10), seed("short", [(2, 3.0), (4, 3.0)])
    band = seed_band([long, short], "train/loss")
    assert band.count.tolist() == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]
    assert band.mean.tolist() == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]
    assert band.high.tolist() == [1, 1, 3, 3, 3, 1, 1, 1, 1, 1]


def test_runs_that_logged_at_other_steps_meet_on_one_grid(seed: Seed) -> None:
    band = seed_band([seed("a", [(0, 0.0), (10, 10.0)]), seed("b", [(0, 2.0), (5, 7.0), (10, 12.0)])], "train/loss")
    assert band.x.tolist() == [0, 5, 10]
    assert band.mean.tolist() == [1.0, 6.0, 11.0]
    assert (band.high - band.low).tolist() == [2.0, 2.0, 2.0]


def test_a_run_that_became_nan_counts_no_further(seed: Seed) -> None:
    band = seed_band([seed("a", [2.0] * 6), seed("b", [4.0, 4.0, 4.0, *[math.nan] * 3])], "train/loss")
    assert band.count.tolist() == [2, 2, 2, 1, 1, 1]
    assert band.mean.tolist() == [3.0, 3.0, 3.0, 2.0, 2.0, 2.0]


def test_runs_without_a_finite_value_leave_an_empty_band(seed: Seed) -> None:
    assert len(seed_band([seed("a", [math.nan, math.inf])], "train/loss")) == 0


def test_a_long_band_has_no_more_than_its_points_and_follows_its_runs(seed: Seed) -> None:
    slope = [3.0 - step / 4000 for step in range(4000)]
    band = seed_band([seed("a", slope), seed("b", [one + 1 for one in slope])], "train/loss", points=100)
    assert len(band) == 100
    assert (band.x[0], band.x[-1]) == (0, 3999)
    numpy.testing.assert_allclose(band.mean, 3.5 - band.x / 4000, atol=0.01)
    numpy.testing.assert_allclose(band.high - band.low, 1.0, atol=1e-9)


def test_a_band_goes_by_aliases_other_axes_and_smoothing(seed: Seed) -> None:
    runs = [seed("a", [1.0, 3.0] * 50), seed("b", [3.0, 1.0] * 50, key="loss")]
    band = seed_band(runs, "train_loss", x="tokens", smoothing="mean:2")
    assert band.x_name == "tokens"
    assert band.x[-1] == 9900
    numpy.testing.assert_allclose(band.mean[:-1], 2.0)
    numpy.testing.assert_allclose(band.high[:-1] - band.low[:-1], 0.0, atol=1e-12)


def test_a_run_without_the_metric_is_left_out_but_not_all_of_them(seed: Seed) -> None:
    with_it, without = seed("a", [1.0, 2.0]), seed("b", [1.0], key="accuracy")
    assert seed_band([without, with_it], "train/loss").count.tolist() == [1, 1]
    with pytest.raises(UnknownKey, match="train/loss"):
        seed_band([without], "train/loss")


def test_no_runs_are_no_band() -> None:
    with pytest.raises(BadArgument, match="none was given"):
        seed_band([], "train/loss")


def test_a_band_has_the_spread_and_the_interval_of_the_runs_that_are_present(seed: Seed) -> None:
    band = seed_band([seed("a", [1.0, 2.0, 2.0]), seed("b", [3.0, 4.0]), seed("c", [8.0, 6.0])], "train/loss")
    assert band.median.tolist() == [3.0, 4.0, 2.0]
    numpy.testing.assert_allclose(band.std, [math.sqrt(13), 2.0, math.nan])
    numpy.testing.assert_allclose(band.standard_error, [math.sqrt(13 / 3), 2 / math.sqrt(3), math.nan])
    # Of three runs the lowest resample has a chance of 1/27, more than a fortieth.
    numpy.testing.assert_allclose(band.interval_low, [1.0, 2.0, math.nan])
    numpy.testing.assert_allclose(band.interval_high, [8.0, 6.0, math.nan])
    narrow = seed_band([seed("d", [0.0]), seed("e", [3.0]), seed("f", [9.0])], "train/loss", confidence=0.8)
    assert (narrow.interval_low[0], narrow.low[0]) == (pytest.approx(1.0), 0.0)
    without = seed_band([seed("g", [0.0]), seed("h", [3.0])], "train/loss", confidence=None)
    assert math.isnan(without.interval_low[0])
    assert without.std[0] == pytest.approx(math.sqrt(4.5))


def test_with_every_row_nothing_is_sampled(seed: Seed) -> None:
    rows = [float(step * 7919 % 1013) for step in range(3000)]
    runs = [seed("a", rows), seed("b", [one + 2 for one in rows])]
    band = seed_band(runs, "train/loss", points=None)
    assert band.x.tolist() == list(range(3000))
    assert band.mean.tolist() == [one + 1 for one in rows]
    by_tokens = seed_band(runs, "train/loss", x="tokens", points=None, start=1000, end=2000)
    assert by_tokens.x.tolist() == [100.0 * step for step in range(10, 21)]
    assert by_tokens.low.tolist() == rows[10:21]
    smoothed = seed_band([runs[0]], "train/loss", points=None, smoothing="ema:0.5", start=2)
    # An EMA is corrected for its beginning: the weights of three rows are 1, 2 and 4 of 7.
    assert smoothed.mean[0] == pytest.approx((rows[0] + 2 * rows[1] + 4 * rows[2]) / 7)


def test_of_rows_at_one_place_the_mean_counts(seed: Seed) -> None:
    band = seed_band([seed("a", [(0, 1.0), (0, 3.0), (5, 4.0)])], "train/loss", points=None)
    assert (band.x.tolist(), band.mean.tolist()) == ([0.0, 5.0], [2.0, 4.0])


def test_a_band_is_written_as_rows_and_as_csv(seed: Seed) -> None:
    band = seed_band([seed("a", [1.0, 2.0]), seed("b", [3.0])], "train/loss", points=None)
    first, second = band.dicts()
    assert (first["x"], first["count"], first["mean"], first["low"]) == (0.0, 2, 2.0, 1.0)
    assert (second["count"], second["std"], second["interval_low"]) == (1, None, None)
    lines = band.csv().splitlines()
    assert lines[0] == "x,count,mean,median,std,standard_error,interval_low,interval_high,low,high"
    assert lines[2] == "1.0,1,2.0,2.0,,,,,2.0,2.0"
    assert band.df()["mean"].tolist() == [2.0, 2.0]
