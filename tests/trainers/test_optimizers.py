"""The optimizers: each update is the reference's, decay is on matrices alone, and a resumed one goes on as if it never stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt2.model import GPT2, Size
from lossbook.errors import BadArgument
from trainers import checkpoint
from trainers.optimizers import (
    OPTIMIZERS,
    Spam,
    hidden_matrices,
    make_optimizer,
    orthogonalise,
    parameter_groups,
    step_hooks,
)

RATE, DECAY = 0.01, 0.1


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class Small(nn.Module):
    """An embedding, two hidden layers (one of them a fused query-key-value), a norm, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.qkv = nn.Linear(6, 18)
        self.down = nn.Linear(18, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.down(self.qkv(self.tokens(tokens)).relu())))


def twins() -> tuple[Small, Small]:
    first, second = Small(), Small()
    second.load_state_dict(first.state_dict())
    return first, second


def gradients(model: nn.Module, step: int, size: float = 1.0) -> None:
    """The same gradients for every model of a shape, others each step."""
    draw = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=draw)


def split(model: nn.Module) -> list[dict[str, Any]]:
    """The usual two groups, by hand."""
    matrices = [one for one in model.parameters() if one.dim() >= 2]
    vectors = [one for one in model.parameters() if one.dim() < 2]
    return [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]


def make(name: str, model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return make_optimizer(name, model, learning_rate=RATE, weight_decay=DECAY, **options)


def same(first: nn.Module, second: nn.Module, **tolerance: float) -> None:
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9)),
        ("adam", lambda groups: torch.optim.Adam(groups, lr=RATE, betas=(0.9, 0.95))),
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))),
        ("adamwprune", lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))),
    ],
)
def test_updates_equal_torchs_own(name: str, reference: Any) -> None:
    ours, theirs = twins()
    optimizer, other = make(name, ours), reference(split(theirs))
    for step in range(20):
        gradients(ours, step), gradients(theirs, step)
        optimizer.step(), other.step()
    same(ours, theirs)


def test_adamwadv_is_amsgrad_on_centred_gradients_of_hidden_matrices() -> None:
    ours, theirs = twins()
    optimizer = make("adamwadv", ours)
    other = torch.optim.AdamW(split(theirs), lr=RATE, betas=(0.9, 0.95), amsgrad=True)
    for step in range(20):
        # Large at first, so that the largest second moment is not the latest.
        gradients(ours, step, 5.0 if step < 3 else 1.0), gradients(theirs, step, 5.0 if step < 3 else 1.0)
        for layer in (theirs.qkv, theirs.down):
            layer.weight.grad -= layer.weight.grad.mean(dim=1, keepdim=True)
        optimizer.step(), other.step()
    same(ours, theirs)
    # A centred step has no mean: of the weights only the decay changes it.
    assert not torch.allclose(ours.tokens.weight.grad.mean(dim=1), torch.zeros(11), atol=1e-3)


def test_adamwspam_follows_the_papers_equations() -> None:
    theta, interval, warmup = 2.0, 7, 4
    model = nn.Linear(5, 3, bias=False)
    optimizer = make("adamwspam", model, spam_theta=theta, spam_interval=interval, spam_warmup=warmup)
    weight = model.weight.detach().double().clone()
    first, second, since, reset = torch.zeros_like(weight), torch.zeros_like(weight), 0, 0
    clipped = 0
    for step in range(1, 24):
        gradients(model, step, 10.0 if step % 5 == 0 else 1.0)
        grad = model.weight.grad.double().clone()
        if step % interval == 0:
            first, second, since, reset = torch.zeros_like(weight), torch.zeros_like(weight), 0, step
        limit = (theta * second).sqrt()
        spikes = (grad.square() > theta * second) & (second > 0)
        grad = torch.where(spikes, grad.sign() * limit, grad)
        clipped += int(spikes.sum())
        since += 1
        first, second = 0.9 * first + 0.1 * grad, 0.95 * second + 0.05 * grad.square()
        share = 1.0 if not reset else 0.5 * (1 - math.cos(math.pi * min(1, (step - reset + 1) / warmup)))
        rate = RATE * share
        weight -= rate * DECAY * weight
        weight -= rate * (first / (1 - 0.9**since)) / ((second / (1 - 0.95**since)).sqrt() + 1e-8)
        optimizer.step()
        torch.testing.assert_close(model.weight.double(), weight, rtol=1e-4, atol=1e-6)
        assert optimizer.param_groups[0]["lr"] == RATE, "the schedule's learning rate is left as it was"
    assert clipped > 20, "the spikes were there to be clipped"


