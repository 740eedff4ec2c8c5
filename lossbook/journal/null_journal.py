"""A journal that takes every row and writes none: `mode="disabled"`."""

from __future__ import annotations

from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.writer import Journal
from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder
from lossbook.run_info import Attempt


class NullJournal(Journal):
    """Takes whatever it is given, of any type; its step never moves."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(RunFolder(""), 0, AttemptRow(Attempt(), 0))

    def append(self, scalars: dict[str, float], step: int | None) -> None:
        pass

    def append_scalars(self, scalars: dict[str, float], step: int | None, *, time_us: int | None = None) -> None:
        pass

    def append_event(self, kind: str, value: JsonObject, *, key: str | None = None, step: int | None = None) -> None:
        pass

    def put_file(self, path: str, contents: bytes) -> None:
        pass

    def append_text(self, path: str, text: bytes) -> None:
        pass

    def begin_segment(self) -> bool:
        return True

    def count_lost(self, error: OSError) -> None:
        pass

    def sync(self) -> bool:
        return True
