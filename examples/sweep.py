"""A sweep in one process: three learning rates times two batch sizes, each a run of its own, and one table.

    python examples/sweep.py
    python examples/sweep.py --steps 200 --text my-notes/

Every run sees the same number of tokens: a smaller batch takes more steps, so that the losses compare.
"""

from __future__ import annotations

import argparse
import time

import torch
from model import Transformer
from training import add_common_arguments, read_text, training_batch, validation_loss

from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker

parser = argparse.ArgumentParser(description="Sweep learning rate and batch size.")
add_common_arguments(parser, steps=40)
parser.add_argument("--log-dir", default="experiment_logs/sweep", help="folder of the experiments' logs")
args = parser.parse_args()

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
BATCH_SIZES = (32, 16)
SHAPE = {"vocab_size": 256, "context_length": 64, "d_model": 96, "num_layers": 2, "num_heads": 4}

text = read_text(args.text)
for lr in LEARNING_RATES:
    for batch_size in BATCH_SIZES:
        steps = args.steps * BATCH_SIZES[0] // batch_size
        config = ExperimentConfig(
            experiment_name=f"lr_{lr:.0e}_bs_{batch_size}",
            experiment_type="sweep",
            architecture="llama",
            max_learning_rate=lr,
            batch_size=batch_size,
            max_iters=steps,
            seed=1337,
            **SHAPE,
        )
        torch.manual_seed(config.seed)
        model = Transformer(**SHAPE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
        # A tracker each: the one before has finished, so a sweep of a thousand runs holds one of them at a time.
        tracker = ExperimentTracker(config, model, log_dir=args.log_dir, store=args.store, group="sweep")
        tracker.start()
        for step in range(steps):
            began = time.perf_counter()
            inputs, targets = training_batch(
                text.train, batch_size=batch_size, context=config.context_length, seed=config.seed, number=step
            )
            loss = model(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds = time.perf_counter() - began
            tracker.log_metrics(
                iteration=step,
                train_loss=loss,
                learning_rate=lr,
                tokens_per_sec=inputs.numel() / seconds,
                iter_time_ms=seconds * 1000,
            )
            tracker.increment_gradient_step()
        # The same 64 sequences for every run, whatever it was trained with.
        val_loss = validation_loss(model, text.validation, batch_size=16, context=config.context_length)
        tracker.log_eval(iteration=steps - 1, val_loss=val_loss)
        tracker.finish(notes=f"{tracker.gradient_steps} steps of {batch_size} sequences")
        tracker.save()
        print(f"{config.name}: validation loss {val_loss:.4f}", flush=True)

analyzer = ExperimentAnalyzer(log_dir=args.log_dir)
analyzer.load_all()
print()
print(analyzer.get_comparison_table())
best_experiment, best_loss = analyzer.get_best_experiment("val_loss")
print(f"\nbest of {len(analyzer.logs)}: {best_experiment} with a validation loss of {best_loss:.4f}")
