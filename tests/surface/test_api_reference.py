"""The API reference is what the docstrings say, and names all that is public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lossbook

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "api_reference.py"), "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_names_what_is_public_and_no_word_of_wandb_alone() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for name in lossbook.__all__:
        assert f"### `lossbook.{name}" in page, name
    for name in ("log_artifact", "mark_preempting", "use_model", "_repr_html_"):
        assert f"`Run.{name}" not in page
