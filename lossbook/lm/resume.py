"""Where an experiment goes on: what had been counted, found in its run or in a JSON log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lossbook.json_shapes import JsonObject
from lossbook.lm.counters import Progress

if TYPE_CHECKING:
    from lossbook.lm.config import ExperimentConfig
    from lossbook.lm.log import ExperimentLog

_COUNTS = (
    ("gradient_steps", "time/gradient_steps", 1.0),
    ("tokens_seen", "time/tokens_seen", 1.0),
    ("wallclock_seconds", "time/wallclock_hours", 3600.0),
    ("validations", "val/runs_completed", 1.0),
)


def counts_of_run(path: str, run_id: str, resume_step: int | None) -> tuple[Progress, dict[str, float]]:
    """What a run had counted when its row of `resume_step` was logged (None: its last), and its best losses.

    Raises:
        LossbookError, OSError: the run cannot be read.
    """
    from lossbook.book import Book

    recorded = Book(store_of(path)).run(run_id)
    found: dict[str, float] = {"started": recorded.created}
    logged = recorded.keys()
    for name, key, scale in _COUNTS:
        if key not in logged:
            continue
        curve = recorded.curve(key, points=100, end=resume_step)
        if len(curve):
            found[name] = float(curve.last[-1]) * scale
            if name == "gradient_steps":
                found["iteration"] = int(curve.x_end[-1])
    for name in ("gradient_steps", "tokens_seen", "validations"):
        if name in found:
            found[name] = round(found[name])
    best = {of: recorded.metrics.get(f"{of}/loss", {}).get("min") for of in ("train", "val")}
    return Progress.read(found), {of: value for of, value in best.items() if value is not None}


def state_of_log(log: ExperimentLog, config: ExperimentConfig, world_size: int) -> JsonObject:
    """What a log had counted at its last row, as `ExperimentTracker.state_dict()` has it."""
    last = log.metrics_history[-1] if log.metrics_history else None
    tokens = config.tokens_per_iteration
    folder = log.run_folder()
    return {
        "run_id": log.run.get("id") if folder else None,
        "project": log.run.get("project"),
        "path": folder,
        "iteration": last.iteration if last else -1,
        "gradient_steps": last.gradient_step if last else 0,
        "tokens_seen": (last.iteration + 1) * tokens * world_size if last and tokens else 0,
        "wallclock_seconds": log.duration_seconds or (last.wallclock_time if last else 0.0),
        "started": log.started or 0.0,
        "validations": sum(1 for one in log.metrics_history if one.val_loss is not None),
        "best": {"train": log.best_train_loss, "val": log.best_val_loss},
        "by_hand": {"used": bool(last), "rows": len(log.metrics_history)},
    }


def store_of(path: object) -> str | None:
    """The store that a run's folder lies in, if it still does."""
    if not isinstance(path, str) or not os.path.isdir(path):
        return None
    return os.path.dirname(os.path.dirname(path))
