"""How many parameters a model of a given shape has: held against published models and against a real one."""

from __future__ import annotations

import pytest

from lossbook.errors import BadArgument
from lossbook.lm import ExperimentConfig
from lossbook.lm.shapes import default_d_ff, estimate_parameters, lookup_parameters

SMALL = {"vocab_size": 1000, "d_model": 64, "num_layers": 2, "num_heads": 4, "context_length": 128}


@pytest.mark.parametrize(
    ("layers", "width", "heads", "published"),
    [
        (12, 768, 12, 124_439_808),
        (24, 1024, 16, 354_823_168),
        (36, 1280, 20, 774_030_080),
        (48, 1600, 25, 1_557_611_200),
    ],
    ids=["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"],
)
def test_the_published_gpt2_sizes_are_met_exactly(layers: int, width: int, heads: int, published: int) -> None:
    counted = estimate_parameters(
        architecture="gpt2", vocab_size=50257, d_model=width, num_layers=layers, num_heads=heads, context_length=1024
    )
    assert counted == published


LLAMAS = {
    "llama-7b": ({"vocab_size": 32000, "d_model": 4096, "num_layers": 32, "num_heads": 32, "d_ff": 11008, "context_length": 2048}, 6_738_415_616),
    "llama-2-70b": ({"vocab_size": 32000, "d_model": 8192, "num_layers": 80, "num_heads": 64, "num_kv_heads": 8, "d_ff": 28672, "context_length": 4096}, 68_976_648_192),
    "llama-3-8b": ({"vocab_size": 128256, "d_model": 4096, "num_layers": 32, "num_heads": 32, "num_kv_heads": 8, "d_ff": 14336, "context_length": 8192}, 8_030_261_248),
    "tinyllama": ({"vocab_size": 32000, "d_model": 2048, "num_layers": 22, "num_heads": 32, "num_kv_heads": 4, "d_ff": 5632, "context_length": 2048}, 1_100_048_384),
    "smollm-135m": ({"vocab_size": 49152, "d_model": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "d_ff": 1536, "context_length": 2048, "tie_embeddings": True}, 134_515_008),
    "smollm-360m": ({"vocab_size": 49152, "d_model": 960, "num_layers": 32, "num_heads": 15, "num_kv_heads": 5, "d_ff": 2560, "context_length": 2048, "tie_embeddings": True}, 361_821_120),
}  # fmt: skip


@pytest.mark.parametrize("name", LLAMAS)
def test_the_published_llama_sizes_are_met_exactly(name: str) -> None:
    shape, published = LLAMAS[name]
    assert estimate_parameters(architecture="llama", **shape) == published  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", ["nano", "micro", "gpt2"])
def test_it_counts_what_our_own_gpt2_has(size: str, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    from gpt2.model import GPT2, SIZES

    with torch.device("meta"):
        model = GPT2(SIZES[size], vocabulary=1234, context=96, bias=bias)
    shape = SIZES[size]
    counted = estimate_parameters(
        architecture="gpt2",
        vocab_size=1234,
        d_model=shape.width,
        num_layers=shape.layers,
        num_heads=shape.heads,
        context_length=96,
        bias=bias,
    )
    assert counted == model.parameter_count()


def test_a_head_of_its_own_costs_one_more_embedding() -> None:
    tied = estimate_parameters(architecture="gpt2", **SMALL)
    untied = estimate_parameters(architecture="gpt2", tie_embeddings=False, **SMALL)
    assert untied - tied == 1000 * 64


def test_the_norm_can_be_named_or_left_out() -> None:
    root_mean_square, layer, none = (
        estimate_parameters(architecture="llama", norm=norm, **SMALL) for norm in ("rmsnorm", "layernorm", "none")
    )
    assert layer == root_mean_square == estimate_parameters(architecture="llama", **SMALL)
    assert root_mean_square - none == 5 * 64  # two norms in each of two blocks, one after them


def test_llamas_context_length_costs_nothing_and_gpt2s_does() -> None:
    longer = SMALL | {"context_length": 129}
    assert estimate_parameters(architecture="llama", **longer) == estimate_parameters(architecture="llama", **SMALL)
    assert estimate_parameters(architecture="gpt2", **longer) == estimate_parameters(architecture="gpt2", **SMALL) + 64


@pytest.mark.parametrize(("d_model", "expected"), [(24, 64), (25, 128), (512, 1408), (768, 2048), (4096, 10944)])
def test_swiglu_is_eight_thirds_wide_rounded_up_to_sixty_four(d_model: int, expected: int) -> None:
    assert default_d_ff("llama", d_model) == expected
    assert expected % 64 == 0
    assert 0 <= expected - 8 * d_model / 3 < 64


def test_the_gpt2_feed_forward_layer_is_four_times_as_wide() -> None:
    assert default_d_ff("gpt2", 768) == 3072
    assert estimate_parameters(architecture="gpt2", d_ff=256, **SMALL) == estimate_parameters(
        architecture="gpt2", **SMALL
    )


def test_what_is_only_looked_up_is_counted_apart() -> None:
    sizes = {"vocab_size": 1000, "d_model": 64, "context_length": 128}
    assert lookup_parameters(architecture="gpt2", **sizes) == 128 * 64
    assert lookup_parameters(architecture="llama", **sizes) == 1000 * 64
    assert lookup_parameters(architecture="llama", tie_embeddings=True, **sizes) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "mamba"}, "gpt2, llama"),
        ({"norm": "batchnorm"}, "layernorm, rmsnorm, none"),
        ({"d_model": 0}, "d_model=0"),
        ({"num_layers": 2.0}, "num_layers=2.0"),
        ({"vocab_size": True}, "vocab_size=True"),
        ({"d_ff": -1}, "d_ff=-1"),
        ({"num_heads": 5}, "num_heads=5"),
        ({"num_kv_heads": 3}, "num_kv_heads=3"),
    ],
)
def test_a_shape_that_cannot_be_says_which_size_is_wrong(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        estimate_parameters(**({"architecture": "llama"} | SMALL | change))  # type: ignore[arg-type]


def test_a_configuration_without_a_context_length_is_estimated_without_positions() -> None:
    shape = {"vocab_size": 50_257, "d_model": 512, "num_layers": 8, "num_heads": 8}
    without = ExperimentConfig(**shape).estimate_parameters()
    assert without is not None
    assert ExperimentConfig(**shape, context_length=1024).estimate_parameters() == without + 1024 * 512
