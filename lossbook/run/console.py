"""Keeps what this process prints through Python's streams.

The `write` of `sys.stdout` and `sys.stderr` is wrapped, so loggers that hold the stream are caught as well. What
C libraries and other programs print past Python is not. A notebook's streams hand over what they print themselves, in
every cell and from every thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from lossbook.handlers import is_of_handler
from lossbook.redaction import mask_text
from lossbook.run.console_text import ConsoleText

_Write = Callable[[str], int]
#: A text that is shorter holds no secret in a known form.
_SHORTEST_SECRET = 8


class Console:
    """Copies everything printed to a sink, until stopped.

    Args:
        sink: takes the bytes of each write; must not raise.
    """

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._text = ConsoleText()
        self._begun: str | None = None
        # Re-entrant: a signal handler may print while something else is being kept.
        self._lock = threading.RLock()
        self._wrapped: list[tuple[TextIO, _Write, _Write]] = []
        self._echoes: list[tuple[Any, _Echo]] = []
        self._copying = False
        self._was_reached = False

    def start(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            # A notebook's stream: IPython puts another `write` in its place for each cell, but an echo stays.
            if hasattr(stream, "echo") and hasattr(stream, "pub_thread"):
                echo = _Echo(stream.echo, self.copy)
                stream.echo = echo
                self._echoes.append((stream, echo))
            else:
                self._wrap(stream)
        self._copying = True

    def renew(self) -> None:
        """Wrap the streams again that IPython has unwrapped at the end of a cell."""
        for stream in (sys.stdout, sys.stderr) if self._copying and not self._echoes else ():
            self._was_reached = False
            stream.write("")
            if not self._was_reached:
                self._wrap(stream)

    def stop(self) -> None:
        """Take the wrappers off; one that somebody has wrapped since stays, and copies nothing any more."""
        if self._copying:
            self._copying = False
            self._end_text()
        for stream, echo in self._echoes:
            if stream.echo is echo:
                stream.echo = echo.before
        for stream, original, wrapper in self._wrapped:
            if getattr(stream, "write", None) is wrapper:
                try:
                    del stream.write
                except AttributeError:
                    stream.write = original  # type: ignore[method-assign]  # as in _wrap()
        self._wrapped.clear()
        self._echoes.clear()

    def copy(self, text: str) -> None:
        """Copy a text as if it had been printed; never raises."""
        if self._copying and text:
            try:
                self._copy(text)
            except Exception as error:  # the user's print() must not fail for our copy's sake
                if is_of_handler(error):
                    raise
                self._copying = False

    def _wrap(self, stream: Any) -> None:
        original = getattr(stream, "write", None)
        if original is None:
            return
        wrapper = self._wrapper(original)
        try:
            stream.write = wrapper
        except AttributeError:  # a stream that takes no attributes is left alone
            return
        self._wrapped.append((stream, original, wrapper))

    def _wrapper(self, original: _Write) -> _Write:
        def write(text: str) -> int:
            written = original(text)
            self._was_reached = True
            self.copy(text)
            return written

        return write

    def enter_child(self, *, keeps: bool) -> None:
        """In a forked child: go on with a text of its own, or keep nothing more."""
        # Another thread may have been printing in the parent.
        self._text = ConsoleText()
        self._lock = threading.RLock()
        # Whole lines, because its siblings and its parent add to the same file.
        self._begun = ""
        self._copying = self._copying and keeps

    def _copy(self, text: str) -> None:
        if type(text) is not str:
            text = str(text)
        with self._lock:
            if self._begun is not None:
                text = self._begun + text
                end = text.rfind("\n") + 1
                text, self._begun = text[:end], text[end:]
            kept = self._text.take(mask_text(text) if len(text) >= _SHORTEST_SECRET else text)
            if kept:
                self._sink(kept.encode("utf-8", "replace"))

    def _end_text(self) -> None:
        try:
            with self._lock:
                rest = (self._text.take(mask_text(self._begun)) if self._begun else "") + self._text.end()
                if rest:
                    self._sink(rest.encode("utf-8", "replace"))
        except Exception as error:  # as in copy()
            if is_of_handler(error):
                raise


class _Echo:
    """What a notebook's stream hands everything to that is printed.

    Attributes:
        before: what it was handed to before, if anything.
    """

    def __init__(self, before: Any, copy: Callable[[str], None]) -> None:
        self.before = before
        self._copy = copy

    def write(self, text: str) -> int:
        if self.before is not None:
            self.before.write(text)
        self._copy(text)
        return len(text)

    def flush(self) -> None:
        if self.before is not None:
            self.before.flush()
