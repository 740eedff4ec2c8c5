"""The history of an experiment: the rows of its run, one `MetricsSnapshot` each, and their CSV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lossbook.paths import RunFolder, replace_file
from lossbook.run_info import load_run_info

if TYPE_CHECKING:
    from lossbook.storage import LoggedRow

COLUMNS = (
    "iteration", "gradient_step", "wallclock_time", "train_loss", "val_loss", "learning_rate", "tokens_per_sec",
    "iter_time_ms",
)  # fmt: skip
#: A row of a run is one of the history's when it has one of these.
_MARKS = frozenset(
    (
        "train/loss",
        "val/loss",
        "train/learning_rate",
        "throughput/tokens_per_second",
        "time/iteration_ms",
        "val/train_loss",
    )
)


class MetricsSnapshot(NamedTuple):
    """One row of the history; None where it has no such value.

    `iteration` counts from 0, `wallclock_time` is seconds of training (gaps between attempts left out).
    """

    iteration: int = 0
    gradient_step: int = 0
    wallclock_time: float = 0.0
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_sec: float | None = None
    iter_time_ms: float | None = None


def snapshots_of(folder: str) -> Iterator[MetricsSnapshot]:
    """The rows of a run as a log has them, in the order in which they were logged; hidden ones left out."""
    from lossbook.storage import visible

    where = RunFolder(folder)
    info = load_run_info(where)
    resumed_from = info.resume_steps() if info is not None else {}
    by_key = _resumed_by_key(_marked(where), resumed_from) if None in list(resumed_from.values())[1:] else {}
    for row in _marked(where):
        hidden = [key for key in _MARKS & row.body.keys() if not visible(row, by_key.get(key, resumed_from))]
        body = {key: value for key, value in row.body.items() if key not in hidden} if hidden else row.body
        step = row.step
        if step is None or not _MARKS & body.keys():
            continue
        hours = body.get("time/wallclock_hours", body.get("time/wallclock_hours_at_val"))
        steps = body.get("time/gradient_steps", body.get("time/gradient_steps_at_val"))
        train_loss = body.get("train/loss")
        yield MetricsSnapshot(
            iteration=step,
            gradient_step=int(steps) if steps is not None else step + 1,
            wallclock_time=hours * 3600 if hours is not None else 0.0,
            train_loss=body.get("val/train_loss") if train_loss is None else train_loss,
            val_loss=body.get("val/loss"),
            learning_rate=body.get("train/learning_rate"),
            tokens_per_sec=body.get("throughput/tokens_per_second"),
            iter_time_ms=body.get("time/iteration_ms"),
        )


def _marked(where: RunFolder) -> Iterator[LoggedRow]:
    """The rows of a run that a log has, hidden ones among them."""
    from lossbook.storage import Replay

    for row in Replay(where).rows():
        if row.kind is None and row.rank <= 0 and row.step is not None and _MARKS & row.body.keys():
            yield row


def _resumed_by_key(
    rows: Iterator[LoggedRow], resumed_from: Mapping[int, int | None]
) -> dict[str, dict[int, int | None]]:
    """By key the step that each attempt resumed from; one that did not say went back to where it logged the key first."""
    first: dict[str, dict[int, int]] = {}
    for row in rows:
        if row.attempt and resumed_from.get(row.attempt) is None and row.step is not None:
            for key in _MARKS & row.body.keys():
                steps = first.setdefault(key, {})
                steps[row.attempt] = min(row.step, steps.get(row.attempt, row.step))
    return {
        key: {**resumed_from, **{attempt: step - 1 for attempt, step in steps.items()}} for key, steps in first.items()
    }


def write_csv(path: str | os.PathLike[str], snapshots: Sequence[MetricsSnapshot] | Iterator[MetricsSnapshot]) -> None:
    """Write a history as CSV with the columns of `COLUMNS`, whole or not at all; None is an empty field."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in one] for one in snapshots)
    where = os.fspath(path)
    os.makedirs(os.path.dirname(where) or ".", exist_ok=True)
    replace_file(where, text.getvalue().encode())
