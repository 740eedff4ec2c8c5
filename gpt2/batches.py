"""Which tokens a step is trained on, and an evaluation is over."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.distributed import Group

#: Inputs and targets, each (batch, context), int64.
Batch = tuple[torch.Tensor, torch.Tensor]
#: Token ids, or positions in a text.
Integers = NDArray[np.integer]


def windows(tokens: Integers, starts: Integers, context: int, device: torch.device) -> Batch:
    """Inputs and targets from `starts` on, each (len(starts), context), int64."""
    batch = torch.from_numpy(np.stack([tokens[at : at + context + 1] for at in starts]).astype(np.int64))
    if device.type == "cuda":
        batch = batch.pin_memory()
    batch = batch.to(device, non_blocking=True)
    return batch[:, :-1], batch[:, 1:]


def training_starts(tokens: Integers, args: argparse.Namespace, step: int, group: Group) -> Integers:
    """Where the sequences start that this process trains on in a step, (micro-batches, batch).

    A step's sequences depend on the seed and the step alone, and each process takes its part of them: a resumed run
    sees what an uninterrupted one does, and a step sees the same however it is split into micro-batches and over
    processes.
    """
    random = np.random.default_rng((args.seed, step))
    starts = random.integers(0, len(tokens) - args.context, size=args.accumulate * args.batch_size)
    share = len(starts) // group.size
    # A process may have less than a batch, or no whole number of them.
    batch = max(size for size in range(1, args.batch_size + 1) if share % size == 0)
    return starts[group.rank * share : (group.rank + 1) * share].reshape(-1, batch)


def validation_starts(tokens: Integers, args: argparse.Namespace) -> Integers:
    """Where the sequences of an evaluation start, (batches, batch): spread evenly, the same for every seed."""
    starts = np.linspace(0, len(tokens) - args.context - 1, args.eval_batches * args.batch_size).astype(np.int64)
    return starts.reshape(args.eval_batches, args.batch_size)
