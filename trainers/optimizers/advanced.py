"""AdamW with AMSGrad and gradient centralisation, `adamwadv`: two small changes that steady long runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainers.optimizers.groups import Group
from trainers.optimizers.kind import OptimizerKind, Settings


class AdamWAdvanced(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) whose second moment never falls and whose gradients are centred.

    AMSGrad (Reddi, Kale & Kumar, arXiv 1904.09237) divides by the largest second moment so far: a rare large
    gradient is not forgotten by the time the next one comes. Gradient centralisation (Yong et al., arXiv 2004.01461)
    takes from the gradient of each hidden matrix (outputs, inputs) its mean over the inputs; embeddings, heads and
    vectors keep theirs, as their rows are no weights of one neuron.

    Args:
        groups: from `parameter_groups`; those of kind "hidden" are centred.
        adamw: `lr`, `betas`, `eps`, `fused` of torch.optim.AdamW.
    """

    def __init__(self, groups: list[Group], **adamw: Any) -> None:
        super().__init__(groups, amsgrad=True, **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; their gradients are centred in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["kind"] == "hidden":
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.sub_(parameter.grad.mean(dim=1, keepdim=True))
        super().step()
        return loss


def _make(model: nn.Module, groups: list[Group], settings: Settings) -> AdamWAdvanced:
    return AdamWAdvanced(groups, **settings.adam)


ADAMWADV = OptimizerKind("adamwadv", _make)
