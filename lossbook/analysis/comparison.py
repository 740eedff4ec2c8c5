"""`Comparison`: what comparing runs found, and its text, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lossbook.analysis.table_formats import Cells, latex, markdown, plain_text
from lossbook.formatting import clip, csv_cell, duration, number, printable
from lossbook.json_shapes import Json, JsonMapping, JsonObject

#: Columns of text that a cell has at the most.
LONGEST_CELL = 32


@dataclass(frozen=True)
class Column:
    """One thing that is compared.

    Attributes:
        name: what `sort`, CSV and JSON call it.
        title: its heading for people.
        kind: "text", "setting", "value", "seconds", "rate", "count", "step", "percent", "gibibytes" or
            "moment" (Unix seconds).
        keep: how late it is left out of a text that is too wide; 9 is last.
        shown: False for what only CSV and JSON have.
        at: the column whose step is written behind the value for people.
    """

    name: str
    title: str
    kind: str = "value"
    keep: int = 5
    shown: bool = True
    at: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        columns: what is compared; one that no run has a value for is left out.
        rows: a dictionary for each run, the best first (after the baseline): every column's value, None where the run
            has none.
        changes: for each row, by column, its value minus the baseline's; empty without a baseline, and for itself.
        metric: what the rows are sorted by, None where no run logged a loss.
        goal: "minimize" or "maximize".
        baseline: the id of the run that the others are held against.
    """

    columns: tuple[Column, ...]
    rows: tuple[JsonObject, ...]
    changes: tuple[dict[str, float], ...] = ()
    metric: str | None = None
    goal: str | None = None
    baseline: str | None = None

    def text(self, width: int = 0) -> str:
        """A table for a terminal of `width` columns; 0 where lines may be of any length."""
        return plain_text(self._cells(), width)

    def markdown(self) -> str:
        """A table in Markdown."""
        return markdown(self._cells())

    def latex(self) -> str:
        """A `tabular` with the rules of booktabs; names are escaped."""
        return latex(self._cells())

    def csv(self) -> str:
        """Every value in full, a line for each run; with a baseline, a column `NAME_change` for each number."""
        changed = [column.name for column in self.columns if any(column.name in one for one in self.changes)]
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        names = [*(column.name for column in self.columns), *(f"{name}_change" for name in changed)]
        writer.writerow(map(csv_cell, names))
        for row, change in zip(self.rows, self.changes, strict=True):
            values = [row[column.name] for column in self.columns] + [change.get(name) for name in changed]
            writer.writerow(
                [csv_cell(_plain_text(value) if isinstance(value, (dict, list)) else value) for value in values]
            )
        return written.getvalue()

    def run_rows(self) -> list[JsonObject]:
        """The rows, each with its `change` where there is a baseline."""
        return [
            row if self.baseline is None else {**row, "change": {**change}}
            for row, change in zip(self.rows, self.changes, strict=True)
        ]

    def to_dict(self) -> JsonObject:
        """Everything as plain dictionaries and lists; each run has its `change` where there is a baseline."""
        columns: list[Json] = [
            {"name": column.name, "title": column.title, "kind": column.kind} for column in self.columns
        ]
        return {
            "metric": self.metric,
            "goal": self.goal,
            "baseline": self.baseline,
            "columns": columns,
            "runs": [*self.run_rows()],
        }

    def _cells(self) -> Cells:
        shown = [column for column in self.columns if column.shown]
        rows = [
            tuple(_cell(column, row, change) for column in shown)
            for row, change in zip(self.rows, self.changes, strict=True)
        ]
        right = tuple(
            column.kind != "text" and not any(isinstance(row[column.name], str) for row in self.rows)
            for column in shown
        )
        titles = tuple(clip(printable(column.title), LONGEST_CELL) for column in shown)
        return Cells(titles, right, tuple(column.keep for column in shown), tuple(rows))


def _cell(column: Column, row: JsonMapping, change: Mapping[str, float]) -> str:
    value = row[column.name]
    text = show_value(value, column.kind)
    if column.at is not None and row.get(column.at) is not None:
        text += f" @{row[column.at]}"
    if column.name in change and isinstance(value, (int, float)):
        text += f" ({_difference(change[column.name], value, column.kind)})"
    return text


def _difference(change: float, value: float, kind: str) -> str:
    """A change for people: of a duration, a rate or a count in percent of the baseline, of all else as it is."""
    if change == 0:
        return "="
    before = value - change
    if kind in ("seconds", "rate", "count") and before > 0:
        share = 100 * change / before
        return f"{share:+.0f}%" if abs(share) >= 10 else f"{share:+.1f}%"
    return f"{'+' if change > 0 else ''}{number(change, 3)}"


def show_value(value: Json, kind: str = "value") -> str:
    """One value for people, on one line of at most `LONGEST_CELL` columns; `-` for none."""
    if value is None:
        return "-"
    if not isinstance(value, (int, float)) or isinstance(value, bool) or kind in ("text", "setting", "step"):
        return clip(_plain_text(value), LONGEST_CELL)
    if kind == "moment":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    if kind == "seconds":
        return duration(value)
    if kind == "percent":
        return f"{value:.1f}%"
    if kind == "gibibytes":
        return f"{value:.1f}"
    if kind in ("rate", "count") and math.isfinite(value) and abs(value) >= 1e4:
        for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.4g}{letter}"
    return number(float(value), 5)


def _plain_text(value: Json) -> str:
    if isinstance(value, (list, tuple, dict)):
        import orjson

        value = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return number(value, 9)
