"""Owns the vocabulary of metrics: names and aliases, units, roles, goals, and whether a utilisation is in percent.

The command line, the terminal, the plots and the dashboard ask here; the dashboard's constants are generated from here
by `scripts/web_types.py`.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

Goal = Literal["minimize", "maximize"]
#: What a metric is in a training run. "loss": another loss than the usual ones, such as `moe/aux_loss`; "quality":
#: perplexity, accuracy, bits per byte; "speed": work per second; "machine": a series that the system monitor samples.
Role = Literal[
    "train-loss", "val-loss", "test-loss", "loss", "quality", "tokens", "speed", "step-time", "utilisation", "machine"
]


class Metric(NamedTuple):
    """One quantity. `names` are what trainers call it, the most common first; `goal` None where neither way is better."""

    names: tuple[str, ...]
    unit: str = ""
    goal: Goal | None = None
    role: Role | None = None


TABLE = (
    Metric(("train/loss", "train_loss", "loss", "training_loss", "training/loss", "train/train_loss", "loss/train"),
           "nats", "minimize", "train-loss"),
    Metric(("val/loss", "val_loss", "eval/loss", "eval_loss", "valid/loss", "validation/loss", "validation_loss",
            "valid_loss", "loss/val", "dev/loss"), "nats", "minimize", "val-loss"),
    Metric(("test/loss", "test_loss", "loss/test"), "nats", "minimize", "test-loss"),
    Metric(("train/perplexity", "train_perplexity", "perplexity", "train/ppl", "ppl"), "", "minimize", "quality"),
    Metric(("val/perplexity", "val_perplexity", "eval/perplexity", "eval_perplexity", "val/ppl", "val_ppl"), "",
           "minimize", "quality"),
    Metric(("train/learning_rate", "learning_rate", "lr", "train/lr", "optim/lr", "lr/group_0")),
    Metric(("train/grad_norm", "grad_norm", "gradient_norm", "grad/norm", "train/gradient_norm")),
    Metric(("time/tokens_seen", "tokens", "tokens_seen", "train/tokens", "total_tokens", "num_tokens",
            "train/tokens_seen", "num_input_tokens_seen"), "tokens", None, "tokens"),
    Metric(("time/gradient_steps", "gradient_step", "gradient_steps", "train/global_step", "global_step",
            "optimizer_step"), "steps"),
    Metric(("throughput/flops_seen", "flops", "flops_seen", "total_flos", "train/total_flos"), "FLOPs"),
    Metric(("throughput/tokens_per_second", "tokens_per_second", "tokens_per_sec", "tokens/s", "train/tokens_per_second",
            "perf/tokens_per_second", "tok/s"), "tokens/s", "maximize", "speed"),
    # No aliases of each other: the first is in percent, the others are in percent or a share (`percent_factor`).
    Metric(("throughput/mfu",), "%", "maximize", "utilisation"),
    Metric(("mfu", "train/mfu"), "%", "maximize", "utilisation"),
    Metric(("train/epoch", "epoch"), "epochs"),
    Metric(("train/accuracy", "train_accuracy", "accuracy", "acc"), "", "maximize", "quality"),
    Metric(("val/accuracy", "val_accuracy", "eval/accuracy", "eval_accuracy"), "", "maximize", "quality"),
    Metric(("sparsity", "train/sparsity", "pruning/sparsity")),
)  # fmt: skip

_BY_NAME = {name: metric for metric in TABLE for name in metric.names}
#: Axes that a curve can be drawn against through the metric that carries them.
AXES = {"tokens": "time/tokens_seen", "gradient_step": "time/gradient_steps", "flops": "throughput/flops_seen"}
#: How the names of the machine's own series begin (docs/system-metrics.md).
_MACHINE = ("system.", "system/", "gpu", "cpu_", "memory_", "disk_", "network_", "torch_gpu_")
#: What a name begins with that says on which part of the text it was measured.
TRAIN_SPLITS = ("train", "training")
EVAL_SPLITS = ("val", "valid", "validation", "eval", "dev", "test")
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
    present = keys if isinstance(keys, (set, dict, frozenset, Mapping)) else set(keys)
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


def quantity_of(key: str) -> str:
    """What a metric measures, whichever part of the text it was measured on: `val_loss` and `train/loss` are "loss"."""
    name = key.rsplit("/", 1)[-1]
    for split in (*TRAIN_SPLITS, *EVAL_SPLITS):
        name = name.removeprefix(f"{split}_")
    if name in ("train", "val") and "/" in key:
        name = key.split("/", 1)[0]
    return "perplexity" if name == "ppl" else name


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
    import difflib

    present = sorted(keys)
    close = difflib.get_close_matches(name, present, n=count, cutoff=0.4)
    inside = [key for key in present if name.lower() in key.lower() and key not in close]
    return [*close, *inside][:count]


def unit_of(key: str, *, defined: Iterable[Mapping[str, object]] = (), largest: object = None) -> str:
    """The unit of a metric, as text to put behind a number; empty where it has none or is not known.

    Args:
        defined: what the run said with `define_metric`.
        largest: the largest value of the series, by which percent and share are told apart; see `percent_factor`.

    Returns:
        Such as "tokens/s". "%" for a utilisation in percent, "share" for one between 0 and 1.
    """
    said = _defined(key, "unit", defined)
    if said is not None:
        return said
    if role_of(key) == "utilisation":
        if key == _PERCENT_KEY or _finite(largest) is not None:
            return "%" if percent_factor(key, largest) == 1 else "share"
        return ""
    metric = _BY_NAME.get(key)
    if metric is not None:
        return metric.unit
    return next((unit for ending, unit in _SPEEDS.items() if key.rsplit("/", 1)[-1].endswith(ending)), "")


def goal_of(key: str, defined: Iterable[Mapping[str, object]] = ()) -> str | None:
    """Which way is better: what `define_metric` said, else the table, else the words in the key.

    Returns:
        "minimize", "maximize", or None where neither is known to be better.
    """
    said = _defined(key, "goal", defined)
    if said is not None:
        return said
    metric = _BY_NAME.get(key)
    if metric is not None:
        return metric.goal
    tail = key.lower().rsplit("/", 1)[-1]
    for words, goal in ((_BETTER_HIGH, "maximize"), (_BETTER_LOW, "minimize")):
        if any(word == tail or tail.endswith(f"_{word}") or tail.startswith(f"{word}_") for word in words):
            return goal
    return None


def _defined(key: str, what: str, defined: Iterable[Mapping[str, object]]) -> str | None:
    """What `define_metric` said of a key; the first pattern that fits holds."""
    for one in defined:
        if one.get(what) and fnmatch.fnmatchcase(key, str(one.get("pattern", ""))):
            return str(one[what])
    return None


# -- roles --------------------------------------------------------------------------------------------------------

#: The roles that a run can give to its keys, as `define_metric(role=...)` is told them.
DEFINABLE_ROLES: Mapping[str, Role] = MappingProxyType(
    {"train_loss": "train-loss", "val_loss": "val-loss", "test_loss": "test-loss", "speed": "speed",
     "step_time": "step-time"}
)  # fmt: skip
_STEP = r"(?:train_?|training_?)?(?:step|iteration|iter|batch)"
_PART_OF_STEP = r"(?:compute|forward|backward|fwd|bwd|data|data_loading|optimizer)"
_UNIT = r"(?:ms|msec|milliseconds|us|s|sec|secs|seconds)"
_TIME = rf"(?:(?:time|duration|timing|latency)(?:_(?:in_)?{_UNIT})?|{_UNIT})"
#: What a step, or a part of one, took: the last part of a name, in lower case, its other signs made underscores.
_STEP_TIME = re.compile(
    rf"(?:{_STEP}|{_PART_OF_STEP})_(?:avg_)?{_TIME}|{_TIME}_per_(?:{_STEP}|it)|{_UNIT}_(?:{_STEP}|it)|step_avg|dt(?:_ms)?"
)
#: A time of something, but of what is not known.
_SOME_TIME = re.compile(rf"(?:.*_)?{_TIME}|.*_dur|{_TIME}_.*")
#: A time that grows, or that no rank has to wait for.
_NO_STEP_TIME = re.compile(
    r"time|seconds|.*(?:num|elapsed|total|wall|since|start|end|eta|remaining|eval|val|valid|validation|checkpoint|save|compile|startup|epoch).*"
)
#: Parts of a name under which times are logged by what they are times of.
_TIME_GROUPS = ("time", "times", "timing", "timings", "timer", "timers", "time_metrics")
_SPEEDS = {
    "tokens_per_second": "tokens/s",
    "tokens_per_sec": "tokens/s",
    "samples_per_second": "samples/s",
    "steps_per_second": "steps/s",
    "iterations_per_second": "iterations/s",
}
_LOSS = re.compile(r"(?:^|[/_])loss$", re.IGNORECASE)
_QUALITY = re.compile(r"perplexity|ppl|accuracy|\bacc\b|bits_per_byte|bpb", re.IGNORECASE)
_UTILISATION = re.compile(r"(?:^|[/_.])mfu$", re.IGNORECASE)


# The words in a name are looked through once: a page asks for thousands of keys every other second.
@lru_cache(maxsize=1 << 15)
def _usual_role(key: str) -> Role | None:
    metric = _BY_NAME.get(key)
    if metric is not None:
        return metric.role
    if key.startswith(_MACHINE):
        return "machine"
    if is_step_time(key):
        return "step-time"
    if is_speed(key):
        return "speed"
    if _UTILISATION.search(key):
        return "utilisation"
    if _LOSS.search(key):
        return "loss"
    return "quality" if _QUALITY.search(key) else None


def role_of(key: str, defined: Iterable[Mapping[str, object]] = ()) -> Role | None:
    """What a metric is in a training run: what `define_metric` said, else by the table, else by the words in its name.

    Returns:
        None where it is none of the roles.
    """
    said = _defined(key, "role", defined)
    return DEFINABLE_ROLES.get(said or "") or _usual_role(key)


def importance_of(key: str) -> int:
    """Where a metric stands in a list: losses of training and validation (0), others (1), the machine's series (2)."""
    return 0 if is_loss(key) else 2 if role_of(key) == "machine" else 1


