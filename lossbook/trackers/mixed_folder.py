"""A folder in which several trackers left runs: each is read by its own source, and all are shown together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import ClassVar

from lossbook.errors import LossbookError, StoreError
from lossbook.trackers.source import ForeignRow, ForeignRun, Source


class MixedFolder(Source):
    """Several sources of one folder.

    Args:
        found: the class of each, and what it is made with.
    """

    kind: ClassVar[str] = "folder"
    title: ClassVar[str] = "a folder of several trackers"
    tells_last_values: ClassVar[bool] = False

    def __init__(self, location: str, found: Sequence[tuple[type[Source], str]]) -> None:
        super().__init__(location)
        self._remarks: list[str] = []
        self._closed: list[str] = []
        self._parts: list[Source] = []
        for kind, place in found:
            try:
                self._parts.append(kind(place))
            except LossbookError as error:  # a library that is missing hides only its own runs
                self._closed.append(f"{error}; these runs are passed over")

    def runs(self) -> Iterator[ForeignRun]:
        """The runs of all that can be read; what cannot is a remark.

        Raises:
            StoreError: none of them can be read.
        """
        for _, run in self.runs_by_source():
            yield run

    def runs_by_source(self) -> Iterator[tuple[Source, ForeignRun]]:
        self._remarks = list(self._closed)
        failed = 0
        for part in self._parts:
            try:
                yield from [(part, run) for run in part.runs()]
            except LossbookError as error:
                failed += 1
                self._remarks.append(f"{error}; it was passed over")
            self._remarks += part.remarks()
        if failed == len(self._parts):
            raise StoreError(f"nothing in {os.path.abspath(self.location)} can be read: {self._remarks[0]}")

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        raise StoreError("the rows of a folder of several trackers are read from its parts")

    def remarks(self, run: ForeignRun | None = None) -> Sequence[str]:
        return () if run is not None else self._remarks
