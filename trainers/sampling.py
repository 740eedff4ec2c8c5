"""Text that a trained model writes: drawn with a seed of its own, so that it is the same each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from trainers.text import Text


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: Tensor,
    count: int,
    *,
    context: int,
    temperature: float = 0.8,
    top_k: int = 200,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue `tokens`, shape (batch, length), int64, by `count` tokens.

    Args:
        model: gives logits, shape (batch, length, vocabulary), for tokens.
        context: tokens that it sees at the most; of a longer text the end.
        temperature: what logits are divided by; 0: the likeliest token each time.
        top_k: each token is drawn from so many of the likeliest.
        generator: on the tokens' device; None: PyTorch's own.
    """
    training = model.training
    model.eval()
    try:
        for _ in range(count):
            logits = model(tokens[:, -context:])[:, -1].float()  # (batch, vocabulary)
            best, indices = logits.topk(1 if temperature == 0 else min(top_k, logits.shape[-1]))
            chosen = torch.multinomial((best / (temperature or 1.0)).softmax(-1), 1, generator=generator)
            tokens = torch.cat((tokens, indices.gather(-1, chosen)), dim=1)
    finally:
        model.train(training)
    return tokens


def write(
    model: Any, text: Text, count: int, *, prompt: str = "\n", temperature: float = 0.8, top_k: int = 200, seed: int = 0
) -> str:
    """`prompt` and what a GPT2 makes of it, `count` tokens; what the text has no token for is left out of the prompt."""
    device = next(model.parameters()).device
    known = text.encode(prompt) or text.encode("\n") or [0]
    generator = torch.Generator(device).manual_seed(seed)
    tokens = torch.tensor([known], device=device)
    written = generate(
        model, tokens, count, context=model.context, temperature=temperature, top_k=top_k, generator=generator
    )
    return text.decode(written[0].tolist())
