"""What the index promises: a listing that is always true, and costs little because only what changed is read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from journals import BEGIN, WrittenRun

import lossbook
from lossbook.journal.line import encode_scalars
from lossbook.paths import OLD_INDEX
from lossbook.processes import host_name
from lossbook.reading import index as index_module
from lossbook.reading.index import index_path
from lossbook.run_info import edit_run_info

MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSBOOK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    def make(id: str, *, live: bool = False, loss: float = 1.0, **identity: Any) -> WrittenRun:
        if live:
            here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
            identity = {"attempts": [here]} | identity
        run = WrittenRun(store / "tests" / id, **identity)
        run.segment([{"loss": loss}], end=None if live else "finished")
        return run

    return make


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were read anew, by name, since the list was cleared."""
    folders: list[str] = []
    read_record = index_module.read_record

    def count(folder: Any) -> Any:
        folders.append(os.path.basename(folder.path))
        return read_record(folder)

    monkeypatch.setattr(index_module, "read_record", count)
    return folders


def listed(store: Path) -> dict[str, float | None]:
    """Each run's last loss, by id, the newest first."""
    return {run.id: run.metrics.get("loss", {}).get("last") for run in lossbook.open(store).runs()}


def settle(store: Path) -> None:
    """Put every folder's last change so far back that the index believes it, and list once more."""
    listed(store)
    for folder, _, _ in os.walk(store):
        os.utime(folder, ns=(BEGIN * 1000, BEGIN * 1000))
    listed(store)


def test_runs_are_listed_the_newest_first(store: Path, make_run: MakeRun) -> None:
    for number, id in enumerate(("middle", "newest", "oldest")):
        make_run(id, created=BEGIN + (5, 9, 1)[number], loss=float(number))
    assert list(listed(store).items()) == [("newest", 1.0), ("middle", 0.0), ("oldest", 2.0)]
    assert list(listed(store)) == ["newest", "middle", "oldest"]


def test_a_second_listing_reads_no_run_again(store: Path, make_run: MakeRun, read: list[str]) -> None:
    for number in range(5):
        make_run(f"r{number}")
    settle(store)
    read.clear()
    assert len(listed(store)) == 5
    assert read == []


def test_only_the_run_that_changed_is_read_again(store: Path, make_run: MakeRun, read: list[str]) -> None:
    runs = [make_run(f"r{number}") for number in range(5)]
    settle(store)
    read.clear()
    edit_run_info(runs[3].folder, lambda info: info._replace(name="renamed"))
    assert lossbook.open(store).runs(where="name = 'renamed'")[0].id == "r3"
    assert read == ["r3"]


def test_new_runs_appear_and_removed_ones_go(store: Path, make_run: MakeRun) -> None:
    make_run("first")
    assert set(listed(store)) == {"first"}
    second = make_run("second")
    assert set(listed(store)) == {"first", "second"}
    shutil.rmtree(second.folder.path)
    assert set(listed(store)) == {"first"}
    shutil.rmtree(store / "tests" / "first")
    assert listed(store) == {}
    make_run("first", loss=7.0)
    assert listed(store) == {"first": 7.0}


def test_a_run_that_was_moved_in_is_listed_under_its_new_place(store: Path, make_run: MakeRun) -> None:
    run = make_run("wanderer")
    listed(store)
    (store / "other").mkdir()
    os.rename(run.folder.path, store / "other" / "wanderer")
    (found,) = lossbook.open(store).runs()
    assert found.path == str(store / "other" / "wanderer")
    assert found.curve("loss").last.tolist() == [1.0]


def test_a_running_run_is_listed_with_its_last_value(store: Path, make_run: MakeRun) -> None:
    run = make_run("live", live=True, loss=3.0)
    settle(store)
    assert listed(store) == {"live": 3.0}
    with open(os.path.join(run.folder.journal, "r0-000001.jsonl"), "ab") as file:
        file.write(encode_scalars(2, BEGIN + 9, 1, {"loss": 2.0}))
    assert listed(store) == {"live": 2.0}


def test_a_run_whose_process_has_gone_is_listed_as_crashed(store: Path, make_run: MakeRun) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = WrittenRun.attempt_entry(0, host=host_name(), pid=int(child.stdout))
    run = make_run("gone", live=True, attempts=[gone])
    (found,) = lossbook.open(store).runs()
    assert found.state == "crashed"
    assert found.error
    assert [one.id for one in lossbook.open(store).runs(where="state = 'crashed'")] == [run.identity["id"]]


