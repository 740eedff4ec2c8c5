"""Another tracker's runs are read, never changed: what would change them says how to have runs of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOG = """{"config": {"experiment_name": "baseline"}, "start_time": "2025-02-22T14:05:30", "end_time": null,
"metrics_history": [{"iteration": 0, "gradient_step": 1, "wallclock_time": 0.1, "train_loss": 4.5}], "notes": ""}"""


@pytest.mark.parametrize(
    "command",
    ["tag baseline +good", "note baseline x", "rename baseline other", "rm baseline --yes", "mv baseline --to elsewhere",
     "seal baseline", "sync baseline --to tensorboard"],
)  # fmt: skip
def test_a_command_that_changes_runs_refuses_those_of_another_tracker(command: str, tmp_path: Path) -> None:
    logs = tmp_path / "experiment_logs"
    logs.mkdir()
    (logs / "experiment_baseline_20250222_140530.json").write_text(LOG)
    done = subprocess.run(
        [sys.executable, "-m", "lossbook.cli", "--store", str(logs), *command.split()], capture_output=True, text=True
    )
    assert done.returncode in (1, 2)
    assert "lossbook import" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    read = [sys.executable, "-m", "lossbook.cli", "--store", str(logs), "ls"]
    assert "baseline" in subprocess.run(read, capture_output=True, text=True, check=True).stdout
