"""One line of console output as a terminal would show it: what was overwritten is gone, colours are spans beside the text.

Carriage returns, backspaces and the escape sequences that move or erase within a line are carried out; all others are
left out. Nothing that a line holds can reach a page or a terminal as anything but text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Characters of a line that are kept.
WIDEST = 65_536
_TOKEN = re.compile(
    "\x1b\\[(?P<codes>[0-?]*)[ -/]*(?P<end>[@-~])"  # a control sequence
    "|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # an operating system command: a title, a link
    "|\x1b[PX^_][^\x1b]*(?:\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]?"
    "|(?P<move>[\r\b])"
    "|(?P<odd>[\x00-\x08\x0a-\x1f\x7f-\x9f]+)"
    "|(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)"
)
_SPECIAL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_ON = {"1": "bold", "2": "dim", "3": "italic", "4": "underline", "7": "reverse", "9": "struck"}
_OFF = {"22": ("bold", "dim"), "23": ("italic",), "24": ("underline",), "27": ("reverse",), "29": ("struck",)}
_CUBE = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class ConsoleSpan:
    """A piece of a line's text, from `start` up to `end`, and how it looks.

    Attributes:
        style: words: bold, dim, italic, underline, reverse, struck; a colour (black, red, green, yellow, blue, magenta,
            cyan, white, bright- before it, or #rrggbb); a background, the same with `on-` before it.
    """

    start: int
    end: int
    style: str


def show_line(raw: bytes) -> tuple[str, tuple[ConsoleSpan, ...]]:
    """What a terminal shows of one line (without its newline), and its colours; bytes that are no UTF-8 become U+FFFD."""
    text = raw.decode("utf-8", "replace").removesuffix("\r")
    if _SPECIAL.search(text) is None:
        return text[:WIDEST], ()
    return _Line().take(text)


class _Line:
    """The cells of one line of a terminal; each character is taken for one cell wide."""

    def __init__(self) -> None:
        self._characters: list[str] = []
        self._styles: list[str] = []
        self._at = 0
        self._attributes: set[str] = set()
        self._colour = self._background = self._style = ""

    def take(self, text: str) -> tuple[str, tuple[ConsoleSpan, ...]]:
        for token in _TOKEN.finditer(text):
            if token["text"]:
                self._put(token["text"])
            elif token["move"]:
                self._at = 0 if token["move"] == "\r" else max(0, self._at - 1)
            elif token["end"]:
                self._control(token["codes"], token["end"])
        return "".join(self._characters), tuple(self._spans())

    def _put(self, text: str) -> None:
        text = text[: max(0, WIDEST - self._at)]
        end = self._at + len(text)
        missing = self._at - len(self._characters)
        if missing > 0:
            self._characters += " " * missing
            self._styles += [""] * missing
        self._characters[self._at : end] = text
        self._styles[self._at : end] = [self._style] * len(text)
        self._at = end

    def _control(self, codes: str, end: str) -> None:
        if end == "m":
            self._dress(codes)
            return
        number = int(codes) if codes.isascii() and codes.isdigit() and len(codes) < 6 else 0
        if end == "C":
            self._at = min(WIDEST, self._at + max(1, number))
        elif end == "D":
            self._at = max(0, self._at - max(1, number))
        elif end == "G":
            self._at = min(WIDEST, max(1, number) - 1)
        elif end == "K" and number == 0:
            del self._characters[self._at :], self._styles[self._at :]
        elif end == "K":
            last = len(self._characters) if number == 2 else min(self._at + 1, len(self._characters))
            self._characters[:last] = " " * last
            self._styles[:last] = [""] * last

    def _dress(self, codes: str) -> None:
        words = (codes or "0").replace(":", ";").split(";")
        at = 0
        while at < len(words):
            code = words[at].lstrip("0") or "0"
            if code == "0":
                self._attributes.clear()
                self._colour = self._background = ""
            elif code in _ON:
                self._attributes.add(_ON[code])
            elif code in _OFF:
                self._attributes.difference_update(_OFF[code])
            elif code in ("38", "48"):
                colour, used = _mixed(words[at + 1 :])
                at += used
                if code == "38":
                    self._colour = colour
                else:
                    self._background = f"on-{colour}" if colour else ""
            elif code in ("39", "49"):
                if code == "39":
                    self._colour = ""
                else:
                    self._background = ""
            elif code.isascii() and code.isdigit() and len(code) <= 3:
                self._plain_colour(int(code))
            at += 1
        self._style = " ".join([*sorted(self._attributes), *filter(None, (self._colour, self._background))])

    def _plain_colour(self, code: int) -> None:
        tens, colour = divmod(code, 10)
        if colour > 7:
            return
        name = _COLOURS[colour]
        if tens in (3, 9):
            self._colour = name if tens == 3 else f"bright-{name}"
        elif tens in (4, 10):
            self._background = f"on-{name}" if tens == 4 else f"on-bright-{name}"

    def _spans(self) -> list[ConsoleSpan]:
        spans: list[ConsoleSpan] = []
        start = 0
        for position in range(1, len(self._styles) + 1):
            if position == len(self._styles) or self._styles[position] != self._styles[start]:
                if self._styles[start]:
                    spans.append(ConsoleSpan(start, position, self._styles[start]))
                start = position
        return spans


def _mixed(words: list[str]) -> tuple[str, int]:
    """A colour of 256 or of 16 million, and how many words it took."""
    try:
        if words[0] == "5":
            number = int(words[1])
            if 0 <= number < 16:
                return ("bright-" if number > 7 else "") + _COLOURS[number % 8], 2
            if number < 232:
                cube = number - 16
                return _hex(_CUBE[cube // 36], _CUBE[cube // 6 % 6], _CUBE[cube % 6]), 2
            return _hex(*[8 + 10 * (number - 232)] * 3), 2
        if words[0] == "2":
            return _hex(*(int(word) for word in words[1:4])), 4
    except (IndexError, ValueError, TypeError):
        pass
    return "", len(words)


def _hex(red: int, green: int, blue: int) -> str:
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        return ""
    return f"#{red:02x}{green:02x}{blue:02x}"
