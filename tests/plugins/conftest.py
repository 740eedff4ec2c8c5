"""Packages that are installed for a test alone: the example of a plugin, built as pip builds it, and made-up ones."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from installed import EXAMPLE, Place


@pytest.fixture(scope="session")
def example_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where no package is installed yet."""
    for name in ("home", "site"):
        (tmp_path / name).mkdir()
    return Place(tmp_path / "home", tmp_path / "site")


@pytest.fixture
def example(place: Place, example_wheel: Path) -> Place:
    """Where the example is installed."""
    with zipfile.ZipFile(example_wheel) as wheel:
        wheel.extractall(place.site)
    return place
