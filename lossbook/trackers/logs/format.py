"""What a format of logs promises: it recognises its files, and streams the entries of one from any place on."""

from __future__ import annotations

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import ClassVar

from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.columns import SAMPLE_ROWS, choose_columns
from lossbook.trackers.logs.log import Entry, Log

#: A file's last line without its newline is taken when nobody has written to the file for so long.
QUIET_SECONDS = 10.0
#: So much of a file is looked at to find out what it is.
SAMPLE_BYTES = 4 << 20


class LogFormat(ABC):
    """One format of logs. `kind` names it in a `Log`, `title` in sentences; `endings` are those of its files."""

    kind: ClassVar[str]
    title: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]

    @abstractmethod
    def look(self, path: str, options: LogOptions) -> Log | None:
        """The log that a file is; None where it is not of this format, or no row of it has a number beside its step.

        Raises:
            OSError: it cannot be read.
            BadArgument: an option does not fit it.
        """

    @abstractmethod
    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        """What stands in a log from a place on (`Entry.end` of an earlier entry, or 0).

        Args:
            remarks: gets a sentence about what was passed over, when all is read.
        """

    def sample(self, log: Log) -> list[Entry]:
        """The first entries of a log."""
        with contextlib.closing(self.entries(log, 0, [])) as entries:
            within = itertools.takewhile(lambda entry: log.entries is not None or entry.end < SAMPLE_BYTES, entries)
            return list(itertools.islice(within, SAMPLE_ROWS))

    def with_columns(self, log: Log) -> Log | None:
        """The log with its columns, by its first entries; None where it is none."""
        columns = choose_columns(os.path.basename(log.path), self.sample(log), log.options)
        return log._replace(columns=columns) if columns is not None else None


def lines_before(path: str, offset: int) -> int:
    """How many lines end in front of an offset, so that what is said of a line names its number in the file."""
    count, left = 0, offset
    if offset:
        with open(path, "rb") as file:
            while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                count += chunk.count(b"\n")
                left -= len(chunk)
    return count
