"""Each question of the dashboard comes to an end, and while a costly one is at work the others are answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from serving import Served

import lossbook
from lossbook.errors import BadQuery
from lossbook.reading import Question
from lossbook.web import api, server
from lossbook.web.routing import Route, get
from lossbook.web.session import Session

Serve = Callable[..., Served]

#: Each takes exponential or quadratic time with an engine that tries alternatives one after the other.
COSTLY = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){20}$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(a*)*b", "(?:a?){30}a{30}$"]


@pytest.fixture
def long_names(store: Path) -> Path:
    """A store with a run whose name costs the most."""
    for number in range(3):
        run = lossbook.init(store=store, project="p", name="a" * 5_000 + f"!{number}", console=False)
        run.log({"loss": 1.0})
        run.finish()
    return store


@pytest.mark.parametrize("pattern", COSTLY)
def test_no_pattern_takes_more_time_than_its_text_is_long(long_names: Path, served: Serve, pattern: str) -> None:
    answer = served(long_names).ask("/api/where", project="p", where=f"name ~ '{pattern}'")
    assert answer.status == 200


def test_what_the_engine_does_not_have_is_said(long_names: Path, served: Serve) -> None:
    running = served(long_names)
    for pattern in ("(?=a)", r"(a)\1", "(", "a{5000}", "((a{100}){100}){100}"):
        refused = running.ask("/api/where", project="p", where=f"name ~ '{pattern}'")
        assert refused.status == 400
        assert "no regular expression here" in refused.json["error"]


def test_a_pattern_means_what_it_meant(store: Path) -> None:
    for name in ("gpt2_adam", "gpt3_adam", "größe", "ends\\Z"):
        lossbook.init(store=store, project="p", name=name, console=False).finish()
    book = lossbook.open(store)
    found = {
        pattern: sorted(run.name for run in book.runs(where=f"name ~ '{pattern}'"))
        for pattern in ("^gpt[0-9]_", "adam$", r"3_adam\Z", r"\d", "(?i)GPT2", "größ", "(?P<n>gpt)3", "")
    }
    assert found["^gpt[0-9]_"] == found["adam$"] == [name for name in found[""] if name.startswith("gpt")]
    assert found[r"3_adam\Z"] == found["(?P<n>gpt)3"] == ["gpt3_adam"]
    assert found["(?i)GPT2"] == ["gpt2_adam"]
    assert found["größ"] == ["größe"]
    assert len(found[r"\d"]) == 2


def test_a_filter_that_takes_too_long_for_all_runs_is_given_up(
    long_names: Path, served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.project, "WHERE_SECONDS", 0.0)
    running = served(long_names)
    for where in ("name = 'x'", "name ~ 'x'"):
        refused = running.ask("/api/where", project="p", where=where)
        assert (refused.status, "longer than 0 seconds" in refused.json["error"]) == (400, True)
    listing = lossbook.open(long_names).listing()
    listing.look()
    with pytest.raises(BadQuery):
        listing.where("name = 'x'", seconds=-1.0)


@dataclass(frozen=True)
class SlowQuestion:
    pass


@pytest.fixture
def slow_route(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A route `/api/slow` whose query runs for hours; the event says that it has ended."""
    ended = threading.Event()

    def slow(session: Session, question: SlowQuestion) -> object:
        try:
            cursor = session.book.context.cursor()
            return cursor.execute(
                "SELECT count(*) FROM range(1e7::BIGINT) a, range(1e7::BIGINT) b WHERE a <> b"
            ).fetchall()
        finally:
            ended.set()

    before = api.routes

    def routes() -> list[Route]:
        return [*before(), get("/api/slow", SlowQuestion, slow)]

    monkeypatch.setattr(api, "routes", routes)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 1.0)
    yield ended
    assert ended.wait(30), "the query goes on"


def test_a_question_that_takes_too_long_is_ended_and_told_so(
    long_names: Path, served: Serve, slow_route: threading.Event
) -> None:
    running = served(long_names)
    slow = [running.ask("/api/slow") for _ in range(server.ANSWERERS + 1)]
    assert {one.status for one in slow} == {503}
    assert all("longer than 1 seconds" in one.json["error"] for one in slow)
    assert slow_route.wait(30)
    # Every thread is free again.
    assert running.get("/api/store")["projects"][0]["runs"] == 3
    assert running.get("/api/runs", project="p")["rows"]


def test_a_question_that_was_ended_takes_no_file_for_damaged(long_names: Path) -> None:
    book = lossbook.open(long_names)
    run = book.runs()[0]
    work = Question()
    with work.asked():
        assert run.curve("loss").last.tolist() == [1.0]
        work.end()
    assert run.curve("loss").last.tolist() == [1.0]
    assert book.run(run.id).record.problems == run.record.problems
