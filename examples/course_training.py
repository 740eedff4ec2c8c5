"""The training script of a language-model course, with an experiment log: run.json and curves, JSON and CSV.

    python examples/course_training.py
    python examples/course_training.py --d_model 256 --lr 1e-3 --wandb_run_name wider

A byte-level transformer learns the Python standard library's sources. The loop logs with `log_metrics()` and
`log_eval()`, and counts its own gradient steps.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from model import Transformer
from training import cosine, read_text, training_batch, validation_loss

from lossbook.lm import ExperimentAnalyzer, ExperimentConfig, ExperimentTracker


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small transformer, with an experiment log.")
    parser.add_argument("--text", default="python-stdlib", help="python-stdlib, a text file or a folder")
    parser.add_argument("--vocab_size", type=int, default=256, help="256: a token is a byte")
    parser.add_argument("--context_length", type=int, default=64)
    parser.add_argument("--d_model", type=int, default=128)
    parser.add_argument("--num_heads", type=int, default=4)
    parser.add_argument("--d_ff", type=int, default=384)
    parser.add_argument("--num_layers", type=int, default=3)
    parser.add_argument("--rope_theta", type=float, default=10_000.0)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_iters", "--steps", type=int, default=250)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--min_lr", type=float, default=3e-4)
    parser.add_argument("--warmup_iters", type=int, default=20)
    parser.add_argument("--weight_decay", type=float, default=0.1)
    parser.add_argument("--grad_clip", type=float, default=1.0)
    parser.add_argument("--beta1", type=float, default=0.9)
    parser.add_argument("--beta2", type=float, default=0.95)
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--log_interval", type=int, default=10)
    parser.add_argument("--eval_interval", type=int, default=50)
    parser.add_argument("--wandb_run_name", help="what the experiment is called")
    parser.add_argument("--store", help="where the run is kept [LOSSBOOK_STORE, else ./lossbook-runs]")
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    text = read_text(args.text)
    torch.manual_seed(args.seed)
    model = Transformer(
        vocab_size=args.vocab_size,
        context_length=args.context_length,
        d_model=args.d_model,
        num_layers=args.num_layers,
        num_heads=args.num_heads,
        d_ff=args.d_ff,
        rope_theta=args.rope_theta,
    ).to(args.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(args.beta1, args.beta2), eps=args.eps, weight_decay=args.weight_decay
    )

    config = ExperimentConfig(
        experiment_name=args.wandb_run_name or "default_experiment",
        vocab_size=args.vocab_size,
        context_length=args.context_length,
        d_model=args.d_model,
        num_heads=args.num_heads,
        d_ff=args.d_ff,
        num_layers=args.num_layers,
        rope_theta=args.rope_theta,
        batch_size=args.batch_size,
        max_iters=args.max_iters,
        max_learning_rate=args.lr,
        min_learning_rate=args.min_lr,
        warmup_iters=args.warmup_iters,
        weight_decay=args.weight_decay,
        grad_clip=args.grad_clip,
        beta1=args.beta1,
        beta2=args.beta2,
        eps=args.eps,
        seed=args.seed,
        device=args.device,
        optimizer_name="AdamW",
    )
    tracker = ExperimentTracker(config, model, log_dir="experiment_logs", store=args.store)
    tracker.start()

    train_losses: list[float] = []
    iter_times: list[float] = []
    for iter_num in range(args.max_iters):
        iter_start_time = time.time()
        lr = cosine(iter_num, steps=args.max_iters, highest=args.lr, lowest=args.min_lr, warmup=args.warmup_iters)
        for group in optimizer.param_groups:
            group["lr"] = lr
        inputs, targets = training_batch(
            text.train, batch_size=args.batch_size, context=args.context_length, seed=args.seed, number=iter_num
        )
        loss = model(inputs.to(args.device), targets.to(args.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # Here, beside optimizer.step(), and not where something is logged: it is that which is counted.
        tracker.increment_gradient_step()
        train_losses.append(loss.item())
        iter_times.append(time.time() - iter_start_time)

        if (iter_num + 1) % args.log_interval == 0:
            avg_loss = np.mean(train_losses[-args.log_interval :])
            avg_time = np.mean(iter_times[-args.log_interval :])
            tracker.log_metrics(
                iteration=iter_num,
                train_loss=avg_loss,
                learning_rate=lr,
                tokens_per_sec=args.batch_size * args.context_length / avg_time,
                iter_time_ms=avg_time * 1000,
            )
            print(
                f"iteration {iter_num + 1:>5}  train {avg_loss:.4f}  lr {lr:.2e}  {avg_time * 1000:.0f} ms", flush=True
            )

        if (iter_num + 1) % args.eval_interval == 0 or iter_num + 1 == args.max_iters:
            losses = estimate_loss(model, text.train, text.validation, args)
            tracker.log_eval(iteration=iter_num, train_loss=losses["train"], val_loss=losses["val"])
            print(f"iteration {iter_num + 1:>5}  train {losses['train']:.4f}  val {losses['val']:.4f}", flush=True)

    tracker.finish(train_loss=losses["train"], val_loss=losses["val"], notes="Training completed successfully")
    print(f"log: {tracker.save()}")
    tracker.print_summary()

    analyzer = ExperimentAnalyzer(log_dir="experiment_logs")
    analyzer.load_all()
    print(f"csv: {analyzer.export_csv(config.name)}")


def estimate_loss(
    model: Transformer, train: np.ndarray, validation: np.ndarray, args: argparse.Namespace
) -> dict[str, float]:
    """Both losses at places that stay the same: the training loss of a single batch is too noisy to compare with."""
    return {
        name: validation_loss(model, tokens, batch_size=args.batch_size, context=args.context_length)
        for name, tokens in (("train", train), ("val", validation))
    }


if __name__ == "__main__":
    train(parse())
