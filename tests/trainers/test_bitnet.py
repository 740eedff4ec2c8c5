"""The BitNet trainer: three stages, the series of each, and a packed model at the end; and it goes on where it stopped."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lossbook
from bitnet import train as trainer
from bitnet.arguments import mirrors, parse
from bitnet.model import SIZES, BitNet, Size
from bitnet.packing import load_packed
from trainers import checkpoint

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--model_size", "nano", "--max_length", "16", "--batch_size", "4", "--eval_batches", "2", "--tokenizer", "bytes",
        "--disable_wandb", "--device", "cpu"]  # fmt: skip
EXACT = ["--dropout", "0", "--qdrop", "0"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "fable.txt"
    path.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 60)
    return path


@pytest.fixture
def train(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SIZES, "nano", Size(2, 2, 32, 0.1, 0.4))
    torch.set_num_threads(1)

    def run(*arguments: str, code: int = 0) -> lossbook.RecordedRun:
        given = ["--store", str(tmp_path / "store"), *arguments]
        if "--resume" not in arguments:
            given = ["--dataset", str(text), *TINY, *given]
        assert trainer.main(given) == code
        return lossbook.open(tmp_path / "store").run("latest")

    return run


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Ctrl-C in the middle of the step after `step`, which the trainer finishes before it stops."""
    original = trainer.seed_step

    def at(step: int, number: int = signal.SIGINT) -> None:
        def seed_step(seed: int, now: int, micro: int, rank: int) -> None:
            if now == step - 1 and micro == 0:
                signal.raise_signal(number)
            original(seed, now, micro, rank)

        monkeypatch.setattr(trainer, "seed_step", seed_step)

    return at


def series(run: lossbook.RecordedRun, key: str = "train/loss") -> list[tuple[int, float]]:
    return [(row[0], row[2]) for row in run.history([key]).rows()]


