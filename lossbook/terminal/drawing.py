"""Curves drawn with characters: every column shows the smallest and the largest value that fell into it.

The band between the extremes is dotted and the mean runs through it as a solid line, so a spike of a single row
stays visible at any width. Rows that are not finite are marked below the plot, at their place on the x axis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lossbook.formatting import clip, duration, number, pad, printable, short_number, text_width
from lossbook.terminal.pieces import Piece, TextLine

if TYPE_CHECKING:
    from lossbook.curves.downsample import Curve

COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")
SYMBOLS = "*o+x#@%&"
_SMALLEST = (24, 6)


@dataclass(frozen=True)
class Line:
    """One curve in buckets; the lists are of one length.

    Attributes:
        label: what the legend says.
        x: where each bucket lies.
        low, high, mean: extremes and mean of its finite values; NaN where it has none.
        marks: x of the buckets that hold rows which are not finite.
        not_finite: how many such rows there are.
        color: its place in the palette; None for its place among the lines.
        is_band: only its extremes are drawn, no line through them.
    """

    label: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    mean: Sequence[float]
    marks: Sequence[float] = field(default_factory=tuple)
    not_finite: int = 0
    color: int | None = None
    is_band: bool = False


@dataclass(frozen=True)
class Look:
    """What a drawing may be made of.

    Attributes:
        color: whether curves are told apart by colour, rather than by a symbol each.
        unicode: whether box and braille characters can be shown.
        palette: the curves' colours.
    """

    color: bool = True
    unicode: bool = True
    palette: Sequence[str] = COLORS


def draw(
    lines: Sequence[Line],
    look: Look,
    *,
    width: int,
    height: int,
    x: str = "step",
    log: bool = False,
    across: tuple[float, float] | None = None,
) -> tuple[list[TextLine], int]:
    """Draw curves over one another, with axes and without a legend.

    Args:
        lines: the curves; an empty one appears in the legend alone.
        width: columns of the whole picture, at least 24.
        height: lines of the whole picture, at least 6.
        x: what the x axis shows: "wallclock" is labelled in hours and minutes, "time" with clock times.
        log: whether the y axis is logarithmic; values of zero and below are left out then, and counted.
        across: the ends of the x axis, where it is to stand still while curves grow; None for those of the curves.

    Returns:
        Lines of pieces, and how many buckets a logarithmic axis left out.
    """
    width, height = max(width, _SMALLEST[0]), max(height, _SMALLEST[1])
    if across is not None:
        lines = [_within(line, *across) for line in lines]
    lines, left_out = _positive(lines) if log else (list(lines), 0)
    has_marks = any(line.marks for line in lines)
    rows = height - 2 - has_marks
    spans = _spans(lines)
    if spans is None:
        return [[_nothing(lines, left_out)]], left_out
    (left, right), (bottom, top) = spans
    if across is not None:
        left, right = across
        if not log:
            bottom, top = _steady(bottom, top, max(2, rows // 3))
    scale_y = _log_scale(bottom, top) if log else _scale(bottom, top)
    ticks_y = _log_ticks(bottom, top, rows) if log else _ticks(bottom, top, max(2, rows // 3))
    dots = has_dots(lines, look)
    labels_y = _labels_y(ticks_y, scale_y, rows, 4 if dots else 1)
    margin = max(text_width(text) for text in labels_y.values()) if labels_y else 0
    columns = max(10, width - margin - 2)
    scale_x = _scale(left, right)

    grid = _Braille(columns, rows, look.palette) if dots else _Symbols(columns, rows, look.palette)
    for position, line in enumerate(lines):
        _trace(grid, position if line.color is None else line.color, line, scale_x, scale_y)

    picture: list[TextLine] = []
    for row in range(rows):
        label = labels_y.get(row)
        axis = ("┤" if label is not None else "│") if look.unicode else ("+" if label is not None else "|")
        picture.append([Piece(pad(label or "", margin, right=True) + " "), Piece(axis, dim=True), *grid.row(row)])
    if has_marks:
        picture.append([Piece(" " * (margin + 2)), *_mark_row(lines, columns, scale_x, look)])
    return [*picture, *_x_axis(left, right, columns, margin, scale_x, x, look)], left_out


def has_dots(lines: Sequence[Line], look: Look) -> bool:
    """Whether curves are drawn in braille; those that colour cannot tell apart have a symbol each."""
    return look.unicode and (look.color or len({line.label for line in lines}) <= 1)


def sign_of(position: int, dots: bool, look: Look) -> Piece:
    """What stands before a curve's name in a legend."""
    sign = ("━━" if look.unicode else "--") if dots else SYMBOLS[position % len(SYMBOLS)] * 2
    return Piece(sign, look.palette[position % len(look.palette)])


