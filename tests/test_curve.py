"""What a drawn curve promises: every row counted once, every extreme kept, however the rows lie in the run's files."""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.curves.downsample import Curve
from lossbook.errors import BadArgument, UnknownKey
from lossbook.journal.line import encode_event, encode_scalars
from lossbook.processes import host_name
from lossbook.reading.run import RecordedRun
from lossbook.storage import series_reader
from lossbook.storage.compaction import seal_run

Logged = Sequence[tuple[int, float]]  # step, value
MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(name: str = "a1", *, live: bool = False, **identity: Any) -> WrittenRun:
        if live:
            here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
            identity = {"attempts": [here]} | identity
        return WrittenRun(tmp_path / "store" / "tests" / name, name=name, **identity)

    return make


def reading(run: WrittenRun) -> RecordedRun:
    store = os.path.dirname(os.path.dirname(run.folder.path))
    return lossbook.open(store).run(os.path.basename(run.folder.path))


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that receives how many rows or buckets each query of sealed files gave."""
    sizes: list[int] = []
    fetch = series_reader.fetch_columns

    def count(*arguments: Any) -> dict[str, Any]:
        found = fetch(*arguments)
        sizes.append(max((len(array) for array in found.values()), default=0))
        return found

    monkeypatch.setattr(series_reader, "fetch_columns", count)
    return sizes


def assert_true_to(curve: Curve, logged: Logged) -> None:
    """Each bucket holds exactly the rows from its x to the next bucket's; steps of `logged` are all different."""
    rows = sorted(logged)
    assert int(curve.count.sum()) == len(rows)
    assert bool(numpy.all(numpy.diff(curve.x) > 0))
    columns = {name: getattr(curve, name).tolist() for name in ("first", "last", "min", "max", "mean")}
    counts, nonfinite = curve.count.tolist(), curve.nonfinite.tolist()
    edges = [*curve.x.tolist()[1:], math.inf] if rows else []
    at = 0
    for position, edge in enumerate(edges):
        inside = []
        while at < len(rows) and rows[at][0] < edge:
            inside.append(rows[at][1])
            at += 1
        finite = [value for value in inside if math.isfinite(value)]
        bucket = {name: column[position] for name, column in columns.items()}
        assert counts[position] == len(inside)
        assert nonfinite[position] == len(inside) - len(finite)
        # As text, because NaN is not equal to itself.
        assert [str(bucket["first"]), str(bucket["last"])] == [str(inside[0]), str(inside[-1])]
        if finite:
            assert (bucket["min"], bucket["max"]) == (min(finite), max(finite))
            assert math.isclose(bucket["mean"], sum(finite) / len(finite), rel_tol=1e-9, abs_tol=1e-9)
        else:
            assert all(math.isnan(bucket[name]) for name in ("min", "max", "mean"))


@pytest.fixture(scope="module")
def long_rows() -> list[tuple[int, float]]:
    """150,000 rows of noise on every other step, with 20 spikes and 3 rows that are no numbers."""
    dice = random.Random(1)
    rows = [(2 * at, 3.0 + dice.gauss(0, 0.1)) for at in range(150_000)]
    for at in dice.sample(range(len(rows)), 20):
        rows[at] = (rows[at][0], 100.0 + at / 1e6)
    for at, odd in ((11, math.nan), (70_000, math.inf), (149_999, -math.inf)):
        rows[at] = (rows[at][0], odd)
    return rows


