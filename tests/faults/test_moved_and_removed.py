"""A writer looks after its file: what others remove, replace or move costs no row, and is said in one sentence."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, journal_rows, only_run, recorded, row_numbers, steps

import lossbook
from lossbook.journal import writer
from lossbook.journal.reader import journal_segments
from lossbook.paths import RunFolder


@pytest.fixture(autouse=True)
def _look_at_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits until the writer looks by itself, and nothing is sealed meanwhile."""
    monkeypatch.setattr(writer, "LOOK_SECONDS", -1.0)
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")


def begin(store: Path, **arguments: Any) -> lossbook.Run:
    run = lossbook.init(
        store=store, project="p", name="mine", config={"lr": 1}, console=False, system_metrics=False, **arguments
    )
    for step in range(10):
        run.log({"loss": float(step)}, step=step)
    return run


def end(run: lossbook.Run) -> None:
    for step in range(10, 20):
        run.log({"loss": float(step)}, step=step)
    assert run.sync() is True
    run.finish()


def is_one_whole_run(store: Path, capsys: pytest.CaptureFixture[str], sentence: str) -> RunFolder:
    """Every row of one run is read, with its name and configuration, and one sentence was said."""
    folder = only_run(store)
    found = recorded(folder)
    assert (found.name, found.config["lr"], found.state) == ("mine", 1, "finished")
    assert steps(folder) == list(range(20))
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
    assert found.problems() == []
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    return folder


def journal_of(run: lossbook.Run) -> str:
    (segment,) = journal_segments(run.folder.journal)
    return segment.path


def remove_journal(run: lossbook.Run) -> None:
    os.unlink(journal_of(run))


def remove_journal_folder(run: lossbook.Run) -> None:
    shutil.rmtree(run.folder.journal)


def remove_run(run: lossbook.Run) -> None:
    shutil.rmtree(run.path)


def remove_store(run: lossbook.Run) -> None:
    shutil.rmtree(os.path.dirname(os.path.dirname(run.path)))


def rename_journal(run: lossbook.Run) -> None:
    os.rename(journal_of(run), journal_of(run) + ".bak")


@pytest.mark.parametrize("remove", [remove_journal, remove_journal_folder, remove_run, remove_store, rename_journal])
def test_what_was_removed_is_made_again_with_every_row(
    store: Path, capsys: pytest.CaptureFixture[str], remove: Callable[[lossbook.Run], None]
) -> None:
    run = begin(store)
    remove(run)
    end(run)
    is_one_whole_run(store, capsys, "removed")


@pytest.mark.parametrize("contents", ["", "another program's\n", "as it was"])
def test_a_file_put_in_the_journals_place_is_set_aside(
    store: Path, capsys: pytest.CaptureFixture[str], contents: str
) -> None:
    run = begin(store)
    path = journal_of(run)
    if contents == "as it was":
        contents = Path(path).read_text()
    Path(path + ".new").write_text(contents)
    os.replace(path + ".new", path)
    end(run)
    is_one_whole_run(store, capsys, "replaced")
    (aside,) = Path(run.folder.journal).glob("*.replaced-*")
    assert aside.read_text() == contents


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_run_that_is_moved_by_itself_or_with_its_project_or_store_stays_one_run(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, above: int
) -> None:
    run = begin(store)
    moved = Path(run.path).parents[above - 1] if above else Path(run.path)
    target = moved.with_name("moved")
    os.rename(moved, target)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 500)
    now = target / Path(run.path).relative_to(moved)
    run.log({"picture": lossbook.Image([[0, 255]])}, step=9)
    assert run.path == str(now)
    run.name = "renamed"
    run.name = "mine"
    end(run)
    if above == 2:
        store = target
    is_one_whole_run(store, capsys, "was moved to")
    assert list((now / "media").iterdir())
    assert len(journal_segments(run.folder.journal)) > 1


def test_rows_of_earlier_segments_are_gone_with_the_folder_and_that_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 500)
    run = begin(store)
    shutil.rmtree(store)
    for step in range(10, 20):
        run.log({"loss": float(step)}, step=step)
    assert run.sync() is False, "not all that was logged is there"
    run.finish()
    folder = only_run(store)
    assert steps(folder)[-10:] == list(range(10, 20))
    assert recorded(folder).name == "mine"
    said = capsys.readouterr().err
    assert "the rows before are gone" in said
    assert len(said.splitlines()) == 1


