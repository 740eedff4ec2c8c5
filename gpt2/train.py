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
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout: `trainers` is not installed

if missing := [name for name in ("numpy", "orjson", "torch") if importlib.util.find_spec(name) is None]:
    sys.exit(f"gpt2/train.py needs {' and '.join(missing)}: pip install -e '.[train]' in the checkout, or make demo")

import numpy as np
import torch

import lossbook
from gpt2.arguments import parse
from gpt2.model import GPT2, SIZES
from lossbook import lm
from lossbook.errors import LossbookError
from trainers import checkpoint, optimizers, sampling
from trainers.datasets import DATASETS
from trainers.distributed import Group, Stop
from trainers.pruning import Pruner
from trainers.text import Text, TextError, load_text

Batch = tuple[torch.Tensor, torch.Tensor]


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
    tokens: np.ndarray[Any, Any], args: argparse.Namespace, step: int, group: Group
) -> np.ndarray[Any, Any]:
    """Where the sequences start that this process trains on in a step, (micro-batches, batch).

    A step's sequences depend on the seed and the step alone, and each process takes its part of them: a resumed run
    sees what an uninterrupted one does, and a step sees the same however it is split into micro-batches and over
    processes.
    """
    random = np.random.default_rng((args.seed, step))
    starts = random.integers(0, len(tokens) - args.context, size=args.accumulate * args.batch_size)
    share = len(starts) // group.size
    # A process may have less than a batch, or no whole number of them.
    batch = max(size for size in range(1, args.batch_size + 1) if share % size == 0)
    return starts[group.rank * share : (group.rank + 1) * share].reshape(-1, batch)


def validation_starts(tokens: np.ndarray[Any, Any], args: argparse.Namespace) -> np.ndarray[Any, Any]:
    """Where the sequences of an evaluation start, (batches, batch): spread evenly, the same for every seed."""
    starts = np.linspace(0, len(tokens) - args.context - 1, args.eval_batches * args.batch_size).astype(np.int64)
    return starts.reshape(args.eval_batches, args.batch_size)


class Progress:
    """The progress line: rewritten in place on a terminal, a line each elsewhere; of the first process alone."""

    def __init__(self, steps: int, group: Group) -> None:
        self.steps, self.width, self.silent = steps, 0, not group.is_first

    def show(self, step: int, loss: float, val: float | None, rate: float, seconds_a_step: float) -> None:
        minutes, seconds = divmod(int(seconds_a_step * (self.steps - step)), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
        shown = f"val {val:.3f}  " if val is not None else ""
        speed = f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"
        line = f"step {step}/{self.steps}  loss {loss:.3f}  {shown}{speed} tok/s  left {left}"
        if self.silent:
            return
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


def clip(model: GPT2, largest: float) -> torch.Tensor:
    """Scale the gradient down to the norm `largest` (0: leave it); the norm before, 0-d."""
    if largest:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    return torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None])


def make_optimizer(model: GPT2, args: argparse.Namespace, device: torch.device) -> torch.optim.Optimizer:
    spam = {name: value for name, value in vars(args).items() if name.startswith("spam_")}
    return optimizers.make_optimizer(
        args.optimizer,
        model,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        beta1=args.beta1,
        beta2=args.beta2,
        eps=args.epsilon,
        momentum=args.momentum,
        fused=device.type == "cuda",
        **spam,
    )


