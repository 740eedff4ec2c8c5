"""Checkpoints: written whole or not at all, and found again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


class CheckpointError(Exception):
    """A checkpoint that is not there or cannot be read; the message says which."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one step: a crash leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU; only tensors and plain values, never code.

    Raises:
        CheckpointError: it is not there, or is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no checkpoint that can be read ({first})") from None
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"{path} is no checkpoint of this trainer")
    return state


def find(reference: str, folder: Path) -> Path:
    """Find the checkpoint that `reference` means: a file, a folder that holds one, a run's id, or "latest".

    Raises:
        CheckpointError: nothing fits.
    """
    for path in (Path(reference), Path(reference) / "last.pt", folder / reference / "last.pt"):
        if path.is_file():
            return path
    if reference == "latest":
        found = sorted(folder.glob("*/last.pt"), key=lambda path: path.stat().st_mtime)
        if found:
            return found[-1]
        raise CheckpointError(
            f"there is nothing to resume in {folder}: train first, or name a checkpoint with --resume PATH"
        )
    raise CheckpointError(f"there is no checkpoint for {reference!r} in {folder}: name a file, a run's id, or latest")
