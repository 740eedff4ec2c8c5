"""The optimizers that torch has: `sgd`, `adam`, `adamw`, and `adamwprune`, whose moments `Pruner` reads."""

from __future__ import annotations

import torch
from torch import nn

from trainers.optimizers.groups import Group
from trainers.optimizers.kind import OptimizerKind, Settings


def _sgd(model: nn.Module, groups: list[Group], settings: Settings) -> torch.optim.Optimizer:
    momentum = 0.9 if settings.momentum is None else settings.momentum
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=momentum, fused=settings.fused)


def _adam(model: nn.Module, groups: list[Group], settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, **settings.adam)


def _adamw(model: nn.Module, groups: list[Group], settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, **settings.adam)


SGD = OptimizerKind("sgd", _sgd)
ADAM = OptimizerKind("adam", _adam)
ADAMW = OptimizerKind("adamw", _adamw)
#: AdamW to the letter: what its name asks for is that the trainer prunes by its moments.
ADAMWPRUNE = OptimizerKind("adamwprune", _adamw, pruning="state")
