"""`make demo`: train a small GPT-2 for about two minutes on text that every machine has, and show what was recorded."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Threads that spin while they wait make a step three times as long on a machine that does something else as well.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import lossbook
from gpt2 import train as trainer
from gpt2.model import GPT2, SIZES
from trainers import checkpoint
from trainers.sampling import write
from trainers.text import load_text

#: Sequences of 128 bytes in a batch: small enough that a step is short on two cores.
BATCH, CONTEXT = 16, 128
FEWEST_STEPS, MOST_STEPS = 150, 3000


def step_seconds() -> float:
    """How long one training step takes on this machine, from a few of them."""
    text = load_text("python-stdlib")
    model = GPT2(SIZES["nano"], text.vocabulary, CONTEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    tokens = torch.from_numpy(text.train[: BATCH * (CONTEXT + 1)].astype("int64")).view(BATCH, CONTEXT + 1)
    began = time.perf_counter()
    for number in range(8):
        if number == 3:
            began = time.perf_counter()  # the first ones also set things up
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - began) / 5


def sample(run: lossbook.RecordedRun, count: int = 300) -> str:
    """Text that the best checkpoint writes."""
    marks = [event for event in run.events("checkpoint") if event["value"]["is_best"]]
    state = checkpoint.load(Path(marks[-1]["value"]["path"]))
    text = load_text("python-stdlib")
    model = GPT2(SIZES["nano"], text.vocabulary, CONTEXT)
    model.load_state_dict(state["model"])
    return write(model, text, count, prompt="def ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=100.0, help="train for about so long")
    args = parser.parse_args()
    print("Reading the source of Python's standard library ...", flush=True)
    steps = int(min(MOST_STEPS, max(FEWEST_STEPS, args.seconds / step_seconds() / 1.1)))
    began = time.perf_counter()
    code = trainer.main(
        [
            "--dataset",
            "python-stdlib",
            "--tokenizer",
            "bytes",
            "--size",
            "nano",
            "--batch-size",
            str(BATCH),
            "--context",
            str(CONTEXT),
            "--steps",
            str(steps),
            "--warmup-steps",
            str(max(10, steps // 10)),
            "--learning-rate",
            "1e-3",
            "--eval-interval",
            str(max(25, steps // 8)),
            "--eval-batches",
            "10",
            "--tracker-tags",
            "demo",
        ]
    )
    if code:
        return code
    book = lossbook.open()
    run = book.run("latest")
    print(f"\nWhat it writes by now:\n\n{sample(run)}\n")
    subprocess.run([sys.executable, "-m", "lossbook.cli", "show", run.id], check=False)
    best, speed = run.summary["final/best_val_loss"], run.metrics["tokens_per_second"]["mean"]
    store = Path(book.store)
    shown = store.relative_to(Path.cwd()) if store.is_relative_to(Path.cwd()) else store
    programs = Path(sys.executable).parent
    if programs.is_relative_to(Path.cwd()):
        programs = programs.relative_to(Path.cwd())
    lossbook_command = programs / "lossbook"
    print(f"""
  best validation loss  {best:.4f} nats a byte, perplexity {run.summary["final/best_val_perplexity"]:.2f}
  speed                 {speed:,.0f} tokens/s
  wallclock             {time.perf_counter() - began:.0f} s, of it {run.summary["final/training_seconds"]:.0f} s training
  the run               {shown / run.project / run.id}

  See its curve          {lossbook_command} show {run.id}
  Draw any metric        {lossbook_command} curve {run.id} train_loss
  All runs               {lossbook_command} ls
  Open the dashboard     {lossbook_command} serve
  Train on your text     {programs / "python"} gpt2/train.py --dataset FILE
""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