def restore_moments(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over what the optimizer remembers, but not its settings: those are what the flags say now."""
    settings = [{name: one for name, one in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)


def make_pruner(model: GPT2, optimizer: torch.optim.Optimizer, args: argparse.Namespace) -> Pruner:
    return Pruner(
        model,
        optimizer,
        method=args.pruning,
        target=args.sparsity,
        warmup_steps=args.prune_warmup,
        ramp_end=args.prune_end,
        frequency=args.prune_frequency,
        variant=args.prune_variant,
        include_embeddings=args.prune_embeddings,
    )


def peak_share(model: GPT2, args: argparse.Namespace, device: torch.device, processes: int) -> float | None:
    """Percent of the GPUs' peak that one token a second is; None where the peak is not known."""
    if device.type != "cuda":
        return None
    peak = lm.peak_flops(torch.cuda.get_device_name(device), args.dtype)
    if peak is None:
        return None
    size = SIZES[args.size]
    multiplied = model.parameter_count() - model.positions.weight.numel()  # positions are only looked up
    flops = lm.flops_per_token(multiplied, num_layers=size.layers, d_model=size.width, context_length=args.context)
    return lm.model_flops_utilisation(1.0, flops, peak, processes)


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
    if kept["pruning"] == "none":
        del kept["sparsity"]  # that there was none is no target
    kept["tracker_project"] = state["project"]
    # The run goes on where it is, also when this is started in another folder.
    if state["store"] and Path(state["store"], state["project"], state["run"]).is_dir():
        kept["store"] = state["store"]
    args = parse(argv, kept)
    for name in ("size", "context", "no_bias", "tokenizer", "vocab_size", "optimizer", "pruning", "prune_embeddings"):
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
    group = Group()
    try:
        group = Group.from_environment()
        args, state = begin(argv)
        if args.batch_size * args.accumulate % group.size:
            raise TextError(
                f"a step of {args.batch_size * args.accumulate} sequences cannot be shared by {group.size} processes: "
                "make --batch-size times --accumulate a multiple of that"
            )
        device = group.pick_device(args.device)
        group.join(device)
        text = group.first_alone(
            lambda: load_text(args.dataset, args.tokenizer, args.vocab_size, args.cache, data_root=args.data_root)
        )
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
        return train(args, state, device, text, group)
    except (TextError, checkpoint.CheckpointError, LossbookError) as error:
        if group.is_first:
            print(f"gpt2/train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped at once: what was done since the last checkpoint is not saved", file=sys.stderr)
        return 130
    finally:
        group.leave()


def train(
    args: argparse.Namespace, state: dict[str, Any] | None, device: torch.device, text: Text, group: Group
) -> int:
    torch.manual_seed(args.seed)
    model = GPT2(SIZES[args.size], text.vocabulary, args.context, args.dropout, not args.no_bias).to(device)
    optimizer = make_optimizer(model, args, device)
    pruner = make_pruner(model, optimizer, args)
    half = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[args.dtype]
    autocast = torch.autocast(device.type, half) if half is not None else nullcontext()
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
    step, best, tokens_seen, seconds = 0, math.inf, 0, 0.0
    val_loss: float | None = None
    if group.rank:
        torch.manual_seed(args.seed + group.rank)  # or every process would drop the same activations
    if state is not None:
        model.load_state_dict(state["model"])
        restore_moments(optimizer, state["optimizer"])
        pruner.load_state_dict(state["pruner"])
        scaler.load_state_dict(state["scaler"])
        step, best, tokens_seen, seconds = state["step"], state["best"], state["tokens"], state["seconds"]
        val_loss = state["val_loss"]
        if group.rank < len(state["random"]):  # of more processes than before, the new ones have no past
            checkpoint.restore_random_states(state["random"][group.rank], device)
    stop = Stop(group)  # before init(): Lossbook leaves a handler that is there alone
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    config.update(
        model="gpt2" if args.size == "gpt2" else f"gpt2-{args.size.removeprefix('gpt2-')}",
        method=args.pruning,
        variant=args.prune_variant if args.pruning == "state" else None,
        device=str(device),
        world_size=group.size,
        parameters=model.parameter_count(),
        prunable_parameters=sum(one.numel() for one in pruner.parameters.values()),
        vocabulary=text.vocabulary,
        train_tokens=len(text.train),
        validation_tokens=len(text.validation),
    )
    # Every process begins the same run; torchrun's variables say which rank of it this is.
    run = lossbook.init(
        project=args.tracker_project,
        name=args.tracker_run_name,
        config=config,
        tags=args.tracker_tags,
        group=args.tracker_group,
        notes=args.tracker_notes,
        store=args.store,
        keep=not args.no_local,
        mirrors="none" if args.tracker_mode == "disabled" else args.tracker,
        # WANDB_MODE=disabled is about W&B alone here: the local run is recorded all the same.
        mode=(args.tracker_mode if args.tracker_mode != "disabled" else None)
        or os.environ.get("LOSSBOOK_MODE")
        or "online",
        id=state["run"] if state is not None else None,
        resume="allow" if state is not None else "never",
        resume_step=step if state is not None else None,
    )

    def say(sentence: str) -> None:
        if group.is_first:
            print(sentence)

    if state is not None and run.path and not run.resumed:
        say(f"the run {state['run']} is not in the store: its curve before step {step} stays where it was recorded")
    for key, goal in (("val_loss", "minimize"), ("val_perplexity", "minimize"), ("tokens_per_second", "maximize")):
        run.define_metric(key, goal=goal)
    name = run.id
    if not run.path:  # not recorded, so without an id of its own; two of them must not write over each other
        name = state["run"] if state is not None else f"untracked-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = args.checkpoints / name
    dataset = args.dataset if args.dataset in DATASETS else os.path.abspath(os.path.expanduser(args.dataset))
    copies = os.path.abspath(os.path.expanduser(args.data_root)) if args.data_root else None
    say(
        f"{run.name}: {model.parameter_count():,} parameters, {len(text.train):,} tokens of {text.name}, on {device}"
        + (f" and {group.size - 1} more" if group.size > 1 else "")
    )
    forward = torch.compile(model) if args.compile else model
    parallel = group.wrap(forward, device)
    validation = validation_starts(text.validation, args)
    progress = Progress(args.steps, group)
    mfu_of_a_token = peak_share(model, args, device, group.size)

    def evaluate() -> float:
        """The mean loss over the validation batches, of which each process takes every so manieth."""
        model.eval()
        total = torch.zeros((), device=device)
        with torch.no_grad(), autocast:
            for starts in validation[group.rank :: group.size]:
                total += forward(*windows(text.validation, starts, args.context, device))
        model.train()
        return float(group.total(total)) / len(validation)

    def save(file: str) -> bool:
        path = folder / file
        random = group.gather(checkpoint.random_states(device))
        if not group.is_first:
            return True
        try:
            checkpoint.save(
                path,
                {
                    "args": {**{key: config[key] for key in vars(args)}, "dataset": dataset, "data_root": copies},
                    "text": text.digest,
                    "run": name,
                    "project": run.project,
                    "store": str(Path(run.path).parents[1]) if run.path else None,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "pruner": pruner.state_dict(),
                    "scaler": scaler.state_dict(),
                    "step": step,
                    "best": best,
                    "val_loss": val_loss,
                    "tokens": tokens_seen,
                    "seconds": seconds,
                    "random": random,
                },
            )
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
        row = {"train_perplexity": perplexity(mean), "tokens_per_second": speed}
        if args.pruning != "none":
            row["sparsity"] = pruner.sparsity()  # counted, not what was planned
        if mfu_of_a_token is not None:
            row["mfu"] = speed * mfu_of_a_token
        run.log(row, step=step)
        return mean, speed

    with run:  # what fails in here is recorded, with the end of its traceback
        try:
            saved = evaluate_and_save() if state is None else True
            stopping = group.agree(stop.signal)  # the signal that ends the training after the step under way
            clock = time.perf_counter()
            while step < args.steps and not stopping:
                rate = learning_rate(step, args)
                for parameters in optimizer.param_groups:
                    parameters["lr"] = rate
                total = torch.zeros((), device=device)
                micro_batches = training_starts(text.train, args, step, group)
                for micro, starts in enumerate(micro_batches, 1):
                    # Gradients are exchanged once a step, behind the last micro-batch.
                    alone = parallel.no_sync() if group.size > 1 and micro < len(micro_batches) else nullcontext()
                    with alone:
                        with autocast:
                            loss = parallel(*windows(text.train, starts, args.context, device)) / len(micro_batches)
                        scaler.scale(loss).backward()
                    total += loss.detach()
                group.mean(total)
                scaler.unscale_(optimizer)
                pruner.mask_gradients()
                norm = clip(model, args.clip)
                if isinstance(optimizer, optimizers.Spam):
                    optimizer.observe_norm(norm)
                scaler.step(optimizer)
                if isinstance(optimizer, optimizers.Spam):
                    rate *= optimizer.warmth()  # what the step really had, after a reset
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                pruner.step(step)
                tokens_seen += args.batch_size * args.context * args.accumulate
                # Tensors are handed over as they are: on a GPU nobody waits for them here.
                run.log(
                    {"train_loss": total, "learning_rate": rate, "grad_norm": norm, "tokens": tokens_seen}, step=step
                )
                losses.append(total)
                last, stopping = step == args.steps, group.agree(stop.signal)
                to_report = step % args.log_interval == 0 or last or bool(stopping)
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
            run.summary.update(
                {
                    "final/best_val_loss": best,
                    "final/best_val_perplexity": perplexity(best),
                    "final/training_seconds": seconds,
                }
            )
        if args.pruning != "none":
            run.summary["final/sparsity"] = pruner.sparsity()
        if step < args.steps:
            run.finish("interrupted" if stopping == signal.SIGINT else "killed")
            again = shlex.join([*command(), "--resume", name, "--checkpoints", str(args.checkpoints)])
            say(f"stopped after step {step}; {f'go on with: {again}' if saved else 'its checkpoint is not written'}")
            return 128 + stopping
        if args.sample and group.is_first:
            if (folder / "best.pt").is_file():
                model.load_state_dict(checkpoint.load(folder / "best.pt")["model"])
            written = sampling.write(
                model,
                text,
                args.sample,
                prompt=args.prompt,
                temperature=args.temperature,
                top_k=args.top_k,
                seed=args.seed,
            )
            run.summary["final/sample"] = written
            print(f"\n{written}\n")
    say(
        f"best validation loss {best:.4f} (perplexity {perplexity(best):.2f}), {seconds:.0f} s of training; "
        f"the run is {'with ' + args.tracker if args.no_local and run.path else 'in ' + (run.path or 'no file')}"
    )
    return 0 if saved else 1


if __name__ == "__main__":
    sys.exit(main())