def key_metrics(keys: Iterable[str]) -> dict[Role, str]:
    """For each role the one key that stands for it: by the most usual name among `keys`, else the first by name."""
    found: dict[Role, str] = {}
    present = set(keys)
    for metric in TABLE:
        if metric.role is not None and metric.role not in found:
            key = next((name for name in metric.names if name in present), None)
            if key is not None:
                found[metric.role] = key
    for key in sorted(present):
        role = role_of(key)
        if role is not None and role != "machine":
            found.setdefault(role, key)
    return found


def is_loss(key: str) -> bool:
    """Whether a key is a loss of training or validation, by any of their usual names."""
    return role_of(key) in ("train-loss", "val-loss")


def is_training_loss(key: str, defined: Iterable[Mapping[str, object]] = ()) -> bool:
    """Whether a key is the loss of training: the one that `define_metric` named, else by its name."""
    said = [one for one in defined if one.get("role") == "train_loss"]
    return any(fnmatch.fnmatchcase(key, str(one.get("pattern", ""))) for one in said) or (
        not said and _usual_role(key) == "train-loss"
    )


def is_speed(key: str, defined: Iterable[Mapping[str, object]] = ()) -> bool:
    """Whether a key says how much is trained in a second, by `define_metric` or by its name."""
    said = _defined(key, "role", defined)
    if said is not None:
        return said == "speed"
    return find_key("tokens_per_second", (key,)) is not None or key.rsplit("/", 1)[-1].endswith(tuple(_SPEEDS))


