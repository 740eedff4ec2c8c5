"""`watch()`: gradients of a model while a plain PyTorch loop trains it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import BadArgument

torch = pytest.importorskip("torch")

from lossbook.integrations import guard  # noqa: E402
from lossbook.integrations.torch import watch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))


def train(model: Any, steps: int, *, micro_batches: int = 1, after_backward: Any = None, optimizer: Any = None) -> None:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        for _ in range(micro_batches):
            model(torch.randn(8, 4)).square().mean().backward()
        if after_backward is not None:
            after_backward()
        optimizer.step()
        optimizer.zero_grad()


def recorded(store: Path) -> Any:
    return lossbook.open(str(store)).run("latest")


def values(run: Any, key: str) -> list[tuple[int, float]]:
    curve = run.curve(key)
    return [(int(step), float(value)) for step, value in zip(curve.x, curve.mean, strict=True)]


def test_each_layers_norm_is_that_of_its_gradient(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    expected: list[dict[str, float]] = []

    def note() -> None:
        expected.append({name: float(one.grad.norm()) for name, one in model.named_parameters()})

    with watch(model, run, log_every=1):
        train(model, 3, after_backward=note)
    run.finish()
    found = recorded(store)
    for name in expected[0]:
        assert [step for step, _ in values(found, f"gradients/norm/{name}")] == [0, 1, 2]
        for (_, value), norms in zip(values(found, f"gradients/norm/{name}"), expected, strict=True):
            assert value == pytest.approx(norms[name])
    total = math.sqrt(sum(norm**2 for norm in expected[2].values()))
    assert values(found, "gradients/norm/total")[2][1] == pytest.approx(total)


def test_rows_come_every_so_many_gradient_steps_however_many_micro_batches(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    watched = watch(model, run, log_every=5)
    train(model, 11, micro_batches=3)
    watched.remove()
    run.finish()
    assert watched.gradient_steps == 11
    assert [step for step, _ in values(recorded(store), "gradients/norm/total")] == [0, 5, 10]


def test_the_trainings_own_steps_go_on_as_if_nobody_watched(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, run, log_every=1):
        for _ in range(3):
            train(model, 1, optimizer=optimizer)
            run.log({"loss": 1.0})
    run.finish()
    assert [step for step, _ in values(recorded(store), "loss")] == [0, 1, 2]
    assert [step for step, _ in values(recorded(store), "gradients/norm/total")] == [0, 1, 2]


def test_a_resumed_run_counts_on_from_its_checkpoint(store: Path, model: Any) -> None:
    with lossbook.init(store=store, id="one") as run, watch(model, run, log_every=1):
        for step in range(4):
            train(model, 1)
            run.log({"loss": 1.0}, step=step)
    with lossbook.init(store=store, id="one", resume="must", resume_step=1) as run, watch(model, run, log_every=1):
        train(model, 2)
    assert [step for step, _ in values(recorded(store), "gradients/norm/total")] == [0, 1, 2, 3]


def test_distributions_count_every_value_and_name_what_is_not_finite(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    gradients: list[Any] = []

    def spoil() -> None:
        model[0].weight.grad[0, 0] = float("nan")
        model[0].weight.grad[0, 1] = float("inf")
        gradients.append(model[0].weight.grad.clone())

    with watch(model, run, log_every=1, histograms=True, bins=5):
        train(model, 1, after_backward=spoil)
    run.finish()
    events = {event["key"]: event for event in recorded(store).events("histogram")}
    assert set(events) == {f"gradients/{name}" for name, _ in model.named_parameters()}
    spoiled = events["gradients/0.weight"]
    finite = gradients[0][torch.isfinite(gradients[0])].double()
    counts, edges = torch.histogram(finite, 5, range=(float(finite.min()), float(finite.max())))
    assert spoiled["value"]["counts"] == counts.tolist()
    assert spoiled["value"]["edges"] == pytest.approx(edges.tolist())
    assert spoiled["value"]["nonfinite"] == 2
    assert spoiled["step"] == 0
    assert events["gradients/2.bias"]["value"]["counts"] == [1]


def test_parameters_can_be_watched_too(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    before = float(model[0].weight.detach().norm())
    with watch(model, run, gradients=False, parameters=True):
        train(model, 1)
    run.finish()
    assert values(recorded(store), "parameters/norm/0.weight") == [(0, pytest.approx(before))]
    keys = recorded(store).keys()
    assert keys
    assert all(key.startswith("parameters/norm/") for key in keys)


def test_layers_without_a_gradient_and_other_models_are_left_out(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    model[0].requires_grad_(False)
    with watch(model, run, log_every=1):
        train(model, 1)
        train(torch.nn.Linear(4, 1), 5)
    run.finish()
    assert sorted(recorded(store).keys()) == [
        "gradients/norm/2.bias",
        "gradients/norm/2.weight",
        "gradients/norm/total",
    ]
    assert len(values(recorded(store), "gradients/norm/total")) == 1


def test_two_optimizers_of_one_model_count_one_gradient_step(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.AdamW(model[2].parameters(), lr=0.1)
    with watch(model, run, log_every=2) as watched:
        for _ in range(4):
            model(torch.randn(8, 4)).square().mean().backward()
            first.step()
            second.step()
    run.finish()
    assert watched.gradient_steps == 4
    assert [step for step, _ in values(recorded(store), "gradients/norm/0.weight")] == [0, 2]
    assert [step for step, _ in values(recorded(store), "gradients/norm/2.weight")] == [0, 2]


def test_half_precision_and_sparse_gradients_are_taken(store: Path) -> None:
    run = lossbook.init(store=store)
    torch.manual_seed(1)
    half = torch.nn.Linear(300, 300, bias=False).to(torch.bfloat16)
    table = torch.nn.Embedding(10, 3, sparse=True)
    with watch(half, run, histograms=True), watch(table, run, histograms=True):
        half(torch.full((2, 300), 100.0, dtype=torch.bfloat16)).sum().backward()
        torch.optim.SGD(half.parameters(), lr=0.1).step()
        table(torch.tensor([1, 1, 4])).sum().backward()
        torch.optim.SGD(table.parameters(), lr=0.1).step()
    run.finish()
    norms = [value for _, value in values(recorded(store), "gradients/norm/weight")]
    # Both models call it "weight", and both rows are of the same step: the first and the second.
    assert norms == pytest.approx([200.0 * 300, math.sqrt(3 * 4 + 3)])


def test_nothing_is_recorded_after_remove_or_after_the_run(
    store: Path, model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run = lossbook.init(store=store)
    watched = watch(model, run, log_every=1)
    train(model, 1)
    watched.remove()
    train(model, 1)
    watch(model, run, log_every=1)
    run.finish()
    train(model, 1)
    assert [step for step, _ in values(recorded(store), "gradients/norm/total")] == [0]
    assert "after finish()" not in capfd.readouterr().err


def test_what_goes_wrong_while_watching_stays_out_of_training(
    store: Path, model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    guard.failed.clear()
    run = lossbook.init(store=store)

    def broken() -> int:
        raise RuntimeError("no step")

    with watch(model, run, log_every=1, step=broken):
        train(model, 3)
    assert capfd.readouterr().err.count("training goes on") == 1


def test_a_watch_without_a_run_says_so(model: Any) -> None:
    with pytest.raises(BadArgument, match=r"lossbook.init\(\)"):
        watch(model)
    with pytest.raises(BadArgument, match="log_every=0"):
        watch(model, lossbook.init(mode="disabled"), log_every=0)


def test_scaled_gradients_are_recorded_unscaled(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batch = torch.randn(8, 4)
    model(batch).square().mean().backward()
    expected = float(model[0].weight.grad.norm())
    model.zero_grad()
    # A fused optimizer unscales in its own kernel, behind the hook; with another one the scaler has done it before.
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.0, fused=fused) for fused in (True, False)]
    with watch(model, run, log_every=1, histograms=True):
        for optimizer in optimizers:
            scaler.scale(model(batch).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    run.finish()
    found = values(recorded(store), "gradients/norm/0.weight")
    # The first optimizer counts the steps; the other one's row is of the same step.
    assert [value for _, value in found] == pytest.approx([expected, expected])
    edges = [
        event["value"]["edges"] for event in recorded(store).events("histogram") if event["key"] == "gradients/0.weight"
    ]
    assert edges[0] == pytest.approx(edges[1])


DISTRIBUTED = """
import sys, torch, lossbook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from lossbook.integrations.torch import watch

