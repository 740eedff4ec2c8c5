"""Optimizers by name, for any model: what decays, what each option means, and one way to make them.

Every optimizer here keeps all that it knows in `state_dict()`, so that a resumed run goes on as if it never stopped.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lossbook.errors import BadArgument
from trainers.optimizers import advanced, muon, plain, spam
from trainers.optimizers.advanced import AdamWAdvanced
from trainers.optimizers.groups import hidden_matrices, named_parameters, parameter_groups
from trainers.optimizers.kind import OptimizerKind, Option, Settings, StepHooks, Value, step_hooks
from trainers.optimizers.muon import Muon, orthogonalise
from trainers.optimizers.spam import Spam

__all__ = [
    "KINDS",
    "OPTIMIZERS",
    "OPTIONS",
    "AdamWAdvanced",
    "Muon",
    "OptimizerKind",
    "Option",
    "Settings",
    "Spam",
    "StepHooks",
    "hidden_matrices",
    "make_optimizer",
    "named_parameters",
    "orthogonalise",
    "parameter_groups",
    "restore_moments",
    "step_hooks",
]

#: Every optimizer there is. A new one is a module with its `OptimizerKind`, a line here, and its symbols in gpt2/Kconfig.
KINDS: dict[str, OptimizerKind] = {
    kind.name: kind
    for kind in (plain.SGD, plain.ADAM, plain.ADAMW, advanced.ADAMWADV, spam.ADAMWSPAM, plain.ADAMWPRUNE, muon.MUON)
}
OPTIMIZERS = tuple(KINDS)
#: The options of all of them. Each optimizer leaves those of the others aside, so that one command line serves all.
OPTIONS: dict[str, Option] = {option.name: option for kind in KINDS.values() for option in kind.options}


def make_optimizer(
    name: str,
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-8,
    momentum: float | None = None,
    fused: bool = False,
    **options: Value,
) -> torch.optim.Optimizer:
    """Make the optimizer `name` for all parameters of `model` that train.

    Args:
        name: one of `OPTIMIZERS`. "adamwprune" is AdamW to the letter; its moments are what `Pruner` reads with the
            method "state".
        learning_rate: of all groups; a schedule may set `lr` of each group anew before a step.
        weight_decay: of what has two dimensions or more. Decoupled, but for sgd and adam, where it is added to the
            gradient as torch does.
        beta1: of the first moment; `beta2` of the second.
        momentum: of sgd (0.9 when None) and of muon's hidden matrices (0.95 when None).
        fused: torch's fused kernels, for the part of the optimizer that has one.
        options: see `OPTIONS`.

    Raises:
        BadArgument: there is no such optimizer or option, or a number is out of its range.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise BadArgument(f"there is no optimizer {name!r}: use one of {', '.join(OPTIMIZERS)}")
    if unknown := sorted(options.keys() - OPTIONS.keys()):
        raise BadArgument(f"optimizers have no option {', '.join(unknown)}: those that are: {', '.join(OPTIONS)}")
    # Written so that NaN fails as well.
    for number, value, fits in (
        ("learning_rate", learning_rate, 0 <= learning_rate < math.inf),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf),
        ("beta1", beta1, 0 <= beta1 < 1),
        ("beta2", beta2, 0 <= beta2 < 1),
        ("eps", eps, 0 <= eps < math.inf),
        ("momentum", momentum, momentum is None or 0 <= momentum < 1),
    ):
        if not fits:
            raise BadArgument(f"{number} cannot be {value} for {name}")
    own = {option.name: options.get(option.name, option.default) for option in kind.options}
    settings = Settings(learning_rate, beta1, beta2, eps, momentum, fused, own)
    return kind.make(model, parameter_groups(model, weight_decay), settings)


def restore_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over what the optimizer remembers, but not its settings: those are what the flags say now."""
    settings = [{name: one for name, one in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)
