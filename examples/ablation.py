"""An ablation: a baseline, and each of its parts changed alone. What each change costs, and a log to write findings in.

    python examples/ablation.py

The configurations are made with `config.replace()`, so a run differs from the baseline in what its name says.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from model import Transformer
from training import add_common_arguments, cosine, read_text, training_batch, validation_loss

from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker

parser = argparse.ArgumentParser(description="Change one part of a baseline at a time.")
add_common_arguments(parser, steps=60)
parser.add_argument("--log-dir", default="experiment_logs/ablation", help="folder of the experiments' logs")
args = parser.parse_args()

baseline = ExperimentConfig(
    experiment_name="baseline",
    experiment_type="ablation",
    architecture="llama",
    vocab_size=256,
    context_length=64,
    d_model=96,
    num_layers=3,
    num_heads=4,
    batch_size=16,
    max_iters=args.steps,
    max_learning_rate=3e-3,
    warmup_iters=10,
    seed=1337,
)
ABLATIONS: dict[str, dict[str, Any]] = {
    "half_the_width": {"d_model": 48},
    "a_third_of_the_depth": {"num_layers": 1},
    "one_head": {"num_heads": 1},
    "no_warmup": {"warmup_iters": 0},
}


def train(config: ExperimentConfig) -> None:
    torch.manual_seed(config.seed)
    model = Transformer(
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        d_model=config.d_model,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
    )
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    tracker = ExperimentTracker(config, model, log_dir=args.log_dir, store=args.store, group="ablation")
    tracker.start()
    for step in range(config.max_iters):
        began = time.perf_counter()
        rate = cosine(
            step, steps=config.max_iters, highest=config.learning_rate, lowest=0.0, warmup=config.warmup_iters
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = training_batch(
            text.train, batch_size=config.batch_size, context=config.context_length, seed=config.seed, number=step
        )
        loss = model(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        tracker.log_metrics(
            step,
            train_loss=loss,
            learning_rate=rate,
            tokens_per_sec=inputs.numel() / seconds,
            iter_time_ms=seconds * 1000,
        )
        tracker.increment_gradient_step()
    val_loss = validation_loss(model, text.validation, batch_size=16, context=config.context_length)
    tracker.log_eval(step, val_loss=val_loss)
    tracker.finish(notes=f"{tracker.parameters:,} parameters")
    tracker.save()
    print(f"{config.name}: validation loss {val_loss:.4f}", flush=True)


text = read_text(args.text)
train(baseline)
for name, changes in ABLATIONS.items():
    train(baseline.replace(experiment_name=name, **changes))

analyzer = ExperimentAnalyzer(log_dir=args.log_dir)
analyzer.load_all()
compared = analyzer.compare_experiments(["baseline", *ABLATIONS])
reference = compared["baseline"]["best_val_loss"]
print(f"\nbaseline: validation loss {reference:.4f}")
for name, changes in ABLATIONS.items():
    difference = compared[name]["best_val_loss"] - reference
    changed = ", ".join(
        f"{field} {compared['baseline']['differs'][field]} -> {value}" for field, value in changes.items()
    )
    print(f"{name:<22} {difference:+.4f}  ({changed})")
print(f"\nlog, with room for findings: {analyzer.write_report('EXPERIMENT_LOG.md')}")
