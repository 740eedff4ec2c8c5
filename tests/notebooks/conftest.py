"""Real kernels of Jupyter, each in a folder of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("ipykernel")


class Kernel:
    """A kernel that runs one cell after the other."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LOSSBOOK_", "WANDB_"))},
            "IPYTHONDIR": str(folder / "ipython"),
            "LOSSBOOK_STORE": str(self.store),
            "LOSSBOOK_CACHE": str(folder / "cache"),
            "JPY_SESSION_NAME": str(folder / "study.ipynb"),
        }
        self.manager, self.client = jupyter_client.manager.start_new_kernel(
            kernel_name="python3", cwd=str(folder), env=environment
        )

    def cell(self, source: str, *, interrupt_at: str | None = None) -> str:
        """Run a cell; everything that it prints and the errors that it ends with.

        Args:
            interrupt_at: what it prints when it is to be interrupted.
        """
        said: list[str] = []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            said.append(content.get("text") or "\n".join(content.get("traceback") or ()))
            # Only what it prints: the traceback that follows has the text in its lines of source.
            if interrupt_at is not None and interrupt_at in content.get("text", ""):
                self.manager.interrupt_kernel()

        self.client.execute_interactive(source, timeout=120, store_history=True, output_hook=take)
        return "".join(said)

    def shown(self, source: str) -> list[dict[str, str]]:
        """Run a cell; what it displays, each as its forms by MIME type, updates included."""
        found: list[dict[str, str]] = []

        def take(message: dict[str, Any]) -> None:
            if "data" in message["content"]:
                found.append(message["content"]["data"])

        self.client.execute_interactive(source, timeout=120, store_history=True, output_hook=take)
        return found

    def shut_down(self) -> None:
        """End it as Jupyter's "restart" and "shut down" do."""
        self.manager.shutdown_kernel(now=False)

    def kill(self) -> None:
        """End it as the kernel of the system does when memory runs out."""
        self.manager.shutdown_kernel(now=True)

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel whose store is `kernel.store`."""
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    one = Kernel(tmp_path)
    yield one
    one.close()
