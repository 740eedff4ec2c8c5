"""The vocabulary of metrics, in one table: what trainers call the same thing, its unit, and which way is better."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
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


def same_quantities(runs: Iterable[Iterable[str]]) -> dict[str, str]:
    """Which keys are another name for what most of these runs call otherwise.

    A quantity that one run logs under two names is taken for two: they may differ in a way that the names do not tell.

    Args:
        runs: the keys of each run.

    Returns:
        The other name's key of each such key: `{"train_loss": "train/loss"}`.
    """
    counts: Counter[str] = Counter()
    apart: set[int] = set()
    for keys in runs:
        present = [key for key in keys if key in _BY_NAME]
        counts.update(present)
        quantities = Counter(id(_BY_NAME[key]) for key in present)
        apart.update(quantity for quantity, names in quantities.items() if names > 1)
    same: dict[str, str] = {}
    for metric in TABLE:
        present = [name for name in metric.names if name in counts]
        if len(present) > 1 and id(metric) not in apart:
            usual = max(present, key=lambda name: counts[name])
            same.update({name: usual for name in present if name != usual})
    return same


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


#: What a step, or a part of one, took; the last part of a name.
_STEP_TIMES = (
    "step_time", "step_seconds", "step_time_ms", "time_per_step", "seconds_per_step", "iteration_time", "iter_time",
    "time_per_iteration", "compute_seconds", "compute_time", "forward_seconds", "backward_seconds", "data_seconds",
    "data_time",
)  # fmt: skip
_SPEEDS = ("tokens_per_second", "tokens_per_sec", "samples_per_second", "steps_per_second", "iterations_per_second")


def is_speed(key: str) -> bool:
    """Whether a key says how much is trained in a second."""
    return find_key("tokens_per_second", (key,)) is not None or key.rsplit("/", 1)[-1].endswith(_SPEEDS)


def is_step_time(key: str) -> bool:
    """Whether a key says what a step, or a part of one, took."""
    return key.rsplit("/", 1)[-1] in _STEP_TIMES
