"""Every snippet of the language-model tracker's document runs as it is written there; `lossbook.lm` is all that changed."""

from __future__ import annotations

import json
import math
import os
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snippets import execute, latest, series

import lossbook
from lossbook.lm import (
    ExperimentConfig,
    ExperimentTracker,
    Timer,
    exponential_moving_average,
    gaussian,
    gpu_memory,
    moving_average,
    moving_median,
    system_memory,
    tokens_per_second,
)

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


BASIC_USAGE = """
from lossbook.lm import ExperimentTracker, ExperimentConfig

# Create configuration
config = ExperimentConfig(
    model_size="17M",
    dataset="tinystories",
    learning_rate=3e-4,
    num_iterations=50000
)

# Initialize tracker
tracker = ExperimentTracker(config, model)
"""

DURING_TRAINING = """
# During training loop
tracker.log_train_step(
    loss=loss.item(),
    learning_rate=current_lr,
    grad_norm=grad_norm,
    tokens=batch_size * seq_length,
    iteration=step,
    accumulation_step=accum_step
)
"""

DURING_VALIDATION = """
# During validation
tracker.log_validation(
    val_loss=val_loss,
    val_perplexity=val_perplexity,
    num_batches=val_batches
)

# When saving checkpoints
tracker.log_checkpoint(checkpoint_path, is_best=False)
"""

AT_THE_END = """
# At the end of training
tracker.finish(save_summary=True)
"""

#: Everything that F5 promises of a run on a machine without a GPU.
PROMISED = {
    "train/loss", "train/perplexity", "train/learning_rate", "train/grad_norm",
    "time/wallclock_hours", "time/gradient_steps", "time/tokens_seen",
    "progress/completion_pct", "progress/estimated_hours_remaining",
    "throughput/tokens_per_second", "throughput/steps_per_hour",
    "val/loss", "val/perplexity", "val/eval_time_seconds", "val/train_val_gap", "val/num_batches", "val/runs_completed",
    "time/wallclock_hours_at_val", "time/gradient_steps_at_val",
    "memory/system_memory_used_gb", "memory/system_memory_total_gb", "memory/system_memory_percent",
    "checkpoint/saved", "checkpoint/gradient_steps", "checkpoint/wallclock_hours", "checkpoint/is_best",
}  # fmt: skip


@pytest.fixture
def basic() -> dict[str, Any]:
    """The basic usage, trained for five steps of four micro-batches, validated once and finished."""
    names = execute(BASIC_USAGE, {"model": torch.nn.Linear(8, 4)})
    names.update(current_lr=3e-4, batch_size=32, seq_length=64)
    for step in range(5):
        for accum_step in range(4):
            names.update(
                loss=torch.tensor(4.0 - 0.1 * step - 0.01 * accum_step),
                step=step,
                accum_step=accum_step,
                grad_norm=torch.tensor(1.5) if accum_step == 3 else None,
            )
            execute(DURING_TRAINING, names)
    names.update(val_loss=3.9, val_perplexity=math.exp(3.9), val_batches=10, checkpoint_path=Path("model.pt"))
    execute(DURING_VALIDATION, names)
    execute(AT_THE_END, names)
    return names


def test_the_basic_usage_logs_every_promised_metric(basic: dict[str, Any]) -> None:
    run = latest()
    assert set(run.keys()) >= PROMISED
    assert run.state == "finished"
    assert run.config["learning_rate"] == 3e-4
    assert run.config["parameters"] == 8 * 4 + 4
    assert set(run.tags) == {"17M", "tinystories", "baseline"}


