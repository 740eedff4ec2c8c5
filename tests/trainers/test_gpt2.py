"""The GPT-2 trainer: it learns, it counts right, and it goes on where it stopped."""

from __future__ import annotations

import argparse
import errno
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

import lossbook
import trainers.text
from gpt2 import train as trainer
from gpt2.arguments import parse
from gpt2.batches import validation_starts
from gpt2.model import GPT2, SIZES, Size
from trainers import checkpoint
from trainers.text import TextError, load_text

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--size", "nano", "--context", "16", "--batch-size", "4", "--warmup-steps", "2", "--eval-batches", "2"]


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
        given = ["--store", str(tmp_path / "store"), *arguments]
        if "--resume" not in arguments:
            given = ["--dataset", str(text), *TINY, *given]
        assert trainer.main(given) == code
        return lossbook.open(tmp_path / "store").run("latest")

    return run


def losses(run: lossbook.RecordedRun, key: str = "train_loss") -> list[tuple[int, float]]:
    return [(row[0], row[2]) for row in run.history([key]).rows()]


def test_gpt2_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert GPT2(SIZES["gpt2"], 50257, 1024).parameter_count() == 124_439_808
        assert GPT2(SIZES["gpt2-xl"], 50257, 1024).parameter_count() == 1_557_611_200


def test_the_model_sees_only_what_came_before() -> None:
    model = GPT2(Size(2, 2, 16), 11, 8).eval()
    tokens = torch.randint(0, 11, (1, 8))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    assert torch.allclose(model(tokens)[0, :5], model(changed)[0, :5])


