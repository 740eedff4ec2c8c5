"""The scripts, run as their users run them, and the stand-in for W&B's cloud."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from asking import Ask, Result

REPOSITORY = Path(__file__).resolve().parents[2]
# `wandb_server.py` is of the tests of the mirrors.
sys.path.append(str(REPOSITORY / "tests" / "peers"))


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """`ask("query_wandb_gpu", "--json", ...)`: run a script in the test's folder."""

    def run(script: str, *arguments: object, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "scripts" / f"{script}.py"), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
