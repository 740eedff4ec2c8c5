"""Runs of other trackers, written by the trackers themselves, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Program = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """`program(text, **environment)`: run a Python program in the test's folder; returns what it printed."""

    def run(text: str, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text, *arguments],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
