"""Verifies the BitNet trainer's W&B integration for real: a line for each promise, `works` or `FAILED` with why.

    python test_wandb.py                     # offline: needs no login and no network
    python test_wandb.py --wandb_mode online # with your login: what W&B's cloud then has is checked as well

A tiny BitNet is trained as a user would train it, three times: with W&B, with a W&B that cannot be reached, and with
W&B disabled. Exit status 1 when a promise is broken, and when W&B is not installed: then nothing was verified.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # run from a checkout

import lossbook
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import is_complete

ROOT = Path(__file__).resolve().parent
STEPS = 10
PROJECT = "bitnet-test-wandb"
#: Every series that the trainer promises.
TRAIN_SERIES = ("train/loss", "train/learning_rate", "train/qdrop_probability", "train/training_stage", "train/epoch",
                "train/global_step", "train/grad_norm")  # fmt: skip
VALIDATION_SERIES = ("val/loss", "val/perplexity")
CONFIG = ("model_size", "dataset", "batch_size", "learning_rate", "num_epochs", "warmup_steps", "max_length", "fp16",
          "gradient_accumulation_steps", "total_parameters", "trainable_parameters", "vocab_size", "hidden_size",
          "steps_per_epoch", "total_training_steps", "tokenizer", "device", "world_size")  # fmt: skip
FLAGS = ["--model_size", "nano", "--max_length", "16", "--batch_size", "4", "--max_steps", str(STEPS), "--eval_batches",
         "2", "--eval_interval", "5", "--tokenizer", "bytes", "--device", "cpu", "--wandb_project", PROJECT,
         "--wandb_run_name", "a-test", "--wandb_tags", "one", "two", "--wandb_notes", "a note"]  # fmt: skip
#: How long W&B may take to have everything, in seconds.
PATIENCE_SECONDS = 120.0


class Broken(Exception):
    """A promise that was not kept; the message says how."""


def require(holds: object, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def train(here: Path, *flags: str, **environment: str) -> lossbook.RecordedRun:
    """Train in the folder `here`; returns the run as the store has it."""
    here.mkdir()
    text = here / "fable.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 60)
    given = {**os.environ, "LOSSBOOK_DATASETS": str(here / "datasets"), "LOSSBOOK_STORE": str(here / "store")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bitnet" / "train.py"), "--dataset", str(text), *FLAGS, *flags],
        cwd=here,
        env={**given, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    require(done.returncode == 0, f"the training ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return lossbook.open(here / "store").run("latest")


def wait(run: lossbook.RecordedRun, name: str) -> None:
    """Until a mirror has the whole run."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_complete(run.folder, cursor := load_cursor(run.folder, name)):
        require(not (cursor.state == "stopped" and cursor.error), str(cursor.error))
        require(time.monotonic() < deadline, f"{name} did not have the whole run after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.1)


def losses(run: lossbook.RecordedRun) -> list[Any]:
    return [row[2] for row in run.history(["train/loss"]).rows()]


def check_history(rows: list[dict[str, Any]], run: lossbook.RecordedRun) -> None:
    """Every series, at every step, with the values that were logged."""
    for key in TRAIN_SERIES:
        steps = [row["_step"] for row in rows if row.get(key) is not None]
        require(steps == list(range(1, STEPS + 1)), f"{key} has the steps {steps}")
    for key in VALIDATION_SERIES:
        require(sum(row.get(key) is not None for row in rows) == 3, f"{key} has not its three values")
    found = [row["train/loss"] for row in rows if row.get("train/loss") is not None]
    require(found == losses(run), "train/loss has other values than the local run")
    stages = [row["train/training_stage"] for row in rows if row.get("train/training_stage") is not None]
    require(sorted(set(stages)) == [0, 1, 2], f"the stages are {stages}")


def check_wandb(here: Path, mode: str) -> str:
    run = train(here, "--wandb_mode", mode)
    wait(run, "wandb-offline" if mode == "offline" else "wandb")
    if mode == "online":
        import wandb

        url = (load_cursor(run.folder, "wandb").url or "").split("?")[0].rstrip("/")
        remote = wandb.Api().run("/".join(url.split("/")[-4:]).replace("/runs", ""))
        check_history(list(remote.scan_history()), run)
        missing = [name for name in CONFIG if name not in remote.config]
        require(not missing, f"the configuration lacks {', '.join(missing)}")
        return f"{STEPS} steps at {url}"
    (file,) = here.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    check_history(rows, run)
    described = next(record["run"] for record in records if record["type"] == "run")
    require(described["display_name"] == "a-test", f"the run is called {described['display_name']}")
    require(set(described["tags"]) == {"one", "two"}, f"the tags are {described['tags']}")
    require(described["notes"] == "a note", f"the notes are {described['notes']!r}")
    written = json.dumps(described)
    missing = [name for name in CONFIG if f'"{name}"' not in written]
    require(not missing, f"the configuration lacks {', '.join(missing)}")
    return f"{STEPS} steps, {len(TRAIN_SERIES) + len(VALIDATION_SERIES)} series, read back with W&B's own reader"


def check_unreachable(here: Path, expected: list[Any]) -> str:
    """Port 9 of this machine answers nobody."""
    run = train(here, "--wandb_mode", "online", WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="0" * 40)
    require(run.state == "finished", f"the run is {run.state}")
    require(losses(run) == expected, "the losses are others than with W&B")
    return "the training went on, with the same losses"


def check_disabled(here: Path, expected: list[Any]) -> str:
    run = train(here, "--disable_wandb")
    wait(run, "tensorboard")
    require(not list(here.glob("wandb*")), "something was left in ./wandb")
    require(list(here.glob("runs/**/*tfevents*")), "TensorBoard has no events")
    require(losses(run) == expected, "the losses are others than with W&B")
    return "TensorBoard has the run, W&B nothing"


def main(argv: list[str]) -> int:
    flags = argparse.ArgumentParser(prog="test_wandb.py", description="Verify the BitNet trainer's W&B integration.")
    flags.add_argument("--wandb_mode", choices=("offline", "online"), default="offline", help="where W&B keeps the run")
    mode = flags.parse_args(argv).wandb_mode
    if importlib.util.find_spec("wandb") is None:
        print("FAILED  wandb is not installed, so nothing was verified: pip install wandb")
        return 1
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()

        def known() -> list[Any]:
            return losses(lossbook.open(here / "wandb" / "store").run("latest"))

        checks: dict[str, Callable[[], str]] = {
            f"W&B {mode}": lambda: check_wandb(here / "wandb", mode),
            "W&B unreachable": lambda: check_unreachable(here / "unreachable", known()),
            "W&B disabled": lambda: check_disabled(here / "disabled", known()),
        }
        for name, check in checks.items():
            print(f"{name:<18}", end="", flush=True)
            try:
                print(f"works   {check()}", flush=True)
            except Exception as error:  # one broken promise leaves the others to be tested
                failed = True
                said = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
                print(f"FAILED  {said}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
