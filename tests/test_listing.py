"""What a live table of runs promises: it tells what changed, and its columns are those of the runs as they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.book import open as open_store
from lossbook.errors import BadQuery, UnknownRun
from lossbook.paths import RunFolder
from lossbook.processes import host_name
from lossbook.reading.index import index_path
from lossbook.reading.listing import Listing, RunKey
from lossbook.run_info import edit_run_info

MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    def make(id: str, project: str = "tests", *, live: bool = False, loss: float = 1.0, **identity: Any) -> WrittenRun:
        if live:
            identity = {"attempts": [WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())]} | identity
        run = WrittenRun(store / project / id, project=project, **identity)
        run.segment([{"loss": loss}], end=None if live else "finished")
        return run

    return make


@pytest.fixture
def listing(make_run: MakeRun, store: Path) -> Listing:
    """Three runs: a0 (lr 1.0, loss 3), a1 (lr 0.1, loss 1), a2 (no lr, loss 2)."""
    make_run("a0", loss=3.0, created=BEGIN, config={"lr": 1.0, "model": {"size": "nano"}})
    make_run("a1", loss=1.0, created=BEGIN + 1, config={"lr": 0.1})
    make_run("a2", loss=2.0, created=BEGIN + 2)
    found = open_store(store).listing()
    found.look()
    return found


def ids(keys: list[RunKey]) -> list[str]:
    return [key.id for key in keys]


def change(store: Path, id: str, **fields: Any) -> None:
    edit_run_info(RunFolder(str(store / "tests" / id)), lambda info: info._replace(**fields))


def unnamed_bytes() -> int:
    """What this process holds in open files that have no name any more, where a listing keeps changed records."""
    found = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            status = os.stat(entry.path)
            found += status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 else 0
    return found


def settle(*folders: Path) -> None:
    """Let these folders have changed a second ago: what changed just now is looked at again."""
    for folder in folders:
        os.utime(folder, ns=(time.time_ns() - 1_000_000_000,) * 2)


def test_the_first_look_finds_every_run(listing: Listing) -> None:
    assert ids(listing.keys()) == ["a2", "a1", "a0"]
    assert set(listing.changes_since(0).added) == set(listing.keys())
    assert listing.projects() == {"tests": 3}
    assert listing.keys("tests") == listing.keys()
    assert listing.keys("elsewhere") == []


def test_a_second_look_at_the_same_finds_nothing(listing: Listing) -> None:
    revision = listing.revision
    found = listing.look(everything=True)
    assert not found
    assert listing.revision == revision == found.revision


def test_a_run_that_came_one_that_changed_and_one_that_went(listing: Listing, make_run: MakeRun, store: Path) -> None:
    before = listing.revision
    make_run("a3", created=BEGIN + 3)
    change(store, "a1", tags=["seen"])
    shutil.rmtree(store / "tests" / "a0")
    found = listing.look(everything=True)
    assert (ids(list(found.added)), ids(list(found.changed)), ids(list(found.removed))) == (["a3"], ["a1"], ["a0"])
    assert listing.changes_since(before) == found
    assert ids(listing.keys()) == ["a3", "a2", "a1"]
    assert listing.column("tags") == [[], [], ["seen"]]
    with pytest.raises(UnknownRun, match="a0"):
        listing.record(RunKey("tests", "a0"))
    assert listing.column("loss", [RunKey("tests", "a0"), RunKey("tests", "a1")]) == [None, 1.0]


def test_a_client_that_is_behind_learns_all_that_happened_since(
    listing: Listing, make_run: MakeRun, store: Path
) -> None:
    first = listing.revision
    make_run("a3")
    listing.look()
    change(store, "a1", notes="later")
    listing.look(everything=True)
    shutil.rmtree(store / "tests" / "a3")
    listing.look()
    found = listing.changes_since(first)
    # What came and went in between was never there.
    assert (found.added, ids(list(found.changed)), found.removed) == ((), ["a1"], ())
    assert listing.revision_of(RunKey("tests", "a1")) == first + 2
    assert listing.changes_since(listing.revision + 5).whole


def test_new_folders_are_seen_at_once_even_when_they_become_runs_later(
    listing: Listing, make_run: MakeRun, store: Path
) -> None:
    (store / "tests" / "empty").mkdir()
    assert not listing.look()
    settle(store / "tests")
    assert not listing.look()
    WrittenRun(store / "tests" / "late", project="tests")
    assert ids(list(listing.look().added)) == ["late"]
    (store / "tests" / "empty" / "journal").mkdir()
    assert ids(list(listing.look().added)) == ["empty"]


def test_a_touched_run_is_looked_at_with_the_next_look(listing: Listing, store: Path) -> None:
    change(store, "a1", notes="edited")
    listing.touch(RunKey("tests", "a1"))
    assert ids(list(listing.look().changed)) == ["a1"]


def test_every_folder_is_looked_at_within_some_looks(
    listing: Listing, store: Path, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossbook.reading.listing.LOOK_SECONDS", 0.2)
    settle(store / "tests", *(store / "tests").iterdir())
    listing.look(everything=True)
    change(store, "a2", notes="quietly")
    wait_until(lambda: bool(listing.look()))
    assert listing.record(RunKey("tests", "a2")).notes == "quietly"


def test_a_running_run_is_up_to_date_at_each_look(make_run: MakeRun, store: Path) -> None:
    run = make_run("live", live=True, loss=5.0)
    listing = open_store(store).listing()
    listing.look()
    assert listing.column("loss") == [5.0]
    assert not listing.look()
    first = listing.column("duration")[0]
    run.segment([{"loss": 4.0}], first_step=1)
    assert ids(list(listing.look().changed)) == ["live"]
    assert listing.column("loss") == [4.0]
    assert listing.column("duration")[0] > first


def test_columns_are_what_the_book_says(listing: Listing, store: Path) -> None:
    runs = open_store(store).runs()
    found = listing.columns(["name", "config.lr", "config.model.size", "loss", "loss.min", "state", "nothing"])
    assert found["config.lr"] == [None, 0.1, 1.0]
    assert found["config.model.size"] == [None, None, "nano"]
    assert found["loss"] == [run.metrics["loss"]["last"] for run in runs]
    assert found["state"] == [run.state for run in runs]
    assert found["nothing"] == [None, None, None]
    assert listing.record(RunKey("tests", "a1")).config == {"lr": 0.1}


def test_where_and_sorted_are_those_of_the_book(listing: Listing, store: Path) -> None:
    book = open_store(store)
    for expression in ("config.lr > 0.5", "loss < 2.5 and state = 'finished'", "config.lr is null"):
        assert ids(listing.where(expression)) == [run.id for run in book.runs(where=expression)]
    assert ids(listing.sorted("config.lr")) == [run.id for run in book.runs(sort="config.lr")]
    assert ids(listing.sorted("config.lr", descending=True)) == [run.id for run in book.runs(sort="-config.lr")]
    with pytest.raises(BadQuery):
        listing.where("config.lr >")


def test_kept_answers_follow_a_change(listing: Listing, store: Path) -> None:
    assert ids(listing.where("config.lr > 0.5")) == ["a0"]
    assert listing.names().config == {"lr": 2, "model.size": 1}
    change(store, "a0", config={"lr": 0.2, "depth": 3})
    listing.look(everything=True)
    assert listing.where("config.lr > 0.5") == []
    assert listing.names().config == {"depth": 1, "lr": 2}
    assert listing.names().metrics == {"loss": 3}
    assert listing.names("nowhere").metrics == {}


def test_a_damaged_index_never_gives_a_wrong_value(listing: Listing, store: Path) -> None:
    path = Path(index_path(str(store)))
    raw = path.read_bytes()
    at = raw.index(b'"lr":0.1')
    path.write_bytes(raw[:at] + b'"lr":0.7' + raw[at + 8 :])
    fresh = open_store(store).listing()
    fresh.look()
    assert fresh.column("config.lr") == [None, 0.1, 1.0]


def test_a_run_with_thousands_of_names_is_one_of_the_table(listing: Listing, make_run: MakeRun) -> None:
    run = make_run("wide", created=BEGIN + 9)
    with open(run.folder.summary_json, "wb") as file:
        one = {"last": 1.0, "count": 1}
        summary = {"state": "finished", "started": BEGIN + 10**9, "metrics": {f"layer/{k}": one for k in range(5000)}}
        file.write(orjson.dumps(summary))
    listing.look()
    assert len(listing.names().metrics) == 5001
    assert listing.names().metrics["layer/77"] == 1
    assert listing.column("layer/77") == [1.0, None, None, None]


def test_changed_records_take_no_more_room_than_they_need(listing: Listing, store: Path) -> None:
    note = "x" * 1_000_000
    before = unnamed_bytes()
    for turn in range(30):
        change(store, "a1", notes=f"{turn}{note}")
        listing.look(everything=True)
    assert listing.record(RunKey("tests", "a1")).notes == f"29{note}"
    assert unnamed_bytes() - before < 12 << 20


def test_a_real_run_goes_from_running_to_finished(store: Path) -> None:
    listing = open_store(store).listing()
    assert not listing.look()
    with lossbook.init(project="tests", name="real", store=store, config={"lr": 3e-4}) as run:
        run.log({"loss": 2.5}, step=0)
        assert ids(list(listing.look().added)) == [run.id]
        assert listing.columns(["state", "loss"]) == {"state": ["running"], "loss": [2.5]}
        run.log({"loss": 2.0}, step=1)
        assert ids(list(listing.look().changed)) == [run.id]
    listing.look()
    assert listing.columns(["state", "loss"]) == {"state": ["finished"], "loss": [2.0]}
