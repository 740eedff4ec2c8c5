"""Pruning: it reaches its target on schedule, holds it, and every process and every resumed run has the same masks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from gpt2.model import GPT2, Size
from lossbook.errors import BadArgument
from trainers import checkpoint, pruning
from trainers.optimizers import OPTIMIZERS, make_optimizer
from trainers.pruning import SCORES, VARIANTS, Pruner

TOKENS = torch.arange(17).remainder(7).repeat(4, 1)
NEEDS_COMPILER = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="torch.compile needs a C++ compiler"
)
# torch warns of its own use of what it deprecates, once, when its compiler is first imported.
QUIET = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Training:
    """A small GPT-2 that learns a sequence, as a trainer would have it."""

    def __init__(self, optimizer: str = "adamwprune", layers: int = 2, rate: float = 3e-3, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = GPT2(Size(layers, 2, 32), 16, 16)
        self.optimizer = make_optimizer(optimizer, self.model, learning_rate=rate, weight_decay=0.1)
        given = {"method": "magnitude", "target": 0.5, "warmup_steps": 4, "ramp_end": 24, "frequency": 5, **options}
        self.pruner = Pruner(self.model, self.optimizer, **given)
        self.steps = 0

    def backward(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self.model(TOKENS[:, :-1], TOKENS[:, 1:])
        loss.backward()
        return loss.detach()

    def train(self, steps: int) -> list[float]:
        """The sparsity after each step."""
        shares = []
        for _ in range(steps):
            self.backward()
            self.pruner.mask_gradients()
            self.optimizer.step()
            self.steps += 1
            self.pruner.step(self.steps)
            shares.append(self.pruner.sparsity())
        return shares


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


@pytest.mark.parametrize("method", ["magnitude", "state"])
def test_the_ramp_is_cubic_and_its_end_is_the_target(method: str) -> None:
    shares = Training(method=method).train(40)
    # Every 5 steps after step 4: at 9 a quarter of the ramp is done, at 14 half of it.
    for step, share in (
        (8, 0.0),
        (9, 0.5 / 64),
        (13, 0.5 / 64),
        (14, 0.5 / 8),
        (19, 0.5 * 27 / 64),
        (24, 0.5),
        (40, 0.5),
    ):
        assert shares[step - 1] == pytest.approx(share, abs=0.0005), step


def test_movement_has_a_linear_ramp() -> None:
    shares = Training(method="movement").train(30)
    for step, share in ((8, 0.0), (9, 0.125), (14, 0.25), (19, 0.375), (24, 0.5), (30, 0.5)):
        assert shares[step - 1] == pytest.approx(share, abs=0.0005), step


def test_the_end_of_the_ramp_prunes_though_it_is_no_multiple_of_the_frequency() -> None:
    assert Training(ramp_end=22, frequency=50).train(25)[20:] == pytest.approx([0.0] + [0.5] * 4, abs=0.0005)


def test_without_a_method_nothing_is_pruned_and_training_is_as_it_was() -> None:
    plain, pruned = Training(method="none", target=0.0), Training(method="none", target=0.5)
    assert pruned.train(30) == [0.0] * 30
    plain.train(30)
    assert all(
        torch.equal(one, other) for one, other in zip(plain.model.parameters(), pruned.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero_under_every_optimizer(optimizer: str) -> None:
    training = Training(optimizer, method="magnitude", target=0.7, rate=0.03 if optimizer == "sgd" else 3e-3)
    training.train(24)
    dead = {name: ~mask for name, mask in training.pruner.masks.items()}
    alive = weights(training.model)
    for share in training.train(10):
        assert share == pytest.approx(0.7, abs=0.0005)
    for name, parameter in training.pruner.parameters.items():
        assert parameter[dead[name]].abs().max() == 0
        assert not torch.equal(parameter[~dead[name]], alive[name][~dead[name]]), "the others go on learning"
        for kept in training.optimizer.state[parameter].values():
            if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                assert kept[dead[name]].abs().max() == 0


def test_the_forward_pass_uses_the_zeros_and_the_gradient_norm_is_of_what_is_left() -> None:
    training = Training(target=0.6)
    training.train(24)
    training.backward()
    everything = torch.nn.utils.get_total_norm([one.grad for one in training.model.parameters()])
    training.pruner.mask_gradients()
    masked = torch.nn.utils.get_total_norm([one.grad for one in training.model.parameters()])
    assert masked < everything
    for name, mask in training.pruner.masks.items():
        assert training.pruner.parameters[name].grad[~mask].abs().max() == 0
    # What a model without any pruner computes from the same weights.
    other = GPT2(Size(2, 2, 32), 16, 16)
    other.load_state_dict(training.model.state_dict())
    assert torch.equal(other(TOKENS[:, :-1]), training.model(TOKENS[:, :-1]))


def test_gradients_are_masked_even_where_the_trainer_forgets_it() -> None:
    training = Training("sgd", rate=0.03)
    training.train(24)
    training.backward()
    training.optimizer.step()
    for name, mask in training.pruner.masks.items():
        assert training.pruner.parameters[name][~mask].abs().max() == 0


def test_magnitude_takes_the_smallest_weights_of_all_layers_together() -> None:
    training = Training(target=0.4, warmup_steps=0, ramp_end=1)
    with torch.no_grad():
        training.pruner.parameters["blocks.0.up.weight"].mul_(0.01)
    before = weights(training.model)
    training.pruner.step(1)
    gone = torch.cat([before[name][~mask].abs() for name, mask in training.pruner.masks.items()])
    left = torch.cat([before[name][mask].abs() for name, mask in training.pruner.masks.items()])
    assert gone.max() <= left.min()
    assert len(gone) == pytest.approx(0.4 * (len(gone) + len(left)), abs=8)
    assert not training.pruner.masks["blocks.0.up.weight"].any(), (
        "one threshold for all: the layer of small weights is gone"
    )


def test_movement_takes_what_moved_most_towards_zero() -> None:
    training = Training(method="movement", target=0.3, warmup_steps=0, ramp_end=1)
    before = weights(training.model)
    with torch.no_grad():
        for parameter in training.pruner.parameters.values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    now = weights(training.model)
    training.pruner.step(1)
    score = {name: now[name] * (now[name] - before[name]) for name in training.pruner.masks}
    gone = torch.cat([score[name][~mask] for name, mask in training.pruner.masks.items()])
    left = torch.cat([score[name][mask] for name, mask in training.pruner.masks.items()])
    assert gone.max() <= left.min()
    assert gone.max() < 0


def expected(variant: str, w: float, m: float, v: float) -> float:
    sign = (w > 0) - (w < 0)
    return {
        "b0": abs(w * m) * abs(w) / v**0.5,
        "b1": abs(w),
        "b2": abs(w),
        "b3": abs(w) * abs(m) ** 0.5,
        "b4": abs(w) * abs(m) ** 0.5,
        "b5": sign * m / v**0.5 + 0.1 * abs(w),
        "b6": abs(w) * abs(m) ** 0.5 * (m * m / v) ** 0.5,
        "b7": abs(w) * v**0.25,
        "b8": abs(w) * v**0.25,
        "b9": abs(w) * v**0.25,
    }[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_has_its_score(variant: str) -> None:
    draw = torch.Generator().manual_seed(1)
    weight, first = torch.randn(50, generator=draw), 0.01 * torch.randn(50, generator=draw)
    second = 1e-4 * torch.rand(50, generator=draw) + 1e-6
    scores = SCORES[variant](weight, first, second)
    rows = zip(weight.tolist(), first.tolist(), second.tolist(), strict=True)
    reference = torch.tensor([expected(variant, *row) for row in rows])
    torch.testing.assert_close(scores, reference, rtol=0.02 if variant == "b8" else 1e-4, atol=1e-7)
    assert scores.dtype == torch.float32


@QUIET
@pytest.mark.parametrize("variant", [*VARIANTS[:-1], pytest.param("b9", marks=NEEDS_COMPILER)])
def test_every_variant_of_state_pruning_reaches_its_target_and_the_loss_falls(variant: str) -> None:
    training = Training(method="state", variant=variant)
    first = float(training.backward())
    shares = training.train(40)
    assert shares[23:] == pytest.approx([0.5] * 17, abs=0.0005)
    assert float(training.backward()) < first - 0.5


@QUIET
@NEEDS_COMPILER
def test_b8_and_b9_prune_what_b7_prunes() -> None:
    def masks(variant: str) -> Tensor:
        training = Training(method="state", variant=variant)
        training.train(24)
        return torch.cat([mask.flatten() for mask in training.pruner.masks.values()])

    exact = masks("b7")
    assert torch.equal(masks("b9"), exact)
    assert 0.97 < float((masks("b8") == exact).float().mean()) < 1, "equal scores in half precision are not all pruned"


def test_b4_prunes_deep_layers_more_and_still_reaches_the_target() -> None:
    for target in (0.5, 0.9):
        training = Training(method="state", variant="b4", layers=4, target=target)
        assert training.train(24)[-1] == pytest.approx(target, abs=0.002)
        layers = []
        for depth in range(4):
            masks = [mask for name, mask in training.pruner.masks.items() if name.startswith(f"blocks.{depth}.")]
            layers.append(1 - float(torch.cat([mask.flatten() for mask in masks]).float().mean()))
        if target == 0.5:
            assert layers == pytest.approx([0.35, 0.45, 0.55, 0.65], abs=0.002)
        else:  # 1.17 of a layer cannot be taken: none is emptied, the others give more
            assert layers == sorted(layers)
            assert layers[-1] == pytest.approx(0.99, abs=0.002)


def test_embeddings_and_the_tied_head_are_pruned_only_when_asked() -> None:
    training = Training(target=0.9)
    training.train(24)
    for name, parameter in training.model.named_parameters():
        zeros = 1 - float(parameter.count_nonzero()) / parameter.numel()
        assert (zeros > 0.01) == (name in training.pruner.masks) or parameter.dim() == 1, name
    assert not {"tokens.weight", "positions.weight"} & set(training.pruner.masks)
    asked = Training(target=0.9, include_embeddings=True)
    assert asked.train(24)[-1] == pytest.approx(0.9, abs=0.0005)
    assert {"tokens.weight", "positions.weight"} <= set(asked.pruner.masks)
    assert all(parameter.dim() == 2 for parameter in asked.pruner.parameters.values())


@pytest.mark.parametrize("method", ["magnitude", "movement", "state"])
def test_a_resumed_run_prunes_as_if_it_never_stopped(method: str, tmp_path: Path) -> None:
    whole = Training(method=method, variant="b6")
    whole.train(15)  # amid the ramp
    checkpoint.save(
        tmp_path / "last.pt",
        {
            "model": whole.model.state_dict(),
            "optimizer": whole.optimizer.state_dict(),
            "pruner": whole.pruner.state_dict(),
        },
    )
    state = checkpoint.load(tmp_path / "last.pt")
    again = Training(method=method, variant="b6")
    again.model.load_state_dict(state["model"])
    again.optimizer.load_state_dict(state["optimizer"])
    again.pruner.load_state_dict(state["pruner"])
    again.steps = 15
    assert again.pruner.sparsity() == whole.pruner.sparsity()
    assert again.train(20) == whole.train(20)
    assert whole.pruner.sparsity() == pytest.approx(0.5, abs=0.0005)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_resumed_after_the_ramp_keeps_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "SAMPLE", 100)  # another sample would have another threshold
    training, again = Training(), Training()
    training.train(24)
    share = training.pruner.sparsity()
    again.pruner.load_state_dict(training.pruner.state_dict())
    again.steps = 24
    assert again.train(10) == [share] * 10


def test_the_saved_state_is_no_view_of_masks_that_change_later() -> None:
    training = Training()
    training.train(10)
    state = training.pruner.state_dict()
    counts = {name: int(mask.sum()) for name, mask in state["masks"].items()}
    training.train(14)
    assert {name: int(mask.sum()) for name, mask in state["masks"].items()} == counts


@pytest.mark.parametrize("variant", ["b4", "b7", "b8"])
def test_a_sample_finds_the_exact_threshold_without_ordering_all_scores(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered: list[int] = []
    kthvalue, sort = Tensor.kthvalue, Tensor.sort
    for name, method in (("kthvalue", kthvalue), ("sort", sort)):

        def counted(self: Tensor, *arguments: Any, method: Any = method) -> Any:
            ordered.append(len(self))
            return method(self, *arguments)

        monkeypatch.setattr(Tensor, name, counted)
    exact = Training(method="state", variant=variant, layers=4)
    exact.train(40)
    most = max(ordered)
    ordered.clear()
    monkeypatch.setattr(pruning, "SAMPLE", 2_000)
    sampled = Training(method="state", variant=variant, layers=4)
    assert sampled.train(40)[-1] == pytest.approx(0.5, abs=0.0005)
    assert max(ordered) < most / 2
    # Which of equal scores go is drawn by lot, so half precision may differ.
    same = [float((mask == sampled.pruner.masks[name]).float().mean()) for name, mask in exact.pruner.masks.items()]
    assert min(same) > (0.95 if variant == "b8" else 0.999)


def test_equal_scores_are_not_all_pruned_together() -> None:
    training = Training(target=0.25, warmup_steps=0, ramp_end=1)
    with torch.no_grad():
        for parameter in training.pruner.parameters.values():
            parameter.fill_(0.02)
    training.pruner.step(1)
    assert training.pruner.sparsity() == pytest.approx(0.25, abs=0.001)
    assert all(0.2 < 1 - float(mask.float().mean()) < 0.3 for mask in training.pruner.masks.values())


def prune_on_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    training = Training(method="state", target=0.6)
    model = nn.parallel.DistributedDataParallel(training.model)
    pruner = Pruner(
        model, training.optimizer, method="state", target=0.6, warmup_steps=4, ramp_end=24, frequency=5, variant="b6"
    )
    for step in range(1, 30):
        training.optimizer.zero_grad(set_to_none=True)
        mine = TOKENS[2 * rank : 2 * rank + 2].roll(rank, 1)
        model(mine[:, :-1], mine[:, 1:]).backward()
        pruner.mask_gradients()
        training.optimizer.step()
        if step == 9:
            # Moments that differ in the last bits, as another kernel's would.
            for parameter in pruner.parameters.values():
                training.optimizer.state[parameter]["exp_avg"].mul_(1 + 0.3 * rank * torch.rand_like(parameter))
        pruner.step(step)
    torch.save({"masks": pruner.masks, "sparsity": pruner.sparsity()}, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_all_ranks_have_the_same_masks(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(prune_on_a_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["masks"].keys() == second["masks"].keys()
    assert first["masks"]
    assert all(torch.equal(mask, second["masks"][name]) for name, mask in first["masks"].items())
    assert first["sparsity"] == second["sparsity"] == pytest.approx(0.6, abs=0.0005)


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        ("sgd", {"method": "state"}, "two moments of Adam, which SGD does not have: use adamwprune"),
        ("muon", {"method": "state"}, "which Muon does not have"),
        ("adamw", {"method": "lottery"}, "use one of none, magnitude, movement, state"),
        ("adamwprune", {"method": "state", "variant": "b10"}, "no pruning variant 'b10'"),
        ("adamw", {"target": 50}, "a share from 0 to below 1, not 50"),
        ("adamw", {"target": float("nan")}, "a share from 0 to below 1"),
        ("adamw", {"warmup_steps": 24}, "step 24 is not after 24"),
        ("adamw", {"frequency": 0}, "use 1 or more"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(optimizer: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        Training(optimizer, **options)


def test_the_state_of_another_run_is_refused() -> None:
    training = Training()
    training.train(24)
    with pytest.raises(BadArgument, match="pruned by magnitude, which cannot become movement"):
        Training(method="movement").pruner.load_state_dict(training.pruner.state_dict())
    deeper = Training(layers=3)
    deeper.train(24)
    with pytest.raises(BadArgument, match="another model"):
        training.pruner.load_state_dict(deeper.pruner.state_dict())
