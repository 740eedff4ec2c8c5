"""Grids of characters that curves are drawn into: braille dots, or a symbol for each curve."""

from __future__ import annotations

from collections.abc import Sequence

from lossbook.terminal.styled_text import Span, TextLine

SYMBOLS = "*o+x#@%&"


class BrailleGrid:
    """Cells of 2 by 4 dots; the mean's cells are bright, the band's dim."""

    # https://www.unicode.org/charts/PDF/U2800.pdf: the bit of each dot, by column and from the bottom up.
    _BITS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))

    def __init__(self, columns: int, rows: int, palette: Sequence[str]) -> None:
        self.across, self.down = columns * 2, rows * 4
        self._palette = palette
        self._columns, self._rows = columns, rows
        self._bits = [[0] * columns for _ in range(rows)]
        self._color: list[list[tuple[int, bool] | None]] = [[None] * columns for _ in range(rows)]

    def dot(self, x: int, y: int, color: int, *, bright: bool = True) -> None:
        row, column = self._rows - 1 - y // 4, x // 2
        self._bits[row][column] |= self._BITS[x % 2][y % 4]
        held = self._color[row][column]
        if held is None or bright or not held[1]:
            self._color[row][column] = (color, bright)

    def band(self, x: int, low: int, high: int, color: int) -> None:
        for y in range(low, high + 1):
            if y in (low, high) or (x + y) % 2 == 0:
                self.dot(x, y, color, bright=False)

    def row(self, row: int) -> TextLine:
        spans: TextLine = []
        run, style = "", None
        for bits, color in zip(self._bits[row], self._color[row], strict=True):
            if color != style:
                spans += self._inked(run, style)
                run, style = "", color
            run += chr(0x2800 + bits) if bits else " "
        return spans + self._inked(run.rstrip() if style is None else run, style)

    def _inked(self, text: str, style: tuple[int, bool] | None) -> TextLine:
        if not text:
            return []
        if style is None:
            return [Span(text)]
        return [Span(text, self._palette[style[0] % len(self._palette)], dim=not style[1])]


class SymbolGrid:
    """One character a cell: each curve's own symbol, its band in dots."""

    def __init__(self, columns: int, rows: int, palette: Sequence[str]) -> None:
        self.across, self.down = columns, rows
        self._palette = palette
        self._cells = [[" "] * columns for _ in range(rows)]
        self._colors: list[list[int | None]] = [[None] * columns for _ in range(rows)]

    def dot(self, x: int, y: int, color: int) -> None:
        row = self.down - 1 - y
        self._cells[row][x] = SYMBOLS[color % len(SYMBOLS)]
        self._colors[row][x] = color

    def band(self, x: int, low: int, high: int, color: int) -> None:
        for y in range(low, high + 1):
            row = self.down - 1 - y
            if self._cells[row][x] == " ":
                self._cells[row][x] = ":"
                self._colors[row][x] = color

    def row(self, row: int) -> TextLine:
        spans: TextLine = []
        run, held = "", None
        for character, color in zip(self._cells[row], self._colors[row], strict=True):
            if color != held:
                spans += self._inked(run, held)
                run, held = "", color
            run += character
        return spans + self._inked(run.rstrip() if held is None else run, held)

    def _inked(self, text: str, color: int | None) -> TextLine:
        if not text:
            return []
        return [Span(text, None if color is None else self._palette[color % len(self._palette)])]
