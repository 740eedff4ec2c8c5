"""`make train` and `make matrix`: what a configuration starts, what is left out, what goes on."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lossbook
from scripts import matrix, matrix_plan, train
from trainers.configuration import ROOT, ConfigError, load

TINY = """\
CONFIG_GPT2_DATASET_FILE=y
CONFIG_GPT2_DATASET_PATH="fable.txt"
CONFIG_GPT2_CONTEXT=16
CONFIG_GPT2_BATCH_SIZE=4
CONFIG_GPT2_STEPS=4
CONFIG_GPT2_WARMUP_STEPS=2
CONFIG_GPT2_EVAL_INTERVAL=2
CONFIG_GPT2_EVAL_BATCHES=2
CONFIG_GPT2_DEVICE_CPU=y
"""
SEVERAL = """\
CONFIG_GPT2_PRUNE_FREQUENCY=1
CONFIG_MATRIX_OPTIMIZER_ADAMW=y
CONFIG_MATRIX_OPTIMIZER_ADAMWPRUNE=y
CONFIG_MATRIX_PRUNING_NONE=y
CONFIG_MATRIX_PRUNING_STATE=y
CONFIG_MATRIX_SPARSITIES="0.5,70"
CONFIG_MATRIX_VARIANTS="b0,b7"
"""
#: A trainer that takes no time: it records a run, leaves a checkpoint, and does what `plan.txt` says of its tag.
STAND_IN = """\
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import lossbook
words = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if "=" in word)
resume = sys.argv[sys.argv.index("--resume") + 1] if "--resume" in sys.argv else None
kept = Path("kept") / (resume or "none")
told = json.loads(kept.read_text()) if resume else words
run = lossbook.init(id=resume, resume="must" if resume else "never", project="p", config=told, console=False,
                    tags=told["tracker-tags"], group=told["tracker-group"])
Path("kept").mkdir(exist_ok=True)
(Path("kept") / run.id).write_text(json.dumps(told))
folder = Path(told["checkpoints"]) / run.id
folder.mkdir(parents=True, exist_ok=True)
(folder / "last.pt").touch()
how = Path("plan.txt").read_text().split() if Path("plan.txt").exists() else []
run.log({{"val_loss": 1.0}}, step=2 if resume else 1)
print("step 1/2", flush=True)
if "fail" in how and told["optimizer"] in how:
    print("no room left", flush=True)
    run.finish("failed")
    sys.exit(1)
if "wait" in how:
    def stop(number, frame):
        run.finish("killed")
        print("stopped after step 1", flush=True)
        os._exit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    Path("waiting").touch()
    time.sleep(60)  # until a signal stops it
run.finish()
print("best validation loss 1.0000")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a text, where no run is yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("KCONFIG_CONFIG", raising=False)
    (tmp_path / "fable.txt").write_text(
        "The quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 60
    )
    return tmp_path


def configure(text: str) -> None:
    Path(".config").write_text(text, encoding="utf-8")


