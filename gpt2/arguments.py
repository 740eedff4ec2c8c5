"""The flags of the GPT-2 trainer: what each means, what it may be, its default, and what a resumed run keeps of them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

import lossbook
from gpt2.model import SIZES
from lossbook.errors import LossbookError
from lossbook.registry import MIRRORS
from trainers import checkpoint
from trainers.datasets import DATASETS
from trainers.optimizers import KINDS, OPTIMIZERS
from trainers.pruning import METHODS, VARIANTS
from trainers.text import TOKENIZERS

#: Where nobody names a sparsity: half of the weights.
DEFAULT_SPARSITY = 0.5
#: The optimizers whose moments `--pruning state` reads.
_STATE_PRUNERS = [kind.name for kind in KINDS.values() if kind.pruning == "state"]
#: What a checkpoint's model and optimizer were made with.
_FIXED = ("size", "context", "no_bias", "tokenizer", "vocab_size", "optimizer", "pruning", "prune_embeddings")


class Arguments(argparse.ArgumentParser):
    """Says in one sentence what is wrong, rather than behind a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help says what there is\n")


def parse(argv: list[str] | None = None, defaults: dict[str, Any] | None = None) -> argparse.Namespace:
    """Read and check the flags; what depends on another flag is filled in.

    Args:
        argv: as typed; None: of this process.
        defaults: what holds where a flag is not given, such as those of a checkpoint.
    """
    parser = _parser()
    if defaults:
        parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    args.tracker, args.tracker_mode = getattr(args, "tracker", None), getattr(args, "tracker_mode", None)
    if args.min_learning_rate is None:
        args.min_learning_rate = args.learning_rate / 10
    if args.pruning is None:
        args.pruning = KINDS[args.optimizer].pruning
        if args.pruning == "none" and args.sparsity:
            parser.error(f"--sparsity {args.sparsity:g} needs --pruning {', '.join(METHODS[1:])}: name one")
    if args.sparsity is None:
        args.sparsity = DEFAULT_SPARSITY
    args.sparsity = args.sparsity / 100 if args.sparsity > 1 else args.sparsity
    if args.pruning == "none":
        args.sparsity = 0.0
    # The ramp: after a tenth of the training, and early enough that what is left can recover.
    if args.prune_warmup is None:
        args.prune_warmup = min(args.steps // 10, (args.prune_end or args.steps) // 4)
    if args.prune_end is None:
        args.prune_end = max(args.prune_warmup + 1, args.steps * 3 // 4)
    _check(parser, args)
    return args


def _parser() -> Arguments:
    parser = Arguments(
        prog="gpt2/train.py",
        description="Train a GPT-2 on text, tracked with Lossbook.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    text = parser.add_argument_group("text")
    text.add_argument("--dataset", default="python-stdlib", help=f"{', '.join(DATASETS)}, a text file, or a folder")
    text.add_argument("--data-root", type=Path, help="folder with copies of the hub's repositories; no download then")
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
    run.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step, over all processes together")
    run.add_argument("--seed", type=int, default=1337, help="of parameters, batches and dropout")
    run.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to train")
    run.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of activations")
    run.add_argument("--compile", action="store_true", help="torch.compile the model")
    run.add_argument("--eval-interval", type=int, default=200, help="steps between evaluations and checkpoints")
    run.add_argument("--eval-batches", type=int, default=20, help="batches of an evaluation, the same each time")
    run.add_argument("--log-interval", type=int, default=10, help="steps between progress lines")
    run.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder for checkpoints")
    run.add_argument("--resume", metavar="WHAT", help="go on from a checkpoint: latest, a run's id, or a path")
    update = parser.add_argument_group("optimizer")
    update.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw", help="what updates the parameters")
    update.add_argument("--learning-rate", type=float, default=1e-3, help="at the end of the warm-up")
    update.add_argument("--min-learning-rate", type=float, default=None, help="at the end [a tenth of the above]")
    update.add_argument("--warmup-steps", type=int, default=100, help="steps of linear warm-up")
    update.add_argument("--weight-decay", type=float, default=0.1, help="of matrices; biases and norms have none")
    update.add_argument("--beta1", type=float, default=0.9, help="of the first moment")
    update.add_argument("--beta2", type=float, default=0.95, help="of the second moment")
    update.add_argument("--epsilon", type=float, default=1e-8, help="what the Adams divide by at least")
    update.add_argument("--momentum", type=float, help="of sgd [0.9] and of muon's matrices [0.95]")
    update.add_argument("--clip", type=float, default=1.0, help="largest gradient norm; 0: no clipping")
    for kind in KINDS.values():
        for option in kind.options:
            if option.help is not None:
                update.add_argument(
                    f"--{option.name.replace('_', '-')}",
                    type=type(option.default),
                    default=option.default,
                    help=f"{kind.name}: {option.help}",
                )
    prune = parser.add_argument_group("pruning")
    prune.add_argument(
        "--pruning",
        choices=METHODS,
        help=f"by what weights are pruned [{', '.join(_STATE_PRUNERS)}: state, else none]",
    )
    prune.add_argument("--sparsity", type=float, help="share of zero weights to reach, as 0.5 or as 50 (%%) [0.5]")
    prune.add_argument("--prune-variant", choices=VARIANTS, default="b0", help="score of state pruning")
    prune.add_argument("--prune-warmup", type=int, help="steps before the first pruning [a tenth of all]")
    prune.add_argument("--prune-end", type=int, help="step at which the sparsity is reached [three quarters of all]")
    prune.add_argument("--prune-frequency", type=int, default=50, help="steps between prunings")
    prune.add_argument("--prune-embeddings", action="store_true", help="prune embeddings and the tied head as well")
    sample = parser.add_argument_group("sampling")
    sample.add_argument(
        "--sample", type=int, default=0, metavar="N", help="tokens to write at the end, with the best checkpoint"
    )
    sample.add_argument("--prompt", default="\n", help="what they go on from")
    sample.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest token")
    sample.add_argument("--top-k", type=int, default=200, help="draw from so many of the likeliest tokens")
    track = parser.add_argument_group("tracking")
    track.add_argument(
        "--tracker",
        default=argparse.SUPPRESS,
        help=f"mirrors beside the local run: {','.join(MIRRORS.names())}, one or several, each with "
        "a mode of its own if wanted (wandb:offline) [none]",
    )
    track.add_argument("--tracker-project", help="project [directory-checksum]")
    track.add_argument("--tracker-run-name", help="run name [from the configuration]")
    track.add_argument("--tracker-tags", default="", help="tags, separated by commas")
    track.add_argument("--tracker-group", help="group of runs that belong together")
    track.add_argument("--tracker-notes", help="a word on what this run is for")
    track.add_argument(
        "--tracker-mode",
        choices=("online", "offline", "disabled"),
        default=argparse.SUPPRESS,
        help="of mirrors [online, or as WANDB_MODE says]",
    )
    track.add_argument("--no-local", action="store_true", help="keep no run here: only in the trackers")
    track.add_argument("--store", help="where runs are kept [LOSSBOOK_STORE, else ./lossbook-runs]")
    return parser


def _check(parser: Arguments, args: argparse.Namespace) -> None:
    for name in (
        "steps",
        "batch_size",
        "accumulate",
        "context",
        "eval_interval",
        "eval_batches",
        "log_interval",
        "prune_frequency",
        "top_k",
    ):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    # Written so that NaN fails as well.
    for name, fits, allowed in (
        ("learning_rate", 0 < args.learning_rate < math.inf, "above 0"),
        ("min_learning_rate", 0 <= args.min_learning_rate <= args.learning_rate, "from 0 to --learning-rate"),
        ("dropout", 0 <= args.dropout < 1, "from 0 to below 1"),
        ("beta1", 0 <= args.beta1 < 1, "from 0 to below 1"),
        ("beta2", 0 <= args.beta2 < 1, "from 0 to below 1"),
        ("epsilon", 0 <= args.epsilon < math.inf, "0 or more"),
        ("momentum", args.momentum is None or 0 <= args.momentum < 1, "from 0 to below 1"),
        ("weight_decay", 0 <= args.weight_decay < math.inf, "0 or more"),
        ("warmup_steps", args.warmup_steps >= 0, "0 or more"),
        ("clip", args.clip >= 0, "0 or more"),
        ("seed", 0 <= args.seed < 1 << 63, "0 or more, and fit 63 bits"),
        (
            "sparsity",
            args.pruning == "none" or 0 < args.sparsity < 1,
            "above 0 and below 1, or above 1 and below 100 (%)",
        ),
        ("prune_warmup", args.prune_warmup >= 0, "0 or more"),
        ("prune_end", args.prune_end > args.prune_warmup, f"after --prune-warmup {args.prune_warmup}"),
        ("sample", args.sample >= 0, "0 or more"),
        ("temperature", 0 <= args.temperature < math.inf, "0 or more"),
    ):
        if not fits:
            parser.error(f"--{name.replace('_', '-')} must be {allowed}, not {getattr(args, name)}")
    if args.pruning == "state" and args.optimizer not in _STATE_PRUNERS:
        those = " or ".join(_STATE_PRUNERS)
        parser.error(f"--pruning state reads the moments of {those}, not of {args.optimizer}: --optimizer {those}")


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
    for name in _FIXED:
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
