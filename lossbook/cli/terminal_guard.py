"""Keeps a terminal from being steered: whatever a command prints, only text and our own colours get there.

A run's folder may come from anybody, and so may its names, notes and metrics. Where output is no terminal it stays as it is.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lossbook.formatting import harmless


class GuardedText(io.TextIOBase):
    """A text stream to a terminal; what is written through it is made harmless first."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    def write(self, text: str) -> int:
        self._stream.write(harmless(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True


@contextmanager
def guarded_terminal() -> Iterator[None]:
    """Guard standard output and standard error, each where it is a terminal."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is not None and getattr(stream, "isatty", lambda: False)():
            setattr(sys, name, GuardedText(stream))
    try:
        yield
    finally:
        for name, stream in before.items():
            if isinstance(getattr(sys, name), GuardedText):
                setattr(sys, name, stream)
