"""A small language model as Llama is built (Touvron et al. 2023, arXiv 2302.13971): the model and nothing else."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Causal self-attention; positions enter by turning queries and keys (RoPE, arXiv 2104.09864)."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        batch, length, d_model = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width of a head)
        mixed = F.scaled_dot_product_attention(rotate(query, turn), rotate(key, turn), value, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, d_model))


class Block(nn.Module):
    """Attention and a SwiGLU layer, each behind a norm and around a residual."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(d_model)
        self.attention = Attention(d_model, num_heads)
        self.norm2 = nn.RMSNorm(d_model)
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), turn)
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Transformer(nn.Module):
    """The language model.

    Args:
        d_ff: width of the SwiGLU layer; default 8/3 of `d_model`, rounded up to a multiple of 64.
        rope_theta: the slowest position turns once in about 2π times this many tokens.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context_length: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        d_ff: int | None = None,
        rope_theta: float = 10_000.0,
    ) -> None:
        super().__init__()
        if d_ff is None:
            d_ff = 64 * -(-d_model // 24)
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.blocks = nn.ModuleList(Block(d_model, num_heads, d_ff) for _ in range(num_layers))
        self.norm = nn.RMSNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.register_buffer("turn", rotations(context_length, d_model // num_heads, rope_theta), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            # Each block adds to the residual stream twice: what adds is scaled down so that its variance does not grow.
            adds = name.endswith(("out.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers) if adds else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (batch, length, vocabulary), or with `targets` the mean cross-entropy in nats, 0-d."""
        x = self.tokens(tokens)  # (batch, length, d_model)
        for block in self.blocks:
            x = block(x, self.turn[: tokens.shape[1]])
        logits = self.head(self.norm(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def rotations(length: int, width: int, theta: float) -> Tensor:
    """Cosine and sine of every position's angles, shape (length, 2, width / 2)."""
    speeds = theta ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * speeds
    return torch.stack((angles.cos(), angles.sin()), dim=1)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (first half, second half) of each head by the angle of their position."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = turn[:, 0], turn[:, 1]
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), dim=-1)