def is_step_time(key: str, defined: Iterable[Mapping[str, object]] = ()) -> bool:
    """Whether a key says what a step, or a part of one, took, by `define_metric` or by its name."""
    said = _defined(key, "role", defined)
    if said is not None:
        return said == "step_time"
    return _names_step_time(key)


@lru_cache(maxsize=1 << 12)
def _names_step_time(key: str) -> bool:
    *before, end = key.rsplit("/", 2)
    group = _plain(before[-1]) if before else ""
    ends = [_plain(end)]
    if group in _TIME_GROUPS:
        ends.append(f"{ends[0]}_time")  # time/forward
    elif group in ("s", "ms"):
        ends.append(f"{group}_{ends[0]}")  # s/it
    return any(_STEP_TIME.fullmatch(one) for one in ends)


def may_be_step_time(key: str, defined: Iterable[Mapping[str, object]] = ()) -> bool:
    """Whether the name of a key speaks of a time that may be a step's, and nobody said what it is."""
    end = _plain(key.rsplit("/", 1)[-1])
    return (
        _defined(key, "role", defined) is None
        and not key.startswith(_MACHINE)
        and not _names_step_time(key)
        and _SOME_TIME.fullmatch(end) is not None
        and _NO_STEP_TIME.fullmatch(end) is None
    )


