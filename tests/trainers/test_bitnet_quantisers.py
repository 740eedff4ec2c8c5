"""BitNet's parts: what the quantisers round to, how gradients pass them, what each stage does to the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from bitnet.batches import Questions, training_batches, validation_batches
from bitnet.model import SIZES, BitNet, QDyT, Size
from bitnet.packing import load_packed, pack, save_packed, unpack
from bitnet.quantise import ActivationQuantiser, BitLinear, WeightQuantiser
from bitnet.schedule import STAGES, make_schedule, quantised_blocks
from trainers.checkpoint import CheckpointError

TINY = Size(4, 2, 16, 0.1, 0.4)


def make_model(causal: bool = False, dropout: float = 0.0) -> BitNet:
    torch.manual_seed(0)
    return BitNet(TINY, vocabulary=20, length=8, causal=causal, dropout=dropout)


def make(steps: int, size: Size = TINY, **changed: float):  # type: ignore[no-untyped-def]
    given = {"learning_rate": 1e-3, "warmup_steps": None, "qdrop": 0.5, "qdrop_anneal": 0.75, "alpha_warmup": 0.1}
    return make_schedule(size, steps, **{**given, **changed})  # type: ignore[arg-type]


# -- quantisers -------------------------------------------------------------------------------------------------


def test_weights_are_rounded_as_in_the_paper_of_bitnet_b158() -> None:
    # γ = mean |W| = 1, and RoundClip(W / γ, -1, 1): equations 1 to 3.
    weight = torch.tensor([[0.4, -0.6, 2.5], [-1.5, 0.0, 1.0]])
    assert WeightQuantiser()(weight).tolist() == [[0.0, -1.0, 1.0], [-1.0, 0.0, 1.0]]
    assert WeightQuantiser()(weight * 3).tolist() == [[0.0, -3.0, 3.0], [-3.0, 0.0, 3.0]]


def test_activations_have_a_grid_of_255_values_for_each_token() -> None:
    x = torch.randn(5, 64) * torch.tensor([[1e-3], [1.0], [50.0], [0.2], [7.0]])
    step = x.abs().amax(-1, keepdim=True) / 127
    quantised = ActivationQuantiser()(x)
    assert torch.allclose(quantised / step, (x / step).round(), atol=1e-4)
    assert (quantised - x).abs().le(step / 2 * 1.001).all()
    assert ActivationQuantiser()(torch.zeros(2, 4)).tolist() == torch.zeros(2, 4).tolist()


def test_gradients_pass_the_rounding_as_if_it_were_not_there() -> None:
    for quantiser, x in ((WeightQuantiser(), torch.randn(6, 4)), (ActivationQuantiser(), torch.randn(6, 4))):
        x.requires_grad_()
        gradient = torch.randn(6, 4)
        quantiser(x).backward(gradient)
        assert x.grad is not None
        assert torch.equal(x.grad, gradient)


def test_the_gradient_of_a_scale_is_that_of_lsq() -> None:
    torch.manual_seed(1)
    quantiser, weight = WeightQuantiser(), torch.randn(8, 8)
    (quantiser(weight) ** 2).sum().backward()
    scale = weight.abs().mean()
    ratio = weight / scale
    codes = ratio.round().clamp(-1, 1)
    slope = torch.where(ratio.abs() < 1, codes - ratio, codes)
    expected = (2 * codes * scale * slope).sum() / 8 * scale  # 1/√64, and d exp(l)·s / dl at l = 0
    assert quantiser.log_factor.grad is not None
    assert quantiser.log_factor.grad.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_value_beyond_the_learned_range_teaches_the_range_and_not_itself() -> None:
    quantiser = ActivationQuantiser()
    with torch.no_grad():
        quantiser.log_factor.fill_(-0.7)  # the range is half of the largest value
    x = torch.tensor([[0.1, 0.2, 1.0]], requires_grad=True)
    quantised = quantiser(x)
    assert quantised[0, 2].item() == pytest.approx(np.exp(-0.7), rel=1e-6)
    quantised.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0, 0.0]]
    assert quantiser.log_factor.grad is not None
    assert quantiser.log_factor.grad.item() > 0


def test_qdrop_passes_the_quantisers_by_and_drops_nothing() -> None:
    torch.manual_seed(0)
    quantiser, x = ActivationQuantiser(), torch.randn(200, 100)
    whole = quantiser(x)
    quantiser.bypass = 0.3
    mixed = quantiser(x)
    kept = mixed == x
    assert kept.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(mixed[~kept], whole[~kept])
    assert mixed.ne(0).sum() >= whole.ne(0).sum()
    quantiser.bypass = 1.0
    assert torch.equal(quantiser(x), x)
    assert torch.equal(quantiser.eval()(x), whole)


def test_qdyt_is_its_formula() -> None:
    layer = QDyT(6, groups=2)
    with torch.no_grad():
        layer.a.fill_(0.5)
        layer.alpha.fill_(1.7)
        layer.gamma.copy_(torch.rand(6))
        layer.beta.copy_(torch.rand(6))
    layer.warmth = 0.4
    x = torch.randn(3, 6) * 3
    bound = np.log1p(np.exp(0.5))
    values = x.numpy().reshape(3, 2, 3)
    y = np.clip((values - values.mean(-1, keepdims=True)).reshape(3, 6), -bound, bound)
    expected = layer.gamma.detach().numpy() * np.tanh(1.7 * 0.4 * y) + layer.beta.detach().numpy()
    assert layer(x).detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_every_parameter_of_a_quantised_model_receives_a_gradient() -> None:
    model = make_model()
    make(100).apply(model, 99)
    torch.manual_seed(3)
    tokens = torch.randint(0, 20, (32, 8))
    model(tokens, tokens).backward()
    without = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert without == []


# -- stages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "partial", "full"),
    [("small", 100, 400), ("base", 100, 300), ("large", 50, 250), ("rtx", 50, 200)],
)
def test_the_stages_of_each_size_begin_at_its_shares_of_training(size: str, partial: int, full: int) -> None:
    schedule = make(1000, SIZES[size])
    stages = [STAGES[schedule.stage(step)] for step in range(1000)]
    assert stages.index("partial_ternary") == partial
    assert stages.index("full_ternary") == full
    assert stages == sorted(stages, key=STAGES.index)


@pytest.mark.parametrize("steps", [3, 4, 7, 20])
def test_the_shortest_training_has_every_stage(steps: int) -> None:
    for size in SIZES.values():
        schedule = make(steps, size)
        assert {schedule.stage(step) for step in range(steps)} == {0, 1, 2}


def test_a_training_too_short_for_its_stages_or_its_warmup_is_refused() -> None:
    with pytest.raises(ValueError, match="no room for three stages"):
        make(2)
    with pytest.raises(ValueError, match="--warmup_steps 11 is more than the 10 steps"):
        make(10, warmup_steps=11)


def test_each_stage_is_true_of_the_weights() -> None:
    model, schedule = make_model(), make(100)

    def ternary() -> list[bool]:
        """Of each block, whether all of its layers compute with at most three values; none or all."""
        found = []
        for block in model.blocks:
            layers = [module for module in block.modules() if isinstance(module, BitLinear)]
            values = [layer.effective_weight().unique() for layer in layers]
            few = {len(value) <= 3 for value in values}
            assert len(layers) == 4
            assert len(few) == 1
            if few == {True}:
                assert all(torch.equal(value, -value.flip(0)) for value in values)
            found.append(few.pop())
        return found

    for training in (True, False):  # QDrop is about activations: the weights are ternary in training as well
        model.train(training)
        assert schedule.apply(model, 0) == "warmup"
        assert ternary() == [False] * 4
        assert schedule.apply(model, 10) == "partial_ternary"
        assert ternary() == [False, False, True, True]
        assert schedule.apply(model, 40) == "full_ternary"
        assert ternary() == [True] * 4


def test_the_forward_pass_computes_with_the_quantised_weights() -> None:
    model, schedule = make_model().eval(), make(100)
    tokens = torch.randint(0, 20, (2, 8))
    outputs = []
    for step in (0, 10, 40):
        schedule.apply(model, step)
        model.set_warmth(1.0)
        outputs.append(model(tokens))
    assert not any(torch.allclose(outputs[one], outputs[other]) for one, other in ((0, 1), (1, 2), (0, 2)))
    schedule.apply(model, 40)
    model.set_warmth(1.0)
    with torch.no_grad():
        for _, layer in model.bit_linears():
            layer.weight.copy_(layer.effective_weight())
            layer.packed = True
    assert torch.equal(model(tokens), outputs[2])


def test_the_upper_half_of_an_odd_number_of_blocks_is_the_larger() -> None:
    assert [list(quantised_blocks(stage, 5)) for stage in range(3)] == [[], [2, 3, 4], [0, 1, 2, 3, 4]]


def test_qdrop_alpha_and_the_learning_rate_go_their_way() -> None:
    schedule = make(200, warmup_steps=20)
    assert [schedule.qdrop_at(step) for step in (0, 75, 150, 199)] == [0.5, 0.25, 0.0, 0.0]
    assert [schedule.warmth_at(step) for step in (0, 10, 20, 199)] == pytest.approx([0.1, 0.55, 1.0, 1.0])
    assert [schedule.learning_rate_at(step) for step in (0, 19, 20, 110)] == pytest.approx([5e-5, 1e-3, 1e-3, 5e-4])
    assert schedule.learning_rate_at(199) > 0
    assert make(200, qdrop_anneal=0.0).qdrop_at(0) == 0
    assert make(200, alpha_warmup=0.0).warmth_at(0) == 1


def test_a_decoder_sees_only_what_came_before_and_an_encoder_all() -> None:
    for causal in (True, False):
        model = make_model(causal).eval()
        make(100).apply(model, 99)
        tokens = torch.randint(0, 20, (1, 8))
        changed = tokens.clone()
        changed[0, 5:] = (changed[0, 5:] + 1) % 20
        assert torch.allclose(model(tokens)[0, :5], model(changed)[0, :5], atol=1e-6) is causal


# -- batches ----------------------------------------------------------------------------------------------------


def test_a_share_of_15_percent_is_asked_for_and_mostly_masked() -> None:
    questions, text = Questions(100, 50, causal=False), np.random.default_rng(0).integers(0, 50, 40_001)
    tokens, targets, places = questions.ask(text, np.arange(400), np.random.default_rng(1))
    assert places is not None
    assert places.shape == (400, 15)
    original = text[:40_000].reshape(400, 100)
    assert (np.take_along_axis(original, places, 1) == targets).all()
    shown = np.take_along_axis(tokens, places, 1)
    assert (shown == questions.mask).mean() == pytest.approx(0.8, abs=0.02)
    assert (shown == targets).mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.02)
    untouched = np.ones_like(tokens, dtype=bool)
    np.put_along_axis(untouched, places, False, axis=1)
    assert (tokens[untouched] == original[untouched]).all()
    assert all(len(set(row)) == 15 for row in places)


def test_an_epoch_shows_every_sequence_once_and_the_next_one_in_another_order() -> None:
    questions, text = Questions(4, 1000, causal=True), np.arange(4 * 24 + 1)

    def epoch(number: int) -> list[int]:
        steps = range(number * 6, number * 6 + 6)
        batches = [
            training_batches(questions, text, seed=1, step=step, steps_per_epoch=6, batch_size=2, micro_batches=2)
            for step in steps
        ]
        return [int(first) for step in batches for batch in step for first in batch.tokens[:, 0]]

    assert sorted(epoch(0)) == sorted(epoch(1)) == list(range(0, 96, 4))
    assert epoch(0) != epoch(1)


@pytest.mark.parametrize("causal", [True, False])
def test_ranks_and_micro_batches_share_the_sequences_of_one_large_batch(causal: bool) -> None:
    questions, text = Questions(8, 50, causal), np.random.default_rng(0).integers(0, 50, 8 * 40 + 1)
    common = {"seed": 5, "step": 7, "steps_per_epoch": 3}
    (whole,) = training_batches(questions, text, batch_size=12, micro_batches=1, **common)
    parts = [
        training_batches(questions, text, batch_size=2, micro_batches=3, rank=rank, world_size=2, **common)
        for rank in (0, 1)
    ]
    for name in ("tokens", "targets", *([] if causal else ["places"])):
        together = torch.cat([getattr(parts[rank][micro], name) for micro in range(3) for rank in (0, 1)])
        assert torch.equal(together, getattr(whole, name))


def test_the_validation_questions_never_change() -> None:
    questions, text = Questions(8, 50, causal=False), np.random.default_rng(0).integers(0, 50, 8 * 40 + 1)
    first, second = (validation_batches(questions, text, batch_size=4, batches=3) for _ in range(2))
    assert [len(batch.tokens) for batch in first] == [4, 4, 4]
    assert all(torch.equal(one.tokens, other.tokens) for one, other in zip(first, second, strict=True))
    assert sum(len(batch.tokens) for batch in validation_batches(questions, text, batch_size=7, batches=99)) == 40


# -- packing ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(-1, 1), max_size=40))
def test_what_is_packed_comes_back(values: list[int]) -> None:
    codes = torch.tensor(values, dtype=torch.int8)
    packed = pack(codes)
    assert len(packed) == -(-len(values) // 5)
    assert unpack(packed, [len(values)]).tolist() == values


def test_a_packed_model_takes_1_6_bits_a_weight_and_predicts_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = SIZES["nano"]
    model = BitNet(size, vocabulary=30, length=8, causal=True)
    make(100, size).apply(model, 99)
    with torch.no_grad():  # as if they had learned something
        for name, one in model.named_parameters():
            if name.endswith("log_factor"):
                one.add_(torch.randn(()) * 0.2)
    path = tmp_path / "ternary.pt"
    made = {"model_size": "nano", "vocabulary": 30, "length": 8, "causal": True}
    packed = save_packed(path, model, made)
    tokens = torch.randint(0, 30, (3, 8))
    assert torch.equal(load_packed(path)(tokens), model.eval()(tokens))
    assert packed.weights == 12 * size.width**2 * size.layers
    assert 1.6 <= packed.bits_per_weight < 1.61
    assert packed.file_bytes == path.stat().st_size < packed.full_bytes / 5
    assert 0.2 < packed.zero_share < 0.5
    assert packed.weights + packed.other_parameters == model.parameter_count()
    for _, layer in load_packed(path).bit_linears():
        assert len(layer.effective_weight().unique()) == 3


def test_a_file_that_is_no_packed_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(CheckpointError, match="is no packed model"):
        load_packed(path)