def test_a_gradient_step_is_counted_once_per_optimizer_step_and_tokens_per_micro_batch(basic: dict[str, Any]) -> None:
    assert basic["tracker"].gradient_steps == 5
    assert basic["tracker"].tokens_seen == 5 * 4 * 32 * 64
    run = latest()
    assert series(run, "time/tokens_seen")[-1] == 5 * 4 * 32 * 64
    assert series(run, "time/gradient_steps")[-1] == 5
    assert series(run, "time/gradient_steps_at_val") == series(run, "checkpoint/gradient_steps") == [5]
    assert [row[0] for row in run.history(["train/grad_norm"]).rows() if row[-1] is not None] == [0, 1, 2, 3, 4]


def test_perplexity_is_the_exponential_and_the_gap_is_validation_less_training(basic: dict[str, Any]) -> None:
    run = latest()
    assert series(run, "train/perplexity") == pytest.approx(
        [math.exp(loss) for loss in series(run, "train/loss")], rel=1e-5
    )
    assert series(run, "val/loss") == [3.9]
    assert series(run, "val/perplexity") == [math.exp(3.9)]
    assert series(run, "val/num_batches") == [10]
    assert series(run, "val/runs_completed") == [1]
    assert series(run, "val/train_val_gap") == pytest.approx([3.9 - (4.0 - 0.4 - 0.03)], abs=1e-6)


def test_progress_is_measured_against_the_configured_iterations(basic: dict[str, Any]) -> None:
    assert series(latest(), "progress/completion_pct")[-1] == pytest.approx(100 * 5 / 50_000)
    assert series(latest(), "progress/estimated_hours_remaining")[-1] > 0


def test_the_checkpoint_is_marked_where_it_was_saved(basic: dict[str, Any]) -> None:
    (saved,) = latest().events("checkpoint")
    assert (saved["step"], saved["value"]["path"], saved["value"]["is_best"]) == (
        4,
        str(Path("model.pt").resolve()),
        False,
    )
    assert series(latest(), "checkpoint/is_best") == [0]


def test_the_name_says_size_dataset_type_and_time(basic: dict[str, Any]) -> None:
    assert re.fullmatch(r"17M_tinystories_baseline_\d{8}_\d{6}(-\d+)?", basic["config"].experiment_name)
    assert latest().name == basic["config"].experiment_name


def test_the_summary_holds_final_metrics_and_configuration(basic: dict[str, Any]) -> None:
    summary = json.loads(Path(f"experiments/{basic['config'].experiment_name}_summary.json").read_text())
    assert summary["experiment_name"] == basic["config"].experiment_name
    assert summary["config"]["num_iterations"] == 50_000
    assert summary["metrics"]["final/gradient_steps"] == 5
    assert summary["metrics"]["final/best_val_loss"] == 3.9
    assert summary["duration_seconds"] > 0


@pytest.mark.parametrize(
    ("axis", "begins_at", "ends_at"),
    [("step", 0, 4), ("gradient_step", 1, 5), ("tokens", 4 * 32 * 64, 5 * 4 * 32 * 64)],
)
def test_curves_are_drawn_against_steps_gradient_steps_and_tokens(
    basic: dict[str, Any], axis: str, begins_at: int, ends_at: int
) -> None:
    # The four micro-batches of a step share its place, which is where it ends.
    curve = latest().curve("train/loss", x=axis)
    assert (curve.x[0], curve.x_end[-1]) == (begins_at, ends_at)
    assert (curve.min.min(), curve.max.max()) == pytest.approx((3.57, 4.0))
    assert curve.count.sum() == 20


def test_curves_are_drawn_against_wallclock(basic: dict[str, Any]) -> None:
    curve = latest().curve("train/loss", x="wallclock")
    assert np.all(np.diff(curve.x) >= 0)
    assert 0 <= curve.x[0] <= curve.x_end[-1] <= series(latest(), "time/wallclock_hours")[-1] * 3600 + 1


