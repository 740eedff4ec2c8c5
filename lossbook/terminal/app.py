"""The page on a terminal, by Textual: keys and clicks in, and only the characters that changed out.

The screen is one widget of lines. A new page is compared with the one before, and of each line only the stretch that
differs is sent, a few times a second at the most however much is logged: a slow link carries what there is to see.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from lossbook.book import Book
from lossbook.terminal.model import Model
from lossbook.terminal.reader import SnapshotReader
from lossbook.terminal.screen import Screen, make_screen
from lossbook.terminal.snapshot import Snapshot
from lossbook.terminal.styled_text import Span, TextLine, fit, visible
from lossbook.terminal.themes import THEMES, Theme

#: Keys are answered at once, but a key that is held down no more often than this.
_KEY_FRAMES = 15
#: Moving the cursor and taking up an ink again costs as much as so many characters that have not changed.
_WORTH_MOVING = 12


class Arrived(Message):
    """Something new was read."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class Canvas(Widget):
    """Lines of text; shows new ones by redrawing the stretches that differ."""

    can_focus = True

    def __init__(self) -> None:
        super().__init__()
        self._strips: list[Strip] = []
        self._cells: list[list[tuple[str, Style]]] = []

    def show(self, lines: Sequence[TextLine], theme: Theme) -> None:
        """Take the place of what is shown."""
        cells = [line_cells(line, theme) for line in lines]
        if len(cells) != len(self._cells):
            changed = None
        else:
            changed = [
                region
                for row, (old, new) in enumerate(zip(self._cells, cells, strict=True))
                for region in differing_regions(old, new, row)
            ]
        self._cells = cells
        self._strips = [_strip(line, theme) for line in lines]
        if changed is None:
            self.refresh()
        elif changed:
            self.refresh(*changed)

    @property
    def text(self) -> str:
        """What is shown, without ink."""
        return "\n".join(strip.text for strip in self._strips)

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)


_STYLES: dict[tuple[Span, str], Style] = {}


def _style(span: Span, theme: Theme) -> Style:
    ink = Span("", span.color, span.bold, span.dim, span.reverse)
    known = _STYLES.get((ink, str(id(theme))))
    if known is None:
        color = theme.instead.get(span.color or "", span.color) if theme.color else None
        known = Style(color=color, bold=span.bold or None, dim=span.dim or None, reverse=span.reverse or None)
        _STYLES[(ink, str(id(theme)))] = known
    return known


def _strip(line: TextLine, theme: Theme) -> Strip:
    return Strip([Segment(span.text, _style(span, theme)) for span in line if span.text])


def line_cells(line: TextLine, theme: Theme) -> list[tuple[str, Style]]:
    """What stands in each column; behind a wide character an empty text."""
    from lossbook.formatting import text_width

    cells: list[tuple[str, Style]] = []
    for span in line:
        style = _style(span, theme)
        if span.text.isascii():
            cells += [(character, style) for character in span.text]
            continue
        for character in span.text:
            taken = text_width(character)
            if taken == 0 and cells:
                cells[-1] = (cells[-1][0] + character, cells[-1][1])
            else:
                cells += [(character, style), *([("", style)] * (taken - 1))]
    return cells


def differing_regions(old: list[tuple[str, Style]], new: list[tuple[str, Style]], row: int) -> list[Region]:
    """The stretches of a line that differ; those that lie close together are one."""
    if old == new:
        return []
    if len(old) != len(new):
        return [Region(0, row, max(len(old), len(new), 1), 1)]
    stretches: list[list[int]] = []
    for at, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if stretches and at - stretches[-1][1] <= _WORTH_MOVING:
            stretches[-1][1] = at + 1
        else:
            # A wide character is sent as a whole.
            stretches.append([at - 1 if at and (after[0] == "" or before[0] == "") else at, at + 1])
    return [Region(first, row, last - first, 1) for first, last in stretches]


