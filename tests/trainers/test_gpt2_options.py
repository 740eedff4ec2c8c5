"""The GPT-2 trainer with each optimizer and pruning method: flags, names, figures, resuming, sampling."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import pytest
import torch

import lossbook
from gpt2 import train as trainer
from gpt2.arguments import parse
from gpt2.model import GPT2, SIZES, Size
from trainers import checkpoint, sampling
from trainers.optimizers import OPTIMIZERS
from trainers.text import load_text

TINY = ["--size", "nano", "--context", "16", "--batch-size", "4", "--warmup-steps", "2", "--eval-batches", "2",
        "--eval-interval", "10", "--log-interval", "2", "--device", "cpu"]  # fmt: skip
PRUNE = ["--prune-frequency", "2", "--prune-warmup", "2"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "fable.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 60)
    return path


@pytest.fixture
def train(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def run(*arguments: str, code: int = 0) -> lossbook.RecordedRun:
        given = [] if "--resume" in arguments else ["--dataset", str(text), *TINY]
        assert trainer.main([*given, *arguments]) == code
        return lossbook.open().run("latest")

    return run


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    original = trainer.learning_rate

    def at(step: int) -> None:
        def learning_rate(now: int, args: argparse.Namespace) -> float:
            if now == step - 1:
                signal.raise_signal(signal.SIGINT)
            return original(now, args)

        monkeypatch.setattr(trainer, "learning_rate", learning_rate)

    yield at
    monkeypatch.setattr(trainer, "learning_rate", original)


def values(run: lossbook.RecordedRun, key: str) -> list[float]:
    return [row[2] for row in run.history([key]).rows()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss_and_goes_on_bit_for_bit(optimizer: str, train, stop_at) -> None:  # type: ignore[no-untyped-def]
    rate = {"sgd": "0.3"}.get(optimizer, "3e-3")
    # Resets and spikes of adamwspam fall into the twenty steps.
    flags = [
        "--optimizer",
        optimizer,
        "--pruning",
        "none",
        "--steps",
        "20",
        "--learning-rate",
        rate,
        "--spam-interval",
        "6",
        "--spam-warmup",
        "3",
        "--spam-zscore",
        "1",
    ]
    whole = train(*flags)
    assert whole.config["optimizer"] == optimizer
    assert values(whole, "val_loss")[-1] < values(whole, "val_loss")[0] - 0.5
    stop_at(9)
    stopped = train(*flags, code=130)
    stop_at(-1)
    resumed = train("--resume", stopped.id)
    for key in ("train_loss", "val_loss", "grad_norm", "learning_rate"):
        assert values(resumed, key) == values(whole, key), key


def test_the_learning_rate_of_spam_is_what_its_steps_have(train) -> None:  # type: ignore[no-untyped-def]
    flags = ["--steps", "8", "--warmup-steps", "0", "--min-learning-rate", "1e-3"]
    rates = values(
        train(*flags, "--optimizer", "adamwspam", "--spam-interval", "4", "--spam-warmup", "2"), "learning_rate"
    )
    # Half at the reset, as the cosine is half way up, and all of it from the step after.
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4, 1e-3, 1e-3, 1e-3, 5e-4])


@pytest.mark.parametrize("method", ["magnitude", "movement", "state"])
def test_pruning_reaches_its_target_and_keeps_it_through_a_resume(method: str, train, stop_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    flags = [
        "--optimizer",
        "adamwprune",
        "--pruning",
        method,
        "--sparsity",
        "50",
        "--steps",
        "20",
        *PRUNE,
        "--prune-end",
        "10",
    ]
    whole = train(*flags)
    assert whole.summary["final/sparsity"] == pytest.approx(0.5, abs=0.01)
    assert values(whole, "sparsity")[0] == 0
    stop_at(13)
    stopped = train(*flags, code=130)
    stop_at(-1)
    state = checkpoint.load(tmp_path / "checkpoints" / stopped.id / "last.pt")
    assert state["pruner"]["masks"]
    resumed = train("--resume", stopped.id)
    assert values(resumed, "train_loss") == values(whole, "train_loss")
    assert resumed.summary["final/sparsity"] == whole.summary["final/sparsity"]
    # The reported share is that of the zeros in the weights that were saved; embeddings have none.
    weights = checkpoint.load(tmp_path / "checkpoints" / resumed.id / "last.pt")["model"]
    matrices = [one for name, one in weights.items() if name.startswith("blocks") and one.dim() == 2]
    zeros = sum(int((one == 0).sum()) for one in matrices) / sum(one.numel() for one in matrices)
    assert zeros == pytest.approx(resumed.summary["final/sparsity"])
    assert int((weights["tokens.weight"] == 0).sum()) == 0


def test_the_name_says_model_optimizer_variant_method_and_sparsity(train) -> None:  # type: ignore[no-untyped-def]
    flags = ["--optimizer", "adamwprune", "--prune-variant", "b7", "--sparsity", "50", "--steps", "2"]
    assert train(*flags).name.startswith("gpt2-nano_adamwprune_b7_state_50_")
    assert train("--pruning", "magnitude", "--sparsity", "0.75", "--steps", "2").name.startswith(
        "gpt2-nano_adamw_magnitude_75_"
    )


def test_what_pruning_means_where_little_is_said() -> None:
    assert parse(["--optimizer", "adamwprune"]).pruning == "state"
    assert parse(["--optimizer", "adamwprune"]).sparsity == 0.5
    assert parse(["--optimizer", "adamwprune", "--pruning", "none"]).sparsity == 0
    assert parse([]).pruning == "none"
    assert parse(["--pruning", "movement", "--sparsity", "90"]).sparsity == pytest.approx(0.9)
    args = parse(["--pruning", "movement", "--steps", "1000"])
    assert (args.prune_warmup, args.prune_end) == (100, 750)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sparsity", "50"], "--sparsity 50 needs --pruning magnitude, movement, state: name one"),
        (["--pruning", "state"], "--pruning state reads the moments of adamwprune, not of adamw"),
        (
            ["--pruning", "magnitude", "--sparsity", "100"],
            "--sparsity must be above 0 and below 1, or above 1 and below",
        ),
        (["--pruning", "magnitude", "--sparsity", "nan"], "--sparsity must be above 0"),
        (
            ["--pruning", "magnitude", "--prune-warmup", "9", "--prune-end", "9"],
            "--prune-end must be after --prune-warmup 9",
        ),
        (["--optimizer", "lion"], "invalid choice: 'lion'"),
        (["--optimizer", "adamwspam", "--spam-interval", "5", "--spam-warmup", "9"], "spam_warmup 9"),
        (["--temperature", "-1"], "--temperature must be 0 or more"),
        (["--momentum", "1"], "--momentum must be from 0 to below 1"),
    ],
)
def test_flags_that_do_not_fit_get_one_sentence(
    arguments: list[str],
    said: str,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    try:
        code = trainer.main(["--dataset", str(text), *TINY, *arguments])
    except SystemExit as ended:  # how argparse refuses
        code = ended.code
    assert code == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert said in sentence
    assert not (tmp_path / "lossbook-runs").exists()


def test_a_run_is_not_resumed_with_another_optimizer_or_method(
    train, stop_at, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    stop_at(2)
    train("--steps", "4", code=130)
    for flag, word in (("--optimizer", "sgd"), ("--pruning", "magnitude")):
        capsys.readouterr()
        assert trainer.main(["--resume", "latest", flag, word]) == 2
        assert f"which cannot become {word}: leave {flag} out" in capsys.readouterr().err


def test_a_setting_given_when_resuming_holds(train, stop_at, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    made: list[torch.optim.Optimizer] = []
    original = trainer.make_optimizer

    def make(*arguments: object) -> torch.optim.Optimizer:
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(trainer, "make_optimizer", make)
    stop_at(2)
    run = train("--steps", "4", "--beta2", "0.95", code=130)
    stop_at(-1)
    assert train("--resume", run.id, "--beta2", "0.999", "--weight-decay", "0.01").config["beta2"] == 0.999
    assert {group["betas"] for group in made[-1].param_groups} == {(0.9, 0.999)}
    assert {group["weight_decay"] for group in made[-1].param_groups} == {0.01, 0.0}


def test_text_is_written_at_the_end_by_the_best_checkpoint(
    train, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    run = train(
        "--steps", "40", "--learning-rate", "5e-3", "--sample", "30", "--prompt", "The quick", "--temperature", "0"
    )
    written = run.summary["final/sample"]
    assert written in capsys.readouterr().out
    assert written.startswith("The quick")
    loaded = load_text(str(text), cache=tmp_path / "datasets")
    model = GPT2(SIZES["nano"], loaded.vocabulary, 16)
    model.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / run.id / "best.pt")["model"])
    assert sampling.write(model, loaded, 30, prompt="The quick", temperature=0) == written


def test_sampling_draws_from_the_likeliest_and_is_the_same_for_a_seed() -> None:
    model = GPT2(Size(1, 1, 8), 11, 4)
    start = torch.zeros((2, 1), dtype=torch.int64)

    def draw(seed: int, **how: float) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return sampling.generate(model, start, 20, context=4, generator=generator, **how).tolist()

    assert draw(1, temperature=5.0) == draw(1, temperature=5.0)
    assert draw(1, temperature=5.0) != draw(2, temperature=5.0)
    assert draw(1, temperature=0) == draw(2, temperature=0) == draw(3, temperature=5.0, top_k=1)
    assert model.training


def test_gpu_utilisation_is_of_the_peak_of_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    args = parse(["--size", "nano", "--context", "128", "--dtype", "bfloat16"])
    model = GPT2(SIZES["nano"], 256, 128)
    assert trainer.peak_share(model, args, torch.device("cpu"), 1) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    multiplied = model.parameter_count() - 128 * 128
    flops = 6 * multiplied + 12 * 4 * 128 * 128
    share = trainer.peak_share(model, args, torch.device("cuda", 0), 2)
    assert share == pytest.approx(100 * flops / (2 * 989.5e12))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU of tomorrow")
    assert trainer.peak_share(model, args, torch.device("cuda", 0), 1) is None
