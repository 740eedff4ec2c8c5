"""A fork at another tracker begins where its curves do: its parents' rows that count come first, each once.

The trackers are the real ones.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import WrittenRun

import lossbook
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import is_complete
from lossbook.paths import RunFolder
from lossbook.storage import seal_run

Points = list[tuple[int, float]]

for _library in ("wandb", "trackio", "tensorboard", "mlflow"):
    pytest.importorskip(_library)


@pytest.fixture(autouse=True)
def _somewhere_else(own_trackers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))


def train(steps: range, value: float, **how: Any) -> lossbook.Run:
    """One attempt that logs `value + step` at each step."""
    run = lossbook.init(**{"project": "lab", "console": False, "system_metrics": False, **how})
    for step in steps:
        run.log({"loss": value + step}, step=step)
    run.finish()
    return run


def sync_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lossbook.cli", "sync", *arguments]


def sync(*arguments: str) -> str:
    """Deliver; returns what was said on standard error."""
    done = subprocess.run(sync_command(*arguments), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stderr


def at_wandb(folder: Path) -> Points:
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    return [(row["lossbook/step"], row["loss"]) for row in rows if "loss" in row]


def at_trackio(_: Path) -> Points:
    program = (
        "import json\nfrom trackio.sqlite_storage import SQLiteStorage\n"
        "rows = [row for run in SQLiteStorage.get_runs('lab') for row in SQLiteStorage.get_logs('lab', run)]\n"
        "print(json.dumps([(row['step'], row['loss']) for row in rows if 'loss' in row]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return [(step, value) for step, value in json.loads(done.stdout.splitlines()[-1])]


def at_tensorboard(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (where,) = (folder / "runs" / "lab").iterdir()
    read = EventAccumulator(str(where), size_guidance={"scalars": 0}).Reload()
    return [(point.step, point.value) for point in read.Scalars("loss")]


def at_mlflow(_: Path) -> Points:
    program = (
        "import json\nfrom mlflow import MlflowClient\n"
        "client = MlflowClient()\nexperiment = client.get_experiment_by_name('lab')\n"
        "(run,) = client.search_runs([experiment.experiment_id])\n"
        "points = client.get_metric_history(run.info.run_id, 'loss')\n"
        "print(json.dumps(sorted((point.step, point.value) for point in points)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return [(step, value) for step, value in json.loads(done.stdout.splitlines()[-1])]


#: Killed at a moment that is counted in signs of life: some come between the rows and what the cursor says of them.
DELIVERY_THAT_DIES = """
import os, signal, sys
from lossbook.follower import Delivery
from lossbook.paths import RunFolder
path, name, mode, beats = sys.argv[1:]
left = int(beats)
def beat():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with Delivery(RunFolder(path), name, mode=mode or "online", beat=beat).held() as delivery:
    delivery.open()
    delivery.catch_up()
