"""A fork has its parent's rows up to where it began: in curves, history, metrics, lists, SQL and exports alike."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from journals import BEGIN, ENDED, WrittenRun

import lossbook
from lossbook.book import Book
from lossbook.cli import main
from lossbook.paths import read_json, write_json
from lossbook.processes import this_place
from lossbook.reading.run import RecordedRun
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary

MINUTE = 60_000_000


def attempt(number: int, resume_step: int | None = None, **fields: Any) -> dict[str, Any]:
    return WrittenRun.attempt_entry(number, resume_step, **{**ENDED, **fields})


def rows(steps: range, value: float) -> list[tuple[int, dict[str, float]]]:
    return [(step, {"loss": value - step / 100, **({"val/loss": value} if step % 10 == 0 else {})}) for step in steps]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def family(store: Path) -> list[WrittenRun]:
    """A run that was rewound, of two ranks; a fork of it; and a fork of that."""
    base = WrittenRun(store / "p" / "base", project="p", name="base", attempts=[attempt(0), attempt(1, 40)])
    base.segment(rows(range(80), 9.0))
    base.segment(rows(range(80), 7.0), rank=1)
    base.segment(rows(range(41, 100), 5.0), attempt=1, end="finished")
    fork = WrittenRun(
        store / "p" / "fork",
        project="p",
        name="fork",
        created=BEGIN + 1,
        attempts=[attempt(0)],
        parent={"project": "p", "run": "base", "step": 60},
    )
    fork.segment([(61, {"loss": float("nan")}), *rows(range(62, 90), 4.0)], end="finished")
    twig = WrittenRun(
        store / "q" / "twig",
        project="q",
        name="twig",
        created=BEGIN + 2,
        attempts=[attempt(0)],
        parent={"project": "p", "run": "fork", "step": 70},
    )
    twig.segment([(step, {"loss": 2.0, "new": 1.0}) for step in range(71, 81)], end="finished")
    return [base, fork, twig]


def check_that_all_agree(book: Book, run: RecordedRun) -> None:
    """That every answer about a run's series is of the same rows."""
    listing = book.listing()
    listing.look()
    (key_of_run,) = [one for one in listing.keys(run.project) if one.id == run.id]
    where = f"run = '{run.id}' and key = ?"
    for key, known in run.metrics.items():
        curve = run.curve(key, points=5000)
        assert int(curve.count.sum()) == known["count"], key
        assert book.sql(f"select count(*) from metrics where {where}", [key]).rows() == [(known["count"],)]
        ((high, low, mean),) = book.sql(
            f"select max(value), min(value), avg(value) from finite_metrics where {where}", [key]
        ).rows()
        assert (high, low) == (known["max"], known["min"])
        assert mean == pytest.approx(known["mean"])
        last = book.sql(f"select value from metrics where {where} order by step desc limit 1", [key]).rows()[0][0]
        assert known["last"] == last or last != last
        assert listing.column(f'"{key}.count"', [key_of_run]) == [known["count"]]
    assert set(run.keys()) == set(run.metrics)
    steps = {line["step"] for line in run.history("loss").dicts()}
    assert steps == set(range((run.record.last_step or 0) + 1))


@pytest.mark.parametrize("sealed", [(), (0,), (1, 2), (0, 1, 2)])
def test_every_answer_about_a_fork_is_of_the_same_rows(
    store: Path, family: list[WrittenRun], sealed: tuple[int, ...]
) -> None:
    for number in sealed:
        seal_run(family[number].folder, finished=True)
    book = lossbook.open(store)
    for id, count in (("base", 59 + 2 * 41), ("fork", 20 + 2 * 41 + 29), ("twig", 20 + 2 * 41 + 10 + 10)):
        run = book.run(id)
        assert run.metrics["loss"]["count"] == count
        check_that_all_agree(book, run)
    assert book.run("fork").metrics["loss"]["nonfinite"] == 1
    assert book.best("loss", runs=["twig"])[1] == 2.0
    assert book.best("val/loss", project="q")[1] == 4.0
    assert [run.id for run in book.runs(where="val/loss.count > 1", sort="loss.count")] == ["twig", "fork", "base"]


