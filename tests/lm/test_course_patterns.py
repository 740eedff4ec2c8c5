"""The tips, common patterns and ways out of trouble of the course's guide run as they are written there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from snippets import execute, latest, only_log, quick_baseline, series, train_briefly

import lossbook
from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker, load_experiment_log


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- tips -------------------------------------------------------------------------------------------------------------

NAMES = """
# Good
config.experiment_name = "baseline_tinystories"
config.experiment_name = "lr_sweep_1e-4"
config.experiment_name = "double_capacity_512"

# Avoid
config.experiment_name = "exp1"
config.experiment_name = "test"
"""


def test_an_experiment_can_be_named_afterwards() -> None:
    config = execute(NAMES, {"config": ExperimentConfig()})["config"]
    ExperimentTracker(config).start().finish()
    assert latest().name == "test"
    assert only_log("test")["config"]["experiment_name"] == "test"
    assert config.replace(d_model=64).experiment_name == "test"


NOTES = """
tracker.finish(
    notes="Doubled d_model from 256 to 512. "
          "Expectation: better capacity but slower convergence."
)
"""


def test_notes_are_kept_with_the_run_and_in_the_log() -> None:
    tracker = ExperimentTracker(ExperimentConfig(experiment_name="wider")).start()
    execute(NOTES, {"tracker": tracker})
    tracker.save()
    expected = "Doubled d_model from 256 to 512. Expectation: better capacity but slower convergence."
    assert only_log("wider")["notes"] == expected
    assert expected in json.dumps(latest().events("note"))


BATCH_PROCESSING = """
analyzer = ExperimentAnalyzer()
analyzer.load_all()

for exp_name in analyzer.logs:
    analyzer.print_summary(exp_name)
    analyzer.export_csv(exp_name, Path(f"results/{exp_name}.csv"))
"""


def test_many_experiments_are_exported_into_a_folder_that_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    for name, val_loss in (("one", 3.0), ("two", 2.0)):
        quick_baseline(name, val_loss)
    execute(BATCH_PROCESSING)
    assert sorted(path.name for path in Path("results").iterdir()) == ["one.csv", "two.csv"]
    printed = capsys.readouterr().out
    assert "the notes of one" in printed
    assert "the notes of two" in printed


ACCUMULATION = """
# With accumulation (different)
if (iter_num + 1) % accumulation_steps == 0:
    tracker.increment_gradient_step()  # Only when optimizer steps
"""


@pytest.mark.parametrize("counted_first", [False, True], ids=["counts after logging", "counts before logging"])
def test_with_accumulation_iterations_and_gradient_steps_differ(counted_first: bool) -> None:
    tracker = ExperimentTracker(
        ExperimentConfig(experiment_name="accumulated", batch_size=8, context_length=32)
    ).start()
    for iter_num in range(12):
        if counted_first:
            execute(ACCUMULATION, {"tracker": tracker, "iter_num": iter_num, "accumulation_steps": 4})
        tracker.log_metrics(iteration=iter_num, train_loss=3.0)
        if not counted_first:
            execute(ACCUMULATION, {"tracker": tracker, "iter_num": iter_num, "accumulation_steps": 4})
    tracker.finish()
    tracker.save()
    history = only_log("accumulated")["metrics_history"]
    assert [row["iteration"] for row in history] == list(range(12))
    if not counted_first:
        assert [row["gradient_step"] for row in history] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert tracker.gradient_steps == latest().summary["final/gradient_steps"] == 3
    assert tracker.tokens_seen == 12 * 8 * 32


# -- common patterns --------------------------------------------------------------------------------------------------

BASELINE = """
config = ExperimentConfig(experiment_name="quick_baseline")
tracker = ExperimentTracker(config)
tracker.start()
# ... training ...
tracker.finish()
tracker.save()
tracker.print_summary()
"""

SWEEP = """
for lr in [1e-4, 6e-4, 1e-3]:
    for batch_size in [32, 64, 128]:
        config = ExperimentConfig(
            experiment_name=f"lr_{lr:.0e}_bs_{batch_size}",
            max_learning_rate=lr,
            batch_size=batch_size,
        )
        tracker = ExperimentTracker(config)
        tracker.start()
        # ... training ...
        tracker.finish()
        tracker.save()

# Compare all
analyzer = ExperimentAnalyzer()
analyzer.load_all()
print(analyzer.get_comparison_table())
"""

ABLATION = """
base_config = {
    "d_model": 512,
    "num_heads": 8,
    "num_layers": 6,
}

ablations = [
    {"d_model": 256},  # Half model size
    {"num_heads": 4},  # Half heads
    {"num_layers": 3}, # Half layers
]

for ablation in ablations:
    params = {**base_config, **ablation}
    config = ExperimentConfig(
        experiment_name=f"ablation_{'_'.join(f'{k}_{v}' for k,v in ablation.items())}",
        **params
    )
    tracker = ExperimentTracker(config)
    # ... training ...
