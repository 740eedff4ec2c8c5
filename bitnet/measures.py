"""What a BitNet's quantisers have learned, in a few numbers that can be logged."""

from __future__ import annotations

import torch

from bitnet.model import BitNet


def quantiser_figures(model: BitNet) -> dict[str, torch.Tensor]:
    """What the quantisers have learned, means over the layers, as tensors that nobody waits for."""
    layers = [layer for _, layer in model.bit_linears()]
    tanhs = [*(one for block in model.blocks for one in (block.qdyt1, block.qdyt2)), model.qdyt]

    def mean(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(values).mean().detach()

    return {
        "quant/weight_scale": mean([layer.weight_quantiser.scale(layer.weight) for layer in layers]),
        "quant/weight_factor": mean([layer.weight_quantiser.log_factor.exp() for layer in layers]),
        "quant/activation_factor": mean([layer.activation_quantiser.log_factor.exp() for layer in layers]),
        "quant/alpha": mean([one.alpha for one in tanhs]),
        "quant/clamp": mean([one.clamp() for one in tanhs]),
    }


def zero_share(model: BitNet) -> float:
    """Share of the weights of all linear layers that are 0, or would be, when quantised."""
    layers = [layer for _, layer in model.bit_linears()]
    zeros = torch.stack([(layer.codes()[0] == 0).sum() for layer in layers]).sum()
    return float(zeros / sum(layer.weight.numel() for layer in layers))
