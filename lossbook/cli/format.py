"""How values, tables and JSON look: numbers, durations, sizes, columns that fit the terminal."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lossbook.formatting import (
    age as age,
    clip as clip,
    clock as clock,
    duration as duration,
    number as number,
    pad as pad,
    plural as plural,
    printable as printable,
    short_number as short_number,
    size as size,
    text_width as text_width,
)
from lossbook.terminal import STATE_COLORS as STATE_COLORS

GAP = "  "
#: Characters that JSON may hold as they are and that could steer a terminal.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_MIN_COLUMN = 8


# -- the terminal -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Screen:
    """What standard output can show.

    Attributes:
        width: columns; 0 where the output is no terminal and lines may be of any length.
        height: lines; 0 where the output is no terminal.
        color: whether escape sequences for colours may be written.
        unicode: whether box and braille characters can be encoded.
    """

    width: int
    height: int
    color: bool
    unicode: bool

    @property
    def is_terminal(self) -> bool:
        return self.height > 0

    def paint(self, text: str, color: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
        if not self.color or not (color or bold or dim):
            return text
        import click

        return click.style(text, fg=color, bold=bold or None, dim=dim or None)


def screen() -> Screen:
    """Look at standard output; `NO_COLOR`, `FORCE_COLOR`, `COLUMNS` and `LINES` are heeded."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    unicode = encoding.replace("-", "") in ("utf8", "utf16", "utf32", "gb18030")
    terminal = bool(getattr(sys.stdout, "isatty", lambda: False)())
    color = terminal and os.environ.get("TERM") != "dumb"
    if os.environ.get("FORCE_COLOR"):
        color = True
    if os.environ.get("NO_COLOR"):
        color = False
    if not terminal:
        return Screen(0, 0, color, unicode)
    try:
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        columns, lines = 80, 24
    columns, lines = _named("COLUMNS") or columns or 80, _named("LINES") or lines or 24
    return Screen(max(columns, 20), max(lines, 8), color, unicode)


def _named(variable: str) -> int:
    try:
        return int(os.environ.get(variable, ""))
    except ValueError:
        return 0


# -- tables -------------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        title: its heading.
        right: whether numbers stand at the right.
        keep: how late it is left out where the terminal is too narrow; 0 goes first, 9 never goes.
        shrink: whether its cells may be cut.
        paint: gives the colour of a cell from its text.
    """

    title: str
    right: bool = False
    keep: int = 5
    shrink: bool = False
    paint: Callable[[str], str | None] | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], view: Screen) -> list[str]:
    """Lay out a table; on a terminal its lines are never wider than the terminal.

    Cells that may shrink are cut first, then columns are left out, those with the lowest `keep` first.
    """
    if not columns:
        return []
    ellipsis = "…" if view.unicode else "~"
    widths = [text_width(column.title) for column in columns]
    for row in rows:
        for position, cell in enumerate(row):
            width = len(cell) if cell.isascii() else text_width(cell)
            if width > widths[position]:
                widths[position] = width
    shown = list(range(len(columns)))
    if view.width:
        shown = _fit(columns, widths, view.width)
    lines = ["".join(_cells(columns, widths, shown, [column.title for column in columns], view, ellipsis, True))]
    lines += [_line(columns, widths, shown, row, view, ellipsis) for row in rows]
    return lines


def _line(
    columns: Sequence[Column], widths: list[int], shown: list[int], row: Sequence[str], view: Screen, ellipsis: str
) -> str:
    return "".join(_cells(columns, widths, shown, row, view, ellipsis, False))


def _cells(
    columns: Sequence[Column],
    widths: list[int],
    shown: list[int],
    row: Sequence[str],
    view: Screen,
    ellipsis: str,
    heading: bool,
) -> list[str]:
    cells = []
    for position in shown:
        column, width = columns[position], widths[position]
        text = clip(row[position], width, ellipsis=ellipsis)
        last = position == shown[-1]
        filled = text if last and not column.right else pad(text, width, right=column.right)
        if heading:
            filled = view.paint(filled, bold=True)
        elif column.paint is not None:
            filled = view.paint(filled, column.paint(text))
        cells.append(filled if last else filled + GAP)
    return cells


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """Shrink `widths` in place and return the positions of the columns that remain."""
    shown = list(range(len(columns)))
    while True:
        excess = sum(widths[one] for one in shown) + len(GAP) * (len(shown) - 1) - room
        while excess > 0:
            wide = [one for one in shown if columns[one].shrink and widths[one] > _MIN_COLUMN]
            if not wide:
                break
            widest = max(wide, key=lambda one: widths[one])
            rest = max([widths[one] for one in wide if one != widest], default=_MIN_COLUMN)
            cut = min(excess, max(1, widths[widest] - max(rest, _MIN_COLUMN)))
            widths[widest] -= cut
            excess -= cut
        if excess <= 0 or len(shown) == 1:
            if len(shown) == 1:
                widths[shown[0]] = min(widths[shown[0]], room)
            return shown
        lowest = min(columns[one].keep for one in shown)
        shown.remove([one for one in shown if columns[one].keep == lowest][-1])


# -- JSON ---------------------------------------------------------------------------------------------------------


def plain(value: object) -> object:
    """Make `value` fit for JSON: arrays become lists, what is not finite one of three names."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return str(value)


def to_json(value: object, *, indent: bool = True) -> str:
    """JSON text of anything that commands print; what is not finite stands as "NaN", "Infinity", "-Infinity"."""
    import orjson

    text = orjson.dumps(_encodable(plain(value)), option=orjson.OPT_INDENT_2 if indent else None).decode()
    # They stand inside texts alone, where JSON leaves it to the writer whether they are escaped.
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _encodable(value: object) -> object:
    # orjson refuses integers past 64 bits and lone surrogates; both can come from SQL and from file names.
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return value
