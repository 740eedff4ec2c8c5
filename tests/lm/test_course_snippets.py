"""Every snippet of the course's experiment-log guide runs as it is written there; `lossbook.lm` is all that changed.

Where a snippet says `# ... your training step ...` or `...`, the test says what stands there.
"""

from __future__ import annotations

import argparse
import datetime
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snippets import COLUMNS, execute, latest, only_log, quick_baseline, series

from lossbook.lm import ExperimentAnalyzer, ExperimentLog, load_experiment_log

KEYS = [
    "config", "start_time", "end_time", "duration_seconds", "best_train_loss", "best_val_loss", "final_train_loss",
    "final_val_loss", "metrics_history", "notes",
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Loss:
    """What a training step gives: something with `item()`, as a tensor has."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


def train_one_step(iteration: int) -> Loss:
    return Loss(4.0 - 0.01 * iteration)


# -- quick start ------------------------------------------------------------------------------------------------------

STEP_1 = """
from lossbook.lm import ExperimentTracker, ExperimentConfig

# Create a configuration with your hyperparameters
config = ExperimentConfig(
    experiment_name="my_experiment",
    vocab_size=10000,
    context_length=256,
    d_model=512,
    num_heads=8,
    num_layers=6,
    batch_size=64,
    max_iters=100000,
    max_learning_rate=6e-4,
    min_learning_rate=6e-5,
    warmup_iters=2000,
)
"""

STEP_2 = """
tracker = ExperimentTracker(config, log_dir="experiment_logs")
tracker.start()
"""

STEP_3 = """
for iter_num in range(max_iters):
    # ... your training step ...
    
    # Log metrics every iteration (or at regular intervals)
    tracker.log_metrics(
        iteration=iter_num,
        train_loss=loss.item(),
        learning_rate=current_lr,
        tokens_per_sec=batch_size * context_length / iter_time,
        iter_time_ms=iter_time * 1000,
    )
    
    # Important: increment gradient step counter
    tracker.increment_gradient_step()
    
    # Periodically log validation metrics
    if (iter_num + 1) % eval_interval == 0:
        tracker.log_eval(
            iteration=iter_num,
            train_loss=train_loss,
            val_loss=val_loss,
        )
"""

STEP_4 = """
tracker.finish(
    train_loss=final_train_loss,
    val_loss=final_val_loss,
    notes="Description of this experiment"
)
tracker.save()
tracker.print_summary()
"""


@pytest.fixture
def quick_start(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The quick start, trained for 20 iterations with an evaluation after each ten."""
    names = execute(STEP_2, execute(STEP_1))
    names.update(
        max_iters=20,
        current_lr=6e-4,
        batch_size=64,
        context_length=256,
        iter_time=0.25,
        eval_interval=10,
        train_loss=3.5,
        val_loss=3.6,
        train_one_step=train_one_step,
    )
    names = execute(STEP_3, names, fill={"# ... your training step ...": "loss = train_one_step(iter_num)"})
    names = execute(STEP_4, {**names, "final_train_loss": 3.4, "final_val_loss": 3.55})
    return {**names, "printed": capsys.readouterr().out}


def test_the_quick_start_writes_the_log_in_its_format(quick_start: dict[str, Any]) -> None:
    log = only_log("my_experiment")
    assert list(log)[: len(KEYS)] == KEYS
    assert log["config"]["experiment_name"] == "my_experiment"
    assert (log["config"]["max_iters"], log["config"]["max_learning_rate"]) == (100_000, 6e-4)
    assert log["notes"] == "Description of this experiment"
    assert log["best_train_loss"] == 3.4
    assert (log["best_val_loss"], log["final_train_loss"], log["final_val_loss"]) == (3.55, 3.4, 3.55)
    began, ended = (datetime.datetime.fromisoformat(log[key]) for key in ("start_time", "end_time"))
    assert (ended - began).total_seconds() == pytest.approx(log["duration_seconds"], abs=0.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", log["start_time"])


def test_each_iteration_is_a_row_and_so_is_each_evaluation(quick_start: dict[str, Any]) -> None:
    history = only_log("my_experiment")["metrics_history"]
    assert [list(row) for row in history] == [COLUMNS] * 22
    trained = [row for row in history if row["val_loss"] is None]
    assert [row["iteration"] for row in trained] == list(range(20))
    assert [row["gradient_step"] for row in trained] == list(range(1, 21))
    assert [row["train_loss"] for row in trained] == pytest.approx([4.0 - 0.01 * iteration for iteration in range(20)])
    assert {(row["learning_rate"], row["tokens_per_sec"], row["iter_time_ms"]) for row in trained} == {
        (6e-4, 65536.0, 250.0)
    }
    evaluated = [row for row in history if row["val_loss"] is not None]
    assert [(row["iteration"], row["gradient_step"], row["train_loss"], row["val_loss"]) for row in evaluated] == [
        (9, 10, 3.5, 3.6),
        (19, 20, 3.5, 3.6),
    ]
    assert [row["learning_rate"] for row in evaluated] == [None, None]
    times = [row["wallclock_time"] for row in history]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= only_log("my_experiment")["duration_seconds"]


def test_the_same_log_is_a_run(quick_start: dict[str, Any]) -> None:
    run = latest()
    assert (run.name, run.state, run.group) == ("my_experiment", "finished", None)
    assert series(run, "train/loss") == pytest.approx([4.0 - 0.01 * iteration for iteration in range(20)])
    assert series(run, "val/train_val_gap") == pytest.approx([0.1, 0.1])
    assert series(run, "time/tokens_seen")[-1] == 20 * 64 * 256
    assert series(run, "time/gradient_steps")[-1] == 20
    assert run.summary["final/val_loss"] == 3.55


def test_the_summary_is_printed(quick_start: dict[str, Any]) -> None:
    printed = quick_start["printed"]
    for shown in ("my_experiment", "gradient steps", "20", "3.4", "3.55", "Description of this experiment"):
        assert shown in printed


# -- in a training script ---------------------------------------------------------------------------------------------

INTEGRATION = '''
# At the top of training_together.py
from lossbook.lm import ExperimentTracker, ExperimentConfig

def train(args):
    """Main training function."""
    # ... existing setup code ...
    
    # After model and optimizer initialization, create tracker
    config = ExperimentConfig(
        experiment_name=args.wandb_run_name or "default_experiment",
        vocab_size=args.vocab_size,
        context_length=args.context_length,
        d_model=args.d_model,
        num_heads=args.num_heads,
        d_ff=args.d_ff,
        num_layers=args.num_layers,
        rope_theta=args.rope_theta,
        batch_size=args.batch_size,
        max_iters=args.max_iters,
        max_learning_rate=args.lr,
        min_learning_rate=args.min_lr,
        warmup_iters=args.warmup_iters,
        weight_decay=args.weight_decay,
        grad_clip=args.grad_clip,
        beta1=args.beta1,
        beta2=args.beta2,
        eps=args.eps,
        seed=args.seed,
        device=args.device,
        optimizer_name="AdamW",
    )
    
    tracker = ExperimentTracker(config, log_dir="experiment_logs")
    tracker.start()
    
    # ... existing training setup ...
    
    # In the training loop
    for iter_num in range(start_iter, args.max_iters):
        iter_start_time = time.time()
        
        # ... existing training code ...
        
        # Log metrics
        if (iter_num + 1) % args.log_interval == 0:
            avg_loss = np.mean(train_losses[-args.log_interval:])
            avg_time = np.mean(iter_times[-args.log_interval:])
            tokens_per_sec = (args.batch_size * args.context_length) / avg_time
            
            tracker.log_metrics(
                iteration=iter_num,
                train_loss=avg_loss,
                learning_rate=lr,
                tokens_per_sec=tokens_per_sec,
                iter_time_ms=avg_time * 1000,
            )
            tracker.increment_gradient_step()
            
            # ... existing logging code ...
        
        # Validation logging
        if (iter_num + 1) % args.eval_interval == 0:
            losses = estimate_loss(...)  # existing code
            
            tracker.log_eval(
                iteration=iter_num,
                train_loss=losses['train'],
                val_loss=losses['val'],
            )
    
    # After training loop
    tracker.finish(
        train_loss=losses['train'],
        val_loss=losses['val'],
        notes="Training completed successfully"
    )
    tracker.save()
    tracker.print_summary()
'''

ARGUMENTS = argparse.Namespace(
    wandb_run_name=None,
    vocab_size=256,
    context_length=32,
    d_model=64,
    num_heads=4,
    d_ff=192,
    num_layers=2,
    rope_theta=10000.0,
    batch_size=8,
    max_iters=30,
    lr=1e-3,
    min_lr=1e-4,
    warmup_iters=3,
    weight_decay=0.1,
    grad_clip=1.0,
    beta1=0.9,
    beta2=0.95,
    eps=1e-8,
    seed=1337,
    device="cpu",
    log_interval=5,
    eval_interval=10,
)


def test_the_integration_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute(
        INTEGRATION,
        {"time": time, "np": np, "estimate_loss": lambda _: {"train": np.float32(3.25), "val": np.float32(3.5)}},
        fill={
            "# ... existing training setup ...": "start_iter, lr, train_losses, iter_times = 0, args.lr, [], []",
            "# ... existing training code ...": "train_losses.append(4.0 - 0.01 * iter_num); iter_times.append(0.5)",
        },
    )
    names["train"](ARGUMENTS)
    log = only_log("default_experiment")
    fields = {"lr": "max_learning_rate", "min_lr": "min_learning_rate"}
    said = {
        fields.get(name, name): value
        for name, value in vars(ARGUMENTS).items()
        if name not in ("wandb_run_name", "log_interval", "eval_interval")
    }
    assert {name: log["config"][name] for name in said} == said
    assert log["config"]["optimizer_name"] == "AdamW"
    logged = [row for row in log["metrics_history"] if row["val_loss"] is None]
    assert [row["iteration"] for row in logged] == [4, 9, 14, 19, 24, 29]
    assert [row["train_loss"] for row in logged] == pytest.approx(
        [4.0 - 0.01 * iteration for iteration in (2, 7, 12, 17, 22, 27)]
    )
    assert {row["tokens_per_sec"] for row in logged} == {8 * 32 / 0.5}
    assert [row["iteration"] for row in log["metrics_history"] if row["val_loss"] is not None] == [9, 19, 29]
    assert (log["final_train_loss"], log["final_val_loss"]) == (3.25, 3.5)
    # The script counts a step where it logs: that count is what the log has, from 1.
    assert [row["gradient_step"] for row in logged] == [1, 2, 3, 4, 5, 6]
    assert "Training completed successfully" in capsys.readouterr().out


# -- analysing --------------------------------------------------------------------------------------------------------

ANALYSIS = """
from lossbook.lm import ExperimentAnalyzer

# Load all experiments
analyzer = ExperimentAnalyzer(log_dir="experiment_logs")
analyzer.load_all()

# Print comparison table
print(analyzer.get_comparison_table())

# Get details for specific experiment
analyzer.print_summary("my_experiment")

# Find best experiment
best_exp, best_loss = analyzer.get_best_experiment("val_loss")
print(f"Best experiment: {best_exp} with loss {best_loss:.6f}")

# Export to CSV for plotting
analyzer.export_csv("my_experiment", Path("my_experiment.csv"))
"""

QUICK_SUMMARY = """
from lossbook.lm import print_experiment_summary

print_experiment_summary()
"""


def test_the_analysis_runs(quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    quick_baseline("better", 3.0)
    names = execute(ANALYSIS)
    printed = capsys.readouterr().out
    assert (names["best_exp"], names["best_loss"]) == ("better", 3.0)
    assert "Best experiment: better with loss 3.000000" in printed
    table = names["analyzer"].get_comparison_table().splitlines()
    assert [line.split()[0] for line in table[2:]] == ["better", "my_experiment"]
    lines = Path("my_experiment.csv").read_text().splitlines()
    assert lines[0].split(",") == COLUMNS
    assert len(lines) == 1 + 22
    assert lines[1].split(",")[4] == ""  # no validation loss in this row


def test_the_quick_summary_names_the_best(quick_start: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    execute(QUICK_SUMMARY)
    printed = capsys.readouterr().out
    assert "my_experiment" in printed
    assert "best val_loss: my_experiment with 3.550000" in printed


def test_the_csv_is_named_after_the_experiment(quick_start: dict[str, Any]) -> None:
    analyzer = ExperimentAnalyzer(log_dir="experiment_logs")
    analyzer.load_all()
    assert analyzer.export_csv("my_experiment") == Path("experiment_logs/my_experiment_metrics.csv")


def test_trajectories_have_an_x_for_every_y(quick_start: dict[str, Any]) -> None:
    analyzer = ExperimentAnalyzer()
    analyzer.load_specific("my_experiment")
    losses = analyzer.get_loss_trajectories()["my_experiment"]
    assert (len(losses.train.x), len(losses.val.x)) == (22, 2)
    for x in ("iteration", "gradient_step", "wallclock_time"):
        for one in (
            *analyzer.get_loss_trajectories(x=x)["my_experiment"],
            analyzer.get_throughput_trajectories("my_experiment", x=x)["my_experiment"],
            analyzer.get_learning_rate_trajectories(["my_experiment"], x=x)["my_experiment"],
        ):
            assert len(one.x) == len(one.y) > 0
    statistics = analyzer.get_summary_stats("my_experiment")
    assert (statistics["total_iterations"], statistics["total_gradient_steps"]) == (20, 20)
    assert list(analyzer.compare_experiments()) == ["my_experiment"]


def test_the_log_of_the_guide_itself_loads() -> None:
    Path("guide.json").write_text("""{
  "config": {
    "experiment_name": "my_experiment",
    "d_model": 512,
    "num_heads": 8
  },
  "start_time": "2025-02-22T14:05:30.123456",
  "end_time": "2025-02-22T14:15:45.654321",
  "duration_seconds": 615.5,
  "best_train_loss": 2.1234,
  "best_val_loss": 2.3456,
  "final_train_loss": 2.0987,
  "final_val_loss": 2.3210,
  "metrics_history": [
    {
      "iteration": 0,
      "gradient_step": 1,
      "wallclock_time": 0.234,
      "train_loss": 4.5678,
      "val_loss": null,
      "learning_rate": 1.2e-05,
      "tokens_per_sec": 1024.5,
      "iter_time_ms": 2.34
    }
  ],
  "notes": "Baseline experiment with default hyperparameters"
}""")
    log = load_experiment_log("guide.json")
    assert isinstance(log, ExperimentLog)
    assert log.problems == []
    assert log.metrics_history == [(0, 1, 0.234, 4.5678, None, 1.2e-05, 1024.5, 2.34)]
    assert (log.config.d_model, log.duration_seconds, log.final_val_loss) == (512, 615.5, 2.3210)


PLOTTING = """
import matplotlib.pyplot as plt
import pandas as pd

df = pd.read_csv("my_experiment_metrics.csv")
plt.plot(df['iteration'], df['train_loss'], label='Train')
plt.plot(df['iteration'], df['val_loss'], label='Validation')
plt.xlabel('Iteration')
plt.ylabel('Loss')
plt.legend()
plt.show()
"""


def test_the_csv_is_drawn_with_pandas(quick_start: dict[str, Any]) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    matplotlib.use("template")  # a backend that shows nothing and does not complain of it
    analyzer = ExperimentAnalyzer()
    analyzer.load_all()
    analyzer.export_csv("my_experiment", "my_experiment_metrics.csv")
    names = execute(PLOTTING)
    try:
        frame = names["df"]
        assert list(frame.columns) == COLUMNS
        assert (str(frame["iteration"].dtype), str(frame["train_loss"].dtype), frame["val_loss"].count()) == (
            "int64",
            "float64",
            2,
        )
        train, val = names["plt"].gca().get_lines()
        assert (len(train.get_xdata()), val.get_label()) == (22, "Validation")
    finally:
        names["plt"].close("all")
