"""What tables over seeds promise: the numbers of the textbooks, groups by all but the seed, and no verdict that is not due."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.analysis import compare_groups, seed_table, summarize
from lossbook.analysis.resampling import sign_flip_test, two_sample_test
from lossbook.book import Book
from lossbook.errors import BadArgument, BadQuery, UnknownKey, UnknownRun

MakeRun = Callable[..., None]
#: Survival in days of 7 treated and 9 other mice (Efron and Tibshirani 1993, table 2.1).
TREATED = (94, 197, 16, 38, 99, 141, 23)
CONTROL = (52, 104, 146, 10, 51, 30, 40, 27, 46)
#: Crossed minus self-fertilised maize, in eighths of an inch, 15 pairs (Darwin; Fisher 1935, section 17).
MAIZE = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    """`make_run("a", 3.2, optimizer="adamw", seed=1)`: a finished run with this last val/loss and configuration."""
    store.mkdir()
    made: list[str] = []

    def make(
        name: str, loss: float | list[float], project: str = "tests", end: str | None = "finished", **config: object
    ) -> None:
        made.append(name)
        run = WrittenRun(
            store / project / f"id-{name}", name=name, project=project, created=BEGIN + len(made), config=config
        )
        losses = loss if isinstance(loss, list) else [loss + 1, loss]
        run.segment([{"val/loss": one, "accuracy": -one} for one in losses], end=end)

    return make


@pytest.fixture
def book(make_run: MakeRun, store: Path) -> Book:
    return lossbook.open(store)


@pytest.fixture
def two_optimizers(make_run: MakeRun) -> None:
    for seed, adamw, muon in ((1, 3.0, 2.75), (2, 3.5, 3.125), (3, 4.0, 3.5)):
        make_run(f"adamw-{seed}", adamw, optimizer="adamw", seed=seed, output_dir=f"out/a{seed}")
        make_run(f"muon-{seed}", muon, optimizer="muon", seed=seed, output_dir=f"out/m{seed}")


# -- numbers ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_textbook() -> None:
    treated, control = summarize(TREATED), summarize(CONTROL)
    assert (treated.n, treated.median, control.median) == (7, 94, 46)
    assert (round(treated.mean or 0, 2), round(control.mean or 0, 2)) == (86.86, 56.22)
    assert (round(treated.standard_error or 0, 2), round(control.standard_error or 0, 2)) == (25.24, 14.16)
    deviations = [(one - sum(TREATED) / 7) ** 2 for one in TREATED]
    assert treated.std == pytest.approx(math.sqrt(sum(deviations) / 6))


def test_of_one_run_nothing_tells_a_spread_and_of_none_nothing_at_all() -> None:
    one = summarize([2.5])
    assert (one.n, one.mean, one.median) == (1, 2.5, 2.5)
    assert (one.std, one.standard_error, one.low, one.high) == (None, None, None, None)
    assert (summarize([]).n, summarize([]).mean) == (0, None)


def test_the_interval_of_few_runs_is_that_of_all_resamples() -> None:
    # Of two runs a quarter of the resamples is the lower one twice, a quarter the higher one twice.
    two = summarize([1.0, 3.0])
    assert (two.low, two.high) == (1.0, 3.0)
    half = summarize([1.0, 3.0], confidence=0.4)
    assert (half.low, half.high) == (2.0, 2.0)
    # Of 27 resamples of three runs one is 0, 0, 0 and three are 0, 0, 3: the lower 1/27 + 3/27 = 0.148.
    three = summarize([0.0, 3.0, 9.0], confidence=0.8)
    assert three.low == pytest.approx(1.0)


def test_the_interval_of_many_runs_is_the_same_each_time_and_near_the_normal_one() -> None:
    values = numpy.random.default_rng(0).normal(10.0, 2.0, 400)
    first, again = summarize(values), summarize(values)
    assert first == again
    assert first.low is not None
    assert first.high is not None
    assert first.low == pytest.approx((first.mean or 0) - 1.96 * (first.standard_error or 0), abs=0.03)
    assert first.high == pytest.approx((first.mean or 0) + 1.96 * (first.standard_error or 0), abs=0.03)


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf]])
def test_what_is_not_finite_is_refused_rather_than_averaged(values: list[float]) -> None:
    with pytest.raises(BadArgument, match="no number to summarize"):
        summarize(values)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(BadArgument, match="between 0 and 1"):
        summarize([1.0, 2.0], confidence)


def test_the_sign_flip_test_is_fishers() -> None:
    found = sign_flip_test(numpy.array(MAIZE, dtype=float))
    # "in 863 of these the total deviation is 314 or more": of 32,768, in either direction.
    assert (found.p_value, found.arrangements, found.is_exact) == (2 * 863 / 32768, 32768, True)
    assert found.smallest_p_value == 2 / 32768


def test_the_two_sample_test_counts_all_ways_to_deal_the_runs() -> None:
    low, high = numpy.array([1.0, 2.0, 3.0]), numpy.array([4.0, 5.0, 6.0])
    found = two_sample_test(low, high)
    assert (found.p_value, found.arrangements) == (2 / 20, 20)
    mice = two_sample_test(numpy.array(TREATED, dtype=float), numpy.array(CONTROL, dtype=float))
    assert (mice.arrangements, mice.is_exact) == (11440, True)
    # The book's one-sided significance is 0.132, of 1,000 arrangements that were drawn.
    assert mice.p_value == pytest.approx(2 * 0.132, abs=0.04)


def test_where_all_arrangements_are_too_many_the_same_ones_are_drawn_each_time() -> None:
    many = numpy.random.default_rng(1).normal(0.0, 1.0, 40)
    assert sign_flip_test(many) == sign_flip_test(many)
    assert sign_flip_test(many).is_exact is False
    # Of normal differences the test's p is near that of a t test.
    t = abs(float(many.mean())) / (float(many.std(ddof=1)) / math.sqrt(40))
    assert sign_flip_test(many).p_value == pytest.approx(math.erfc(t / math.sqrt(2)), abs=0.02)
    groups = many[:18], many[18:] + 3
    assert two_sample_test(*groups).p_value == 1 / 100_000
    assert two_sample_test(*groups) == two_sample_test(*groups)


# -- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_optimizers")
def test_runs_that_differ_in_seed_and_places_alone_are_one_group_the_best_first(book: Book) -> None:
    table = book.seeds("val/loss")
    assert [group.settings for group in table.groups] == [{"optimizer": "muon"}, {"optimizer": "adamw"}]
    assert [group.values for group in table.groups] == [(3.5, 3.125, 2.75), (4.0, 3.5, 3.0)]
    muon, adamw = table.dicts()
    assert (adamw["runs"], adamw["mean"], adamw["median"], adamw["std"]) == (3, 3.5, 3.5, 0.5)
    assert adamw["standard_error"] == pytest.approx(0.5 / math.sqrt(3))
    assert (adamw["low"], adamw["high"], muon["mean"]) == (3.0, 4.0, 3.125)
    assert set(table.left_out) == {"seed", "output_dir"}
    assert "not looked at: " in table.text()


def test_seeds_are_known_by_their_names_and_data_are_no_place(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, data_seed=1, train={"seed": 4}, seed_everything=1, random_state=2, data_dir="x")
    make_run("b", 2.0, data_seed=2, train={"seed": 5}, seed_everything=2, random_state=3, data_dir="x")
    make_run("c", 3.0, data_seed=3, train={"seed": 6}, seed_everything=3, random_state=4, data_dir="y")
    assert [(group.label, len(group.runs)) for group in book.seeds().groups] == [("data_dir=x", 2), ("data_dir=y", 1)]


def test_a_setting_that_one_run_lacks_makes_a_difference_and_one_and_true_do_too(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, tied=1)
    make_run("b", 2.0, tied=1.0)
    make_run("c", 3.0, tied=True)
    make_run("d", 4.0)
    assert [len(group.runs) for group in book.seeds().groups] == [2, 1, 1]


def test_further_settings_can_be_left_out_or_a_few_names_make_the_groups(make_run: MakeRun, book: Book) -> None:
    for at in range(4):
        make_run(f"r{at}", float(at), lr=at % 2, loader={"workers": at})
    alone = book.seeds()
    assert len(alone.groups) == 4
    assert "loader.workers is another in each" in alone.remarks[0]
    for name in ("loader.workers", "workers", "loader.*", "config.loader"):
        assert [len(group.runs) for group in book.seeds(ignore=[name]).groups] == [2, 2]
    assert [group.settings for group in book.seeds(by="config.lr").groups] == [{"config.lr": 0}, {"config.lr": 1}]
    assert len(book.seeds(by=["lr", "loader.workers"]).groups) == 4


@pytest.mark.usefixtures("two_optimizers")
def test_a_name_that_nobody_has_is_said(book: Book) -> None:
    with pytest.raises(BadArgument, match="optimiser.*nearest are optimizer"):
        book.seeds(ignore=["optimiser"])
    with pytest.raises(BadQuery, match="no run has optimiser"):
        book.seeds(by="optimiser")
    with pytest.raises(UnknownKey, match="val/los"):
        book.seeds("val/los")
    with pytest.raises(UnknownRun, match="no run"):
        book.seeds(where="optimizer = 'sgd'")
    with pytest.raises(BadArgument, match="last, best"):
        book.seeds(value="final")
    with pytest.raises(BadArgument, match="one of the two"):
        book.seeds(by="optimizer", ignore=["seed"])


def test_a_group_that_is_not_of_seeds_alone_says_so(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, lr=1, width=1, seed=1)
    make_run("b", 2.0, lr=1, width=2, seed=2)
    assert book.seeds(by="lr").remarks == ("runs of one group differ in more than their seed: width",)
    assert book.seeds(ignore=["width"]).remarks == ()
    assert set(book.seeds(ignore=["width"]).left_out) == {"width", "seed"}


def test_an_experiment_that_counts_twice_is_said(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, lr=1, seed=1, output_dir="x")
    make_run("again", 1.0, lr=1, seed=1, output_dir="y")
    make_run("other", 2.0, lr=1, seed=2)
    # The newest run comes first.
    assert book.seeds().remarks == ("the same settings and seed count 2 times: again, a",)


def test_projects_are_groups_of_their_own(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, project="one", lr=1)
    make_run("b", 2.0, project="two", lr=1)
    assert [group.project for group in book.seeds().groups] == ["one", "two"]
    assert "project" in book.seeds().text().splitlines()[0]


def test_a_run_without_a_finite_value_is_named(make_run: MakeRun, book: Book) -> None:
    make_run("whole", 1.0)
    make_run("diverged", [2.0, math.nan])
    make_run("stopped", 3.0, end="failed")
    table = book.seeds()
    (group,) = table.groups
    assert sorted(group.values) == [1.0, 3.0]
    assert [(one.run, one.why) for one in group.excluded] == [("diverged", "its last val/loss is NaN")]
    text = table.text()
    assert "2 of 3" in text
    assert "diverged does not count: its last val/loss is NaN" in text
    assert "not finished, so what they have so far counts: stopped (failed)" in text
    mean = book.seeds(value="mean")
    assert mean.groups[0].statistics.n == 3
    assert any("1 of 2 rows" in remark for remark in mean.remarks)


def test_of_each_run_the_last_the_best_an_extreme_or_the_mean_counts(make_run: MakeRun, book: Book) -> None:
    make_run("a", [5.0, 1.0, 3.0])
    values = {name: book.seeds(value=name).groups[0].values for name in ("last", "best", "min", "max", "mean")}
    assert values == {"last": (3.0,), "best": (1.0,), "min": (1.0,), "max": (5.0,), "mean": (3.0,)}
    assert book.seeds("accuracy", value="best").groups[0].values == (-1.0,)


def test_every_row_of_a_long_run_counts(make_run: MakeRun, book: Book) -> None:
    values = [float(at % 977) for at in range(30_000)]
    make_run("long", values)
    assert book.seeds(value="mean").groups[0].values[0] == pytest.approx(sum(values) / len(values), rel=1e-12)


@pytest.mark.usefixtures("two_optimizers")
def test_a_table_is_written_for_papers_and_for_programs(book: Book) -> None:
    table = book.seeds()
    assert "| optimizer | runs |" in table.markdown()
    assert r"\toprule" in table.latex()
    assert r"95\% interval" in table.latex()
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [(row["optimizer"], float(row["mean"])) for row in rows] == [("muon", 3.125), ("adamw", 3.5)]
    pandas = pytest.importorskip("pandas")
    frame = table.df()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["std"].tolist() == [0.375, 0.5]
    assert table.to_dict()["groups"]


def test_a_setting_called_like_a_statistic_keeps_its_own_column(make_run: MakeRun, book: Book) -> None:
    make_run("a", 1.0, mean=7)
    make_run("b", 2.0, mean=8)
    assert [(row["config.mean"], row["mean"]) for row in book.seeds().dicts()] == [(7, 1.0), (8, 2.0)]


def test_a_pivot_table_has_two_settings_and_in_each_cell_one_group(make_run: MakeRun, book: Book) -> None:
    for seed in (1, 2):
        for lr in (0.1, 0.02):
            make_run(f"adamw-{lr}-{seed}", lr + seed, optimizer={"name": "adamw", "lr": lr}, seed=seed)
    make_run("sgd", 9.0, optimizer={"name": "sgd", "lr": 0.1}, seed=1)
    pivot = book.seeds().pivot("name", "optimizer.lr")
    assert (pivot.row_values, pivot.column_values) == (("adamw", "sgd"), ("0.02", "0.1"))
    assert pivot.cells[1][0] is None
    assert pivot.markdown().splitlines()[2:] == [
        "| adamw                          | 1.52 ± 0.71 (2) | 1.6 ± 0.71 (2) |",
        "| sgd                            |               - |          9 (1) |",
    ]
    assert r"1.52 $\pm$ 0.71 (2)" in pivot.latex()
    rows = list(csv.DictReader(io.StringIO(pivot.csv())))
    assert (rows[0]["0.02 mean"], rows[0]["0.1 runs"], rows[1]["0.02 mean"]) == ("1.52", "2", "")


def test_a_cell_with_groups_that_differ_in_a_third_setting_is_refused(make_run: MakeRun, book: Book) -> None:
    for width in (1, 2):
        for lr in (0.1, 0.2):
            make_run(f"{width}-{lr}", 1.0, width=width, lr=lr, optimizer="adamw" if width == 1 else "sgd")
    table = book.seeds()
    with pytest.raises(BadArgument, match="no setting 'depth'"):
        table.pivot("depth", "lr")
    with pytest.raises(BadArgument, match="are one"):
        table.pivot("lr", "lr")
    make_run("other", 2.0, width=1, lr=0.1, optimizer="muon")
    with pytest.raises(BadArgument, match="differ in optimizer"):
        book.seeds().pivot("width", "lr")


# -- comparison ---------------------------------------------------------------------------------------------------


def make_pairs(make_run: MakeRun, differences: list[float], *, seeded: bool = True) -> None:
    for seed, difference in enumerate(differences):
        base = 2.0 + 0.5 * seed
        seeds = {"seed": seed} if seeded else {}
        make_run(f"a{seed}", base, recipe="a", **seeds)
        make_run(f"b{seed}", base + difference, recipe="b", **seeds)


def compared(book: Book, **options: object) -> lossbook.analysis.SeedComparison:
    first, second = (book.runs(where=f"config.recipe = '{one}'") for one in "ab")
    return compare_groups(first, second, names=("a", "b"), **options)  # type: ignore[arg-type]


def test_runs_with_the_same_seeds_are_paired(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [0.125, 0.25, 0.125, 0.375, 0.25, 0.125])
    found = compared(book)
    assert found.paired
    assert found.difference == pytest.approx(-1.25 / 6)
    assert found.test is not None
    # All six are of one sign: two of 64 arrangements are as extreme.
    assert (found.test.p_value, found.distinguishable, found.better) == (2 / 64, True, "a")
    assert found.verdict.startswith("a is better (p = 0.0312; difference -0.2083")
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.difference <= found.high < 0


def test_runs_without_the_same_seeds_are_not_paired(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [0.125, 0.25, 0.125, 0.375, 0.25, 0.125], seeded=False)
    found = compared(book)
    assert not found.paired
    # The runs of a group lie further apart than the groups do.
    assert not found.distinguishable
    assert found.better is None
    assert found.verdict.startswith("not distinguishable (p = ")


def test_with_too_few_seeds_nothing_is_said_to_be_better(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [1.0, 1.0])
    two = compared(book)
    assert two.verdict.startswith("not distinguishable: with 2 runs a side no test can tell them apart")
    assert not two.distinguishable
    make_run("a2", 2.0, recipe="a", seed=2)
    make_run("b2", 3.0, recipe="b", seed=2)
    three = compared(book)
    assert "3 runs a side allow no p below 0.25, 6 a side could tell" in three.verdict
    assert not three.distinguishable
    # One that asks for less is told.
    assert compared(book, confidence=0.7).better == "a"


def test_one_run_a_side_has_a_difference_and_no_more(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [1.0])
    found = compared(book)
    assert (found.difference, found.low, found.test) == (-1.0, None, None)
    assert "with 1 run a side no test can tell" in found.verdict


def test_equal_groups_are_not_distinguishable(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [0.0] * 6)
    found = compared(book)
    assert found.test is not None
    assert (found.test.p_value, found.distinguishable) == (1.0, False)


def test_a_run_in_both_groups_or_without_a_value_is_said(make_run: MakeRun, book: Book) -> None:
    make_pairs(make_run, [0.5, 0.5, 0.5])
    runs = book.runs()
    with pytest.raises(BadArgument, match="6 runs would be in both"):
        compare_groups(runs, runs)
    with pytest.raises(UnknownRun, match="no run in the second"):
        compare_groups(runs, [])
    make_run("a-odd", math.nan, recipe="a", seed=9)
    found = compared(book)
    assert [one.run for one in found.excluded] == ["a-odd"]
    assert found.paired
    assert "a-odd does not count" in found.text()


# -- SQL ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_optimizers")
def test_sql_has_the_same_numbers(book: Book) -> None:
    rows = book.sql(
        "select settings->>'optimizer' as optimizer, runs, mean, median, std, standard_error, low, high from seeds "
        "where project = 'tests' and metric = 'val/loss' order by mean"
    ).dicts()
    assert rows == [{name: one for name, one in row.items() if name != "project"} for row in book.seeds().dicts()]
    assert book.sql("select count(*) from seeds").rows() == [(4,)]


def test_sql_leaves_null_what_cannot_be_told(make_run: MakeRun, book: Book) -> None:
    assert book.sql("select * from seeds").rows() == []
    make_run("one", 1.0)
    make_run("odd", math.nan, lr=1)
    found = book.sql("select runs, mean, std, low from seeds where metric = 'val/loss' order by runs").rows()
    assert found == [(0, None, None, None), (1, 1.0, None, None)]


def test_a_table_needs_a_run() -> None:
    with pytest.raises(UnknownRun, match="no run to summarize"):
        seed_table([], "val/loss")
