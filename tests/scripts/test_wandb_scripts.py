"""`scripts/inspect_wandb_keys.py`, `query_wandb_gpu.py` and `query_wandb_gpu_full.py`, asked of every tracker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import Ask
from wandb_server import ENTITY, WandbServer

import lossbook
from lossbook.cli.app import main

GIB = 2**30
NAME = "gpt2_adamw_state_50"
RULE = "-" * 80


def figures(step: int) -> dict[str, float]:
    """One row of a trainer on two GPUs."""
    row = {"train_loss": 3.0 - step, "learning_rate": 1e-3, "val_loss": 3.5, "cpu_percent": 10.0}
    for gpu in range(2):
        name = f"system.gpu.{gpu}"
        row |= {
            f"{name}.memoryAllocatedBytes": (8 + gpu + step) * GIB,
            f"{name}.memoryAllocated": 40.0 + 10 * step,
            f"{name}.gpu": 70.0 + 20 * step,
            f"{name}.powerWatts": 245.25,
            f"{name}.temp": 72.0 - 4 * step,
        }
    return row


def record(store: Path, name: str = NAME, rows: int = 2) -> str:
    """A run in a store; returns its id."""
    with lossbook.init(store=store, project="gpt2", name=name, console=False) as run:
        for step in range(rows):
            run.log(figures(step), step=step)
        run.summary["final/best_val_loss"] = 3.25
    return str(run.id)


def section(title: str, current: str, average: str, maximum: str) -> str:
    return f"  {title}:\n    Current:  {current}\n    Average:  {average}\n    Maximum:  {maximum}\n"


def expected_gpu(gpu: int) -> str:
    used = [8.0 + gpu + more for more in (1, 0.5, 1)]
    memory = (f"{one * 1024:.1f} MB ({one:.2f} GB)" for one in used)
    return (
        f"GPU {gpu}:\n"
        + section("Memory Used", *memory)
        + section("Memory Allocated (%)", "50.0%", "45.0%", "50.0%")
        + section("GPU Utilization (%)", "90.0%", "80.0%", "90.0%")
    )


def expected_full(gpu: int) -> str:
    memory = [f"{8 + gpu + more:.2f} GB ({share}%)" for more, share in ((1, "50.0"), (0.5, "45.0"), (1, "50.0"))]
    return (
        f"GPU {gpu}:\n"
        + section("Memory Allocated", *memory)
        + section("GPU Utilization", "90.0%", "80.0%", "90.0%")
        + section("Power", "245.2 W", "245.2 W", "245.2 W")
        + section("Temperature", "68°C", "70°C", "72°C")
    )


TOTAL = (
    "TOTAL ACROSS ALL 2 GPUs:\n  Current Total Memory:  19.0 GB\n  Average Total Memory:  18.0 GB\n"
    "  Maximum Total Memory:  19.0 GB\n"
)
ANSWER = f"{expected_gpu(0)}\n{expected_gpu(1)}\n{TOTAL}"
FULL = f"Detected 2 active GPUs\n\n{expected_full(0)}\n{expected_full(1)}\n{TOTAL}"


def heading(run_id: str, url: str, name: str = NAME) -> str:
    return f"Run: {name} ({run_id})\nState: finished\nURL: {url}\n{RULE}\n\n"


# -- a store ------------------------------------------------------------------------------------------------------


def test_each_answer_has_the_layout_that_its_users_know(ask: Ask, store: Path) -> None:
    run_id = record(store)
    above = heading(run_id, (store / "gpt2" / run_id).as_uri())
    assert ask("query_wandb_gpu", "--store", store).out == above + ANSWER
    assert ask("query_wandb_gpu_full", "--store", store, "--run-id", run_id).out == above + FULL
    keys = [
        f"system.gpu.{gpu}.{name}"
        for gpu in range(2)
        for name in ("gpu", "memoryAllocated", "memoryAllocatedBytes", "powerWatts", "temp")
    ]
    groups = {
        "GPU-related keys": keys,
        "Training metrics keys": ["learning_rate", "train_loss", "val_loss"],
        "System metrics keys": ["cpu_percent"],
        "Summary keys, of one value each": ["final/best_val_loss"],
    }
    listed = "\n".join(f"{title}:\n" + "".join(f"  - {key}\n" for key in keys) for title, keys in groups.items())
    found = ask("inspect_wandb_keys", "--store", store, "--run-name", NAME)
    assert found.out == f"{above}Total unique keys: 15\n\n{listed}"
    assert (found.status, found.err) == (0, "")


def test_as_json_a_script_says_what_the_command_says(ask: Ask, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(store)
    for script, command in (
        ("inspect_wandb_keys", ["keys"]),
        ("query_wandb_gpu", ["gpu"]),
        ("query_wandb_gpu_full", ["gpu", "--full"]),
    ):
        assert main(["--store", str(store), "--json", *command]) == 0
        assert ask(script, "--store", store, "--json").out == capsys.readouterr().out


def test_without_a_name_it_is_the_latest_run_and_of_a_name_the_newest(ask: Ask, store: Path) -> None:
    first, second, last = record(store), record(store), record(store, "other")
    assert ask("query_wandb_gpu", "--store", store, "--json").json["id"] == last
    found = ask("query_wandb_gpu", "--store", store, "--json", "--run-name", NAME)
    assert found.json["id"] == second
    assert "2 runs have that name" in found.err
    assert ask("query_wandb_gpu", "--store", store, "--json", "--run-id", first).json["id"] == first
    # Without any flag it is the store that the environment names.
    assert ask("query_wandb_gpu", "--json", LOSSBOOK_STORE=str(store)).json["id"] == last


def test_a_run_that_is_not_there_is_one_clear_sentence(ask: Ask, store: Path) -> None:
    record(store)
    for flags, words in (
        (("--run-name", "gpt2_adamw"), f"no run of the name 'gpt2_adamw' in {store}; the nearest are {NAME}"),
        (("--run-id", "zzz"), "no run of the id 'zzz'"),
        (("--project", "none"), "there is no run in"),
    ):
        found = ask("query_wandb_gpu", "--store", store, *flags)
        assert (found.status, found.out, found.err.count("\n")) == (1, "", 1)
        assert words in found.err
    assert ask("query_wandb_gpu", "--run-name", "a", "--run-id", "b").status == 2
    assert ask("query_wandb_gpu", "--entity", "a", "--store", "b").status == 2


def test_a_run_without_gpu_metrics_says_what_it_has(ask: Ask, store: Path) -> None:
    with lossbook.init(store=store, name="none", console=False) as run:
        run.log({"train_loss": 1.0})
    for script in ("query_wandb_gpu", "query_wandb_gpu_full"):
        found = ask(script, "--store", store)
        assert (found.status, found.out.splitlines()[-1]) == (1, RULE)
        assert "No GPU metrics found in this run: it has train_loss. " in found.err


# -- other trackers -----------------------------------------------------------------------------------------------

WANDB = """
import os, pathlib, sys, time, wandb
settings = wandb.Settings(x_stats_sampling_interval=0.2)
with wandb.init(project="p", name="real", mode="offline", settings=settings) as run:
    pathlib.Path(os.environ["FAKE_NVML"]).write_text(f"cards 2\\nset gpu 0 78\\nset gpu 1 55\\nset temp 0 71\\nset pid 0 {os.getpid()}\\n")
    for step in range(8):
        run.log({"train/loss": 1.0 / (step + 1), "gpu/compute_util_avg": 66.5}, step=step)
        time.sleep(0.4)  # a step, while W&B itself samples every 0.2 s