def legend(lines: Sequence[Line], look: Look, width: int, left_out: int) -> list[TextLine]:
    """A line for each curve: its sign, its name, its range and how many of its rows are not finite."""
    dots, found = has_dots(lines, look), list[TextLine]()
    for position, line in enumerate(lines):
        values = [value for value in line.mean if math.isfinite(value)]
        span = [*(value for value in line.low if math.isfinite(value))], [*(v for v in line.high if math.isfinite(v))]
        tail = f"   {number(span[0] and min(span[0]))} to {number(max(span[1]))}" if values and all(span) else ""
        if line.not_finite:
            tail += f"   {'×' if look.unicode else '!'} {line.not_finite} not finite"
        label = clip(printable(line.label), max(8, width - len(tail) - 3), ellipsis="…" if look.unicode else "~")
        found.append([sign_of(position, dots, look), Piece(f" {label}{tail}")])
    if left_out:
        found.append([Piece(f"   {left_out} buckets reach zero or below, where a logarithmic axis ends")])
    return found


def to_line(label: str, curve: Curve) -> Line:
    """A curve as the drawing takes it."""
    x = curve.x.tolist()
    odd = curve.nonfinite.tolist()
    marks = [at for at, count in zip(x, odd, strict=True) if count and math.isfinite(at)]
    return Line(label, x, curve.min.tolist(), curve.max.tolist(), curve.mean.tolist(), marks, int(sum(odd)))


# -- what is drawn ------------------------------------------------------------------------------------------------


def _within(line: Line, left: float, right: float) -> Line:
    good = [one for one, x in enumerate(line.x) if left <= x <= right]
    if len(good) == len(line.x):
        return line
    x, low, high, mean = ([values[one] for one in good] for values in (line.x, line.low, line.high, line.mean))
    marks = [x for x in line.marks if left <= x <= right]
    return Line(line.label, x, low, high, mean, marks, line.not_finite, line.color, line.is_band)


def _positive(lines: Sequence[Line]) -> tuple[list[Line], int]:
    kept, left_out = [], 0
    for line in lines:
        good = [one for one, value in enumerate(line.high) if value > 0]
        left_out += sum(1 for value in line.low if value <= 0)
        low = [line.low[one] if line.low[one] > 0 else line.high[one] for one in good]
        # A mean of values some of which are left out may lie below all that are drawn.
        mean = [max(line.mean[one], least) for one, least in zip(good, low, strict=True)]
        kept.append(
            Line(
                line.label,
                [line.x[one] for one in good],
                low,
                [line.high[one] for one in good],
                mean,
                line.marks,
                line.not_finite,
                line.color,
                line.is_band,
            )
        )
    return kept, left_out


