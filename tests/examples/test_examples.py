"""The examples do what they say: each runs as a user runs it, on a real text, and what it leaves is read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import lossbook
from lossbook.lm import ExperimentAnalyzer, load_experiment_log

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
#: One module's source is text enough for a few steps.
TEXT = Path(sysconfig.get_path("stdlib")) / "argparse.py"


def run(script: str, folder: Path, *arguments: str, text: Path | str = TEXT) -> str:
    """Run an example in a folder; returns what it printed. The store is `folder/store`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "OMP_NUM_THREADS": "1",
        "LOSSBOOK_DATASETS": str(folder / "datasets"),
    }
    command = [sys.executable, str(EXAMPLES / script), "--text", str(text), "--store", "store", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(recorded: lossbook.RecordedRun, key: str) -> list[float]:
    return [row[-1] for row in recorded.history([key]).rows() if row[-1] is not None]


def falls(losses: list[float]) -> bool:
    """Whether the mean of the last quarter is clearly below that of the first."""
    quarter = max(1, len(losses) // 4)
    return sum(losses[-quarter:]) / quarter < sum(losses[:quarter]) / quarter - 0.3


def test_course_training_learns_and_leaves_log_and_csv(tmp_path: Path) -> None:
    printed = run(
        "course_training.py",
        tmp_path,
        "--steps",
        "40",
        "--log_interval",
        "4",
        "--eval_interval",
        "20",
        "--d_model",
        "48",
        "--d_ff",
        "128",
        "--num_layers",
        "2",
        "--wandb_run_name",
        "small",
    )
    (path,) = (tmp_path / "experiment_logs").glob("experiment_small_*.json")
    log = load_experiment_log(path)
    assert log.problems == []
    trained = [row for row in log.metrics_history if row.val_loss is None]
    assert [(row.iteration, row.gradient_step) for row in trained] == [(at, at + 1) for at in range(3, 40, 4)]
    assert falls([row.train_loss for row in trained if row.train_loss is not None])
    evaluated = [row for row in log.metrics_history if row.val_loss is not None]
    assert [(row.iteration, row.gradient_step) for row in evaluated] == [(19, 20), (39, 40)]
    assert evaluated[1].val_loss < evaluated[0].val_loss  # type: ignore[operator]
    assert (tmp_path / "experiment_logs" / "small_metrics.csv").read_text().count("\n") == 1 + 12
    recorded = lossbook.open(tmp_path / "store").run("small")
    assert recorded.state == "finished"
    assert recorded.config["parameters"] == recorded.config["estimated_parameters"]
    assert values(recorded, "time/tokens_seen")[-1] == 40 * 16 * 64
    assert f"{40:,}" in printed


def test_tinystories_validates_keeps_checkpoints_and_draws_its_curves(tmp_path: Path) -> None:
    import torch

    run("tinystories_17m.py", tmp_path, "--steps", "24")
    (recorded,) = lossbook.open(tmp_path / "store").runs()
    assert re.fullmatch(r"0\.8M_argparse_baseline_\d{8}_\d{6}", recorded.name)
    assert falls(values(recorded, "train/loss"))
    assert len(values(recorded, "train/loss")) == 24 * 2
    assert len(values(recorded, "train/grad_norm")) == 24
    assert values(recorded, "time/gradient_steps")[-1] == 24
    assert values(recorded, "time/tokens_seen")[-1] == 24 * 2 * 8 * 64
    assert [row[0] for row in recorded.history(["val/loss"]).rows()] == [3, 7, 11, 15, 19, 23]
    assert values(recorded, "val/loss")[-1] < values(recorded, "val/loss")[0]
    assert recorded.config["parameters"] == recorded.config["estimated_parameters"]

    saved = recorded.events("checkpoint")
    assert [mark["step"] for mark in saved] == [3, 7, 11, 15, 19, 23]
    assert {Path(mark["value"]["path"]).name for mark in saved if mark["value"]["is_best"]} == {"best.pt"}
    last = torch.load(tmp_path / "checkpoints" / recorded.name / "last.pt", weights_only=True)
    assert last["tracker"]["gradient_steps"] == last["step"] + 1 == 24
    summary = json.loads((tmp_path / "experiments" / f"{recorded.name}_summary.json").read_text())
    assert summary["metrics"]["final/best_val_loss"] == min(values(recorded, "val/loss"))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_sweep_s_table_has_all_runs_the_best_first(tmp_path: Path) -> None:
    printed = run("sweep.py", tmp_path, "--steps", "6")
    names = [f"lr_{lr}_bs_{batch_size}" for lr in ("3e-04", "1e-03", "3e-03") for batch_size in (32, 16)]
    runs = {recorded.name: recorded for recorded in lossbook.open(tmp_path / "store").runs()}
    assert sorted(runs) == sorted(names)
    assert {recorded.group for recorded in runs.values()} == {"sweep"}
    reached = {name: values(recorded, "val/loss")[0] for name, recorded in runs.items()}
    table = [line.split()[0] for line in printed.splitlines() if re.match(r"lr_\S+\d ", line)]
    assert table == sorted(names, key=reached.__getitem__)
    assert f"best of 6: {table[0]} with" in printed
    # All saw as many tokens.
    assert {values(recorded, "time/tokens_seen")[-1] for recorded in runs.values()} == {6 * 32 * 64}
    assert all(values(recorded, "train/loss")[-1] < values(recorded, "train/loss")[0] for recorded in runs.values())


def test_the_ablation_says_what_each_change_costs(tmp_path: Path) -> None:
    printed = run("ablation.py", tmp_path, "--steps", "12")
    analyzer = ExperimentAnalyzer(tmp_path / "experiment_logs" / "ablation")
    analyzer.load_all()
    assert analyzer.problems == []
    reference = analyzer.logs["baseline"].best_val_loss
    assert reference is not None
    changes = {
        "half_the_width": ("d_model", 48),
        "a_third_of_the_depth": ("num_layers", 1),
        "one_head": ("num_heads", 1),
        "no_warmup": ("warmup_iters", 0),
    }
    assert set(analyzer.logs) == {"baseline", *changes}
    for name, (field, value) in changes.items():
        log = analyzer.logs[name]
        assert getattr(log.config, field) == value
        assert [field] == [
            one
            for one in ("d_model", "num_layers", "num_heads", "warmup_iters", "seed", "max_learning_rate")
            if getattr(log.config, one) != getattr(analyzer.logs["baseline"].config, one)
        ]
        assert log.best_val_loss is not None
        assert f"{name:<22} {log.best_val_loss - reference:+.4f}  ({field} " in printed
        assert falls(analyzer.get_loss_trajectories(name)[name].train.y)
    written = (tmp_path / "EXPERIMENT_LOG.md").read_text()
    assert all(f"### {name}\n" in written for name in ("baseline", *changes))
    assert "## Findings" in written


def test_what_was_killed_goes_on_as_one_clean_line_with_exact_counts(tmp_path: Path) -> None:
    printed = run("resume.py", tmp_path, "--steps", "15")
    assert printed.count("killed with signal 9 after step 10") == 2
    assert printed.count("goes on with step 9") == 2
    assert "counts and losses are exact" in printed
    runs = {recorded.name: recorded for recorded in lossbook.open(tmp_path / "store").runs()}
    assert {name: len(recorded.attempts) for name, recorded in runs.items()} == {"whole": 1, "state": 2, "id": 2}
    for recorded in runs.values():
        assert recorded.state == "finished"
        assert [row[0] for row in recorded.history(["train/loss"]).rows()] == [
            step for step in range(15) for _ in range(2)
        ]
        assert values(recorded, "time/gradient_steps") == [float(count // 2) for count in range(1, 31)]
        assert values(recorded, "time/tokens_seen") == [float(8 * 64 * count) for count in range(1, 31)]
        assert values(recorded, "val/runs_completed") == [1, 2, 3, 4, 5]
        for name in ("train/loss", "val/loss"):
            assert values(recorded, name) == values(runs["whole"], name)
        assert falls(values(recorded, "train/loss"))
        hours = values(recorded, "time/wallclock_hours")
        assert hours == sorted(hours)
    for name in ("state", "id"):
        # Between the attempts a process had to start: that is elapsed time, and no training.
        assert values(runs[name], "time/elapsed_hours")[-1] > values(runs[name], "time/wallclock_hours")[-1]
        hidden = runs[name].history(["train/loss"], hidden=True).rows()
        assert (
            len(hidden) == 2 * 15 + 2 * 2
        )  # what the killed attempt did beyond its last checkpoint is hidden, not gone


def test_a_text_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "sweep.py"), "--text", "nowhere.txt"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("sweep.py: there is no dataset 'nowhere.txt'")
    assert done.stderr.count("\n") == 1


def test_the_readme_names_every_example() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", (EXAMPLES / "README.md").read_text())) == scripts
