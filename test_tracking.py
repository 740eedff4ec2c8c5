"""Verifies each tracker for real, a line each: `works`, `skipped` (with what to install) or `FAILED` (with why).

    python test_tracking.py                     # wandb (offline), trackio, tensorboard, mlflow
    python test_tracking.py wandb:online        # with your login and your network

A small run is tracked as a training would track it, with its mirrors beside it, and read back with each tracker's own
reader. Exit status 1 when one that is installed does not have every value.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # run from a checkout

import lossbook
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import cursor_name, is_complete

STEPS = 50
PROJECT = "lossbook-test-tracking"
#: What must be importable for a tracker.
NEEDS = {"wandb": ["wandb"], "trackio": ["trackio"], "tensorboard": ["tensorboard"], "mlflow": ["mlflow"]}
DEFAULT = ("wandb:offline", "trackio", "tensorboard", "mlflow")
#: How long a tracker may take to have everything, in seconds.
PATIENCE_SECONDS = 120.0


def loss_at(step: int) -> float:
    return math.exp(-step / 20) + 1


def track(spec: str) -> lossbook.Run:
    """A run as a training makes it."""
    run = lossbook.init(
        project=PROJECT, name="test run", config={"lr": 3e-4}, tags=["test"], mirrors=spec, console=False
    )
    for step in range(STEPS):
        run.log({"train/loss": loss_at(step), "lr": 3e-4}, step=step)
    run.finish()
    return run


def read_wandb(run: lossbook.Run, here: Path) -> list[float]:
    """From the offline run's file, with wandb's own reader."""
    values = []
    for path in sorted(here.glob("wandb/*run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        for line in printed.splitlines():
            record = json.loads(line)
            if record["type"] == "history" and "train/loss" in record["history"]["item"]:
                values.append(float(record["history"]["item"]["train/loss"]))
    return values


def read_wandb_online(run: lossbook.Run, here: Path) -> list[float]:
    import wandb

    remote = load_cursor(lossbook.open(run_store(run)).run(run.id).folder, "wandb")
    path = "/".join((remote.url or "").split("?")[0].rstrip("/").split("/")[-4:]).replace("/runs", "")
    return [row["train/loss"] for row in wandb.Api().run(path).scan_history(keys=["train/loss"])]


def read_trackio(run: lossbook.Run, here: Path) -> list[float]:
    """From Trackio's own store."""
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs(PROJECT)
    return [float(row["train/loss"]) for row in SQLiteStorage.get_logs(PROJECT, name) if "train/loss" in row]


def read_tensorboard(run: lossbook.Run, here: Path) -> list[float]:
    """With TensorBoard's own accumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = next((here / "runs").glob(f"*/*{run.id}*"))
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [event.value for event in accumulator.Scalars("train/loss")]


def read_mlflow(run: lossbook.Run, here: Path) -> list[float]:
    """With MLflow's own client, from the store that it uses in this folder."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name(PROJECT)
    found = client.search_runs([experiment.experiment_id])
    return [
        one.value
        for one in sorted(client.get_metric_history(found[0].info.run_id, "train/loss"), key=lambda one: one.step)
    ]


READERS: dict[str, Callable[[lossbook.Run, Path], list[float]]] = {
    "wandb": read_wandb, "trackio": read_trackio, "tensorboard": read_tensorboard, "mlflow": read_mlflow,
}  # fmt: skip


def run_store(run: lossbook.Run) -> str:
    return str(Path(run.path).parents[1])


def verify(spec: str, here: Path) -> tuple[str, str]:
    """Track, wait, read back; returns the word and the reason."""
    name, _, mode = spec.partition(":")
    if name not in READERS:
        return "FAILED", f"there is no such tracker: use one of {', '.join(READERS)}"
    missing = [library for library in NEEDS[name] if importlib.util.find_spec(library) is None]
    if missing:
        return "skipped", f"{missing[0]} is not installed: pip install {missing[0]}"
    run = track(spec)
    folder = lossbook.open(run_store(run)).run(run.id).folder
    cursor_file = cursor_name(name, mode or "online")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_complete(folder, cursor := load_cursor(folder, cursor_file)):
        if cursor.state == "stopped" and cursor.error:
            return "FAILED", cursor.error
        if time.monotonic() > deadline:
            return "FAILED", f"not everything had arrived after {PATIENCE_SECONDS:.0f} s; see {folder.followers}"
        time.sleep(0.1)
    reader = read_wandb_online if spec.startswith("wandb") and mode != "offline" else READERS[name]
    values = reader(run, here)
    expected = [loss_at(step) for step in range(STEPS)]
    tolerance = 1e-6 if name == "tensorboard" else 1e-12  # TensorBoard keeps 32 bits
    if len(values) != STEPS or any(
        abs(one - other) > tolerance * other for one, other in zip(values, expected, strict=True)
    ):
        return "FAILED", f"{len(values)} of {STEPS} values came back, or others than were logged"
    return "works", f"{STEPS} steps logged, all read back"


def main(specs: list[str]) -> int:
    failed = False
    print(f"{'local run':<16}", end="", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        here = Path(folder).resolve()
        os.environ.setdefault("TRACKIO_DIR", str(here / "trackio"))
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{here / 'mlflow.db'}")
        os.environ["LOSSBOOK_STORE"] = str(here / "lossbook-runs")
        values = lossbook.open(run_store(local := track("none"))).run(local.id).history("train/loss").rows()
        print("works    " if len(values) == STEPS else "FAILED   ", f"{len(values)} of {STEPS} steps read back")
        failed |= len(values) != STEPS
        for spec in specs or DEFAULT:
            print(f"{spec:<16}", end="", flush=True)
            try:
                word, why = verify(spec, here)
            except Exception as error:  # one tracker's fault leaves the others to be tested
                word, why = "FAILED", f"{type(error).__name__}: {error}"
            print(f"{word:<9} {why}", flush=True)
            failed |= word == "FAILED"
        os.chdir("/")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
