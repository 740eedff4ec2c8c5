"""Curves drawn with characters: every column shows the smallest and the largest value that fell into it.

The band between the extremes is dotted and the mean runs through it as a solid line, so a spike of a single row
stays visible at any width. Rows that are not finite are marked below the plot, at their place on the x axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lossbook.formatting import clip, number, pad, printable, short_number, text_width
from lossbook.terminal.grids import SYMBOLS, BrailleGrid, SymbolGrid
from lossbook.terminal.styled_text import Span, TextLine
from lossbook.terminal.ticks import linear_ticks, log_ticks, steady_ends, x_ticks

if TYPE_CHECKING:
    from lossbook.curves import Curve

COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")
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
        Lines of spans, and how many buckets a logarithmic axis left out.
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
            bottom, top = steady_ends(bottom, top, max(2, rows // 3))
    scale_y = _log_scale(bottom, top) if log else _scale(bottom, top)
    ticks_y = log_ticks(bottom, top, rows) if log else linear_ticks(bottom, top, max(2, rows // 3))
    dots = has_dots(lines, look)
    labels_y = _labels_y(ticks_y, scale_y, rows, 4 if dots else 1)
    margin = max(text_width(text) for text in labels_y.values()) if labels_y else 0
    columns = max(10, width - margin - 2)
    scale_x = _scale(left, right)

    grid = BrailleGrid(columns, rows, look.palette) if dots else SymbolGrid(columns, rows, look.palette)
    for position, line in enumerate(lines):
        _trace(grid, position if line.color is None else line.color, line, scale_x, scale_y)

    picture: list[TextLine] = []
    for row in range(rows):
        label = labels_y.get(row)
        axis = ("┤" if label is not None else "│") if look.unicode else ("+" if label is not None else "|")
        picture.append([Span(pad(label or "", margin, right=True) + " "), Span(axis, dim=True), *grid.row(row)])
    if has_marks:
        picture.append([Span(" " * (margin + 2)), *_mark_row(lines, columns, scale_x, look)])
    return [*picture, *_x_axis(left, right, columns, margin, scale_x, x, look)], left_out


def has_dots(lines: Sequence[Line], look: Look) -> bool:
    """Whether curves are drawn in braille; those that colour cannot tell apart have a symbol each."""
    return look.unicode and (look.color or len({line.label for line in lines}) <= 1)


def sign_of(position: int, dots: bool, look: Look) -> Span:
    """What stands before a curve's name in a legend."""
    sign = ("━━" if look.unicode else "--") if dots else SYMBOLS[position % len(SYMBOLS)] * 2
    return Span(sign, look.palette[position % len(look.palette)])


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
        found.append([sign_of(position, dots, look), Span(f" {label}{tail}")])
    if left_out:
        found.append([Span(f"   {left_out} buckets reach zero or below, where a logarithmic axis ends")])
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


def _nothing(lines: Sequence[Line], left_out: int) -> Span:
    count = sum(line.not_finite for line in lines)
    what = "no value above zero to draw on a logarithmic axis" if left_out else "nothing to draw"
    if count:
        what += f": {count} rows, none of them finite"
    return Span(f"({what})", dim=True)


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
    grid: BrailleGrid | SymbolGrid,
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


# -- axes ---------------------------------------------------------------------------------------------------------


def _labels_y(ticks: Sequence[float], scale: Callable[[float], float], rows: int, dots_a_row: int) -> dict[int, str]:
    labels: dict[int, str] = {}
    for tick in ticks:
        labels.setdefault(rows - 1 - round(scale(tick) * (rows * dots_a_row - 1)) // dots_a_row, short_number(tick))
    return labels


def _x_axis(
    left: float, right: float, columns: int, margin: int, scale: Callable[[float], float], x: str, look: Look
) -> list[TextLine]:
    ticks, written = x_ticks(left, right, max(2, columns // 14), x)
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
    axis = [Span(" " * (margin + 1)), Span(corner + "".join(rule), dim=True)]
    below = "".join(text).rstrip()
    room = margin + 2 + columns - len(below)
    if room > text_width(title) + 1:
        return [axis, [Span(below + " " * (room - text_width(title))), Span(title, dim=True)]]
    return [axis, [Span(below)]]


def _mark_row(lines: Sequence[Line], columns: int, scale: Callable[[float], float], look: Look) -> TextLine:
    cells: list[int | None] = [None] * columns
    for position, line in enumerate(lines):
        for x in line.marks:
            if math.isfinite(x):
                cells[min(columns - 1, max(0, round(scale(x) * (columns - 1))))] = position
    mark = "×" if look.unicode else "!"
    return [Span(" ") if cell is None else Span(mark, "red") for cell in cells]