torch.distributed.init_process_group("gloo")
for wrapping in ("whole", "sharded"):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
    if wrapping == "whole":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    run = lossbook.init(project=wrapping, store=sys.argv[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, run, log_every=1):
        for step in range(3):
            torch.manual_seed(step)
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    run.finish()
torch.distributed.destroy_process_group()
"""


def test_two_ranks_record_one_norm_also_of_sharded_gradients(store: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(DISTRIBUTED)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(program),
        str(store),
    ]
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lossbook.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr
    whole, sharded = (list(lossbook.open(str(store)).runs(project=name)) for name in ("whole", "sharded"))
    assert len(whole) == len(sharded) == 1
    found = values(whole[0], "gradients/norm/total")
    assert [step for step, _ in found] == [0, 1, 2]
    assert [norm for _, norm in values(sharded[0], "gradients/norm/total")] == pytest.approx(
        [norm for _, norm in found]
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_watching_never_waits_for_a_cuda_device(store: Path, model: Any) -> None:
    run = lossbook.init(store=store)
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    watched = watch(model, run, log_every=1, histograms=True, parameters=True)
    batch = torch.randn(8, 4, device="cuda")
    model(batch).square().mean().backward()
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    watched.remove()
    run.finish()
    assert [step for step, _ in values(recorded(store), "gradients/norm/total")] == list(range(21))
    histograms = [event for event in recorded(store).events("histogram") if event["key"] == "gradients/0.weight"]
    assert [event["step"] for event in histograms] == list(range(21))
    assert all(sum(event["value"]["counts"]) == 12 for event in histograms)
