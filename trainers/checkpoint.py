"""Checkpoints: written whole or not at all, and found again."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch


class CheckpointError(Exception):
    """A checkpoint that is not there, or cannot be read or written; the message says which."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one step: a crash leaves the one before.

    Raises:
        CheckpointError: there is no room for it, or no right to write there.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)  # the new name must survive power loss too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({why}); make room or name another folder"
        ) from None


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


def random_states(device: torch.device) -> dict[str, Any]:
    """Where every generator of random numbers stands, in plain values and tensors."""
    name, keys, *position = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *position),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put every generator back; one of another kind of device than the checkpoint's stays as it is."""
    version, internal, spare = states["python"]
    random.setstate((version, tuple(internal), spare))
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
