"""Finds the shell of IPython that this process runs cells of, and the notebook's name; imports nothing of IPython."""

from __future__ import annotations

import os
import sys
from typing import Any


def find_shell() -> Any:
    """IPython's shell, in a notebook or a terminal; None in a script."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        return shell if hasattr(shell, "events") and hasattr(shell, "history_manager") else None
    except Exception:  # not loaded, another package of that name, or a shell that is going
        return None


def notebook_path() -> str | None:
    """The notebook's file, or its name, where it is told: by VS Code, Jupyter's server, or `WANDB_NOTEBOOK_NAME`."""
    told = getattr(find_shell(), "user_ns", {}).get("__vsc_ipynb_file__")
    told = told or os.environ.get("JPY_SESSION_NAME") or os.environ.get("WANDB_NOTEBOOK_NAME")
    return str(told) if told else None
