"""Text with ink: what the lines of a terminal are made of, before anybody knows how colours are written.

What comes from outside (names, console text, notes) is made harmless here: no character of it steers a terminal, and
none of it is ever read as markup, because ink stands beside the text and never in it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lossbook.formatting import clip, text_width

STATE_COLORS = {
    "running": "green",
    "finished": "blue",
    "failed": "red",
    "crashed": "red",
    "interrupted": "yellow",
    "killed": "magenta",
    "preempted": "yellow",
}

#: Characters that turn the direction of the text around them.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Span(NamedTuple):
    """A stretch of text in one ink.

    Attributes:
        text: printable characters alone.
        color: one of eight names ("red", ...); None for the terminal's own.
        reverse: ink and paper exchanged.
    """

    text: str
    color: str | None = None
    bold: bool = False
    dim: bool = False
    reverse: bool = False


#: One line of the screen.
TextLine = list[Span]


def visible(text: object, *, unicode: bool = True) -> str:
    """One line of `text` in which what would steer a terminal is seen instead: `^[` for ESC, `^G` for the bell.

    Args:
        unicode: whether the terminal can show more than ASCII; what it cannot is a `?`.
    """
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    if not line.isascii():
        line = unicodedata.normalize("NFC", line)
    shown = "".join(_visible_character(character) for character in line)
    return shown if unicode else shown.encode("ascii", "replace").decode()


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in "\t\n":
        return "  " if character == "\t" else " "
    if code < 0x20:
        return "^" + chr(code + 0x40)
    if code == 0x7F:
        return "^?"
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Cf", "Zl", "Zp") or character in _TURNING:
        return f"<{code:x}>"
    return character


def width_of(line: Sequence[Span]) -> int:
    """Columns that a line takes."""
    return sum(text_width(span.text) for span in line)


def plain_text(line: Iterable[Span]) -> str:
    """A line without its ink."""
    return "".join(span.text for span in line)


def fit(line: Sequence[Span], width: int) -> TextLine:
    """Cut or fill a line to exactly `width` columns."""
    kept: TextLine = []
    room = width
    for span in line:
        taken = text_width(span.text)
        if taken > room:
            text = clip(span.text, room, ellipsis="")
            kept.append(span._replace(text=text))
            room -= text_width(text)
            break
        kept.append(span)
        room -= taken
    if room > 0:
        kept.append(Span(" " * room))
    return kept


def beside(left: Sequence[TextLine], right: Sequence[TextLine], width: int, gap: int = 2) -> list[TextLine]:
    """Two blocks next to each other, the left one filled to `width` columns."""
    joined = []
    for row in range(max(len(left), len(right))):
        line = fit(left[row] if row < len(left) else [], width)
        joined.append([*line, Span(" " * gap), *(right[row] if row < len(right) else [])])
    return joined
