"""`/api/run/events` and `/api/run/table`: what happened beside the curves, live and sealed, as much as was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from waiting import wait_until

import lossbook
from lossbook.errors import BadArgument, DamagedFile
from lossbook.reading import event_pages, live_events
from lossbook.storage.compaction import seal_run
from lossbook.web import schemas
from lossbook.web.api import events
from lossbook.web.api.events import EventsQuestion, TableQuestion, pages_of
from lossbook.web.file_response import TooLarge
from lossbook.web.session import Session

STEPS = 40


@pytest.fixture
def begun(store: Path) -> Iterator[lossbook.Run]:
    """A run that goes on: a histogram every step, and one of everything else."""
    run = lossbook.init(store=store, project="p", id="one", console=False)
    for step in range(STEPS):
        run.log({"loss": 1 / (step + 1)}, step=step)
        run.log({"weights": lossbook.Histogram(numpy.linspace(-step, step, 50), bins=8)}, step=step)
    run.log(
        {"sample": lossbook.Text("once upon"), "picture": lossbook.Image(numpy.zeros((3, 5)), caption="ü")}, step=STEPS
    )
    run.log({"small": lossbook.Table(columns=["a", "b"], rows=[[1, "x"], [2, None]])}, step=STEPS)
    run.log({"large": lossbook.Table(columns=["n"], rows=[["z" * 60 + str(n)] for n in range(3000)])}, step=STEPS)
    run.alert("loss spike", text="twice the median", level="warning")
    run.checkpoint("out/best.pt", step=30, is_best=True)
    run.stage("annealing")
    run.note("the data changed")
    yield run
    run.finish()


@pytest.fixture(params=["live", "sealed", "both"])
def session(request: pytest.FixtureRequest, store: Path, begun: lossbook.Run) -> Iterator[Session]:
    """A session of that run while it is a journal, when it is sealed, and when it is some of each."""
    session = Session(lossbook.open(store))
    if request.param != "live":
        begun.finish()
        if request.param == "both":
            events.events(session, EventsQuestion("p", "one"))
        seal_run(session.run("p", "one").folder, finished=True)
    yield session
    session.close()


def asked(session: Session, *kinds: str, **more: Any) -> schemas.Events:
    return events.events(session, EventsQuestion("p", "one", kind=list(kinds), **more))


def test_every_kind_of_row_comes_with_its_value(session: Session) -> None:
    found = {one.kind: one for one in asked(session, "text", "image", "alert", "checkpoint", "stage", "note").events}
    assert found["text"].value == {"text": "once upon"}
    assert (found["text"].key, found["text"].step) == ("sample", STEPS)
    image = found["image"].value
    assert (image["width"], image["height"], image["caption"]) == (5, 3, "ü")
    assert image["file"].startswith("media/")
    assert found["alert"].value == {"title": "loss spike", "text": "twice the median", "level": "warning"}
    assert (found["checkpoint"].step, found["checkpoint"].value["is_best"]) == (30, True)
    assert found["stage"].value == {"name": "annealing"}
    assert found["note"].value == {"text": "the data changed"}


def test_it_is_what_the_reading_api_says_in_the_same_order(session: Session) -> None:
    expected = [one for one in session.run("p", "one").events() if one["kind"] != "finish"]
    found = [one for one in asked(session).events if one.kind != "finish"]
    assert [(one.rank, one.row, one.time, one.value) for one in found] == [
        (one["rank"], one["row"], one["time"], one["value"]) for one in expected
    ]


def test_events_of_one_key(session: Session) -> None:
    answer = asked(session, key="weights")
    assert (answer.total, len(answer.events), answer.left_out) == (STEPS, STEPS, 0)
    assert {one.key for one in answer.events} == {"weights"}
    assert asked(session, key="weight").total == 0


def test_the_newest_are_given_where_there_are_too_many(session: Session) -> None:
    answer = asked(session, "histogram", limit=3)
    assert [one.step for one in answer.events] == [37, 38, 39]
    assert (answer.total, answer.left_out) == (STEPS, STEPS - 3)


def test_thinned_events_are_spread_over_the_steps_with_the_first_and_the_last(session: Session) -> None:
    answer = asked(session, "histogram", limit=5, thin=True)
    assert [one.step for one in answer.events] == [0, 10, 20, 30, 39]
    assert (answer.total, answer.left_out) == (STEPS, STEPS - 5)
    assert [one.step for one in asked(session, "histogram", limit=1, thin=True).events] == [0]
    assert len(asked(session, "histogram", limit=STEPS, thin=True).events) == STEPS


def test_only_what_came_later(session: Session) -> None:
    everything = asked(session).events
    later = asked(session, after=everything[-3].time).events
    assert [one.row for one in later] == [one.row for one in everything if one.time > everything[-3].time]
    assert asked(session, after=1e300).events == []
    assert asked(session, after=-1e300).total == len(everything)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_limit_that_cannot_be_meant_is_refused(session: Session, limit: int) -> None:
    with pytest.raises(BadArgument, match="limit"):
        asked(session, limit=limit)


def test_kinds_are_counted(session: Session) -> None:
    found = pages_of(session, session.run("p", "one")).count_kinds()
    assert found["histogram"] == STEPS
    assert (found["table"], found["text"], found["alert"]) == (2, 1, 1)


def test_an_odd_key_finds_nothing_rather_than_everything(session: Session) -> None:
    for key in ("' OR 1=1 --", "", "{files}", "\0", "weights'"):
        assert asked(session, key=key).total == 0
    assert asked(session, "' OR ''='").total == 0


# -- tables ---------------------------------------------------------------------------------------------------------


def table(session: Session, key: str, **more: Any) -> schemas.TablePage:
    (event,) = asked(session, key=key).events
    return events.table(session, TableQuestion("p", "one", event.row, **more))


def test_a_small_table_is_in_its_row(session: Session) -> None:
    assert table(session, "small") == schemas.TablePage(["a", "b"], [[1, "x"], [2, None]], 2)


def test_a_large_table_is_read_a_page_at_a_time(session: Session) -> None:
    page = table(session, "large", start=2998, limit=10)
    assert page.count == 3000
    assert page.rows == [["z" * 60 + "2998"], ["z" * 60 + "2999"]]
    assert table(session, "large", start=5000).rows == []


def test_what_is_no_table_is_refused(session: Session) -> None:
    (text,) = asked(session, "text").events
    for row in (text.row, 10**9, -1, 2**62):
        with pytest.raises(BadArgument, match="no table"):
            events.table(session, TableQuestion("p", "one", row))
    with pytest.raises(BadArgument, match="lines"):
        table(session, "small", start=-1)
    with pytest.raises(BadArgument, match="lines"):
        table(session, "small", limit=10**6)


def test_a_table_whose_file_is_gone_or_damaged_says_so(session: Session, begun: lossbook.Run) -> None:
    (event,) = asked(session, key="large").events
    path = Path(begun.path) / event.value["file"]
    path.write_bytes(b"[1, 2")
    with pytest.raises(DamagedFile, match="damaged"):
        table(session, "large")
    path.write_bytes(b"[1, 2]")
    with pytest.raises(DamagedFile, match="no JSON object"):
        table(session, "large")
    path.write_bytes(b'{"columns": 3}')
    with pytest.raises(DamagedFile, match="no whole table"):
        table(session, "large")
    path.unlink()
    with pytest.raises(DamagedFile, match="missing"):
        table(session, "large")


def test_a_table_that_is_too_large_to_show_is_something_to_save(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LARGEST_TABLE_BYTES", 1000)
    with pytest.raises(TooLarge, match="save media/"):
        table(session, "large")


# -- large, live, damaged --------------------------------------------------------------------------------------------


def test_large_values_are_cut_and_say_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "LARGEST_VALUE_BYTES", 4000)
    monkeypatch.setattr(event_pages, "MOST_BYTES", 20_000)
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.log({"histogram": lossbook.Histogram(numpy.arange(9.0), bins=1000)}, step=0)
        for step in range(20):
            run.log({"text": lossbook.Text("ü" * 3000)}, step=step)
    session = Session(lossbook.open(store))
    for sealed in (False, True):
        if sealed:
            seal_run(session.run("p", "one").folder, finished=True)
        (histogram,) = asked(session, "histogram").events
        assert histogram.cut
        assert histogram.value == {}
        texts = asked(session, "text")
        assert texts.events[-1].cut
        assert set(texts.events[-1].value["text"]) == {"ü"}
        assert texts.events[-1].step == 19
        assert texts.total == 20
        assert texts.left_out == 20 - len(texts.events) > 0
    session.close()


def test_a_run_that_is_written_is_read_on_from_where_the_last_answer_ended(
    store: Path, begun: lossbook.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(lossbook.open(store))
    before = asked(session)
    parsed: list[bytes] = []
    decode = live_events.decode
    monkeypatch.setattr(live_events, "decode", lambda line: parsed.append(line) or decode(line))
    begun.log({"loss": 1.0}, step=100)
    begun.note("one more")
    answer = asked(session, "note")
    assert [one.value["text"] for one in answer.events] == ["the data changed", "one more"]
    assert asked(session).total == before.total + 1
    assert sum(b"one more" in line for line in parsed) <= 3
    assert not any(b'"m":' in line for line in parsed), "lines of scalars are not parsed"
    session.close()


@pytest.mark.slow
def test_events_are_complete_while_segments_are_sealed_and_merged_under_the_reader(
    store: Path, begun: lossbook.Run
) -> None:
    session = Session(lossbook.open(store))
    stop = threading.Event()
    counted: list[list[int]] = [[], [], []]
    failures: list[BaseException] = []

    def ask(mine: list[int]) -> None:
        while not stop.is_set():
            try:
                mine.append(asked(session, "note").total)
            except BaseException as error:
                failures.append(error)
                return

    asking = [threading.Thread(target=ask, args=(mine,)) for mine in counted]
    for thread in asking:
        thread.start()
    folder = session.run("p", "one").folder
    for attempt in range(12):
        begun.finish()
        begun = lossbook.init(store=store, project="p", id="one", resume="must", console=False)
        begun.note(f"attempt {attempt}")
        seal_run(folder, finished=False)
        answers = [len(mine) for mine in counted]
        wait_until(
            lambda before=answers: (
                failures or all(len(mine) > count for mine, count in zip(counted, before, strict=True))
            )
        )
    begun.finish()
    seal_run(folder, finished=True)
    stop.set()
    for thread in asking:
        thread.join()
    assert not failures, failures
    for mine in counted:
        assert mine == sorted(mine), "a note that was seen is never missed again"
    assert asked(session, "note").total == 13
    session.close()


def test_a_damaged_file_of_events_costs_its_events_and_one_sentence(store: Path, begun: lossbook.Run) -> None:
    begun.finish()
    session = Session(lossbook.open(store))
    folder = session.run("p", "one").folder
    seal_run(folder, finished=True)
    again = lossbook.init(store=store, project="p", id="one", resume="must", console=False)
    again.note("afterwards")
    again.finish()
    (parquet,) = Path(folder.events).glob("*.parquet")
    whole = parquet.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:200] + b"\0" * 800 + whole[1000:], b"\0" * len(whole)):
        parquet.write_bytes(damaged)
        fresh = Session(lossbook.open(store))
        answer = asked(fresh, "note")
        assert [one.value["text"] for one in answer.events][-1] == "afterwards"
        if answer.total == 1:
            assert len(answer.problems) == 1
            assert str(parquet) in answer.problems[0]
        pages_of(fresh, fresh.run("p", "one")).count_kinds()
        fresh.close()
    session.close()


def test_a_damaged_and_a_torn_line_cost_themselves_alone(store: Path, begun: lossbook.Run) -> None:
    session = Session(lossbook.open(store))
    total = asked(session).total
    with open(Path(begun.path) / "journal/r0-000001.jsonl", "ab") as file:
        file.write(b'{"i":1,"k":"note"\n{"i":"x","t":1,"k":"note","v":{}}\n\xff\xfe"k":\n{"i":9999,"t":17')
    assert asked(session).total == total
    with open(Path(begun.path) / "journal/r0-000001.jsonl", "ab") as file:
        file.write(b'63688000123456,"k":"note","v":{"text":"whole now"}}\n')
    assert asked(session, "note").total == 2
    session.close()


def test_a_metric_that_is_called_k_is_no_event(store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.log({"k": 1.0, '"k":': 2.0}, step=1)
    session = Session(lossbook.open(store))
    assert {one.kind for one in asked(session).events} == {"attempt", "finish"}
    session.close()


def test_events_of_all_ranks_come_by_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("LOSSBOOK_RANK", rank)
        monkeypatch.setenv("LOSSBOOK_WORLD_SIZE", "2")
        run = lossbook.init(store=store, project="p", id="one", console=False)
        run.note(f"rank {rank}")
        run.finish()
    session = Session(lossbook.open(store))
    assert [(one.rank, one.value["text"]) for one in asked(session, "note").events] == [(0, "rank 0"), (1, "rank 1")]
    session.close()


def test_events_are_served(served: Callable[..., Any], store: Path, begun: lossbook.Run) -> None:
    server = served(store)
    here: dict[str, Any] = {"project": "p", "run": "one"}
    answer = server.get("/api/run/events", **here, kind=["note", "stage"], limit=5)
    assert [one["kind"] for one in answer["events"]] == ["stage", "note"]
    (event,) = server.get("/api/run/events", **here, key="large")["events"]
    page = server.get("/api/run/table", **here, row=event["row"], start=1, limit=1)
    assert page == {"columns": ["n"], "rows": [["z" * 60 + "1"]], "count": 3000}
    assert server.ask("/api/run/events", **here, limit="x").status == 400
    assert server.ask("/api/run/events", project="p", run="none").status == 404
