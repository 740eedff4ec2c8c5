"""What the examples share: real text in batches, a learning rate that rises and falls, a loss on text held out."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout: `trainers` is not installed

from trainers.text import Text, TextError, load_text

Tokens = np.ndarray[Any, Any]


def add_common_arguments(parser: argparse.ArgumentParser, *, steps: int) -> None:
    """The flags that every example has."""
    parser.add_argument("--steps", type=int, default=steps, help="updates of the parameters of a run")
    parser.add_argument("--text", default="python-stdlib", help="what to learn: python-stdlib, a text file or a folder")
    parser.add_argument("--store", help="where the runs are kept [LOSSBOOK_STORE, else ./lossbook-runs]")


def read_text(text: str, tokenizer: str = "bytes", vocabulary: int = 256) -> Text:
    """The text as tokens, tokenised the first time; ends the program where there is none."""
    try:
        return load_text(text, tokenizer, vocabulary)
    except TextError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def training_batch(tokens: Tokens, *, batch_size: int, context: int, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each (batch, context), from random places.

    The places depend on the seed and the batch's number alone, so a resumed run sees what an uninterrupted one does.
    """
    places = np.random.default_rng((seed, number)).integers(0, len(tokens) - context, size=batch_size)
    return _windows(tokens, places, context)


def validation_loss(model: nn.Module, tokens: Tokens, *, batch_size: int, context: int, batches: int = 4) -> float:
    """Mean loss over places spread evenly through the text: the same ones each time, so evaluations compare."""
    device = next(model.parameters()).device
    places = np.linspace(0, len(tokens) - context - 1, batches * batch_size).astype(np.int64)
    model.eval()
    with torch.no_grad():
        losses = []
        for part in places.reshape(batches, batch_size):
            inputs, targets = _windows(tokens, part, context)
            losses.append(model(inputs.to(device), targets.to(device)).item())
    model.train()
    return math.fsum(losses) / batches


def _windows(tokens: Tokens, places: Tokens, context: int) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(np.stack([tokens[at : at + context + 1] for at in places]).astype(np.int64))
    return rows[:, :-1], rows[:, 1:]


def cosine(step: int, *, steps: int, highest: float, lowest: float, warmup: int) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine down to the lowest."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return lowest + 0.5 * (highest - lowest) * (1 + math.cos(math.pi * min(1.0, done)))