@pytest.fixture(scope="module")
def long_run(long_rows: Logged, tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """The rows in three sealed segments; `tokens` beside the loss, 512 a step."""
    run = WrittenRun(tmp_path_factory.mktemp("store") / "tests" / "long", name="long")
    third = len(long_rows) // 3
    for piece in range(3):
        rows = long_rows[piece * third : (piece + 1) * third]
        run.segment(
            [(step, {"loss": value, "tokens": 512.0 * step}) for step, value in rows],
            end="finished" if piece == 2 else None,
        )
    seal_run(run.folder, finished=True)
    assert not os.listdir(run.folder.journal)
    return reading(run)


def test_buckets_without_a_finite_row_are_drawn_of_a_long_run(make_run: MakeRun) -> None:
    run = make_run()
    rows = [(step, math.nan if 3000 <= step < 9000 else float(step)) for step in range(40_000)]
    run.segment([(step, {"loss": value}) for step, value in rows], end="finished")
    assert_true_to(reading(run).curve("loss", points=100), rows)
    assert_true_to(reading(run).curve("loss", points=100, start=2000, end=10_000), rows[2000:10_001])


# -- rows and buckets -----------------------------------------------------------------------------------------------


def test_a_short_run_is_drawn_row_by_row(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([(step, {"loss": 1 / (step + 1)}) for step in range(0, 100, 10)], end="finished")
    curve = reading(run).curve("loss")
    assert curve.x.tolist() == list(range(0, 100, 10))
    assert curve.first.tolist() == curve.last.tolist() == curve.min.tolist() == curve.max.tolist()
    assert curve.mean.tolist() == [1 / (step + 1) for step in range(0, 100, 10)]
    assert curve.count.tolist() == [1] * 10


def test_a_curve_is_made_of_float64_arrays_and_integer_counts(long_run: RecordedRun) -> None:
    curve = long_run.curve("loss", points=10)
    for name in ("x", "first", "last", "min", "max", "mean"):
        assert getattr(curve, name).dtype == numpy.float64
        assert getattr(curve, name).shape == (len(curve),)
    assert curve.count.dtype == curve.nonfinite.dtype == numpy.int64


@pytest.mark.parametrize("points", [1, 2, 7, 500, 1000, 100_000])
def test_every_bucket_of_a_long_run_holds_its_rows_and_their_true_extremes(
    long_run: RecordedRun, long_rows: Logged, points: int
) -> None:
    curve = long_run.curve("loss", points=points)
    assert points / 3 <= len(curve) <= points
    assert_true_to(curve, long_rows)


def test_spikes_of_a_single_row_are_all_still_there_at_500_points(long_run: RecordedRun, long_rows: Logged) -> None:
    spikes = {value for _, value in long_rows if math.isfinite(value) and value > 50}
    curve = long_run.curve("loss", points=500)
    shown = set(curve.max[curve.max > 50].tolist())
    assert len(spikes) == 20
    assert shown <= spikes
    # Two spikes may share a bucket, which then shows the higher one.
    assert len(shown) >= 19


def test_a_value_that_is_no_number_is_counted_and_never_drawn(make_run: MakeRun) -> None:
    run = make_run()
    values = [1.0, math.nan, 2.0, math.inf, -math.inf]
    run.segment([{"loss": value} for value in values], end="finished")
    curve = reading(run).curve("loss")
    assert curve.nonfinite.tolist() == [0, 1, 0, 1, 1]
    numpy.testing.assert_equal(curve.first, values)
    numpy.testing.assert_equal(curve.min, [1.0, math.nan, 2.0, math.nan, math.nan])
    numpy.testing.assert_equal(curve.mean, [1.0, math.nan, 2.0, math.nan, math.nan])


def test_a_long_curve_is_drawn_from_few_rows(long_run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted_reads(monkeypatch)
    fresh = lossbook.open(os.path.dirname(os.path.dirname(long_run.path))).run("long")
    assert len(fresh.curve("loss", points=100)) > 30
    assert 0 < sum(read) < 3_000


def test_a_gap_between_steps_does_not_make_a_curve_read_every_row(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    rows = [(step if step < 30_000 else step + 500_000, float(step % 97)) for step in range(60_000)]
    run.segment([(step, {"loss": value}) for step, value in rows], end="finished")
    read = counted_reads(monkeypatch)
    curve = reading(run).curve("loss", points=100)
    assert_true_to(curve, rows)
    # None is drawn across the gap: what lies before it and what lies behind it are buckets of their own.
    assert not any(first < 30_000 and last >= 530_000 for first, last in zip(curve.x, curve.x_end, strict=True))
    assert sum(read) < 20_000


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    segments=st.lists(
        st.lists(st.tuples(st.integers(-50, 300), st.floats(width=64)), min_size=1, max_size=60),
        min_size=1,
        max_size=4,
    ),
    sealed=st.integers(0, 4),
    points=st.integers(1, 200),
    bounds=st.tuples(st.none() | st.integers(-60, 310), st.none() | st.integers(0, 320)),
)
def test_rows_in_any_order_and_in_any_files_are_counted_once_with_their_extremes(
    tmp_path_factory: pytest.TempPathFactory,
    segments: list[list[tuple[int, float]]],
    sealed: int,
    points: int,
    bounds: tuple[int | None, int | None],
) -> None:
    here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
    run = WrittenRun(tmp_path_factory.mktemp("store") / "tests" / "any", attempts=[here])
    for number, rows in enumerate(segments):
        run.segment([(step, {"loss": value}) for step, value in rows])
        if number < sealed:
            seal_run(run.folder, finished=number + 1 < sealed)
    start, end = bounds
    if start is not None and end is not None and start > end:
        start, end = end, start
    inside = sorted(
        (step, value)
        for rows in segments
        for step, value in rows
        if (start is None or step >= start) and (end is None or step <= end)
    )
    finite = [value for _, value in inside if math.isfinite(value)]
    with numpy.errstate(over="ignore", invalid="ignore"):  # sums of the largest floats
        curve = reading(run).curve("loss", points=points, start=start, end=end)
    assert len(curve) <= max(points, 1)
    assert int(curve.count.sum()) == len(inside)
    assert int(curve.nonfinite.sum()) == len(inside) - len(finite)
    assert bool(numpy.all(numpy.diff(curve.x) >= 0))
    if inside:
        assert curve.x[0] == inside[0][0]
    if finite:
        assert numpy.nanmin(curve.min) == min(finite)
        assert numpy.nanmax(curve.max) == max(finite)


# -- zooming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"), [(100, 900), (99_999, 200_001), (None, 4_001), (299_000, None), (12_346, 12_346), (7, 7)]
)
def test_a_zoom_takes_exactly_the_rows_between_its_ends(
    long_run: RecordedRun, long_rows: Logged, start: int | None, end: int | None
) -> None:
    inside = [
        (step, value) for step, value in long_rows if (start is None or step >= start) and (end is None or step <= end)
    ]
    assert_true_to(long_run.curve("loss", points=300, start=start, end=end), inside)


def test_a_zoom_to_few_rows_shows_each_of_them(long_run: RecordedRun, long_rows: Logged) -> None:
    curve = long_run.curve("loss", start=150_000, end=150_400)
    assert list(zip(curve.x.tolist(), curve.last.tolist(), strict=True)) == [
        row for row in long_rows if 150_000 <= row[0] <= 150_400
    ]


def test_a_range_that_runs_backwards_is_refused(long_run: RecordedRun) -> None:
    with pytest.raises(BadArgument, match="start"):
        long_run.curve("loss", start=10, end=5)


@pytest.mark.parametrize("points", [0, -1, 100_001, 1.5, True])
def test_a_number_of_points_that_cannot_be_drawn_is_refused(long_run: RecordedRun, points: Any) -> None:
    with pytest.raises(BadArgument, match="100,000"):
        long_run.curve("loss", points=points)


# -- axes -----------------------------------------------------------------------------------------------------------


def test_the_time_axis_is_in_unix_seconds(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([{"loss": 1.0}, {"loss": 2.0}], end="finished")
    assert reading(run).curve("loss", x="time").x.tolist() == [(BEGIN + 1000) / 1e6, (BEGIN + 2000) / 1e6]


def test_a_clock_that_goes_back_keeps_every_row_on_the_time_axis(make_run: MakeRun) -> None:
    run = make_run()
    times = [0, 10, 20, 5, 15, 30]
    run.segment(
        [encode_scalars(i + 1, BEGIN + second * 1_000_000, i, {"loss": float(i)}) for i, second in enumerate(times)],
        end="finished",
    )
    curve = reading(run).curve("loss", x="time")
    assert (curve.x - BEGIN / 1e6).tolist() == sorted(times)
    assert curve.last.tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


def test_tokens_are_found_through_the_metric_that_carries_them(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([{"train_loss": 1 / (at + 1), "time/tokens_seen": 1024.0 * at} for at in range(5)], end="finished")
    curve = reading(run).curve("train/loss", x="tokens")
    assert curve.x.tolist() == [0.0, 1024.0, 2048.0, 3072.0, 4096.0]
    assert curve.last.tolist() == [1 / (at + 1) for at in range(5)]


def test_a_metric_that_is_logged_rarely_is_drawn_where_its_steps_lie_on_the_axis(make_run: MakeRun) -> None:
    run = make_run()
    run.segment(
        [(step, {"tokens": 100.0 * step} | ({"val/loss": 5.0 - step} if step % 4 == 2 else {})) for step in range(11)],
        end="finished",
    )
    assert reading(run).curve("val/loss", x="tokens").x.tolist() == [200.0, 600.0, 1000.0]


def test_any_metric_can_be_the_axis_of_another(long_run: RecordedRun, long_rows: Logged) -> None:
    curve = long_run.curve("loss", x="tokens", points=200)
    assert int(curve.count.sum()) == len(long_rows)
    assert curve.x[0] == 0.0
    assert bool(numpy.all(numpy.diff(curve.x) > 0))
    steps = {512.0 * step for step, _ in long_rows}
    assert set(curve.x.tolist()) <= steps


@pytest.mark.parametrize("axis", ["tokens", "time", "wallclock"])
def test_a_zoom_on_another_axis_takes_exactly_the_rows_between_its_ends(
    long_run: RecordedRun, long_rows: Logged, axis: str
) -> None:
    whole = long_run.curve("loss", x=axis, points=100_000)
    rate = (whole.x_end[-1] - whole.x[0]) / (len(long_rows) - 1)  # rows come evenly on each of these axes
    start, end = whole.x[0] + 40_000.5 * rate, whole.x[0] + 90_000.5 * rate
    # The times of rows in different segments are apart by the two rows that open and close a segment.
    curve = long_run.curve("loss", x=axis, points=250, start=float(start), end=float(end))
    assert curve.x[0] >= start
    assert abs(int(curve.count.sum()) - 50_000) <= (0 if axis == "tokens" else 4)
    narrow = long_run.curve("loss", x=axis, start=float(start), end=float(start + 20 * rate))
    assert bool(numpy.all(narrow.count == 1))
    assert len(narrow) in ((20,) if axis == "tokens" else (19, 20, 21))


def test_an_axis_that_no_metric_carries_is_said_to_be_missing(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([{"loss": 1.0}], end="finished")
    with pytest.raises(UnknownKey, match="tokens"):
        reading(run).curve("loss", x="tokens")


def test_wallclock_leaves_out_the_time_between_attempts(make_run: MakeRun) -> None:
    hour = 3_600_000_000
    run = make_run(
        attempts=[
            WrittenRun.attempt_entry(0, started=BEGIN),
            WrittenRun.attempt_entry(1, resume_step=2, started=BEGIN + 10 * hour),
        ]
    )
    for attempt, steps in ((0, (0, 1, 2)), (1, (3, 4))):
        began = BEGIN + attempt * 10 * hour
        run.segment(
            [
                encode_scalars(100 * attempt + at + 1, began + (at + 1) * 1_000_000, step, {"loss": 1.0})
                for at, step in enumerate(steps)
            ],
            attempt=attempt,
            end="finished" if attempt else None,
        )
    assert reading(run).curve("loss", x="wallclock").x.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


# -- names ----------------------------------------------------------------------------------------------------------


def test_an_unknown_metric_is_answered_with_the_nearest_names(long_run: RecordedRun) -> None:
    with pytest.raises(UnknownKey, match="tokens") as caught:
        long_run.curve("tokns")
    assert "'tokns'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_metric_is_found_by_what_other_trainers_call_it(long_run: RecordedRun, long_rows: Logged) -> None:
    assert int(long_run.curve("train/loss", points=10).count.sum()) == len(long_rows)


@pytest.mark.parametrize("key", ["a/b c", "größe", "'; drop table", 'say "x"', "k" * 10_000, "a*[b]?"])
def test_a_key_may_be_any_text(make_run: MakeRun, key: str) -> None:
    run = make_run(live=True)
    run.segment([{key: 1.0}, {key: 2.0}])
    run.segment([(2, {key: 3.0})])
    assert reading(run).curve(key).last.tolist() == [1.0, 2.0, 3.0]
    seal_run(run.folder, finished=False)
    assert reading(run).curve(key).last.tolist() == [1.0, 2.0, 3.0]


# -- attempts, forks, ranks -----------------------------------------------------------------------------------------


def _resumed(make_run: MakeRun, resume_step: int | None) -> WrittenRun:
    run = make_run(attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, resume_step)])
    run.segment([(step, {"loss": 1.0}) for step in range(10)])
    run.segment([(step, {"loss": 2.0}) for step in range(6, 12)], attempt=1, end="finished")
    return run


@pytest.mark.parametrize("resume_step", [5, None])
def test_a_resumed_run_is_one_clean_line(make_run: MakeRun, resume_step: int | None) -> None:
    curve = reading(_resumed(make_run, resume_step)).curve("loss")
    assert curve.x.tolist() == list(range(12))
    assert curve.last.tolist() == [1.0] * 6 + [2.0] * 6


def test_rows_between_the_checkpoint_and_the_crash_are_hidden_even_where_nothing_replaced_them(
    make_run: MakeRun,
) -> None:
    run = make_run(attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 3)])
    run.segment([(step, {"loss": 1.0, "val": 1.0}) for step in range(10)])
    run.segment([(8, {"loss": 2.0})], attempt=1, end="finished")
    found = reading(run)
    assert found.curve("loss").x.tolist() == [0, 1, 2, 3, 8]
    assert found.curve("val").x.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("resume_step", [5, None])
def test_hidden_rows_are_reached_by_their_attempt(make_run: MakeRun, resume_step: int | None) -> None:
    found = reading(_resumed(make_run, resume_step))
    assert found.curve("loss", attempt=0).x.tolist() == list(range(10))
    assert found.curve("loss", attempt=1).x.tolist() == list(range(6, 12))
    assert len(found.curve("loss", attempt=7)) == 0


def test_a_checkpoint_in_the_middle_of_a_rollup_bucket_cuts_exactly_there(make_run: MakeRun) -> None:
    run = make_run(attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 33_333)])
    before = [(step, float(step % 101)) for step in range(50_000)]
    after = [(step, 200.0 + step % 7) for step in range(33_334, 60_000)]
    run.segment([(step, {"loss": value}) for step, value in before])
    run.segment([(step, {"loss": value}) for step, value in after], attempt=1, end="finished")
    curve = reading(run).curve("loss", points=200)
    assert_true_to(curve, [*before[:33_334], *after])


