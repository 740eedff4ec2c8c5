"""What a book that is held for hours promises: bounded memory, the same run again, right answers from many threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest
from journals import WrittenRun

import lossbook
from lossbook.book import open as open_store
from lossbook.errors import BadArgument, UnknownRun
from lossbook.processes import host_name
from lossbook.run_info import edit_run_info
from lossbook.storage.array_cache import ArrayCache
from lossbook.storage.compaction import seal_run

MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    def make(id: str, *, live: bool = False, **identity: Any) -> WrittenRun:
        if live:
            identity = {"attempts": [WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())]} | identity
        return WrittenRun(store / "tests" / id, **identity)

    return make


def test_a_kept_run_is_the_same_object_each_time(make_run: MakeRun, store: Path) -> None:
    make_run("a1").segment([{"loss": 1.0}], end="finished")
    book = open_store(store, memory_bytes=64 << 20)
    assert book.kept_run("tests", "a1") is book.kept_run("tests", "a1")
    assert book.kept_run("tests", "a1").curve("loss").last.tolist() == [1.0]


def test_a_kept_run_says_what_its_files_say_now(make_run: MakeRun, store: Path) -> None:
    run = make_run("a1", tags=["old"])
    run.segment([{"loss": 1.0}], end="finished")
    book = open_store(store)
    assert book.kept_run("tests", "a1").tags == ["old"]
    edit_run_info(run.folder, lambda info: info._replace(tags=("new",)))
    assert book.kept_run("tests", "a1").tags == ["new"]


def test_a_kept_run_sees_rows_as_they_are_logged(make_run: MakeRun, store: Path) -> None:
    run = make_run("a1", live=True)
    path = run.segment([{"loss": 1.0}])
    book = open_store(store)
    assert len(book.kept_run("tests", "a1").curve("loss")) == 1
    later = run.segment([{"loss": 2.0}], first_step=1, number=2)
    assert book.kept_run("tests", "a1").curve("loss").last.tolist() == [1.0, 2.0]
    os.unlink(later)
    assert book.kept_run("tests", "a1").curve("loss").last.tolist() == [1.0]
    assert os.path.exists(path)


def test_a_run_that_went_away_is_not_kept(make_run: MakeRun, store: Path) -> None:
    import shutil

    run = make_run("a1")
    run.segment([{"loss": 1.0}], end="finished")
    book = open_store(store)
    book.kept_run("tests", "a1")
    shutil.rmtree(run.folder.path)
    with pytest.raises(UnknownRun, match="a1"):
        book.kept_run("tests", "a1")


@pytest.mark.parametrize("id", ["../tests/a1", "..", "", "a/b", "\0"])
def test_an_id_never_leads_out_of_the_store(id: str, make_run: MakeRun, store: Path) -> None:
    make_run("a1").segment([{"loss": 1.0}], end="finished")
    with pytest.raises(UnknownRun):
        open_store(store).kept_run("tests", id)


def test_a_book_needs_some_memory(store: Path, make_run: MakeRun) -> None:
    make_run("a1")
    with pytest.raises(BadArgument, match="MB"):
        open_store(store, memory_bytes=1000)


def test_the_least_recently_used_arrays_go_first() -> None:
    cache = ArrayCache(100_000)
    arrays = {"x": numpy.zeros(4000)}
    for name in ("a", "b", "c"):
        cache.put((name,), arrays if name == "a" else {"x": numpy.zeros(4000)})
        cache.get(("a",))
    assert cache.get(("a",)) is not None
    assert cache.get(("b",)) is None
    assert cache.bytes <= 100_000
    cache.put(("large",), {"x": numpy.zeros(10_000)})
    assert cache.get(("large",)) is None


def test_all_runs_of_a_book_share_one_budget(make_run: MakeRun, store: Path) -> None:
    for number in range(6):
        run = make_run(f"a{number}")
        run.segment([(step, {f"k{key}": float(step) for key in range(4)}) for step in range(5000)], end="finished")
        seal_run(run.folder, finished=True)
    book = open_store(store, memory_bytes=32 << 20)
    limit = 12 << 20
    for _ in range(2):
        for number in range(6):
            for key in range(4):
                curve = book.kept_run("tests", f"a{number}").curve(f"k{key}", points=500)
                assert int(curve.count.sum()) == 5000
                assert 0 < book.context.arrays.bytes <= limit


def test_many_threads_ask_of_one_run_that_goes_on_and_is_sealed_meanwhile(make_run: MakeRun, store: Path) -> None:
    run = make_run("a1", live=True)
    run.segment([(step, {"loss": float(step), "lr": 1.0}) for step in range(300)])
    book = open_store(store, memory_bytes=64 << 20)
    over = threading.Event()
    wrong: list[str] = []

    def ask(key: str) -> int:
        asked = 0
        while not over.is_set():
            curve = book.kept_run("tests", "a1").curve(key, points=10_000)
            steps = curve.x.tolist()
            # Whatever was written meanwhile: a prefix of the run, each row once.
            if steps != list(range(len(steps))) or len(steps) < 300 or int(curve.count.sum()) != len(steps):
                wrong.append(f"{key}: {len(steps)} steps, {int(curve.count.sum())} rows")
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, key) for key in ("loss", "lr", "loss", "lr")]
        try:
            for piece in range(1, 12):
                begin = 300 * piece
                run.segment([(step, {"loss": float(step), "lr": 1.0}) for step in range(begin, begin + 300)])
                seal_run(run.folder, finished=False)
        finally:
            over.set()
        assert all(one.result() > 0 for one in asking)
    assert wrong == []
    assert book.kept_run("tests", "a1").problems() == []
    assert len(book.kept_run("tests", "a1").curve("loss", points=10_000)) == 3600


def test_a_fork_keeps_what_it_read_of_its_parent(store: Path) -> None:
    with lossbook.init(project="tests", name="parent", store=store) as parent:
        for step in range(10):
            parent.log({"loss": float(step)}, step=step)
    with lossbook.init(project="tests", name="child", store=store, fork_from=(parent.id, 4)) as child:
        for step in range(5, 8):
            child.log({"loss": 100.0 + step}, step=step)
    book = open_store(store, memory_bytes=64 << 20)
    run = book.kept_run("tests", child.id)
    assert run.curve("loss").last.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 105.0, 106.0, 107.0]
    assert run.sources()[0].rows is run.sources()[0].rows


def test_a_book_that_was_closed_reads_again(make_run: MakeRun, store: Path) -> None:
    make_run("a1").segment([{"loss": 1.0}], end="finished")
    book = open_store(store)
    book.kept_run("tests", "a1").curve("loss")
    book.close()
    assert book.context.arrays.bytes == 0
    assert book.kept_run("tests", "a1").curve("loss").last.tolist() == [1.0]