"""


def test_what_wandb_itself_measured_is_read_from_its_offline_run(ask: Ask, tmp_path: Path) -> None:
    # W&B's own monitor runs on a library that speaks NVML; what it writes, and under which names, is its own.
    pytest.importorskip("wandb")
    library, settings = tmp_path / "lib" / "libnvidia-ml.so.1", tmp_path / "nvml.txt"
    library.parent.mkdir()
    settings.write_text("cards 2\n")
    source = Path(__file__).with_name("nvml_for_wandb.c")
    subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(settings)}
    done = subprocess.run(
        [sys.executable, "-c", WANDB], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = ask("query_wandb_gpu_full", "--store", "wandb").out
    assert re.match(rf"Run: real \(\w+\)\nState: finished\nURL: file://\S+\n{RULE}\n\n", shown)
    # Only GPU 0 holds memory of the training process.
    assert (
        "\n\nDetected 1 active GPU (GPU 1 not used by this run)\n\nGPU 0:\n  Memory Allocated:\n    Current:  20.00 GB (25.0%)\n"
        in shown
    )
    for line in ("78.0%", "350.5 W", "71°C"):
        assert f"    Current:  {line}\n" in shown
    found = ask("query_wandb_gpu", "--store", "wandb", "--json").json
    assert [gpu["utilisation_percent"]["maximum"] for gpu in found["gpus"]][1] == 55
    assert found["gpus"][0]["memory_bytes"]["key"] == "system.gpu.0.memoryAllocatedBytes"
    assert found["overall"]["utilisation_percent"]["average"] == 66.5
    listed = ask("inspect_wandb_keys", "--store", "wandb").out
    assert "GPU-related keys:\n  - gpu/compute_util_avg\n" in listed
    assert "Training metrics keys:\n  - train/loss\n" in listed


TRACKIO = """
import trackio
trackio.init(project="p", name="real", auto_log_cpu=False, auto_log_gpu=False)
trackio.log({"train/loss": 1.0}, step=0)
for busy in (50.0, 90.0):
    trackio.log_system({"gpu/0/utilization": busy, "gpu/0/allocated_memory": 1.5, "gpu/0/power": 100.0, "gpu/0/temp": 61.0,
                        "gpu/0/memory_usage": 0.25})
