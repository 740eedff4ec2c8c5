"""`keys`: the metrics of a run, in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.format import Column, number, printable, screen, table
from lossbook.cli.run_output import heading, metrics_table, print_json
from lossbook.formatting import flatten
from lossbook.metrics import EVAL_SPLITS, TRAIN_SPLITS

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

_GROUPS = ("training", "validation", "GPU", "system", "other")


@click.command(
    "keys",
    epilog="""\b
Examples:
  lossbook keys
  lossbook keys baseline --json
  lossbook --store wandb://ENTITY/PROJECT keys""",
)
@click.argument("ref", required=False, type=RUN, metavar="[RUN]")
@common_options()
@click.pass_obj
def keys_command(settings: Settings, ref: str | None) -> None:
    """List a run's metrics in groups, with their last values."""
    run = settings.run(ref)
    if settings.json:
        answer_keys(run, True)
        return
    metrics = run.metrics
    view = screen()
    name, *more = heading(run)
    lines = [view.paint(name, bold=True), *more, "", *_count_of_keys(run)]
    empty = {"last": None, "min": None, "max": None, "mean": None, "count": None}
    for group, keys in _grouped(run).items():
        lines += ["", view.paint(f"{group} ({len(keys)})", bold=True)]
        lines += metrics_table({key: metrics.get(key, empty) for key in keys}, view)
    single = _only_in_summary(run)
    if single:
        values = dict(flatten(run.summary))
        lines += ["", view.paint(f"summary ({len(single)})", bold=True)]
        lines += table(
            [Column("metric", shrink=True, keep=9), Column("value", right=True, keep=8)],
            [[printable(key), printable(number(values[key]))] for key in single],
            view,
        )
    click.echo("\n".join(lines), color=view.color)


def answer_keys(run: RecordedRun, as_json: bool) -> None:
    """Print the names of a run's metrics, those of GPUs and of training first."""
    grouped, single = _grouped(run), _only_in_summary(run)
    if as_json:
        count = sum(len(keys) for keys in grouped.values())
        print_json(run, {"count": count, "groups": grouped, "summary": single, "metrics": dict(run.metrics)})
        return
    lines = [*heading(run), "", *_count_of_keys(run)]
    losses = sorted([*grouped.get("training", ()), *grouped.get("validation", ())])
    for title, keys in (
        ("GPU-related keys", grouped.get("GPU", ())),
        ("Training metrics keys", losses),
        ("System metrics keys", grouped.get("system", ())),
        ("Other keys", grouped.get("other", ())),
        ("Summary keys, of one value each", single),
    ):
        if keys:
            lines += ["", f"{title}:", *(f"  - {printable(key)}" for key in keys)]
    click.echo("\n".join(lines))


def _grouped(run: RecordedRun) -> dict[str, list[str]]:
    """The keys of each group that has some, sorted."""
    grouped: dict[str, list[str]] = {group: [] for group in _GROUPS}
    for key in sorted(run.keys()):
        grouped[group_of(key)].append(key)
    return {group: keys for group, keys in grouped.items() if keys}


def _only_in_summary(run: RecordedRun) -> list[str]:
    """Numbers that were set once, at the end, and are no series; what a tracker adds for itself is left out."""
    series = set(run.keys())
    return sorted(
        key
        for key, value in flatten(run.summary)
        if isinstance(value, (int, float)) and key not in series and not key.startswith("_")
    )


def _count_of_keys(run: RecordedRun) -> Iterator[str]:
    count = len(run.keys()) + len(_only_in_summary(run))
    yield f"Total unique keys: {count}"
    if not count:
        yield "No metric has been logged."


def group_of(key: str) -> str:
    """Which of "training", "validation", "GPU", "system", "other" a metric belongs to, by its name."""
    name = key.lower()
    first = name.replace(".", "/").replace("_", "/").split("/", 1)[0]
    if "gpu" in name or name.startswith("cuda"):
        return "GPU"
    if first in ("system", "cpu", "memory", "disk", "network", "process", "host", "proc"):
        return "system"
    if first in EVAL_SPLITS:
        return "validation"
    if first in (
        *TRAIN_SPLITS,
        "loss",
        "lr",
        "learning",
        "grad",
        "gradient",
        "optim",
        "optimizer",
        "throughput",
        "tokens",
        "time",
        "progress",
        "perplexity",
        "epoch",
        "sparsity",
        "mfu",
        "final",
        "best",
    ):
        return "training"
    return "other"