@pytest.mark.parametrize("from_one", [False, True], ids=["from 0", "from 1"])
def test_micro_batches_may_be_counted_from_zero_or_one(from_one: bool) -> None:
    tracker = ExperimentTracker(ExperimentConfig(gradient_accumulation_steps=4, track_memory=False))
    for step in range(3):
        for micro in range(4):
            tracker.log_train_step(loss=3.0, tokens=10, iteration=step, accumulation_step=micro + from_one)
            assert tracker.gradient_steps == step + (micro == 3)
    tracker.finish()
    assert tracker.tokens_seen == 120


def test_validation_time_is_kept_out_of_training_throughput() -> None:
    tracker = ExperimentTracker(ExperimentConfig(track_memory=False))
    tracker.log_train_step(loss=3.0, tokens=1000, iteration=0)
    began = time.monotonic()
    time.sleep(0.3)  # the validation: what is measured, not waited for
    validated = time.monotonic() - began
    tracker.log_validation(val_loss=3.1)
    tracker.log_train_step(loss=3.0, tokens=1000, iteration=1)
    trained_and_validated = time.monotonic() - began
    tracker.finish()
    assert series(latest(), "val/eval_time_seconds")[0] >= validated
    assert series(latest(), "throughput/tokens_per_second")[-1] > 1000 / trained_and_validated


CONFIG_YAML = """
# config.yaml
model_size: "17M"
vocab_size: 50257
d_model: 512
num_layers: 8
num_heads: 8
learning_rate: 3e-4
dataset: "tinystories"
experiment_type: "baseline"
tags: ["my_experiment", "v1"]
"""

LOAD_CONFIG = """
config = ExperimentConfig.load("config.yaml")
"""


def test_the_yaml_file_loads_as_it_is_written() -> None:
    Path("config.yaml").write_text(CONFIG_YAML)
    config = execute(LOAD_CONFIG)["config"]
    assert config.learning_rate == 3e-4  # which YAML 1.1 reads as a text
    assert config.tags == ["my_experiment", "v1", "17M", "tinystories", "baseline"]
    assert (config.vocab_size, config.d_model, config.num_layers, config.num_heads) == (50257, 512, 8, 8)


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_a_configuration_survives_being_saved_and_loaded(ending: str) -> None:
    Path("config.yaml").write_text(CONFIG_YAML)
    config = ExperimentConfig.load("config.yaml")
    config.save(f"configs/saved.{ending}")
    assert ExperimentConfig.load(f"configs/saved.{ending}") == config


def test_the_estimate_is_that_of_the_shape_and_a_model_that_disagrees_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("config.yaml").write_text(CONFIG_YAML)
    config = ExperimentConfig.load("config.yaml", context_length=256)
    embeddings = (50257 + 256) * 512
    assert config.estimate_parameters() == embeddings + 8 * (12 * 512 * 512 + 13 * 512) + 2 * 512
    ExperimentTracker(config, torch.nn.Linear(3, 3)).finish()
    assert "the model has 12 parameters" in capsys.readouterr().err


OFFLINE = """
# Run offline
import os
os.environ["WANDB_MODE"] = "offline"

# Sync later
# wandb sync wandb/offline-run-*
"""


def test_offline_the_run_is_recorded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    execute(OFFLINE)
    assert os.environ["WANDB_MODE"] == "offline"
    tracker = ExperimentTracker(ExperimentConfig(experiment_name="offline"))
    tracker.log_train_step(loss=3.0, tokens=10, iteration=0)
    tracker.finish()
    assert series(latest(), "train/loss") == [3.0]


WITHOUT_MEMORY = """
config = ExperimentConfig(track_memory=False)
"""


def test_memory_can_be_left_out() -> None:
    tracker = ExperimentTracker(execute(WITHOUT_MEMORY)["config"])
    tracker.log_train_step(loss=3.0, tokens=10, iteration=0)
    tracker.finish()
    assert latest().config["track_memory"] is False
    assert "memory/" not in " ".join(latest().keys())


CUSTOM_METRIC = """
tracker.log_custom_metric("my_metric", value=0.95)
"""


