"""The GPT-2 trainer: it learns, it counts right, and it goes on where it stopped."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lossbook
from gpt2 import train as trainer
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

    def run(*arguments: str) -> lossbook.RecordedRun:
        given = ["--store", str(tmp_path / "store"), "--dataset", str(text), *TINY, *arguments]
        assert trainer.main(given) == 0
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
        "train_loss", "learning_rate", "grad_norm", "tokens", "train_perplexity", "tokens_per_second", "val_loss",
        "val_perplexity",
    }  # fmt: skip
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


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one_bit_for_bit(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    common = ["--dropout", "0.1", "--eval-interval", "5", "--seed", "3"]
    whole = losses(train("--steps", "15", *common, "--checkpoints", str(tmp_path / "whole")))
    folder = tmp_path / "cut"
    stopped = _train_until(10, train, common, folder)
    resumed = train("--resume", stopped.id, "--checkpoints", str(folder))
    assert resumed.id == stopped.id
    assert losses(resumed) == whole
    assert len(resumed.attempts) == 2


def _train_until(step: int, train, common: list[str], folder: Path) -> lossbook.RecordedRun:  # type: ignore[no-untyped-def]
    """Train 15 steps, asked to stop at `step`, as Ctrl-C would."""
    original = trainer.Stop
    seen = {"steps": 0}

    class StopAt(original):  # type: ignore[misc, valid-type]
        @property
        def signal(self) -> int:
            seen["steps"] += 1
            return signal.SIGINT if seen["steps"] > step else 0

        @signal.setter
        def signal(self, value: int) -> None:
            pass

    trainer.Stop = StopAt  # type: ignore[misc]
    try:
        with pytest.raises(AssertionError):
            train("--steps", "15", *common, "--checkpoints", str(folder))
    finally:
        trainer.Stop = original  # type: ignore[misc]
    store = next(folder.parent.glob("store"))
    stopped = lossbook.open(store).run("latest")
    assert stopped.state == "interrupted"
    return stopped


def test_accumulated_micro_batches_have_the_loss_and_gradient_of_one_large_batch(train) -> None:  # type: ignore[no-untyped-def]
    run = train("--steps", "3", "--accumulate", "4")
    assert run.metrics["tokens"]["last"] == 3 * 4 * 4 * 16
    # At the first step nothing is learned yet: the loss is that of a uniform guess, whatever the accumulation.
    assert losses(run)[0][1] == pytest.approx(math.log(256), abs=0.3)


def test_ctrl_c_saves_and_finishes_the_run(tmp_path: Path, text: Path) -> None:
    environment = {**os.environ, "LOSSBOOK_DATASETS": str(tmp_path / "datasets"), "LOSSBOOK_FOLLOWER": "off"}
    arguments = [sys.executable, str(ROOT / "gpt2" / "train.py"), "--store", str(tmp_path / "store"), "--dataset", str(text),
                 *TINY, "--steps", "100000", "--checkpoints", str(tmp_path / "checkpoints"), "--log-interval", "1"]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGINT)
            break
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    run = lossbook.open(tmp_path / "store").run("latest")
    assert run.state == "interrupted"
    assert f"--resume {run.id}" in printed
    state = checkpoint.load(tmp_path / "checkpoints" / run.id / "last.pt")
    assert state["step"] == run.metrics["train_loss"]["last_step"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "no/such/file"], "there is no dataset 'no/such/file'"),
        (["--dataset", "."], "holds no text"),
        (["--resume", "latest"], "there is nothing to resume"),
        (["--resume", "nobody"], "there is no checkpoint for 'nobody'"),
        (["--context", "100000"], "use a longer text or a smaller context"),
        (["--tokenizer", "bpe", "--vocab-size", "100"], "--vocab-size 100 is too small"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    given = arguments if "--dataset" in arguments else ["--dataset", str(text), *arguments]
    assert trainer.main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (empty / "lossbook-runs").exists()


def test_a_perplexity_beyond_a_float_is_infinity() -> None:
    assert trainer.perplexity(1e6) == math.inf
    assert trainer.perplexity(math.log(20)) == pytest.approx(20)


def test_the_learning_rate_warms_up_and_falls_to_its_minimum() -> None:
    args = trainer.parse(["--steps", "100", "--warmup-steps", "10", "--learning-rate", "1e-2"])
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
    time.sleep(0.01)
    text.write_text(text.read_text() + "One more line.\n")
    assert len(load_text(str(text), tokenizer, 300, cache).validation) > len(first.validation)


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
