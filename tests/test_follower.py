"""The follower: a process beside the training that does the rest of the work, is never waited for, and ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.cli.followers import living_followers
from lossbook.follower.loop import follow
from lossbook.journal.reader import journal_segments
from lossbook.paths import RunFolder, read_json, run_folders
from lossbook.processes import process_start
from lossbook.run import follower_process
from lossbook.storage.compaction import seal_run

REPOSITORY = Path(__file__).resolve().parents[1]
WaitUntil = Callable[..., None]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("follower")]

TRAIN = """
import sys, time, lossbook
run = lossbook.init(store=sys.argv[1], project="p", id="one", config={"lr": 0.1})
for step in range(100):
    run.log({"loss": float(step), "lr": 0.5}, step=step)
run.summary["params"] = 7
print("logged", flush=True)
"""
WAIT = "sys.stdin.readline()\n"
GO_ON = """
step = 100
while not sys.stdin.closed:
    run.log({"loss": float(step), "lr": 0.5}, step=step)
    step += 1
    time.sleep(0.001)  # a step of training
"""


@pytest.fixture
def train(store: Path, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a training program; it has logged its first rows when this returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        script = tmp_path / "train.py"
        script.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(script), str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"logged\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(store: Path) -> RunFolder:
    return RunFolder(str(store / "p" / "one"))


def followers(folder: RunFolder) -> list[int]:
    """The follower processes of a run that are alive."""
    return living_followers().get(os.path.realpath(folder.path), [])


def files(path: str, ending: str) -> list[str]:
    return [name for name in os.listdir(path) if name.endswith(ending)] if os.path.isdir(path) else []


def summary(folder: RunFolder) -> dict[str, Any]:
    return read_json(folder.summary_json) or {}


def test_a_finished_run_is_sealed_summed_up_and_left_alone(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    process = train(TRAIN)
    assert process.wait(30) == 0
    wait_until(lambda: not followers(folder))
    assert journal_segments(folder.journal) == []
    assert files(folder.metrics, ".parquet")
    found = summary(folder)
    assert (found["state"], found["last_step"], found["summary"], found["problems"]) == (
        "finished",
        99,
        {"params": 7.0},
        [],
    )
    assert {key: found["metrics"]["loss"][key] for key in ("last", "min", "max", "mean", "count")} == {
        "last": 99.0,
        "min": 0.0,
        "max": 99.0,
        "mean": 49.5,
        "count": 100,
    }
    run = lossbook.open(os.path.dirname(os.path.dirname(folder.path))).run("one")
    assert (run.state, len(run.history(["loss"]).rows())) == ("finished", 100)
    assert "Traceback" not in Path(folder.followers, "follow.log").read_text()


def test_what_was_run_is_kept(train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil) -> None:
    train(TRAIN).wait(30)
    wait_until(lambda: not followers(folder))
    assert Path(folder.code, "train.py").read_text() == TRAIN
    assert "orjson==" in Path(folder.code, "packages.txt").read_text()
    assert (read_json(os.path.join(folder.code, "environment.json")) or {})["executable"]


def test_a_run_that_goes_on_is_summed_up_while_it_does(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    train(TRAIN + GO_ON)
    wait_until(lambda: summary(folder).get("state") == "running" and summary(folder)["last_step"] > 150)


def test_full_segments_are_sealed_while_training_goes_on(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSBOOK_SEGMENT_BYTES", "2000")
    process = train(TRAIN + GO_ON)
    wait_until(lambda: files(folder.metrics, ".parquet"))
    assert process.poll() is None
    assert journal_segments(folder.journal), "the segment that is being written stays"


def test_training_that_dies_without_a_word_has_crashed(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    process = train(TRAIN + WAIT)
    wait_until(lambda: followers(folder))
    process.kill()
    process.wait()
    wait_until(lambda: not followers(folder))
    watch = read_json(os.path.join(folder.followers, "watch.json")) or {}
    assert (watch["attempt"], watch["state"]) == (0, "crashed")
    assert summary(folder)["state"] == "crashed"
    assert journal_segments(folder.journal) == []


@pytest.mark.parametrize("who", ["a reader", "seal"])
def test_a_follower_that_is_killed_is_not_missed(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil, who: str
) -> None:
    process = train(TRAIN + WAIT + "run.log({'loss': 100.0}, step=100)\n")
    wait_until(lambda: followers(folder))
    os.kill(followers(folder)[0], signal.SIGKILL)
    wait_until(lambda: not followers(folder))
    process.communicate(b"go on\n")
    assert process.returncode == 0
    if who == "seal":
        report = seal_run(folder, finished=True)
        assert (report.scalars, report.problems) == (201, [])
    run = lossbook.open(store).run("one")
    assert (journal_segments(folder.journal) == []) == (who == "seal"), (
        "a reader reads what is there, and seals nothing"
    )
    assert (run.state, run.metrics["loss"]["count"], run.summary) == ("finished", 101, {"params": 7.0})
    assert len(run.history(["loss"]).rows()) == 101


def test_two_followers_of_one_run_do_its_work_once(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train(TRAIN + WAIT)
    wait_until(lambda: followers(folder))
    again = subprocess.Popen(
        [sys.executable, "-m", "lossbook.follower", folder.path, "--pid", str(process.pid)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    process.communicate(b"\n")
    assert again.wait(30) == 0
    wait_until(lambda: not followers(folder))
    assert len(lossbook.open(store).run("one").history(["loss"]).rows()) == 100


def test_each_attempt_has_a_follower_and_the_last_word_counts(
    train: Callable[..., Any], folder: RunFolder, store: Path, wait_until: WaitUntil
) -> None:
    process = train(TRAIN + WAIT)
    process.kill()
    process.wait()
    wait_until(lambda: os.path.exists(os.path.join(folder.followers, "watch.json")))
    run = lossbook.init(store=store, project="p", id="one", resume="must", resume_step=49, console=False)
    run.log({"loss": 0.0})
    run.finish()
    wait_until(lambda: not followers(folder))
    found = summary(folder)
    assert (found["state"], found["last_step"], found["metrics"]["loss"]["count"]) == ("finished", 50, 51)


def test_a_notebook_that_lives_on_leaves_no_follower_behind(store: Path, wait_until: WaitUntil) -> None:
    # Followers of other tests' stores may still be at work.
    others = set(follower_process.started_followers)
    for number in range(3):
        with lossbook.init(store=store, project="p", console=False) as run:
            run.log({"loss": float(number)})
    wait_until(lambda: not any(followers(folder) for folder in run_folders(str(store))), 90)

    def collected() -> bool:
        # As the next `init()` does.
        follower_process.collect_followers()
        return others.issuperset(follower_process.started_followers)

    wait_until(collected)
    assert {read_json(folder.summary_json)["state"] for folder in run_folders(str(store))} == {"finished"}  # type: ignore[index]


@pytest.fixture
def slow_follower(tmp_path: Path) -> Iterator[Path]:
    """A folder for PYTHONPATH that keeps a follower at work for a minute; it notes its process id in `alive` there."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'lossbook.follower' in sys.orig_argv:\n"
        "    import lossbook.follower.service\n"
        "    def work(*arguments, **named):\n"
        f"        with open({str(folder / 'noted')!r}, 'w') as file: file.write(str(os.getpid()))\n"
        f"        os.rename({str(folder / 'noted')!r}, {str(folder / 'alive')!r})\n"
        "        time.sleep(60)  # until it is killed\n"
        "    lossbook.follower.service.serve = work\n"
    )
    yield folder
    if (folder / "alive").exists():
        os.kill(int((folder / "alive").read_text()), signal.SIGKILL)