"""

TRACKERS = pytest.mark.parametrize(
    ("tracker", "read"),
    [("wandb:offline", at_wandb), ("trackio", at_trackio), ("tensorboard", at_tensorboard), ("mlflow", at_mlflow)],
    ids=["wandb", "trackio", "tensorboard", "mlflow"],
)


def as_in_lossbook(run: str) -> Points:
    history = lossbook.open().run(run).history(["loss"]).dicts()
    return [(row["step"], row["loss"]) for row in history]


@TRACKERS
def test_the_rows_of_all_parents_that_count_come_before_those_of_the_fork(
    tracker: str, read: Callable[[Path], Points], tmp_path: Path
) -> None:
    first = train(range(6), 0.0, id="first", project="older")
    train(range(3, 8), 10.0, id="first", project="older", resume="must", resume_step=2)  # went back to step 2
    train(range(5, 7), 20.0, id="first", project="older", resume="must")  # logged steps again without a word
    seal_run(RunFolder(first.path), finished=True)
    train(range(6, 9), 100.0, id="second", fork_from="first?_step=5")
    train(range(8, 10), 200.0, id="third", fork_from="second?_step=7")
    sync("third", "--to", tracker)
    values = [0.0, 1.0, 2.0, 13.0, 14.0, 25.0, 106.0, 107.0, 208.0, 209.0]
    assert as_in_lossbook("third") == list(enumerate(values))
    assert read(tmp_path) == as_in_lossbook("third")


@TRACKERS
def test_a_fork_that_goes_on_brings_its_parents_rows_no_second_time(
    tracker: str, read: Callable[[Path], Points], tmp_path: Path
) -> None:
    train(range(5), 0.0, id="base")
    train(range(3, 6), 100.0, id="fork", fork_from="base?_step=2")
    sync("fork", "--to", tracker)
    train(range(6, 8), 200.0, id="fork", resume="must", resume_step=5)
    sync("fork", "--to", tracker)
    assert read(tmp_path) == as_in_lossbook("fork")


@TRACKERS
def test_each_row_comes_once_however_often_the_delivery_is_killed(
    tracker: str, read: Callable[[Path], Points], tmp_path: Path
) -> None:
    train(range(6000), 0.0, id="base")
    fork = train(range(3000, 3005), 10_000.0, id="fork", fork_from="base?_step=2999")
    for beats in (2, 5, 6, 7, 10):
        command = [sys.executable, "-c", DELIVERY_THAT_DIES, fork.path, *tracker.partition(":")[::2], str(beats)]
        died = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert died.returncode == -signal.SIGKILL, died.stderr
    sync("fork", "--to", tracker)
    assert read(tmp_path) == as_in_lossbook("fork")


def test_rows_of_a_parent_keep_their_times(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(range(3), 0.0, id="base")
    train(range(2, 4), 100.0, id="fork", fork_from="base?_step=1")
    logged = [row["time"].timestamp() for row in lossbook.open().run("base").history(["loss"]).dicts()]
    sync("fork", "--to", "tensorboard")
    (where,) = (tmp_path / "runs" / "lab").iterdir()
    points = EventAccumulator(str(where)).Reload().Scalars("loss")
    assert [point.wall_time for point in points[:2]] == pytest.approx(logged[:2], abs=1e-3)


def test_the_mirror_beside_a_fork_that_trains_brings_its_parents_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    train(range(5), 0.0, id="base")
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "on")
    fork = train(range(3, 6), 100.0, id="fork", fork_from="base?_step=2", mirrors="tensorboard")
    folder = RunFolder(fork.path)
    wait_until(lambda: is_complete(folder, load_cursor(folder, "tensorboard")), 60)
    assert at_tensorboard(tmp_path) == as_in_lossbook("fork")


def test_a_key_of_every_rank_of_a_parent_is_told_by_rank_as_that_of_the_fork(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    base = WrittenRun(tmp_path / "store" / "lab" / "base", project="lab")
    for rank in (0, 1):
        base.segment([(step, {"memory": 10.0 * rank + step}) for step in range(3)], rank=rank)
    fork = WrittenRun(
        tmp_path / "store" / "lab" / "fork",
        project="lab",
        parent={"run": "base", "project": "lab", "step": 1, "created": base.identity["created"]},
    )
    for rank in (0, 1):
        fork.segment([(2, {"memory": 100.0 * rank})], rank=rank)
    sync("fork", "--to", "tensorboard")
    (where,) = (tmp_path / "runs" / "lab").iterdir()
    read = EventAccumulator(str(where)).Reload()
    assert [(point.step, point.value) for point in read.Scalars("memory")] == [(0, 0.0), (1, 1.0), (2, 0.0)]
    assert [(point.step, point.value) for point in read.Scalars("memory/rank_1")] == [(0, 10.0), (1, 11.0), (2, 100.0)]


def test_a_mirror_that_began_without_the_parents_goes_on_without_them(tmp_path: Path) -> None:
    base = train(range(3), 0.0, id="base")
    train(range(2, 4), 100.0, id="fork", fork_from="base?_step=1")
    away = shutil.move(base.path, tmp_path / "away")
    sync("fork", "--to", "tensorboard")
    shutil.move(away, base.path)
    train(range(4, 5), 200.0, id="fork", resume="must")
    sync("fork", "--to", "tensorboard")
    assert at_tensorboard(tmp_path) == [(2, 102.0), (3, 103.0), (4, 204.0)]


def test_a_parent_that_is_gone_is_said_once_and_the_fork_is_delivered(tmp_path: Path) -> None:
    base = train(range(3), 0.0, id="base")
    train(range(2, 4), 100.0, id="fork", fork_from="base?_step=1")
    shutil.rmtree(base.path)
    assert sync("fork", "--to", "tensorboard").count("rows of the run base") == 1
    assert at_tensorboard(tmp_path) == [(2, 102.0), (3, 103.0)]
    train(range(4, 5), 200.0, id="fork", resume="must")
    assert "base" not in sync("fork", "--to", "tensorboard")
    assert at_tensorboard(tmp_path) == [(2, 102.0), (3, 103.0), (4, 204.0)]
