"""Machines with GPUs that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_nvml import FakeNvml, compile_library


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake `libnvidia-ml.so.1`, compiled."""
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path) -> Iterator[FakeNvml]:
    """One NVIDIA GPU, until the test says otherwise."""
    fake = FakeNvml(nvml_library, tmp_path)
    yield fake
    fake.stop()
