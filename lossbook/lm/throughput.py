"""Figures derived from counts and seconds: tokens per second, FLOPs per token, model FLOPs utilisation, perplexity.

The FLOPs are those that the model needs, not those that the hardware happened to run: recomputed activations do not
count (PaLM, Chowdhery et al. 2022, arXiv 2204.02311, appendix B). Nothing here reads a clock or a device.
"""

from __future__ import annotations

import math

from lossbook.errors import BadArgument


def flops_per_token(parameters: int, *, num_layers: int, d_model: int, context_length: int) -> float:
    """FLOPs that one token costs in training, forward and backward: 6N + 12·L·d·T.

    The source is PaLM (arXiv 2204.02311), appendix B, whose 12·L·H·Q·T has H·Q = d. Attention counts in full, though
    half of it is masked, so that figures compare with the published ones.

    Args:
        parameters: N, those that take part in a multiplication; `shapes.lookup_parameters` counts the others.
        num_layers: L, transformer blocks.
        d_model: d, heads times the width of a head.
        context_length: T, tokens in a sequence as trained.

    Returns:
        Floating-point operations per token; a multiplication and an addition are two.

    Raises:
        BadArgument: an argument is negative.
    """
    for name, value in (
        ("parameters", parameters),
        ("num_layers", num_layers),
        ("d_model", d_model),
        ("context_length", context_length),
    ):
        if value < 0:
            raise BadArgument(f"{name}={value!r} is negative; FLOPs per token need sizes of 0 or more.")
    return 6.0 * parameters + 12.0 * num_layers * d_model * context_length


def model_flops_utilisation(
    tokens_per_second: float, flops_per_token: float, peak_flops: float, devices: int = 1
) -> float:
    """Share of the devices' peak that the model's own FLOPs take, in percent (0..100; NaN where a speed is NaN).

    Args:
        tokens_per_second: over all devices together.
        flops_per_token: see `flops_per_token`.
        peak_flops: of one device, dense, in FLOP/s; see `devices.peak_flops`.
        devices: how many shared the work.

    Raises:
        BadArgument: no device, or a peak that is not above zero.
    """
    if devices < 1 or not peak_flops > 0:
        raise BadArgument(
            f"devices={devices!r} and peak_flops={peak_flops!r} cannot be: utilisation needs at least one device"
            " and its peak in FLOP/s."
        )
    return 100.0 * tokens_per_second * flops_per_token / (peak_flops * devices)


def tokens_per_second(tokens: float, seconds: float) -> float:
    """Tokens divided by the seconds they took; NaN where no time has passed, because no speed is known then."""
    return tokens / seconds if seconds > 0 else math.nan


def perplexity(loss: float) -> float:
    """e to the mean cross-entropy in nats; infinity where that is too large for a float, and NaN stays NaN."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