def test_the_loss_falls_and_the_series_are_recorded(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--steps", "60", "--eval-interval", "30", "--learning-rate", "3e-3")
    curve = losses(run)
    assert [step for step, _ in curve] == list(range(1, 61))
    assert curve[-1][1] < curve[0][1] - 1.0
    assert [step for step, _ in losses(run, "val_loss")] == [0, 30, 60]
    assert set(run.keys()) == {
        "train_loss",
        "learning_rate",
        "grad_norm",
        "tokens",
        "train_perplexity",
        "tokens_per_second",
        "val_loss",
        "val_perplexity",
    }
    assert run.metrics["tokens"]["last"] == 60 * 4 * 16
    assert run.metrics["grad_norm"]["min"] > 0
    assert run.summary["final/best_val_loss"] == pytest.approx(run.metrics["val_loss"]["min"])
    assert run.summary["final/best_val_perplexity"] == pytest.approx(math.exp(run.metrics["val_loss"]["min"]))
    assert run.config["parameters"] == GPT2(SIZES["nano"], 256, 16).parameter_count()
    assert run.name.startswith("gpt2-nano_adamw_")


def test_the_first_perplexity_is_of_the_first_steps_only(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--steps", "4", "--log-interval", "2")
    curve = dict(losses(run))
    perplexities = dict(losses(run, "train_perplexity"))
    found = {step: value for step, value in perplexities.items() if value is not None}
    assert found[2] == pytest.approx(math.exp((curve[1] + curve[2]) / 2), rel=1e-5)
    assert found[4] == pytest.approx(math.exp((curve[3] + curve[4]) / 2), rel=1e-5)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Ctrl-C in the middle of the step after `step`, which the trainer finishes before it stops."""
    original = trainer.learning_rate

    def at(step: int, number: int = signal.SIGINT) -> None:
        def learning_rate(now: int, args: argparse.Namespace) -> float:
            if now == step - 1:
                signal.raise_signal(number)
            return original(now, args)

        monkeypatch.setattr(trainer, "learning_rate", learning_rate)

    yield at
    monkeypatch.setattr(trainer, "learning_rate", original)


@pytest.mark.parametrize("accumulate", ["1", "3"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one_bit_for_bit(
    accumulate: str, train, interrupt_at, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    common = ["--dropout", "0.1", "--eval-interval", "5", "--seed", "3", "--steps", "15", "--accumulate", accumulate]
    whole = train(*common, "--checkpoints", str(tmp_path / "whole"))
    interrupt_at(8)
    stopped = train(*common, "--checkpoints", str(tmp_path / "cut"), code=130)
    assert stopped.state == "interrupted"
    assert [step for step, _ in losses(stopped)] == list(range(1, 9))
    interrupt_at(-1)
    resumed = train("--resume", stopped.id, "--checkpoints", str(tmp_path / "cut"))
    assert resumed.id == stopped.id
    assert resumed.state == "finished"
    assert len(resumed.attempts) == 2
    for key in ("train_loss", "val_loss", "grad_norm", "learning_rate", "tokens"):
        assert losses(resumed, key) == losses(whole, key)
    assert resumed.summary["final/best_val_loss"] == whole.summary["final/best_val_loss"]


def test_a_run_resumed_from_an_earlier_checkpoint_is_one_clean_line(train, interrupt_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    interrupt_at(5)
    run = train("--steps", "12", code=130)
    interrupt_at(-1)
    older = tmp_path / "older.pt"
    shutil.copy(tmp_path / "checkpoints" / run.id / "last.pt", older)
    whole = losses(train("--resume", run.id))
    assert [step for step, _ in whole] == list(range(1, 13))
    # As after a crash: the checkpoint is older than the last row, and steps 6 to 12 are taken again.
    again = train("--resume", str(older))
    assert losses(again) == whole
    assert [attempt.resume_step for attempt in again.attempts] == [None, 5, 5]


def test_a_run_is_resumed_where_it_is_from_another_folder(
    train, interrupt_at, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    interrupt_at(2)
    assert trainer.main(["--dataset", text.name, *TINY, "--steps", "4", "--tracker-run-name", "first"]) == 130
    interrupt_at(-1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # By the name that `lossbook ls` shows, although the checkpoints are not below this folder.
    assert trainer.main(["--resume", "first", "--store", str(tmp_path / "lossbook-runs")]) == 0
    run = lossbook.open(tmp_path / "lossbook-runs").run("latest")
    assert [step for step, _ in losses(run)] == [1, 2, 3, 4]
    assert not (elsewhere / "lossbook-runs").exists()


def test_untracked_runs_keep_their_checkpoints_apart_and_can_be_resumed(
    train, interrupt_at, tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    given = ["--dataset", str(text), *TINY, "--steps", "4", "--no-local"]
    interrupt_at(2)
    assert trainer.main(given) == 130
    said = capsys.readouterr().out.splitlines()[-1]
    interrupt_at(-1)
    assert trainer.main(shlex.split(said.split("train.py ")[1])) == 0
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert checkpoint.load(folder / "last.pt")["step"] == 4
    assert not (tmp_path / "lossbook-runs").exists()


def test_micro_batches_have_the_losses_and_gradients_of_one_large_batch(train) -> None:  # type: ignore[no-untyped-def]
    common = ["--steps", "6", "--learning-rate", "1e-3"]
    large = train(*common, "--batch-size", "8")
    split = train(*common, "--batch-size", "2", "--accumulate", "4")
    for key in ("train_loss", "grad_norm", "tokens", "learning_rate"):
        ours, theirs = ([value for _, value in losses(run, key)] for run in (split, large))
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_the_validation_text_is_the_same_for_every_seed(train) -> None:  # type: ignore[no-untyped-def]
    text = np.arange(1000, dtype=np.uint16)
    first, second = (validation_starts(text, parse([*TINY, "--seed", seed])) for seed in "12")
    assert (first == second).all()
    assert first.shape == (2, 4)
    assert first.min() == 0
    assert first.max() + 16 + 1 == len(text)


def test_the_best_checkpoint_is_the_one_of_the_lowest_validation_loss(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    # A learning rate at which it gets worse again.
    run = train("--steps", "12", "--eval-interval", "2", "--learning-rate", "0.3", "--warmup-steps", "8", "--clip", "0")
    curve = dict(losses(run, "val_loss"))
    best = checkpoint.load(tmp_path / "checkpoints" / run.id / "best.pt")
    assert curve[best["step"]] == min(curve.values()) == best["best"] == run.summary["final/best_val_loss"]
    assert best["step"] < 12
    marks = [event["step"] for event in run.events("checkpoint") if event["value"]["is_best"]]
    assert marks[-1] == best["step"]


def test_a_failure_in_training_keeps_the_figures_up_to_it(
    train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    def broken(*arguments: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(trainer, "clip_gradients", broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        train("--steps", "3")
    run = lossbook.open(tmp_path / "store").run("latest")
    assert run.state == "failed"
    assert "the device is gone" in run.error
    assert run.summary["final/best_val_loss"] == run.metrics["val_loss"]["last"]


def test_a_checkpoint_that_cannot_be_written_ends_no_training(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.torch, "save", full)
    run = train("--steps", "3", code=1)
    assert "could not be written (No space left on device)" in capsys.readouterr().err
    assert run.state == "finished"
    assert [step for step, _ in losses(run)] == [1, 2, 3]
    assert {event["value"]["title"] for event in run.events("alert")} == {"checkpoint not written"}


def test_a_checkpoint_replaces_the_one_before_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"model": 1})

    def torn(state: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.torch, "save", torn)
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
        checkpoint.save(path, {"model": 2})
    assert checkpoint.load(path) == {"model": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_every_generator_of_random_numbers_goes_on_where_it_stood(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    device = torch.device("cpu")
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"model": None, "random": checkpoint.random_states(device)})
    drawn = draw()
    assert draw() != drawn
    checkpoint.restore_random_states(checkpoint.load(path)["random"], device)
    assert draw() == drawn


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_has_the_losses_and_gradient_norms_of_full_precision(dtype: str, train) -> None:  # type: ignore[no-untyped-def]
    full, half = train("--steps", "4"), train("--steps", "4", "--dtype", dtype)
    # float16 gradients are scaled by 65536: a norm read before they are scaled back would be far off.
    for key, tolerance in (("train_loss", 0.02), ("grad_norm", 0.1)):
        ours, theirs = ([value for _, value in losses(run, key)] for run in (half, full))
        assert ours == pytest.approx(theirs, rel=tolerance)


def test_only_matrices_decay() -> None:
    args = parse(["--weight-decay", "0.2"])
    model = GPT2(Size(1, 1, 8), 5, 4)
    groups = trainer.make_optimizer(model, args, torch.device("cpu")).param_groups
    assert {(group["weight_decay"], parameter.dim() >= 2) for group in groups for parameter in group["params"]} == {
        (0.2, True),
        (0.0, False),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_ctrl_c_saves_and_finishes_the_run(tmp_path: Path, text: Path) -> None:
    environment = {**os.environ, "LOSSBOOK_DATASETS": str(tmp_path / "datasets"), "LOSSBOOK_FOLLOWER": "off"}
    arguments = [
        sys.executable,
        str(ROOT / "gpt2" / "train.py"),
        "--store",
        str(tmp_path / "store"),
        "--dataset",
        str(text),
        *TINY,
        "--steps",
        "100000",
        "--checkpoints",
        str(tmp_path / "checkpoints"),
        "--log-interval",
        "1",
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGINT)
            break
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    run = lossbook.open(tmp_path / "store").run("latest")
    assert run.state == "interrupted"
    assert f"--resume {run.id}" in printed
    state = checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")
    assert state["step"] == run.metrics["train_loss"]["last_step"]
    assert run.summary["final/best_val_loss"] == pytest.approx(state["best"])
    # The figures of the last interval are there as well, although it was cut short.
    assert run.metrics["train_perplexity"]["last_step"] == state["step"]


def test_sigterm_saves_and_is_recorded_as_what_it_was(train, interrupt_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    interrupt_at(3, signal.SIGTERM)
    run = train("--steps", "50", code=143)
    assert run.state == "killed"
    assert checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_at_once(train, interrupt_at, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    original = trainer.clip_gradients

    def impatient(*arguments: object) -> torch.Tensor:
        if lossbook.run.last_step == 2:
            signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    interrupt_at(3)
    monkeypatch.setattr(trainer, "clip_gradients", impatient)
    run = train("--steps", "50", code=130)
    assert run.state == "interrupted"
    assert [step for step, _ in losses(run)] == [1, 2]
    assert checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")["step"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "no/such/file"], "there is no dataset 'no/such/file'"),
        (["--dataset", "."], "holds no text"),
        (["--resume", "latest"], "there is nothing to resume"),
        (["--resume", "nobody"], "there is no checkpoint for 'nobody'"),
        (["--context", "100000"], "use a longer text or a smaller context"),
        (["--tokenizer", "bpe", "--vocab-size", "100"], "--vocab-size 100 is too small"),
        (["--dataset", str(Path(sys.executable).resolve())], "is no text in UTF-8"),
        (["--cache", "/dev/null/datasets"], "name another folder with --cache"),
        (["--size", "huge"], "invalid choice: 'huge' (choose from"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--steps", "0"], "--steps must be 1 or more"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0"),
        (["--beta2", "1"], "--beta2 must be from 0 to below 1"),
        (["--seed", "-1"], "--seed must be 0 or more"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    given = arguments if "--dataset" in arguments else ["--dataset", str(text), *arguments]
    try:
        code = trainer.main(given)
    except SystemExit as ended:  # how argparse refuses
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (empty / "lossbook-runs").exists()


def test_a_resume_that_cannot_be_exact_is_refused_in_one_sentence(
    train, interrupt_at, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert trainer.main(["--resume", "latest", *arguments]) == 2
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        return sentence

    interrupt_at(2)
    run = train("--steps", "4", code=130)
    assert "was made with --size nano, which cannot become micro" in refused("--size", "micro")
    assert "was made with --context 16" in refused("--context", "8")
    assert "to train on, give --steps a larger number" in refused("--steps", "2")
    whole = text.read_text()
    text.write_text("Another story.\n" * 400)
    assert "is another than the checkpoint was trained on" in refused()
    text.write_text(whole)
    path = tmp_path / "checkpoints" / run.id / "last.pt"
    path.write_bytes(path.read_bytes()[:2000])
    assert "is no checkpoint that can be read" in refused()


def test_a_perplexity_beyond_a_float_is_infinity() -> None:
    assert trainer.perplexity(1e6) == math.inf
    assert trainer.perplexity(math.log(20)) == pytest.approx(20)


def test_the_learning_rate_warms_up_and_falls_to_its_minimum() -> None:
    args = parse(["--steps", "100", "--warmup-steps", "10", "--learning-rate", "1e-2"])
    rates = [trainer.learning_rate(step, args) for step in range(101)]
    assert max(rates) == pytest.approx(rates[9]) == pytest.approx(1e-2)
    assert rates[100] == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-3)


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe"])
def test_a_text_is_tokenised_once_and_reads_back(tokenizer: str, text: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load_text(str(text), tokenizer, 300, cache)
    assert first.decode(first.encode("lazy fox")) == "lazy fox"
    assert "quick brown" in first.decode(first.train[:200].tolist())
    assert len(first.train) > 5 * len(first.validation)
    made = next(cache.iterdir()).stat().st_mtime_ns
    second = load_text(str(text), tokenizer, 300, cache)
    assert (second.train == first.train).all()
    assert next(cache.iterdir()).stat().st_mtime_ns == made
    text.write_text(text.read_text() + "One more line.\n")
    assert len(load_text(str(text), tokenizer, 300, cache).validation) > len(first.validation)


@pytest.mark.parametrize("damaged", ["meta.json", "train.npy", "tokenizer.json"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_cache_that_is_partly_gone_or_damaged_is_made_again(
    damaged: str, how: str, text: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    tokens = load_text(str(text), "bpe", 300, cache).train[:].copy()
    path = next(cache.glob(f"*/{damaged}"))
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    assert (load_text(str(text), "bpe", 300, cache).train == tokens).all()
    assert len(list(cache.iterdir())) == 1


def test_a_bpe_trained_twice_on_a_text_is_the_same(text: Path, tmp_path: Path) -> None:
    first, second = (load_text(str(text), "bpe", 320, tmp_path / name) for name in ("one", "two"))
    assert first.digest == second.digest


def test_tokens_do_not_depend_on_how_much_text_is_taken_at_once(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tokenizer in ("bytes", "chars", "bpe"):
        whole = load_text(str(text), tokenizer, 300, tmp_path / "whole")
        monkeypatch.setattr(trainers.text, "PIECE_CHARACTERS", 50)
        pieces = load_text(str(text), tokenizer, 300, tmp_path / "pieces")
        monkeypatch.undo()
        assert pieces.decode(pieces.train.tolist()) == whole.decode(whole.train.tolist())
        assert whole.decode(whole.train.tolist()) + whole.decode(whole.validation.tolist()) == text.read_text()


def test_hidden_folders_are_no_text(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", ".git/c.txt"):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(name * 50)
    text = load_text(str(tmp_path / "project"), cache=tmp_path / "cache")
    kept = text.decode(text.train.tolist() + text.validation.tolist())
    assert "a.txt" in kept
    assert "b.txt" in kept
    assert "c.txt" not in kept


def test_a_folder_is_split_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"<{number:03d}> " * 50)
    text = load_text(str(folder), "bytes", cache=tmp_path / "cache")
    train, validation = (text.decode(part.tolist()) for part in (text.train, text.validation))
    numbers = [{one for one in range(40) if f"<{one:03d}>" in part} for part in (train, validation)]
    assert numbers[0] | numbers[1] == set(range(40))
    assert not numbers[0] & numbers[1]
    assert numbers[1]


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("")
    with pytest.raises(TextError, match="too short"):
        load_text(str(path), cache=tmp_path / "cache")
