"""A run that was removed and recorded again under its id is another run, for whatever was kept of the first one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from journals import BEGIN, ENDED, WrittenRun

import lossbook
from lossbook.reading import EventPages, follow_console, read_console
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary
from lossbook.terminal.console_tail import ConsoleTail
from lossbook.web.api.project import RunsQuestion, runs
from lossbook.web.api.run import RunQuestion, run_page
from lossbook.web.session import Session

ROWS = 30


def record(folder: Path, value: float, *, live: bool, rows: int = ROWS, parent: str | None = None) -> WrittenRun:
    """A run whose every row has that value; as many rows as before unless said otherwise."""
    begun = BEGIN + round(value) * 1_000_000
    more = {} if parent is None else {"parent": {"project": folder.parent.name, "run": parent, "step": 9}}
    run = WrittenRun(
        folder,
        project=folder.parent.name,
        name=f"run of {value:g}",
        created=begun,
        config={"value": value},
        attempts=[WrittenRun.attempt_entry(0, **{**ENDED, "started": begun})],
        **more,
    )
    lines = [
        b'{"i":%d,"t":%d,"s":%d,"m":{"loss":%r}}\n' % (at, begun + at, at, value + at / 1000) for at in range(1, rows)
    ]
    run.segment([*lines, ("note", {"text": f"note of {value:g}"})], end="finished")
    (folder / "console").mkdir()
    text = "".join(f"epoch {at} of {value:g}\n" for at in range(rows + round(value)))
    (folder / "console" / "r0.log").write_text(text)
    if not live:
        seal_run(run.folder, finished=True)
        LiveSummary(run.folder).write()
    return run


Again = Callable[..., None]


def remove_and_record(folder: Path, value: float, *, live: bool) -> None:
    shutil.rmtree(folder)
    record(folder, value, live=live)


def put_another_in_its_place(folder: Path, value: float, *, live: bool) -> None:
    other = folder.parent.parent / "elsewhere" / folder.name
    record(other, value, live=live)
    run_json = other / "run.json"
    run_json.write_text(run_json.read_text())
    shutil.rmtree(folder)
    shutil.move(other, folder)


def move_to_the_trash_and_record(folder: Path, value: float, *, live: bool) -> None:
    trash = folder.parent.parent / ".trash"
    trash.mkdir(exist_ok=True)
    shutil.move(folder, trash / f"{folder.name}-{value:g}")
    record(folder, value, live=live)


@pytest.mark.parametrize("live_first", [True, False])
@pytest.mark.parametrize("live_then", [True, False])
@pytest.mark.parametrize("again", [remove_and_record, put_another_in_its_place, move_to_the_trash_and_record])
def test_a_book_that_is_held_answers_about_the_run_that_is_there(
    tmp_path: Path, again: Again, live_first: bool, live_then: bool
) -> None:
    folder = tmp_path / "store" / "p" / "abc"
    record(folder, 1.0, live=live_first)
    record(folder.parent / "fork", 100.0, live=True, parent="abc")
    book = lossbook.open(tmp_path / "store")
    listing, session = book.listing(), Session(book)
    summary = LiveSummary(book.run("abc").folder)
    tail = ConsoleTail(str(folder / "console" / "r0.log"))
    held = book.run("abc")
    pages = EventPages(held.folder, book.context.cursor)

    def check(value: float) -> None:
        listing.look(everything=True)
        session.touch("p", "abc")
        for run in (book.kept_run("p", "abc"), book.run("abc"), held.refresh()):
            assert run.name == f"run of {value:g}"
            assert run.config == {"value": value}
            curve = run.curve("loss", points=5000)
            assert (curve.last[0], len(curve)) == (value + 0.001, ROWS - 1)
            assert run.history("loss").rows()[0][2] == value + 0.001
            assert run.metrics["loss"]["last"] == pytest.approx(value + (ROWS - 1) / 1000)
            assert [event["value"]["text"] for event in run.events("note")] == [f"note of {value:g}"]
        key = next(key for key in listing.keys("p") if key.id == "abc")
        assert listing.column("loss.min", [key]) == [value + 0.001]
        assert listing.record(key).name == f"run of {value:g}"
        assert summary.update().metrics["loss"].min == value + 0.001
        assert book.sql("select min(value), count(*) from metrics where run = 'abc'").rows() == [
            (value + 0.001, ROWS - 1)
        ]
        assert pages.count_kinds()["note"] == 1
        assert pages.choose(["note"]).events[0]["value"]["text"] == f"note of {value:g}"
        assert book.kept_run("p", "fork").curve("loss").min[0] == value + 0.001
        assert book.run("fork").metrics["loss"]["min"] == value + 0.001
        page = run_page(session, RunQuestion("p", "abc"))
        assert (page.row.name, page.forks) == (f"run of {value:g}", ["fork"])
        table = runs(session, RunsQuestion("p", column=["loss.min"]))
        at = [row.id for row in table.rows].index("abc")
        assert (table.rows[at].name, table.columns["loss.min"][at]) == (f"run of {value:g}", value + 0.001)
        tail.read()
        assert tail.lines[3] == f"epoch 3 of {value:g}"
        assert read_console(held.folder, 0, start_line=20, lines=1).lines[0].text == f"epoch 20 of {value:g}"
        assert follow_console(held.folder, 0, 0, lines=1).lines[0].text == f"epoch 0 of {value:g}"

    try:
        check(1.0)
        check(1.0)
        again(folder, 2.0, live=live_then)
        check(2.0)
        again(folder, 3.0, live=live_first)
        check(3.0)
    finally:
        session.close()


def test_a_journal_in_which_another_run_stands_is_read_anew_also_with_the_same_inode(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "p" / "abc"
    run = record(folder, 1.0, live=True)
    book = lossbook.open(tmp_path / "store")
    kept, summary = book.kept_run("p", "abc"), LiveSummary(run.folder)
    assert (kept.curve("loss").last[0], summary.update().metrics["loss"].min) == (1.001, 1.001)
    # Longer than the first, in its very inode.
    other = record(tmp_path / "other" / "abc", 7.0, live=True, rows=50)
    (journal,) = Path(run.folder.journal).iterdir()
    inode = journal.stat().st_ino
    journal.write_bytes(next(Path(other.folder.journal).iterdir()).read_bytes())
    assert journal.stat().st_ino == inode
    assert kept.curve("loss").last[0] == 7.001
    assert kept.events("note")[0]["value"]["text"] == "note of 7"
    assert summary.update().metrics["loss"].min == 7.001


def test_a_console_in_which_another_stands_is_counted_anew_also_with_the_same_inode(tmp_path: Path) -> None:
    run = record(tmp_path / "store" / "p" / "abc", 1.0, live=True)
    log = Path(run.folder.console) / "r0.log"
    tail = ConsoleTail(str(log))
    for lines in (["a" * 50] * 40, [f"{at}" for at in range(5000)]):
        log.write_text("\n".join(lines) + "\n")
        tail.read()
        assert tail.lines[-1] == lines[-1]
        assert tail.lines[0] == lines[0]
        assert read_console(run.folder, 0, start_line=30, lines=1).lines[0].text == lines[30]
        assert read_console(run.folder, 0, lines=1).total_lines == len(lines)


def test_a_run_that_was_moved_to_another_project_is_there_and_an_older_one_stands_behind_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record(store / "p" / "abc", 5.0, live=False)
    book = lossbook.open(store)
    listing = book.listing()
    listing.look()
    assert book.kept_run("p", "abc").curve("loss").last[0] == 5.001
    (store / "q").mkdir()
    shutil.move(store / "p" / "abc", store / "q" / "abc")
    record(store / "p" / "abc", 2.0, live=False)
    record(store / "p" / "old", 1.0, live=False)
    changes = listing.look(everything=True)
    assert ("q", "abc") in changes.added
    assert ("p", "abc") in changes.changed
    assert [key.id for key in listing.keys("p")] == ["abc", "old"]
    assert listing.column("loss.min") == [5.001, 2.001, 1.001]
    every = listing.keys()
    assert [book.kept_run(*key).curve("loss").last[0] for key in every] == [5.001, 2.001, 1.001]
