"""What is told of a training process that could say nothing itself: a signal, an exit code, memory that ran out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import begin, kill_group, only_run, recorded

import lossbook
from lossbook.follower.nodes import Nodes, note_ranks
from lossbook.follower.post_mortem import MemoryKills, ProcessEnd, how_it_ended
from lossbook.journal import drop_lease, lease_path, renew_lease
from lossbook.paths import RunFolder
from lossbook.processes import Place, this_place

pytestmark = pytest.mark.usefixtures("follower")

LOG = """
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0}, step=0)
print("ready", flush=True)
sys.stdin.readline()
"""


def end_of(code: str) -> int | None:
    """What the kernel tells of a program that has ended and was collected by its parent."""
    process = subprocess.Popen([sys.executable, "-c", f"input(); import os; {code}"], stdin=subprocess.PIPE, text=True)
    watched = ProcessEnd(process.pid, None)
    try:
        assert watched.status() is None
        process.communicate("go on\n", timeout=30)
        return watched.status()
    finally:
        watched.close()


def kernel_tells_of_exits() -> bool:
    release = os.uname().release.split(".")
    return sys.platform == "linux" and (int(release[0]), int(release[1])) >= (6, 15)


@pytest.fixture(scope="module")
def tells() -> bool:
    """Whether this kernel says how a process ended that is not one's child."""
    return kernel_tells_of_exits()


@pytest.mark.parametrize(
    ("code", "status"),
    [("os._exit(3)", 3), ("", 0), ("os.kill(os.getpid(), 9)", -signal.SIGKILL), ("os.abort()", -signal.SIGABRT)],
)
def test_the_kernel_tells_how_a_process_ended_that_is_no_child(code: str, status: int, tells: bool) -> None:
    assert end_of(code) == (status if tells else None)


def begin_node(folder: RunFolder, place: Place, rank: int, ranks: int) -> None:
    """What the follower of a node does first."""
    note_ranks(folder, place, rank, ranks)
    renew_lease(folder, place)


def silent(folder: RunFolder, place: Place, seconds: float) -> None:
    """Make a lease that long older than this node's."""
    now = os.stat(lease_path(folder, this_place())).st_mtime
    os.utime(lease_path(folder, place), (now - seconds, now - seconds))


def test_a_node_that_vanishes_is_named_with_its_ranks_and_so_is_its_return(store: Path) -> None:
    folder = RunFolder(str(store / "p" / "one"))
    others = {name: Place(name, "boot", "pid:[1]") for name in ("gpu07", "gpu08", "left-behind", "one-gpu")}
    Path(folder.followers).mkdir(parents=True)
    begin_node(folder, this_place(), 0, 8)
    begin_node(folder, others["left-behind"], 8, 8)
    silent(folder, others["left-behind"], 3600)  # of an earlier attempt
    nodes = Nodes(folder, this_place())
    assert nodes.look() == []
    begin_node(folder, others["gpu07"], 8, 8)
    begin_node(folder, others["gpu08"], 16, 8)
    begin_node(folder, others["one-gpu"], 24, 1)
    assert nodes.look() == []
    silent(folder, others["gpu07"], 71)
    silent(folder, others["gpu08"], 60)
    silent(folder, others["one-gpu"], 100)
    gone = sorted(nodes.look())
    assert gone == [
        (
            "the node gpu07 (ranks 8 to 15) has not been heard of for 71 s: it is gone, or does not reach the store",
            8,
            False,
        ),
        (
            "the node one-gpu (rank 24) has not been heard of for 100 s: it is gone, or does not reach the store",
            24,
            False,
        ),
    ]
    assert nodes.look() == []
    renew_lease(folder, others["gpu07"])
    drop_lease(folder, others["one-gpu"])  # it has ended, late
    assert nodes.look() == [("the node gpu07 (ranks 8 to 15) is heard of again", 8, True)]


@pytest.mark.parametrize("is_back", [False, True])
def test_a_run_that_fails_because_a_node_has_gone_says_so_first(store: Path, is_back: bool) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    gone = "the node gpu07 (ranks 8 to 15) has not been heard of for 71 s: it is gone, or does not reach the store"
    run.record_event("warning", {"message": gone, "missed_node": True, "missed_rank": 8})
    if is_back:
        back = {"message": "the node gpu07 (ranks 8 to 15) is heard of again", "missed_rank": 8, "is_back": True}
        run.record_event("warning", back)
    run.end("failed", "RuntimeError: NCCL timeout")
    found = recorded(only_run(store))
    own = "RuntimeError: NCCL timeout"
    assert (found.state, found.error) == ("failed", own if is_back else f"{gone}; then rank 0: {own}")
    assert found.problems()[0] == gone