def test_the_series_and_the_configuration_are_recorded_and_the_loss_falls(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--max_steps", "40", "--eval_interval", "20", "--learning_rate", "1e-2")
    for key in ("loss", "learning_rate", "qdrop_probability", "training_stage", "epoch", "global_step", "grad_norm"):
        assert [step for step, _ in series(run, f"train/{key}")] == list(range(1, 41))
    losses = [value for _, value in series(run)]
    assert sum(losses[-5:]) < sum(losses[:5]) - 5
    assert [step for step, _ in series(run, "val/loss")] == [0, 20, 40]
    for (_, loss), (_, perplexity) in zip(series(run, "val/loss"), series(run, "val/perplexity"), strict=True):
        assert perplexity == pytest.approx(math.exp(loss))
    assert series(run, "train/global_step") == [(step, float(step)) for step in range(1, 41)]
    config = run.config
    assert config["total_training_steps"] == 40
    assert config["vocab_size"] == 257  # the bytes and the mask
    assert config["ternary_weights"] == 2 * 12 * 32 * 32
    assert config["total_parameters"] == BitNet(SIZES["nano"], 257, 16, causal=False).parameter_count()
    assert (config["hidden_size"], config["num_layers"], config["world_size"]) == (32, 2, 1)
    assert config["steps_per_epoch"] == config["dataset_size"] // 4
    assert {
        "tokenizer",
        "device",
        "batch_size",
        "fp16",
        "gradient_accumulation_steps",
        "dataset",
        "learning_rate",
        "warmup_steps",
        "num_epochs",
        "trainable_parameters",
    } <= set(config)
    assert (run.project, run.name[:22]) == ("bitnet-qdyt-v2", "bitnet-nano_adamw_mlm_")


def test_the_stages_are_marked_where_their_number_changes(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--max_steps", "20")
    numbers = dict(series(run, "train/training_stage"))
    marks = [(event["step"], event["value"]["name"]) for event in run.events("stage")]
    assert marks == [(1, "warmup"), (3, "partial_ternary"), (9, "full_ternary")]
    assert [numbers[step] for step in (1, 2, 3, 8, 9, 20)] == [0, 0, 1, 1, 2, 2]


def test_epochs_make_the_length_of_the_training(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--num_epochs", "2", "--batch_size", "32", "--gradient_accumulation_steps", "2")
    a_pass = run.config["dataset_size"] // 64
    assert run.config["steps_per_epoch"] == a_pass > 1
    assert [value for _, value in series(run, "train/epoch")] == [0.0] * a_pass + [1.0] * a_pass


@pytest.mark.parametrize("objective", ["mlm", "causal"])
def test_the_packed_model_is_ternary_and_predicts_what_the_training_ended_with(
    objective: str, train, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    run = train("--max_steps", "10", "--objective", objective)
    packed = load_packed(tmp_path / "checkpoints" / run.id / "ternary.pt")
    assert [len(layer.effective_weight().unique()) for _, layer in packed.bit_linears()] == [3] * 8
    assert packed.causal is (objective == "causal")
    assert run.summary["final/packed_val_loss"] == pytest.approx(run.metrics["val/loss"]["last"], rel=1e-6)
    assert run.summary["final/bits_per_weight"] == pytest.approx(1.6, abs=0.02)
    assert run.summary["final/file_bytes"] == (tmp_path / "checkpoints" / run.id / "ternary.pt").stat().st_size


@pytest.mark.parametrize("at", [1, 8, 13])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one_bit_for_bit(at: int, train, interrupt_at) -> None:  # type: ignore[no-untyped-def]
    """In the warm-up, at the last step before the weights become ternary, and after."""
    common = ["--max_steps", "20", "--eval_interval", "5", "--gradient_accumulation_steps", "2"]
    whole = train(*common)
    interrupt_at(at)
    stopped = train(*common, code=130)
    assert stopped.state == "interrupted"
    assert [step for step, _ in series(stopped)] == list(range(1, at + 1))
    interrupt_at(-1)
    resumed = train("--resume", stopped.id)
    assert (resumed.id, resumed.state) == (stopped.id, "finished")
    for key in ("loss", "grad_norm", "learning_rate", "qdrop_probability", "training_stage"):
        assert series(resumed, f"train/{key}") == series(whole, f"train/{key}")
    assert series(resumed, "val/loss") == series(whole, "val/loss")
    assert resumed.summary["final/best_val_loss"] == whole.summary["final/best_val_loss"]
    assert [event["value"]["name"] for event in resumed.events("stage")] == [
        "warmup",
        "partial_ternary",
        "full_ternary",
    ]


def test_a_run_is_not_resumed_as_another_one(
    train, interrupt_at, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    interrupt_at(3)
    run = train("--max_steps", "10", code=130)
    interrupt_at(-1)
    train("--resume", run.id, "--qdrop", "0.1", code=2)
    assert "was trained with --qdrop 0.5, which cannot become 0.1 half way" in capsys.readouterr().err
    text.write_text(text.read_text().upper())
    train("--resume", run.id, code=2)
    assert "another text" in capsys.readouterr().err


def test_sigterm_saves_and_is_recorded_as_what_it_was(train, interrupt_at, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    interrupt_at(3, signal.SIGTERM)
    run = train("--max_steps", "50", code=143)
    assert run.state == "killed"
    assert checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_best_checkpoint_is_of_the_last_stage(train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    losses = iter([5.0, 1.0, 3.0, 2.5, 2.0, 2.25])  # full precision does best
    monkeypatch.setattr(trainer.Training, "evaluate", lambda training: next(losses))
    run = train("--max_steps", "20", "--eval_interval", "4", "--learning_rate", "1e-4")
    best = checkpoint.load(tmp_path / "checkpoints" / run.id / "best.pt")
    assert (best["step"], best["best"], best["best_stage"]) == (16, 2.0, 2)
    assert run.summary["final/best_val_loss"] == 2.0
    assert [event["step"] for event in run.events("checkpoint") if event["value"]["is_best"]] == [0, 4, 12, 16]


def test_micro_batches_have_the_losses_and_gradients_of_one_large_batch(train) -> None:  # type: ignore[no-untyped-def]
    large = train("--max_steps", "8", "--batch_size", "8", *EXACT)
    split = train("--max_steps", "8", "--batch_size", "2", "--gradient_accumulation_steps", "4", *EXACT)
    for key in ("train/loss", "train/grad_norm", "train/learning_rate"):
        ours, theirs = ([value for _, value in series(run, key)] for run in (split, large))
        # A weight at the edge of its code falls to either side by a rounding error: one step on the grid.
        assert ours == pytest.approx(theirs, rel=2e-3)


def test_half_precision_has_the_losses_and_gradient_norms_of_full_precision(train) -> None:  # type: ignore[no-untyped-def]
    full, half = train("--max_steps", "6", *EXACT), train("--max_steps", "6", "--fp16", *EXACT)
    # float16 gradients are scaled by 65536: a norm read before they are scaled back would be far off.
    for key, tolerance in (("train/loss", 0.02), ("train/grad_norm", 0.2)):
        ours, theirs = ([value for _, value in series(run, key)] for run in (half, full))
        assert ours == pytest.approx(theirs, rel=tolerance)


def test_two_processes_have_the_curve_of_one(train, text: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    # Without the fixture's smaller model: the other processes know nothing of it.
    common = ["--dataset", str(text), *TINY, *EXACT, "--max_steps", "6", "--eval_interval", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    runs = []
    for launcher, micro_batches in (
        ([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], "1"),
        ([sys.executable], "2"),
    ):
        store = str(tmp_path / f"store-{micro_batches}")
        command = [*launcher, str(ROOT / "bitnet" / "train.py"), *common, "--store", store]
        done = subprocess.run(
            [*command, "--gradient_accumulation_steps", micro_batches],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("stage full_ternary") == 1
        (run,) = lossbook.open(store).runs()
        runs.append(run)
    assert runs[0].config["world_size"] == 2
    assert runs[0].state == "finished"
    for key in ("train/loss", "train/grad_norm", "val/loss"):
        together, alone = (series(run, key) for run in runs)
        assert [step for step, _ in together] == [step for step, _ in alone]
        assert [value for _, value in together] == pytest.approx([value for _, value in alone], rel=2e-3)


def test_a_checkpoint_that_cannot_be_written_ends_no_training(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.torch, "save", full)
    run = train("--max_steps", "4", code=1)
    assert "could not be written (No space left on device)" in capsys.readouterr().err
    assert run.state == "finished"
    assert [step for step, _ in series(run)] == [1, 2, 3, 4]
    titles = {event["value"]["title"] for event in run.events("alert")}
    assert titles == {"checkpoint not written", "packed model not written"}


def test_the_last_checkpoint_is_there_even_if_the_packed_model_fails(
    train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    def broken(*arguments: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(trainer, "save_packed", broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        train("--max_steps", "4")
    run = lossbook.open(tmp_path / "store").run("latest")
    assert run.state == "failed"
    assert checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")["step"] == 4


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ([], ["tensorboard", "wandb", "none"]),
        (["--wandb_mode", "offline"], ["tensorboard", "wandb:offline", "none"]),
        (["--wandb_mode", "disabled"], ["tensorboard", "none"]),
        (["--disable_wandb", "--wandb_mode", "online"], ["tensorboard", "none"]),
        (["--disable_wandb", "--tracker", "trackio, mlflow"], ["tensorboard", "trackio", "mlflow"]),
    ],
)
def test_tensorboard_is_written_always_and_wandb_unless_it_is_disabled(flags: list[str], asked: list[str]) -> None:
    assert mirrors(parse(flags)) == asked


def test_what_wandb_is_told_is_recorded_with_the_run(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = train(
        "--max_steps",
        "3",
        "--wandb_project",
        "mine",
        "--wandb_run_name",
        "baseline",
        "--wandb_tags",
        "a",
        "b c",
        "--wandb_notes",
        "first try",
        "--wandb_group",
        "ablation",
        "--wandb_entity",
        "team",
    )
    assert (run.project, run.name, run.group, run.notes) == ("mine", "baseline", "ablation", "first try")
    assert run.tags == ["a", "b c"]
    identity: dict[str, Any] = json.loads((tmp_path / "store" / "mine" / run.id / "run.json").read_text())
    assert (identity["entity"], identity["mirrors"]) == ("team", ["tensorboard"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_steps", "2"], "no room for three stages"),
        (["--max_steps", "10", "--warmup_steps", "11"], "--warmup_steps 11 is more than the 10 steps"),
        (["--batch_size", "1000"], "sequences of --max_length 16 where 1000 are needed"),
        (["--dataset", "nowhere.txt"], "nowhere.txt"),
        (["--resume", "nothing"], "there is no checkpoint for 'nothing'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(
    flags: list[str], said: str, train, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    assert trainer.main(["--dataset", str(text), *TINY, *flags]) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("flags", [["--qdrop", "1.5"], ["--learning_rate", "nan"], ["--max_steps", "0"], ["--max"]])
def test_a_flag_that_cannot_be_meant_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(flags)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_launch_script_passes_flags_on_and_the_exit_status_back(tmp_path: Path) -> None:
    given = tmp_path / "given"
    stand_in = tmp_path / "python"
    # It stands for the interpreter: the questions about GPUs are answered with none, the training fails.
    stand_in.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -c ]; then case "$2" in *device_count*) echo "$GPUS";; *) exit 1;; esac; exit 0; fi\n'
        f'printf "%s\\n" "$@" > {given}\nexit 37\n'
    )
    stand_in.chmod(0o755)
    for gpus in ("1", "4"):
        environment = {**os.environ, "PYTHON": str(stand_in), "GPUS": gpus}
        command = [str(ROOT / "launch_with_wandb.sh"), "--wandb_notes", "two words", "--model_size", "base"]
        assert subprocess.run(command, env=environment, timeout=60).returncode == 37
        words = given.read_text().splitlines()
        assert (f"--nproc_per_node={gpus}" in words) is (gpus != "1")
        flags = words[words.index(str(ROOT / "bitnet" / "train.py")) + 1 :]
        args = parse(flags)
        assert (args.model_size, args.wandb_notes) == ("base", "two words")
        assert (args.dataset, args.gradient_accumulation_steps) == ("wikitext-103-v1", 3)


def test_the_wandb_check_finds_every_promise_kept(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    environment.pop("LOSSBOOK_FOLLOWER")
    done = subprocess.run(
        [sys.executable, str(ROOT / "test_wandb.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[18:23] for line in done.stdout.splitlines()] == ["works"] * 3


def test_the_wandb_check_fails_where_nothing_could_be_checked(tmp_path: Path) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'wandb' else find(name, *rest)\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "test_wandb.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "pip install wandb" in done.stdout
