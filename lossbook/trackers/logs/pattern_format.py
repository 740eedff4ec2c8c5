"""Logs of which a person says with a regular expression where the numbers stand."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from typing import ClassVar

from lossbook.errors import BadArgument
from lossbook.json_shapes import Json
from lossbook.reading import LinePattern
from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.columns import SAMPLE_ROWS
from lossbook.trackers.logs.format import SAMPLE_BYTES, LogFormat
from lossbook.trackers.logs.log import Entry, Log
from lossbook.trackers.logs.text_format import TextLine, read_lines

#: Lines that are asked for at once: asking for one costs as much as for thousands.
_BATCH_LINES = 5000
#: So long one batch may take.
_BATCH_SECONDS = 10.0


class Pattern(LogFormat):
    """Lines that fit `LogOptions.pattern`; its named groups are the columns."""

    kind: ClassVar[str] = "pattern"
    title: ClassVar[str] = "lines that fit --pattern"
    endings: ClassVar[tuple[str, ...]] = ()

    def look(self, path: str, options: LogOptions) -> Log | None:
        return self.with_columns(Log(path, self.kind, options=options))

    def sample(self, log: Log) -> list[Entry]:
        within = itertools.takewhile(lambda line: line.end < SAMPLE_BYTES, read_lines(log.path, 0))
        pattern, found = LinePattern(log.options.pattern or ""), list[Entry]()
        for batch in _batched(within, _BATCH_LINES):
            found += _fitting(pattern, batch)
            if len(found) >= SAMPLE_ROWS:
                break
        return found

    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        if log.options.pattern is None:
            raise BadArgument(f"{log.path} was imported with a pattern: name it again")
        pattern = LinePattern(log.options.pattern)
        lines = fitting = 0
        for batch in _batched(read_lines(log.path, start), _BATCH_LINES):
            lines += len(batch)
            found = _fitting(pattern, batch)
            fitting += len(found)
            yield from found
        if fitting < lines:
            remarks.append(f"{fitting} of {lines} lines fit the pattern; the others were passed over")


def _batched(lines: Iterator[TextLine], size: int) -> Iterator[list[TextLine]]:
    while batch := list(itertools.islice(lines, size)):
        yield batch


def _fitting(pattern: LinePattern, lines: list[TextLine]) -> list[Entry]:
    held = [line for line in lines if line.text is not None]
    groups = pattern.groups([line.text or "" for line in held], seconds=_BATCH_SECONDS)
    found = []
    for line, named in zip(held, groups, strict=True):
        if named is not None:
            values: dict[str, Json] = {name: text for name, text in named.items() if text}
            found.append(Entry(values, line.number, line.end))
    return found
