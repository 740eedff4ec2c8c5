"""Experiments side by side: every one that can be read, the best first, and its curves."""

from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import BadArgument, DamagedFile
from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker, print_experiment_summary

#: The folder that an analyzer looks in when none is named.
FOLDER = Path("experiment_logs")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *, val: list[float | None], stamp: str = "20250222_140530", **fields: Any) -> Path:
    """Write a log with one row for each validation loss; None is a row without one."""
    FOLDER.mkdir(exist_ok=True)
    rate = fields.pop("rate", 1000.0)
    history = [
        {
            "iteration": number,
            "gradient_step": number // 2 + 1,
            "wallclock_time": number + 0.5,
            "train_loss": None if value is None else value - 0.25,
            "val_loss": value,
            "learning_rate": 1e-3 / (number + 1),
            "tokens_per_sec": rate,
            "iter_time_ms": 2.0,
        }
        for number, value in enumerate(val)
    ]
    config = {"experiment_name": name, "d_model": 512, "max_learning_rate": 6e-4} | fields.pop("config", {})
    time_of = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}"
    log = {
        "config": config,
        "start_time": time_of,
        "end_time": time_of,
        "duration_seconds": float(len(val)),
        "metrics_history": history,
        "notes": "",
    } | fields
    path = FOLDER / f"experiment_{name.replace('/', '_')}_{stamp}.json"
    path.write_text(json.dumps(log))
    return path


def loaded() -> ExperimentAnalyzer:
    analyzer = ExperimentAnalyzer()
    analyzer.load_all()
    return analyzer


def first_column(table: str) -> list[str]:
    return [line.split()[0] for line in table.splitlines()[2:]]


# -- the table and the best ---------------------------------------------------------------------------------------


def test_the_table_has_the_best_first_and_lines_that_are_in_line() -> None:
    write("middle", val=[4.0, 3.0])
    write("best", val=[4.0, 2.0, 2.5], config={"d_model": 1024})
    write("diverged", val=[4.5, math.nan])
    write("never_validated", val=[None, None])
    table = loaded().get_comparison_table()
    assert first_column(table) == ["best", "middle", "diverged", "never_validated"]
    heading, rule, *lines = table.splitlines()
    for word in ("experiment", "d_model", "max lr", "best val", "final val", "tokens/s", "wallclock"):
        assert word in heading
    assert len(rule) >= max(len(line) for line in lines)
    column = heading.index("best val") + len("best val")
    assert [line[:column].split()[-1] for line in lines[:3]] == ["2", "3", "4.5"]


def test_the_table_is_sorted_as_it_is_asked() -> None:
    write("b", val=[1.0], stamp="20250222_140530")
    write("a", val=[2.0], stamp="20250223_140530")
    write("c", val=[3.0], stamp="20250221_140530")
    analyzer = loaded()
    assert first_column(analyzer.get_comparison_table(sort="name")) == ["a", "b", "c"]
    assert first_column(analyzer.get_comparison_table(sort="start")) == ["c", "b", "a"]
    assert first_column(analyzer.get_comparison_table(sort="train_loss")) == ["b", "a", "c"]
    with pytest.raises(BadArgument, match="use val_loss, train_loss, name or start"):
        analyzer.get_comparison_table(sort="size")


def test_the_best_is_low_for_losses_and_high_for_throughput() -> None:
    write("small", val=[4.0, 3.0, 3.5], rate=2000.0)
    write("large", val=[4.0, 2.0, 3.75], rate=500.0)
    analyzer = loaded()
    assert analyzer.get_best_experiment() == ("large", 2.0)
    assert analyzer.get_best_experiment("val_loss") == ("large", 2.0)
    assert analyzer.get_best_experiment("best_val_loss") == ("large", 2.0)
    assert analyzer.get_best_experiment("train_loss") == ("large", 1.75)
    assert analyzer.get_best_experiment("final_val_loss") == ("small", 3.5)
    assert analyzer.get_best_experiment("tokens_per_sec") == ("small", 2000.0)
    assert analyzer.get_best_experiment("duration_seconds")[1] == 3.0
    with pytest.raises(BadArgument, match="no experiment has a 'accuracy'; ask for one of train_loss, val_loss"):
        analyzer.get_best_experiment("accuracy")


