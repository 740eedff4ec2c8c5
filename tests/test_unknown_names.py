"""A name that no run has is said, with the nearest ones: in filters, orders, columns, axes and tables of SQL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.book import Book
from lossbook.cli import main
from lossbook.errors import BadQuery, UnknownKey
from lossbook.processes import host_name
from lossbook.web import schemas
from lossbook.web.api.project import RunsQuestion, WhereQuestion, runs, where
from lossbook.web.session import Session


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    for number, value in enumerate((0.1, 0.9)):
        run = WrittenRun(
            path / "sweep" / f"id{number}",
            project="sweep",
            name=f"run{number}",
            created=BEGIN + number,
            config={"lr": value, "optimizer": {"name": "adamw"}},
        )
        run.segment(
            [{"train/loss": 1 - value, "f1-score": value, "val/top 5": value} for _ in range(3)], end="finished"
        )
    other = WrittenRun(path / "other" / "id9", project="other", name="run9", created=BEGIN + 9, config={"depth": 12})
    other.segment([{"reward": 1.0}], end="finished")
    monkeypatch.setenv("LOSSBOOK_STORE", str(path))
    return path


@pytest.fixture
def book(store: Path) -> Book:
    return lossbook.open(store)


def make_live(store: Path) -> WrittenRun:
    """A run of this very process, which goes on and has logged one key so far."""
    here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
    run = WrittenRun(store / "sweep" / "live", project="sweep", name="live", created=BEGIN + 5, attempts=[here])
    run.segment([{"train/loss": 1.0}])
    return run


def ids(found: list[lossbook.book.RecordedRun]) -> list[str]:
    return sorted(run.id for run in found)


def test_a_filter_by_a_name_that_one_run_has_passes_over_the_others(book: Book) -> None:
    assert ids(book.runs(where='"f1-score" > 0.5')) == ["id1"]
    assert ids(book.runs(where="config.depth > 5 or reward > 5")) == ["id9"]
    assert book.runs(where="reward > 5") == []
    assert ids(book.runs(where='"val/top 5.min" > 0.5 and steps > 1')) == ["id1"]


@pytest.mark.parametrize(
    ("expression", "nearest"),
    [("confg.lr > 0", "config.lr"), ("f1_scor > 0.5", "f1-score"), ("stat = 'x'", "state"), ("not config.optimiser.name = 'x'", "config.optimizer.name")],
)  # fmt: skip
def test_a_filter_by_a_name_that_no_run_has_is_refused(book: Book, expression: str, nearest: str) -> None:
    with pytest.raises(BadQuery, match=nearest):
        book.runs(where=expression)
    with pytest.raises(BadQuery, match=nearest):
        listing = book.listing()
        listing.look()
        listing.where(expression)


def test_only_the_runs_of_the_project_count(book: Book) -> None:
    assert book.runs("other", where="reward < 0") == []
    with pytest.raises(BadQuery, match="reward"):
        book.runs("sweep", where="reward < 0")
    with pytest.raises(BadQuery, match="reward"):
        book.runs("sweep", sort="reward")
    assert book.runs("nosuch", where="whatever > 0", sort="whatever") == []


def test_an_order_by_a_name_that_no_run_has_is_refused(book: Book) -> None:
    assert [run.id for run in book.runs(sort="-f1-score")] == ["id1", "id0", "id9"]
    assert [run.id for run in book.runs("sweep", sort='"val/top 5"')] == ["id0", "id1"]
    for sort in ("f1-scoer", "-f1-scoer", "`f1-scoer`"):
        with pytest.raises(BadQuery, match="f1-score"):
            book.runs(sort=sort)


def test_a_filter_that_leaves_no_run_leaves_none_to_order(book: Book) -> None:
    assert book.runs("other", where="depth > 100", sort="reward") == []


def test_a_text_against_a_number_in_every_run_is_refused(book: Book) -> None:
    with pytest.raises(BadQuery, match=r"config\.optimizer\.name"):
        book.runs(where="config.optimizer.name > 5")
    listing = book.listing()
    listing.look()
    for _ in range(2):  # the second time from what is kept
        with pytest.raises(BadQuery, match=r"config\.optimizer\.name"):
            listing.where("config.optimizer.name > 5")


def test_a_name_that_may_still_come_is_remarked_on(store: Path, book: Book) -> None:
    live = make_live(store)
    found = book.runs("sweep", where="val/loss < 3", sort="val/loss")
    assert found == []
    assert any("val/loss" in remark for remark in found.remarks)
    live.segment([{"val/loss": 2.0}], number=2)
    found = book.runs("sweep", where="val/loss < 3")
    assert (ids(found), found.remarks) == (["live"], ())


def test_an_axis_that_there_is_not_is_answered_with_the_nearest(book: Book) -> None:
    run = book.run("id0")
    for wrong, nearest in (("stp", "step"), ("walclock", "wallclock"), ("f1-scoer", "f1-score")):
        with pytest.raises(UnknownKey, match=nearest):
            run.curve("train/loss", x=wrong)


def test_a_table_that_there_is_not_is_answered_with_those_that_there_are(book: Book) -> None:
    with pytest.raises(BadQuery, match=r"metricz.*did you mean metrics\?"):
        book.sql("select * from metricz")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "--where", "confg.lr > 0"), "config.lr"),
        (("ls", "--where", "optimizer.name > 5"), "optimizer.name"),
        (("ls", "--sort", "f1-scoer"), "f1-score"),
        (("ls", "--columns", "id,confg.lr"), "config.lr"),
        (("ls", "--columns", "id,confg.lr", "--json"), "config.lr"),
        (("ls", "--project", "swep"), "sweep"),
        (("compare", "--columns", "confg.lr"), "config.lr"),
        (("compare", "--where", "confg.lr > 0"), "config.lr"),
        (("watch", "--once", "--where", "confg.lr > 0"), "config.lr"),
        (("watch", "--once", "--key", "f1-scoer", "id0"), "f1-score"),
        (("curve", "id0", "train/loss", "--x", "stp"), "step"),
        (("sql", "select * from run"), "runs"),
    ],
)
def test_a_command_says_what_no_run_has(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)
    assert said in written.err


def test_ls_says_which_name_no_run_has_yet(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_live(store)
    assert main(["ls", "--project", "sweep", "--columns", "id,val/loss"]) == 0
    written = capsys.readouterr()
    assert "val/loss" in written.err
    assert "live" in written.out


@pytest.mark.usefixtures("store")
def test_the_columns_that_ls_prints_are_names_in_a_filter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--project", "sweep"]) == 0
    titles = capsys.readouterr().out.splitlines()[0].split()
    assert {"started", "steps", "duration", "loss"} <= set(titles)
    for title in titles:
        assert main(["ls", "--where", f"{title} is not null", "--sort", title, "--columns", f"id,{title}"]) == 0
        assert "id1" in capsys.readouterr().out


def test_the_page_is_told_which_name_no_run_has(store: Path, book: Book) -> None:
    session = Session(book)
    try:
        assert where(session, WhereQuestion("sweep", '"f1-score" > 0.5')) == schemas.Matching(["id1"])
        for expression in ("config.l", "confg.lr > 0"):  # half typed, and wrong
            with pytest.raises(BadQuery, match=r"config\.lr"):
                where(session, WhereQuestion("sweep", expression))
        assert runs(session, RunsQuestion("sweep", column=["config.lr", "f1-score", "confg.lr"])).unknown == [
            "confg.lr"
        ]
        make_live(store)
        session.listing().look(everything=True)
        with pytest.raises(BadQuery, match=r"val/loss yet"):
            where(session, WhereQuestion("sweep", "val/loss < 3"))
    finally:
        session.close()
