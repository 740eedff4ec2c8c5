"""Train a BitNet: from full precision to weights of -1, 0 and 1 in three stages, tracked with Lossbook.

    python bitnet/train.py --model_size nano --dataset wikitext.txt --tokenizer bytes --disable_wandb
    python bitnet/train.py --resume latest
    torchrun --nproc_per_node 8 bitnet/train.py --model_size rtx --dataset wikitext-103-v1 --fp16

A step is one update of the parameters. Its loss is logged raw, in nats per predicted token: smoothing is the reader's
business. docs/bitnet.md says where each choice is from.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import math
import os
import shlex
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from a checkout: `trainers` is not installed

if missing := [name for name in ("numpy", "orjson", "torch") if importlib.util.find_spec(name) is None]:
    sys.exit(f"bitnet/train.py needs {' and '.join(missing)}: pip install -e '.[train]' in the checkout, or make demo")

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

import lossbook
from bitnet.arguments import begin, mirrors
from bitnet.batches import Batch, Questions, training_batches, validation_batches
from bitnet.measures import quantiser_figures, zero_share
from bitnet.model import SIZES, BitNet
from bitnet.packing import load_packed, save_packed
from bitnet.schedule import STAGES, Schedule, make_schedule
from lossbook.errors import LossbookError
from lossbook.lm import perplexity
from trainers import checkpoint
from trainers.distributed import Group, Stop
from trainers.step import clip_gradients, wait_for
from trainers.text import Text, TextError, load_text


def make_optimizer(model: BitNet, args: argparse.Namespace, device: torch.device) -> torch.optim.AdamW:
    """AdamW. What is no matrix does not decay: a scale or a clamp drawn towards 0 would be another quantiser."""
    groups = [
        {"params": [one for one in model.parameters() if one.dim() >= 2], "weight_decay": args.weight_decay},
        {"params": [one for one in model.parameters() if one.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.98), fused=device.type == "cuda")


def seed_step(seed: int, step: int, micro: int, rank: int) -> None:
    """What dropout and QDrop draw follows from the step: a resumed run needs no generator's state."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, micro, rank)).generate_state(1, np.uint64)[0] >> 1))


