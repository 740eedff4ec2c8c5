"""Train a GPT-2 on text, tracked with Lossbook.

    python gpt2/train.py --dataset python-stdlib --size nano --steps 1000
    python gpt2/train.py --resume latest

A step is one update of the parameters. Its loss is logged raw: smoothing is the reader's business. Loss and
perplexity are in nats per token.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout: `trainers` is not installed

import numpy as np
import torch

import lossbook
from gpt2.model import GPT2, SIZES
from trainers import checkpoint
from trainers.text import TOKENIZERS, Text, TextError, load_text


def parse(argv: list[str] | None = None, defaults: dict[str, Any] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpt2/train.py", description="Train a GPT-2 on text, tracked with Lossbook.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    text = parser.add_argument_group("text")
    text.add_argument("--dataset", default="python-stdlib", help="python-stdlib, a text file, or a folder")
    text.add_argument("--tokenizer", choices=TOKENIZERS, default="bytes", help="what a token is")
    text.add_argument("--vocab-size", type=int, default=4096, help="tokens of the BPE")
    model = parser.add_argument_group("model")
    model.add_argument("--size", choices=SIZES, default="nano", help="shape of the model")
    model.add_argument("--context", type=int, default=128, help="tokens seen at once")
    model.add_argument("--dropout", type=float, default=0.0, help="share of activations dropped")
    model.add_argument("--no-bias", action="store_true", help="linear layers and norms without bias")
    run = parser.add_argument_group("training")
    run.add_argument("--steps", type=int, default=1000, help="updates of the parameters")
    run.add_argument("--batch-size", type=int, default=16, help="sequences in a micro-batch")
    run.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step")
    run.add_argument("--learning-rate", type=float, default=1e-3, help="at the end of the warm-up")
    run.add_argument("--min-learning-rate", type=float, default=None, help="at the end [a tenth of the above]")
    run.add_argument("--warmup-steps", type=int, default=100, help="steps of linear warm-up")
    run.add_argument("--weight-decay", type=float, default=0.1, help="of matrices; biases and norms have none")
    run.add_argument("--beta1", type=float, default=0.9, help="of AdamW")
    run.add_argument("--beta2", type=float, default=0.95, help="of AdamW")
    run.add_argument("--clip", type=float, default=1.0, help="largest gradient norm; 0: no clipping")
    run.add_argument("--seed", type=int, default=1337, help="of parameters, batches and dropout")
    run.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to train")
    run.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of activations")
    run.add_argument("--compile", action="store_true", help="torch.compile the model")
    run.add_argument("--eval-interval", type=int, default=200, help="steps between evaluations and checkpoints")
    run.add_argument("--eval-batches", type=int, default=20, help="batches of an evaluation, the same each time")
    run.add_argument("--log-interval", type=int, default=10, help="steps between progress lines")
    run.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
    run.add_argument("--resume", metavar="WHAT", help="go on from a checkpoint: latest, a run's id, or a path")
    track = parser.add_argument_group("tracking")
    track.add_argument("--tracker", default="none", help="mirrors beside the local run: wandb,trackio,tensorboard")
    track.add_argument("--tracker-project", help="project [directory-checksum]")
    track.add_argument("--tracker-run-name", help="run name [from the configuration]")
    track.add_argument("--tracker-tags", default="", help="tags, separated by commas")
    track.add_argument("--tracker-group", help="group of runs that belong together")
    track.add_argument("--tracker-notes", help="a word on what this run is for")
    track.add_argument("--tracker-mode", choices=("online", "offline", "disabled"), default="online", help="of mirrors")
    track.add_argument("--no-local", action="store_true", help="record nothing at all")
    track.add_argument("--store", help="where runs are kept [LOSSBOOK_STORE, else ./lossbook-runs]")
    if defaults:
        parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    for name in ("steps", "batch_size", "accumulate", "context", "eval_interval", "eval_batches", "log_interval"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    if args.learning_rate <= 0 or not 0 <= args.dropout < 1 or args.warmup_steps < 0 or args.clip < 0:
        parser.error("--learning-rate must be above 0, --dropout in [0, 1), --warmup-steps and --clip 0 or more")
    if args.min_learning_rate is None:
        args.min_learning_rate = args.learning_rate / 10
    return args


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine down to the minimum at the last step."""
    if step < args.warmup_steps:
        return float(args.learning_rate * (step + 1) / args.warmup_steps)
    done = (step - args.warmup_steps) / max(1, args.steps - args.warmup_steps)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return float(args.min_learning_rate + (args.learning_rate - args.min_learning_rate) * height)


