"""Train a GPT-2 on text, tracked with Lossbook.

    python gpt2/train.py --dataset python-stdlib --size nano --steps 1000
    python gpt2/train.py --resume latest

A step is one update of the parameters. Its loss is logged raw: smoothing is the reader's business. Loss and
perplexity are in nats per token.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import shlex
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout: `trainers` is not installed

if missing := [name for name in ("numpy", "orjson", "torch") if importlib.util.find_spec(name) is None]:
    sys.exit(f"gpt2/train.py needs {' and '.join(missing)}: pip install -e '.[train]' in the checkout, or make demo")

import numpy as np
import torch

import lossbook
from gpt2.model import GPT2, SIZES
from lossbook.errors import LossbookError
from trainers import checkpoint
from trainers.text import TOKENIZERS, Text, TextError, load_text

Batch = tuple[torch.Tensor, torch.Tensor]


class Arguments(argparse.ArgumentParser):
    """Says in one sentence what is wrong, rather than behind a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help says what there is\n")


def parse(argv: list[str] | None = None, defaults: dict[str, Any] | None = None) -> argparse.Namespace:
    parser = Arguments(prog="gpt2/train.py", description="Train a GPT-2 on text, tracked with Lossbook.",
                       formatter_class=argparse.ArgumentDefaultsHelpFormatter)  # fmt: skip
    text = parser.add_argument_group("text")
    text.add_argument("--dataset", default="python-stdlib", help="python-stdlib, a text file, or a folder")
    text.add_argument("--tokenizer", choices=TOKENIZERS, default="bytes", help="what a token is")
    text.add_argument("--vocab-size", type=int, default=4096, help="tokens of the BPE")
    text.add_argument("--cache", type=Path, help="where tokenised texts are kept [~/.cache/lossbook/datasets]")
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
    track.add_argument("--tracker", default=argparse.SUPPRESS,
                       help="mirrors beside the local run: wandb,trackio,tensorboard,mlflow, one or several, each with "
                       "a mode of its own if wanted (wandb:offline) [none]")  # fmt: skip
    track.add_argument("--tracker-project", help="project [directory-checksum]")
    track.add_argument("--tracker-run-name", help="run name [from the configuration]")
    track.add_argument("--tracker-tags", default="", help="tags, separated by commas")
    track.add_argument("--tracker-group", help="group of runs that belong together")
    track.add_argument("--tracker-notes", help="a word on what this run is for")
    track.add_argument("--tracker-mode", choices=("online", "offline", "disabled"), default=argparse.SUPPRESS,
                       help="of mirrors [online, or as WANDB_MODE says]")  # fmt: skip
    track.add_argument("--no-local", action="store_true", help="keep no run here: only in the trackers")
    track.add_argument("--store", help="where runs are kept [LOSSBOOK_STORE, else ./lossbook-runs]")
    if defaults:
        parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    args.tracker, args.tracker_mode = getattr(args, "tracker", None), getattr(args, "tracker_mode", None)
    for name in ("steps", "batch_size", "accumulate", "context", "eval_interval", "eval_batches", "log_interval"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    if args.min_learning_rate is None:
        args.min_learning_rate = args.learning_rate / 10
    # Written so that NaN fails as well.
    for name, fits, allowed in (
        ("learning_rate", 0 < args.learning_rate < math.inf, "above 0"),
        ("min_learning_rate", 0 <= args.min_learning_rate <= args.learning_rate, "from 0 to --learning-rate"),
        ("dropout", 0 <= args.dropout < 1, "from 0 to below 1"),
        ("beta1", 0 <= args.beta1 < 1, "from 0 to below 1"),
        ("beta2", 0 <= args.beta2 < 1, "from 0 to below 1"),
        ("weight_decay", 0 <= args.weight_decay < math.inf, "0 or more"),
        ("warmup_steps", args.warmup_steps >= 0, "0 or more"),
        ("clip", args.clip >= 0, "0 or more"),
        ("seed", 0 <= args.seed < 1 << 63, "0 or more, and fit 63 bits"),
    ):
        if not fits:
            parser.error(f"--{name.replace('_', '-')} must be {allowed}, not {getattr(args, name)}")
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


def windows(tokens: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], context: int, device: torch.device) -> Batch:
    """Inputs and targets from `starts` on, each (len(starts), context), int64."""
    batch = torch.from_numpy(np.stack([tokens[at : at + context + 1] for at in starts]).astype(np.int64))
    if device.type == "cuda":
        batch = batch.pin_memory()
    batch = batch.to(device, non_blocking=True)
    return batch[:, :-1], batch[:, 1:]


