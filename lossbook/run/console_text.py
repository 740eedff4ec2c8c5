"""Printed text as it is kept: of a progress bar its last state, of everything else each line as it was printed.

A row of the terminal is written out when nothing can change it any more. A progress bar writes over its row (`\\r`) or over
rows above (`ESC [ A`); such rows are held, a few at the most, and the state of the first of them is written from time to
time, so that a reader of a live run sees it move. What is written out reads as a terminal shows it: it is only added to.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

#: A moving bar is written out after so many seconds, then after twice as many, up to the most.
FIRST_SECONDS, MOST_SECONDS = 1.0, 30.0
#: Rows that are held at the most: bars below each other, and a live display of unknown height.
_MOST_BARS, _MOST_LIVE = 8, 64
#: Characters of a row without an end that are remembered.
_LONGEST = 1 << 16
_MOVE = re.compile("\r|\n|\x08+|\x1b\\[([0-9]{0,4})([ABK])|\x1b\\[\\?25([lh])")
_ESCAPES = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?")


class _Row:
    """One row of the terminal.

    Attributes:
        text: what was written since the last return to its beginning.
        below: what was written before and is longer: its rest still shows.
        is_bar: whether it was written over.
    """

    __slots__ = ("below", "is_bar", "text")

    def __init__(self) -> None:
        self.text = ""
        self.below: list[str] = []
        self.is_bar = False

    def go_back(self) -> None:
        """Go to the beginning of the row; what is written next stands over what was there."""
        width = _width(self.text)
        while self.below and _width(self.below[-1]) <= width:
            self.below.pop()
        if self.text.strip():
            self.below.append(self.text)
            self.is_bar = True
        elif self.below:
            self.below.append(self.text)
        else:
            # A bar begins with a return; what comes after the row was cleared is a line of its own.
            self.is_bar = not self.text
        self.text = ""

    def erase(self) -> None:
        self.below.clear()
        self.text = ""

    @property
    def shown(self) -> str:
        """What a terminal shows of it, as text with returns where a longer one stands below."""
        if not self.below:
            return self.text
        width = _width(self.text)
        below = [one for one in self.below if _width(one) > width]
        return "\r".join([*below, self.text] if self.text else below)


class ConsoleText:
    """Takes what is printed, gives what is to be added to the file.

    Args:
        clock: seconds, for how often a moving bar is written out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows = [_Row()]
        self._at = 0
        self._reach = 0
        self._is_live = False
        self._written = ""  # what the last line of the file, which has no end, shows
        self._next_at = 0.0
        self._pause = FIRST_SECONDS

    @property
    def is_held(self) -> bool:
        """Whether something is held that is not written out."""
        return len(self._rows) > 1 or self._rows[0].shown != self._written

    def take(self, text: str) -> str:
        """Take what is printed next."""
        row = self._rows[0]
        if len(self._rows) == 1 and not row.is_bar and "\r" not in text and "\x1b" not in text and "\x08" not in text:
            # As good as always: it is kept as it is.
            rest = text[text.rfind("\n") + 1 :]
            row.text = (rest if "\n" in text else row.text + rest)[:_LONGEST]
            self._written = row.text
            return text
        self._print(text)
        return self._settled()

    def settle(self) -> str:
        """What is to be written of a bar that has stood still, or moved for long enough."""
        return self._show_first()

    def end(self) -> str:
        """Give all that is held."""
        pieces = [self._row_out(row) + "\n" for row in self._rows[:-1]]
        last = self._rows[-1]
        pieces.append(self._row_out(last))
        self._rows, self._at, self._reach, self._is_live = [_Row()], 0, 0, False
        self._rows[0].text = self._written = last.text[:_LONGEST]
        return "".join(pieces)

    # -- the terminal ------------------------------------------------------------------------------------------------

    def _print(self, text: str) -> None:
        text = text.replace("\r\n", "\n")
        begin = 0
        for move in _MOVE.finditer(text):
            if move.start() > begin:
                self._put(text[begin : move.start()])
            begin = move.end()
            self._move(move)
        if begin < len(text):
            self._put(text[begin:])

    def _put(self, text: str) -> None:
        row = self._rows[self._at]
        row.text = (row.text + text)[:_LONGEST]

    def _move(self, move: re.Match[str]) -> None:
        row, token = self._rows[self._at], move[0]
        if token == "\n":
            self._at += 1
            if self._at == len(self._rows):
                self._rows.append(_Row())
            elif self._rows[self._at].text:
                self._rows[self._at].go_back()
        elif token == "\r":
            if row.text and self._at and self._at == len(self._rows) - 1 and not self._reach and not self._is_live:
                self._release(row)
            row.go_back()
        elif token[0] == "\x08":
            if len(token) >= _width(row.text):
                row.go_back()
            else:
                self._put(token)
        elif move[3]:
            self._is_live = move[3] == "l"
            self._reach = 0
            for one in self._rows:
                one.is_bar = one.is_bar and self._is_live
        elif move[2] == "K":
            if move[1] == "2" or not row.text:
                row.erase()
            else:
                self._put(token)
        elif move[2] == "A":
            self._go_up(int(move[1] or 1))
        else:
            for _ in range(min(int(move[1] or 1), _MOST_LIVE)):
                self._at += 1
                if self._at == len(self._rows):
                    self._rows.append(_Row())

    def _go_up(self, count: int) -> None:
        column = self._rows[self._at].text
        for _ in range(min(count, _MOST_LIVE)):
            if self._at:
                self._at -= 1
            elif len(self._rows) < _MOST_LIVE:
                # That row is in the file already: what comes over it stands below.
                self._rows.insert(0, _Row())
        self._reach = max(self._reach, len(self._rows) - 1 - self._at)
        if not column:
            self._rows[self._at].go_back()

    def _release(self, row: _Row) -> None:
        """Bars below each other: the ones above are done, as the cursor stays on this one."""
        for one in self._rows:
            one.is_bar = one is row

    # -- the file ----------------------------------------------------------------------------------------------------

    def _settled(self) -> str:
        """What is to be added to the file now."""
        done = self._done()
        pieces = [self._row_out(row) + "\n" for row in self._rows[:done]]
        if done:
            del self._rows[:done]
            self._at -= done
            if len(self._rows) == 1:
                self._reach = 0
        pieces.append(self._show_first())
        return "".join(pieces)

    def _done(self) -> int:
        """How many rows nothing will change any more."""
        last, at = len(self._rows) - 1, self._at
        if self._is_live:
            return max(0, min(at, last - (self._reach or _MOST_LIVE)))
        if any(row.shown and not row.is_bar for row in self._rows[at:]) and at == last and not self._reach:
            return at
        first = at
        while first and at - first < _MOST_BARS and (self._rows[first - 1].is_bar or last - first < self._reach):
            first -= 1
        return first

    def _row_out(self, row: _Row) -> str:
        """Bring the file's last line to what a row shows; the line is taken for ended afterwards."""
        piece = self._change(row.shown)
        self._written = ""
        self._next_at, self._pause = 0.0, FIRST_SECONDS
        return piece

    def _show_first(self) -> str:
        row = self._rows[0]
        shown = row.shown
        if shown == self._written:
            return ""
        now = self._clock()
        is_moving = row.is_bar and self._at == 0
        if is_moving:
            if now < self._next_at or not row.text:
                return ""
            self._next_at, self._pause = now + self._pause, min(2 * self._pause, MOST_SECONDS)
        return self._change(shown)

    def _change(self, shown: str) -> str:
        before, self._written = self._written, shown
        if shown.startswith(before):
            return shown[len(before) :]
        return f"\r\x1b[K{shown}"


def _width(text: str) -> int:
    return len(_ESCAPES.sub("", text) if "\x1b" in text else text)
