"""Reading only reads: whatever looks at a store leaves its names, inodes, times and bytes as they were."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from untouched import make_store, untouched

import lossbook
from lossbook.cli import main
from lossbook.storage.compaction import seal_run

NAMES = ("finished", "dead", "left", "live", "resumed", "fork", "damaged")

READING_COMMANDS = [
    ["ls"],
    ["ls", "--where", "config.lr > 1", "--sort", "val/loss", "--json"],
    *[["show", name] for name in NAMES],
    *[["keys", name] for name in NAMES],
    ["gpu", "dead"],
    ["curve", "dead,finished", "train/loss", "--csv"],
    ["curve", "fork", "train/loss", "--draw", "--x", "wallclock"],
    *[["check", name] for name in NAMES],
    ["plot", "dead", "train/loss", "-o", "OUT/plot.svg"],
    ["watch", "--once"],
    ["export", "-o", "OUT/rows.csv"],
    ["export", "--long", "-f", "parquet", "-o", "OUT/rows.parquet"],
    ["export", "--html", "-o", "OUT/page.html"],
    ["sql", "select run, min(value), count(*) from metrics group by run order by run"],
    ["sql", "select count(*) from all_metrics"],
    ["sql", "select kind, count(*) from events group by kind"],
    ["compare", "--loss", "2.0"],
    ["best", "train/loss"],
    ["report", "-o", "OUT/LOG.md"],
    ["verify", "--all"],
    ["tag", "dead"],
    ["note", "dead"],
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "store")


@pytest.mark.parametrize("words", READING_COMMANDS, ids=" ".join)
def test_a_reading_command_changes_nothing_in_the_store(made: Path, words: list[str], tmp_path: Path) -> None:
    arguments = [word.replace("OUT", str(tmp_path)) for word in words]
    with untouched(made):
        assert main([*arguments, "--store", str(made)]) in (0, 1)  # 1: a finding, or a file that is damaged


def ask_everything(store: Path) -> list[object]:
    """What the API answers about each run of a store."""
    answers: list[object] = []
    book = lossbook.open(store)
    for name in NAMES:
        run = book.run(name)
        answers += [name, run.state, run.config, run.metrics, run.keys(), run.events()]
        answers.append([problem.replace(str(store), "STORE") for problem in run.problems()])
        keys = run.keys()
        for key in keys:
            curve = run.curve(key, points=50)
            answers += [curve.x.tolist(), curve.min.tolist(), curve.max.tolist(), curve.count.tolist()]
            answers.append(run.curve(key, x="wallclock", points=20, smoothing=0.9).mean.tolist())
        answers.append(run.history().rows())
    answers += [[run.id for run in book.runs(where="val/loss < 6", sort="-config.lr")], book.projects()]
    answers.append(book.sql("select run, key, count(*), min(value) from metrics group by all order by all").rows())
    listing = book.listing()
    listing.look()
    answers.append(listing.keys())
    return answers


def test_the_api_changes_nothing_in_the_store(made: Path) -> None:
    with untouched(made):
        ask_everything(made)


def test_a_dead_run_is_read_as_it_lies_and_as_it_is_after_sealing(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(made, copy)
    before = lossbook.open(copy).run("dead")
    assert before.state == "crashed"
    assert before.curve("train/loss").count.sum() == 250
    rows, curve = before.history("train/loss").rows(), before.curve("train/loss", points=40).max.tolist()
    assert seal_run(before.folder, finished=True).segments == 2
    after = lossbook.open(copy).run("dead")
    assert after.history("train/loss").rows() == rows
    assert after.curve("train/loss", points=40).max.tolist() == curve


def test_what_a_reader_keeps_is_a_cache_that_may_be_deleted(made: Path, tmp_path: Path) -> None:
    answers = ask_everything(made)
    cache = tmp_path / "cache"
    assert any(cache.rglob("*.json"))
    shutil.rmtree(cache)
    assert ask_everything(made) == answers


def test_a_dead_runs_summary_is_made_once_for_all_listings(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(made, copy)
    for folder, _, _ in os.walk(copy):
        os.utime(folder, (1e9, 1e9))
    counted = []
    from lossbook.storage.summary import LiveSummary

    update: Callable[..., dict[str, object]] = LiveSummary.update
    monkeypatch.setattr(LiveSummary, "update", lambda self, *words: (counted.append(self), update(self, *words))[1])
    assert {run.id: run.state for run in lossbook.open(copy).runs()}["dead"] == "crashed"
    first = len(counted)
    assert {run.id: run.state for run in lossbook.open(copy).runs()}["dead"] == "crashed"
    assert len(counted) - first <= 2  # the running one, and the one whose summary.json is damaged
    # A row that comes after all is seen: the journal tells, whatever the folder's time says.
    with open(copy / "tests" / "dead" / "journal" / "r0-000002.jsonl", "ab") as file:
        file.write(b'{"i":999,"t":1763688000999999,"s":999,"m":{"late":1.0}}\n')
    assert "late" in lossbook.open(copy).run("dead").metrics


@pytest.fixture
def read_only(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The store on a mount that takes no writes."""
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(made), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_store_on_a_read_only_mount_gives_the_same_answers(made: Path, read_only: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (read_only / "x").touch()
    assert ask_everything(read_only) == ask_everything(made)
