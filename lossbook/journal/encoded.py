"""What the journals share that do not write a row themselves: each row is encoded at once, and handed to `_put`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import orjson

from lossbook.journal.line import NEWLINE, encode_event, encode_scalars
from lossbook.journal.writer import Journal, NotPlain
from lossbook.json_shapes import JsonObject


class EncodedJournal(Journal, ABC):
    """A `Journal` whose rows are lines without a number until something else writes them."""

    __slots__ = ("_mark",)

    #: Stands in place of the row's number.
    _mark: int

    def append(self, scalars: dict[str, float], step: int | None) -> None:
        with self._lock:
            if step is None:
                step = self.step + 1
            elif type(step) is not int or not -(1 << 63) <= step < 1 << 63:
                raise NotPlain
            line = orjson.dumps({"i": self._mark, "t": self.now_us(), "s": step, "m": scalars}, None, NEWLINE)
            total = sum(scalars.values())
            if total - total != 0:
                raise NotPlain
            self.step = step
            self._put(line)

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        with self._lock:
            step = self.step + 1 if step is None else step
            if time_us is None:
                self.step = step
            logged_us = self.now_us() if time_us is None else time_us
            self._put(encode_scalars(self._mark, logged_us, step, scalars))

    def append_event(self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None) -> None:
        self._put(encode_event(self._mark, self.now_us(), step, kind, key, value))

    def append_line(self, line: bytes) -> None:
        self._put(line)

    def put_file(self, path: str, contents: bytes) -> None:
        self._put(contents, f"file:{path}")

    def append_text(self, path: str, text: bytes) -> None:
        self._put(text, f"text:{path}")

    @abstractmethod
    def _put(self, contents: bytes, target: str = "") -> None:
        """Take a line, or what belongs into another file of the run."""
