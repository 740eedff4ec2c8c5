"""`SeedPivot`: a table over seeds as a grid of two settings, in each cell the mean and the standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossbook.analysis.comparison import LONGEST_CELL
from lossbook.analysis.seed_groups import setting_text
from lossbook.analysis.seed_summary import SeedGroup, Statistics, csv_text
from lossbook.analysis.table_formats import Cells, latex, markdown, plain_text
from lossbook.errors import BadArgument
from lossbook.formatting import clip, number, printable
from lossbook.json_shapes import Json, JsonObject
from lossbook.metrics import nearest


@dataclass(frozen=True)
class SeedPivot:
    """Statistics by two settings.

    Attributes:
        rows, columns: the names of the settings.
        row_values, column_values: theirs, as text, numbers by size.
        cells: shape (rows, columns); None where there is no such group.
        title: what the numbers are.
    """

    rows: str
    columns: str
    row_values: tuple[str, ...]
    column_values: tuple[str, ...]
    cells: tuple[tuple[Statistics | None, ...], ...]
    title: str

    def text(self, width: int = 0) -> str:
        """A table for a terminal of `width` columns; 0 where lines may be of any length."""
        return plain_text(self._cells(), width)

    def markdown(self) -> str:
        """A table in Markdown."""
        return markdown(self._cells())

    def latex(self) -> str:
        """A `tabular` with the rules of booktabs."""
        return latex(self._cells())

    def dicts(self) -> list[JsonObject]:
        """A dictionary for each row: for each column its mean, standard deviation and number of runs."""
        found: list[JsonObject] = []
        for name, cells in zip(self.row_values, self.cells, strict=True):
            row: JsonObject = {self.rows: name}
            for column, one in zip(self.column_values, cells, strict=True):
                row[f"{column} mean"] = one.mean if one is not None else None
                row[f"{column} std"] = one.std if one is not None else None
                row[f"{column} runs"] = one.n if one is not None else 0
            found.append(row)
        return found

    def csv(self) -> str:
        """Every value in full, a line for each row."""
        return csv_text(self.dicts())

    def _cells(self) -> Cells:
        head = f"{self.rows} \\ {self.columns}"
        titles = (printable(head), *(clip(printable(name), LONGEST_CELL) for name in self.column_values))
        rows = tuple(
            (clip(printable(name), LONGEST_CELL), *map(_cell, cells))
            for name, cells in zip(self.row_values, self.cells, strict=True)
        )
        count = len(self.column_values)
        return Cells(titles, (False, *(True,) * count), (9, *(5,) * count), rows)


def _cell(one: Statistics | None) -> str:
    """`3.2145 ± 0.012 (5)`: mean, standard deviation with two digits of its own, runs."""
    if one is None or one.mean is None:
        return "-"
    if one.std is None:
        return f"{number(one.mean)} ({one.n})"
    return f"{number(one.mean)} ± {number(one.std, 2)} ({one.n})"


def make_pivot(groups: Sequence[SeedGroup], names: Sequence[str], rows: str, columns: str, title: str) -> SeedPivot:
    """Put groups into a grid; `names` are those of the settings that tell them apart.

    Raises:
        BadArgument: no group has such a setting, or several groups meet in one cell.
    """
    row_name, column_name = _setting(names, rows), _setting(names, columns)
    if row_name == column_name:
        raise BadArgument(f"a pivot table has two settings; {rows!r} and {columns!r} are one")
    found: dict[tuple[str, str], SeedGroup] = {}
    projects = {group.project for group in groups}
    for group in groups:
        place = setting_text(group.settings[row_name]), setting_text(group.settings[column_name])
        before = found.setdefault(place, group)
        if before is not group:
            third = [
                name
                for name in names
                if name not in (row_name, column_name) and group.settings[name] != before.settings[name]
            ]
            if len(projects) > 1 and group.project != before.project:
                third.append("project")
            raise BadArgument(
                f"{row_name}={place[0]}, {column_name}={place[1]} has several groups, which differ in "
                f"{', '.join(third[:5])}: choose among the runs with where, or ignore what does not matter"
            )
    row_values = _in_order([group.settings[row_name] for group in groups])
    column_values = _in_order([group.settings[column_name] for group in groups])
    cells = tuple(
        tuple(found[row, column].statistics if (row, column) in found else None for column in column_values)
        for row in row_values
    )
    return SeedPivot(row_name, column_name, row_values, column_values, cells, title)


def _setting(names: Sequence[str], name: str) -> str:
    wanted = name.strip()
    for found in (
        [one for one in names if wanted in (one, f"config.{one}")],
        [one for one in names if wanted == one.rpartition(".")[2]],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise BadArgument(f"{name!r} is the end of {', '.join(found)}: name it in full")
    close = nearest(wanted, names, 3) or names[:8]
    hint = f"; there are {', '.join(close)}" if close else ""
    raise BadArgument(f"no setting {name!r} tells the groups apart{hint}")


def _in_order(values: Sequence[Json]) -> tuple[str, ...]:
    """Each value once, as text: numbers by size, then all else."""

    def place(value: Json) -> tuple[bool, float, str]:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return not is_number, float(value) if isinstance(value, (int, float)) else 0.0, setting_text(value)

    return tuple(dict.fromkeys(setting_text(value) for value in sorted(values, key=place)))
