"""The unit tests of the page's pure functions, in lossbook/web/ui/tests: they run in Node.js, with vitest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "scripts" / "build_ui.py"


def test_the_unit_tests_of_the_page_pass() -> None:
    done = subprocess.run([sys.executable, BUILD, "test"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
