"""A language model of TinyStories' size, tracked to the last count: validation, checkpoints, a picture of the curves.

    python examples/tinystories_17m.py                  # the same shape, scaled down: under a minute on a CPU
    python examples/tinystories_17m.py --full --text tinystories.txt --device cuda

`--full` is the 17M model of Stanford's CS336 (12.5M in the blocks, 5.1M in the head), with a BPE of 10,000 tokens.
Each micro-batch is logged with `log_train_step()`; gradient steps and tokens are counted by the tracker.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path

import torch
from model import Transformer
from training import add_common_arguments, cosine, read_text, training_batch, validation_loss

from lossbook.lm import ExperimentConfig, ExperimentTracker

parser = argparse.ArgumentParser(description="Train a TinyStories-sized model.")
add_common_arguments(parser, steps=120)
parser.add_argument("--full", action="store_true", help="the real shape and 10,000 steps, for a GPU")
parser.add_argument("--device", default="cpu")
parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
args = parser.parse_args()

if args.full:
    config = ExperimentConfig(
        model_size="17M",
        dataset=Path(args.text).stem,
        architecture="llama",
        learning_rate=3e-4,
        num_iterations=10_000 if args.steps == parser.get_default("steps") else args.steps,
        vocab_size=10_000,
        context_length=256,
        d_model=512,
        num_layers=4,
        num_heads=16,
        d_ff=1344,
        rope_theta=10_000.0,
        batch_size=32,
        gradient_accumulation_steps=4,
        warmup_iters=200,
        dtype="bfloat16",
        seed=1337,
    )
    text = read_text(args.text, "bpe", config.vocab_size)
else:
    # A quarter of the width and bytes for tokens; everything else is as above.
    config = ExperimentConfig(
        model_size="0.8M",
        dataset=Path(args.text).stem,
        architecture="llama",
        learning_rate=3e-3,
        num_iterations=args.steps,
        vocab_size=256,
        context_length=64,
        d_model=128,
        num_layers=4,
        num_heads=4,
        d_ff=336,
        rope_theta=10_000.0,
        batch_size=8,
        gradient_accumulation_steps=2,
        warmup_iters=20,
        dtype="float32",
        seed=1337,
    )
    text = read_text(args.text)

steps, context, batch_size = config.num_iterations, config.context_length, config.batch_size
accumulation = config.gradient_accumulation_steps
evaluate_every = max(1, steps // 6)

config.vocab_size = text.vocabulary  # a BPE of a short text has fewer tokens than it may have
torch.manual_seed(config.seed)
model = Transformer(
    vocab_size=config.vocab_size,
    context_length=context,
    d_model=config.d_model,
    num_layers=config.num_layers,
    num_heads=config.num_heads,
    d_ff=config.d_ff,
    rope_theta=config.rope_theta,
).to(args.device)
optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)

tracker = ExperimentTracker(config, model, store=args.store)
print(f"{config.name}: {tracker.parameters:,} parameters, {steps} steps of {accumulation} micro-batches")

best = math.inf
for step in range(steps):
    rate = cosine(
        step, steps=steps, highest=config.learning_rate, lowest=config.learning_rate / 10, warmup=config.warmup_iters
    )
    for group in optimizer.param_groups:
        group["lr"] = rate

    for micro in range(accumulation):
        inputs, targets = training_batch(
            text.train, batch_size=batch_size, context=context, seed=config.seed, number=step * accumulation + micro
        )
        with torch.autocast(args.device, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            loss = model(inputs.to(args.device), targets.to(args.device))
        (loss / accumulation).backward()
        last = micro == accumulation - 1
        # The norm is that of the whole gradient, which is there with the last micro-batch.
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) if last else None
        # Loss and norm are handed over as tensors: reading them here would wait for the GPU.
        tracker.log_train_step(
            loss=loss.detach(),
            learning_rate=rate,
            grad_norm=norm,
            tokens=inputs.numel(),
            iteration=step,
            accumulation_step=micro,
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    if (step + 1) % evaluate_every == 0 or step + 1 == steps:
        with tracker.validating():
            val_loss = validation_loss(model, text.validation, batch_size=batch_size, context=context, batches=8)
        tracker.log_validation(val_loss=val_loss, val_perplexity=math.exp(val_loss), num_batches=8)
        print(f"step {step + 1:>5}  train {loss.item():.4f}  val {val_loss:.4f}", flush=True)

        is_best, best = val_loss < best, min(val_loss, best)
        with tracker.checkpointing():
            folder = args.checkpoints / config.name
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "last.pt"
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "tracker": tracker.state_dict(),
                },
                path,
            )
            if is_best:
                path = Path(shutil.copyfile(path, folder / "best.pt"))
        tracker.log_checkpoint(path, is_best=is_best)

tracker.finish(save_summary=True)
tracker.print_summary()
print(f"summary: {tracker.summary_dir / f'{config.name}_summary.json'}")
print(f"curves:  {tracker.plot('loss.png', x='tokens')}")
