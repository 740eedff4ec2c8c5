"""What trainers printed, kept as text: the lines of known shapes become entries, all others are counted and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from typing import ClassVar, NamedTuple

from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.format import SAMPLE_BYTES, LogFormat, lines_before
from lossbook.trackers.logs.line_formats import BAR, LONGEST_LINE, parse_line
from lossbook.trackers.logs.log import Entry, Log

_CHUNK_BYTES = 1 << 18
#: A line of JSON may be long; more of one line is never held.
_LONGEST_BYTES = 1 << 20
#: Entries of a sample that say what a file is.
_MOST_ENTRIES = 200


class TextLine(NamedTuple):
    """A line, its number, and the offset behind it; without its text where it is too long to be held."""

    text: str | None
    number: int
    end: int


class Text(LogFormat):
    """Printed lines: nanoGPT, llm.c, Megatron, NeMo, torchtitan, fairseq and others (`LINE_FORMATS`)."""

    kind: ClassVar[str] = "text"
    title: ClassVar[str] = "text"
    endings: ClassVar[tuple[str, ...]] = (".log", ".out", ".txt", ".stdout", ".stderr", ".err")

    def look(self, path: str, options: LogOptions) -> Log | None:
        with open(path, "rb") as file:
            head = file.read(4096)
        if b"\0" in head:
            return None
        log = self.with_columns(Log(path, self.kind, options=options))
        if log is None:
            return None
        sample = self.sample(log)
        # A single line of a README may look like one of a training.
        return log if len(sample) > 1 or any("loss" in key for entry in sample for key in entry.values) else None

    def sample(self, log: Log) -> list[Entry]:
        found: list[Entry] = []
        for line in read_lines(log.path, 0):
            if line.end > SAMPLE_BYTES or len(found) >= _MOST_ENTRIES:
                break
            entry = _entry(line)
            if entry is not None:
                found.append(entry[1])
        return found

    def entries(self, log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
        shapes: Counter[str] = Counter()
        passed: list[TextLine] = []
        lines = numbers = 0
        drawn: Entry | None = None
        for line in read_lines(log.path, start):
            lines += 1
            made = _entry(line)
            if made is None:
                if line.text is None or any(letter.isdigit() for letter in line.text[:LONGEST_LINE]):
                    numbers += 1
                    if len(passed) < 3:
                        passed.append(line)
                continue
            title, entry = made
            shapes[title] += 1
            # Of a bar that is drawn again and again the last is read, so that any place behind it is a place to go on.
            if drawn is not None and (title != BAR or (drawn.values, drawn.step) != (entry.values, entry.step)):
                yield drawn
            drawn = entry if title == BAR else None
            if drawn is None:
                yield entry
        if drawn is not None:
            yield drawn
        if numbers:
            shown = "; ".join(f"line {line.number}: {_shortened(line.text)}" for line in passed)
            remarks.append(
                f"{sum(shapes.values())} of {lines} lines are read ({', '.join(shapes) or 'none'}); {numbers} others have "
                f"numbers and were passed over, such as {shown}"
            )


def read_lines(path: str, start: int) -> Iterator[TextLine]:
    """The whole lines of a file from an offset on, ended by a line feed or by a carriage return."""
    number, offset, rest, is_long = lines_before(path, start), start, b"", False
    with open(path, "rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            pieces = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            rest = pieces.pop()
            for piece in pieces:
                number += 1
                offset += len(piece) + 1
                text = None if is_long else piece.decode("utf-8", "replace").lstrip("\ufeff")
                is_long = False
                if text is None or text.strip():
                    yield TextLine(text, number, offset)
            if len(rest) > _LONGEST_BYTES:
                offset += len(rest)
                rest, is_long = b"", True


def _entry(line: TextLine) -> tuple[str, Entry] | None:
    """Whose shape a line has, and what it says; None where it has none."""
    if line.text is None or (len(line.text) > LONGEST_LINE and '{"' not in line.text):
        return None
    found = parse_line(line.text)
    if found is None:
        return None
    shape, (values, step, time, rank) = found
    return shape.title, Entry(values, line.number, line.end, step=step, time=time, rank=rank)


def _shortened(text: str | None) -> str:
    return "(a line of more than a megabyte)" if text is None else repr(" ".join(text.split())[:60])
