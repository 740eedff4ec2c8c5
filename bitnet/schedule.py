"""What happens when: the stages, what each of them quantises, and the four schedules. Plain functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitnet.model import BitNet, Size

#: In this order; `train/training_stage` is the place in it.
STAGES = ("warmup", "partial_ternary", "full_ternary")


@dataclass(frozen=True)
class Schedule:
    """When each thing begins and ends, in steps (updates of the parameters).

    Attributes:
        steps: of the whole training.
        partial_ternary, full_ternary: the first step of that stage.
        warmup_steps: of the learning rate.
        learning_rate: at the end of its warm-up.
        qdrop: probability at step 0 that an activation goes past its quantiser.
        qdrop_steps: after so many it is 0.
        alpha_steps: after so many QDyT applies its whole α.
    """

    steps: int
    partial_ternary: int
    full_ternary: int
    warmup_steps: int
    learning_rate: float
    qdrop: float
    qdrop_steps: int
    alpha_steps: int

    def stage(self, step: int) -> int:
        """Which of `STAGES` the update number `step` (from 0) belongs to."""
        return (step >= self.partial_ternary) + (step >= self.full_ternary)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then straight down to 0 at the last step, as BERT (Devlin et al., arXiv 1810.04805)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup_steps)

    def qdrop_at(self, step: int) -> float:
        """p₀·(1 − step / anneal), and 0 from there on: what is kept at the end was trained fully quantised."""
        return self.qdrop * max(0.0, 1 - step / self.qdrop_steps) if self.qdrop_steps else 0.0

    def warmth_at(self, step: int) -> float:
        """How much of α is applied: a tenth at first, all of it after `alpha_steps`."""
        return min(1.0, 0.1 + 0.9 * step / self.alpha_steps) if self.alpha_steps else 1.0

    def apply(self, model: BitNet, step: int) -> str:
        """Set the model up for the update number `step`; returns the stage's name."""
        stage = self.stage(step)
        model.quantise_blocks(quantised_blocks(stage, len(model.blocks)))
        model.set_bypass(self.qdrop_at(step))
        model.set_warmth(self.warmth_at(step))
        return STAGES[stage]


def quantised_blocks(stage: int, blocks: int) -> range:
    """The blocks that a stage quantises: none, the upper half (those near the output), all.

    The upper ones go first because errors made below pass through everything above.
    """
    return (range(0), range(blocks // 2, blocks), range(blocks))[stage]


def make_schedule(
    size: Size,
    steps: int,
    *,
    learning_rate: float,
    warmup_steps: int | None,
    qdrop: float,
    qdrop_anneal: float,
    alpha_warmup: float,
) -> Schedule:
    """The schedule of a training of `steps` steps; each stage has one at least.

    Args:
        warmup_steps: None for 5000, or a tenth of the training where that is less.
        qdrop_anneal, alpha_warmup: shares of the training, 0 to 1.

    Raises:
        ValueError: there are fewer steps than stages, or than steps of warm-up.
    """
    if steps < len(STAGES):
        raise ValueError(f"a training of {steps} steps has no room for three stages: take {len(STAGES)} or more")
    if warmup_steps is None:
        warmup_steps = min(5000, steps // 10)
    if warmup_steps > steps:
        raise ValueError(
            f"--warmup_steps {warmup_steps} is more than the {steps} steps of the training: use a smaller number"
        )
    partial = min(max(1, round(size.partial_ternary * steps)), steps - 2)
    full = min(max(partial + 1, round(size.full_ternary * steps)), steps - 1)
    return Schedule(
        steps,
        partial,
        full,
        warmup_steps,
        learning_rate,
        qdrop,
        math.ceil(qdrop_anneal * steps),
        math.ceil(alpha_warmup * steps),
    )
