"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): the model and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """The shape of a model: how many blocks, how many heads each, how wide."""

    layers: int
    heads: int
    width: int


#: The last four are the published ones; the others are for small machines.
SIZES = {
    "nano": Size(4, 4, 128),
    "micro": Size(6, 6, 192),
    "mini": Size(6, 6, 384),
    "gpt2": Size(12, 12, 768),
    "gpt2-medium": Size(24, 16, 1024),
    "gpt2-large": Size(36, 20, 1280),
    "gpt2-xl": Size(48, 25, 1600),
}


class Attention(nn.Module):
    """Causal self-attention of several heads."""

    def __init__(self, size: Size, dropout: float, bias: bool) -> None:
        super().__init__()
        self.heads = size.heads
        self.dropout = dropout
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=bias)
        self.out = nn.Linear(size.width, size.width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width of a head)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and around a residual."""

    def __init__(self, size: Size, dropout: float, bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, bias=bias)
        self.attention = Attention(size, dropout, bias)
        self.norm2 = nn.LayerNorm(size.width, bias=bias)
        self.up = nn.Linear(size.width, 4 * size.width, bias=bias)
        self.down = nn.Linear(4 * size.width, size.width, bias=bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))


class GPT2(nn.Module):
    """The language model.

    Args:
        vocabulary: number of tokens.
        context: tokens seen at the most.
        dropout: share of activations dropped in training.
        bias: whether linear layers and norms have one, as GPT-2's do.
    """

    def __init__(self, size: Size, vocabulary: int, context: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Embedding(context, size.width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(size, dropout, bias) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, bias=bias)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            # Each block adds to the residual stream twice: what adds is scaled down so that its variance does not grow.
            adds = name.endswith(("out.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * size.layers) if adds else 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (batch, length, vocabulary), or with `targets` the mean cross-entropy in nats, 0-d."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.tokens(tokens) + self.positions(place))  # (batch, length, width)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)  # tied: what reads a token also predicts it
        if targets is None:
            return logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
