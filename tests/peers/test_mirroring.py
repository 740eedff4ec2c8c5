"""A training with its mirrors beside it: killed, hung, refused, and delivered in the end, each row once.

The trackers are the real ones; the W&B cloud is the stand-in of `wandb_server.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from wandb_server import WandbServer

import lossbook
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import is_complete
from lossbook.paths import RunFolder

REPOSITORY = Path(__file__).resolve().parents[2]
WaitUntil = Callable[..., None]

pytest.importorskip("wandb")
pytest.importorskip("trackio")
pytest.importorskip("tensorboard")
pytestmark = pytest.mark.usefixtures("follower")

TRAINING = """
import os, sys, time, lossbook
steps, pause, mirrors = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
run = lossbook.init(project="lab", name="baseline", mirrors=mirrors, config={"lr": 1e-3}, tags=["a", "b"], group="seeds",
                    notes="first try")
print(run.path, flush=True)
for step in range(steps):
    run.log({f"m{number}": step + number / 16 for number in range(10)}, step=step)
    time.sleep(pause)  # a step of training
until = time.monotonic() + float(sys.argv[4] if len(sys.argv) > 4 else 0)
while time.monotonic() < until and not os.path.exists("stop"):
    time.sleep(0.05)  # polls: this program has no test to wait with
run.finish()
"""


@pytest.fixture(autouse=True)
def _somewhere_else(own_trackers: None) -> Iterator[None]:
    """No training outlives its test."""
    yield
    while Training.begun:
        training = Training.begun.pop()
        training.process.kill()
        training.process.communicate()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


class Training:
    """A training process, and what it says."""

    begun: ClassVar[list[Training]] = []

    def __init__(self, steps: int, pause: float, mirrors: str, *more: str, **environment: str) -> None:
        Training.begun.append(self)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(steps), str(pause), mirrors, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.path = Path(self.process.stdout.readline().strip())

    def end(self) -> str:
        """Wait for it; returns what it, and its mirrors, said on standard error."""
        _, said = self.process.communicate(timeout=120)
        return said

    def processes(self, what: str) -> list[int]:
        """The process ids of its store's follower, or of its mirrors."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                except OSError:
                    continue
                if what in words and {str(self.path), str(self.path.parents[1])} & set(words):
                    found.append(int(entry.name))
        return found

    def folder(self) -> Any:
        return lossbook.open(self.path.parents[1]).run(self.path.name).folder

    def rows_sent(self, *names: str) -> int:
        """How many rows its mirrors have delivered so far, all of them together."""
        return sum(load_cursor(self.folder(), name).rows for name in names)

    def delivered(self, *names: str) -> bool:
        return all(is_complete(self.folder(), load_cursor(self.folder(), name)) for name in names)


def is_delivered(run: lossbook.Run, name: str) -> bool:
    folder = RunFolder(run.path)
    return is_complete(folder, load_cursor(folder, name))


