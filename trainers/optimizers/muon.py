"""Muon: hidden matrices move by the nearest orthogonal matrix to their momentum, everything else by AdamW.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon).
One optimizer for the whole model: one schedule, one state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossbook.errors import BadArgument
from trainers.optimizers.groups import Group, hidden_matrices
from trainers.optimizers.kind import OptimizerKind, Option, Settings

#: Of the quintic iteration, from the post: the steepest slope at 0 with which singular values end near 1 (0.7 to 1.2).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
SCALES = ("adamw", "original")


def orthogonalise(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ by Newton-Schulz iterations; shape (..., rows, columns), as given.

    In bfloat16 on a GPU, which is what makes it cheap there, and in float32 elsewhere.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT  # so that the products are of the shorter side
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value above 1: it converges only there
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # (..., shorter, shorter)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for the groups of kind "hidden", AdamW for the others.

    A fused query-key-value matrix is three: each is orthogonalised by itself, which the post found to be better.

    Args:
        groups: from `parameter_groups`.
        lr: of both. Decay is decoupled in both.
        momentum: of the hidden matrices' momentum, Nesterov's.
        scale: how long a hidden matrix' step is. "adamw": 0.2 * sqrt(max(rows, columns)), so that its root mean
            square is AdamW's and AdamW's learning rate and decay serve it as well (Liu et al. 2025, arXiv
            2502.16982). "original": sqrt(max(1, rows / columns)), for learning rates about 0.02.
        thirds: parameters that hold a query, a key and a value matrix on top of each other.
        adamw: `betas`, `eps`, `fused` of torch.optim.AdamW.

    Raises:
        BadArgument: an argument is out of its range.
    """

    def __init__(
        self,
        groups: list[Group],
        *,
        lr: float,
        momentum: float = 0.95,
        scale: str = "adamw",
        thirds: tuple[Tensor, ...] = (),
        **adamw: Any,
    ) -> None:
        if scale not in SCALES:
            raise BadArgument(f"muon_scale must be {' or '.join(SCALES)}, not {scale!r}")
        if not 0 <= momentum < 1:
            raise BadArgument(f"Muon's momentum must be from 0 to below 1, not {momentum}")
        super().__init__(groups, {"lr": lr, "momentum": momentum})
        self.scale = scale
        self._thirds = {id(one) for one in thirds}
        self._adamw_options = adamw
        self._join()

    def _join(self) -> None:
        """Have an AdamW for the other groups that shares our groups and our state."""
        others = [group for group in self.param_groups if group["kind"] != "hidden"]
        self._adamw = torch.optim.AdamW(others, **self._adamw_options) if others else None
        if self._adamw is not None:
            self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["kind"] == "hidden":
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._move(parameter, group)
        if self._adamw is not None:
            self._adamw.step()
        return loss

    def _move(self, parameter: Tensor, group: Group) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        grad, momentum = parameter.grad, state["momentum_buffer"]
        assert grad is not None
        momentum.lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(momentum, group["momentum"])  # Nesterov: where the momentum is about to be
        pieces = 3 if id(parameter) in self._thirds else 1
        rows, columns = parameter.shape[0] // pieces, parameter.shape[1]
        step = orthogonalise(ahead.view(pieces, rows, columns)).view_as(parameter)
        length = 0.2 * math.sqrt(max(rows, columns)) if self.scale == "adamw" else math.sqrt(max(1.0, rows / columns))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(step, alpha=-group["lr"] * length)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state_dict)
        self._join()


def _make(model: nn.Module, groups: list[Group], settings: Settings) -> Muon:
    return Muon(
        groups,
        momentum=0.95 if settings.momentum is None else settings.momentum,
        scale=str(settings.options["muon_scale"]),
        thirds=tuple(one for name, one in hidden_matrices(model).items() if name.endswith("qkv.weight")),
        **settings.adam,
    )


MUON = OptimizerKind("muon", _make, (Option("muon_scale", "adamw"),))
