"""Reading JSON that a person or a crash has damaged: what stands before the damage is kept."""

from __future__ import annotations

import json
import re
from typing import Any

#: Strings (a torn one runs to the end), comments that people leave, brackets, commas, and everything else.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|//[^\n]*|#[^\n]*|/\*[\s\S]*?\*/|[{}\[\],:]|[^\s"{}\[\],:/#]+|[/]|\s+')
_CLOSING = {"{": "}", "[": "]"}


def parse(text: str) -> Any:
    """Read JSON with NaN and Infinity, as Python's own writer leaves them, and whole numbers of any length.

    Raises:
        ValueError, RecursionError: it is no JSON, or nested too deep.
    """
    # Python refuses to read a number of thousands of digits.
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 1000 else float(digits))


def salvage(text: str) -> tuple[Any, str]:
    """Read what can be read of a damaged JSON text.

    Comments and commas too many are taken out first; if that is not enough, everything from the first unreadable
    place on is left out.

    Returns:
        The value (None when nothing can be read), and what was wrong, beginning with the line.
    """
    cleaned = _without_comments(text)
    try:
        return parse(cleaned), f"{_line_of_error(text)}: comments or commas that JSON does not know were passed over"
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        message = getattr(error, "msg", "nested too deep")
        position = getattr(error, "pos", 0)
    for limit in (len(cleaned), position):
        cut = _closed(cleaned[:limit])
        if cut is None:
            continue
        try:
            return parse(cut), f"{line}: the text ends or is damaged here ({message}); what stands before it was read"
        except (ValueError, RecursionError):
            continue
    return None, f"{line}: this is no JSON ({message}), and nothing before it can be read"


def _without_comments(text: str) -> str:
    """Take out comments, and commas before a closing bracket; lines stay where they are."""
    parts: list[str] = []
    comma: int | None = None
    for matched in _TOKEN.finditer(text):
        token = matched[0]
        if token.startswith(("//", "#", "/*")):
            parts.append("\n" * token.count("\n"))
            continue
        if token == ",":
            comma = len(parts)
        elif token in ("}", "]") and comma is not None:
            parts[comma] = ""
            comma = None
        elif not token.isspace():
            comma = None
        parts.append(token)
    return "".join(parts)


def _line_of_error(text: str) -> int:
    try:
        parse(text)
    except (ValueError, RecursionError) as error:
        return getattr(error, "lineno", 1)
    return 1


def _closed(text: str) -> str | None:
    """The text up to its last whole value, with the brackets that are open there closed."""
    stack: list[str] = []
    cut: tuple[int, str] | None = None
    for matched in _TOKEN.finditer(text):
        token = matched[0]
        if token in _CLOSING:
            stack.append(token)
            if cut is None or len(stack) == 1:
                cut = (matched.end(), _closers(stack))
        elif token in ("}", "]"):
            if not stack or _CLOSING[stack.pop()] != token:
                break
            cut = (matched.end(), _closers(stack))
        elif token == "," and stack:
            cut = (matched.start(), _closers(stack))
    if cut is None:
        return None
    end, closing = cut
    return text[:end] + closing


def _closers(stack: list[str]) -> str:
    return "".join(_CLOSING[one] for one in reversed(stack))
