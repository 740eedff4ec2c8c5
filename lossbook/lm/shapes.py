"""How many parameters a language model of a given shape has: exact for GPT-2 and for Llama, without building the model.

The counts follow the published models: GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners") and Llama (Touvron et al. 2023, arXiv 2302.13971; grouped-query attention as in Llama 2, arXiv 2307.09288).
"""

from __future__ import annotations

from lossbook.errors import BadArgument

#: What each architecture takes where the caller says nothing: head shares the embedding, biases, norm.
_TIED = {"gpt2": True, "llama": False}
_BIASED = {"gpt2": True, "llama": False}
_NORM = {"gpt2": "layernorm", "llama": "rmsnorm"}

ARCHITECTURES = tuple(_NORM)
NORMS = ("layernorm", "rmsnorm", "none")


def default_d_ff(architecture: str, d_model: int) -> int:
    """The width of the feed-forward layer where none is given.

    GPT-2 takes 4·d. Llama's SwiGLU has three matrices in place of two, so 8/3·d keeps the size, here rounded up to a
    multiple of 64. Published Llama models round otherwise (TinyLlama 5,632, Llama 2 7B 11,008): give theirs.

    Raises:
        BadArgument: the architecture is not known, or `d_model` is not a positive whole number.
    """
    _check_architecture(architecture)
    _check_positive(d_model=d_model)
    if architecture == "gpt2":
        return 4 * d_model
    # 64·⌈(8/3·d) / 64⌉ in whole numbers: a float would round a width that is a multiple of 64 already up.
    return 64 * -(-d_model // 24)


def estimate_parameters(
    *,
    architecture: str,
    vocab_size: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    context_length: int | None,
    d_ff: int | None = None,
    num_kv_heads: int | None = None,
    tie_embeddings: bool | None = None,
    bias: bool | None = None,
    norm: str | None = None,
) -> int:
    """Count the parameters of a decoder-only transformer; what is tied counts once.

    Args:
        architecture: "gpt2" (learned positions, biases, LayerNorm, tied head, two feed-forward matrices) or "llama"
            (rotary positions, no bias, RMSNorm, head of its own, SwiGLU: three feed-forward matrices).
        vocab_size: tokens, with the padding that the embedding really has.
        d_model: width of the residual stream.
        num_layers: transformer blocks.
        num_heads: attention heads of a block; each is d_model / num_heads wide.
        context_length: positions; only "gpt2" keeps parameters for them. None leaves them out: a few of a thousand.
        d_ff: width of the feed-forward layer; None for `default_d_ff`.
        num_kv_heads: heads of keys and values (grouped-query attention); None for as many as `num_heads`.
        tie_embeddings: whether the head is the embedding; None for the architecture's own.
        bias: whether every linear layer of a block and every LayerNorm has one; None for the architecture's own.
            The head never has one.
        norm: "layernorm", "rmsnorm", or "none" for norms without parameters; None for the architecture's own.

    Returns:
        The number of parameters.

    Raises:
        BadArgument: an unknown architecture or norm, a size that is not a positive whole number, or heads that do
            not divide: the message says which.
    """
    _check_architecture(architecture)
    _check_positive(
        vocab_size=vocab_size,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        context_length=context_length,
        d_ff=d_ff,
        num_kv_heads=num_kv_heads,
    )
    if d_model % num_heads:
        raise BadArgument(f"d_model={d_model} cannot be split over num_heads={num_heads}: it must be a multiple of it.")
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads % kv_heads:
        raise BadArgument(f"num_heads={num_heads} cannot share num_kv_heads={kv_heads}: it must be a multiple of it.")
    norm = _NORM[architecture] if norm is None else norm
    if norm not in NORMS:
        raise BadArgument(f"norm={norm!r} is not known; take one of {', '.join(NORMS)}.")
    biased = _BIASED[architecture] if bias is None else bias
    tied = _TIED[architecture] if tie_embeddings is None else tie_embeddings
    hidden = default_d_ff(architecture, d_model) if d_ff is None else d_ff

    kv_width = d_model // num_heads * kv_heads
    attention = 2 * _linear(d_model, d_model, biased) + 2 * _linear(d_model, kv_width, biased)
    feed_forward = _linear(d_model, hidden, biased) + _linear(hidden, d_model, biased)
    if architecture == "llama":
        feed_forward += _linear(d_model, hidden, biased)
    one_norm = {"layernorm": d_model * (2 if biased else 1), "rmsnorm": d_model, "none": 0}[norm]
    blocks = num_layers * (attention + feed_forward + 2 * one_norm)
    embeddings = vocab_size * d_model * (1 if tied else 2)
    positions = (context_length or 0) * d_model if architecture == "gpt2" else 0
    return embeddings + positions + blocks + one_norm


def lookup_parameters(
    *, architecture: str, vocab_size: int, d_model: int, context_length: int, tie_embeddings: bool | None = None
) -> int:
    """Count the parameters that are only looked up and so cost no multiplication: 6 FLOPs each would be too many.

    They are GPT-2's positions, and the token embedding where the head does not share it. In a small model with a
    large vocabulary they are a good part of all: take them off before `flops_per_token`.

    Raises:
        BadArgument: an unknown architecture, or a size that is not a positive whole number.
    """
    _check_architecture(architecture)
    _check_positive(vocab_size=vocab_size, d_model=d_model, context_length=context_length)
    tied = _TIED[architecture] if tie_embeddings is None else tie_embeddings
    positions = context_length * d_model if architecture == "gpt2" else 0
    return positions + (0 if tied else vocab_size * d_model)


def _linear(inputs: int, outputs: int, biased: bool) -> int:
    return inputs * outputs + (outputs if biased else 0)


def _check_architecture(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise BadArgument(f"architecture={architecture!r} is not known; take one of {', '.join(ARCHITECTURES)}.")


def _check_positive(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise BadArgument(f"{name}={size!r} is not a positive whole number.")
