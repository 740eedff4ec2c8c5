"""The parts of a training step that depend on no model: clipping, waiting for the device, the progress line."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from trainers.distributed import Group


def clip_gradients(model: nn.Module, largest: float) -> Tensor:
    """Scale the gradient down to the norm `largest` (0: leave it); the norm before, 0-d."""
    if largest:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    return torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None])


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Progress:
    """The progress line: rewritten in place on a terminal, a line each elsewhere; of the first process alone."""

    def __init__(self, steps: int, group: Group) -> None:
        self.steps, self.width, self.silent = steps, 0, not group.is_first

    def show(self, step: int, loss: float, val: float | None, rate: float, seconds_a_step: float) -> None:
        minutes, seconds = divmod(int(seconds_a_step * (self.steps - step)), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
        shown = f"val {val:.3f}  " if val is not None else ""
        speed = f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"
        line = f"step {step}/{self.steps}  loss {loss:.3f}  {shown}{speed} tok/s  left {left}"
        if self.silent:
            return
        if sys.stdout.isatty():
            print("\r" + line.ljust(self.width), end="", flush=True)
            self.width = len(line)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the line that is rewritten in place."""
        if self.width:
            print(flush=True)
            self.width = 0