def test_an_export_has_the_rows_of_the_parents(
    store: Path, family: list[WrittenRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    assert main(["export", "twig", "--long", "--output", str(tmp_path / "long.csv")]) == 0
    lines = (tmp_path / "long.csv").read_text().splitlines()
    assert len([line for line in lines if ",loss," in line]) == 20 + 2 * 41 + 10 + 10


def test_what_a_parent_logs_beyond_the_step_does_not_count(store: Path, family: list[WrittenRun]) -> None:
    base, fork, _ = family
    base.identity["attempts"][1] |= this_place()._asdict()
    base.write_identity()
    book = lossbook.open(store)
    listing = book.listing()
    listing.look()
    held, before = book.kept_run("p", "fork"), book.run("fork").metrics["loss"]
    base.segment(rows(range(100, 140), 1.0), attempt=1)
    assert book.run("fork").metrics["loss"] == book.kept_run("p", "fork").metrics["loss"] == before
    # A row up to there that comes late does.
    base.segment([(50, {"loss": 0.5})], attempt=1)
    listing.look(everything=True)
    for run in (book.run("fork"), book.kept_run("p", "fork"), held.refresh()):
        assert run.metrics["loss"]["count"] == before["count"] + 1
        assert run.metrics["loss"]["min"] == 0.5
    assert listing.column("loss.count")[listing.keys().index(("p", "fork"))] == before["count"] + 1
    check_that_all_agree(book, book.run("fork"))


def test_a_parent_that_went_away_or_came_back_is_seen_by_every_answer(store: Path, family: list[WrittenRun]) -> None:
    book = lossbook.open(store)
    listing = book.listing()
    listing.look()
    whole = book.run("fork").metrics["loss"]["count"]
    assert book.kept_run("p", "fork").metrics["loss"]["count"] == whole
    shutil.move(store / "p" / "base", store.parent / "elsewhere")
    listing.look(everything=True)
    at = listing.keys().index(("p", "fork"))
    found = [book.run("fork").metrics["loss"], book.kept_run("p", "fork").metrics["loss"]]
    assert [one["count"] for one in found] == [29, 29]
    assert listing.column("loss.count")[at] == 29
    assert any("base" in problem for problem in book.run("fork").problems())
    check_that_all_agree_about(book, "fork", 29)
    shutil.move(store.parent / "elsewhere", store / "p" / "base")
    listing.look(everything=True)
    assert book.run("fork").metrics["loss"]["count"] == whole
    assert book.kept_run("p", "fork").metrics["loss"]["count"] == whole
    assert listing.column("loss.count")[listing.keys().index(("p", "fork"))] == whole


def check_that_all_agree_about(book: Book, id: str, count: int) -> None:
    run = book.run(id)
    assert int(run.curve("loss").count.sum()) == count
    assert book.sql(f"select count(*) from metrics where run = '{id}' and key = 'loss'").rows() == [(count,)]


def test_a_fork_without_rows_of_its_own_is_where_it_began(store: Path, family: list[WrittenRun]) -> None:
    bud = WrittenRun(
        store / "p" / "bud", project="p", attempts=[attempt(0)], parent={"project": "p", "run": "base", "step": 30}
    )
    bud.segment([], end="finished")
    run = lossbook.open(store).run("bud")
    assert (run.record.last_step, run.metrics["loss"]["count"]) == (30, 62)


# -- durations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
def test_a_duration_is_the_sum_of_the_attempts(store: Path, sealed: bool) -> None:
    attempts = [attempt(0), attempt(1, 9, started=BEGIN + 100 * MINUTE), attempt(2, 19, started=BEGIN + 500 * MINUTE)]
    run = WrittenRun(store / "p" / "abc", project="p", attempts=attempts)
    times = [(0, 5), (100, 107), (500, 501)]
    for number, (begin, end) in enumerate(times):
        lines = [
            b'{"i":%d,"t":%d,"s":%d,"m":{"loss":1.0}}\n' % (number * 10 + at, BEGIN + minute * MINUTE, number * 10 + at)
            for at, minute in ((1, begin), (2, end))
        ]
        run.segment(lines, attempt=number)
    if sealed:
        seal_run(run.folder, finished=True)
    book = lossbook.open(store)
    for _ in range(2):
        assert book.run("abc").duration == pytest.approx(13 * 60, abs=5)
    listing = book.listing()
    listing.look()
    assert listing.column("duration") == [pytest.approx(13 * 60, abs=5)]
    wallclock = book.run("abc").curve("loss", x="wallclock").x
    assert wallclock.max() == pytest.approx(13 * 60, abs=5)


def test_a_summary_of_an_earlier_version_says_no_duration_and_is_read_all_the_same(store: Path) -> None:
    run = WrittenRun(
        store / "p" / "abc", project="p", attempts=[attempt(0), attempt(1, 9, started=BEGIN + 100 * MINUTE)]
    )
    run.segment([b'{"i":1,"t":%d,"s":1,"m":{"loss":1.0}}\n' % (BEGIN + 5 * MINUTE)])
    run.segment([b'{"i":3,"t":%d,"s":10,"m":{"loss":1.0}}\n' % (BEGIN + 107 * MINUTE)], attempt=1)
    seal_run(run.folder, finished=True)
    LiveSummary(run.folder).write()
    summary = read_json(run.folder.summary_json)
    assert summary is not None
    assert summary.pop("earlier") > 0
    write_json(run.folder.summary_json, summary)
    assert lossbook.open(store).run("abc").duration == pytest.approx(12 * 60, abs=5)


def test_a_run_recorded_under_the_parents_id_is_not_the_parent(store: Path) -> None:
    def train(id: str, value: float, steps: range, **more: Any) -> None:
        with lossbook.init(store=store, project="p", id=id, console=False, system_metrics=False, **more) as run:
            for step in steps:
                run.log({"loss": value}, step=step)

    train("base", 1.0, range(10))
    train("fork", 2.0, range(6, 8), fork_from=("base", 5))
    book = lossbook.open(store)
    assert book.kept_run("p", "fork").metrics["loss"]["count"] == 8
    shutil.rmtree(store / "p" / "base")
    train("base", 3.0, range(10))
    for run in (book.run("fork"), book.kept_run("p", "fork")):
        assert (run.metrics["loss"]["count"], run.metrics["loss"]["max"]) == (2, 2.0)
        assert run.curve("loss").x.tolist() == [6.0, 7.0]
        assert any("base" in problem for problem in run.problems())