def test_a_file_that_was_cut_short_is_said_and_sync_tells_it(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(store)
    os.truncate(journal_of(run), 0)
    run.log({"loss": 10.0}, step=10)
    run.log({"loss": 11.0}, step=11)
    assert run.sync() is False
    run.finish()
    assert 11 in steps(only_run(store))
    assert "cut short" in capsys.readouterr().err


def test_a_program_that_closes_every_descriptor_loses_no_row(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(store)
    mine = [int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    mine = [fd for fd in mine if os.readlink(f"/proc/self/fd/{fd}").startswith(str(store))]
    foreign = store.parent / "foreign"
    for fd in mine:
        os.close(fd)
    with open(foreign, "wb") as one, open(foreign, "ab") as other:
        run.log({"loss": 9.5}, step=9)
        end(run)
        assert {one.fileno(), other.fileno()} & set(mine), "the number of a closed descriptor is another file's now"
    assert recorded(only_run(store)).state == "finished"
    assert set(steps(only_run(store))) == set(range(20))
    assert capsys.readouterr().err.count("was closed") == 1


def test_a_writer_looks_after_its_file_by_itself_while_rows_come(
    store: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.05)
    run = begin(store)
    path = journal_of(run)
    os.unlink(path)

    def is_back() -> bool:
        run.log({"loss": 1.0})
        return os.path.exists(path)

    wait_until(is_back, what="the journal is made again")
    run.finish()


def test_a_segment_that_sealing_took_over_is_left_to_it(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(store)
    taken = journal_of(run).replace(".jsonl", ".taken-0.jsonl")
    os.rename(journal_of(run), taken)
    end(run)
    assert [os.path.basename(one.path) for one in journal_segments(run.folder.journal)][-1] == "r0-000002.jsonl"
    rows = [row.step for row in journal_rows(run.folder) if row.kind is None and row.step is not None]
    assert set(range(11, 20)) <= set(rows)
    assert "taken over" in capsys.readouterr().err


def test_two_threads_lose_no_row_while_their_file_is_removed_again_and_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(store)

    def work(number: int) -> None:
        for step in range(300):
            run.log({f"thread/{number}": float(step)}, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for segment in journal_segments(run.folder.journal):
            Path(segment.path).unlink(missing_ok=True)
    for thread in threads:
        thread.join()
    run.finish()
    folder = only_run(store)
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
    for number in range(2):
        own = [row.step for row in journal_rows(folder) if f"thread/{number}" in row.body]
        assert own == list(range(300))


@pytest.mark.parametrize("remove", [remove_journal, remove_run])
def test_a_thread_that_writes_for_training_looks_after_its_file_too(
    store: Path, capsys: pytest.CaptureFixture[str], remove: Callable[[lossbook.Run], None]
) -> None:
    run = begin(store, durability="async")
    assert run.sync()
    remove(run)
    end(run)
    is_one_whole_run(store, capsys, "removed")


def test_a_moved_run_of_a_network_store_stays_one_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(store, durability="async")
    assert run.sync()
    os.rename(run.path, store / "p" / "moved")
    end(run)
    is_one_whole_run(store, capsys, "was moved to")


def test_a_forked_child_finds_the_run_that_was_moved_before_its_first_row(store: Path) -> None:
    run = begin(store)
    os.rename(run.path, store / "p" / "moved")
    child = multiprocessing.get_context("fork").Process(target=run.log, args=({"child": 1.0}, 0))
    child.start()
    child.join()
    end(run)
    (folder,) = all_runs(store)
    assert [row.step for row in journal_rows(folder, rank=-1) if row.kind is None] == [0]


def test_another_rank_makes_the_run_again_with_its_name(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOSSBOOK_RUN_ID", "r")
    run = lossbook.init(store=store, project="p", name="mine", console=False, system_metrics=False)
    run.log({"loss": 1.0}, step=0, ranks="all")
    shutil.rmtree(store)
    run.log({"loss": 2.0}, step=1, ranks="all")
    run.log({"loss": 3.0}, step=2, ranks="all")
    run.finish()
    folder = only_run(store)
    assert recorded(folder).name == "mine"
    assert [row.step for row in journal_rows(folder, rank=1) if row.kind is None] == [0, 1, 2]


def test_a_run_that_was_removed_after_its_last_row_is_not_made_again(
    store: Path, capsys: pytest.CaptureFixture[str], wait_until: Any
) -> None:
    run = begin(store)
    path = journal_of(run)
    written = os.stat(path).st_mtime_ns
    tick = store.parent / "tick"

    def a_tick_later() -> bool:
        tick.write_text("")
        return tick.stat().st_mtime_ns > written

    wait_until(a_tick_later, what="the file system's clock ticks")
    shutil.rmtree(store)
    run.finish()
    assert not store.exists()
    assert capsys.readouterr().err == ""


def test_nothing_is_said_of_a_store_that_goes_when_the_run_is_over(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(store)
    run.finish()
    shutil.rmtree(store)
    run.log({"loss": 1.0})
    run.finish()
    assert not store.exists()
    assert "removed" not in capsys.readouterr().err
