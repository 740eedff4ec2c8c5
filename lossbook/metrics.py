"""The vocabulary of metrics, in one table: what trainers call the same thing, its unit, and which way is better."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One quantity. `names` are what trainers call it, the most common first; `goal` None where neither way is better."""

    names: tuple[str, ...]
    unit: str = ""
    goal: str | None = None


TABLE = (
    Metric(("train/loss", "train_loss", "loss", "training_loss", "train/train_loss", "loss/train"), "nats", "minimize"),
    Metric(("val/loss", "val_loss", "eval/loss", "eval_loss", "valid/loss", "validation/loss", "validation_loss",
            "valid_loss", "loss/val", "dev/loss"), "nats", "minimize"),
    Metric(("train/perplexity", "train_perplexity", "perplexity", "train/ppl", "ppl"), "", "minimize"),
    Metric(("val/perplexity", "val_perplexity", "eval/perplexity", "eval_perplexity", "val/ppl", "val_ppl"), "", "minimize"),
    Metric(("train/learning_rate", "learning_rate", "lr", "train/lr", "optim/lr", "lr/group_0"), ""),
    Metric(("train/grad_norm", "grad_norm", "gradient_norm", "grad/norm", "train/gradient_norm"), ""),
    Metric(("time/tokens_seen", "tokens", "tokens_seen", "train/tokens", "total_tokens", "num_tokens",
            "train/tokens_seen", "num_input_tokens_seen"), "tokens"),
    Metric(("time/gradient_steps", "gradient_step", "gradient_steps", "train/global_step", "global_step",
            "optimizer_step"), "steps"),
    Metric(("throughput/flops_seen", "flops", "flops_seen", "total_flos", "train/total_flos"), "FLOPs"),
    Metric(("throughput/tokens_per_second", "tokens_per_second", "tokens_per_sec", "tokens/s", "train/tokens_per_second",
            "tok/s"), "tokens/s", "maximize"),
    Metric(("throughput/mfu", "mfu", "train/mfu"), "%", "maximize"),
    Metric(("train/epoch", "epoch"), "epochs"),
    Metric(("train/accuracy", "train_accuracy", "accuracy", "acc"), "", "maximize"),
    Metric(("val/accuracy", "val_accuracy", "eval/accuracy", "eval_accuracy"), "", "maximize"),
    Metric(("sparsity", "train/sparsity", "pruning/sparsity"), ""),
)  # fmt: skip

_BY_NAME = {name: metric for metric in TABLE for name in metric.names}
#: Axes that a curve can be drawn against through the metric that carries them.
AXES = {"tokens": "time/tokens_seen", "gradient_step": "time/gradient_steps", "flops": "throughput/flops_seen"}
#: How the names of the machine's own series begin (docs/system-metrics.md).
_MACHINE = ("system.", "system/", "gpu", "cpu_", "memory_", "disk_", "network_", "torch_gpu_")
_BETTER_LOW = ("loss", "perplexity", "ppl", "error", "wer", "cer", "bpb", "bits_per_byte", "seconds", "latency")
_BETTER_HIGH = (
    "accuracy",
    "acc",
    "mfu",
    "per_second",
    "per_sec",
    "bleu",
    "rouge",
    "f1",
    "reward",
    "score",
    "throughput",
)


def find_key(name: str, keys: Iterable[str]) -> str | None:
    """The key among `keys` that `name` means: itself, or what this run calls the same quantity."""
    present = keys if isinstance(keys, (set, dict, frozenset)) else set(keys)
    if name in present:
        return name
    for metric in (_BY_NAME.get(name), _BY_NAME.get(AXES.get(name, ""))):
        if metric is not None:
            for other in metric.names:
                if other in present:
                    return other
    return None


def usual_keys(keys: Iterable[str], *, fallback: bool = True) -> list[str]:
    """What to draw when nothing was named: training and validation loss by whatever names they have among `keys`.

    Args:
        fallback: where there is neither, give the first key that speaks of a loss, else the first of the run's own.
    """
    present = set(keys)
    found = [key for key in (find_key("train/loss", present), find_key("val/loss", present)) if key is not None]
    if found or not fallback:
        return found
    lossy = sorted(key for key in present if "loss" in key.lower())
    own = sorted(key for key in present if not key.startswith(_MACHINE))
    return (lossy or own or sorted(present))[:1]


def nearest(name: str, keys: Iterable[str], count: int = 5) -> list[str]:
    """The keys that look most like `name`, for a message about one that does not exist."""
    present = sorted(keys)
    close = difflib.get_close_matches(name, present, n=count, cutoff=0.4)
    inside = [key for key in present if name.lower() in key.lower() and key not in close]
    return [*close, *inside][:count]


def unit_of(key: str) -> str:
    """The unit of a metric, as text to put behind a number; empty where it has none or is not known."""
    metric = _BY_NAME.get(key)
    return metric.unit if metric else ""


def goal_of(key: str, defined: Iterable[Mapping[str, Any]] = ()) -> str | None:
    """Which way is better: what `define_metric` said, else the table, else the words in the key.

    Returns:
        "minimize", "maximize", or None where neither is known to be better.
    """
    for one in defined:
        if one.get("goal") and fnmatch.fnmatchcase(key, str(one.get("pattern", ""))):
            return str(one["goal"])
    metric = _BY_NAME.get(key)
    if metric is not None:
        return metric.goal
    tail = key.lower().rsplit("/", 1)[-1]
    for words, goal in ((_BETTER_HIGH, "maximize"), (_BETTER_LOW, "minimize")):
        if any(word == tail or tail.endswith(f"_{word}") or tail.startswith(f"{word}_") for word in words):
            return goal
    return None
