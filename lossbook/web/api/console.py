"""What the ranks of a run printed: any lines, the last ones, what came since, and a search."""

from __future__ import annotations

from dataclasses import dataclass

from lossbook.errors import BadArgument
from lossbook.paths import RunFolder
from lossbook.reading import ConsoleLine as Printed, ConsolePage, follow_console, read_console, search_console
from lossbook.web import schemas
from lossbook.web.routing import get
from lossbook.web.session import Session

MOST_MATCHES = 1_000
_FAR = 1 << 60


@dataclass(frozen=True)
class ConsoleQuestion:
    """`start`: a line's number, or -N for the last N; `offset`: in bytes, to read on from an answer; neither: the end."""

    project: str
    run: str
    rank: int = 0
    start: int | None = None
    offset: int | None = None
    limit: int = 200


@dataclass(frozen=True)
class SearchQuestion:
    project: str
    run: str
    text: str
    rank: int = 0
    start: int = 0
    limit: int = 100


def console(session: Session, question: ConsoleQuestion) -> schemas.Console:
    """Some lines of what a rank printed; none where it printed nothing.

    Raises:
        BadArgument: the numbers cannot be meant.
        StoreError: the log is there and cannot be read.
    """
    folder, rank, limit = session.run(question.project, question.run).folder, question.rank, question.limit
    if question.offset is not None:
        if question.start is not None:
            raise BadArgument("start and offset both say where to begin: give one of them")
        page = follow_console(folder, rank, question.offset, lines=limit)
    elif question.start is None or question.start < 0:
        most = limit if question.start is None else min(limit, -question.start)
        page = read_console(folder, rank, lines=most)
    else:
        page = read_console(folder, rank, start_line=min(question.start, _FAR), lines=limit)
    last = page.lines[-1].number if page.lines else page.first_line
    known = last + len(page.lines[-1:]) if last is not None else 0
    return schemas.Console(
        lines=_lines(page.lines, before_end=len(page.lines) if page.at_end else 0),
        total=page.total_lines if page.total_lines is not None else known,
        whole=page.total_lines is not None,
        next_offset=page.next_offset,
        at_end=page.at_end,
        bytes=page.size_bytes,
    )


def _lines(lines: tuple[Printed, ...], before_end: int = 0) -> list[schemas.ConsoleLine]:
    return [
        schemas.ConsoleLine(
            number=line.number if line.number is not None else position - before_end,
            text=line.text,
            offset=line.offset,
            spans=[schemas.ConsoleSpan(span.start, span.end, span.style) for span in line.spans],
            whole=line.is_whole,
            cut=line.is_cut,
        )
        for position, line in enumerate(lines)
    ]


def search(session: Session, question: SearchQuestion) -> schemas.ConsoleFound:
    """Lines that hold a text, upper and lower case alike, from a line on.

    Raises:
        BadArgument: there is no text, or the numbers cannot be meant.
        StoreError: the log is there and cannot be read.
    """
    if not 1 <= question.limit <= MOST_MATCHES:
        raise BadArgument(f"limit={question.limit}: a search gives 1 to {MOST_MATCHES:,} lines")
    folder, rank = session.run(question.project, question.run).folder, question.rank
    begin = read_console(folder, rank, start_line=min(question.start, _FAR), lines=1).offset if question.start else 0
    found = search_console(folder, rank, question.text, offset=begin, most=question.limit)
    behind = found.next_offset if found.next_offset is not None else found.size_bytes
    return schemas.ConsoleFound(
        lines=_lines(found.lines),
        next=_line_at(folder, rank, found.next_offset) if found.next_offset is not None else None,
        searched=behind / found.size_bytes if found.size_bytes else 1.0,
    )


def _line_at(folder: RunFolder, rank: int, offset: int) -> int | None:
    """The number of the line that begins at an offset; None where the log has become shorter."""
    page: ConsolePage = follow_console(folder, rank, offset, lines=1)
    if page.first_line is None:
        # Far beyond what has been counted, because of one huge line: count it all once.
        read_console(folder, rank, start_line=_FAR, lines=1)
        page = follow_console(folder, rank, offset, lines=1)
    return page.first_line if page.offset == offset else None


ROUTES = [
    get("/api/run/console", ConsoleQuestion, console),
    get("/api/run/console/search", SearchQuestion, search),
]
