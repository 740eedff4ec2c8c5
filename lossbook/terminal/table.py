"""The table of runs, as many columns as fit: only the lines on the screen are ever written out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossbook.formatting import age, clip, duration, number, pad, short_number, text_width
from lossbook.terminal.model import Model
from lossbook.terminal.runs import RunLine
from lossbook.terminal.styled_text import STATE_COLORS, Span, TextLine, visible
from lossbook.terminal.themes import THEMES

_GAP = 2
_NARROWEST = 8


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading, and what it is sorted by.
        width: columns of the terminal; for names the most that any has.
        keep: how late it is left out where there is no room; 9 never.
        shrink: whether it may be cut.
    """

    title: str
    width: int
    text: Callable[[RunLine, float], str]
    right: bool = False
    keep: int = 5
    shrink: bool = False


@dataclass(frozen=True)
class Table:
    """Lines to show, and what stands where, for the mouse.

    Attributes:
        headings: (first column, column behind the last, title) of each heading.
        rows: for each line below the heading, the row of `model.lines`, None for a group's heading.
    """

    lines: list[TextLine]
    headings: list[tuple[int, int, str]]
    rows: list[int | None]


def significant(value: float | None, digits: int = 4) -> str:
    """A value in few columns."""
    return number(value, digits) if value is None or abs(value) < 1e6 else short_number(float(f"{value:.4g}"))


def rate(value: float | None) -> str:
    """Tokens per second: `812`, `12.3k`, `1.25M`."""
    if value is None or not math.isfinite(value):
        return number(value)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


#: The columns of the runs that were shown last, without and with more than ASCII.
_COLUMNS: dict[bool, tuple[object, list[Column]]] = {}


def _columns(lines: Sequence[RunLine] | None, unicode: bool) -> list[Column]:
    """The columns that these runs have something for; found anew when the runs change."""
    held = _COLUMNS.get(unicode)
    if held is not None and held[0] is lines:
        return held[1]
    runs = lines or ()

    def widest(texts: Sequence[str], most: int) -> int:
        return min(most, max((len(text) for text in texts), default=0))

    columns = [
        Column(
            "name",
            max(8, widest([run.name for run in runs], 60)),
            lambda run, _: visible(run.name, unicode=unicode),
            keep=9,
            shrink=True,
        ),
        Column("state", widest([run.state for run in runs], 11), lambda run, _: run.state, keep=8),
        Column(
            "step",
            max(6, len(str(max((run.step or 0 for run in runs), default=0)))),
            lambda run, _: number(run.step),
            True,
            7,
        ),
        Column("loss", 8, lambda run, _: significant(run.loss), True, 8),
    ]
    if any(run.val_loss is not None for run in runs):
        columns.append(Column("val loss", 8, lambda run, _: significant(run.val_loss), True, 7))
    if any(run.tokens_per_second is not None for run in runs):
        columns.append(Column("tok/s", 6, lambda run, _: rate(run.tokens_per_second), True, 6))
    columns.append(Column("took", 7, lambda run, _: duration(run.duration_seconds), True, 5))
    columns.append(Column("started", 11, lambda run, now: age(run.created, now), False, 3))
    if any(run.group for run in runs):
        longest = widest([run.group for run in runs], 24)
        columns.append(
            Column("group", max(5, longest), lambda run, _: visible(run.group, unicode=unicode), False, 4, True)
        )
    if any(run.tags for run in runs):
        longest = widest([run.tags for run in runs], 24)
        columns.append(
            Column("tags", max(4, longest), lambda run, _: visible(run.tags, unicode=unicode), False, 2, True)
        )
    if len({run.project for run in runs}) > 1:
        longest = widest([run.project for run in runs], 24)
        columns.append(
            Column("project", max(7, longest), lambda run, _: visible(run.project, unicode=unicode), False, 1, True)
        )
    _COLUMNS[unicode] = (lines, columns)
    return columns


def _fitting(columns: Sequence[Column], room: int) -> list[tuple[Column, int]]:
    """The columns that have room, with their widths."""
    shown = list(columns)
    while True:
        widths = [max(column.width, len(column.title) + 2) for column in shown]
        excess = sum(widths) + _GAP * (len(shown) - 1) - room
        for at, column in enumerate(shown):
            if excess > 0 and column.shrink:
                least = max(len(column.title), _NARROWEST if column.title != "name" else min(widths[at], 20))
                cut = min(excess, max(0, widths[at] - least))
                widths[at] -= cut
                excess -= cut
        if excess <= 0 or len(shown) <= 1:
            if len(shown) == 1:
                widths[0] = min(widths[0], room)
            return list(zip(shown, widths, strict=True))
        lowest = min(column.keep for column in shown)
        if lowest >= 9:
            widths[0] = max(4, widths[0] - excess)
            return list(zip(shown, widths, strict=True))
        shown.remove(next(column for column in shown if column.keep == lowest))


