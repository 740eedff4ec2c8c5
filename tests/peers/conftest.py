"""What tests beside other trackers share: nothing of theirs is read or left outside of the test's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, a working directory and trackers of the test's own; nobody is logged in at W&B."""
    for name in list(os.environ):
        if name.startswith(("WANDB", "TRACKIO", "MLFLOW")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