def test_adamwspam_counts_a_step_once() -> None:
    model, make_again = Small(), Small()
    make("adamw", make_again).step()  # torch wraps the step of a class once one of it is made
    optimizer = make("adamwspam", model, spam_interval=5, spam_warmup=2)
    resets = []
    for step in range(1, 13):
        gradients(model, step)
        optimizer.step()
        assert isinstance(optimizer, Spam)
        assert optimizer.steps == step
        resets.append(optimizer.last_reset)
    assert resets == [None] * 4 + [5] * 5 + [10] * 3
    assert float(optimizer.state[model.down.weight]["step"]) == 3.0, "steps since the reset, for the bias correction"


def test_without_spikes_or_resets_adamwspam_is_adamw() -> None:
    ours, theirs = twins()
    optimizer, other = make("adamwspam", ours, spam_theta=0.0, spam_interval=0), make("adamw", theirs)
    for step in range(10):
        gradients(ours, step), gradients(theirs, step)
        optimizer.step(), other.step()
    same(ours, theirs)


def test_adamwspam_does_not_count_a_step_that_the_gradient_scaler_leaves_out() -> None:
    model = Small()
    optimizer = make("adamwspam", model, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = [one.detach().clone() for one in model.parameters()]
    for size, steps in ((math.inf, 0), (1.0, 1)):
        optimizer.zero_grad()
        scaler.scale(model(torch.arange(11)).sum() * size).backward()
        scaler.step(optimizer)
        scaler.update()
        assert optimizer.steps == steps
        moved = any(not torch.equal(one, old) for one, old in zip(model.parameters(), before, strict=True))
        assert moved == bool(steps)


def test_an_optimizer_says_what_it_asks_of_the_loop() -> None:
    model = Small()
    plain = make("adamw", model)
    assert step_hooks(plain).warmth() == 1.0
    spam = make("adamwspam", model, spam_interval=1, spam_warmup=1)
    assert step_hooks(spam) is spam


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_kernels_change_nothing(name: str) -> None:
    ours, theirs = twins()
    optimizer, other = make(name, ours, fused=True), make(name, theirs)
    for step in range(10):
        gradients(ours, step), gradients(theirs, step)
        optimizer.step(), other.step()
    same(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_spike_of_the_norm_damps_the_moments_where_it_is_asked_for() -> None:
    def moments(zscore: float, spike: float, observed: float | None = None) -> tuple[Tensor, Tensor]:
        model = nn.Linear(4, 4, bias=False)
        optimizer = make("adamwspam", model, spam_theta=0.0, spam_zscore=zscore)
        for step in range(101):
            gradients(model, step, spike if step == 100 else 1.0)
            if step == 100 and observed is not None:
                optimizer.observe_norm(torch.tensor(observed))
            optimizer.step()
        state = optimizer.state[model.weight]
        return state["exp_avg"], state["exp_avg_sq"]

    draw = torch.Generator().manual_seed(100)
    grad = 30 * torch.randn((4, 4), generator=draw)
    (plain, plain_squares), (damped, damped_squares) = moments(0.0, 30.0), moments(2.0, 30.0)
    torch.testing.assert_close(damped - 0.1 * grad, 0.5 * (plain - 0.1 * grad), rtol=1e-3, atol=1e-4)
    squares = 0.05 * grad.square()
    torch.testing.assert_close(damped_squares - squares, 0.9 * (plain_squares - squares), rtol=1e-2, atol=1e-4)
    # An ordinary gradient leaves them; but where the trainer says what the norm was before it clipped, that counts.
    torch.testing.assert_close(moments(2.0, 1.0)[0], moments(0.0, 1.0)[0])
    assert not torch.allclose(moments(2.0, 1.0, observed=120.0)[0], moments(0.0, 1.0)[0])


@pytest.mark.parametrize("shape", [(32, 32), (48, 16), (16, 48), (3, 16, 16)])
def test_newton_schulz_brings_all_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    near = orthogonalise(matrix)
    values = torch.linalg.svdvals(near)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    # Its direction is that of U V'.
    exact = left @ right
    cosine = (near * exact).sum() / (near.norm() * exact.norm())
    assert float(cosine) > 0.95


@pytest.mark.parametrize(("scale", "adjusted"), [("original", "original"), ("adamw", "match_rms_adamw")])
def test_muon_equals_torchs_own_for_hidden_matrices_and_adamw_for_the_rest(scale: str, adjusted: str) -> None:
    ours, theirs = twins()
    optimizer = make("muon", ours, muon_scale=scale)
    hidden = torch.optim.Muon([theirs.down.weight], lr=RATE, weight_decay=DECAY, momentum=0.95, adjust_lr_fn=adjusted)
    rest = torch.optim.AdamW(
        [
            {"params": [theirs.tokens.weight], "weight_decay": DECAY},
            {"params": [one for one in theirs.parameters() if one.dim() < 2], "weight_decay": 0.0},
        ],
        lr=RATE,
        betas=(0.9, 0.95),
    )
    for step in range(10):
        gradients(ours, step), gradients(theirs, step)
        optimizer.step(), hidden.step(), rest.step()
    with torch.no_grad():
        theirs.qkv.weight.copy_(ours.qkv.weight)  # the next test is about that one
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # torch's orthogonalises in bfloat16.
        tolerance = {"rtol": 0.02, "atol": 0.02} if name == "down.weight" else {}
        torch.testing.assert_close(one, other, **tolerance)


def test_muon_orthogonalises_query_key_and_value_each_by_itself() -> None:
    model = Small()
    before = model.qkv.weight.detach().clone()
    optimizer = make_optimizer("muon", model, learning_rate=1.0, weight_decay=0.0, muon_scale="original")
    gradients(model, 1)
    optimizer.step()
    moved = before - model.qkv.weight.detach()
    torch.testing.assert_close(
        moved, orthogonalise(model.qkv.weight.grad.view(3, 6, 6)).view(18, 6), rtol=1e-3, atol=1e-3
    )
    assert not torch.allclose(moved, orthogonalise(model.qkv.weight.grad), atol=0.05)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_matrices_decay(name: str) -> None:
    model = Small()
    nn.init.ones_(model.down.bias)
    optimizer = make(name, model)
    before = {key: one.detach().clone() for key, one in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, one in model.named_parameters():
        changed = not torch.equal(one, before[key])
        assert changed == (one.dim() >= 2), key
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_groups_are_the_same_behind_wrappers() -> None:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = GPT2(Size(2, 2, 16), 32, 8)
    shapes = [[tuple(one.shape) for one in group["params"]] for group in parameter_groups(model, 0.1)]
    for other in (Wrapped(model), torch.compile(model, backend="eager"), Wrapped(Wrapped(model))):
        assert [[tuple(one.shape) for one in group["params"]] for group in parameter_groups(other, 0.1)] == shapes
        assert list(hidden_matrices(other)) == list(hidden_matrices(model))


def test_embeddings_and_heads_are_no_hidden_matrices() -> None:
    assert list(hidden_matrices(Small())) == ["qkv.weight", "down.weight"]
    untied = Small()
    untied.head = nn.Linear(6, 11, bias=False)
    assert list(hidden_matrices(untied)) == ["qkv.weight", "down.weight"]
    names = hidden_matrices(GPT2(Size(2, 2, 16), 32, 8))
    assert len(names) == 8
    assert all(name.startswith("blocks.") for name in names)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_goes_on_as_if_it_never_stopped(name: str, tmp_path: Any) -> None:
    options = {"spam_interval": 6, "spam_warmup": 4, "spam_zscore": 0.5}
    whole, parted = twins()
    optimizer = make(name, whole, **options)
    for step in range(130):
        gradients(whole, step)
        optimizer.step()
        if step == 113:  # its 114th, a reset: the next steps are its warm-up
            checkpoint.save(tmp_path / "last.pt", {"model": whole.state_dict(), "optimizer": optimizer.state_dict()})
    state = checkpoint.load(tmp_path / "last.pt")
    parted.load_state_dict(state["model"])
    again = make(name, parted, **options)
    again.load_state_dict(state["optimizer"])
    for step in range(114, 130):
        gradients(parted, step)
        again.step()
    same(whole, parted, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss_of_a_small_gpt2(name: str) -> None:
    model = GPT2(Size(2, 2, 32), 16, 16)
    optimizer = make_optimizer(name, model, learning_rate=0.03 if name == "sgd" else 3e-3, weight_decay=0.1)
    tokens = torch.arange(17).remainder(7).repeat(4, 1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "lion"}, "use one of sgd, adam, adamw"),
        ({"spam_thetta": 3}, "no option spam_thetta"),
        ({"learning_rate": float("nan")}, "learning_rate cannot be nan"),
        ({"beta2": 1.0}, "beta2 cannot be 1.0"),
        ({"name": "adamwspam", "spam_interval": 10, "spam_warmup": 11}, "make the interval longer"),
        ({"name": "adamwspam", "spam_theta": -1.0}, "must be 0 or more"),
        ({"name": "muon", "muon_scale": "bigger"}, "must be adamw or original"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(change: dict[str, Any], said: str) -> None:
    given = {"name": "adamw", "learning_rate": RATE, "weight_decay": DECAY, **change}
    with pytest.raises(BadArgument, match=said):
        make_optimizer(given.pop("name"), Small(), **given)


def test_adamwspam_refuses_the_state_of_another_optimizer() -> None:
    with pytest.raises(BadArgument, match="not of adamwspam"):
        make("adamwspam", Small()).load_state_dict(make("adamw", Small()).state_dict())