def runs_table(model: Model, width: int, height: int) -> Table:
    """The heading and as many runs as have room, the one in focus among them."""
    lines = model.lines
    columns = _fitting(_columns(model.snapshot.lines, model.unicode), width - 3)
    headings: list[tuple[int, int, str]] = []
    heading: TextLine = [Span("   ")]
    at = 3
    for column, taken in columns:
        sorted_by = column.title == model.sort
        sign = ("▼" if model.falling else "▲") if model.unicode else ("v" if model.falling else "^")
        title = f"{column.title} {sign}" if sorted_by else column.title
        heading.append(Span(pad(clip(title, taken, ellipsis=""), taken, right=column.right), bold=True))
        heading.append(Span(" " * _GAP))
        headings.append((at, at + taken, column.title))
        at += taken + _GAP

    entries: list[int | str] = list(range(len(lines)))
    focus = model.row
    if model.grouped:
        entries, focus = _with_groups(lines, focus)
    room = max(1, height - 1)
    first = min(model.first_row, max(0, len(entries) - room))
    if focus < first:
        # A group's heading comes with its first run.
        first = focus - (1 if focus and isinstance(entries[focus - 1], str) else 0)
    elif focus >= first + room:
        first = focus - room + 1
    model.first_row = first

    now = time.time()
    shown: list[TextLine] = [heading]
    rows: list[int | None] = []
    drawn = model.drawn if model.slots else dict(model.slots)
    for place in range(first, min(len(entries), first + room)):
        entry = entries[place]
        if isinstance(entry, str):
            count = sum(1 for line in lines if line.group == entry)
            title = visible(entry, unicode=model.unicode) if entry else "no group"
            shown.append([Span(clip(f"{title} ({count})", width, ellipsis=""), bold=True, dim=not entry)])
            rows.append(None)
            continue
        shown.append(_row(model, lines[entry], columns, drawn, place == focus, now, width))
        rows.append(entry)
    if not lines:
        shown += _nothing(model)
    return Table(shown, headings, rows)


def _with_groups(lines: Sequence[RunLine], focus: int) -> tuple[list[int | str], int]:
    entries: list[int | str] = []
    held, place = None, 0
    for row, line in enumerate(lines):
        if line.group != held:
            held = line.group
            entries.append(line.group)
        if row == focus:
            place = len(entries)
        entries.append(row)
    return entries, place


def _row(
    model: Model,
    run: RunLine,
    columns: Sequence[tuple[Column, int]],
    drawn: dict[str, int],
    focused: bool,
    now: float,
    width: int,
) -> TextLine:
    theme = THEMES[model.theme]
    slot = model.slots.get(run.path)
    if run.path == model.baseline:
        sign = "◆" if model.unicode else "B"
    else:
        sign = ("●" if model.unicode else "*") if slot is not None else " "
    if slot is None:
        slot = drawn.get(run.path)
    color = None if slot is None else theme.curves[slot % len(theme.curves)]
    line: TextLine = [Span(">" if focused else " ", bold=True, reverse=focused), Span(sign, color, reverse=focused)]
    line.append(Span(" ", reverse=focused))
    for column, taken in columns:
        text = clip(column.text(run, now), taken, ellipsis="…" if model.unicode else "~")
        ink = STATE_COLORS.get(run.state) if column.title == "state" and not focused else None
        line.append(Span(pad(text, taken, right=column.right), ink, reverse=focused))
        line.append(Span(" " * _GAP, reverse=focused))
    if focused:
        left = width - sum(text_width(span.text) for span in line)
        line.append(Span(" " * max(0, left), reverse=True))
    return line


def _nothing(model: Model) -> list[TextLine]:
    if model.snapshot.lines is None:
        return [[Span("   reading ...", dim=True)]]
    if model.words or model.where:
        return [[Span("   No run fits: Escape takes the filter back.", dim=True)]]
    return [[Span("   No runs yet; the first one appears here when it begins.", dim=True)]]
