"""Training that is killed and goes on, in the same run, with exact counts: both ways, beside a run that was not killed.

    python examples/resume.py

1. "whole" trains without interruption.
2. "state" is killed (SIGKILL) between two checkpoints, and goes on from the last one, which has the tracker's state.
3. "id" is killed in the same place; its checkpoints know nothing of the tracker, so it goes on with its run's id alone.

All three must end with the same losses, gradient steps and tokens.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from model import Transformer
from training import add_common_arguments, cosine, read_text, training_batch, validation_loss

import lossbook
from lossbook.lm import ExperimentConfig, ExperimentTracker

SHAPE = {"vocab_size": 256, "context_length": 64, "d_model": 64, "num_layers": 2, "num_heads": 4}
ACCUMULATION, BATCH_SIZE = 2, 8


def train(args: argparse.Namespace) -> None:
    """Train `args.train` ("whole", "state" or "id") from its checkpoint, if there is one, to the end."""
    text = read_text(args.text)
    torch.manual_seed(1337)
    model = Transformer(**SHAPE)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    config = ExperimentConfig(
        experiment_name=args.train,
        architecture="llama",
        batch_size=BATCH_SIZE,
        num_iterations=args.steps,
        gradient_accumulation_steps=ACCUMULATION,
        learning_rate=3e-3,
        warmup_iters=10,
        track_memory=False,
        **SHAPE,
    )

    path = args.checkpoints / f"{args.train}.pt"
    first, run_id, state = 0, None, None
    if path.exists():
        checkpoint = torch.load(path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first, run_id, state = checkpoint["step"] + 1, checkpoint["run_id"], checkpoint["tracker"]
        print(f"{args.train}: goes on with step {first}")
    # With the id alone the tracker finds its counts in the run's own rows; a state_dict brings them along.
    tracker = ExperimentTracker(config, model, store=args.store, run_id=None if state else run_id)
    if state:
        tracker.load_state_dict(state)

    for step in range(first, args.steps):
        rate = cosine(step, steps=args.steps, highest=config.learning_rate, lowest=3e-4, warmup=config.warmup_iters)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for micro in range(ACCUMULATION):
            inputs, targets = training_batch(
                text.train, batch_size=BATCH_SIZE, context=64, seed=1337, number=step * ACCUMULATION + micro
            )
            loss = model(inputs, targets)
            (loss / ACCUMULATION).backward()
            tracker.log_train_step(
                loss=loss, learning_rate=rate, tokens=inputs.numel(), iteration=step, accumulation_step=micro
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        if (step + 1) % args.checkpoint_every == 0:
            tracker.log_validation(validation_loss(model, text.validation, batch_size=BATCH_SIZE, context=64))
            kept: dict[str, Any] = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "run_id": tracker.run.id,
                "tracker": None,
            }
            if args.train == "state":
                kept["tracker"] = tracker.state_dict()
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(kept, path.with_suffix(".new"))
            os.replace(path.with_suffix(".new"), path)  # killed while writing, the checkpoint before is still whole
            tracker.log_checkpoint(path)
        if step == args.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)  # no handler, no goodbye: as the kernel does when memory is short
    tracker.finish()


def demonstrate(args: argparse.Namespace) -> bool:
    """Run the three trainings as processes of their own, and compare what they left; whether all is exact."""
    every = args.steps // 5
    # Two thirds of the way between two checkpoints: the steps after the last one are lost, and done again.
    kill_after = 3 * every - 1 + 2 * every // 3
    folder = args.checkpoints / time.strftime("resume-%Y%m%d-%H%M%S")
    command = [
        sys.executable,
        __file__,
        "--text",
        args.text,
        "--steps",
        str(args.steps),
        "--checkpoints",
        str(folder),
        "--checkpoint-every",
        str(every),
        *(["--store", args.store] if args.store else []),
    ]
    train(argparse.Namespace(**{**vars(args), "train": "whole", "checkpoints": folder, "checkpoint_every": every}))
    for name in ("state", "id"):
        killed = subprocess.run([*command, "--train", name, "--kill-after", str(kill_after)])
        print(f"{name}: killed with signal {-killed.returncode} after step {kill_after}", flush=True)
        subprocess.run([*command, "--train", name], check=True)

    book = lossbook.open(args.store)
    runs = {
        name: book.run(torch.load(folder / f"{name}.pt", weights_only=True)["run_id"])
        for name in ("whole", "state", "id")
    }
    whole = last_values(runs["whole"])
    expected = {"time/gradient_steps": args.steps, "time/tokens_seen": args.steps * ACCUMULATION * BATCH_SIZE * 64}
    headings = ("run", "attempts", "rows", "gradient steps", "tokens", "wallclock", "elapsed", "losses")
    print("\n" + "  ".join(f"{heading:>9}" for heading in headings))
    exact = True
    for name, run in runs.items():
        values = last_values(run)
        # Steps that were lost and done again are there once: the attempt that was killed no longer shows them.
        rows = run.history(["train/loss"]).rows()
        same = values["train/loss"] == whole["train/loss"] and values["val/loss"] == whole["val/loss"]
        exact = exact and same and all(values[key][-1] == value for key, value in expected.items())
        exact = exact and len(rows) == args.steps * ACCUMULATION
        steps, tokens = (round(values[key][-1]) for key in expected)
        wallclock, elapsed = (f"{values[f'time/{one}_hours'][-1] * 3600:.1f} s" for one in ("wallclock", "elapsed"))
        shown = (
            name,
            len(run.attempts),
            len(rows),
            steps,
            tokens,
            wallclock,
            elapsed,
            "the same" if same else "DIFFER",
        )
        print("  ".join(f"{cell:>{max(9, len(heading))}}" for cell, heading in zip(shown, headings, strict=True)))
    print(f"expected: {' gradient steps, '.join(str(count) for count in expected.values())} tokens")
    print("counts and losses are " + ("exact" if exact else "NOT exact"))
    print("wallclock is time that was trained; elapsed counts from the beginning, the gap between attempts included")
    return exact


def last_values(run: lossbook.RecordedRun) -> dict[str, list[float]]:
    """The series that are compared, each in the order in which it was logged."""
    keys = (
        "train/loss",
        "val/loss",
        "time/gradient_steps",
        "time/tokens_seen",
        "time/wallclock_hours",
        "time/elapsed_hours",
    )
    return {key: [row[-1] for row in run.history([key]).rows()] for key in keys}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill a training and go on with it.")
    add_common_arguments(parser, steps=80)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
    # The rest is for the processes that this one starts.
    parser.add_argument("--train", choices=("whole", "state", "id"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint-every", type=int, default=20, help=argparse.SUPPRESS)
    parser.add_argument("--kill-after", type=int, default=-1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps < 10:
        parser.error("--steps must be 10 or more: there have to be steps between two checkpoints to lose")
    if arguments.train:
        train(arguments)
    else:
        sys.exit(0 if demonstrate(arguments) else 1)