@pytest.fixture
def stand_in(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the GPT-2 trainer, one that takes no time."""
    program = here / "stand_in.py"
    program.write_text(STAND_IN.format(root=str(ROOT)))
    original = matrix_plan.resolve

    def resolve(*arguments: Any) -> train.Start:
        start = original(*arguments)
        return start._replace(trainer=dataclasses.replace(start.trainer, program=program))

    monkeypatch.setattr(matrix_plan, "resolve", resolve)
    return program


def runs() -> list[lossbook.RecordedRun]:
    return list(lossbook.open("lossbook-runs").runs())


# -- make train ---------------------------------------------------------------------------------------------------


def test_train_records_the_whole_configuration_and_compares_with_the_baseline(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with lossbook.init(project="old", name="baseline", console=False) as run:
        run.log({"val_loss": 9.0}, step=1)
    configure(TINY + 'CONFIG_BASELINE_RUN_ID="baseline"\nCONFIG_TRACKER_TAGS="one,two"\n')
    assert train.main(["--steps", "3", "--tracker", "none"]) == 0
    (trained,) = [one for one in runs() if one.name != "baseline"]
    arguments = vars(train.check(train.resolve(load(Path(".config")), ["--steps", "3"], None), load(Path(".config"))))
    missing = {name for name, value in arguments.items() if value is not None and name not in trained.config}
    assert not missing
    assert trained.config["steps"] == 3, "the command line wins over the file"
    assert trained.config["context"] == 16
    assert trained.tags == ["one", "two"]
    printed = capfd.readouterr().out
    assert "against baseline:" in printed
    assert "best val loss" in printed


@pytest.mark.parametrize(
    ("line", "given", "said"),
    [
        ('CONFIG_GPT2_LEARNING_RATE="-1"', [], "--learning-rate must be above 0, not -1.0 (CONFIG_GPT2_LEARNING_RATE in .config:10)"),
        ('CONFIG_GPT2_MIN_LEARNING_RATE="x"', [], "invalid float value: 'x' (CONFIG_GPT2_MIN_LEARNING_RATE in .config:10)"),
        ('CONFIG_GPT2_LEARNING_RATE="0.1"', ["--learning-rate=-2"], "--learning-rate must be above 0, not -2.0"),
        ("CONFIG_GPT2_NO_BIAS=maybe", [], "CONFIG_GPT2_NO_BIAS is y or n, not maybe"),
        ("", ["--stepz", "3"], "unrecognized arguments: --stepz"),
    ],
)  # fmt: skip
def test_what_the_trainer_refuses_is_said_with_the_line_it_stands_in(
    line: str, given: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(TINY + line + "\n")
    assert train.main(given) == 2
    sentence = capsys.readouterr().err
    assert said in sentence
    assert len(sentence.strip().splitlines()) == 1
    if given:
        assert ".config" not in sentence
    assert not Path("lossbook-runs").exists()


def test_several_processes_are_started_by_torchrun(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(TINY + "CONFIG_PROCESSES=2\n")
    assert train.main(["--show", "--steps", "9"]) == 0
    command = shlex.split(capsys.readouterr().out)
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert command[-2:] == ["--steps", "9"]
    assert "--steps=4" in command


def test_a_resumed_run_keeps_what_its_checkpoint_says(here: Path) -> None:
    configure(TINY)
    start = train.resolve(load(Path(".config")), ["--resume", "latest"], None)
    assert start.argv == ["--checkpoints=checkpoints", "--resume", "latest"]


# -- make matrix --------------------------------------------------------------------------------------------------


def test_combinations_leave_out_what_would_be_trained_twice(here: Path) -> None:
    configure(TINY + SEVERAL)
    found = matrix_plan.plan(load(Path(".config")), [], None)
    assert [cell.label for cell in found.cells] == [
        "adamw none",
        "adamwprune none",
        "adamwprune state 0.5 b0",
        "adamwprune state 0.5 b7",
        "adamwprune state 70 b0",
        "adamwprune state 70 b7",
    ]
    assert len({cell.tag for cell in found.cells}) == 6
    assert "--prune-variant=b7" in found.command(found.cells[3], None)


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("CONFIG_MATRIX_OPTIMIZER_SGD=y\nCONFIG_MATRIX_OPTIMIZER_ADAM=y\nCONFIG_MATRIX_OPTIMIZER_ADAMWADV=y\n"
         "CONFIG_MATRIX_OPTIMIZER_ADAMWSPAM=y\nCONFIG_MATRIX_OPTIMIZER_MUON=y\nCONFIG_MATRIX_OPTIMIZER_ADAMW=y\n"
         "CONFIG_MATRIX_OPTIMIZER_ADAMWPRUNE=y\nCONFIG_MATRIX_PRUNING_NONE=y", 7),
        ("CONFIG_MATRIX_PRUNING_MAGNITUDE=y\nCONFIG_MATRIX_PRUNING_MOVEMENT=y", 2),
        ('CONFIG_MATRIX_SEEDS="1,2, 3"', 3),
        ('CONFIG_MATRIX_LEARNING_RATES="1e-3,1e-4"', 2),
        ("CONFIG_MATRIX_PRUNING_MAGNITUDE=y\nCONFIG_MATRIX_SPARSITIES=\"0.1,0.2\"", 2),
        ("CONFIG_MATRIX_OPTIMIZER_ADAMWPRUNE=y\nCONFIG_MATRIX_PRUNING_STATE=y\nCONFIG_MATRIX_VARIANTS=\"b0,b1\"", 2),
        ('CONFIG_TRAINER_BITNET=y\nCONFIG_MATRIX_MODEL_SIZES="small,base"\nCONFIG_MATRIX_OBJECTIVES="mlm,causal"\n'
         'CONFIG_MATRIX_LEARNING_RATES="1e-3,1e-4"', 8),
    ],
)  # fmt: skip
def test_every_symbol_of_the_matrix_changes_what_is_trained(line: str, cells: int, here: Path) -> None:
    configure(line + "\n")
    found = matrix_plan.plan(load(Path(".config")), [], None)
    assert len(found.cells) == len({cell.tag for cell in found.cells}) == cells


def test_a_cell_is_known_by_what_it_learns_not_by_where(here: Path) -> None:
    def tags(text: str, *given: str) -> list[str]:
        configure(TINY + SEVERAL + text)
        return [cell.tag for cell in matrix_plan.plan(load(Path(".config")), list(given), None).cells]

    first = tags("")
    assert tags('CONFIG_TRACKER="wandb"\nCONFIG_TRACKER_NOTES="x"\nCONFIG_GPT2_LOG_INTERVAL=1\n') == first
    assert tags("", "--device=auto") == first
    assert not set(tags('CONFIG_GPT2_LEARNING_RATE="2e-3"\n')) & set(first)
    assert not set(tags("", "--steps=5")) & set(first)


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("CONFIG_MATRIX_PRUNING_STATE=y\n", [], "state pruning is adamwprune's"),
        ('CONFIG_MATRIX_SEEDS="one"\n', [], "--seed: invalid int value: 'one' (CONFIG_MATRIX_SEEDS in .config:10)"),
        ("CONFIG_TRACKER_LOCAL=n\n", [], "the matrix goes by the local runs"),
        ("", ["--seed=3"], "--seed=3 would hold for every run of the matrix"),
        ("", ["--jobs=0"], "JOBS is 1 or more, not 0"),
        ("", ["--cell=7"], "there is no cell 7: they are 0 to 0"),
    ],
)
def test_a_matrix_that_cannot_be_trained_is_refused_in_one_sentence(
    text: str, given: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(TINY + text)
    assert matrix.main(given) == 2
    sentence = capsys.readouterr().err
    assert said in sentence
    assert len(sentence.strip().splitlines()) == 1


def test_the_matrix_trains_each_cell_once_and_prints_the_comparison(
    stand_in: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(TINY + SEVERAL)
    assert matrix.main(["--jobs", "2"]) == 0
    printed = capfd.readouterr().out
    assert "6 finished now, 0 before, 0 failed" in printed
    assert "best val loss" in printed
    assert len({run.group for run in runs()}) == 1
    assert {run.config["optimizer"] for run in runs()} == {"adamw", "adamwprune"}
    assert matrix.main([]) == 0
    assert "0 finished now, 6 before, 0 failed" in capfd.readouterr().out
    assert len(runs()) == 6


def test_a_failed_cell_leaves_the_others_alone_and_is_gone_on_with_later(
    stand_in: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(TINY + SEVERAL)
    Path("plan.txt").write_text("fail adamw")
    assert matrix.main([]) == 1
    printed = capfd.readouterr().out
    assert "5 finished now, 0 before, 1 failed" in printed
    assert "adamw none  failed (status 1): no room left; see checkpoints/" in printed
    Path("plan.txt").unlink()
    (begun,) = [run.id for run in runs() if run.state == "failed"]
    assert matrix.main(["--continue"]) == 0
    assert f"adamw none  goes on with run {begun}" in capfd.readouterr().out
    assert len(runs()) == 6
    assert all(run.state == "finished" for run in runs())


def test_a_run_without_a_checkpoint_is_begun_anew(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(TINY)
    Path("plan.txt").write_text("fail adamw")
    assert matrix.main([]) == 1
    next(Path("checkpoints").glob("*/last.pt")).unlink()
    Path("plan.txt").unlink()
    assert matrix.main([]) == 0
    assert sorted(run.state for run in runs()) == ["failed", "finished"]


def test_an_interrupted_matrix_lets_its_trainers_save_and_goes_on(
    stand_in: Path, here: Path, wait_until: Callable[..., None]
) -> None:
    configure(TINY + SEVERAL)
    Path("plan.txt").write_text("wait")
    program = (
        "import sys; sys.argv[0] = 'matrix'; from scripts import matrix, matrix_plan; import dataclasses; original = matrix_plan.resolve\n"
        "def resolve(*a):\n    s = original(*a)\n"
        f"    return s._replace(trainer=dataclasses.replace(s.trainer, program={str(stand_in)!r}))\n"
        "matrix_plan.resolve = resolve; sys.exit(matrix.main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, "--jobs", "2"], stdout=subprocess.PIPE, text=True)
    wait_until(
        lambda: (
            len(list(here.glob("kept/*"))) == 2
            and Path("waiting").exists()
            and len(list(here.glob("checkpoints/*/last.pt"))) == 2
        ),
        seconds=60,
    )
    wait_until(lambda: sum("step 1/2" in log.read_text() for log in here.glob("checkpoints/matrix-*/*.log")) == 2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "make continue goes on from here" in printed
    assert [run.state for run in runs()] == ["killed", "killed"]
    Path("plan.txt").unlink()
    assert matrix.main(["--continue"]) == 0
    assert len(runs()) == 6
    assert {run.state for run in runs()} == {"finished"}


def test_a_cell_that_another_command_trains_is_left_to_it(stand_in: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(TINY)
    found = matrix_plan.plan(load(Path(".config")), [], None)
    found.logs.mkdir(parents=True)
    with (found.logs / f"{found.cells[0].tag}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert matrix.main([]) == 0
    assert "is being trained: another command" in capfd.readouterr().out
    assert not Path("lossbook-runs").exists()


def test_jobs_share_the_gpus_and_the_cores(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(TINY)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    found = matrix_plan.plan(load(Path(".config")), [], None)
    assert matrix.Scheduler(found, 3).shares == [["4"], ["5"], ["6"]]
    with pytest.raises(ConfigError, match="4 jobs of 1 GPUs each need 4, and here are 3"):
        matrix.Scheduler(found, 4)


def test_continue_without_a_matrix_resumes_the_latest_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(TINY)
    told: list[list[str]] = []
    monkeypatch.setattr(matrix, "train_one", lambda argv: told.append(argv) or 0)
    assert matrix.main(["--continue", "--steps=9"]) == 0
    assert told == [["--resume", "latest", "--steps=9"]]


def test_a_real_cell_is_interrupted_resumed_and_finished(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The GPT-2 trainer itself: a checkpoint of `make matrix` is one that it goes on from."""
    configure(
        TINY.replace("STEPS=4", "STEPS=6") + 'CONFIG_GPT2_OPTIMIZER_ADAMWPRUNE=y\nCONFIG_TRACKER_RUN_NAME="mine"\n'
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOSSBOOK_FOLLOWER": "off"}
    found = matrix_plan.plan(load(Path(".config")), [], None)
    command = found.command(found.cells[0], None)
    # Ctrl-C after the third step, as the trainer itself would get it.
    program = (
        "import runpy, signal, sys; sys.argv = sys.argv[1:]; from gpt2 import train; original = train.learning_rate\n"
        "def rate(step, args):\n    if step == 2: signal.raise_signal(signal.SIGINT)\n    return original(step, args)\n"
        "train.learning_rate = rate; sys.exit(train.main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", program, *command[1:]], env=environment, check=False)
    assert ended.returncode == 130
    (run,) = runs()
    assert run.state == "interrupted"
    assert matrix.state_of(found, found.cells[0]) == ("begun", run.id)
    assert matrix.main([]) == 0
    (run,) = runs()
    assert (run.state, run.metrics["train_loss"]["last_step"]) == ("finished", 6)
    assert run.name == "mine"
    assert len(run.attempts) == 2
