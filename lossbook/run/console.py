"""What the training process prints, kept in `console/r<rank>.log`.

The `write` of `sys.stdout` and `sys.stderr` is wrapped, so loggers that hold the stream are caught as well. What
C libraries and child processes print past Python is not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from lossbook.redaction import mask_text

_Write = Callable[[str], int]
#: Kept at the most, in bytes of text: a progress bar left on for weeks must not fill the disk.
LARGEST_CONSOLE_BYTES = 64 << 20


class Console:
    """Copies everything printed to a sink, until stopped.

    Args:
        sink: takes the bytes of each write; must not raise.
    """

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._left = LARGEST_CONSOLE_BYTES
        self._wrapped: list[tuple[TextIO, _Write, _Write]] = []
        self._copying = False

    def start(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            original = getattr(stream, "write", None)
            if original is None:
                continue
            wrapper = self._wrapper(original)
            try:
                stream.write = wrapper  # type: ignore[method-assign]
            except AttributeError:  # a stream that takes no attributes is left alone
                continue
            self._wrapped.append((stream, original, wrapper))
        self._copying = True

    def stop(self) -> None:
        """Take the wrappers off; one that somebody has wrapped since stays, and copies nothing any more."""
        self._copying = False
        for stream, original, wrapper in self._wrapped:
            if getattr(stream, "write", None) is wrapper:
                try:
                    del stream.write
                except AttributeError:
                    stream.write = original  # type: ignore[method-assign]  # as in start()
        self._wrapped.clear()

    def _wrapper(self, original: _Write) -> _Write:
        def write(text: str) -> int:
            written = original(text)
            if self._copying and text:
                try:
                    self._copy(text)
                except Exception:  # the user's print() must not fail for our copy's sake
                    self._copying = False
            return written

        return write

    def _copy(self, text: str) -> None:
        raw = mask_text(str(text)).encode("utf-8", "replace")
        if len(raw) > self._left:
            self._copying = False
            raw = f"\n[lossbook: console output past {LARGEST_CONSOLE_BYTES >> 20} MB is not kept]\n".encode()
        self._left -= len(raw)
        self._sink(raw)