def perplexity(loss: float) -> float:
    """exp of a loss; infinity where that is beyond a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class Batches:
    """Batches that depend on the seed and the step alone, so a resumed run sees what an uninterrupted one does."""

    def __init__(self, tokens: np.ndarray[Any, Any], args: argparse.Namespace, device: torch.device) -> None:
        self.tokens, self.args, self.device = tokens, args, device

    def __call__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch `number`: inputs and targets, each (batch, context), int64."""
        random = np.random.default_rng((self.args.seed, number))
        starts = random.integers(0, len(self.tokens) - self.args.context, size=self.args.batch_size)
        rows = np.stack([self.tokens[at : at + self.args.context + 1] for at in starts]).astype(np.int64)
        batch = torch.from_numpy(rows)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True)
        return batch[:, :-1], batch[:, 1:]


class Stop:
    """Ctrl-C and SIGTERM end the run after the step under way; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.signal = 0
        self.previous = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class Progress:
    """The progress line: rewritten in place on a terminal, a line each elsewhere."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.at, self.width = steps, time.perf_counter(), 0, 0

    def show(self, step: int, loss: float, val: float | None, rate: float, seconds_a_step: float) -> None:
        left = int(seconds_a_step * (self.steps - step))
        shown = f"val {val:.3f}  " if val is not None else ""
        line = f"step {step}/{self.steps}  loss {loss:.3f}  {shown}{rate / 1000:.1f}k tok/s  left {left // 60}:{left % 60:02d}"
        if sys.stdout.isatty():
            print("\r" + line.ljust(self.width), end="\n" if step == self.steps else "", flush=True)
            self.width = len(line)
        else:
            print(line, flush=True)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise TextError("--device cuda: this PyTorch sees no GPU; use --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise TextError("--device mps: this PyTorch sees no Apple GPU; use --device cpu")
    return torch.device(name)


def make_optimizer(model: GPT2, args: argparse.Namespace, device: torch.device) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.dim() >= 2], "weight_decay": args.weight_decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.learning_rate, betas=(args.beta1, args.beta2), fused=device.type == "cuda")


