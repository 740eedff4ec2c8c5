"""The GPT-2 trainer under torchrun: two processes train what one trains, as one run, and go on where they stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lossbook
from gpt2 import train as trainer
from trainers import checkpoint

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--size", "nano", "--context", "16", "--batch-size", "4", "--accumulate", "2", "--warmup-steps", "2",
    "--eval-batches", "3", "--eval-interval", "5", "--log-interval", "1", "--steps", "10", "--device", "cpu",
    "--pruning", "magnitude", "--sparsity", "50", "--prune-frequency", "2",
]  # fmt: skip
SERIES = ("train_loss", "val_loss", "grad_norm", "learning_rate", "tokens", "sparsity")


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name)
    text = tmp_path / "fable.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 60)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LOSSBOOK_FOLLOWER": "off",
        "PYTHONUNBUFFERED": "1",
        "LOSSBOOK_DATASETS": str(tmp_path / "datasets"),
    }

    def start(store: str, *arguments: str, processes: int = 2) -> subprocess.Popen[str]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        given = [] if "--resume" in arguments else ["--dataset", str(text), *TINY]
        return subprocess.Popen(
            [
                sys.executable,
                *(torchrun if processes > 1 else []),
                str(ROOT / "gpt2" / "train.py"),
                *given,
                *arguments,
                "--store",
                str(tmp_path / store),
                "--checkpoints",
                str(tmp_path / store / "checkpoints"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return start


@pytest.fixture
def train(begin, tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(store: str, *arguments: str, processes: int = 2) -> lossbook.RecordedRun:
        process = begin(store, *arguments, processes=processes)
        printed, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        assert printed.count("best validation loss") == 1
        (recorded,) = lossbook.open(tmp_path / store).runs()
        return recorded

    return run


def values(run: lossbook.RecordedRun, key: str) -> list[float]:
    return [row[2] for row in run.history([key]).rows()]


def test_two_processes_have_the_curve_of_one_with_the_same_flags(train) -> None:  # type: ignore[no-untyped-def]
    one, two = train("one", processes=1), train("two")
    assert two.state == "finished"
    assert two.config["world_size"] == 2
    for key in SERIES:
        assert values(two, key) == pytest.approx(values(one, key), rel=1e-5), key
    assert len(values(two, "train_loss")) == 10
    assert two.summary["final/sparsity"] == pytest.approx(0.5, abs=0.01)


def test_two_processes_stop_at_one_step_and_go_on_bit_for_bit(begin, train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    dropping = ("--dropout", "0.2", "--steps", "30")  # each process drops with a generator of its own
    whole = train("whole", *dropping)
    process = begin("cut", *dropping)
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGTERM)  # torchrun hands it on
            break
    printed, said = process.communicate(timeout=120)
    assert "stopped after step" in printed, said
    (stopped,) = lossbook.open(tmp_path / "cut").runs()
    assert stopped.state == "killed"
    state = checkpoint.load(tmp_path / "cut" / "checkpoints" / stopped.id / "last.pt")
    assert 3 <= state["step"] < 30
    assert len(values(stopped, "train_loss")) == state["step"]
    assert len(state["random"]) == 2
    resumed = train("cut", "--resume", stopped.id)
    assert resumed.id == stopped.id
    for key in ("train_loss", "val_loss", "sparsity"):
        assert values(resumed, key) == values(whole, key), key


@pytest.mark.parametrize(("rank", "said"), [("0", 1), ("1", 0)])
def test_what_is_wrong_is_said_once(
    rank: str, said: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert trainer.main(["--batch-size", "3", "--accumulate", "3"]) == 2
    assert capsys.readouterr().err.count("a step of 9 sequences cannot be shared by 2 processes") == said


def test_a_text_that_the_first_process_refuses_ends_all(begin, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "fable.txt").write_text("")
    process = begin("none")
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said.count("is too short to be split") == 1
    assert not (tmp_path / "none").exists()
