"""Programs that find the packages of a test: `lossbook` itself, and trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin"


class Place(NamedTuple):
    """Where a test's programs run.

    Attributes:
        folder: their working directory.
        site: the folder of the packages that they find beside the usual ones.
    """

    folder: Path
    site: Path

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        surroundings = {
            **os.environ,
            "LOSSBOOK_STORE": str(self.folder / "store"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH")))),
            **environment,
        }
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=surroundings, capture_output=True, text=True, timeout=120)

    def lossbook(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "lossbook.cli", *arguments, **environment)

    def install(self, name: str, group: str, entry: str, code: str) -> None:
        """Install a package of one module, with one entry point: its `Thing`."""
        module = name.replace("-", "_")
        (self.site / f"{module}.py").write_text(code)
        info = self.site / f"{module}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry} = {module}:Thing\n")