def configuration(
    args: argparse.Namespace,
    model: BitNet,
    text: Text,
    questions: Questions,
    schedule: Schedule,
    steps_per_epoch: int,
    group: Group,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that says what was run: the flags, the model, the text, the machine."""
    size = SIZES[args.model_size]
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    trained = [one.numel() for one in model.parameters() if one.requires_grad]
    return config | {
        "model": f"bitnet-{args.model_size}",
        "optimizer": "adamw",
        "variant": args.objective,
        "total_parameters": model.parameter_count(),
        "trainable_parameters": sum(trained),
        "ternary_weights": sum(layer.weight.numel() for _, layer in model.bit_linears()),
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_layers": size.layers,
        "num_heads": size.heads,
        "vocab_size": model.tokens.num_embeddings,
        "tokenizer": args.tokenizer,
        "dataset_name": text.name,
        "dataset_size": questions.sequences(text.train),
        "train_tokens": len(text.train),
        "validation_tokens": len(text.validation),
        "steps_per_epoch": steps_per_epoch,
        "total_training_steps": schedule.steps,
        "schedule": asdict(schedule),
        "warmup_steps": schedule.warmup_steps,
        "device": str(device),
        "world_size": group.size,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def main(argv: list[str] | None = None) -> int:
    group = Group()
    try:
        args, state = begin(argv)
        group = Group.from_environment()
        device = group.pick_device(args.device)
        group.join(device)

        def load() -> Text:
            return load_text(args.dataset, args.tokenizer, args.vocab_size, args.cache, data_root=args.data_root)

        return prepare(args, state, group, device, group.first_alone(load)).run_all()
    except (TextError, checkpoint.CheckpointError, LossbookError) as error:
        if group.is_first:
            print(f"bitnet/train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if group.is_first:
            print("stopped at once: what was done since the last checkpoint is not saved", file=sys.stderr)
        return 130
    finally:
        group.leave()


def prepare(
    args: argparse.Namespace, state: dict[str, Any] | None, group: Group, device: torch.device, text: Text
) -> Training:
    """See whether the text, the flags and the checkpoint go together, and make the training of them.

    Raises:
        TextError, CheckpointError: they do not.
    """
    questions = Questions(args.max_length, text.vocabulary, args.objective == "causal")
    together = args.batch_size * args.gradient_accumulation_steps * group.size
    for part, tokens, needed in (("training", text.train, together), ("validation", text.validation, 1)):
        if questions.sequences(tokens) < needed:
            raise TextError(
                f"the {part} part of {args.dataset} has {len(tokens)} tokens, which is {questions.sequences(tokens)} "
                f"sequences of --max_length {args.max_length} where {needed} are needed: use a longer text, or "
                "smaller numbers"
            )
    steps_per_epoch = questions.sequences(text.train) // together
    if state is not None and (text.digest, together) != (state["text"], state["together"]):
        raise TextError(
            f"the checkpoint was trained on another text, or {state['together']} sequences a step where these "
            f"processes take {together}: bring that back, or begin a new run without --resume"
        )
    try:
        schedule = make_schedule(
            SIZES[args.model_size],
            args.max_steps or args.num_epochs * steps_per_epoch,
            learning_rate=args.learning_rate,
            warmup_steps=args.warmup_steps,
            qdrop=args.qdrop,
            qdrop_anneal=args.qdrop_anneal,
            alpha_warmup=args.alpha_warmup,
        )
    except ValueError as error:
        raise TextError(str(error)) from None
    if state is not None and state["step"] >= schedule.steps:
        raise checkpoint.CheckpointError(f"the run {state['run']} has taken all of its {state['step']} steps")
    return Training(args, state, group, device, text, questions, schedule, steps_per_epoch)


class Training:
    """One attempt of a run, from its first step (or its checkpoint's) to the packed model."""

    # -- prepare ------------------------------------------------------------------------------------------------

    def __init__(
        self,
        args: argparse.Namespace,
        state: dict[str, Any] | None,
        group: Group,
        device: torch.device,
        text: Text,
        questions: Questions,
        schedule: Schedule,
        steps_per_epoch: int,
    ) -> None:
        """Make the model and all that trains it, and begin the run; `state` is the checkpoint that it resumes from."""
        self.args, self.group, self.device, self.text = args, group, device, text
        self.questions, self.schedule, self.steps_per_epoch = questions, schedule, steps_per_epoch
        torch.manual_seed(args.seed)  # the same parameters in every process
        self.model = BitNet(
            SIZES[args.model_size], text.vocabulary + 1, args.max_length, causal=questions.causal, dropout=args.dropout
        ).to(device)
        self.optimizer = make_optimizer(self.model, args, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=args.fp16)
        self.step, self.seconds, self.val_loss = 0, 0.0, math.inf
        self.best, self.best_stage = math.inf, 0
        self.asked = 0  # the signal by which any process was told to stop
        if state is not None:
            self.restore(state)
        self.reported_step, self.reported_seconds = self.step, self.seconds
        self.forward: torch.nn.Module = self.model
        self.validation = validation_batches(
            questions, text.validation, batch_size=args.batch_size, batches=args.eval_batches
        )
        self.eval_interval = args.eval_interval or max(1, schedule.steps // 20)
        self.stop = Stop(group)  # before init(): Lossbook leaves a handler that is there alone
        self.config = configuration(args, self.model, text, questions, schedule, steps_per_epoch, group, device)
        self.run = self.begin_run(state)
        self.name = self.run.id
        if not self.run.path:  # LOSSBOOK_MODE=disabled: two of them must not write over each other
            self.name = state["run"] if state else f"untracked-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.folder = args.checkpoints / self.name

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.val_loss = state["step"], state["seconds"], state["val_loss"]
        self.best, self.best_stage = state["best"], state["best_stage"]

    def begin_run(self, state: dict[str, Any] | None) -> lossbook.Run:
        """Begin the run, or go on with the one that the checkpoint is of."""
        args = self.args
        # Every process begins the run, so that the ranks of one launch are one run; the main one alone logs.
        return lossbook.init(
            project=args.wandb_project,
            name=args.wandb_run_name,
            config=self.config,
            tags=args.wandb_tags,
            group=args.wandb_group,
            notes=args.wandb_notes,
            store=args.store,
            mirrors=mirrors(args),
            entity=args.wandb_entity,
            id=state["run"] if state is not None else None,
            resume="allow" if state is not None else "never",
            resume_step=self.step if state is not None else None,
        )

    def say(self, line: str) -> None:
        if self.group.is_first:
            print(line, flush=True)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.float16) if self.args.fp16 else nullcontext()

    # -- step ---------------------------------------------------------------------------------------------------

    def take_step(self, stage: int) -> torch.Tensor:
        """Update the parameters once, and log what the step was; returns the loss over all processes, 0-d."""
        rate = self.schedule.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.add_gradients()
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model, self.args.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.group.is_first:
            # Tensors are handed over as they are: on a GPU nobody waits for them here.
            self.run.log(
                {
                    "train/loss": loss,
                    "train/learning_rate": rate,
                    "train/qdrop_probability": self.schedule.qdrop_at(self.step - 1),
                    "train/training_stage": stage,
                    "train/epoch": (self.step - 1) // self.steps_per_epoch,
                    "train/global_step": self.step,
                    "train/grad_norm": norm,
                },
                step=self.step,
            )
        return loss

    def add_gradients(self) -> torch.Tensor:
        """Run the model forwards and backwards over the step's micro-batches; the loss over all processes, 0-d."""
        args = self.args
        batches = training_batches(
            self.questions,
            self.text.train,
            seed=args.seed,
            step=self.step,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=args.batch_size,
            micro_batches=args.gradient_accumulation_steps,
            rank=self.group.rank,
            world_size=self.group.size,
        )
        total = torch.zeros((), device=self.device)
        for micro, batch in enumerate(batches):
            seed_step(args.seed, self.step, micro, self.group.rank)
            # Gradients travel once a step: with the last micro-batch.
            waiting = isinstance(self.forward, DistributedDataParallel) and micro < len(batches) - 1
            with self.forward.no_sync() if waiting else nullcontext():
                with self.autocast():
                    loss = self.loss(batch) / len(batches)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return self.group.mean(total)

    def loss(self, batch: Batch) -> torch.Tensor:
        there = batch.to(self.device)
        loss: torch.Tensor = self.forward(there.tokens, there.targets, there.places)
        return loss

    # -- report ---------------------------------------------------------------------------------------------------

    def evaluate(self) -> float:
        """Mean loss over the validation batches, each process taking its part of them."""
        self.model.eval()
        sums = torch.zeros(2, device=self.device, dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        with torch.no_grad(), self.autocast():
            for batch in self.validation[self.group.rank :: self.group.size]:
                there = batch.to(self.device)
                loss = self.model(there.tokens, there.targets, there.places)
                sums += torch.stack([loss * len(batch.tokens), torch.tensor(len(batch.tokens), device=self.device)])
        self.model.train()
        total, count = self.group.total(sums).tolist()
        return float(total / count)

    def save(self, file: str) -> bool:
        """Write a checkpoint; a full disk is no reason to lose the training as well."""
        if not self.group.is_first:
            return True
        path = self.folder / file
        try:
            checkpoint.save(
                path,
                {
                    "bitnet": 1,
                    "args": self.kept_arguments(),
                    "text": self.text.digest,
                    "together": self.args.batch_size * self.args.gradient_accumulation_steps * self.group.size,
                    "run": self.name,
                    "project": self.run.project,
                    "store": str(Path(self.run.path).parents[1]) if self.run.path else None,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "step": self.step,
                    "seconds": self.seconds,
                    "val_loss": self.val_loss,
                    "best": self.best,
                    "best_stage": self.best_stage,
                },
            )
        except checkpoint.CheckpointError as error:
            print(f"bitnet/train.py: {error}", file=sys.stderr)
            self.run.alert("checkpoint not written", str(error), level="error")
            return False
        self.run.checkpoint(path, step=self.step, is_best=file == "best.pt")
        return True

    def kept_arguments(self) -> dict[str, Any]:
        kept = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self.args).items()}
        if Path(self.args.dataset).expanduser().exists():
            kept["dataset"] = os.path.abspath(os.path.expanduser(self.args.dataset))
        return kept

    def evaluate_and_save(self, stage: int) -> bool:
        self.val_loss = self.evaluate()
        if self.group.is_first:
            figures = {"val/loss": self.val_loss, "val/perplexity": perplexity(self.val_loss)}
            self.run.log({**figures, "quant/zero_share": zero_share(self.model)}, step=self.step)
        if stage != self.best_stage:  # full precision does better: a best from there would never be beaten
            self.best, self.best_stage = math.inf, stage
        if self.val_loss < self.best:
            self.best = self.val_loss
            self.save("best.pt")
        return self.save("last.pt")

    # -- the whole ----------------------------------------------------------------------------------------------

    def run_all(self) -> int:
        """Train to the end or until told to stop; returns the exit status."""
        size = f"{self.config['total_parameters']:,} parameters, {self.config['ternary_weights']:,} to become ternary"
        self.say(f"{self.run.name}: {size}, {len(self.text.train):,} tokens of {self.text.name}, on {self.device}")
        with self.run:  # what fails in here is recorded, with the end of its traceback
            try:
                saved = self.train()
                finished = self.step == self.schedule.steps
                if finished and self.group.is_first:
                    saved = self.write_packed() and saved
            finally:
                self.stop.restore()
                if self.group.is_first:
                    self.run.summary.update(
                        {
                            "final/best_val_loss": self.best,
                            "final/best_val_perplexity": perplexity(self.best),
                            "final/training_seconds": self.seconds,
                        }
                    )
            if not finished:
                number = self.asked
                self.run.finish("interrupted" if number == signal.SIGINT else "killed")
                program = [sys.executable, os.path.abspath(__file__)]
                again = shlex.join([*program, "--resume", self.name, "--checkpoints", str(self.args.checkpoints)])
                self.say(f"stopped after step {self.step}; {f'go on with: {again}' if saved else 'nothing is saved'}")
                return 128 + number
        return 0 if saved else 1

    def train(self) -> bool:
        """The loop; returns whether the last checkpoint was written."""
        args, schedule = self.args, self.schedule
        schedule.apply(self.model, self.step)
        stage = -1
        if self.step and schedule.stage(self.step) == schedule.stage(self.step - 1):  # resumed in the midst of a stage
            stage = schedule.stage(self.step)
            self.share_gradients()
        self.model.train()
        saved = self.evaluate_and_save(schedule.stage(0)) if self.step == 0 else True
        stopping = False
        clock = time.perf_counter()
        while self.step < schedule.steps and not stopping:
            name = schedule.apply(self.model, self.step)
            if stage != schedule.stage(self.step):
                stage = self.enter_stage(name)
            loss = self.take_step(stage)
            last = self.step == schedule.steps
            to_evaluate = self.step % self.eval_interval == 0 or last
            to_report = self.step % args.log_interval == 0 or to_evaluate
            self.asked = self.group.agree(self.stop.signal)  # all must stop at the same step
            stopping = bool(self.asked)
            if to_report or stopping:
                wait_for(self.device)  # so that the clock is right
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
                speed = self.report_speed()
            if to_evaluate:
                saved = self.evaluate_and_save(stage)
            elif stopping:
                saved = self.save("last.pt")
            if to_report:
                shown = f"  val {self.val_loss:.3f}" if to_evaluate else ""
                self.say(f"step {self.step}/{schedule.steps}  {name}  loss {float(loss):.3f}{shown}  {speed:.0f} tok/s")
                clock = time.perf_counter()  # evaluation and checkpoints are no training time
        return saved

    def enter_stage(self, name: str) -> int:
        """Mark on the curves that the next step is the first of a stage; returns the stage's number."""
        self.share_gradients()
        layers = [layer.quantising for _, layer in self.model.bit_linears()]
        self.say(f"stage {name}: {sum(layers)} of {len(layers)} linear layers ternary from step {self.step + 1} on")
        if self.group.is_first:
            self.run.stage(name, step=self.step + 1)
        return STAGES.index(name)

    def share_gradients(self) -> None:
        """Wrap the model for its stage: the processes wait for each gradient, and each stage has others."""
        self.forward = self.model
        gc.collect()  # what wrapped it before must have let go of the gradients
        self.forward = self.group.wrap(self.model, self.device)

    def sequences_a_step(self) -> int:
        return int(self.args.batch_size * self.args.gradient_accumulation_steps * self.group.size)

    def report_speed(self) -> float:
        """Log the tokens a second since the last time, and what the quantisers have learned; returns the former."""
        tokens = (self.step - self.reported_step) * self.config["max_length"] * self.sequences_a_step()
        speed = float(tokens / max(self.seconds - self.reported_seconds, 1e-9))
        self.reported_step, self.reported_seconds = self.step, self.seconds
        if self.group.is_first:
            self.run.log({"train/tokens_per_second": speed, **quantiser_figures(self.model)}, step=self.step)
        return speed

    def write_packed(self) -> bool:
        """Write the packed model, read it back, and say what it takes and how well it predicts."""
        path, args = self.folder / "ternary.pt", self.args
        try:
            size = save_packed(
                path,
                self.model,
                {
                    "model_size": args.model_size,
                    "vocabulary": self.model.tokens.num_embeddings,
                    "length": args.max_length,
                    "causal": self.questions.causal,
                    "tokenizer": args.tokenizer,
                    "text": self.text.digest,
                    "step": self.step,
                },
            )
            packed = load_packed(path).to(self.device)
        except checkpoint.CheckpointError as error:
            print(f"bitnet/train.py: {error}", file=sys.stderr)
            self.run.alert("packed model not written", str(error), level="error")
            return False
        loss = self.loss_of(packed)
        self.run.summary.update(
            {
                "final/val_loss": self.val_loss,
                "final/packed_val_loss": loss,
                "final/stage": STAGES[-1],
                "final/bits_per_weight": size.bits_per_weight,
                "final/bits_per_parameter": size.bits_per_parameter,
                "final/zero_share": size.zero_share,
                "final/packed_bytes": size.packed_bytes,
                "final/file_bytes": size.file_bytes,
            }
        )
        self.say(size.describe(path))
        self.say(
            f"validation loss {self.val_loss:.4f}, read back from the packed file {loss:.4f}; "
            f"{self.seconds:.0f} s of training; the run is in {self.run.path or 'no file'}"
        )
        return True

    def loss_of(self, model: BitNet) -> float:
        """Mean validation loss of another model, in this process alone."""
        total = 0.0
        with torch.no_grad(), self.autocast():
            for batch in self.validation:
                there = batch.to(self.device)
                total += float(model(there.tokens, there.targets, there.places)) * len(batch.tokens)
        return total / sum(len(batch.tokens) for batch in self.validation)


if __name__ == "__main__":
    sys.exit(main())
