"""What an import would read, shown before anything is written."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lossbook.cli.format import number, plural, printable

if TYPE_CHECKING:
    from lossbook.trackers import ForeignRun, Source

#: Rows that are looked at: a cloud is not read to its end for a preview.
_MOST_ROWS = 100_000
_SHOWN_ROWS = 3
_SHOWN_KEYS = 40


@dataclass
class Preview:
    """One run as an import would find it.

    Attributes:
        kind: of the source that reads it.
        rows: how many there are; only the first `_MOST_ROWS` are looked at, and `is_whole` says whether these are all.
        keys: how many values each metric has.
        others: how many rows each other kind (text, image, ...) has.
        attempts: how often the training was started.
        first: the first rows, as (step, values).
    """

    name: str
    project: str
    kind: str
    state: str
    rows: int = 0
    is_whole: bool = True
    first_step: int | None = None
    last_step: int | None = None
    attempts: int = 1
    keys: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    first: list[tuple[int | None, dict[str, object]]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """As text for a person."""
        some = "" if self.is_whole else " at least"
        steps = f", steps {self.first_step} to {self.last_step}" if self.first_step is not None else ""
        lines = [f"{printable(self.name)} ({self.kind}, {self.state}):{some} {plural(self.rows, 'row')}{steps}"]
        if self.attempts > 1:
            lines.append(f"  {self.attempts} attempts: what a later one repeats is hidden")
        for key, count in sorted(self.keys.items())[:_SHOWN_KEYS]:
            lines.append(f"  {printable(key)}: {plural(count, 'value')}")
        if len(self.keys) > _SHOWN_KEYS:
            lines.append(f"  and {len(self.keys) - _SHOWN_KEYS} metrics more")
        lines += [f"  {plural(count, f'row of kind {kind}')}" for kind, count in sorted(self.others.items())]
        for step, values in self.first:
            shown = ", ".join(f"{printable(key)} {number(value)}" for key, value in itertools.islice(values.items(), 6))
            lines.append(f"  step {step}: {shown}{', ...' if len(values) > 6 else ''}")
        lines += [f"  {printable(sentence)}" for sentence in self.remarks]
        return lines

    def to_json(self) -> dict[str, object]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "project": self.project,
            "kind": self.kind,
            "state": self.state,
            "rows": self.rows,
            "is_whole": self.is_whole,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "attempts": self.attempts,
            "keys": dict(sorted(self.keys.items())),
            "others": dict(self.others),
            "first": [{"step": step, "values": values} for step, values in self.first],
            "remarks": self.remarks,
        }


def preview(source: Source, run: ForeignRun) -> Preview:
    """Read a run's rows without keeping them."""
    shown = Preview(run.name, run.project, source.kind, run.state)
    warnings: list[str] = []
    rows = source.rows(run)
    for row in itertools.islice(rows, _MOST_ROWS):
        shown.rows += 1
        if row.kind == "attempt":
            shown.attempts += 1
            shown.rows -= 1
        elif row.kind is not None:
            shown.others[row.kind] += 1
            if row.kind == "warning" and len(warnings) < _SHOWN_ROWS:
                warnings.append(str(row.body.get("message")))
        else:
            shown.keys.update(row.body.keys())
            if len(shown.first) < _SHOWN_ROWS:
                shown.first.append((row.step, dict(row.body)))
            if row.step is not None:
                shown.first_step = row.step if shown.first_step is None else min(shown.first_step, row.step)
                shown.last_step = row.step if shown.last_step is None else max(shown.last_step, row.step)
    shown.is_whole = next(rows, None) is None
    shown.remarks = [*warnings, *source.remarks(run)]
    return shown
