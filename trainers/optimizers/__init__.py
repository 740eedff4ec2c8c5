"""Optimizers by name, for any model: what decays, what each option means, and one way to make them.

Every optimizer here keeps all that it knows in `state_dict()`, so that a resumed run goes on as if it never stopped.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lossbook.errors import BadArgument
from trainers.optimizers.advanced import AdamWAdvanced
from trainers.optimizers.groups import hidden_matrices, named_parameters, parameter_groups
from trainers.optimizers.muon import Muon, orthogonalise
from trainers.optimizers.spam import Spam

__all__ = [
    "OPTIMIZERS",
    "OPTIONS",
    "AdamWAdvanced",
    "Muon",
    "Spam",
    "hidden_matrices",
    "make_optimizer",
    "named_parameters",
    "orthogonalise",
    "parameter_groups",
]

OPTIMIZERS = ("sgd", "adam", "adamw", "adamwadv", "adamwspam", "adamwprune", "muon")

#: Options that one optimizer alone understands, with what they are when nobody says; the others leave them aside, so
#: that one command line serves all.
OPTIONS: dict[str, Any] = {
    "spam_theta": 50.0,
    "spam_interval": 500,
    "spam_warmup": 150,
    "spam_zscore": 0.0,
    "muon_scale": "adamw",
}


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
    **options: Any,
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
    if name not in OPTIMIZERS:
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
    chosen = {**OPTIONS, **options}
    groups = parameter_groups(model, weight_decay)
    adam: dict[str, Any] = {"lr": learning_rate, "betas": (beta1, beta2), "eps": eps, "fused": fused}
    match name:
        case "sgd":
            speed = 0.9 if momentum is None else momentum
            return torch.optim.SGD(groups, lr=learning_rate, momentum=speed, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, **adam)
        case "adamwadv":
            return AdamWAdvanced(groups, **adam)
        case "adamwspam":
            spam = {key.removeprefix("spam_"): value for key, value in chosen.items() if key.startswith("spam_")}
            return Spam(groups, **spam, **adam)
        case "muon":
            thirds = tuple(one for key, one in hidden_matrices(model).items() if key.endswith("qkv.weight"))
            speed = 0.95 if momentum is None else momentum
            return Muon(groups, momentum=speed, scale=chosen["muon_scale"], thirds=thirds, **adam)
    return torch.optim.AdamW(groups, **adam)
