"""Lays out a table of finished cells as plain text, Markdown or LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lossbook.formatting import pad, text_width

GAP = "  "
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$",
}  # fmt: skip
_EXPONENT = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?)e(-?\d+)(?!\w)")
_NEGATIVE = re.compile(r"(?<![\w.${])([-+]\d+(?:\.\d+)?)(?![\w$])")


@dataclass(frozen=True)
class Cells:
    """A table of texts.

    Attributes:
        titles: the headings, shape (columns,).
        right: which columns stand at the right, as numbers do.
        keep: how late a column is left out where there is no room for all; the lowest goes first.
        rows: shape (rows, columns).
    """

    titles: tuple[str, ...]
    right: tuple[bool, ...]
    keep: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]


def plain_text(cells: Cells, width: int = 0) -> str:
    """Lay a table out with spaces, in lines of at most `width` columns (0: of any length).

    A table that is too wide is turned on its side, one column a row, if it fits then. Otherwise columns are left out,
    and a last line names them.
    """
    widths = _widths(cells)
    shown = list(range(len(cells.titles)))
    if not width or _total(widths, shown) <= width:
        return "\n".join(_lines(cells, widths, shown))
    turned = turn(cells)
    turned_widths = _widths(turned)
    if _total(turned_widths, list(range(len(turned.titles)))) <= width:
        return "\n".join(_lines(turned, turned_widths, list(range(len(turned.titles)))))
    dropped = []
    while len(shown) > 1 and _total(widths, shown) > width:
        lowest = min(cells.keep[one] for one in shown)
        last = [one for one in shown if cells.keep[one] == lowest][-1]
        shown.remove(last)
        dropped.append(last)
    lines = _lines(cells, widths, shown)
    if dropped:
        lines.append(f"not shown for want of room: {', '.join(cells.titles[one] for one in sorted(dropped))}")
    return "\n".join(lines)


def turn(cells: Cells) -> Cells:
    """The table on its side: a line for each column, with its title first."""
    columns = list(zip(*cells.rows, strict=True)) or [()] * len(cells.titles)
    rows = tuple((title, *column) for title, column in zip(cells.titles, columns, strict=True))
    count = len(cells.rows)
    return Cells(rows[0], (False, *(True,) * count), (9, *(5,) * count), rows[1:]) if rows else cells


def _widths(cells: Cells) -> list[int]:
    widths = [text_width(title) for title in cells.titles]
    for row in cells.rows:
        for position, cell in enumerate(row):
            widths[position] = max(widths[position], text_width(cell))
    return widths


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[one] for one in shown) + len(GAP) * (len(shown) - 1)


def _lines(cells: Cells, widths: Sequence[int], shown: Sequence[int]) -> list[str]:
    return [
        GAP.join(pad(row[one], widths[one], right=cells.right[one]) for one in shown).rstrip()
        for row in (cells.titles, *cells.rows)
    ]


def markdown(cells: Cells) -> str:
    """A table as GitHub's Markdown has it, its columns aligned for those who read the source."""
    rows = [[markdown_text(cell) for cell in row] for row in (cells.titles, *cells.rows)]
    widths = [max(3, *(text_width(row[position]) for row in rows)) for position in range(len(cells.titles))]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, cells.right, strict=True)]
    lines = [
        [pad(cell, width, right=right) for cell, width, right in zip(row, widths, cells.right, strict=True)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def markdown_text(text: str) -> str:
    """`text` on one line of Markdown, with the marks that would be taken for formatting escaped."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}") if mark in text and not (mark == "_" and _is_inside(text)) else text
    return text


def _is_inside(text: str) -> bool:
    # Markdown leaves an underscore within a word alone, and `val_loss` should stay readable.
    return re.search(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", text) is None


def latex(cells: Cells) -> str:
    """A `tabular` with the rules of the package booktabs; every character that LaTeX would take for its own is escaped."""
    layout = "".join("r" if right else "l" for right in cells.right)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    lines += [_latex_row(cells.titles, cells.right, numbers=False), r"\midrule"]
    lines += [_latex_row(row, cells.right, numbers=True) for row in cells.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_row(row: Sequence[str], right: Sequence[bool], *, numbers: bool) -> str:
    return " & ".join(latex_text(cell, numbers=numbers and at) for cell, at in zip(row, right, strict=True)) + r" \\"


def latex_text(text: str, *, numbers: bool = False) -> str:
    """`text` for LaTeX; with `numbers`, a minus sign and an exponent are set as in mathematics."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    if numbers:
        escaped = _EXPONENT.sub(r"$\1 \\times 10^{\2}$", escaped)
        escaped = _NEGATIVE.sub(r"$\1$", escaped)
    return escaped
