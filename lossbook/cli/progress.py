"""How far something that takes long is, rewritten in place on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
import time


class Bar:
    """One line on standard error.

    Args:
        total: rows in all; 0 where that is not known.
        quiet: show nothing.
    """

    def __init__(self, label: str, total: int, *, quiet: bool) -> None:
        self._label, self._total, self._done = label, total, 0
        self._shown = 0.0
        self._on = sys.stderr.isatty() and not quiet

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        self._done += rows
        now = time.monotonic()
        if not self._on or now - self._shown < 0.1:
            return
        self._shown = now
        shown = f"{self._done:,} rows"
        if self._total:
            share = min(1.0, self._done / self._total)
            filled = round(24 * share)
            shown = f"[{'#' * filled}{'.' * (24 - filled)}] {share:4.0%} {shown}"
        print(f"\r{self._label[:40]} {shown}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self._on and self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
