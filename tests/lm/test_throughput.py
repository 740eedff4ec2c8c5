"""Tokens per second, FLOPs per token, utilisation and perplexity, held against published figures."""

from __future__ import annotations

import math

import pytest

from lossbook.errors import BadArgument
from lossbook.lm.throughput import flops_per_token, model_flops_utilisation, perplexity, tokens_per_second


def test_flops_per_token_are_six_for_each_parameter_and_twelve_for_attention() -> None:
    assert flops_per_token(0, num_layers=2, d_model=3, context_length=5) == 12 * 2 * 3 * 5
    assert flops_per_token(7, num_layers=0, d_model=3, context_length=5) == 42


def test_the_utilisation_of_palm_540b_comes_out_as_published() -> None:
    # arXiv 2204.02311, section 4.1 and appendix B: 238.3 thousand tokens/s on 6,144 TPU v4 of 275 TFLOP/s are 46.2%.
    per_token = flops_per_token(540_350_000_000, num_layers=118, d_model=48 * 256, context_length=2048)
    assert model_flops_utilisation(238_300, per_token, 275e12, devices=6144) == pytest.approx(46.2, abs=0.1)


def test_twice_the_devices_at_the_same_speed_are_used_half_as_well() -> None:
    one = model_flops_utilisation(1000, 6e9, 312e12)
    assert model_flops_utilisation(1000, 6e9, 312e12, devices=2) == pytest.approx(one / 2)


def test_a_speed_that_is_not_known_makes_no_utilisation() -> None:
    assert math.isnan(model_flops_utilisation(math.nan, 6e9, 312e12))


@pytest.mark.parametrize(("peak", "devices"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (312e12, 0)])
def test_utilisation_needs_a_device_and_its_peak(peak: float, devices: int) -> None:
    with pytest.raises(BadArgument, match="at least one device"):
        model_flops_utilisation(1000, 6e9, peak, devices=devices)


def test_a_negative_size_is_named() -> None:
    with pytest.raises(BadArgument, match="num_layers=-1"):
        flops_per_token(10, num_layers=-1, d_model=3, context_length=5)


def test_tokens_per_second_are_unknown_before_any_time_has_passed() -> None:
    assert tokens_per_second(1000, 4.0) == 250.0
    assert math.isnan(tokens_per_second(1000, 0.0))
    assert math.isnan(tokens_per_second(1000, -1.0))


def test_perplexity_never_raises() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(50257)) == pytest.approx(50257)
    assert perplexity(1000.0) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