trackio.finish()
"""


def test_trackio_is_asked_in_its_own_names(ask: Ask, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", TRACKIO], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = ask("query_wandb_gpu_full", "--store", "trackio://p", TRACKIO_DIR=str(tmp_path / "trackio")).out
    assert shown.startswith("Run: real (")
    assert shown.split(f"{RULE}\n\n")[1] == "Detected 1 active GPU\n\nGPU 0:\n" + (
        section("Memory Allocated", *["1.50 GB (25.0%)"] * 3)
        + section("GPU Utilization", "90.0%", "70.0%", "90.0%")
        + section("Power", *["100.0 W"] * 3)
        + section("Temperature", *["61°C"] * 3)
    )


def test_tensorboard_is_asked_for_what_the_trainer_logged(ask: Ask, tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("tensorboardX")
    with tensorboard.SummaryWriter(str(tmp_path / "runs" / "real")) as writer:
        for step in range(3):
            writer.add_scalar("gpu/compute_util_avg", 60.0 + 10 * step, step)
    assert "AVERAGE OF ALL GPUs:\n" + section("GPU Utilization (%)", "80.0%", "70.0%", "80.0%") in (
        ask("query_wandb_gpu", "--store", "runs").out
    )
    with tensorboard.SummaryWriter(str(tmp_path / "more" / "real")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    assert "TensorBoard measures no GPU by itself" in ask("query_wandb_gpu", "--store", "more").err


# -- W&B's cloud --------------------------------------------------------------------------------------------------


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A stand-in for the cloud, and a login to it; the entity is that of the login."""
    pytest.importorskip("wandb")
    with WandbServer() as server:
        for name, value in server.environment.items():
            if name != "WANDB_ENTITY":
                monkeypatch.setenv(name, value)
        yield server


def test_the_cloud_is_asked_by_entity_project_and_name(
    ask: Ask, cloud: WandbServer, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record(store)
    assert main(["--store", str(store), "sync", "--to", "wandb", "--entity", ENTITY]) == 0
    (stored,) = cloud.runs.values()
    assert stored.events, "the system stream is empty"
    flags: tuple[Any, ...] = ("--entity", ENTITY, "--project", stored.project)
    shown = ask("query_wandb_gpu_full", *flags, "--run-name", NAME)
    assert shown.status == 0, shown.err
    above, _, answer = shown.out.partition(f"{RULE}\n\n")
    assert above.splitlines()[:2] == [f"Run: {NAME} ({stored.name})", "State: finished"]
    assert above.splitlines()[2].endswith(f"/{ENTITY}/{stored.project}/runs/{stored.name}")
    assert answer == FULL
    assert ask("query_wandb_gpu", *flags, "--run-id", stored.name).out == above + f"{RULE}\n\n{ANSWER}"
    assert ask("query_wandb_gpu", *flags, "--run-id", "zzz").status == 1
    # Without an entity it is the one that is logged in.
    assert ask("query_wandb_gpu", "--project", stored.project).out == above + f"{RULE}\n\n{ANSWER}"
    assert "  - system.gpu.1.temp\n" in ask("inspect_wandb_keys", "--project", stored.project).out


def test_without_a_login_or_a_project_one_sentence_says_what_to_do(ask: Ask) -> None:
    found = ask("query_wandb_gpu", "--entity", "team", "--project", "gpt2", WANDB_BASE_URL="http://127.0.0.1:9")
    assert (found.status, found.out) == (1, "")
    assert "wandb login" in found.err
    assert "which project of team?" in ask("query_wandb_gpu", "--entity", "team").err