def test_what_is_not_finite_is_never_the_best() -> None:
    write("diverged", val=[math.nan, math.nan], best_val_loss=math.nan, final_val_loss=-math.inf)
    write("fine", val=[3.0])
    analyzer = loaded()
    assert analyzer.get_best_experiment("val_loss") == ("fine", 3.0)
    assert analyzer.get_best_experiment("final_val_loss") == ("fine", 3.0)


def test_a_thousand_logs(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1000):
        write(f"lr_{number:04d}", val=[4.0, 3.0 + (number * 7919 % 1000) / 1000])
    begun = time.perf_counter()
    analyzer = loaded()
    read = time.perf_counter()
    table = analyzer.get_comparison_table()
    with capsys.disabled():
        print(f" [1,000 logs: {read - begun:.2f} s to load, {time.perf_counter() - read:.3f} s to compare]", end="")
    assert len(table.splitlines()) == 1002
    assert first_column(table)[0] == analyzer.get_best_experiment("val_loss")[0] == "lr_0000"
    assert analyzer.problems == []


# -- loading ------------------------------------------------------------------------------------------------------


def test_no_folder_and_no_logs_are_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadArgument, match="there is no folder experiment_logs of experiment logs"):
        ExperimentAnalyzer().load_all()
    FOLDER.mkdir()
    assert loaded().logs == {}
    print_experiment_summary()
    assert "no experiments in experiment_logs" in capsys.readouterr().out
    with pytest.raises(BadArgument, match="there is no experiment 'one'; load_all\\(\\) found none"):
        loaded().get("one")


def test_an_unreadable_file_is_named_and_the_others_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    write("good", val=[3.0])
    (FOLDER / "empty.json").touch()
    (FOLDER / "binary.json").write_bytes(b"\x00\xff\xfe")
    (FOLDER / "other.json").write_text('{"name": "a package"}')
    (FOLDER / "folder.json").mkdir()
    (FOLDER / "notes.txt").write_text("no log")
    analyzer = loaded()
    assert list(analyzer.logs) == ["good"]
    said = capsys.readouterr().out
    for name in (
        "empty.json is empty",
        "binary.json:1: this is no JSON",
        "other.json:1: this is no experiment log",
        "folder.json cannot be read",
    ):
        assert said.count(name) == 1
    assert len(analyzer.problems) == 4
    assert analyzer.load_all() == analyzer.logs
    assert len(analyzer.problems) == 4


def test_experiments_of_one_name_are_all_kept_and_the_latest_has_it() -> None:
    write("one", val=[3.0], stamp="20250222_140530")
    write("one", val=[1.0], stamp="20250224_140530")
    write("one", val=[2.0], stamp="20250223_140530")
    logs = loaded().logs
    assert {name: log.best_val_loss for name, log in logs.items()} == {
        "one@2025-02-22T14:05:30": 3.0,
        "one@2025-02-23T14:05:30": 2.0,
        "one": 1.0,
    }


def test_loading_an_earlier_one_afterwards_takes_the_name_from_no_one() -> None:
    earlier = write("one", val=[3.0], stamp="20250222_140530")
    later = write("one", val=[1.0], stamp="20250224_140530")
    analyzer = ExperimentAnalyzer()
    for path in (later, earlier, later, earlier):
        analyzer.load_specific(path)
    assert {name: log.best_val_loss for name, log in analyzer.logs.items()} == {
        "one@2025-02-22T14:05:30": 3.0,
        "one": 1.0,
    }


def test_one_is_loaded_by_path_by_file_name_or_by_its_name() -> None:
    path = write("one", val=[3.0], stamp="20250222_140530")
    write("one", val=[2.0], stamp="20250223_140530")
    for named in (path, str(path), path.name, path.stem):
        assert ExperimentAnalyzer().load_specific(named).best_val_loss == 3.0
    assert ExperimentAnalyzer().load_specific("one").best_val_loss == 2.0
    with pytest.raises(BadArgument, match="there is no experiment log 'two' in experiment_logs"):
        ExperimentAnalyzer().load_specific("two")
    path.write_text("")
    with pytest.raises(DamagedFile, match="is empty"):
        ExperimentAnalyzer().load_specific(path)


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    write("baseline", val=[3.0])
    analyzer = loaded()
    for ask in (
        analyzer.get_summary_stats,
        analyzer.print_summary,
        analyzer.export_csv,
        analyzer.get_loss_trajectories,
    ):
        with pytest.raises(BadArgument, match="there is no experiment 'baselin'; there are baseline"):
            ask("baselin")


