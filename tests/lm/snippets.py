"""Runs a snippet of a document as it is written there, and reads what it left; and experiments short enough for a test."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lossbook
from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker

COLUMNS = [
    "iteration", "gradient_step", "wallclock_time", "train_loss", "val_loss", "learning_rate", "tokens_per_sec",
    "iter_time_ms",
]  # fmt: skip


def execute(
    snippet: str, names: Mapping[str, Any] | None = None, fill: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a snippet with these names known; returns what it leaves. `fill` says what stands for its gaps."""
    for gap, code in (fill or {}).items():
        assert gap in snippet, gap
        snippet = snippet.replace(gap, code)
    assert not re.search(r"\bfrom (mini_lm|cs336_basics)", snippet)
    known = {
        "Path": Path,
        "ExperimentTracker": ExperimentTracker,
        "ExperimentConfig": ExperimentConfig,
        "ExperimentAnalyzer": ExperimentAnalyzer,
        **(names or {}),
    }
    exec(compile(snippet, "snippet.py", "exec"), known)
    return known


def latest() -> lossbook.RecordedRun:
    return lossbook.open().run("latest")


def series(run: lossbook.RecordedRun, key: str) -> list[float]:
    """The values of one metric in the order in which they were logged."""
    return [row[-1] for row in run.history([key]).rows() if row[-1] is not None]


def train_briefly(tracker: ExperimentTracker, *, iterations: int = 4, val_loss: float = 3.0) -> None:
    """What stands for `# ... training ...`."""
    for iteration in range(iterations):
        tracker.log_metrics(iteration=iteration, train_loss=val_loss + 1.0 / (iteration + 1), learning_rate=1e-3)
        tracker.increment_gradient_step()
    tracker.log_eval(iteration=iterations - 1, train_loss=val_loss - 0.1, val_loss=val_loss)


def only_log(name: str) -> dict[str, Any]:
    """The JSON log of an experiment that has one."""
    (path,) = Path("experiment_logs").glob(f"experiment_{name}_*.json")
    return json.loads(path.read_text())


def quick_baseline(name: str, val_loss: float, **fields: Any) -> ExperimentTracker:
    """An experiment of four iterations, begun, finished and saved."""
    tracker = ExperimentTracker(ExperimentConfig(experiment_name=name, **fields)).start()
    train_briefly(tracker, val_loss=val_loss)
    tracker.finish(notes=f"the notes of {name}")
    tracker.save()
    return tracker