def test_a_fork_begins_with_its_parents_rows(make_run: MakeRun) -> None:
    parent = make_run("parent")
    parent.segment([(step, {"loss": 1.0, "old": 0.5}) for step in range(10)], end="finished")
    child = make_run("child", parent={"project": "tests", "run": "parent", "step": 4})
    child.segment([(step, {"loss": 2.0}) for step in range(5, 8)], end="finished")
    grandchild = make_run("grandchild", parent={"project": "tests", "run": "child", "step": 6})
    grandchild.segment([(7, {"loss": 3.0})], end="finished")
    curve = reading(grandchild).curve("loss")
    assert curve.x.tolist() == list(range(8))
    assert curve.last.tolist() == [1.0] * 5 + [2.0] * 2 + [3.0]
    assert reading(grandchild).keys() == ["loss", "old"]
    assert reading(grandchild).curve("old").x.tolist() == list(range(5))


def test_a_fork_without_its_parent_shows_its_own_rows_and_says_so(make_run: MakeRun) -> None:
    child = make_run("child", parent={"project": "tests", "run": "gone", "step": 4})
    child.segment([(step, {"loss": 2.0}) for step in range(5, 8)], end="finished")
    assert reading(child).curve("loss").x.tolist() == [5, 6, 7]
    assert any("gone" in problem for problem in reading(child).problems())


