"""A job of several processes, started by the real torchrun, is one run with a journal for each rank."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, journal_rows, kill_group, only_run, recorded, steps

pytest.importorskip("torch")

from programs import begin
from waiting import wait_until

from lossbook.cli import main
from lossbook.paths import read_json

TRAIN = """
rank = int(os.environ["RANK"])
run = lossbook.init(store=store, project="p", name="job", config={"lr": 0.1}, console=False)
for step in range(20):
    run.log({"loss": float(rank)}, step=step)
    run.log({"time/iteration": step + 10.0 * rank}, step=step, ranks="all")
print(f"id {run.id}", flush=True)
"""


def launch(code: str, store: Path, *options: str) -> tuple[int, str, str]:
    """Run a program under `torchrun --standalone --nproc-per-node 2`; returns its status and what it printed."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    process = begin(code, store, prefix=words, OMP_NUM_THREADS="1")
    try:
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err
    finally:
        kill_group(process)


def test_two_ranks_write_one_run_without_talking_and_two_launches_two(store: Path) -> None:
    status, out, err = launch(TRAIN, store)
    assert status == 0, err
    assert len({line for line in out.splitlines() if line.startswith("id ")}) == 1
    folder = only_run(store)
    assert steps(folder, 0) == [step for step in range(20) for _ in range(2)]
    assert steps(folder, 1) == list(range(20))
    identity: dict[str, Any] = read_json(folder.run_json) or {}
    assert [one["world_size"] for one in identity["attempts"]] == [2]
    found = recorded(folder)
    assert found.state == "finished"
    assert found.name == "job"
    assert found.problems() == []
    # Rank 0's scalars are the run's; of what every rank logged, reads give mean, minimum and maximum.
    assert found.curve("loss").max.max() == 0.0
    assert found.metrics["loss"]["count"] == 20
    curve = found.curve("time/iteration", points=100)
    assert curve.min.tolist() == [float(step) for step in range(20)]
    assert curve.max.tolist() == [step + 10.0 for step in range(20)]
    assert curve.mean.tolist() == [step + 5.0 for step in range(20)]
    by_rank = found.history(["time/iteration"], ranks=True)
    assert sorted(set(by_rank.numpy()["rank"].tolist())) == [0, 1]

    status, _, err = launch(TRAIN, store)
    assert status == 0, err
    assert len(all_runs(store)) == 2


def test_a_restart_by_torchrun_is_another_attempt_of_the_same_run(store: Path) -> None:
    code = """
rank = int(os.environ["RANK"])
restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
first = 0 if restart == 0 else 6
run = lossbook.init(store=store, project="p", resume_step=first - 1 if restart else None, console=False)
for step in range(first, 10):
    run.log({"loss": float(restart)}, step=step)
    run.log({"time/iteration": float(rank)}, step=step, ranks="all")
if restart == 0:
    # torchrun ends the others when one fails: each waits until all have written their rows.
    open(f"{store}.{rank}", "w").close()
    while not all(os.path.exists(f"{store}.{one}") for one in (0, 1)):
        time.sleep(0.01)  # polls: this program has no test to wait with
    raise RuntimeError("a device has fallen off the bus")
"""
    status, _, err = launch(code, store, "--max-restarts", "1")
    assert status == 0, err
    folder = only_run(store)
    identity: dict[str, Any] = read_json(folder.run_json) or {}
    assert [one["number"] for one in identity["attempts"]] == [0, 1]
    for rank in (0, 1):
        heads = [row.body["number"] for row in journal_rows(folder, rank) if row.kind == "attempt"]
        assert heads == [0, 1]
    found = recorded(folder)
    assert found.state == "finished"
    assert found.problems() == []
    curve = found.curve("loss", points=100)
    assert curve.x.tolist() == list(range(10))
    assert curve.last.tolist() == [0.0] * 6 + [1.0] * 4
    assert found.curve("time/iteration", points=100).max.tolist() == [1.0] * 10


def test_ranks_that_begin_several_runs_agree_on_each(store: Path) -> None:
    code = """
for number in range(2):
    with lossbook.init(store=store, project="p", name=f"seed {number}", console=False) as run:
        run.log({"loss": float(number)}, step=0, ranks="all")
"""
    status, _, err = launch(code, store)
    assert status == 0, err
    assert len(all_runs(store)) == 2
    for folder in all_runs(store):
        found = recorded(folder)
        assert found.history(["loss"], ranks=True).numpy()["rank"].tolist() == [0, 1]


