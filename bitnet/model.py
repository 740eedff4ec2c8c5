"""The model: a Transformer of ternary linear layers, an encoder (masked words) or a decoder (the next word).

In place of normalisation stands QDyT, a dynamic tanh (Zhu et al., arXiv 2503.10622) made for quantised layers: its
output is bounded, so no outlier takes the 8-bit grid for itself. Embeddings and the tied head are not quantised, as in
BitNet b1.58 (arXiv 2402.17764).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitnet.quantise import BitLinear


@dataclass(frozen=True)
class Size:
    """The shape of a model, and the shares of training at which its second and third stage begin."""

    layers: int
    heads: int
    width: int
    partial_ternary: float
    full_ternary: float


#: rtx is what trains on a consumer GPU of 10 GB; nano is for a CPU.
SIZES = {
    "nano": Size(4, 4, 128, 0.1, 0.4),
    "small": Size(6, 6, 384, 0.1, 0.4),
    "base": Size(12, 12, 768, 0.1, 0.3),
    "large": Size(24, 16, 1024, 0.05, 0.25),
    "rtx": Size(10, 12, 768, 0.05, 0.2),
}
#: Where the clamp begins, in units of its input (of unit variance at the start): a few values in a thousand are beyond.
FIRST_CLAMP = 3.0


class QDyT(nn.Module):
    """γ·tanh(α·y) + β, y being the input less the mean of its group, clamped to ±softplus(a).

    `warmth` scales α while training begins: at first the layer is nearly linear, and gradients pass it well.

    Args:
        width: channels.
        groups: groups of neighbouring channels, each centred by itself.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.warmth = 1.0
        self.alpha = nn.Parameter(torch.ones(()))  # what the DyT paper found best up to a width of 1024
        self.a = nn.Parameter(torch.tensor(math.log(math.expm1(FIRST_CLAMP))))  # softplus(a) = FIRST_CLAMP
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def clamp(self) -> Tensor:
        """The largest magnitude that passes unchanged, 0-d, above 0."""
        return F.softplus(self.a)

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.unflatten(-1, (self.groups, -1))
        y = (grouped - grouped.mean(-1, keepdim=True)).flatten(-2)
        clamp = self.clamp()
        y = torch.clamp(y, -clamp, clamp)  # with tensors for bounds, so that what is clamped teaches them
        return self.gamma * torch.tanh(self.alpha * self.warmth * y) + self.beta


class Attention(nn.Module):
    """Self-attention of several heads, over all tokens or over those before."""

    def __init__(self, size: Size, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = size.heads, dropout, causal
        self.qkv = BitLinear(size.width, 3 * size.width)
        self.out = BitLinear(size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, width of a head)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return attended


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a QDyT and around a residual."""

    def __init__(self, size: Size, dropout: float, causal: bool) -> None:
        super().__init__()
        self.qdyt1 = QDyT(size.width, size.heads)
        self.attention = Attention(size, dropout, causal)
        self.qdyt2 = QDyT(size.width, size.heads)
        self.up = BitLinear(size.width, 4 * size.width)
        self.down = BitLinear(4 * size.width, size.width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.qdyt1(x)))
        grown: Tensor = x + self.drop(self.down(F.gelu(self.up(self.qdyt2(x)))))
        return grown


class BitNet(nn.Module):
    """The language model.

    Args:
        vocabulary: number of tokens, that of the mask included.
        length: tokens seen at the most.
        causal: a token sees only those before it.
        dropout: share of activations set to zero in training (what QDrop does is another thing).
    """

    def __init__(self, size: Size, vocabulary: int, length: int, *, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.length, self.causal = length, causal
        self.tokens = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Embedding(length, size.width)
        # A tanh has no normalisation's way of scaling its input up: the embeddings come with a variance of 1, as the
        # DyT paper has it for language models, by a factor that is learned.
        self.embedding_scale = nn.Parameter(torch.tensor(math.sqrt(size.width / 2)))
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(size, dropout, causal) for _ in range(size.layers))
        self.qdyt = QDyT(size.width, size.heads)
        self.head_bias = nn.Parameter(torch.zeros(vocabulary))
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=1 / math.sqrt(size.width))
        for name, layer in self.bit_linears():
            # Each block adds to the residual stream twice: what adds is scaled down so that its variance does not grow.
            adds = name.endswith(("out", "down"))
            std = 1 / math.sqrt(layer.weight.shape[1])
            nn.init.normal_(layer.weight, std=std / math.sqrt(2 * size.layers) if adds else std)

    def bit_linears(self) -> Iterator[tuple[str, BitLinear]]:
        """The layers that become ternary, by name, from the input on."""
        for name, module in self.named_modules():
            if isinstance(module, BitLinear):
                yield name, module

    def quantise_blocks(self, which: range) -> None:
        """Quantise the layers of these blocks, and of no others; only quantisers in use are trained."""
        for number, block in enumerate(self.blocks):
            for module in block.modules():
                if isinstance(module, BitLinear):
                    module.quantising = number in which
                    module.weight_quantiser.requires_grad_(module.quantising)
                    module.activation_quantiser.requires_grad_(module.quantising)

    def set_bypass(self, probability: float) -> None:
        """How likely a value goes past its activation quantiser in training (QDrop)."""
        for _, layer in self.bit_linears():
            layer.activation_quantiser.bypass = probability

    def set_warmth(self, warmth: float) -> None:
        """How much of α every QDyT applies, from above 0 to 1."""
        for module in self.modules():
            if isinstance(module, QDyT):
                module.warmth = warmth

    def forward(self, tokens: Tensor, targets: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """Logits (batch, length, vocabulary), or with `targets` the mean cross-entropy in nats, 0-d.

        Args:
            tokens: (batch, length), int64.
            targets: (batch, predicted), int64: what is to be predicted.
            places: (batch, predicted), int64: where, in the order of `targets`; without it, everywhere.
        """
        order = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.embedding_scale * (self.tokens(tokens) + self.positions(order)))  # (batch, length, width)
        for block in self.blocks:
            x = block(x)
        if places is not None:  # six of seven tokens are no question: their logits would be computed for nothing
            x = x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        logits = F.linear(self.qdyt(x), self.tokens.weight, self.head_bias)
        if targets is None:
            return logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