def begin(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """Read the arguments; of a resumed run those of its checkpoint, changed by what is given now."""
    args = parse(argv)
    if not args.resume:
        return args, None
    state = checkpoint.load(checkpoint.find(args.resume, args.checkpoints))
    kept = {name: value for name, value in state["args"].items() if name not in ("resume", "checkpoints")}
    return parse(argv, kept), state


def main(argv: list[str] | None = None) -> int:
    try:
        args, state = begin(argv)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise TextError("this trainer runs in one process: start it with python, not with torchrun")
        device = pick_device(args.device)
        text = load_text(args.dataset, args.tokenizer, args.vocab_size)
        for part, tokens in (("training", text.train), ("validation", text.validation)):
            if len(tokens) <= args.context + 1:
                raise TextError(
                    f"the {part} part of {args.dataset} has {len(tokens)} tokens, too few for --context {args.context}: "
                    "use a longer text or a smaller context"
                )
    except (TextError, checkpoint.CheckpointError, OSError) as error:
        print(f"gpt2/train.py: {error}", file=sys.stderr)
        return 2
    return train(args, state, device, text)


def train(args: argparse.Namespace, state: dict[str, Any] | None, device: torch.device, text: Text) -> int:
    torch.manual_seed(args.seed)
    model = GPT2(SIZES[args.size], text.vocabulary, args.context, args.dropout, not args.no_bias).to(device)
    optimizer = make_optimizer(model, args, device)
    half = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[args.dtype]
    autocast = torch.autocast(device.type, half) if half is not None else nullcontext()
    scaler = torch.amp.GradScaler(device.type, enabled=args.dtype == "float16" and device.type == "cuda")
    step, best, tokens_seen, seconds = 0, math.inf, 0, 0.0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        step, best, tokens_seen, seconds = state["step"], state["best"], state["tokens"], state["seconds"]
        torch.set_rng_state(state["rng"])
        if device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"])
    stop = Stop()  # before init(): Lossbook leaves a handler that is there alone
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    config.update(model="gpt2" if args.size == "gpt2" else f"gpt2-{args.size.removeprefix('gpt2-')}", optimizer="adamw",
                  device=str(device), parameters=model.parameter_count(), vocabulary=text.vocabulary,
                  train_tokens=len(text.train), validation_tokens=len(text.validation))  # fmt: skip
    run = lossbook.init(
        project=args.tracker_project, name=args.tracker_run_name, config=config, tags=args.tracker_tags,
        group=args.tracker_group, notes=args.tracker_notes, store=args.store, mirrors=args.tracker,
        mode="disabled" if args.no_local else args.tracker_mode if args.tracker_mode != "disabled" else "offline",
        id=state["run"] if state is not None else None, resume="allow" if state is not None else "never",
        resume_step=step if state is not None else None,
    )  # fmt: skip
    for key, goal in (("val_loss", "minimize"), ("val_perplexity", "minimize"), ("tokens_per_second", "maximize")):
        run.define_metric(key, goal=goal)
    folder = args.checkpoints / (run.id if run.id != "disabled" else "untracked")
    print(f"{run.name}: {model.parameter_count():,} parameters, {len(text.train):,} tokens of {text.name}, on {device}")
    forward = torch.compile(model) if args.compile else model
    training, validation = Batches(text.train, args, device), Batches(text.validation, args, device)
    progress = Progress(args.steps)
    val_loss: float | None = None

    def evaluate() -> float:
        model.eval()
        with torch.no_grad(), autocast:
            losses = [forward(*validation(number)) for number in range(args.eval_batches)]
        model.train()
        return float(torch.stack(losses).mean())

    def save(name: str) -> None:
        path = folder / name
        checkpoint.save(path, {
            "args": {key: value for key, value in config.items() if key in vars(args)}, "run": run.id,
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict(),
            "step": step, "best": best, "tokens": tokens_seen, "seconds": seconds, "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if device.type == "cuda" else None,
        })  # fmt: skip
        run.checkpoint(path, step=step, is_best=name == "best.pt")

    def evaluate_and_save() -> float:
        nonlocal best
        loss = evaluate()
        run.log({"val_loss": loss, "val_perplexity": perplexity(loss)}, step=step)
        if loss < best:
            best = loss
            save("best.pt")
        save("last.pt")
        return loss

    if state is None:
        val_loss = evaluate_and_save()
    losses: list[torch.Tensor] = []
    since_tokens, since_seconds, clock = tokens_seen, seconds, time.perf_counter()
    while step < args.steps and not stop.signal:
        rate = learning_rate(step, args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=device)
        for micro in range(args.accumulate):
            with autocast:
                loss = forward(*training(step * args.accumulate + micro)) / args.accumulate
            scaler.scale(loss).backward()
            total += loss.detach()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip or math.inf)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens_seen += args.batch_size * args.context * args.accumulate
        # Tensors are handed over as they are: on a GPU nobody waits for them here.
        run.log({"train_loss": total, "learning_rate": rate, "grad_norm": norm, "tokens": tokens_seen}, step=step)
        losses.append(total)
        last = step == args.steps
        if step % args.log_interval == 0 or last:
            mean = float(torch.stack(losses).mean())  # waits for the device, so the clock below is right
            losses.clear()
            now = time.perf_counter()
            seconds, clock = seconds + now - clock, now
            speed = (tokens_seen - since_tokens) / max(seconds - since_seconds, 1e-9)
            since_tokens, since_seconds = tokens_seen, seconds
            run.log({"train_perplexity": perplexity(mean), "tokens_per_second": speed}, step=step)
            progress.show(step, mean, val_loss, speed, seconds / step)
        if step % args.eval_interval == 0 or last:
            seconds += time.perf_counter() - clock
            val_loss = evaluate_and_save()
            clock = time.perf_counter()  # evaluation and checkpoints are no training time
    if stop.signal and step < args.steps:
        seconds += time.perf_counter() - clock
        save("last.pt")
        run.finish("interrupted" if stop.signal == signal.SIGINT else "killed")
        stop.restore()
        again = f"python gpt2/train.py --resume {run.id} --checkpoints {args.checkpoints}"
        print(f"\nstopped after step {step}; go on with: {again}")
        return 128 + stop.signal
    run.summary.update({
        "final/best_val_loss": best, "final/best_val_perplexity": perplexity(best), "final/training_seconds": seconds,
    })  # fmt: skip
    run.finish()
    stop.restore()
    print(f"best validation loss {best:.4f} (perplexity {perplexity(best):.2f}), {seconds:.0f} s of training; "
          f"the run is in {run.path or 'no file'}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
