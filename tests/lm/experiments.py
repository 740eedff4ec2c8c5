"""Small experiments, in this process and in one of their own, and what a reader sees of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import lossbook
from lossbook.lm import ExperimentConfig, ExperimentTracker

REPOSITORY = Path(__file__).resolve().parents[2]
#: What every program begins with; `store` is its first argument.
PREAMBLE = """
import os, signal, sys, time
from lossbook.lm import ExperimentConfig, ExperimentTracker, load_experiment_log
store = sys.argv[1]
config = ExperimentConfig(experiment_name="one", track_memory=False)
"""


def program(store: Path, code: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a training program to its end, whatever that is."""
    script = store.parent / f"program-{os.urandom(3).hex()}.py"
    script.write_text(PREAMBLE + textwrap.dedent(code))
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, *prefix, str(script), str(store), *words],
        text=True,
        capture_output=True,
        timeout=120,
        cwd=store.parent,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
    )


def track(store: Path, config: Any = None, **named: Any) -> ExperimentTracker:
    """A tracker of a small experiment."""
    config = config or ExperimentConfig(experiment_name="one", track_memory=False)
    return ExperimentTracker(config, **{"store": store, "project": "p"} | named)


def recorded(store: Path, ref: str = "latest") -> Any:
    return lossbook.open(store).run(ref)


def rows(store: Path, *keys: str, ref: str = "latest") -> list[tuple[Any, ...]]:
    """(step, value, ...) of each visible row that has all of these keys."""
    found = recorded(store, ref).history(list(keys)).dicts()
    return [(row["step"], *(row[key] for key in keys)) for row in found if all(row[key] is not None for key in keys)]


def last(store: Path, key: str, ref: str = "latest") -> float:
    return rows(store, key, ref=ref)[-1][1]


def train(tracker: ExperimentTracker, iterations: range, tokens: int = 10) -> None:
    """Log these iterations; the loss tells which attempt logged it."""
    for iteration in iterations:
        tracker.log_train_step(loss=float(iteration), tokens=tokens, iteration=iteration, accumulation_step=None)


def one_clean_line(store: Path, count: int) -> None:
    """Each iteration once, and steps and tokens counted through."""
    assert len(lossbook.open(store).runs()) == 1
    found = rows(store, "train/loss", "time/gradient_steps", "time/tokens_seen")
    assert found == [(step, float(step), step + 1, 10 * (step + 1)) for step in range(count)]
    hours = [value for _, value in rows(store, "time/wallclock_hours")]
    assert hours == sorted(hours)
