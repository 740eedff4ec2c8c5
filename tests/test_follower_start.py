"""What a follower does without as long as a run has hardly a row: its start is to cost the training's machine little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lossbook
from lossbook.follower import beginning
from lossbook.follower.beginning import BEGINNING_BYTES, BEGINNING_ROWS, Beginning
from lossbook.follower.capture import capture
from lossbook.monitor.drivers import may_have_amd, may_have_nvidia
from lossbook.paths import RunFolder, write_json

#: Follows a run of this very process until the machine's first row is there, and prints what it has loaded by then.
FOLLOWS = """
import json, os, sys, time
os.environ["LOSSBOOK_SYSTEM_INTERVAL"] = "0.1"
from lossbook.follower.service import run_service
from lossbook.follower.loop import FollowedRun
from lossbook.paths import RunFolder
folder = RunFolder(sys.argv[1])
run = FollowedRun(folder, int(sys.argv[2]), attempt=0, rank=0)
assert run.hold()
deadline = time.monotonic() + 60
while not any("r-1000" in name for name in os.listdir(folder.journal)) and time.monotonic() < deadline:
    assert run.tick()
    time.sleep(0.02)  # the machine is sampled meanwhile
print(json.dumps(sorted(sys.modules)))
os._exit(0)
"""
#: Each takes longer to load than a follower takes for a minute of an idle run, or brings along much that does.
HEAVY = (
    "argparse", "asyncio", "click", "concurrent.futures", "duckdb", "http", "importlib.metadata", "logging",
    "multiprocessing", "numpy", "pandas", "pathlib", "polars", "pyarrow", "tempfile", "torch", "traceback", "urllib",
    "lossbook.curves", "lossbook.diagnosis", "lossbook.follower.alerts", "lossbook.follower.deliver",
    "lossbook.follower.ending", "lossbook.follower.mirror_process", "lossbook.follower.repository",
    "lossbook.monitor.amd", "lossbook.monitor.nvidia", "lossbook.reading", "lossbook.registry", "lossbook.run.run",
    "lossbook.storage.compaction", "lossbook.storage.scan", "lossbook.storage.schema", "lossbook.storage.summary",
    "lossbook.trackers",
)  # fmt: skip


@pytest.fixture
def run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with one row, in a folder that is no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    begun = lossbook.init(store=store, project="p", id="one", console=False)
    begun.log({"loss": 1.0}, step=0)
    return RunFolder(begun.path)


@pytest.mark.skipif(may_have_nvidia() or may_have_amd(), reason="this machine has a GPU to be measured")
def test_a_follower_that_has_just_begun_has_loaded_nothing_heavy(run: RunFolder) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FOLLOWS, run.path, str(os.getpid())], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "lossbook.monitor.host" in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert not os.path.exists(run.summary_json)


def test_git_is_not_started_where_no_repository_is(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    capture(run, attempt=0, main=True)
    assert not (tmp_path / "started").exists()
    (tmp_path / ".git").mkdir()
    capture(run, attempt=0, main=True)
    assert (tmp_path / "started").exists()


# -- the beginning ------------------------------------------------------------------------------------------------


def write(run: RunFolder, *lines: str, name: str = "r0-000002.jsonl") -> dict[str, int]:
    """Add lines to a journal, and say how long the run's journals are."""
    with open(os.path.join(run.journal, name), "a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return {one.name: one.stat().st_size for one in os.scandir(run.journal)}


def test_a_run_with_a_few_rows_is_at_its_beginning(run: RunFolder) -> None:
    begins = Beginning(run)
    assert not begins.is_over(write(run))
    assert not begins.is_over(write(run, '{"i":0,"t":1,"s":0,"m":{"loss":1.0}}', '{"i":1,"t":2,"k":"config","v":{}}'))


@pytest.mark.parametrize(
    "line",
    [
        '{"i":0,"t":1,"s":0,"m":{"loss":"NaN"}}',
        '{"i":0,"t":1,"s":0,"m":{"loss":"-Infinity"}}',
        '{"i":0,"t":1,"k":"alert","v":{"title":"look","text":"","level":"info"}}',
    ],
)
def test_what_is_to_be_said_at_once_ends_the_beginning(run: RunFolder, line: str) -> None:
    begins = Beginning(run)
    assert not begins.is_over(write(run))
    assert begins.is_over(write(run, line))
    assert begins.is_over(write(run))


def test_a_row_that_is_half_written_at_one_look_is_seen_at_the_next(run: RunFolder) -> None:
    begins = Beginning(run)
    sizes = write(run, '{"i":0,"t":1,"s":0,"m":{"loss":"NaN"}}')
    assert not begins.is_over({**sizes, "r0-000002.jsonl": 32})
    assert begins.is_over(sizes)


@pytest.mark.parametrize(
    "lines",
    [['{"i":0,"t":1,"s":0,"m":{"loss":1}}'] * BEGINNING_ROWS, ["x" * BEGINNING_BYTES]],
    ids=["many rows", "long rows"],
)
def test_many_rows_end_the_beginning(run: RunFolder, lines: list[str]) -> None:
    begins = Beginning(run)
    assert not begins.is_over(write(run))
    assert begins.is_over(write(run, *lines))


def test_a_run_that_logs_seldom_is_not_at_its_beginning_for_ever(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "BEGINNING_SECONDS", 0.0)
    assert Beginning(run).is_over(write(run))


def test_a_run_that_has_a_summary_is_past_its_beginning(run: RunFolder) -> None:
    write_json(run.summary_json, {"state": "finished"})
    assert Beginning(run).is_over(write(run))


# -- drivers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vendor", "is_there"), [("0x1002\n", True), ("0x8086\n", False)])
def test_a_card_of_amd_is_told_by_its_vendor(tmp_path: Path, vendor: str, is_there: bool) -> None:
    card = tmp_path / "class" / "drm" / "card1" / "device"
    assert not may_have_amd(str(tmp_path))
    card.mkdir(parents=True)
    assert not may_have_amd(str(tmp_path))
    (card / "vendor").write_text(vendor)
    assert may_have_amd(str(tmp_path)) == is_there


def test_a_library_of_nvidias_that_the_search_path_names_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere{os.pathsep}{tmp_path}")
    (tmp_path / "libnvidia-ml.so.1").touch()
    assert may_have_nvidia()