def test_how_a_process_ended_is_a_predicate() -> None:
    assert how_it_ended(3, out_of_memory=False) == "ended with exit code 3 and without a word"
    assert how_it_ended(-signal.SIGSEGV, out_of_memory=False) == "crashed with SIGSEGV"
    assert how_it_ended(-signal.SIGKILL, out_of_memory=False) == "was killed by SIGKILL"
    assert how_it_ended(-64, out_of_memory=False) in ("was killed by SIGRTMAX", "was killed by signal 64")
    assert how_it_ended(None, out_of_memory=False) is None
    for status in (None, -signal.SIGKILL):
        said = how_it_ended(status, out_of_memory=True)
        assert said is not None
        assert said.startswith("was killed by the kernel's out-of-memory killer")
    # One of its helpers was ended, and it has failed by itself.
    assert how_it_ended(1, out_of_memory=True) == "ended with exit code 1 and without a word"


def test_a_process_with_the_number_of_one_that_has_gone_is_another() -> None:
    watched = ProcessEnd(os.getpid(), 1.0)
    assert watched.status() is None
    assert MemoryKills().new() == 0


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSEGV, "crashed with SIGSEGV")],
)
def test_a_training_process_that_dies_without_a_word_is_told_by_its_signal(
    store: Path, wait_until: Any, tells: bool, number: int, error: str
) -> None:
    process = begin(LOG, store)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: (Path(only_run(store).followers) / "follow.log").exists(), 30)
        os.kill(process.pid, number)
        process.wait()
        wait_until(lambda: (Path(only_run(store).followers) / "watch.json").exists(), 30)
        found = recorded(only_run(store))
        assert found.state == "crashed"
        assert found.error == f"the training process {error if tells else 'ended without a word'}"
    finally:
        kill_group(process)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("JobId=42 JobState=RUNNING Requeue=1 PreemptTime=2026-11-30T10:00:00 NodeList=gpu07", "preempted"),
        ("JobId=42 JobState=PREEMPTED Reason=None PreemptTime=None", "preempted"),
        ("JobId=42 JobState=CANCELLED Reason=None PreemptTime=None", "killed"),
        ("", "killed"),
    ],
)
def test_slurm_is_asked_whether_it_has_preempted_the_job(
    store: Path, tmp_path: Path, wait_until: Any, answer: str, state: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    scontrol = programs / "scontrol"
    scontrol.write_text(f'#!/bin/sh\n[ "$*" = "show job -o 42" ] || exit 1\necho "{answer}"\n')
    scontrol.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    process = begin(LOG, store, SLURM_JOB_ID="42", PATH=path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: (Path(only_run(store).followers) / "follow.log").exists(), 30)
        process.terminate()
        process.wait()
        wait_until(lambda: os.listdir(only_run(store).journal) == [], 60)
        assert recorded(only_run(store)).state == state
    finally:
        kill_group(process)


@pytest.fixture
def small_group() -> Iterator[tuple[str, ...]]:
    """The words of a command that runs another with 300 MB of memory, in a control group of its own."""
    base = Path("/sys/fs/cgroup")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    old = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory"]
    new = [line.split(":", 2)[2] for line in lines if line.startswith("0::")]
    parent = base / "memory" / old[0].lstrip("/") if old else base / (new or ["/"])[0].lstrip("/")
    group = parent / f"lossbook-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text("300000000")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"this test needs a control group of its own, which is not allowed here ({error.strerror})")
    yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    for pid in (group / "cgroup.procs").read_text().split():
        (parent / "cgroup.procs").write_text(pid)  # a follower that is about to leave
    group.rmdir()


@pytest.mark.root
def test_the_out_of_memory_killer_is_named(store: Path, wait_until: Any, small_group: tuple[str, ...]) -> None:
    process = begin(LOG + "all = []\nwhile True: all.append(os.urandom(1 << 16) * 64)", store, before=small_group)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: (Path(only_run(store).followers) / "follow.log").exists(), 30)
        process.communicate("go on\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: (Path(only_run(store).followers) / "watch.json").exists(), 30)
        found = recorded(only_run(store))
        assert found.state == "crashed"
        assert found.error == (
            "the training process was killed by the kernel's out-of-memory killer (its control group may use 0.3 GB)"
        )
    finally:
        kill_group(process)


@pytest.mark.root
def test_a_helper_that_the_out_of_memory_killer_ended_is_a_problem_of_the_run(
    store: Path, wait_until: Any, small_group: tuple[str, ...]
) -> None:
    code = """
import subprocess
subprocess.run([sys.executable, "-c", "all = []\\nwhile True: all.append(b'1' * (1 << 22))"])
sys.stdin.readline()
run.log({"loss": 0.5}, step=1)
"""
    process = begin(LOG + code, store, before=small_group)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: (Path(only_run(store).followers) / "follow.log").exists(), 30)
        process.stdin.write("go on\n")
        process.stdin.flush()
        wait_until(lambda: recorded(only_run(store)).problems() != [], 30)
        process.communicate("go on\n", timeout=60)
        found = recorded(only_run(store))
        assert found.state == "finished"
        (problem,) = found.problems()
        assert problem.startswith(
            "the kernel's out-of-memory killer has ended a process of this run's control group on "
        )
    finally:
        kill_group(process)
