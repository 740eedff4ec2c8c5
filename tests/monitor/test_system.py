"""The follower writes the machine's series beside the training, and disturbs nothing else of the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import REPOSITORY, FakeNvml

import lossbook
from lossbook.cli.followers import living_followers
from lossbook.follower.journal import OwnRows
from lossbook.follower.system import SystemMetrics, interval_seconds
from lossbook.journal.liveness import live_writers, writer_is_over
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.journal.segment_numbers import next_child_rank
from lossbook.monitor import Monitor
from lossbook.paths import MONITOR_RANK, RunFolder, is_monitor, read_json
from lossbook.storage.compaction import seal_run
from lossbook.storage.resume_point import next_row
from lossbook.storage.segments import list_segments
from lossbook.storage.verify import verify_run

pytestmark = pytest.mark.slow

WaitUntil = Callable[..., None]

TRAIN = """
import sys, lossbook
store, resume_step, first, last = sys.argv[1], *map(int, sys.argv[2:5])
more = {} if resume_step < 0 else {"resume": "must", "resume_step": resume_step}
run = lossbook.init(store=store, project="p", id="one", name="one", **more)
for step in range(first, last):
    run.log({"loss": float(step)}, step=step)
print("logged", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(store: Path) -> RunFolder:
    return RunFolder(str(store / "p" / "one"))


@pytest.fixture
def train(
    store: Path, follower: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a training that has logged its steps when this returns, and waits; sampled ten times a second."""
    monkeypatch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "0.1")
    started: list[subprocess.Popen[bytes]] = []

    def start(first: int = 0, last: int = 10, resume_step: int = -1, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(store), str(resume_step), str(first), str(last)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"logged\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[bytes], folder: RunFolder, wait_until: WaitUntil) -> None:
    process.communicate(b"\n")
    assert process.returncode == 0
    wait_until(lambda: not followers(folder))


def followers(folder: RunFolder) -> list[int]:
    return living_followers().get(os.path.realpath(folder.path), [])


def measured_rows(folder: RunFolder, rank: int = MONITOR_RANK) -> list[Any]:
    """The rows of scalars in the follower's own live journal."""
    rows = [
        row for one in journal_segments(folder.journal) if one.name.rank == rank for row in read_segment(one.path).rows
    ]
    return [row for row in rows if row.kind is None]


def said(folder: RunFolder) -> str:
    return Path(folder.followers, "follow.log").read_text()


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_has_the_machines_series_at_its_last_step(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train()
    wait_until(lambda: len(measured_rows(folder)) >= 3)
    live = lossbook.open(store).run("one")
    assert {"loss", "cpu_percent", "memory_percent", "system.proc.memory_rss_bytes"} <= set(live.keys())
    finish(process, folder, wait_until)
    run = lossbook.open(store).run("one")
    rows = run.history(["memory_percent"]).rows()
    assert rows
    assert {row[0] for row in rows} == {9}
    assert [(step, value) for step, _, value in run.history(["loss"]).rows()] == [
        (step, float(step)) for step in range(10)
    ]
    assert "Traceback" not in said(folder)


def test_the_follower_ends_and_everything_is_sealed(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    process = train()
    wait_until(lambda: len(measured_rows(folder)) >= 2)
    finish(process, folder, wait_until)
    assert journal_segments(folder.journal) == []
    assert sorted({segment.name.rank for segment in list_segments(folder)}) == [MONITOR_RANK, 0]
    findings = list(verify_run(folder))
    assert findings
    assert [finding for finding in findings if not finding.ok] == []


def test_how_far_a_run_has_come_only_its_training_says(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train()
    wait_until(lambda: len(measured_rows(folder)) >= 3)
    finish(process, folder, wait_until)
    summary = read_json(folder.summary_json) or {}
    assert (summary["state"], summary["rows"], summary["last_step"], summary["problems"]) == ("finished", 12, 9, [])
    assert summary["metrics"]["memory_percent"]["count"] >= 3


def test_a_run_that_was_killed_is_crashed_and_its_series_are_kept(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train()
    wait_until(lambda: len(measured_rows(folder)) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not followers(folder))
    run = lossbook.open(store).run("one")
    assert run.state == "crashed"
    assert len(run.history(["memory_percent"]).rows()) >= 1
    assert journal_segments(folder.journal) == []


def test_a_resumed_attempt_goes_on_with_another_segment_and_hides_nothing_of_its_own(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train(0, 10)
    wait_until(lambda: len(measured_rows(folder)) >= 2)
    finish(process, folder, wait_until)
    before = next_row(folder, MONITOR_RANK)
    process = train(5, 8, resume_step=4)
    wait_until(lambda: len(measured_rows(folder)) >= 2)
    rows = measured_rows(folder)
    assert rows[0].i == before + 1  # the attempt row lies between
    assert {row.step for row in rows} <= {4, 5, 6, 7}
    finish(process, folder, wait_until)
    run = lossbook.open(store).run("one")
    assert [row[0] for row in run.history(["loss"]).rows()] == list(range(8))
    assert {row[0] for row in run.history(["memory_percent"]).rows()} <= {4, 5, 6, 7}
    assert (run.state, (read_json(folder.summary_json) or {})["last_step"]) == ("finished", 7)
    assert [finding for finding in verify_run(folder) if not finding.ok] == []


def test_a_follower_that_was_killed_is_followed_by_another_without_a_gap(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train()
    wait_until(lambda: len(measured_rows(folder)) >= 2)
    os.kill(followers(folder)[0], signal.SIGKILL)
    wait_until(lambda: not followers(folder))
    rows = len(measured_rows(folder))
    another = subprocess.Popen(
        [sys.executable, "-P", "-m", "lossbook.follower", folder.path, "--pid", str(process.pid)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: len(measured_rows(folder)) > rows)
    process.communicate(b"\n")
    assert another.wait(60) == 0
    assert journal_segments(folder.journal) == []
    read = lossbook.open(store).run("one").history(["memory_percent"]).rows()
    assert len(read) > 0
    assert [finding for finding in verify_run(folder) if not finding.ok] == []


@pytest.mark.parametrize("off", ["off", "0", "none"])
def test_nothing_is_measured_when_nothing_is_wanted(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil, off: str
) -> None:
    process = train(LOSSBOOK_SYSTEM_INTERVAL=off)
    wait_until(lambda: list(Path(folder.followers).glob("lease-*")))
    finish(process, folder, wait_until)
    assert {segment.name.rank for segment in list_segments(folder)} == {0}


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the fake library")
def test_a_driver_that_goes_half_way_ends_the_series_and_the_run_goes_on(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil, nvml: FakeNvml
) -> None:
    pytest.importorskip("pynvml")
    nvml.set("cards 2")
    process = train(**nvml.environment)
    wait_until(lambda: any("gpu/compute_util_avg" in row.body for row in measured_rows(folder)))
    nvml.set("cards 2", "driver 999")
    wait_until(lambda: "the NVIDIA driver does not answer" in said(folder))
    after = len(measured_rows(folder))
    wait_until(lambda: len(measured_rows(folder)) > after + 1)
    assert not [key for key in measured_rows(folder)[-1].body if "gpu" in key]
    finish(process, folder, wait_until)
    run = lossbook.open(store).run("one")
    assert run.state == "finished"
    assert run.history(["gpu/compute_util_avg"]).rows()[0][-1] == 50.5
    assert said(folder).count("the NVIDIA driver does not answer") == 1


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the fake library")
def test_a_driver_that_hangs_holds_up_neither_the_run_nor_its_sealing(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil, nvml: FakeNvml
) -> None:
    pytest.importorskip("pynvml")
    process = train(**nvml.environment)
    wait_until(lambda: any("gpu_utilization" in row.body for row in measured_rows(folder)))
    nvml.set("cards 1", "hang 1")
    finish(process, folder, wait_until)
    assert journal_segments(folder.journal) == []
    assert lossbook.open(store).run("one").state == "finished"


# -- several nodes ----------------------------------------------------------------------------------------------------


def test_every_node_has_its_series_in_the_one_run(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    job = {"WORLD_SIZE": "16", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "first", "MASTER_PORT": "1"}
    nodes = [train(**job, RANK=rank) for rank in ("0", "8")]
    for rank in (MONITOR_RANK, MONITOR_RANK - 8):
        wait_until(lambda rank=rank: len(measured_rows(folder, rank)) >= 2)
    for process in nodes:
        process.communicate(b"\n")
    wait_until(lambda: not followers(folder))
    assert journal_segments(folder.journal) == []
    assert [finding for finding in verify_run(folder) if not finding.ok] == []
    run = lossbook.open(store).run("one")
    assert {"memory_percent", "memory_percent/node_8"} <= set(run.keys())
    # Only rank 0's losses count, and a series of one node's is no mean over ranks.
    assert [row[0] for row in run.history(["loss"]).rows()] == list(range(10))
    assert {row[0] for row in run.history(["memory_percent/node_8"]).rows()} == {9}
    summary = read_json(folder.summary_json) or {}
    assert (summary["state"], summary["last_step"]) == ("finished", 9)


class Sampled:
    """Stands in for a monitor: gives what it is told, once it is asked."""

    def __init__(self, figures: dict[str, float]) -> None:
        self.figures = figures

    def sample(self) -> dict[str, float]:
        return dict(self.figures)

    def close(self) -> None:
        pass


def a_run(store: Path) -> tuple[Any, RunFolder]:
    run = lossbook.init(store=store, project="p", id="one")
    return run, RunFolder(run.path)


def beside(folder: RunFolder, rank: int, figures: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> SystemMetrics:
    monkeypatch.setenv("LOSSBOOK_SYSTEM_INTERVAL", "0.1")
    stand_in: Any = Sampled(figures)
    return SystemMetrics(folder, os.getpid(), rank, monitor=lambda: stand_in)


def test_sums_are_over_the_gpus_of_every_node(
    store: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    run, folder = a_run(store)
    run.log({"loss": 1.0}, step=3)
    gib = 2.0**30

    def figures(number: int) -> dict[str, float]:
        begin = f"system.gpu.{number}."
        return {f"{begin}gpu": 10.0 * number, f"{begin}memoryAllocatedBytes": gib, f"{begin}memoryTotalBytes": 8 * gib}

    second = beside(folder, 8, figures(8), monkeypatch)
    wait_until(lambda: second.tick() or measured_rows(folder, MONITOR_RANK - 8))
    first = beside(folder, 0, figures(0), monkeypatch)
    wait_until(lambda: first.tick() or measured_rows(folder))
    assert measured_rows(folder)[0].body == {
        **figures(0),
        "gpu/compute_util_avg": 40.0,
        "gpu/memory_used_avg_gb": 1.0,
        "gpu/memory_used_total_gb": 2.0,
        "gpu/memory_total_gb": 16.0,
    }
    assert measured_rows(folder, MONITOR_RANK - 8)[0].body == figures(8)
    first.close()
    second.close()


# -- the follower's own journal -------------------------------------------------------------------------------------------


def test_a_follower_is_no_writer_of_the_run(store: Path) -> None:
    run, folder = a_run(store)
    rows = OwnRows(folder)
    assert rows.append_scalars({"cpu_percent": 1.0}, time_us=time.time_ns() // 1000)
    assert [segment.name.rank for segment in live_writers(folder.journal)] == [0]
    run.finish()
    assert live_writers(folder.journal) == []
    own = next(one for one in journal_segments(folder.journal) if is_monitor(one.name.rank))
    assert writer_is_over(own)  # for this process, which is the one that wrote it
    rows.close()
    seal_run(folder, finished=True)
    assert journal_segments(folder.journal) == []


def test_another_processs_open_journal_is_not_sealed(store: Path) -> None:
    run, folder = a_run(store)
    code = (
        "import sys, time\nfrom lossbook.follower.journal import OwnRows\nfrom lossbook.paths import RunFolder\n"
        "OwnRows(RunFolder(sys.argv[1])).append_scalars({'cpu_percent': 1.0}, time_us=1)\n"
        "print(flush=True)\nsys.stdin.readline()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, folder.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert other.stdout is not None
    other.stdout.readline()
    run.finish()
    assert live_writers(folder.journal) == []  # or the follower would wait for itself for ever
    seal_run(folder, finished=True)
    assert [one.name.rank for one in journal_segments(folder.journal)] == [MONITOR_RANK]
    other.communicate(b"\n")
    seal_run(folder, finished=True)
    assert journal_segments(folder.journal) == []


def test_another_nodes_follower_seals_its_own_while_the_run_goes_on(store: Path) -> None:
    _, folder = a_run(store)
    rows = OwnRows(folder, 8)
    rows.append_scalars({"cpu_percent/node_8": 1.0}, time_us=1)
    rows.close()
    seal_run(folder, finished=True, node_only=True)
    assert [one.name.rank for one in journal_segments(folder.journal)] == [0]
    assert [one.name.rank for one in list_segments(folder) if one.is_sealed] == [MONITOR_RANK - 8]


def test_two_followers_never_write_one_journal(store: Path) -> None:
    _, folder = a_run(store)
    first, second = OwnRows(folder), OwnRows(folder)
    assert first.append_scalars({"a": 1.0}, time_us=1)
    assert not second.append_scalars({"a": 2.0}, time_us=2)
    assert OwnRows(folder, 8).append_scalars({"a": 3.0}, time_us=3)  # another node's
    first.close()
    assert second.append_scalars({"a": 4.0}, time_us=4)
    assert [row.body["a"] for row in measured_rows(folder)] == [1.0, 4.0]
    assert [row.i for row in measured_rows(folder)] == [1, 3]
    second.close()


def test_rows_of_other_kinds_may_stand_there_too(store: Path) -> None:
    _, folder = a_run(store)
    rows = OwnRows(folder)
    assert rows.append_event("alert", {"title": "GPU 0 is hot", "text": "", "level": "warning"}, step=7)
    rows.close()
    (alert,) = lossbook.open(store).run("one").events(kind="alert")
    assert (alert["step"], alert["rank"], alert["value"]["title"]) == (7, MONITOR_RANK, "GPU 0 is hot")


def test_child_processes_never_get_a_followers_number(store: Path) -> None:
    run, folder = a_run(store)
    assert next_child_rank(folder) == -1
    rows = OwnRows(folder)
    rows.append_scalars({"a": 1.0}, time_us=1)
    assert next_child_rank(folder) == -1
    Path(folder.journal, "r-999-000001.jsonl").touch()
    following = next_child_rank(folder)
    assert following < MONITOR_RANK
    assert not is_monitor(following)
    Path(folder.journal, f"r{following}-000001.jsonl").touch()
    assert next_child_rank(folder) == following - 1
    rows.close()
    run.finish()


def test_the_step_is_that_of_the_training_whatever_was_written_last(store: Path) -> None:
    run, folder = a_run(store)
    rows = OwnRows(folder)
    assert rows.step() == 0
    for step in (3, 900, 5):
        run.log({"loss": 1.0}, step=step)
    run.note("a row without scalars")
    assert rows.step() == 900
    run.finish()
    seal_run(folder, finished=True)
    assert rows.step() == 900
    forked = lossbook.init(store=store, project="p", id="two", fork_from=("one", 400))
    assert OwnRows(RunFolder(forked.path)).step() == 400
    forked.finish()
    resumed = lossbook.init(store=store, project="p", id="one", resume="must", resume_step=100)
    assert rows.step() == 100
    resumed.finish()


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 2.0), ("15", 15.0), ("0.5", 0.5), ("0.0001", 0.1), ("off", None), ("0", None), ("-3", None), ("soon", 2.0),
     ("nan", None)],
)  # fmt: skip
def test_the_interval_may_be_set(text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_SYSTEM_INTERVAL", text)
    assert interval_seconds() == seconds


def test_sampling_ends_with_the_run(store: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil) -> None:
    _, folder = a_run(store)
    system = beside(folder, 0, {"cpu_percent": 1.0}, monkeypatch)
    wait_until(lambda: system.tick() or measured_rows(folder))
    system.close()
    wait_until(lambda: "lossbook-monitor" not in [thread.name for thread in threading.enumerate()])


def test_a_real_monitor_fits(store: Path) -> None:
    monitor = Monitor(os.getpid(), folder=str(store.parent))
    monitor.sample()
    assert monitor.sample()["memory_percent"] > 0
    monitor.close()
