"""What the model is shown: which sequences each step has, and what is asked of them. All of it follows from the seed
and the step, so a resumed run sees what an uninterrupted one does, and so do several processes together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
#: Of the tokens of a sequence so many are asked for, of which 80% are masked, 10% replaced by another and 10% left
#: as they are: BERT (Devlin et al., arXiv 1810.04805), appendix A.1.
ASKED_SHARE = 0.15


@dataclass(frozen=True)
class Batch:
    """Tokens (batch, length), targets (batch, predicted) and their places, all int64; `places` None: everywhere."""

    tokens: torch.Tensor
    targets: torch.Tensor
    places: torch.Tensor | None

    def to(self, device: torch.device) -> Batch:
        def moved(one: torch.Tensor) -> torch.Tensor:
            return (one.pin_memory() if device.type == "cuda" else one).to(device, non_blocking=True)

        return Batch(moved(self.tokens), moved(self.targets), None if self.places is None else moved(self.places))


@dataclass(frozen=True)
class Questions:
    """How sequences become batches.

    Attributes:
        length: tokens of a sequence.
        vocabulary: tokens of the text; the mask's number comes after them.
        causal: each token is asked for after those before it; otherwise masked ones are asked for.
    """

    length: int
    vocabulary: int
    causal: bool

    @property
    def mask(self) -> int:
        return self.vocabulary

    def sequences(self, tokens: Array) -> int:
        """How many sequences a text has, none overlapping another."""
        return max(0, (len(tokens) - 1) // self.length)

    def ask(self, tokens: Array, numbers: Array, random: np.random.Generator) -> tuple[Array, Array, Array | None]:
        """Tokens, targets and places of the sequences `numbers` of a text; of all ranks and micro-batches at once."""
        starts = numbers * self.length
        rows = np.stack([tokens[at : at + self.length + 1] for at in starts]).astype(np.int64)
        if self.causal:
            return rows[:, :-1], rows[:, 1:], None
        shown = rows[:, :-1].copy()
        # The same number in every sequence: so a mean of means is the mean, over micro-batches and over ranks.
        asked = max(1, round(ASKED_SHARE * self.length))
        places = np.sort(random.random(shown.shape).argpartition(asked - 1, axis=1)[:, :asked], axis=1)
        targets = np.take_along_axis(shown, places, axis=1)
        fate = random.random(targets.shape)
        others = random.integers(0, self.vocabulary, targets.shape)
        asked_as = np.where(fate < 0.8, self.mask, np.where(fate < 0.9, others, targets))
        np.put_along_axis(shown, places, asked_as, axis=1)
        return shown, targets, places


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, sequences: int) -> Array:
    return np.random.default_rng((seed, epoch)).permutation(sequences)


def training_batches(
    questions: Questions,
    tokens: Array,
    *,
    seed: int,
    step: int,
    steps_per_epoch: int,
    batch_size: int,
    micro_batches: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[Batch]:
    """The micro-batches of one rank in one step; an epoch shows each sequence once, in an order of its own.

    What is left over when an epoch is divided into steps is left out of it, another part each time.
    """
    epoch, place = divmod(step, steps_per_epoch)
    together = batch_size * micro_batches * world_size
    numbers = _order(seed, epoch, questions.sequences(tokens))[place * together : (place + 1) * together]
    whole = questions.ask(tokens, numbers, np.random.default_rng((seed, 1, step)))
    batches = []
    for micro in range(micro_batches):
        first = (micro * world_size + rank) * batch_size
        batches.append(_batch(whole, slice(first, first + batch_size)))
    return batches


def validation_batches(questions: Questions, tokens: Array, *, batch_size: int, batches: int) -> list[Batch]:
    """The batches of every evaluation: sequences spread evenly over the text, the same questions for every seed."""
    there = questions.sequences(tokens)
    numbers = np.unique(np.linspace(0, there - 1, min(there, batch_size * batches)).astype(np.int64))
    whole = questions.ask(tokens, numbers, np.random.default_rng(0))
    return [_batch(whole, slice(first, first + batch_size)) for first in range(0, len(numbers), batch_size)]


def _batch(whole: tuple[Array, Array, Array | None], rows: slice) -> Batch:
    tokens, targets, places = whole
    return Batch(
        torch.from_numpy(tokens[rows]),
        torch.from_numpy(targets[rows]),
        None if places is None else torch.from_numpy(places[rows]),
    )