def test_a_folder_full_of_damage_does_not_fill_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    FOLDER.mkdir()
    for number in range(50):
        (FOLDER / f"{number}.json").touch()
    assert len(loaded().problems) == 50
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 21
    assert said[-1] == "lossbook: and 30 more; `problems` has them all"


# -- one experiment, and several ----------------------------------------------------------------------------------


def test_the_statistics_of_one() -> None:
    write("one", val=[4.0, None, math.nan, 3.0], notes="why")
    statistics = loaded().get_summary_stats("one")
    assert (statistics["total_iterations"], statistics["total_gradient_steps"], statistics["num_snapshots"]) == (
        4,
        2,
        4,
    )
    assert statistics["val_loss"] == {"count": 3, "not_finite": 1, "last": 3.0, "mean": 3.5, "min": 3.0, "max": 4.0}
    assert statistics["tokens_per_sec"]["mean"] == 1000.0
    assert (statistics["best_val_loss"], statistics["final_val_loss"], statistics["notes"]) == (3.0, 3.0, "why")


def test_the_statistics_of_one_that_logged_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write("one", val=[])
    analyzer = loaded()
    statistics = analyzer.get_summary_stats("one")
    assert (statistics["total_iterations"], statistics["best_val_loss"]) == (0, None)
    assert "val_loss" not in statistics
    analyzer.print_summary("one")
    assert analyzer.get_loss_trajectories("one")["one"].val == ([], [])
    assert first_column(analyzer.get_comparison_table()) == ["one"]


def test_what_is_printed_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    write("one", val=[4.0, 3.0], notes="Doubled d_model", config={"num_layers": 6})
    analyzer = loaded()
    analyzer.print_summary("one")
    said = capsys.readouterr().out
    for words in ("one\n", "d_model 512", "layers 6", "Doubled d_model", "best validation loss", "1,000"):
        assert words in said
    print_experiment_summary()
    assert "best val_loss: one with 3.000000" in capsys.readouterr().out


def test_several_are_compared_by_what_differs() -> None:
    write("base", val=[3.0])
    write("small", val=[3.5], config={"d_model": 256, "num_heads": 4})
    write("same", val=[3.1])
    analyzer = loaded()
    compared = analyzer.compare_experiments(["base", "small"])
    assert compared["base"]["differs"] == {"d_model": 512, "num_heads": None}
    assert compared["small"]["differs"] == {"d_model": 256, "num_heads": 4}
    assert compared["small"]["best_val_loss"] == 3.5
    assert list(analyzer.compare_experiments()) == ["base", "same", "small"]
    assert analyzer.compare_experiments([]) == {}
    with pytest.raises(BadArgument, match="there is no experiment 'large'"):
        analyzer.compare_experiments(["base", "large"])


@pytest.mark.parametrize("x", ["iteration", "gradient_step", "wallclock_time"])
def test_trajectories_have_as_many_places_as_values(x: str) -> None:
    write("one", val=[4.0, None, 3.5, None, None, math.nan])
    write("two", val=[None])
    analyzer = loaded()
    curves = analyzer.get_loss_trajectories(x=x)
    assert list(curves) == ["one", "two"]
    for losses in curves.values():
        for curve in losses:
            assert len(curve.x) == len(curve.y)
    assert len(curves["one"].val.x) == 3
    assert curves["one"].val.x[:2] == {"iteration": [0, 2], "gradient_step": [1, 2], "wallclock_time": [0.5, 2.5]}[x]
    assert curves["one"].train.y[:2] == [3.75, 3.25]
    assert curves["two"].val == ([], [])
    assert analyzer.get_throughput_trajectories("one", x=x)["one"].y == [1000.0] * 6
    rates = analyzer.get_learning_rate_trajectories(["one"], x=x)["one"]
    assert len(rates.x) == len(rates.y) == 6


def test_an_axis_that_is_not_known_is_refused() -> None:
    write("one", val=[4.0])
    with pytest.raises(BadArgument, match="use one of iteration, gradient_step, wallclock_time"):
        loaded().get_loss_trajectories(x="epoch")


# -- out ----------------------------------------------------------------------------------------------------------


