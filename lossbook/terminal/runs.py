"""The runs of a store as a table shows them: small records, found, filtered and sorted by the ten thousand.

A record of the index holds all of a run's configuration and statistics; here is only what the columns show, so that
the runs of a large store fit in a few megabytes, and each is parsed once and again only when its folder changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbook.metrics import find_key
from lossbook.paths import folder_mark

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun


@dataclass(frozen=True)
class RunLine:
    """What a line of the table knows of its run.

    Attributes:
        path: the run's folder, which names it for good.
        created: Unix seconds.
        duration_seconds: of the last attempt.
        loss, val_loss, tokens_per_second: last values; None where the run has none.
        found_by: everything that `/` looks through, in lower case.
    """

    path: str
    id: str
    name: str
    project: str
    state: str
    step: int | None
    loss: float | None
    val_loss: float | None
    tokens_per_second: float | None
    duration_seconds: float
    created: float
    group: str
    tags: str
    found_by: str

    @property
    def is_running(self) -> bool:
        return self.state == "running"


def run_line(run: RecordedRun) -> RunLine:
    """Take from a run's record what a line shows."""
    record = run.record

    def last(name: str) -> float | None:
        key = find_key(name, record.metrics)
        return record.metrics[key].last if key is not None else None

    tags = ", ".join(record.tags)
    group = record.group or ""
    return RunLine(
        run.path,
        record.id,
        record.name,
        record.project,
        record.state,
        record.last_step,
        last("train/loss"),
        last("val/loss"),
        last("throughput/tokens_per_second"),
        record.duration,
        record.created,
        group,
        tags,
        " ".join((record.name, record.id, record.project, record.state, group, tags)).lower(),
    )


class RunLines:
    """All runs of a book as lines; a look again parses only those that changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, RunLine]] = {}

    def of(self, runs: Iterable[RecordedRun]) -> list[RunLine]:
        """The lines of some runs, in their order."""
        found: dict[str, tuple[int, RunLine]] = {}
        for run in runs:
            path = run.path
            try:
                changed_ns = folder_mark(os.stat(path))
            except OSError:
                continue
            held = self._known.get(path)
            if held is None or held[0] != changed_ns or held[1].is_running:
                line = run_line(run)
                held = (changed_ns, held[1] if held is not None and held[1] == line else line)
            found[path] = held
        self._known = found
        return [line for _, line in found.values()]

    def anew(self, run: RecordedRun) -> RunLine:
        """The line of a run that was just read again."""
        line = run_line(run)
        held = self._known.get(line.path)
        self._known[line.path] = (held[0] if held is not None else 0, line)
        return line


# -- order and choice ---------------------------------------------------------------------------------------------

#: What a column is sorted by; the newest come first where nothing else is asked for.
SORT_VALUES: dict[str, Callable[[RunLine], Any]] = {
    "started": lambda line: line.created,
    "name": lambda line: line.name.lower(),
    "state": lambda line: line.state,
    "step": lambda line: line.step,
    "loss": lambda line: line.loss,
    "val loss": lambda line: line.val_loss,
    "tok/s": lambda line: line.tokens_per_second,
    "took": lambda line: line.duration_seconds,
    "group": lambda line: line.group or None,
    "tags": lambda line: line.tags or None,
    "project": lambda line: line.project,
}
#: Columns whose largest values are looked for first.
FALLING = ("started", "step", "tok/s", "took")


def arranged(
    lines: Sequence[RunLine], *, words: str = "", sort: str = "started", falling: bool = True, grouped: bool = False
) -> list[RunLine]:
    """The lines that have every one of some words, in an order; runs without the value come last.

    Args:
        words: separated by spaces, each a part of a name, id, project, state, group or tag; a `-` before one leaves out
            what has it.
        grouped: runs of one group stand together, the groups in the order of their first run.
    """
    for word in words.lower().split():
        if word.startswith("-") and len(word) > 1:
            lines = [line for line in lines if word[1:] not in line.found_by]
        else:
            lines = [line for line in lines if word in line.found_by]
    value_of = SORT_VALUES[sort]
    valued = [(value_of(line), line) for line in lines]
    known = [pair for pair in valued if pair[0] is not None and pair[0] == pair[0]]
    known.sort(key=lambda pair: pair[0], reverse=falling)
    ordered = [line for _, line in known] + [line for value, line in valued if value is None or value != value]
    if grouped:
        places: dict[str, int] = {}
        for line in ordered:
            places.setdefault(line.group, len(places))
        # Runs without a group stand behind those with one.
        ordered.sort(key=lambda line: (not line.group, places[line.group]))
    return ordered
