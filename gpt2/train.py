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

import torch

import lossbook
from gpt2.arguments import begin
from gpt2.batches import training_starts, validation_starts, windows
from gpt2.model import GPT2, SIZES
from lossbook import lm
from lossbook.errors import LossbookError
from lossbook.lm import perplexity
from trainers import checkpoint, optimizers, sampling
from trainers.datasets import DATASETS
from trainers.distributed import Group, Stop
from trainers.pruning import Pruner
from trainers.step import Progress, clip_gradients, wait_for
from trainers.text import Text, TextError, load_text


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, then a cosine down to the minimum at the last step."""
    if step < args.warmup_steps:
        return float(args.learning_rate * (step + 1) / args.warmup_steps)
    done = (step - args.warmup_steps) / max(1, args.steps - args.warmup_steps)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return float(args.min_learning_rate + (args.learning_rate - args.min_learning_rate) * height)


def command() -> list[str]:
    """What to type here to run this file."""
    here = Path.cwd()
    paths = (Path(sys.executable), Path(__file__).resolve())
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]


def make_optimizer(model: GPT2, args: argparse.Namespace, device: torch.device) -> torch.optim.Optimizer:
    options = {name: value for name, value in vars(args).items() if name in optimizers.OPTIONS}
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
        **options,
    )


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
        return Training(args, state, device, text, group).run_all()
    except (TextError, checkpoint.CheckpointError, LossbookError) as error:
        if group.is_first:
            print(f"gpt2/train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped at once: what was done since the last checkpoint is not saved", file=sys.stderr)
        return 130
    finally:
        group.leave()


class Training:
    """One attempt of a run, from its first step (or its checkpoint's) to its last."""

    # -- prepare ------------------------------------------------------------------------------------------------------

    def __init__(
        self,
        args: argparse.Namespace,
        state: dict[str, Any] | None,
        device: torch.device,
        text: Text,
        group: Group,
    ) -> None:
        """Make the model and all that trains it, and begin the run; `state` is the checkpoint that it resumes from."""
        self.args, self.device, self.text, self.group = args, device, text, group
        torch.manual_seed(args.seed)
        self.model = GPT2(SIZES[args.size], text.vocabulary, args.context, args.dropout, not args.no_bias).to(device)
        self.optimizer = make_optimizer(self.model, args, device)
        self.hooks = optimizers.step_hooks(self.optimizer)
        self.pruner = make_pruner(self.model, self.optimizer, args)
        half = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[args.dtype]
        self.autocast = torch.autocast(device.type, half) if half is not None else nullcontext()
        self.scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
        self.step, self.best, self.tokens_seen, self.seconds = 0, math.inf, 0, 0.0
        self.val_loss: float | None = None
        self.stopping = 0  # the signal that ends the training after the step under way
        if group.rank:
            torch.manual_seed(args.seed + group.rank)  # or every process would drop the same activations
        if state is not None:
            self.restore(state)
        self.stop = Stop(group)  # before init(): Lossbook leaves a handler that is there alone
        self.config = self.configuration()
        self.run = self.begin_run(state)
        self.resumed = state is not None
        self.name = self.run.id
        if not self.run.path:  # not recorded, so without an id of its own; two of them must not write over each other
            self.name = state["run"] if state else f"untracked-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.folder = args.checkpoints / self.name
        self.forward = torch.compile(self.model) if args.compile else self.model
        self.parallel = group.wrap(self.forward, device)
        self.validation = validation_starts(text.validation, args)
        self.progress = Progress(args.steps, group)
        self.mfu_of_a_token = peak_share(self.model, args, device, group.size)
        # Of the steps since the last report.
        self.losses: list[torch.Tensor] = []
        self.reported_tokens, self.reported_seconds = self.tokens_seen, self.seconds

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        optimizers.restore_moments(self.optimizer, state["optimizer"])
        self.pruner.load_state_dict(state["pruner"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.tokens_seen = state["step"], state["best"], state["tokens"]
        self.seconds, self.val_loss = state["seconds"], state["val_loss"]
        if self.group.rank < len(state["random"]):  # of more processes than before, the new ones have no past
            checkpoint.restore_random_states(state["random"][self.group.rank], self.device)

    def configuration(self) -> dict[str, Any]:
        """Everything that says what was run: the flags, the model, the text, the machine."""
        args = self.args
        config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
        return config | {
            "model": "gpt2" if args.size == "gpt2" else f"gpt2-{args.size.removeprefix('gpt2-')}",
            "method": args.pruning,
            "variant": args.prune_variant if args.pruning == "state" else None,
            "device": str(self.device),
            "world_size": self.group.size,
            "parameters": self.model.parameter_count(),
            "prunable_parameters": sum(one.numel() for one in self.pruner.parameters.values()),
            "vocabulary": self.text.vocabulary,
            "train_tokens": len(self.text.train),
            "validation_tokens": len(self.text.validation),
        }

    def begin_run(self, state: dict[str, Any] | None) -> lossbook.Run:
        """Begin the run, or go on with the one that the checkpoint is of, and say so."""
        args, text = self.args, self.text
        # Every process begins the same run; torchrun's variables say which rank of it this is.
        run = lossbook.init(
            project=args.tracker_project,
            name=args.tracker_run_name,
            config=self.config,
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
            resume_step=self.step if state is not None else None,
        )
        if state is not None and run.path and not run.resumed:
            self.say(
                f"the run {state['run']} is not in the store: its curve before step {self.step} stays where it was "
                "recorded"
            )
        for key, goal in (("val_loss", "minimize"), ("val_perplexity", "minimize"), ("tokens_per_second", "maximize")):
            run.define_metric(key, goal=goal)
        self.say(
            f"{run.name}: {self.model.parameter_count():,} parameters, {len(text.train):,} tokens of {text.name}, "
            f"on {self.device}" + (f" and {self.group.size - 1} more" if self.group.size > 1 else "")
        )
        return run

    def say(self, sentence: str) -> None:
        if self.group.is_first:
            print(sentence)

    # -- step ---------------------------------------------------------------------------------------------------------

    def take_step(self) -> None:
        """Update the parameters once, and log what the step was; on a GPU nobody waits for its result here."""
        args, optimizer, scaler = self.args, self.optimizer, self.scaler
        rate = learning_rate(self.step, args)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        loss = self.add_gradients()
        scaler.unscale_(optimizer)
        self.pruner.mask_gradients()
        norm = clip_gradients(self.model, args.clip)
        self.hooks.observe_norm(norm)
        scaler.step(optimizer)
        rate *= self.hooks.warmth()  # what the step really had
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.pruner.step(self.step)
        self.tokens_seen += args.batch_size * args.context * args.accumulate
        # Tensors are handed over as they are.
        row = {"train_loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens": self.tokens_seen}
        self.run.log(row, step=self.step)
        self.losses.append(loss)

    def add_gradients(self) -> torch.Tensor:
        """Run the model forwards and backwards over the step's micro-batches; the loss over all processes, 0-d."""
        text, args = self.text, self.args
        total = torch.zeros((), device=self.device)
        micro_batches = training_starts(text.train, args, self.step, self.group)
        for micro, starts in enumerate(micro_batches, 1):
            # Gradients are exchanged once a step, behind the last micro-batch.
            waiting = self.group.size > 1 and micro < len(micro_batches)
            with self.parallel.no_sync() if waiting else nullcontext():
                with self.autocast:
                    batch = windows(text.train, starts, args.context, self.device)
                    loss = self.parallel(*batch) / len(micro_batches)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return self.group.mean(total)

    # -- report -------------------------------------------------------------------------------------------------------

    def report(self) -> tuple[float, float]:
        """Log what is a mean over the steps since the last report; returns the loss and the tokens/s."""
        mean = float(torch.stack(self.losses).mean())
        speed = (self.tokens_seen - self.reported_tokens) / max(self.seconds - self.reported_seconds, 1e-9)
        self.losses.clear()
        self.reported_tokens, self.reported_seconds = self.tokens_seen, self.seconds
        row = {"train_perplexity": perplexity(mean), "tokens_per_second": speed}
        if self.args.pruning != "none":
            row["sparsity"] = self.pruner.sparsity()  # counted, not what was planned
        if self.mfu_of_a_token is not None:
            row["mfu"] = speed * self.mfu_of_a_token
        self.run.log(row, step=self.step)
        return mean, speed

    def evaluate(self) -> float:
        """The mean loss over the validation batches, of which each process takes every so manieth."""
        self.model.eval()
        total = torch.zeros((), device=self.device)
        with torch.no_grad(), self.autocast:
            for starts in self.validation[self.group.rank :: self.group.size]:
                total += self.forward(*windows(self.text.validation, starts, self.args.context, self.device))
        self.model.train()
        return float(self.group.total(total)) / len(self.validation)

    def evaluate_and_save(self) -> bool:
        self.val_loss = self.evaluate()
        self.run.log({"val_loss": self.val_loss, "val_perplexity": perplexity(self.val_loss)}, step=self.step)
        if self.val_loss < self.best:
            self.best = self.val_loss
            self.save("best.pt")
        return self.save("last.pt")

    def save(self, file: str) -> bool:
        """Write a checkpoint; a full disk is no reason to lose the training as well."""
        path = self.folder / file
        random = self.group.gather(checkpoint.random_states(self.device))
        if not self.group.is_first:
            return True
        try:
            checkpoint.save(
                path,
                {
                    "args": self.kept_arguments(),
                    "text": self.text.digest,
                    "run": self.name,
                    "project": self.run.project,
                    "store": str(Path(self.run.path).parents[1]) if self.run.path else None,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "pruner": self.pruner.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "step": self.step,
                    "best": self.best,
                    "val_loss": self.val_loss,
                    "tokens": self.tokens_seen,
                    "seconds": self.seconds,
                    "random": random,
                },
            )
        except checkpoint.CheckpointError as error:
            self.progress.close()
            print(f"gpt2/train.py: {error}", file=sys.stderr)
            self.run.alert("checkpoint not written", str(error), level="error")
            return False
        self.run.checkpoint(path, step=self.step, is_best=file == "best.pt")
        return True

    def kept_arguments(self) -> dict[str, Any]:
        """The flags as a checkpoint keeps them: its paths hold wherever the run is resumed."""
        args = self.args
        kept = {name: self.config[name] for name in vars(args)}
        if args.dataset not in DATASETS:
            kept["dataset"] = os.path.abspath(os.path.expanduser(args.dataset))
        kept["data_root"] = os.path.abspath(os.path.expanduser(args.data_root)) if args.data_root else None
        return kept

    # -- the whole ----------------------------------------------------------------------------------------------------

    def run_all(self) -> int:
        """Train to the end or until told to stop; returns the exit status."""
        args, run = self.args, self.run
        with run:  # what fails in here is recorded, with the end of its traceback
            try:
                saved = self.train()
            finally:
                self.progress.close()
                self.stop.restore()
                run.summary.update(
                    {
                        "final/best_val_loss": self.best,
                        "final/best_val_perplexity": perplexity(self.best),
                        "final/training_seconds": self.seconds,
                    }
                )
            if args.pruning != "none":
                run.summary["final/sparsity"] = self.pruner.sparsity()
            if self.step < args.steps:
                run.finish("interrupted" if self.stopping == signal.SIGINT else "killed")
                again = shlex.join([*command(), "--resume", self.name, "--checkpoints", str(args.checkpoints)])
                self.say(
                    f"stopped after step {self.step}; "
                    f"{f'go on with: {again}' if saved else 'its checkpoint is not written'}"
                )
                return 128 + self.stopping
            if args.sample and self.group.is_first:
                self.write_sample()
        where = "with " + args.tracker if args.no_local and run.path else "in " + (run.path or "no file")
        self.say(
            f"best validation loss {self.best:.4f} (perplexity {perplexity(self.best):.2f}), "
            f"{self.seconds:.0f} s of training; the run is {where}"
        )
        return 0 if saved else 1

    def train(self) -> bool:
        """The loop; returns whether the last checkpoint was written."""
        args = self.args
        saved = True if self.resumed else self.evaluate_and_save()
        self.stopping = self.group.agree(self.stop.signal)
        clock = time.perf_counter()
        while self.step < args.steps and not self.stopping:
            self.take_step()
            last, self.stopping = self.step == args.steps, self.group.agree(self.stop.signal)
            to_report = self.step % args.log_interval == 0 or last or bool(self.stopping)
            to_evaluate = self.step % args.eval_interval == 0 or last
            if to_report or to_evaluate:
                wait_for(self.device)  # so that the clock is right
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
            if to_report:
                mean, speed = self.report()
            if to_evaluate:
                saved = self.evaluate_and_save()
                clock = time.perf_counter()  # evaluation and checkpoints are no training time
            elif self.stopping:
                saved = self.save("last.pt")
            if to_report:
                self.progress.show(self.step, mean, self.val_loss, speed, self.seconds / self.step)
        return saved

    def write_sample(self) -> None:
        """Write some text with the best checkpoint, into the run and for the user."""
        args, best = self.args, self.folder / "best.pt"
        if best.is_file():
            self.model.load_state_dict(checkpoint.load(best)["model"])
        written = sampling.write(
            self.model,
            self.text,
            args.sample,
            prompt=args.prompt,
            temperature=args.temperature,
            top_k=args.top_k,
            seed=args.seed,
        )
        self.run.summary["final/sample"] = written
        print(f"\n{written}\n")


if __name__ == "__main__":
    sys.exit(main())