def training_starts(
    tokens: np.ndarray[Any, Any], args: argparse.Namespace, step: int, micro: int
) -> np.ndarray[Any, Any]:
    """Where the sequences of a micro-batch start.

    They depend on the seed and the step alone: a resumed run sees what an uninterrupted one does, and a step sees
    the same however many micro-batches it is split into.
    """
    random = np.random.default_rng((args.seed, step))
    starts = random.integers(0, len(tokens) - args.context, size=args.accumulate * args.batch_size)
    return starts[micro * args.batch_size : (micro + 1) * args.batch_size]


def validation_starts(tokens: np.ndarray[Any, Any], args: argparse.Namespace) -> np.ndarray[Any, Any]:
    """Where the sequences of an evaluation start, (batches, batch): spread evenly, the same for every seed."""
    starts = np.linspace(0, len(tokens) - args.context - 1, args.eval_batches * args.batch_size).astype(np.int64)
    return starts.reshape(args.eval_batches, args.batch_size)


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
        self.steps, self.width = steps, 0

    def show(self, step: int, loss: float, val: float | None, rate: float, seconds_a_step: float) -> None:
        minutes, seconds = divmod(int(seconds_a_step * (self.steps - step)), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
        shown = f"val {val:.3f}  " if val is not None else ""
        speed = f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"
        line = f"step {step}/{self.steps}  loss {loss:.3f}  {shown}{speed} tok/s  left {left}"
        if sys.stdout.isatty():
            print("\r" + line.ljust(self.width), end="", flush=True)
            self.width = len(line)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the line that is rewritten in place."""
        if self.width:
            print(flush=True)
            self.width = 0


def command() -> list[str]:
    """What to type here to run this file."""
    here = Path.cwd()
    paths = (Path(sys.executable), Path(__file__).resolve())
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise TextError("--device cuda: this PyTorch sees no GPU; use --device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise TextError("--device mps: this PyTorch sees no Apple GPU; use --device cpu")
    return torch.device(name)


def clip(model: GPT2, largest: float) -> torch.Tensor:
    """Scale the gradient down to the norm `largest` (0: leave it); the norm before, 0-d."""
    if largest:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    return torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None])


def make_optimizer(model: GPT2, args: argparse.Namespace, device: torch.device) -> torch.optim.AdamW:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.dim() >= 2], "weight_decay": args.weight_decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.learning_rate, betas=(args.beta1, args.beta2), fused=device.type == "cuda")


def find_checkpoint(reference: str, args: argparse.Namespace) -> Path:
    """The checkpoint that --resume means; a run's name will do where the run says itself what was saved for it.

    Raises:
        CheckpointError: nothing fits.
    """
    try:
        return checkpoint.find(reference, args.checkpoints)
    except checkpoint.CheckpointError:
        if reference == "latest":
            raise
        try:
            marks = lossbook.open(args.store).run(reference).events("checkpoint")
        except LossbookError:
            raise checkpoint.CheckpointError(
                f"there is no checkpoint for {reference!r} in {args.checkpoints}, and no such run in the store: "
                "name a file, a run, or latest"
            ) from None
        saved = [path for mark in marks if (path := Path(mark["value"]["path"])).is_file()]
        if not saved:
            raise checkpoint.CheckpointError(
                f"no checkpoint of the run {reference!r} is left: begin a new run"
            ) from None
        return max(saved, key=lambda path: path.name == "last.pt")


def begin(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """Read the arguments; of a resumed run those of its checkpoint, changed by what is given now.

    Raises:
        CheckpointError: there is nothing to resume, or not with these arguments.
    """
    args = parse(argv)
    if not args.resume:
        return args, None
    path = find_checkpoint(args.resume, args)
    state = checkpoint.load(path)
    kept = {name: value for name, value in state["args"].items() if name not in ("resume", "checkpoints", "cache")}
    kept["tracker_project"] = state["project"]
    # The run goes on where it is, also when this is started in another folder.
    if state["store"] and Path(state["store"], state["project"], state["run"]).is_dir():
        kept["store"] = state["store"]
    args = parse(argv, kept)
    for name in ("size", "context", "no_bias", "tokenizer", "vocab_size"):
        flag, now, then = f"--{name.replace('_', '-')}", getattr(args, name), kept[name]
        if now != then:
            raise checkpoint.CheckpointError(
                f"the model of {path} was made with {flag} {then}, which cannot become {now}: "
                f"leave {flag} out, or begin a new run without --resume"
            )
    if state["step"] >= args.steps:
        raise checkpoint.CheckpointError(
            f"the run {state['run']} has taken all of its {state['step']} steps: to train on, give --steps a larger number"
        )
    return args, state


def main(argv: list[str] | None = None) -> int:
    try:
        args, state = begin(argv)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise TextError("this trainer runs in one process: start it with python, not with torchrun")
        device = pick_device(args.device)
        text = load_text(args.dataset, args.tokenizer, args.vocab_size, args.cache)
        for part, tokens in (("training", text.train), ("validation", text.validation)):
            if len(tokens) <= args.context + 1:
                raise TextError(
                    f"the {part} part of {args.dataset} has {len(tokens)} tokens, too few for --context {args.context}: "
                    "use a longer text or a smaller context"
                )
        if state is not None and text.digest != state["text"]:
            raise TextError(
                f"the text of {args.dataset} is another than the checkpoint was trained on: "
                "bring that back, or begin a new run without --resume"
            )
        return train(args, state, device, text)
    except (TextError, checkpoint.CheckpointError, LossbookError) as error:
        print(f"gpt2/train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped at once: what was done since the last checkpoint is not saved", file=sys.stderr)
        return 130


def train(args: argparse.Namespace, state: dict[str, Any] | None, device: torch.device, text: Text) -> int:
    torch.manual_seed(args.seed)
    model = GPT2(SIZES[args.size], text.vocabulary, args.context, args.dropout, not args.no_bias).to(device)
    optimizer = make_optimizer(model, args, device)
    half = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[args.dtype]
    autocast = torch.autocast(device.type, half) if half is not None else nullcontext()
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
    step, best, tokens_seen, seconds = 0, math.inf, 0, 0.0
    val_loss: float | None = None
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        step, best, tokens_seen, seconds = state["step"], state["best"], state["tokens"], state["seconds"]
        val_loss = state["val_loss"]
        checkpoint.restore_random_states(state["random"], device)
    stop = Stop()  # before init(): Lossbook leaves a handler that is there alone
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    config.update(model="gpt2" if args.size == "gpt2" else f"gpt2-{args.size.removeprefix('gpt2-')}", optimizer="adamw",
                  device=str(device), parameters=model.parameter_count(), vocabulary=text.vocabulary,
                  train_tokens=len(text.train), validation_tokens=len(text.validation))  # fmt: skip
    run = lossbook.init(
        project=args.tracker_project, name=args.tracker_run_name, config=config, tags=args.tracker_tags,
        group=args.tracker_group, notes=args.tracker_notes, store=args.store, keep=not args.no_local,
        mirrors="none" if args.tracker_mode == "disabled" else args.tracker,
        # WANDB_MODE=disabled is about W&B alone here: the local run is recorded all the same.
        mode=(args.tracker_mode if args.tracker_mode != "disabled" else None) or os.environ.get("LOSSBOOK_MODE") or "online",
        id=state["run"] if state is not None else None, resume="allow" if state is not None else "never",
        resume_step=step if state is not None else None,
    )  # fmt: skip
    if state is not None and run.path and not run.resumed:
        print(f"the run {state['run']} is not in the store: its curve before step {step} stays where it was recorded")
    for key, goal in (("val_loss", "minimize"), ("val_perplexity", "minimize"), ("tokens_per_second", "maximize")):
        run.define_metric(key, goal=goal)
    name = run.id
    if not run.path:  # not recorded, so without an id of its own; two of them must not write over each other
        name = state["run"] if state is not None else f"untracked-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = args.checkpoints / name
    dataset = args.dataset if args.dataset == "python-stdlib" else os.path.abspath(os.path.expanduser(args.dataset))
    print(f"{run.name}: {model.parameter_count():,} parameters, {len(text.train):,} tokens of {text.name}, on {device}")
    forward = torch.compile(model) if args.compile else model
    validation = validation_starts(text.validation, args)
    progress = Progress(args.steps)

    def evaluate() -> float:
        model.eval()
        with torch.no_grad(), autocast:
            losses = [forward(*windows(text.validation, starts, args.context, device)) for starts in validation]
        model.train()
        return float(torch.stack(losses).mean())

    def save(file: str) -> bool:
        path = folder / file
        try:
            checkpoint.save(path, {
                "args": {**{key: config[key] for key in vars(args)}, "dataset": dataset}, "text": text.digest, "run": name,
                "project": run.project, "store": str(Path(run.path).parents[1]) if run.path else None,
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict(),
                "step": step, "best": best, "val_loss": val_loss, "tokens": tokens_seen, "seconds": seconds,
                "random": checkpoint.random_states(device),
            })  # fmt: skip
        except checkpoint.CheckpointError as error:  # a full disk is no reason to lose the training as well
            progress.close()
            print(f"gpt2/train.py: {error}", file=sys.stderr)
            run.alert("checkpoint not written", str(error), level="error")
            return False
        run.checkpoint(path, step=step, is_best=file == "best.pt")
        return True

    def evaluate_and_save() -> bool:
        nonlocal best, val_loss
        val_loss = evaluate()
        run.log({"val_loss": val_loss, "val_perplexity": perplexity(val_loss)}, step=step)
        if val_loss < best:
            best = val_loss
            save("best.pt")
        return save("last.pt")

    losses: list[torch.Tensor] = []
    since_tokens, since_seconds = tokens_seen, seconds

    def report() -> tuple[float, float]:
        """Log what is a mean over the steps since the last such row; returns the loss and the tokens/s."""
        nonlocal since_tokens, since_seconds
        mean = float(torch.stack(losses).mean())
        speed = (tokens_seen - since_tokens) / max(seconds - since_seconds, 1e-9)
        losses.clear()
        since_tokens, since_seconds = tokens_seen, seconds
        run.log({"train_perplexity": perplexity(mean), "tokens_per_second": speed}, step=step)
        return mean, speed

    with run:  # what fails in here is recorded, with the end of its traceback
        try:
            saved = evaluate_and_save() if state is None else True
            stopping = bool(stop.signal)
            clock = time.perf_counter()
            while step < args.steps and not stopping:
                rate = learning_rate(step, args)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                total = torch.zeros((), device=device)
                for micro in range(args.accumulate):
                    starts = training_starts(text.train, args, step, micro)
                    with autocast:
                        loss = forward(*windows(text.train, starts, args.context, device)) / args.accumulate
                    scaler.scale(loss).backward()
                    total += loss.detach()
                scaler.unscale_(optimizer)
                norm = clip(model, args.clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                tokens_seen += args.batch_size * args.context * args.accumulate
                # Tensors are handed over as they are: on a GPU nobody waits for them here.
                run.log(
                    {"train_loss": total, "learning_rate": rate, "grad_norm": norm, "tokens": tokens_seen}, step=step
                )
                losses.append(total)
                last, stopping = step == args.steps, bool(stop.signal)
                to_report = step % args.log_interval == 0 or last or stopping
                to_evaluate = step % args.eval_interval == 0 or last
                if to_report or to_evaluate:
                    wait_for(device)  # so that the clock is right
                    now = time.perf_counter()
                    seconds, clock = seconds + now - clock, now
                if to_report:
                    mean, speed = report()
                if to_evaluate:
                    saved = evaluate_and_save()
                    clock = time.perf_counter()  # evaluation and checkpoints are no training time
                elif stopping:
                    saved = save("last.pt")
                if to_report:
                    progress.show(step, mean, val_loss, speed, seconds / step)
        finally:
            progress.close()
            stop.restore()
            run.summary.update({
                "final/best_val_loss": best, "final/best_val_perplexity": perplexity(best),
                "final/training_seconds": seconds,
            })  # fmt: skip
        if step < args.steps:
            run.finish("interrupted" if stop.signal == signal.SIGINT else "killed")
            again = shlex.join([*command(), "--resume", name, "--checkpoints", str(args.checkpoints)])
            print(f"stopped after step {step}; {f'go on with: {again}' if saved else 'its checkpoint is not written'}")
            return 128 + stop.signal
    print(f"best validation loss {best:.4f} (perplexity {perplexity(best):.2f}), {seconds:.0f} s of training; "
          f"the run is {'with ' + args.tracker if args.no_local and run.path else 'in ' + (run.path or 'no file')}")  # fmt: skip
    return 0 if saved else 1


if __name__ == "__main__":
    sys.exit(main())