def _spans(lines: Sequence[Line]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The ranges of x and y; None when there is no finite value."""
    across: list[float] = []
    along: list[float] = []
    for line in lines:
        across += [x for x in (*line.x, *line.marks) if math.isfinite(x)]
        along += [y for values in (line.low, line.high) for y in values if math.isfinite(y)]
    if not across or not along:
        return None
    return (min(across), max(across)), (min(along), max(along))


def _nothing(lines: Sequence[Line], left_out: int) -> Piece:
    count = sum(line.not_finite for line in lines)
    what = "no value above zero to draw on a logarithmic axis" if left_out else "nothing to draw"
    if count:
        what += f": {count} rows, none of them finite"
    return Piece(f"({what})", dim=True)


def _scale(low: float, high: float) -> Callable[[float], float]:
    """Map low..high to 0..1; a range without extent maps to the middle."""
    # Halves first: the difference of two finite doubles may be infinite.
    span = high / 2 - low / 2
    if span <= 0:
        return lambda _: 0.5
    return lambda value: (value / 2 - low / 2) / span


def _log_scale(low: float, high: float) -> Callable[[float], float]:
    linear = _scale(math.log10(low), math.log10(high))
    return lambda value: linear(math.log10(value))


def _trace(
    grid: _Braille | _Symbols,
    color: int,
    line: Line,
    scale_x: Callable[[float], float],
    scale_y: Callable[[float], float],
) -> None:
    before: tuple[int, int] | None = None
    for x, low, high, mean in zip(line.x, line.low, line.high, line.mean, strict=True):
        if not (math.isfinite(x) and math.isfinite(low) and math.isfinite(high)):
            before = None
            continue
        at = round(scale_x(x) * (grid.across - 1))
        lowest = round(scale_y(low) * (grid.down - 1))
        highest = round(scale_y(high) * (grid.down - 1))
        middle = round(scale_y(mean) * (grid.down - 1)) if math.isfinite(mean) else (lowest + highest) // 2
        grid.band(at, lowest, highest, color)
        if line.is_band:
            continue
        for column, level in _segment(before or (at, middle), (at, middle)):
            grid.dot(column, level, color)
        before = (at, middle)


def _segment(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    (x0, y0), (x1, y1) = start, end
    steps = max(abs(x1 - x0), abs(y1 - y0))
    if steps == 0:
        return [end]
    return [(x0 + round((x1 - x0) * one / steps), y0 + round((y1 - y0) * one / steps)) for one in range(steps + 1)]


# -- grids --------------------------------------------------------------------------------------------------------


class _Braille:
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
        pieces: TextLine = []
        run, style = "", None
        for bits, color in zip(self._bits[row], self._color[row], strict=True):
            if color != style:
                pieces += self._inked(run, style)
                run, style = "", color
            run += chr(0x2800 + bits) if bits else " "
        return pieces + self._inked(run.rstrip() if style is None else run, style)

    def _inked(self, text: str, style: tuple[int, bool] | None) -> TextLine:
        if not text:
            return []
        if style is None:
            return [Piece(text)]
        return [Piece(text, self._palette[style[0] % len(self._palette)], dim=not style[1])]


class _Symbols:
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
        pieces: TextLine = []
        run, held = "", None
        for character, color in zip(self._cells[row], self._colors[row], strict=True):
            if color != held:
                pieces += self._inked(run, held)
                run, held = "", color
            run += character
        return pieces + self._inked(run.rstrip() if held is None else run, held)

    def _inked(self, text: str, color: int | None) -> TextLine:
        if not text:
            return []
        return [Piece(text, None if color is None else self._palette[color % len(self._palette)])]


# -- axes ---------------------------------------------------------------------------------------------------------


def _nice_step(span: float, count: int) -> float:
    raw = span / max(1, count)
    if raw <= 0 or not math.isfinite(raw):
        return 0.0
    power = 10.0 ** math.floor(math.log10(raw))
    if power == 0.0:
        return 0.0
    return next((factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if raw <= factor * power * 1.0000001), raw)


def _steady(low: float, high: float, count: int) -> tuple[float, float]:
    """Ends of an axis that stand while values move a little: at quarters of a tick."""
    quarter = _nice_step(high - low, count) / 4
    if not quarter or not math.isfinite(high - low) or max(abs(low), abs(high)) > quarter * 1e12:
        return low, high
    return math.floor(low / quarter) * quarter, math.ceil(high / quarter) * quarter


def _ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    for finer in (1, 2, 4):
        ticks = _even_ticks(low, high, count * finer, whole=whole)
        if len(ticks) > 1 and ticks != [low, high]:
            break
    return ticks


def _even_ticks(low: float, high: float, count: int, *, whole: bool) -> list[float]:
    step = _nice_step(high - low, count)
    if whole and step:
        step = max(1.0, float(round(step)))
    # The ends alone: one value, a span past the largest double, or one too small for its distance from zero.
    if not step or not math.isfinite(high - low) or abs(low) > step * 1e12 or abs(high) > step * 1e12:
        return [low] if low == high else [low, high]
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    ticks = [one * step for one in range(first, last + 1)]
    return ticks if len(ticks) > 1 else [low, high]


def _log_ticks(low: float, high: float, rows: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        powers = range(math.floor(math.log10(low)), last + 1)
        ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if power > -308]
        ticks = [tick for tick in ticks if low <= tick <= high]
        return ticks if len(ticks) > 1 else [low, high]
    every = max(1, math.ceil((last - first) / max(1, rows // 2)))
    return [10.0**power for power in range(first, last + 1, every) if -308 <= power <= 308]


def _labels_y(ticks: Sequence[float], scale: Callable[[float], float], rows: int, dots_a_row: int) -> dict[int, str]:
    labels: dict[int, str] = {}
    for tick in ticks:
        labels.setdefault(rows - 1 - round(scale(tick) * (rows * dots_a_row - 1)) // dots_a_row, short_number(tick))
    return labels


def _x_axis(
    left: float, right: float, columns: int, margin: int, scale: Callable[[float], float], x: str, look: Look
) -> list[TextLine]:
    ticks, written = _x_ticks(left, right, max(2, columns // 14), x)
    rule = ["─" if look.unicode else "-"] * columns
    text = [" "] * (columns + margin + 2)
    free = 0
    title = printable(x)
    # The name of the axis stands at its end, where a label would otherwise be.
    end = len(text) - text_width(title) - 2 if text_width(title) < columns // 3 else len(text)
    for tick, label in zip(ticks, written, strict=True):
        at = min(columns - 1, max(0, round(scale(tick) * (columns - 1))))
        start = max(0, min(margin + 2 + at - len(label) // 2, len(text) - len(label)))
        if start < free or start + len(label) > end:
            continue
        rule[at] = "┬" if look.unicode else "+"
        text[start : start + len(label)] = label
        free = start + len(label) + 2
    corner = "└" if look.unicode else "+"
    axis = [Piece(" " * (margin + 1)), Piece(corner + "".join(rule), dim=True)]
    below = "".join(text).rstrip()
    room = margin + 2 + columns - len(below)
    if room > text_width(title) + 1:
        return [axis, [Piece(below + " " * (room - text_width(title))), Piece(title, dim=True)]]
    return [axis, [Piece(below)]]


def _x_ticks(left: float, right: float, count: int, x: str) -> tuple[list[float], list[str]]:
    if x == "time":
        ticks = _steps(left, right, count, (1, 5, 15, 60, 300, 900, 3600, 10800, 43200, 86400, 604800))
        pattern = "%H:%M:%S" if right - left < 600 else "%H:%M" if right - left < 2 * 86400 else "%m-%d"
        return ticks, [time.strftime(pattern, time.localtime(tick)) for tick in ticks]
    if x == "wallclock":
        ticks = _steps(left, right, count, (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400))
        if right - left < 10:
            return ticks, [f"{number(tick, 4)}s" for tick in ticks]
        return ticks, [duration(tick) if tick else "0" for tick in ticks]
    ticks = _ticks(left, right, count, whole=x in ("step", "tokens", "gradient_step"))
    return ticks, [short_number(tick) for tick in ticks]


def _steps(low: float, high: float, count: int, sizes: Sequence[int]) -> list[float]:
    span = high - low
    if span < 2:
        return _ticks(low, high, count)
    step = next((one for one in sizes if span / one <= count), max(1, math.ceil(span / count / 86400)) * 86400)
    ticks = [float(one * step) for one in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return ticks or [low, high]


def _mark_row(lines: Sequence[Line], columns: int, scale: Callable[[float], float], look: Look) -> TextLine:
    cells: list[int | None] = [None] * columns
    for position, line in enumerate(lines):
        for x in line.marks:
            if math.isfinite(x):
                cells[min(columns - 1, max(0, round(scale(x) * (columns - 1))))] = position
    mark = "×" if look.unicode else "!"
    return [Piece(" ") if cell is None else Piece(mark, "red") for cell in cells]