def test_the_first_failing_rank_is_the_error_of_the_run(store: Path) -> None:
    code = """
rank = int(os.environ["RANK"])
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0})
if rank == 1:
    raise RuntimeError("the device is out of memory")
time.sleep(60)  # until the launcher ends it, because rank 1 has failed
"""
    status, _, _ = launch(code, store)
    assert status == 1
    found = recorded(only_run(store))
    assert found.state == "failed"
    assert found.error.startswith("rank 1 failed first: Traceback")
    assert found.error.endswith("RuntimeError: the device is out of memory")
    assert found.problems() == []


def test_a_rank_that_fails_because_rank_0_has_is_not_the_error_of_the_run(store: Path) -> None:
    code = """
rank = int(os.environ["RANK"])
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0}, ranks="all")
if rank == 0:
    raise RuntimeError("a token is out of range")
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("the partner has gone"))
time.sleep(60)  # until the launcher ends it, because rank 0 has failed
"""
    status, _, _ = launch(code, store)
    assert status == 1
    found = recorded(only_run(store))
    assert (found.state, found.error.splitlines()[-1]) == ("failed", "RuntimeError: a token is out of range")
    assert not found.error.startswith("rank")


@pytest.mark.usefixtures("follower")
def test_a_rank_that_crashes_without_a_word_is_named_not_the_sigterm_that_follows(store: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", console=False)
for step in range(600):
    run.log({"loss": 1.0}, step=step)
    time.sleep(0.05)  # a step; the follower begins meanwhile
    if os.environ["RANK"] == "1" and step == 40:
        os.kill(os.getpid(), signal.SIGSEGV)
"""
    status, _, _ = launch(code, store)
    assert status == 1
    wait_until(lambda: recorded(only_run(store)).state not in ("running", "killed"), 30)
    found = recorded(only_run(store))
    assert found.state == "crashed"
    # By which signal, only a new kernel tells.
    how = "was killed, or crashed outside of Python|crashed with SIGSEGV"
    assert re.fullmatch(rf"rank 1 \(process \d+ on \S+\) ({how})", found.error)
    assert found.problems() == [found.error]


@pytest.mark.usefixtures("follower")
def test_a_rank_that_is_killed_beside_one_that_finishes_is_a_problem_that_check_tells(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0}, step=0, ranks="all")
if os.environ["RANK"] == "1":
    time.sleep(1.5)  # until the follower has begun
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.readline()
run.log({"loss": 0.5}, step=1)
"""
    ranks = [begin(code, store, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)) for rank in (0, 1)]
    try:
        assert ranks[1].wait(60) == -signal.SIGKILL
        wait_until(lambda: recorded(only_run(store)).problems() != [], 30)
        ranks[0].communicate("go on\n", timeout=60)
        found = recorded(only_run(store))
        assert (found.state, found.error) == ("finished", None)
        (problem,) = found.problems()
        assert problem.startswith("rank 1 (process ")
        assert main(["--store", str(store), "check", "latest"]) == 1
        assert f"problem: {problem}" in capsys.readouterr().out.splitlines()
    finally:
        for rank in ranks:
            kill_group(rank)


@pytest.mark.usefixtures("follower")
def test_the_leading_rank_of_another_node_is_missed_too(store: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0}, step=0)
sys.stdin.readline()
"""
    # Two nodes of one rank each, on one machine.
    ranks = [begin(code, store, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0") for rank in (0, 1)]
    try:
        wait_until(lambda: len(all_runs(store)) == 1)
        log = Path(only_run(store).followers) / "follow.log"
        wait_until(lambda: log.exists() and all(f"of process {rank.pid}\n" in log.read_text() for rank in ranks))
        ranks[1].kill()
        wait_until(lambda: recorded(only_run(store)).problems() != [], 30)
        (problem,) = recorded(only_run(store)).problems()
        assert problem.startswith(f"rank 1 (process {ranks[1].pid} on ")
        ranks[0].communicate("go on\n", timeout=60)
        assert recorded(only_run(store)).state == "finished"
    finally:
        for rank in ranks:
            kill_group(rank)


@pytest.mark.usefixtures("follower")
def test_ranks_that_end_as_they_should_are_not_missed(store: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1.0})
time.sleep(1.0 if os.environ["RANK"] == "1" else 3.0)  # rank 1 ends long before
"""
    status, _, _ = launch(code, store)
    assert status == 0
    found = recorded(only_run(store))
    assert (found.state, found.problems()) == ("finished", [])