def _plain(name: str) -> str:
    """In lower case, with underscores alone: `Step-Time (ms)` is "step_time_ms"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def step_seconds(key: str, value: float) -> float:
    """A step time in seconds, whatever unit the name of its key says."""
    words = _plain(key).split("_")
    if not {"ms", "msec", "milliseconds"}.isdisjoint(words):
        return value / 1000
    return value / 1e6 if "us" in words else value


# -- percent or share ---------------------------------------------------------------------------------------------

#: The name under which the documentation has a model FLOPs utilisation: in percent, always.
_PERCENT_KEY = "throughput/mfu"


def percent_factor(key: str, largest: object, defined: Iterable[Mapping[str, object]] = ()) -> int:
    """What the values of a utilisation are multiplied by to be percent: 1, or 100 where a share was logged.

    The rule, in this order: a unit that the run gave with `define_metric` ("%" or "percent": percent; "share" or
    "fraction": a share); `throughput/mfu`, the documented name, is percent; under any other name a series that never
    exceeds 1 is a share. A whole run at 1 % or below is rarer than a trainer that logs `mfu` as 0.46.

    Args:
        largest: the largest value of the series; what is no finite number tells nothing, and percent is assumed.
    """
    unit = _defined(key, "unit", defined)
    if unit is not None:
        return 100 if unit.lower() in ("share", "fraction") else 1
    size = _finite(largest)
    return 100 if key != _PERCENT_KEY and size is not None and size <= 1 else 1


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


# -- the machine --------------------------------------------------------------------------------------------------


class SystemChart(NamedTuple):
    """One chart of the host: its series with what each is called beside the others."""

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]


_HOST_CHARTS = (
    SystemChart("CPU", "%", (("cpu_percent", "host"), ("system.proc.cpu_percent", "training"),
                             ("system.proc.children_cpu_percent", "child processes"))),
    SystemChart("Memory", "%", (("memory_percent", "host"),)),
    SystemChart("Process memory", "bytes", (("system.proc.memory_rss_bytes", "training"),
                                            ("system.proc.children_memory_rss_bytes", "child processes"))),
    SystemChart("PyTorch allocator", "GiB", (("torch_gpu_memory_allocated", "allocated"),
                                             ("torch_gpu_memory_reserved", "reserved"))),
    SystemChart("Disk I/O", "bytes/s", (("disk_read_bytes_per_second", "read"),
                                        ("disk_write_bytes_per_second", "written"))),
    SystemChart("Network", "bytes/s", (("network_sent_bytes_per_second", "sent"),
                                       ("network_received_bytes_per_second", "received"))),
    SystemChart("Disk usage", "%", (("disk_percent", "disk"),)),
)  # fmt: skip


def host_charts(keys: Iterable[str]) -> list[SystemChart]:
    """The charts of the host that a run has series for; a series that each node has (`cpu_percent/node1`) is a line each."""
    present = list(keys)
    charts = []
    for title, unit, wanted in _HOST_CHARTS:
        series = tuple(
            (key, label if key == name else f"{label}, {key[len(name) + 1 :].replace('_', ' ', 1)}")
            for name, label in wanted
            for key in present
            if key == name or key.startswith(f"{name}/")
        )
        if series:
            charts.append(SystemChart(title, unit, series))
    return charts
