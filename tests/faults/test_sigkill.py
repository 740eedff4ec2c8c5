"""A row whose `log()` returned survives whatever kills the process without a word."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from programs import begin, journal_rows, kill_group, only_run, recorded, row_numbers, run, steps

from lossbook.cli.followers import follower_of
from lossbook.paths import read_json

#: Logs for ever, and says in shared memory, which outlives it, which step's `log()` has returned.
LOG_FOR_EVER = """
import mmap, struct
with open(sys.argv[2], "r+b") as file:
    page = mmap.mmap(file.fileno(), 8)
run = lossbook.init(store=store, project="p", name="killed", console=False)
others = {f"key/{number}": number / 7 for number in range(9)}
step = 0
while True:
    run.log({"loss": step * 0.5, **others}, step=step)
    page[:8] = struct.pack("<q", step)
    step += 1
"""


def begin_to_log(store: Path, wait_until: Any, **environment: str) -> tuple[Any, Path]:
    mark = store.parent / "returned"
    mark.write_bytes(struct.pack("<q", -1))
    process = begin(LOG_FOR_EVER, store, mark, **environment)
    wait_until(lambda: returned(mark) >= 0 or process.poll() is not None)
    return process, mark


def returned(mark: Path) -> int:
    """The last step whose `log()` has returned."""
    return int(struct.unpack("<q", mark.read_bytes())[0])


def test_no_row_whose_log_returned_is_lost_to_sigkill_at_random_moments(tmp_path: Path, wait_until: Any) -> None:
    for number in range(20):
        store = tmp_path / str(number) / "store"
        store.parent.mkdir()
        # Small segments, so that some are killed between two of them.
        process, mark = begin_to_log(store, wait_until, LOSSBOOK_SEGMENT_BYTES="20000")
        time.sleep(random.uniform(0, 0.1))  # a random moment is the test
        kill_group(process)
        logged = steps(only_run(store))
        assert logged == list(range(len(logged)))
        assert len(logged) > returned(mark)
        assert row_numbers(only_run(store)) == list(range(len(row_numbers(only_run(store)))))


def test_a_killed_run_is_read_as_crashed_with_all_its_rows(store: Path, wait_until: Any) -> None:
    process, mark = begin_to_log(store, wait_until)
    wait_until(lambda: returned(mark) > 1000)
    kill_group(process)
    found = recorded(only_run(store))
    assert found.state == "crashed"
    assert found.metrics["loss"]["count"] > returned(mark)
    assert found.curve("loss", points=10).last[-1] == 0.5 * found.metrics["loss"]["last_step"]
    assert found.problems() == []


@pytest.mark.usefixtures("follower")
def test_the_follower_notices_the_death_and_seals(store: Path, wait_until: Any) -> None:
    process, mark = begin_to_log(store, wait_until)
    wait_until(lambda: returned(mark) > 1000)
    folder = only_run(store)
    wait_until(lambda: follower_of(folder.path) is not None)
    kill_group(process)
    wait_until(lambda: follower_of(folder.path) is None, seconds=60)
    assert read_json(os.path.join(folder.followers, "watch.json"))["state"] == "crashed"  # type: ignore[index]
    assert os.listdir(folder.journal) == []
    assert (read_json(folder.summary_json) or {})["state"] == "crashed"
    assert recorded(folder).metrics["loss"]["count"] > returned(mark)
    assert recorded(folder).problems() == []


@pytest.mark.usefixtures("follower")
def test_training_goes_on_when_its_follower_is_killed(store: Path, wait_until: Any) -> None:
    process, mark = begin_to_log(store, wait_until)
    folder = only_run(store)
    wait_until(lambda: follower_of(folder.path) is not None)
    os.kill(int(follower_of(folder.path) or 0), signal.SIGKILL)
    last = returned(mark)
    wait_until(lambda: returned(mark) > last + 1000)
    kill_group(process)
    # The next reader does the follower's work.
    assert recorded(folder).metrics["loss"]["count"] > returned(mark)
    assert recorded(folder).state == "crashed"


@pytest.mark.parametrize(
    ("death", "status"),
    [
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.abort()", -signal.SIGABRT),
    ],
    ids=["segmentation fault", "abort"],
)
def test_a_sudden_death_from_inside_loses_nothing(store: Path, death: str, status: int) -> None:
    code = f"""
        run = lossbook.init(store=store, project="p")
        for step in range(500):
            run.log({{"loss": step}}, step=step)
        {death}
    """
    assert run(code, store).returncode == status
    assert steps(only_run(store)) == list(range(500))
    assert recorded(only_run(store)).state == "crashed"


def test_every_kind_of_row_survives(store: Path, wait_until: Any) -> None:
    code = """
        run = lossbook.init(store=store, project="p")
        run.log({"loss": 1.0, "sample": lossbook.Text("once upon"), "nested": {"a": 2}}, step=7)
        run.log({"histogram": lossbook.Histogram([1, 2, 3])}, step=7)
        run.alert("spike"); run.note("a note"); run.config["lr"] = 0.1; run.summary["best"] = 2
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(code, store).returncode == -signal.SIGKILL
    kinds = [row.kind for row in journal_rows(only_run(store))]
    assert kinds == ["attempt", None, "text", "histogram", "alert", "note", "config", "summary"]
    assert recorded(only_run(store)).config == {"lr": 0.1}
