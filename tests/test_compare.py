"""What a comparison promises: what differs, the best first, the exact row that reached a loss, four ways to write it."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.analysis.compare import compare_runs, differing_settings
from lossbook.analysis.table_formats import Cells, latex, markdown, plain_text
from lossbook.analysis.time_to_target import first_reached
from lossbook.book import Book
from lossbook.errors import BadArgument, UnknownKey, UnknownRun
from lossbook.storage.compaction import seal_run

MakeRun = Callable[..., WrittenRun]
Row = Mapping[str, float]


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    """`make_run(name, [rows], config={...})`: a finished run; a row is logged each millisecond."""
    store.mkdir()
    made = []

    def make(name: str, rows: Any, **identity: Any) -> WrittenRun:
        run = WrittenRun(store / "tests" / f"id-{name}", name=name, created=BEGIN + len(made), **identity)
        made.append(run)
        run.segment(rows, end="finished")
        return run

    return make


@pytest.fixture
def book(make_run: MakeRun, store: Path) -> Book:
    return lossbook.open(store)


@pytest.fixture
def three(make_run: MakeRun) -> None:
    """Three runs of three trainers, which call the same things differently."""
    make_run(
        "tracker",
        [{"train/loss": 5.0 - at, "val/loss": 5.1 - at, "time/tokens_seen": at * 100.0} for at in range(4)],
        config={"lr": 1e-3, "model": {"layers": 4, "heads": 2}, "seed": 1},
        group="a",
    )
    make_run(
        "trainer",
        [{"train_loss": 4.0 - at, "eval_loss": 4.2 - at, "tokens": at * 200.0} for at in range(4)],
        config={"lr": 1e-4, "model": {"layers": 4, "heads": 4}, "seed": 1},
    )
    make_run(
        "plain",
        [{"loss": 6.0 - at, "tokens_per_sec": 50.0 + at} for at in range(4)],
        config={"lr": 1e-3, "model": {"layers": 4, "heads": 2}, "dropout": 0.1, "seed": 1},
    )


def names(found: Any) -> list[str]:
    return [row["name"] for row in found.rows]


# -- what is compared -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_runs_of_different_trainers_stand_in_one_table_the_best_first(book: Book) -> None:
    found = book.compare()
    assert (found.metric, found.goal) == ("val/loss", "minimize")
    assert names(found) == ["trainer", "tracker", "plain"]
    best = found.rows[0]
    assert best["best_val_loss"] == best["final_val_loss"] == pytest.approx(1.2)
    assert (best["best_val_loss_step"], best["best_train_loss"], best["tokens_seen"]) == (3, 1.0, 600)
    assert found.rows[2]["best_val_loss"] is None
    assert found.rows[2]["tokens_per_second"] == pytest.approx(51.5)


@pytest.mark.usefixtures("three")
def test_only_the_settings_that_differ_are_shown(book: Book) -> None:
    columns = [column.name for column in book.compare().columns if column.name.startswith("config.")]
    assert sorted(columns) == ["config.dropout", "config.lr", "config.model.heads"]


def test_a_setting_that_one_run_lacks_differs_and_1_is_1_0_but_not_true() -> None:
    assert differing_settings([{"a": 1, "b": {"c": 2}}, {"a": 1.0, "b": {"c": 2}}]) == []
    assert differing_settings([{"a": 1}, {"a": True}]) == ["a"]
    assert differing_settings([{"a": None}, {}]) == ["a"]
    assert differing_settings([{"b": {"c": [1, 2]}}, {"b": {"c": [1, 3]}}]) == ["b.c"]
    assert differing_settings([{"only": 1}]) == []


def test_nan_and_infinity_are_never_the_best_and_a_run_of_nothing_else_comes_last(
    book: Book, make_run: MakeRun
) -> None:
    make_run("diverged", [{"val/loss": math.nan}, {"val/loss": -math.inf}])
    make_run("good", [{"val/loss": 2.0}, {"val/loss": math.nan}])
    found = book.compare()
    assert names(found) == ["good", "diverged"]
    assert found.rows[0]["best_val_loss"] == 2.0
    assert math.isnan(found.rows[0]["final_val_loss"])
    assert "NaN" in found.text()
    run, value = book.best()
    assert (run.name, value) == ("good", 2.0)


def test_a_metric_that_is_better_high_puts_the_highest_first(book: Book, make_run: MakeRun) -> None:
    make_run("low", [{"val/accuracy": 0.2}, {"val/accuracy": 0.1}])
    make_run("high", [{"val_accuracy": 0.9}, {"val_accuracy": 0.3}])
    found = book.compare(metric="val/accuracy")
    assert names(found) == ["high", "low"]
    assert [(row["best"], row["final"]) for row in found.rows] == [(0.9, 0.3), (0.2, 0.1)]
    assert [column.title for column in found.columns if column.name == "best"] == ["best val/accuracy"]
    assert book.best("val/accuracy")[1] == 0.9


def test_what_define_metric_said_decides_and_an_unknown_direction_is_refused(book: Book, make_run: MakeRun) -> None:
    make_run("one", [{"quality": 1.0}])
    make_run("two", [{"quality": 3.0}])
    with pytest.raises(BadArgument, match=r"define_metric.*--goal"):
        book.best("quality")
    assert book.best("quality", goal="maximize")[0].name == "two"
    make_run("three", [("define", {"pattern": "qual*", "goal": "minimize"}), {"quality": 2.0}])
    assert book.best("quality")[0].name == "one"
    make_run("four", [("define", {"pattern": "quality", "goal": "maximize"}), {"quality": 2.0}])
    with pytest.raises(BadArgument, match=r"minimized in three and maximized in four"):
        book.compare(metric="quality")
    with pytest.raises(BadArgument, match="minimize"):
        book.best("quality", goal="up")


@pytest.mark.usefixtures("three")
def test_the_best_is_looked_for_among_the_runs_that_fit(book: Book) -> None:
    assert book.best()[0].name == "trainer"
    assert book.best(where="config.lr > 5e-4")[0].name == "tracker"
    assert book.best("train/loss", runs=["tracker", "plain"])[0].name == "tracker"
    with pytest.raises(UnknownRun):
        book.best(where="state = 'running'")
    with pytest.raises(UnknownKey, match="val/loss"):
        book.best("val/los")


def test_what_stands_only_in_the_summary_can_be_the_best_too(book: Book, make_run: MakeRun) -> None:
    make_run("one", [("summary", {"final/best_val_loss": 3.0})])
    make_run("two", [("summary", {"final/best_val_loss": 2.0})])
    run, value = book.best("final/best_val_loss")
    assert (run.name, value) == ("two", 2.0)


def test_a_running_run_is_compared_as_it_stands(book: Book, make_run: MakeRun, store: Path) -> None:
    make_run("done", [{"val/loss": 2.0}])
    with lossbook.init(store=store, project="tests", name="live", console=False, system_metrics=False) as run:
        run.log({"val/loss": 1.0}, step=7)
        run.sync()
        found = book.compare()
        assert [(row["name"], row["state"], row["best_val_loss"]) for row in found.rows] == [
            ("live", "running", 1.0),
            ("done", "finished", 2.0),
        ]


def test_gaps_between_attempts_are_no_wallclock(book: Book, store: Path, make_run: MakeRun) -> None:
    hour = 3600 * 1_000_000
    attempts = [WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 2, started=BEGIN + hour)]
    run = WrittenRun(store / "tests" / "resumed", name="resumed", attempts=attempts)
    run.segment([{"val/loss": 3.0}, {"val/loss": 2.0}])
    run.segment(
        [
            b'{"i":3,"t":%d,"s":2,"m":{"val/loss":1.5}}\n' % (BEGIN + hour + 5_000_000),
            b'{"i":4,"t":%d,"k":"finish","v":{"state":"finished","error":null}}\n' % (BEGIN + hour + 7_000_000),
        ],
        attempt=1,
        head=True,
    )
    row = book.compare(losses=[1.6]).rows[0]
    assert row["wallclock_seconds"] == pytest.approx(7.002)
    assert row["seconds_to_1.6"] == pytest.approx(5.002)
    assert row["step_of_1.6"] == 2


def test_gpu_figures_come_from_whatever_names_a_trainer_logged_them_under(book: Book, make_run: MakeRun) -> None:
    make_run("averages", [{"loss": 3.0, "gpu/compute_util_avg": 80.0, "gpu/memory_used_total_gb": 40.0}])
    make_run(
        "each",
        [
            {
                "loss": 2.0,
                "system.gpu.0.gpu": 50.0,
                "system.gpu.1.gpu": 70.0,
                "memory/gpu_0_reserved_gb": 10.0,
                "memory/gpu_1_reserved_gb": 12.0,
                "mfu": 41.0,
            }
        ],
    )
    make_run("trainer", [{"loss": 1.0, "gpu_utilization": 33.0, "gpu_memory_used": 2048.0}])
    rows = {row["name"]: (row["gpu_utilisation"], row["gpu_memory_gib"], row["mfu"]) for row in book.compare().rows}
    assert rows == {"averages": (80.0, 40.0, None), "each": (60.0, 22.0, 41.0), "trainer": (33.0, 2.0, None)}


def test_a_utilisation_is_compared_in_percent_whether_percent_or_a_share_was_logged(
    book: Book, make_run: MakeRun
) -> None:
    make_run("documented", [{"loss": 1.0, "throughput/mfu": 0.9}])
    make_run("share", [{"loss": 2.0, "perf/mfu": 0.46}])
    make_run("percent", [{"loss": 3.0, "train/mfu": 46.0}])
    found = {row["name"]: row["mfu"] for row in book.compare().rows}
    assert found == {"documented": 0.9, "share": pytest.approx(46.0), "percent": 46.0}


# -- reaching a loss ------------------------------------------------------------------------------------------------


def test_the_first_row_that_reached_a_loss_is_found_exactly(book: Book, make_run: MakeRun) -> None:
    rows = [(10 * at, {"val/loss": 5.0 - at, "tokens": at * 1000.0}) for at in range(4)]
    make_run("one", [*rows, (100, {"val/loss": 2.5, "tokens": 9000.0}), (200, {"val/loss": 9.0, "tokens": 9999.0})])
    make_run("never", [{"val/loss": 8.0}])
    found = book.compare(losses=[3.5, 2.5, 0.1])
    row = found.rows[0]
    # One row for the attempt stands before them, and a millisecond lies between two.
    assert (row["step_of_3.5"], row["tokens_to_3.5"], row["seconds_to_3.5"]) == (20, 2000, pytest.approx(0.003))
    assert row["step_of_2.5"] == 30
    assert (row["step_of_0.1"], row["tokens_to_0.1"], row["seconds_to_0.1"]) == (None, None, None)
    assert found.rows[1]["step_of_3.5"] is None


def test_tokens_between_two_rows_are_taken_in_proportion(book: Book, make_run: MakeRun) -> None:
    make_run("one", [(0, {"tokens": 0.0}), (15, {"val/loss": 1.0}), (20, {"tokens": 2000.0})])
    make_run("early", [(15, {"val/loss": 1.0}), (20, {"tokens": 2000.0})])
    rows = {row["name"]: row["tokens_to_1"] for row in book.compare(losses=[1.0]).rows}
    assert rows == {"one": 1500, "early": None}


def test_rows_that_a_later_attempt_replaced_do_not_count_as_reached(book: Book, store: Path) -> None:
    attempts = [WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, resume_step=1)]
    run = WrittenRun(store / "tests" / "resumed", name="resumed", attempts=attempts)
    run.segment([{"val/loss": 5.0}, {"val/loss": 4.0}, {"val/loss": 1.0}])
    run.segment([{"val/loss": 4.5}, {"val/loss": 2.0}, {"val/loss": 0.9}], attempt=1, first_step=2, end="finished")
    assert book.compare(losses=[1.0]).rows[0]["step_of_1"] == 4


def test_a_fork_has_reached_what_its_parent_had_reached(book: Book, make_run: MakeRun) -> None:
    make_run("parent", [{"val/loss": 5.0 - at} for at in range(5)])
    make_run("child", [(4, {"val/loss": 4.0})], parent={"project": "tests", "run": "id-parent", "step": 3})
    child = book.run("child")
    reached = first_reached(child, "val/loss", 2.0, "minimize")
    assert reached is not None
    assert reached.step == 3
    assert first_reached(child, "val/loss", 1.0, "minimize") is None


@pytest.mark.parametrize("sealed", [False, True])
def test_in_a_long_noisy_run_the_row_is_the_one_that_a_search_of_all_rows_finds(
    book: Book, make_run: MakeRun, sealed: bool
) -> None:
    random.seed(3)
    count = 45_000
    values = [2 + 3 * math.exp(-at / 9000) + random.gauss(0, 0.3) for at in range(count)]
    for at in range(0, count, 977):
        values[at] = math.nan
    run = make_run("long", [(3 * at, {"loss": value, "tokens": at * 7.0}) for at, value in enumerate(values)])
    if sealed:
        seal_run(run.folder, finished=True)
    recorded = book.run("long")
    for target in (6.0, 4.6, 4.0, 3.1, 2.0, 1.2, 0.9, -9.0):
        low = next((at for at, value in enumerate(values) if value <= target), None)
        found = first_reached(recorded, "loss", target, "minimize")
        assert (found.step, found.tokens) == (3 * low, 7 * low) if found and low is not None else low is found
        high = next((at for at, value in enumerate(values) if value >= target), None)
        found = first_reached(recorded, "loss", target, "maximize")
        assert found.step == 3 * high if found and high is not None else high is found


@pytest.mark.usefixtures("three")
def test_a_loss_to_be_reached_is_a_finite_number(book: Book) -> None:
    with pytest.raises(BadArgument, match="nan"):
        book.compare(losses=[math.nan])


# -- order, baseline, columns ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_the_baseline_comes_first_and_the_others_show_the_change_from_it(book: Book) -> None:
    found = book.compare(baseline="tracker")
    assert names(found) == ["tracker", "trainer", "plain"]
    assert found.baseline == "id-tracker"
    assert found.changes[0] == {}
    assert found.changes[1]["best_val_loss"] == pytest.approx(-0.9)
    assert found.changes[1]["tokens_seen"] == 300
    shown = found.text()
    assert "1.2 @3 (-0.9)" in shown
    assert "600 (+100%)" in shown
    with pytest.raises(UnknownRun, match="none of the 3 runs"):
        compare_runs(book.runs(), baseline="other")


@pytest.mark.usefixtures("three")
def test_a_run_that_is_named_twice_is_compared_once(book: Book) -> None:
    assert names(book.compare(["tracker", "id-tracker", "plain"])) == ["tracker", "plain"]


@pytest.mark.usefixtures("three")
def test_rows_are_sorted_by_a_column_or_by_any_name_and_those_without_come_last(book: Book) -> None:
    assert names(book.compare(sort="best_train_loss")) == ["trainer", "tracker", "plain"]
    assert names(book.compare(sort="-best_train_loss")) == ["plain", "tracker", "trainer"]
    assert names(book.compare(sort="tokens_seen")) == ["tracker", "trainer", "plain"]
    assert names(book.compare(sort="-config.model.heads"))[0] == "trainer"
    assert names(book.compare(sort="-name")) == ["trainer", "tracker", "plain"]
    with pytest.raises(BadArgument, match=r"'nothing' to sort by; .*there are name, id"):
        book.compare(sort="nothing")


@pytest.mark.usefixtures("three")
def test_columns_that_were_asked_for_stand_in_place_of_the_usual_ones(book: Book) -> None:
    found = book.compare(columns=["lr", "val/loss.max", "best_val_loss", "config.seed", "created"], losses=[2.0])
    assert [column.name for column in found.columns] == [
        "name",
        "config.lr",
        "val/loss.max",
        "best_val_loss",
        "config.seed",
        "created",
        "seconds_to_2",
        "tokens_to_2",
        "step_of_2",
    ]
    assert found.rows[0]["val/loss.max"] == 4.2
    assert "2025-11-2" in found.text()
    with pytest.raises(BadArgument, match="'nothing' for a column"):
        book.compare(columns=["nothing"])


def test_nothing_to_compare_is_an_empty_table(book: Book) -> None:
    found = book.compare()
    assert (found.rows, found.metric) == ((), None)
    assert found.to_dict()["runs"] == []
    assert found.text().split() == ["run", "id", "state"]


def test_runs_that_logged_no_loss_are_compared_all_the_same(book: Book, make_run: MakeRun) -> None:
    make_run("one", [{"reward": 1.0}], config={"lr": 1})
    make_run("two", [{"reward": 2.0}], config={"lr": 2})
    found = book.compare(losses=[1.0])
    assert (names(found), found.metric) == (["two", "one"], None)
    assert names(book.compare(metric="reward")) == ["two", "one"]


# -- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_csv_has_every_value_in_full_and_the_change_beside_it(book: Book) -> None:
    rows = list(csv.DictReader(io.StringIO(book.compare(baseline="tracker").csv())))
    assert [row["name"] for row in rows] == ["tracker", "trainer", "plain"]
    assert float(rows[1]["best_val_loss"]) == 4.2 - 3
    assert float(rows[1]["best_val_loss_change"]) == (4.2 - 3) - (5.1 - 3)
    assert (rows[1]["best_val_loss_step"], rows[2]["best_val_loss"], rows[0]["best_val_loss_change"]) == ("3", "", "")


@pytest.mark.usefixtures("three")
def test_a_dictionary_has_the_rows_and_says_what_the_columns_are(book: Book) -> None:
    found = book.compare(baseline="tracker").to_dict()
    assert (found["metric"], found["goal"], found["baseline"]) == ("val/loss", "minimize", "id-tracker")
    assert {"name": "best_val_loss", "title": "best val loss", "kind": "value"} in found["columns"]
    assert found["runs"][1]["change"]["best_val_loss"] == pytest.approx(-0.9)
    assert found["runs"][1]["config.lr"] == 1e-4


def test_names_that_markdown_and_latex_would_take_for_their_own_are_escaped(book: Book, make_run: MakeRun) -> None:
    make_run("a|b_c 100% $x$ \\n", [{"val/loss": 2.0}], config={"data": "x & y", "lr": 3e-5})
    make_run("other", [{"val/loss": 2.5}], config={"data": "~/z#1", "lr": 1})
    found = book.compare(baseline="other", columns=["data", "lr", "best_val_loss"])
    assert "a\\|b_c 100% $x$ \\\\n" in found.markdown()
    written = found.latex()
    assert r"a|b\_c".replace("|", r"\textbar{}") + r" 100\% \$x\$ \textbackslash{}n" in written
    assert r"x \& y & $3 \times 10^{-5}$ & 2 @0 ($-0.5$) \\" in written
    assert r"\textasciitilde{}/z\#1" in written
    assert [line for line in written.splitlines() if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_a_name_cannot_steer_the_terminal_and_a_long_value_is_clipped_for_people_alone(
    book: Book, make_run: MakeRun
) -> None:
    make_run("evil\x1b[2J\nline", [{"val/loss": 2.0}], config={"path": "x" * 500})
    make_run("other", [{"val/loss": 2.5}], config={"path": ["y", {"z": 1}]})
    found = book.compare()
    assert "\x1b" not in found.text()
    assert len(found.text().splitlines()) == 3
    assert "x" * 31 + "…" in found.text()
    assert '["y",{"z":1}]' in found.text()
    assert "x" * 500 in found.csv()


def test_a_table_that_is_too_wide_is_turned_and_if_that_is_too_wide_loses_columns() -> None:
    cells = Cells(("run", "best", "rest"), (False, True, True), (9, 8, 1), (("a", "1.25", "2"), ("wide", "1", "300")))
    assert plain_text(cells).splitlines() == ["run   best  rest", "a     1.25     2", "wide     1   300"]
    turned = plain_text(
        Cells(cells.titles * 3, cells.right * 3, cells.keep * 3, tuple(row * 3 for row in cells.rows)), 30
    )
    assert turned.splitlines()[0].split() == ["run", "a", "wide"]
    assert all(len(line) <= 30 for line in turned.splitlines())
    many = Cells(cells.titles, cells.right, cells.keep, cells.rows * 20)
    shown = plain_text(many, 12).splitlines()
    assert shown[0].split() == ["run", "best"]
    assert shown[-1] == "not shown for want of room: rest"


def test_wide_characters_stay_aligned() -> None:
    cells = Cells(("run", "x"), (False, True), (9, 8), (("模型", "1"), ("ab", "22")))
    assert plain_text(cells).splitlines() == ["run    x", "模型   1", "ab    22"]
    assert markdown(cells).splitlines()[1] == "| ---- | --: |"
    assert "模型 & 1 \\\\" in latex(cells)
