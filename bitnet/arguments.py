"""The flags of the BitNet trainer, checked; of a resumed run those of its checkpoint."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

from bitnet.model import SIZES
from lossbook.registry import MIRRORS
from trainers import checkpoint
from trainers.text import TOKENIZERS

#: What may differ when a run is resumed: where things are, what is printed and who is told, but not what is trained.
FREE = {
    "resume", "checkpoints", "cache", "data_root", "device", "store", "log_interval", "wandb_mode", "disable_wandb", "tracker"
}  # fmt: skip

#: Mirrors that no flag of their own turns on.
_OTHERS = tuple(name for name in MIRRORS.names() if name not in ("wandb", "tensorboard"))


class Arguments(argparse.ArgumentParser):
    """Says in one sentence what is wrong, rather than behind a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help says what there is\n")


def parser() -> Arguments:
    """Every flag, with its default."""
    flags = Arguments(
        prog="bitnet/train.py",
        description="Train a BitNet to ternary weights, tracked with Lossbook.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    text = flags.add_argument_group("text")
    text.add_argument("--dataset", default="wikitext-2-v1", help="a set by its name, a text file, or a folder")
    text.add_argument("--data_root", type=Path, help="folder with copies of the hub's sets, in the hub's own layout")
    text.add_argument("--tokenizer", choices=TOKENIZERS, default="bpe", help="what a token is")
    text.add_argument("--vocab_size", type=int, default=30522, help="tokens of the BPE, at the most (BERT's number)")
    text.add_argument("--cache", type=Path, help="where tokenised texts are kept [~/.cache/lossbook/datasets]")
    model = flags.add_argument_group("model")
    model.add_argument("--model_size", choices=SIZES, default="small", help="shape of the model and of its stages")
    model.add_argument("--objective", choices=("mlm", "causal"), default="mlm", help="masked words, or the next one")
    model.add_argument("--max_length", type=int, default=256, help="tokens of a sequence")
    model.add_argument("--dropout", type=float, default=0.1, help="share of activations set to zero")
    run = flags.add_argument_group("training")
    run.add_argument("--num_epochs", type=int, default=3, help="times that the text is gone through")
    run.add_argument("--max_steps", type=int, help="updates of the parameters, in place of epochs")
    run.add_argument("--batch_size", type=int, default=8, help="sequences in a micro-batch, on each device")
    run.add_argument("--gradient_accumulation_steps", type=int, default=1, help="micro-batches in a step")
    run.add_argument("--learning_rate", type=float, default=2e-4, help="at the end of the warm-up")
    run.add_argument("--warmup_steps", type=int, help="of the learning rate [5000, or a tenth of all steps if less]")
    run.add_argument("--weight_decay", type=float, default=0.01, help="of matrices; all else has none")
    run.add_argument("--max_grad_norm", type=float, default=1.0, help="largest gradient norm; 0: no clipping")
    run.add_argument("--fp16", action="store_true", help="activations in half precision")
    run.add_argument("--seed", type=int, default=1337, help="of parameters, batches, masks, dropout and QDrop")
    run.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to train")
    run.add_argument("--eval_interval", type=int, help="steps between evaluations and checkpoints [20 of them in all]")
    run.add_argument("--eval_batches", type=int, default=20, help="batches of an evaluation, the same each time")
    run.add_argument("--log_interval", type=int, default=10, help="steps between progress lines")
    run.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
    run.add_argument("--resume", metavar="WHAT", help="go on from a checkpoint: latest, a run's id, or a path")
    quantise = flags.add_argument_group("quantisation")
    quantise.add_argument("--qdrop", type=float, default=0.5, help="probability at first of passing a quantiser by")
    quantise.add_argument("--qdrop_anneal", type=float, default=0.75, help="share of training after which it is 0")
    quantise.add_argument("--alpha_warmup", type=float, default=0.1, help="share of training in which QDyT's α grows")
    track = flags.add_argument_group("tracking")
    track.add_argument("--wandb_project", default="bitnet-qdyt-v2", help="project, in W&B and in the store")
    track.add_argument("--wandb_run_name", help="run name [from the configuration]")
    track.add_argument("--wandb_tags", nargs="*", default=[], metavar="TAG", help="tags, separated by spaces")
    track.add_argument("--wandb_notes", help="a word on what this run is for")
    track.add_argument("--wandb_group", help="group of runs that belong together")
    track.add_argument("--wandb_entity", help="whose W&B project it is")
    track.add_argument(
        "--wandb_mode",
        choices=("online", "offline", "disabled"),
        help="[online, or as WANDB_MODE says]; disabled leaves TensorBoard",
    )
    track.add_argument("--disable_wandb", action="store_true", help="the same as --wandb_mode disabled")
    track.add_argument("--tracker", default="none", help=f"mirrors beside W&B and TensorBoard: {','.join(_OTHERS)}")
    track.add_argument("--store", help="where runs are kept [LOSSBOOK_STORE, else ./lossbook-runs]")
    return flags


def parse(argv: list[str] | None = None, defaults: dict[str, Any] | None = None) -> argparse.Namespace:
    """Read the flags, and end the program with one sentence where they cannot be meant."""
    flags = parser()
    if defaults:
        flags.set_defaults(**defaults)
    args = flags.parse_args(argv)
    counts = (
        "max_length",
        "num_epochs",
        "max_steps",
        "batch_size",
        "gradient_accumulation_steps",
        "eval_interval",
        "eval_batches",
        "log_interval",
    )
    for name in counts:
        value = getattr(args, name)
        if value is not None and value < 1:
            flags.error(f"--{name} must be 1 or more, not {value}")
    # Written so that NaN fails as well.
    for name, fits, allowed in (
        ("learning_rate", 0 < args.learning_rate < math.inf, "above 0"),
        ("weight_decay", 0 <= args.weight_decay < math.inf, "0 or more"),
        ("max_grad_norm", args.max_grad_norm >= 0, "0 or more"),
        ("warmup_steps", args.warmup_steps is None or args.warmup_steps >= 0, "0 or more"),
        ("dropout", 0 <= args.dropout < 1, "from 0 to below 1"),
        ("qdrop", 0 <= args.qdrop <= 1, "from 0 to 1"),
        ("qdrop_anneal", 0 <= args.qdrop_anneal <= 1, "from 0 to 1"),
        ("alpha_warmup", 0 <= args.alpha_warmup <= 1, "from 0 to 1"),
        ("seed", 0 <= args.seed < 1 << 63, "0 or more, and fit 63 bits"),
    ):
        if not fits:
            flags.error(f"--{name} must be {allowed}, not {getattr(args, name)}")
    return args


def begin(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The arguments, and of a resumed run its checkpoint.

    Raises:
        CheckpointError: there is nothing to resume, or not with these arguments.
    """
    args = parse(argv)
    if not args.resume:
        return args, None
    path = checkpoint.find(args.resume, args.checkpoints)
    state = checkpoint.load(path)
    if "bitnet" not in state:
        raise checkpoint.CheckpointError(f"{path} is no checkpoint of bitnet/train.py: name the last.pt of a run of it")
    kept = {name: value for name, value in state["args"].items() if name not in ("resume", "checkpoints", "cache")}
    # The run goes on where it is, also when this is started in another folder.
    if state["store"] and Path(state["store"], state["project"], state["run"]).is_dir():
        kept["store"] = state["store"]
    args = parse(argv, kept)
    for name, then in kept.items():
        if name not in FREE and getattr(args, name) != then:
            raise checkpoint.CheckpointError(
                f"{path} was trained with --{name} {then}, which cannot become {getattr(args, name)} half way: "
                f"leave --{name} out, or begin a new run without --resume"
            )
    return args, state


def mirrors(args: argparse.Namespace) -> list[str]:
    """The mirrors of the run: TensorBoard always, W&B unless it is disabled, and others that are asked for."""
    specs = ["tensorboard"]
    if not args.disable_wandb and args.wandb_mode != "disabled":
        # Without a mode of its own the mirror goes by WANDB_MODE.
        specs.append(f"wandb:{args.wandb_mode}" if args.wandb_mode else "wandb")
    return specs + [word.strip() for word in args.tracker.split(",")]
