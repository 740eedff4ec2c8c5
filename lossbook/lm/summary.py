"""What an experiment came to, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def format_seconds(seconds: float | None) -> str:
    """As hours, minutes and seconds: `1 h 02 min`, `12 min 30 s`, `4.2 s`."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def summary_lines(title: str, facts: Sequence[tuple[str, object]]) -> list[str]:
    """A title and its facts, a line each; those that are None or empty are left out."""
    shown = [
        (name, f"{value:.6g}" if isinstance(value, float) else str(value))
        for name, value in facts
        if value not in (None, "")
    ]
    width = max((len(name) for name, _ in shown), default=0)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in shown)]
