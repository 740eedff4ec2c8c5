"""NVML without a GPU: the fake library beside this file, compiled, and programs that use NVIDIA's bindings on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("fake_nvml.c")

#: Samples whenever a line comes in, and prints figures and sentences; `environment` is that of the training process.
PROGRAM = """
import json, os, sys
import lossbook.monitor, lossbook.monitor.nvidia
lossbook.monitor.RETRY_SECONDS = lossbook.monitor.nvidia.LOST_SECONDS = 0.0
said = []
given = json.loads(sys.argv[1])
ours = given["processes"] or [os.getpid()]
nvidia = lossbook.monitor.nvidia.Nvidia(
    first=given["first"], environment=given["environment"], processes=lambda: set(ours), say=said.append
)
monitor = lossbook.monitor.Monitor(os.getpid(), say=said.append, families={"nvidia": nvidia})
for line in sys.stdin:
    figures = {key: value for key, value in monitor.sample().items() if key.startswith("system.")}
    print(json.dumps({"figures": figures, "said": said}), flush=True)
monitor.close()
"""


def compile_library(folder: Path) -> Path:
    """The folder that holds the fake library, to be named in LD_LIBRARY_PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(target), str(SOURCE)], check=True)
    return folder


class FakeNvml:
    """A machine with NVIDIA GPUs, as the driver's library shows it."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.settings = folder / "nvml.txt"
        self.library = library
        self._process: subprocess.Popen[str] | None = None
        self._version = time.time_ns()
        self.set("cards 1")

    @property
    def environment(self) -> dict[str, str]:
        """For programs that shall find the fake library."""
        return {
            "LD_LIBRARY_PATH": str(self.library),
            "FAKE_NVML": str(self.settings),
            "PYTHONPATH": str(REPOSITORY),
        }

    def set(self, *lines: str) -> None:
        """What the driver says from now on."""
        self.settings.write_text("\n".join(lines) + "\n")
        # A clock that ticks coarsely must not hide a change.
        self._version += 1_000_000
        os.utime(self.settings, ns=(self._version, self._version))

    def times_begun(self) -> int:
        """How often NVML has been initialised."""
        path = Path(f"{self.settings}.begun")
        return len(path.read_text().split()) if path.exists() else 0

    def start(
        self, environment: dict[str, str] | None = None, *, first: int = 0, processes: tuple[int, ...] = ()
    ) -> None:
        """Start a process that samples through the real bindings.

        Args:
            environment: of the training process: CUDA_VISIBLE_DEVICES.
        """
        given = {"environment": environment or {}, "first": first, "processes": processes}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )

    def sample(self) -> dict[str, float]:
        """The figures of one sample."""
        figures: dict[str, float] = self._ask()["figures"]
        return figures

    def said(self) -> list[str]:
        """Every sentence for the user so far; takes a sample as well."""
        said: list[str] = self._ask()["said"]
        return said

    def _ask(self) -> dict[str, Any]:
        assert self._process is not None, "start() comes first"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            assert self._process.returncode == 0


def of_gpu(figures: dict[str, float], number: int) -> dict[str, float]:
    """One GPU's figures by their short names."""
    begin = f"system.gpu.{number}."
    return {key[len(begin) :]: value for key, value in figures.items() if key.startswith(begin)}