def sync(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lossbook.cli", "sync", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def in_wandb_files(folder: Path) -> list[dict[str, Any]]:
    """The rows of every offline run, as W&B's own program reads them."""
    rows = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        records = [json.loads(line) for line in printed.splitlines()]
        rows += [record["history"]["item"] for record in records if record["type"] == "history"]
    return rows


def in_trackio(project: str) -> list[dict[str, Any]]:
    program = (
        "import json, sys\nfrom trackio.sqlite_storage import SQLiteStorage\n"
        "rows = [row for run in SQLiteStorage.get_runs(sys.argv[1]) for row in SQLiteStorage.get_logs(sys.argv[1], run)]\n"
        "print(json.dumps(rows, default=str))"
    )
    done = subprocess.run([sys.executable, "-c", program, project], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_tensorboard(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (where,) = (folder / "runs" / "lab").iterdir()
    return EventAccumulator(str(where), size_guidance={"scalars": 0}).Reload()


def expected(steps: int) -> Counter[tuple[int, float]]:
    return Counter((step, step + 3 / 16) for step in range(steps))


def test_ten_thousand_steps_reach_three_trackers_once_though_follower_and_training_are_killed(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    steps = 10_000
    training = Training(steps, 0.0005, "wandb:offline,trackio,tensorboard", "600")
    names = ("wandb-offline", "trackio", "tensorboard")
    seen: set[int] = set()
    for _ in range(2):
        wait_until(lambda: len(set(training.processes("lossbook.follower.mirror_process")) - seen) == 3, 60)
        seen.update(training.processes("lossbook.follower.mirror_process"))
        before = training.rows_sent(*names)
        wait_until(lambda before=before: training.rows_sent(*names) > before or training.delivered(*names), 60)
        followers = training.processes("lossbook.follower")
        assert followers
        for pid in followers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda gone=followers: set(training.processes("lossbook.follower")) - set(gone), 60)
    wait_until(lambda: lossbook.open(training.path.parents[1]).run().metrics["m3"]["last_step"] == steps - 1, 120)
    for pid in [*training.processes("lossbook.follower"), *training.processes("lossbook.follower.mirror_process")]:
        os.kill(pid, signal.SIGKILL)
    training.process.kill()
    training.end()

    for target in ("wandb:offline", "trackio", "tensorboard"):
        done = sync(training.path.name, "--to", target)
        assert done.returncode == 0, done.stderr
    again = sync("--to", "wandb:offline,trackio,tensorboard")
    assert "everything is delivered" in again.stdout

    rows = [row for row in in_wandb_files(tmp_path) if "m3" in row]  # beside those of the machine
    assert Counter((row["_step"], row["m3"]) for row in rows) == expected(steps)
    assert all(row["lossbook/step"] == row["_step"] for row in rows)
    assert Counter((row["step"], row["m3"]) for row in in_trackio("lab") if "m3" in row) == expected(steps)
    points = in_tensorboard(tmp_path).Scalars("m3")
    assert [(point.step, point.value) for point in points] == sorted(expected(steps))  # sixteenths fit 32 bits
    assert lossbook.open(training.path.parents[1]).run().state == "crashed"


def test_a_mirror_that_is_not_installed_is_said_once_and_the_others_go_on(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    # A package of that name that cannot be imported stands before the real one.
    broken = tmp_path / "broken" / "trackio"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no trackio here')")
    training = Training(
        50, 0.01, "trackio,tensorboard", "8", PYTHONPATH=os.pathsep.join([str(broken.parent), str(REPOSITORY)])
    )
    said = training.end()
    assert said.count("trackio") >= 1
    assert len([line for line in said.splitlines() if "trackio" in line]) == 1, said
    wait_until(lambda: training.delivered("tensorboard"), 60)
    assert load_cursor(training.folder(), "trackio").error
    assert lossbook.open(training.path.parents[1]).run().state == "finished"


def test_a_server_that_is_away_turns_the_mirror_offline_and_sync_delivers_later(
    tmp_path: Path, cloud: WandbServer, wait_until: WaitUntil
) -> None:
    cloud.before = lambda path, operation: 401  # the login is refused
    training = Training(40, 0.01, "wandb", "90")
    wait_until(lambda: training.rows_sent("wandb-offline") >= 40, 80)  # the mirror has turned offline by itself
    Path("stop").touch()
    said = training.end()
    lines = [line for line in said.splitlines() if line.startswith("lossbook: ")]
    assert len(lines) == 1, said
    assert "lossbook sync" in lines[0]
    wait_until(lambda: training.delivered("wandb-offline"), 60)
    assert len([row for row in in_wandb_files(tmp_path) if "m3" in row]) == 40
    assert cloud.runs == {} or not cloud.run().history

    cloud.before = lambda path, operation: None
    done = sync()
    assert done.returncode == 0, done.stderr
    delivered = int(done.stdout.split(": ")[1].split()[0])
    assert delivered >= 42  # the beginning and the end of the run are rows as well, and so is what the machine did
    assert [row["m3"] for row in cloud.run().history if "m3" in row] == [step + 3 / 16 for step in range(40)]
    arrived = len(cloud.run().history)
    assert sync().stdout == "everything is delivered\n"
    assert len(cloud.run().history) == arrived


def test_online_a_running_training_is_seen_at_the_server_and_its_end_too(
    cloud: WandbServer, wait_until: WaitUntil
) -> None:
    training = Training(400, 0.001, "wandb", "90")
    wait_until(lambda: cloud.runs and len(cloud.run("lab").history) > 5, 80)  # W&B's client sends every 15 seconds
    assert cloud.run().state == "running"
    assert training.process.poll() is None
    Path("stop").touch()
    training.end()
    wait_until(lambda: training.delivered("wandb"), 60)
    run = cloud.run()
    assert (run.state, len([row for row in run.history if "m3" in row])) == ("finished", 400)
    assert run.fields["displayName"] == "baseline"
    assert run.fields["groupName"] == "seeds"
    assert set(run.fields["tags"]) == {"a", "b"}
    assert run.config["lr"]["value"] == 1e-3


def test_a_mirror_that_hangs_is_ended_and_started_again(
    cloud: WandbServer, wait_until: WaitUntil, tmp_path: Path
) -> None:
    stalled = []

    def stall(path: str, operation: str) -> None:
        if len(stalled) < 1:
            stalled.append(path)
            time.sleep(30)  # longer than the mirror is given

    cloud.before = stall
    training = Training(30, 0.01, "wandb,tensorboard", "90", LOSSBOOK_MIRROR_TIMEOUT="4")
    wait_until(lambda: stalled, 60)
    hanging = set(training.processes("lossbook.follower.mirror_process"))
    wait_until(lambda: set(training.processes("lossbook.follower.mirror_process")) - hanging, 60)
    Path("stop").touch()
    training.end()
    wait_until(lambda: training.delivered("tensorboard"), 60)
    wait_until(lambda: training.delivered("wandb") or training.delivered("wandb-offline"), 120)
    read = cloud.run().history if training.delivered("wandb") else in_wandb_files(tmp_path)
    rows = [row["m3"] for row in read if "m3" in row]
    assert rows == [step + 3 / 16 for step in range(30)]


def test_a_resumed_run_goes_on_as_the_same_remote_run(
    tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first, resume_step in ((0, None), (5, 4)):
        run = lossbook.init(
            project="lab",
            name="baseline",
            id="same",
            mirrors="wandb:offline,tensorboard",
            resume="allow",
            resume_step=resume_step,
            store=tmp_path / "lossbook-runs",
            console=False,
        )
        for step in range(first, first + 10):
            run.log({"m3": step + 3 / 16}, step=step)
        run.finish()
        for name in ("wandb-offline", "tensorboard"):
            wait_until(partial(is_delivered, run, name), 60)
    steps = Counter(row["lossbook/step"] for row in in_wandb_files(tmp_path) if "m3" in row)
    assert steps == Counter([*range(10), *range(5, 15)])
    assert [point.step for point in in_tensorboard(tmp_path).Scalars("m3")] == list(range(15))


def test_a_run_that_is_not_to_be_kept_is_gone_once_its_mirrors_have_it(tmp_path: Path, wait_until: WaitUntil) -> None:
    run = lossbook.init(project="lab", name="passing", mirrors="tensorboard", keep=False, console=False)
    run.log({"m3": 1.0}, step=0)
    run.finish()
    wait_until(lambda: not Path(run.path).exists(), 60)
    assert [point.value for point in in_tensorboard(tmp_path).Scalars("m3")] == [1.0]
    assert not (tmp_path / "lossbook-runs").exists()


@pytest.mark.parametrize(
    ("mirrors", "mend"), [("wandbb", "wandb, trackio"), ("wandb:onlin", "online, offline"), (5, "list of words")]
)
def test_a_mirror_that_cannot_be_meant_is_refused_before_training(mirrors: Any, mend: str) -> None:
    with pytest.raises(lossbook.errors.BadArgument, match=mend):
        lossbook.init(mirrors=mirrors)


def test_sync_of_a_run_that_asked_for_no_mirror_says_how_to_name_one(tmp_path: Path) -> None:
    run = lossbook.init(project="lab", store=tmp_path / "lossbook-runs", console=False)
    run.finish()
    done = sync(run.id)
    assert done.returncode == 1
    assert "--to wandb" in done.stderr
    assert "Traceback" not in done.stderr
    assert sync("--to", "nowhere").returncode == 1
