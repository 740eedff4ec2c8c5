"""Numbers, times and durations as logs write them."""

from __future__ import annotations

import datetime
import re

_WORDS = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "inf": float("inf"),
    "+inf": float("inf"),
    "-infinity": float("-inf"),
    "-inf": float("-inf"),
    "-nan": float("nan"),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)\Z")


def number_of(value: object) -> float | None:
    """A number, or a text that is one."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        return float(text) if _NUMBER.match(text) else None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def whole_of(value: object) -> int | None:
    """A whole number, or a text that is one; None for a fraction and for what 64 bits do not hold."""
    number = number_of(value)
    return int(number) if number is not None and abs(number) < 2**62 and number.is_integer() else None


def moment_of(value: object) -> float | None:
    """A point in time as Unix seconds: a date in ISO 8601, or a number that can only be one."""
    number = number_of(value)
    if number is not None:
        for scale in (1.0, 1e3, 1e6, 1e9):
            if 1e8 < number / scale < 1e10:
                return number / scale
        return None
    if not isinstance(value, str):
        return None
    try:
        return datetime.datetime.fromisoformat(value.strip().replace(",", ".")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def seconds_of(value: object) -> float | None:
    """A duration in seconds: a number of them, or a text such as `1:02:03` or `1 day, 0:00:10`."""
    number = number_of(value)
    if number is None and isinstance(value, str):
        found = _DURATION.match(value.strip())
        if found is not None:
            days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
            number = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return number if number is not None and 0 <= number < 1e9 else None
