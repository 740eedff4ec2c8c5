"""The quantisers: what rounds a weight to -1, 0 or 1 and an activation to 8 bits, and how gradients get past them.

The forward pass computes with the rounded values; the backward pass takes the rounding for the identity
(straight-through, Bengio et al., arXiv 1308.3432). Both quantisers follow BitNet b1.58 (Ma et al., arXiv 2402.17764).
Each has one parameter beyond the paper: the logarithm of a factor on its scale. It begins at 0, where the quantiser is
the paper's, and learns by the gradient of LSQ (Esser et al., arXiv 1902.08153).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Largest magnitude of an 8-bit activation; -128 is left out so that the grid is symmetric.
ACTIVATION_LEVELS = 127
#: No scale is smaller: a row of zeros would divide by zero.
SMALLEST_SCALE = 1e-5


def ternary_codes(weight: Tensor, scale: Tensor) -> Tensor:
    """The nearest of -1, 0 and 1 to `weight / scale`, of the shape of `weight`."""
    return (weight / scale).round().clamp(-1, 1)


class _Ternary(torch.autograd.Function):
    """codes · scale; to the weights the gradient passes as it is, as in the paper's own code."""

    @staticmethod
    def forward(context: Any, weight: Tensor, scale: Tensor) -> Tensor:
        codes = ternary_codes(weight, scale)
        context.save_for_backward(weight, scale, codes)
        return codes * scale

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        weight, scale, codes = context.saved_tensors
        ratio = weight / scale
        slope = torch.where(ratio.abs() < 1, codes - ratio, codes)  # LSQ, equation 3
        # LSQ, section 2.2: the gradient of one scale sums over every weight, and would drown the others' in the norm.
        return gradient, (gradient * slope).sum() / math.sqrt(weight.numel())


class _EightBits(torch.autograd.Function):
    """round(x / step) · step within ±127 steps; beyond them the gradient is the step's alone."""

    @staticmethod
    def forward(context: Any, x: Tensor, step: Tensor) -> Tensor:
        codes = (x / step).round().clamp(-ACTIVATION_LEVELS, ACTIVATION_LEVELS)
        context.save_for_backward(x, step, codes)
        return codes * step

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x, step, codes = context.saved_tensors
        ratio = x / step
        # Half a step of room: the largest value of a row is the range itself, and must not count as beyond it.
        inside = ratio.abs() < ACTIVATION_LEVELS + 0.5
        slope = torch.where(inside, codes - ratio, codes)
        to_step = (gradient * slope).sum(-1, keepdim=True) / math.sqrt(x.numel() * ACTIVATION_LEVELS)
        return gradient * inside, to_step


class WeightQuantiser(nn.Module):
    """Weights to -1, 0 and 1 times one scale: the mean of their magnitudes (absmean), times a learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(()))

    def scale(self, weight: Tensor) -> Tensor:
        """What a code of 1 stands for, 0-d, above 0; its gradient goes to the learned factor alone."""
        return weight.detach().float().abs().mean().clamp(min=SMALLEST_SCALE) * self.log_factor.exp()

    def forward(self, weight: Tensor) -> Tensor:
        quantised: Tensor = _Ternary.apply(weight.float(), self.scale(weight))
        return quantised


class ActivationQuantiser(nn.Module):
    """Activations to 8 bits, a scale for each token: its largest magnitude (absmax), times a learned factor.

    In training each value goes past it with the probability `bypass` and stays what it is: QDrop (Wei et al.,
    arXiv 2203.05740). That is no dropout: nothing is set to zero, and with `bypass` 1 this is the identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_factor = nn.Parameter(torch.zeros(()))
        self.bypass = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.bypass >= 1:
            return x
        wide = x.float()  # half of a 16-bit float's precision would be lost to the grid
        largest = wide.detach().abs().amax(-1, keepdim=True).clamp(min=SMALLEST_SCALE)
        quantised: Tensor = _EightBits.apply(wide, largest * self.log_factor.exp() / ACTIVATION_LEVELS)
        if self.training and self.bypass > 0:
            quantised = torch.where(torch.rand_like(wide) < self.bypass, wide, quantised)
        return quantised


class BitLinear(nn.Module):
    """A linear layer without bias whose weights and inputs are quantised while `quantising` is set.

    The weights that are trained stay in full precision; `effective_weight()` is what the layer computes with.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.weight_quantiser = WeightQuantiser()
        self.activation_quantiser = ActivationQuantiser()
        self.quantising = False
        # Set where the weights were read from a packed file, and are codes times a scale already.
        self.packed = False

    def effective_weight(self) -> Tensor:
        """(outputs, inputs): three values while the layer quantises, any otherwise."""
        quantised: Tensor = self.weight_quantiser(self.weight) if self.quantising and not self.packed else self.weight
        return quantised

    @torch.no_grad()
    def codes(self) -> tuple[Tensor, Tensor]:
        """The weights as int8 of -1, 0 and 1, shape (outputs, inputs), and their scale, 0-d."""
        scale = self.weight_quantiser.scale(self.weight)
        return ternary_codes(self.weight.float(), scale).to(torch.int8), scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.activation_quantiser(x) if self.quantising else x, self.effective_weight())