def test_a_csv_is_read_by_any_reader(tmp_path: Path) -> None:
    write("one", val=[4.0, None, math.nan])
    path = loaded().export_csv("one", tmp_path / "results" / "one.csv")
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == [
        "iteration",
        "gradient_step",
        "wallclock_time",
        "train_loss",
        "val_loss",
        "learning_rate",
        "tokens_per_sec",
        "iter_time_ms",
    ]
    assert [row["val_loss"] for row in read] == ["4.0", "", "nan"]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(path)
    assert frame["iteration"].tolist() == [0, 1, 2]
    assert frame["train_loss"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["org/model", "../../outside", "a b:c", "模型"])
def test_a_csv_stays_in_its_folder_whatever_the_experiment_is_called(tmp_path: Path, name: str) -> None:
    write("x", val=[4.0], config={"experiment_name": name})
    path = loaded().export_csv(name)
    assert path.resolve().parent == (tmp_path / FOLDER).resolve()
    assert path.name.endswith("_metrics.csv")
    assert path.is_file()


# -- a store ------------------------------------------------------------------------------------------------------


def test_the_runs_of_a_store_compare_like_logs(store: Path) -> None:
    for rate in (1e-3, 1e-2):
        config = ExperimentConfig(experiment_name=f"lr_{rate:g}", max_learning_rate=rate, track_memory=False)
        tracker = ExperimentTracker(config, store=store, project="p", notes="a sweep")
        for iteration in range(5):
            tracker.log_metrics(
                iteration=iteration, train_loss=rate * 100 + 4 - iteration, learning_rate=rate, tokens_per_sec=1 / rate
            )
            tracker.increment_gradient_step()
        tracker.log_eval(iteration=4, val_loss=rate * 100 + 1)
        tracker.finish()
    analyzer = ExperimentAnalyzer(store=store)
    analyzer.load_all()
    assert first_column(analyzer.get_comparison_table()) == ["lr_0.001", "lr_0.01"]
    assert analyzer.get_best_experiment("val_loss") == ("lr_0.001", 1.1)
    assert analyzer.get_best_experiment("tokens_per_sec") == ("lr_0.001", 1000.0)
    assert analyzer.get_loss_trajectories("lr_0.01")["lr_0.01"].train == ([0, 1, 2, 3, 4], [5.0, 4.0, 3.0, 2.0, 1.0])
    assert analyzer.compare_experiments()["lr_0.01"]["differs"] == {"learning_rate": 0.01}
    statistics = analyzer.get_summary_stats("lr_0.01")
    assert (statistics["total_gradient_steps"], statistics["notes"]) == (5, "a sweep")
    assert statistics["duration_seconds"] == pytest.approx(tracker.wallclock_seconds, abs=0.5)
    assert len(analyzer.export_csv("lr_0.01", "a.csv").read_text().splitlines()) == 7


def test_runs_of_any_trainer_are_experiments(store: Path) -> None:
    odd = [
        {"d_model": -1, "learning_rate": "fast", "extra": "none", "optimizer": {"name": "adam"}},
        {"learning_rate": 1e-3, "max_learning_rate": 1e-2, "tags": 5, "experiment_name": "no"},
        {},
    ]
    for number, config in enumerate(odd):
        with lossbook.init(store=store, project="p", name=f"run {number}", config=config, console=False) as run:
            for step in range(3):
                run.log({"train_loss": 3.0 - number - step / 10, "lr": 1e-3}, step=step)
                run.log({"eval_loss": 4.0 - number}, step=step)
    analyzer = ExperimentAnalyzer(store=store)
    analyzer.load_all()
    assert [name for name, _ in sorted(analyzer.logs.items())] == ["run 0", "run 1", "run 2"]
    assert analyzer.get_best_experiment("val_loss") == ("run 2", 2.0)
    assert analyzer.logs["run 0"].config.extra["d_model_as_recorded"] == -1
    assert analyzer.get_best_experiment("train_loss") == ("run 2", 0.8)


def test_runs_of_one_name_are_all_there(store: Path) -> None:
    for loss in (3.0, 2.0):
        tracker = ExperimentTracker({"experiment_name": "one", "track_memory": False}, store=store)
        tracker.log_metrics(iteration=0, train_loss=loss)
        tracker.finish()
    analyzer = ExperimentAnalyzer(store=store)
    analyzer.load_all()
    assert sorted(log.best_train_loss or 0.0 for log in analyzer.logs.values()) == [2.0, 3.0]
    assert analyzer.logs["one"].best_train_loss == 2.0