def test_a_run_that_ends_after_it_was_listed_as_running_is_seen_to_end(store: Path, make_run: MakeRun) -> None:
    run = make_run("ending", live=True)
    assert lossbook.open(store).runs()[0].state == "running"
    run.segment([{"loss": 0.5}], end="finished")
    assert lossbook.open(store).runs()[0].state == "finished"
    assert listed(store) == {"ending": 0.5}


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\xff", b"{}", b"[1]\n", b'{"version":2,"runs":[[1]]}\n', b'{"version":99,"runs":[]}\n', None]
)
def test_a_damaged_index_is_made_again(store: Path, make_run: MakeRun, damage: bytes | None) -> None:
    make_run("a", loss=1.5)
    make_run("b", loss=2.5)
    settle(store)
    path = Path(index_path(str(store)))
    assert path.exists()
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) // 2] if damage is None else damage)
    assert listed(store) == {"a": 1.5, "b": 2.5}
    assert listed(store) == {"a": 1.5, "b": 2.5}
    assert len(path.read_bytes()) >= len(contents) // 2


def test_bytes_flipped_in_the_index_neither_stop_a_listing_nor_change_what_it_says(
    store: Path, make_run: MakeRun
) -> None:
    make_run("a")
    make_run("b")
    settle(store)
    before = [(run.id, run.state, run.metrics) for run in lossbook.open(store).runs()]
    path = Path(index_path(str(store)))
    contents = path.read_bytes()
    for at in range(0, len(contents), max(1, len(contents) // 60)):
        path.write_bytes(contents[:at] + bytes([contents[at] ^ 0x15]) + contents[at + 1 :])
        runs = lossbook.open(store).runs()
        assert [(run.id, run.state, run.metrics) for run in runs] == before


def test_the_index_lies_in_the_readers_cache_and_never_in_the_store(
    store: Path, make_run: MakeRun, tmp_path: Path, read: list[str]
) -> None:
    make_run("a")
    settle(store)
    assert sorted(os.listdir(store)) == ["tests"]
    assert any(files for _, _, files in os.walk(tmp_path / "cache"))
    read.clear()
    assert listed(store) == {"a": 1.0}
    assert read == []


def test_an_index_of_an_earlier_version_in_the_store_is_neither_read_nor_touched(
    store: Path, make_run: MakeRun
) -> None:
    make_run("a")
    old = store / OLD_INDEX
    old.write_bytes(b'{"version":3,"runs":[["p/gone",1,1,"finished",2,0]]}\n{}')
    settle(store)
    assert listed(store) == {"a": 1.0}
    assert old.read_bytes().startswith(b'{"version":3')


def test_nothing_at_all_can_be_written_and_the_runs_are_listed_all_the_same(
    store: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, contents: bytes, **_: Any) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(index_module, "replace_file", refuse)
    make_run("a")
    assert listed(store) == {"a": 1.0}


def test_an_index_of_a_store_that_was_copied_is_true_of_the_copy(
    store: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    make_run("a", loss=4.0)
    settle(store)
    shutil.copytree(store, tmp_path / "copy")
    assert listed(tmp_path / "copy") == {"a": 4.0}
    (found,) = lossbook.open(tmp_path / "copy").runs()
    assert found.path.startswith(str(tmp_path / "copy"))


def test_a_listing_needs_neither_duckdb_nor_numpy_nor_psutil(store: Path, make_run: MakeRun) -> None:
    make_run("a")
    settle(store)
    script = (
        "import sys, lossbook\n"
        "runs = lossbook.open(sys.argv[1]).runs(where=\"state = 'finished'\", sort='loss')\n"
        "assert [run.metrics['loss']['last'] for run in runs] == [1.0]\n"
        "print([name for name in ('duckdb', 'numpy', 'psutil', 'pandas') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_several_processes_may_list_at_once(store: Path, make_run: MakeRun) -> None:
    for number in range(20):
        make_run(f"r{number:02d}")
    script = "import sys, lossbook\nprint(len(lossbook.open(sys.argv[1]).runs()))\n"
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [child.communicate()[0].strip() for child in children] == ["20"] * 4
    assert len(listed(store)) == 20
    header = Path(index_path(str(store))).read_bytes().partition(b"\n")[0]
    assert orjson.loads(header.partition(b" ")[2])["runs"]
    assert [name for name in os.listdir(store) if name.endswith(".tmp")] == []