"""


def test_the_baseline_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    execute(BASELINE, {"train_briefly": train_briefly}, fill={"# ... training ...": "train_briefly(tracker)"})
    assert only_log("quick_baseline")["best_val_loss"] == 3.0
    assert "quick_baseline" in capsys.readouterr().out


def test_the_sweep_pattern_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute(
        SWEEP,
        {"train_briefly": train_briefly},
        fill={"# ... training ...": "train_briefly(tracker, val_loss=2.0 + abs(lr - 6e-4) * 100 + batch_size / 1000)"},
    )
    expected = {f"lr_{lr}_bs_{batch_size}" for lr in ("1e-04", "6e-04", "1e-03") for batch_size in (32, 64, 128)}
    assert set(names["analyzer"].logs) == expected
    assert len(list(Path("experiment_logs").glob("*.json"))) == 9
    table = capsys.readouterr().out.splitlines()
    assert next(line.split()[0] for line in table if line.startswith("lr_")) == "lr_6e-04_bs_32"
    assert names["analyzer"].get_best_experiment() == ("lr_6e-04_bs_32", pytest.approx(2.032))
    runs = lossbook.open().runs()
    assert len(runs) == 9
    assert {run.state for run in runs} == {"finished"}
    assert all(series(run, "train/loss") and len(series(run, "val/loss")) == 1 for run in runs)


def test_the_ablation_pattern_needs_no_start() -> None:
    execute(
        ABLATION,
        {"train_briefly": train_briefly},
        fill={"# ... training ...": "train_briefly(tracker); tracker.finish(); tracker.save()"},
    )
    analyzer = ExperimentAnalyzer()
    analyzer.load_all()
    differs = {name: found["differs"] for name, found in analyzer.compare_experiments().items()}
    assert differs == {
        "ablation_d_model_256": {"d_model": 256, "num_heads": 8, "num_layers": 6},
        "ablation_num_heads_4": {"d_model": 512, "num_heads": 4, "num_layers": 6},
        "ablation_num_layers_3": {"d_model": 512, "num_heads": 8, "num_layers": 3},
    }


def test_an_ablation_may_replace_fields_of_the_baseline() -> None:
    base = ExperimentConfig(experiment_name="base", d_model=512, num_layers=6, max_learning_rate=6e-4)
    smaller = base.replace(experiment_name="half", d_model=256, learning_rate=1e-3)
    assert (smaller.d_model, smaller.num_layers, smaller.max_learning_rate) == (256, 6, 1e-3)
    assert (base.d_model, base.max_learning_rate) == (512, 6e-4)


# -- troubleshooting --------------------------------------------------------------------------------------------------

MAKE_THE_FOLDER = """
Path("experiment_logs").mkdir(parents=True, exist_ok=True)
"""

RESUME_FROM_A_LOG = """
from lossbook.lm import load_experiment_log

# Load previous log
old_log = load_experiment_log(Path("experiment_logs/previous_experiment.json"))

# Create new tracker with same config
tracker = ExperimentTracker(old_log.config)
tracker.start()
# ... continue training ...
"""


def test_the_folder_of_logs_is_made_when_it_is_missing_and_may_be_there() -> None:
    quick_baseline("first", 3.0)
    execute(MAKE_THE_FOLDER)
    quick_baseline("second", 2.0)
    assert len(list(Path("experiment_logs").glob("*.json"))) == 2


def test_training_goes_on_with_the_configuration_of_a_loaded_log() -> None:
    before = quick_baseline("previous", 3.0, d_model=512, max_learning_rate=6e-4)
    before.log_path.rename("experiment_logs/previous_experiment.json")
    names = execute(
        RESUME_FROM_A_LOG,
        {"train_briefly": train_briefly},
        fill={"# ... continue training ...": "train_briefly(tracker, val_loss=2.5); tracker.finish(); tracker.save()"},
    )
    assert (names["tracker"].config.d_model, names["tracker"].config.learning_rate) == (512, 6e-4)
    assert only_log("previous")["best_val_loss"] == 2.5
    assert load_experiment_log("experiment_logs/previous_experiment.json").best_val_loss == 3.0
    analyzer = ExperimentAnalyzer()
    assert len(analyzer.load_all()) == 2
    assert analyzer.get_best_experiment("val_loss") == ("previous", 2.5)


def test_a_tracker_that_loads_the_log_goes_on_with_its_run_and_counts() -> None:
    before = quick_baseline("previous", 3.0, batch_size=8, context_length=32)
    tracker = ExperimentTracker(before.config)
    tracker.load_from_file(before.log_path)
    tracker.start()
    for iteration in range(4, 8):
        tracker.log_metrics(iteration=iteration, train_loss=2.0)
        tracker.increment_gradient_step()
    tracker.finish()
    assert tracker.save() == before.log_path
    (run,) = lossbook.open().runs()
    assert [row[0] for row in run.history(["train/loss"]).rows()] == list(range(8))
    assert series(run, "time/gradient_steps")[-1] == tracker.gradient_steps == 8
    assert tracker.tokens_seen == 8 * 8 * 32
    history = load_experiment_log(before.log_path).metrics_history
    assert [row.iteration for row in history if row.learning_rate or row.train_loss == 2.0] == list(range(8))
    assert sum(row.val_loss is not None for row in history) == 1


def test_the_experiment_log_is_refreshed_and_what_was_written_by_hand_stays() -> None:
    quick_baseline("first", 3.0)
    analyzer = ExperimentAnalyzer()
    analyzer.load_all()
    path = analyzer.write_report()
    assert path == Path("EXPERIMENT_LOG.md")
    text = path.read_text().replace("## Findings\n", "## Findings\n\nWider is better.\n")
    path.write_text(text)
    quick_baseline("second", 2.0)
    analyzer.load_all()
    refreshed = analyzer.write_report().read_text()
    assert "Wider is better." in refreshed
    assert "second" not in text
    assert "### second" in refreshed
    assert "the notes of first" in refreshed