def test_a_key_of_every_rank_is_drawn_as_mean_minimum_and_maximum_over_ranks(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([{"memory": 10.0 + step, "loss": 1.0} for step in range(5)], end="finished")
    run.segment([{"memory": 20.0 + step} for step in range(5)], rank=1, end="finished")
    found = reading(run)
    curve = found.curve("memory")
    assert curve.x.tolist() == [0, 1, 2, 3, 4]
    assert curve.mean.tolist() == [15.0, 16.0, 17.0, 18.0, 19.0]
    assert curve.min.tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert curve.max.tolist() == [20.0, 21.0, 22.0, 23.0, 24.0]
    assert curve.count.tolist() == [2] * 5
    assert found.curve("loss").count.tolist() == [1] * 5


# -- runs that go on ------------------------------------------------------------------------------------------------


def test_a_row_is_drawn_as_soon_as_it_is_in_the_journal(make_run: MakeRun) -> None:
    run = make_run(live=True)
    path = run.segment([{"loss": 3.0}])
    found = reading(run)
    assert found.curve("loss").last.tolist() == [3.0]
    with open(path, "ab") as file:
        file.write(encode_scalars(2, BEGIN + 9, 1, {"loss": 2.0}))
    assert found.curve("loss").last.tolist() == [3.0, 2.0]
    run.segment([(2, {"loss": 1.0, "new": 7.0})])
    assert found.curve("loss").last.tolist() == [3.0, 2.0, 1.0]
    assert found.curve("new").last.tolist() == [7.0]


def test_a_torn_last_line_is_not_there_until_it_is_whole(make_run: MakeRun) -> None:
    run = make_run(live=True)
    line = encode_scalars(2, BEGIN + 9, 1, {"loss": 2.0})
    path = run.segment([{"loss": 3.0}], tail=line[:20])
    found = reading(run)
    assert found.curve("loss").x.tolist() == [0]
    with open(path, "ab") as file:
        file.write(line[20:])
    assert found.curve("loss").x.tolist() == [0, 1]


def test_a_curve_is_the_same_before_and_after_sealing(make_run: MakeRun) -> None:
    dice = random.Random(3)
    rows = [(step, dice.gauss(0, 1)) for step in range(30_000)]
    run = make_run(live=True)
    for piece in range(3):
        run.segment([(step, {"loss": value}) for step, value in rows[piece * 10_000 : (piece + 1) * 10_000]])
    found = reading(run)
    for expected_live in (3, 1, 1):
        assert len(os.listdir(run.folder.journal)) == expected_live
        assert_true_to(found.curve("loss", points=150), rows)
        seal_run(run.folder, finished=False)


def test_curves_drawn_while_segments_are_sealed_and_merged_never_miss_a_row(make_run: MakeRun) -> None:
    run = make_run(live=True)
    written = 0
    run.segment([(0, {"loss": 0.0})])
    found = reading(run)
    wrong: list[str] = []
    over = threading.Event()

    def draw() -> None:
        while not over.is_set():
            least = written
            try:
                count = int(found.curve("loss", points=50).count.sum())
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {error}")
                return
            if count < least:
                wrong.append(f"{count} rows of at least {least}")
                return

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for number in range(18):
            run.segment([(1 + number * 50 + at, {"loss": float(at)}) for at in range(50)])
            written = number * 50  # rows of segments that were whole before the drawing began
            seal_run(run.folder, finished=False)
    finally:
        over.set()
        thread.join(60)
    assert not wrong
    assert int(found.curve("loss").count.sum()) == 901


# -- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"{not json\n",
        encode_event(1, BEGIN, None, "attempt", None, {}),
        encode_event(1, BEGIN, None, "attempt", None, {"number": "x"}),
        b'{"i":1,"t":1,"s":18446744073709551615,"m":{"loss":1.0}}\n',
        b'{"i":1,"t":18446744073709551615,"s":1,"m":{"loss":1.0}}\n',
        b'{"i":1,"t":1,"s":null,"m":{"loss":1.0}}\n',
        b'{"i":1,"t":1,"s":1,"m":{"loss":"high"}}\n',
        b'{"i":1,"t":1,"s":1,"k":"from-the-future","v":{"x":1}}\n',
        b"\x00\xff\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("live", [True, False])
def test_a_damaged_line_costs_that_line_and_nothing_else(make_run: MakeRun, line: bytes, live: bool) -> None:
    run = make_run(live=live)
    run.segment([{"loss": 1.0}, line, (5, {"loss": 2.0})], end=None if live else "finished")
    found = reading(run)
    curve = found.curve("loss")
    assert set(zip(curve.x.tolist(), curve.last.tolist(), strict=True)) >= {(0.0, 1.0), (5.0, 2.0)}
    assert len(curve) <= 3
    found.keys()
    found.events()
    found.problems()
    assert len(found.history().rows()) >= 2


def _only_file(folder: str) -> str:
    (name,) = os.listdir(folder)
    return os.path.join(folder, name)


@pytest.mark.parametrize("damage", ["missing", "cut", "overwritten"])
def test_without_its_rollup_a_segment_is_drawn_from_its_rows(make_run: MakeRun, damage: str) -> None:
    run = make_run()
    rows = [(step, float(step % 13)) for step in range(30_000)]
    run.segment([(step, {"loss": value}) for step, value in rows], end="finished")
    seal_run(run.folder, finished=True)
    rollup = _only_file(run.folder.rollups)
    if damage == "missing":
        os.unlink(rollup)
    else:
        with open(rollup, "r+b") as file:
            if damage == "cut":
                file.truncate(100)
            else:
                file.write(os.urandom(os.path.getsize(rollup)))
    found = reading(run)
    assert_true_to(found.curve("loss", points=100), rows)
    if damage != "missing":
        assert any("rollup" in problem for problem in found.problems())


def test_a_sealed_file_that_cannot_be_read_costs_its_own_rows_and_a_sentence(make_run: MakeRun) -> None:
    run = make_run(live=True)
    run.segment([(step, {"loss": 1.0}) for step in range(10)])
    run.segment([(step, {"loss": 2.0}) for step in range(10, 20)])
    seal_run(run.folder, finished=False)
    for name in os.listdir(run.folder.metrics):
        with open(os.path.join(run.folder.metrics, name), "wb") as file:
            file.write(b"PAR1")
    found = reading(run)
    assert found.curve("loss").x.tolist() == list(range(10, 20))
    assert any("metrics" in problem and "rows are left out" in problem for problem in found.problems())
