"""What an optimizer says about itself: its name, how it is made, which options it has, what it asks of a training loop.

`trainers.optimizers.KINDS` lists the kinds; arguments, help and the tests of the Kconfig tree read them there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from trainers.optimizers.groups import Group

#: The value of an option; its default says which type.
Value = float | int | str


class AdamArguments(TypedDict):
    """What every optimizer of Adam's family is made with."""

    lr: float
    betas: tuple[float, float]
    eps: float
    fused: bool


@dataclass(frozen=True)
class Option:
    """A setting that one optimizer alone understands.

    Attributes:
        name: the argument of `make_optimizer`; the trainer's flag is it with dashes.
        help: of the flag; None: the option has no flag.
    """

    name: str
    default: Value
    help: str | None = None


@dataclass(frozen=True)
class Settings:
    """The numbers that an optimizer is made from, checked by `make_optimizer`; `momentum` is None for its own default."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    momentum: float | None
    fused: bool
    #: The value of each of the kind's options.
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def adam(self) -> AdamArguments:
        return {"lr": self.learning_rate, "betas": (self.beta1, self.beta2), "eps": self.eps, "fused": self.fused}


@dataclass(frozen=True)
class OptimizerKind:
    """One optimizer that `--optimizer` can name.

    Attributes:
        make: from the model, its groups (`parameter_groups`) and the settings.
        options: what it alone understands.
        pruning: the method that the trainer prunes by where nobody names one.
    """

    name: str
    make: Callable[[nn.Module, list[Group], Settings], torch.optim.Optimizer]
    options: tuple[Option, ...] = ()
    pruning: str = "none"


@runtime_checkable
class StepHooks(Protocol):
    """What an optimizer may ask of a training loop beside `step()`. It needs both methods."""

    def observe_norm(self, norm: Tensor) -> None:
        """Take the norm of this step's gradient, 0-d, from before it was clipped; called before `step()`."""

    def warmth(self) -> float:
        """The share of the scheduled learning rate that the latest step had; called after `step()`."""


class _NoHooks:
    def observe_norm(self, norm: Tensor) -> None:
        pass

    def warmth(self) -> float:
        return 1.0


def step_hooks(optimizer: torch.optim.Optimizer) -> StepHooks:
    """The optimizer's own hooks; ones that do nothing for an optimizer without."""
    return optimizer if isinstance(optimizer, StepHooks) else _NoHooks()