def test_a_custom_metric_keeps_its_name_under_custom() -> None:
    tracker = ExperimentTracker(ExperimentConfig())
    tracker.log_train_step(loss=3.0, iteration=7)
    execute(CUSTOM_METRIC, {"tracker": tracker})
    tracker.finish()
    assert [(row[0], row[-1]) for row in latest().history(["custom/my_metric"]).rows()] == [(7, 0.95)]


STATE_PERSISTENCE = """
# Save
state = tracker.state_dict()

# Load
tracker.load_state_dict(state)
"""


def test_the_state_can_be_loaded_where_it_was_saved() -> None:
    tracker = ExperimentTracker(ExperimentConfig())
    for step in range(3):
        tracker.log_train_step(loss=3.0, tokens=100, iteration=step)
    state = execute(STATE_PERSISTENCE, {"tracker": tracker})["state"]
    assert json.loads(json.dumps(state)) == state
    tracker.log_train_step(loss=2.0, tokens=100, iteration=3)
    tracker.finish()
    assert (tracker.gradient_steps, tracker.tokens_seen) == (4, 400)
    assert series(latest(), "train/loss") == [3.0, 3.0, 3.0, 2.0]


def test_a_checkpoint_s_state_goes_on_in_the_same_run_with_no_overlap(tmp_path: Path) -> None:
    config = ExperimentConfig(experiment_name="resumed", gradient_accumulation_steps=2, track_memory=False)
    tracker = ExperimentTracker(config)
    for step in range(6):
        for micro in range(2):
            tracker.log_train_step(loss=5.0 - step, tokens=64, iteration=step, accumulation_step=micro)
        if step == 3:
            torch.save({"tracker": tracker.state_dict()}, tmp_path / "checkpoint.pt")
    tracker.finish(state="crashed")

    again = ExperimentTracker(config)
    again.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["tracker"])
    for step in range(4, 8):
        for micro in range(2):
            again.log_train_step(loss=5.0 - step, tokens=64, iteration=step, accumulation_step=micro)
    again.finish()
    assert (again.gradient_steps, again.tokens_seen) == (8, 8 * 2 * 64)
    (run,) = lossbook.open().runs()
    assert [row[0] for row in run.history(["train/loss"]).rows()] == [step for step in range(8) for _ in range(2)]
    assert series(run, "time/tokens_seen") == [64.0 * count for count in range(1, 17)]
    assert series(run, "time/gradient_steps") == [float(count // 2) for count in range(1, 17)]


def test_a_long_history_takes_no_memory() -> None:
    tracker = ExperimentTracker(ExperimentConfig(track_memory=False))

    def train(steps: int) -> int:
        for _ in range(steps):
            tracker.log_train_step(loss=3.0, learning_rate=1e-3, tokens=10)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before, after = train(500), train(5000)
    finally:
        tracemalloc.stop()
    tracker.finish()
    assert after - before < 100_000  # a history of 5,000 rows would take millions


def test_timer_smoothing_memory_and_throughput_are_public() -> None:
    timer = Timer().start()
    assert timer.stop() == timer.elapsed_seconds >= 0
    # The bias of a beginning at zero is corrected: a constant series stays what it is.
    assert exponential_moving_average(np.full(50, 3.0), 0.99) == pytest.approx(np.full(50, 3.0))
    for smoothed in (
        moving_average(np.full(9, 3.0), 3),
        moving_median(np.full(9, 3.0), 3),
        gaussian(np.full(9, 3.0), 2),
    ):
        assert smoothed == pytest.approx(np.full(9, 3.0))
    assert set(system_memory()) == {f"memory/system_memory_{name}" for name in ("used_gb", "total_gb", "percent")}
    assert all(
        re.fullmatch(r"memory/gpu_\d+_(allocated|reserved|total|free)_gb|memory/gpu_\d+_utilization_pct", key)
        for key in gpu_memory()
    )
    assert tokens_per_second(1000, 2.0) == 500.0
