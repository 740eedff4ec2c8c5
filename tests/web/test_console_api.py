"""`/api/run/console`: what was printed, by line, from its end, as it grows, and searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import BadArgument, StoreError
from lossbook.web import schemas
from lossbook.web.api import console
from lossbook.web.api.console import ConsoleQuestion, SearchQuestion
from lossbook.web.session import Session

LINES = 1000


@pytest.fixture
def log(store: Path) -> Path:
    """What rank 0 of a run printed: a thousand lines, one of them coloured."""
    with lossbook.init(store=store, project="p", id="one") as run:
        print(
            "\n".join(
                f"step {number}: \x1b[1;31mLOSS\x1b[0m" if number == 7 else f"step {number}" for number in range(LINES)
            )
        )
    return Path(run.path) / "console/r0.log"


@pytest.fixture
def session(store: Path, log: Path) -> Iterator[Session]:
    session = Session(lossbook.open(store))
    yield session
    session.close()


def asked(session: Session, **more: Any) -> schemas.Console:
    return console.console(session, ConsoleQuestion("p", "one", **more))


def searched(session: Session, text: str, **more: Any) -> schemas.ConsoleFound:
    return console.search(session, SearchQuestion("p", "one", text, **more))


def test_the_end_is_given_where_nothing_is_said(session: Session) -> None:
    answer = asked(session, limit=3)
    assert [(line.number, line.text) for line in answer.lines] == [
        (997, "step 997"),
        (998, "step 998"),
        (999, "step 999"),
    ]
    assert (answer.total, answer.whole, answer.at_end) == (LINES, True, True)
    assert asked(session, start=-3) == answer
    assert [line.number for line in asked(session, start=-2, limit=10).lines] == [998, 999]


def test_lines_from_a_number_on(session: Session) -> None:
    answer = asked(session, start=500, limit=2)
    assert [(line.number, line.text) for line in answer.lines] == [(500, "step 500"), (501, "step 501")]
    assert not answer.at_end
    assert asked(session, start=10**18).lines == []
    assert asked(session, start=2**70).lines == []


def test_colours_are_spans_and_no_part_of_the_text(session: Session) -> None:
    (line,) = asked(session, start=7, limit=1).lines
    assert line.text == "step 7: LOSS"
    (span,) = line.spans
    assert line.text[span.start : span.end] == "LOSS"
    assert set(span.style.split()) == {"bold", "red"}


def test_what_is_printed_meanwhile_follows(session: Session, log: Path) -> None:
    answer = asked(session, limit=1)
    with open(log, "a") as file:
        file.write("epoch 1\n 50%")
    answer = asked(session, offset=answer.next_offset)
    assert [(line.number, line.text, line.whole) for line in answer.lines] == [
        (1000, "epoch 1", True),
        (1001, " 50%", False),
    ]
    with open(log, "a") as file:
        file.write("\r100%\ndone\n")
    answer = asked(session, offset=answer.next_offset)
    assert [(line.number, line.text, line.whole) for line in answer.lines] == [
        (1001, "100%", True),
        (1002, "done", True),
    ]
    assert asked(session, offset=answer.next_offset).lines == []


def test_a_huge_log_that_was_not_counted_has_its_last_lines_all_the_same(session: Session, log: Path) -> None:
    block = b"x" * 99 + b"\n"
    with open(log, "r+b") as file:
        # A log of a gigabyte, most of which is one hole in the file.
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + block * 50)
    answer = asked(session, limit=3)
    assert [line.text for line in answer.lines] == ["x" * 99] * 3
    assert [line.number for line in answer.lines] == [-3, -2, -1]
    assert not answer.whole
    assert len({line.offset for line in answer.lines}) == 3


def test_a_search_finds_lines_of_either_case(session: Session) -> None:
    answer = searched(session, "loss")
    assert [(line.number, line.text) for line in answer.lines] == [(7, "step 7: LOSS")]
    assert answer.next is None
    assert answer.searched == 1.0


def test_a_search_goes_on_from_where_it_stopped(session: Session) -> None:
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        answer = searched(session, "step 99", start=start, limit=4)
        found += [line.number for line in answer.lines]
        start = answer.next
    assert found == [99, *range(990, 1000)]
    assert searched(session, "step 7", start=10**18).lines == []
    assert [line.number for line in searched(session, "step 7", start=780).lines] == [*range(780, 800)]


@pytest.mark.parametrize(
    "question",
    [{"limit": 0}, {"limit": 10**6}, {"offset": -1}, {"start": 1, "offset": 1}, {"start": -1, "limit": 0}],
)
def test_numbers_that_cannot_be_meant_are_refused(session: Session, question: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        asked(session, **question)


@pytest.mark.parametrize("question", [{"text": ""}, {"text": "x", "limit": 0}, {"text": "x", "start": -5}])
def test_searches_that_cannot_be_meant_are_refused(session: Session, question: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        searched(session, **question)


def test_a_rank_that_printed_nothing_has_no_lines(session: Session) -> None:
    assert asked(session, rank=5) == schemas.Console([], 0, True)
    assert asked(session, rank=5, start=100).lines == []
    assert searched(session, "x", rank=5).lines == []
    assert asked(session, rank=2**80).lines == []


def test_a_pipe_in_place_of_a_log_holds_up_nobody(session: Session, log: Path) -> None:
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(StoreError):
        asked(session)


def test_a_log_that_was_begun_again_is_read_from_its_beginning(session: Session, log: Path) -> None:
    answer = asked(session)
    log.write_text("new\n")
    assert [line.text for line in asked(session, offset=answer.next_offset).lines] == ["new"]


def test_the_console_is_served(served: Callable[..., Any], store: Path, log: Path) -> None:
    server = served(store)
    here: dict[str, Any] = {"project": "p", "run": "one"}
    assert server.get("/api/run/console", **here, start=-1)["lines"][0]["text"] == "step 999"
    assert server.get("/api/run/console/search", **here, text="LOSS")["lines"][0]["number"] == 7
    assert server.ask("/api/run/console", **here, rank="x").status == 400