class Watch(App[None]):
    """The page.

    Args:
        book: what to look at.
        model: what is chosen at the beginning.
        store: its name, for the first line.
        frames: how often a second new figures are drawn at the most.
    """

    CSS = """
    Screen { background: ansi_default; color: ansi_default; layout: vertical; overflow: hidden; }
    Canvas { background: ansi_default; color: ansi_default; width: 100%; height: 100%; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []
    inherit_bindings = False

    def __init__(
        self,
        book: Book,
        model: Model,
        *,
        store: str,
        project: str | None = None,
        frames: float = 4.0,
        interval_seconds: float = 0.5,
    ) -> None:
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.model = model
        self._store, self._frame_seconds = store, 1 / frames
        self._drawn = 0.0
        self._is_due = False
        #: The signal that ended the page, None for a key.
        self.ended_by: int | None = None
        self._shown: Screen | None = None
        self.canvas = Canvas()
        self._reader = SnapshotReader(book, self._take, project=project, interval_seconds=interval_seconds)

    def compose(self) -> ComposeResult:
        yield self.canvas

    def on_mount(self) -> None:
        self.canvas.focus()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                asyncio.get_running_loop().add_signal_handler(number, self._end_by, int(number))
            except (RuntimeError, ValueError, NotImplementedError):
                # Not the main thread: whoever runs the page there looks after signals.
                break
        self._reader.start()

    def on_unmount(self) -> None:
        self._reader.stop(wait_seconds=1.0)

    def _end_by(self, number: int) -> None:
        """Leave the terminal as it was found, whoever ends the page."""
        self.ended_by = number
        self.model.quitting = True
        self._answered()

    def _take(self, snapshot: Snapshot) -> None:
        # In the reader's thread; posting a message is safe from there.
        try:
            self.post_message(Arrived(snapshot))
        except RuntimeError:
            # The page has ended, and nobody is there to take it.
            self._reader.stop()

    # -- in ---------------------------------------------------------------------------------------------------------

    def on_arrived(self, message: Arrived) -> None:
        self.model.snapshot = message.snapshot
        self._draw_soon(self._frame_seconds)

    def on_resize(self, event: events.Resize) -> None:
        self.model.width, self.model.height = event.size.width, event.size.height
        self._draw()

    async def on_event(self, event: events.Event) -> None:
        """Take keys and pasted text before Textual gives them a meaning of its own."""
        if isinstance(event, events.Key):
            event.stop()
            event.prevent_default()
            if event.key == "ctrl+z":
                self.action_suspend_process()
                return
            self.model.press(event.key, event.character)
            self._answered()
        elif isinstance(event, events.Paste):
            event.stop()
            self.model.paste(event.text)
            self._answered()
        else:
            await super().on_event(event)

    def on_click(self, event: events.Click) -> None:
        page, model = self._shown, self.model
        if page is None or model.help or model.picker is not None:
            return
        x, y = event.screen_x, event.screen_y
        if y == 0:
            for first, last, view in page.tabs:
                if first <= x < last:
                    model.go(view)
        elif page.table is not None and y == 1:
            for first, last, title in page.table.headings:
                if first <= x <= last:
                    model.click_heading(title)
        elif page.table is not None and 0 <= y - 2 < len(page.table.rows):
            row = page.table.rows[y - 2]
            if row is not None:
                model.focus_on(row)
                if x < 3:
                    model.press("space", " ")
        self._answered()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._turn("down")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._turn("up")

    def _turn(self, key: str) -> None:
        for _ in range(3):
            self.model.press(key)
        self._answered()

    def _answered(self) -> None:
        if self.model.quitting:
            self._reader.stop()
            self.exit()
            return
        self._draw_soon(1 / _KEY_FRAMES)

    # -- out --------------------------------------------------------------------------------------------------------

    def _draw_soon(self, apart_seconds: float) -> None:
        """Draw now, or when the frame before is old enough."""
        wait = self._drawn + apart_seconds - time.monotonic()
        if wait <= 0:
            self._draw()
        elif not self._is_due:
            self._is_due = True
            # Not by a timer of Textual's: one whose moment has passed before it is looked at never rings.
            asyncio.get_running_loop().call_later(wait, self._draw)

    def _draw(self) -> None:
        self._is_due = False
        if not self.is_running:
            return
        self._drawn = time.monotonic()
        page = self._shown = self._make_screen()
        self._reader.want(self.model.wanted(page.watched))
        self.canvas.show(page.lines, THEMES[self.model.theme])

    def _make_screen(self) -> Screen:
        model = self.model
        try:
            return make_screen(model, self._store)
        except Exception as error:  # what is watched for days goes on, in another view if need be
            if os.environ.get("LOSSBOOK_TRACEBACK"):
                raise
            sentence = (
                f" something went wrong inside Lossbook ({type(error).__name__}: {error}): another view may still do;"
                " LOSSBOOK_TRACEBACK=1 in the environment shows where, please report it"
            )
            lines: list[TextLine] = [[Span(visible(sentence, unicode=model.unicode), "red")]]
            return Screen([fit(line, model.width) for line in (lines + [[]] * model.height)[: model.height]])
