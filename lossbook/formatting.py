"""How a value reads in a line of text: numbers, durations, text that cannot steer a terminal, columns it takes.

No colour, no terminal and no file: what tables on the terminal, in Markdown and in LaTeX have in common.
"""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

#: Marks that turn the direction of what follows: a name could read as another.
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
#: What our own commands write to a terminal beside text: colours, and what `ls --watch` and a progress bar redraw with.
_OUR_SEQUENCES = re.compile("(\x1b\\[[0-9;]{0,12}m|\x1b\\[[HJK])")
_STEERING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNING}]")


def harmless(text: str) -> str:
    """`text` as it may go to a terminal: our own colours stay, whatever else could steer it becomes `\ufffd`."""
    if _STEERING.search(text) is None:
        return text
    begin = "\r" if text.startswith("\r") else ""
    parts = _OUR_SEQUENCES.split(text[len(begin) :].replace("\r\n", "\n"))
    # Every second one is a sequence of ours.
    return begin + "".join(part if at % 2 else _STEERING.sub("\ufffd", part) for at, part in enumerate(parts))


def csv_cell(value: object) -> object:
    """A value as a CSV file has it: no text begins a formula; a number stays one, also where it is written as text."""
    if not isinstance(value, str):
        return value
    if "\r" in value:
        # Python's writer leaves one unquoted where lines end in a line feed, and readers take it for a line's end.
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value if value.strip() == value else f"'{value}"


def printable(text: object) -> str:
    """One line of `text` that cannot steer the terminal: control characters become `�`, line ends a space."""
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    line = " ".join(line.splitlines()) if any(end in line for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029") else line
    return "".join(
        " "
        if character == "\t"
        else "\ufffd"
        if unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING
        else character
        for character in line
    )


def text_width(text: str) -> int:
    """Terminal columns that `text` takes: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def clip(text: str, width: int, *, ellipsis: str = "…") -> str:
    """Cut `text` to `width` columns, with an ellipsis where something was cut off."""
    if text_width(text) <= width:
        return text
    room = width - len(ellipsis)
    kept = ""
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept += character
    return kept + ellipsis


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill `text` with spaces to `width` columns; `right` puts the text at the right."""
    fill = " " * max(0, width - text_width(text))
    return fill + text if right else text + fill


def number(value: object, digits: int = 5) -> str:
    """A value for reading: `digits` significant digits, integers whole, nothing as `-`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        if value == int(value) and abs(value) < 1e9:
            return str(int(value))
        shown = f"{value:.{digits}g}"
        return shown.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return printable(value)


def short_number(value: float) -> str:
    """A number for an axis: `1.5k`, `20M`, `0.003`, `2e-5`."""
    size = abs(value)
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if factor <= size < 1e15 and (factor > 1e3 or size >= 1e4):
            return f"{value / factor:.5g}{letter}"
    return number(float(f"{value:.10g}"), 6)


def duration(seconds: float | None) -> str:
    """`0.4s`, `12s`, `3m 20s`, `5h 07m`, `2d 04h`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60}h {minutes % 60:02d}m"
    return f"{minutes // 1440}d {minutes // 60 % 24:02d}h"


def age(moment: float | None, now: float | None = None) -> str:
    """How long ago a Unix time was, in one unit: `now`, `40s ago`, `3 min ago`, `5 h ago`, `12 days ago`."""
    if moment is None:
        return "-"
    if moment == 0:
        return "unknown"
    passed = (time.time() if now is None else now) - moment
    if passed < 0:
        return "in the future" if passed < -60 else "now"
    if passed < 5:
        return "now"
    if passed < 90:
        return f"{passed:.0f}s ago"
    if passed < 90 * 60:
        return f"{passed / 60:.0f} min ago"
    if passed < 36 * 3600:
        return f"{passed / 3600:.0f} h ago"
    return f"{passed / 86400:.0f} days ago"


def clock(moment: float | None) -> str:
    """A Unix time as local date and time; `unknown` for 0, which stands for a time that nothing tells."""
    if moment is None:
        return "-"
    if moment == 0:
        return "unknown"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return number(moment)


def size(count: int | float) -> str:
    """Bytes in units of 1024: `812 B`, `3.4 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024 or unit == "TiB":
            return f"{amount:.0f} {unit}" if unit == "B" or abs(amount) >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def flatten(values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested dictionaries as pairs of a dotted name and a value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
