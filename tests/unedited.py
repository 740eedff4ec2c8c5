"""Programs written for another tracker, run as they are by `lossbook run`, and what they left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lossbook


def run_unedited(text: str, *words: str) -> str:
    """Run a program in the working directory by `lossbook run`; what it wrote to stderr.

    Args:
        words: what stands before the program's name, such as `--as wandb`.
    """
    Path("train.py").write_text(text)
    command = [sys.executable, "-m", "lossbook.cli", "run", *words, sys.executable, "-W", "ignore", "train.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def only_run(store: Path, state: str = "finished") -> Any:
    """The one run of the store."""
    (found,) = lossbook.open(str(store)).runs()
    assert found.state == state
    return found


def count_rows(run: Any, *keys: str) -> list[int]:
    """How many rows each series has."""
    return [len(run.history([key]).rows()) for key in keys]


def values(run: Any, key: str) -> list[tuple[int, float]]:
    """The steps of a series and its values."""
    return [(step, value) for step, _, value in run.history([key]).rows()]