def test_a_pipe_behind_the_training_ends_with_it(
    store: Path, tmp_path: Path, slow_follower: Path, wait_until: WaitUntil
) -> None:
    # The follower outlives the program: were it to hold the pipe, `cat` would go on waiting for more.
    (tmp_path / "train.py").write_text(TRAIN)
    inherited, theirs = os.pipe()
    shell = subprocess.Popen(
        f'"{sys.executable}" train.py "{store}" 2>&1 | cat',
        shell=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{slow_follower}{os.pathsep}{REPOSITORY}"},
        pass_fds=(theirs,),
    )
    os.close(theirs)
    assert shell.communicate(timeout=50)[0] == b"logged\n"
    wait_until((slow_follower / "alive").exists)
    follower = int((slow_follower / "alive").read_text())
    assert process_start(follower) is not None, "it is still at work"
    assert os.read(inherited, 1) == b"", "a descriptor that it got from further above is let go of as well"
    os.close(inherited)


def test_it_leaves_training_the_processor_and_its_signals(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    train(TRAIN + WAIT)
    wait_until(lambda: followers(folder))
    (pid,) = followers(folder)
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
    assert os.getsid(pid) == pid, "in a session of its own, so Ctrl-C and SIGHUP of the terminal pass it by"


def test_a_run_that_is_taken_away_is_let_go_of(
    train: Callable[..., Any], folder: RunFolder, wait_until: WaitUntil
) -> None:
    train(TRAIN + WAIT)
    wait_until(lambda: followers(folder))
    os.rename(folder.path, f"{folder.path}-elsewhere")
    wait_until(lambda: not followers(folder))
    assert not os.path.exists(folder.path)


def test_the_follower_of_another_rank_stays_until_it_has_something_or_training_ends(
    store: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossbook.init(store=store, project="p", id="one", console=False).finish()
    looks = 0

    def training_ends(pid: int) -> float | None:
        nonlocal looks
        looks += 1
        return 1.0 if looks < 3 else None

    monkeypatch.setattr("lossbook.follower.loop.process_start", training_ends)
    monkeypatch.setattr("lossbook.follower.loop.POLL_SECONDS", 0.0)
    follow(folder, os.getpid(), attempt=0, rank=8)
    assert looks == 3
    assert process_start(os.getpid()) is not None
