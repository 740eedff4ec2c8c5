"""Runs that the real wandb uploaded to a stand-in for its cloud, read through the real `wandb.Api()`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import BadArgument, MissingLibrary
from lossbook.trackers.sources import find_source

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

WRITE = """
import math, numpy, time, wandb
for name, scale in (("first", 1.0), ("second", 2.0)):
    run = wandb.init(project="lab", name=name, id=f"id-{name}", config={"lr": 3e-4 * scale, "model": {"depth": 12}}, tags=["a", name],
                     group="sweep", notes="a note", job_type="train", settings=wandb.Settings(x_stats_sampling_interval=0.2))
    print("hello from", name)
    for step in range(40):
        run.log({"loss": scale / (step + 3), "nested": {"a": step}, "odd": [math.nan, math.inf, -math.inf, 0.1][step % 4]})
    time.sleep(0.5)  # W&B samples the system every 0.2 s
    run.log({"words": "hi", "spread": wandb.Histogram(numpy.arange(100)),
             "picture": wandb.Image(numpy.zeros((8, 9, 3), dtype=numpy.uint8), caption="black")})
    run.summary["best"] = 0.25
    open("kept.txt", "w").write(name)
    run.save("kept.txt", policy="now")
    run.finish()
"""

READ = """
import json, sys
import lossbook
book = lossbook.open(sys.argv[1])
print(json.dumps([{
    "name": run.name, "id": run.id, "state": run.state, "config": run.config, "tags": run.tags, "group": run.group,
    "notes": run.notes, "summary": run.summary, "path": run.path,
    "rows": [[key, int(step), float(value).hex()] for key in sorted(run.keys())
             for step, value in run.history([key]).df()[["step", key]].itertuples(index=False)],
    "events": [[event["kind"], event["key"], event["step"], event["value"]] for event in run.events()],
} for run in book.runs()]))
"""


def peers_module(name: str) -> Any:
    """A module of tests/peers, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "peers" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two offline runs."""
    folder = tmp_path_factory.mktemp("offline")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", WRITE]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "wandb"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for the W&B cloud, and a login to it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))
    with peers_module("wandb_server").WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def uploaded(cloud: Any, written: Path, tmp_path: Path) -> Any:
    """The cloud with both runs, as `wandb sync` brings them there."""
    copied = shutil.copytree(written, tmp_path / "wandb", symlinks=True)  # W&B marks what it took
    folders = [str(folder) for folder in copied.glob("offline-run-*")]
    command = [str(Path(sys.executable).with_name("wandb")), "sync", "--yes", *folders]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=120)
    assert len(cloud.runs) == 2
    cloud.requests.clear()
    return cloud


def made_up(cloud: Any, rows: dict[int, float], name: str = "made-up") -> Any:
    """A run that is only on the server: loss by step."""
    run = cloud.runs["lab", name] = peers_module("wandb_server").StoredRun(name, "lab")
    lines = [json.dumps({"_step": step, "_timestamp": 1.7e9 + step, "loss": loss}) for step, loss in rows.items()]
    run.streams["wandb-history.jsonl"] = dict(enumerate(lines))
    run.state = "finished"
    return run


def run_program(text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, *arguments],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
    )


def read(location: str) -> list[dict[str, Any]]:
    done = run_program(READ, location)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def logged(run: dict[str, Any]) -> list[Any]:
    """The rows that training logged: key, step, value."""
    return [row for row in run["rows"] if not row[0].startswith("system.")]


def sampled(run: dict[str, Any]) -> list[Any]:
    """The samples of the machine: key and value."""
    return sorted([key, value] for key, _, value in run["rows"] if key.startswith("system."))


def refused(location: str, **environment: str) -> str:
    """What a location that cannot be read is refused with."""
    code = """
import sys
import lossbook
from lossbook.errors import LossbookError
try:
    lossbook.open(sys.argv[1])
except LossbookError as error:
    print("refused:", error)
"""
    done = run_program(code, location, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def test_a_whole_project_reads_as_its_offline_files_do(uploaded: Any, written: Path) -> None:
    by_name = {run["name"]: run for run in read("wandb://team/lab")}
    offline = {run["name"]: run for run in read(str(written))}
    assert by_name.keys() == offline.keys() == {"first", "second"}
    for name, run in by_name.items():
        for field in ("id", "state", "config", "tags", "group", "notes", "summary"):
            assert run[field] == offline[name][field], field
        assert logged(run) == logged(offline[name])
        # A sample that was taken while a row was written lies behind it in the file and before it in time, or the reverse.
        assert sampled(run) == sampled(offline[name])
        for kind in ("image", "text", "histogram"):
            of_kind = [
                sorted(str(event) for event in one["events"] if event[0] == kind) for one in (run, offline[name])
            ]
            assert of_kind[0] == of_kind[1] != []
        kept = {event[3]["path"]: event[3]["file"] for event in run["events"] if event[0] == "file"}
        assert {"kept.txt", "requirements.txt"} <= kept.keys()
        assert "output.log" not in kept
        assert f"hello from {name}\n" in Path(run["path"], "console", "r0.log").read_text()
    odd = [value for key, _, value in by_name["first"]["rows"] if key == "odd"]
    assert odd[:4] == ["nan", "inf", "-inf", (0.1).hex()]
    assert any(key.startswith("system.") for key, _, _ in by_name["first"]["rows"])
    assert "RunSampledHistory" not in uploaded.requests


def test_one_run_is_read_by_its_id(uploaded: Any) -> None:
    (run,) = read("wandb://team/lab/id-second")
    assert run["name"] == "second"


def test_runs_and_rows_come_in_pages(cloud: Any) -> None:
    for number in range(60):
        made_up(cloud, {0: float(number)}, f"run-{number:02}")
    made_up(cloud, {step: 1.0 / (step + 1) for step in range(2500)}, "long")
    code = """
import lossbook
book = lossbook.open("wandb://team/lab")
print(len(book.runs()), len(book.run("long").history(["loss"]).df()), book.run("run-37").summary)
"""
    done = run_program(code)
    assert done.stdout.startswith("61 2500 "), done.stderr[-2000:]
    assert cloud.requests.count("Runs") == 2
    assert cloud.requests.count("HistoryPage") >= 3


def test_a_run_of_few_and_huge_steps_takes_few_questions(cloud: Any) -> None:
    made_up(cloud, {step * 1_000_000: float(step) for step in range(300)})
    (run,) = read("wandb://team/lab")
    assert [(step, float.fromhex(value)) for _, step, value in run["rows"]] == [
        (step * 1_000_000, step) for step in range(300)
    ]
    assert cloud.requests.count("HistoryPage") < 5


def test_a_growing_run_is_read_on_without_a_row_twice(cloud: Any) -> None:
    for steps in (10, 25, 25, 60):
        run = made_up(cloud, {step: float(step) for step in range(steps)})
        run.state = "finished" if steps == 60 else "running"
        run.streams["wandb-events.jsonl"] = {
            number: json.dumps({"_timestamp": 1.7e9 + number * 5, "_runtime": number * 5, "system.cpu": float(number)})
            for number in range(steps // 5)
        }
        run.streams["output.log"] = {number: f"2026-01-01T00:00:00.000000 line {number}" for number in range(steps)}
        run.files["kept.txt"] = str(steps).encode()
        (found,) = read("wandb://team/lab")
        assert found["state"] == run.state
        rows = [(key, float.fromhex(value)) for key, _, value in found["rows"]]
        assert sorted(value for key, value in rows if key == "loss") == list(range(steps))
        assert sorted(value for key, value in rows if key == "system.cpu") == list(range(steps // 5))
        assert Path(found["path"], "console", "r0.log").read_text() == "".join(
            f"line {number}\n" for number in range(steps)
        )
        assert Path(found["path"], "files", "kept.txt").read_text() == str(steps)


def test_a_system_stream_that_was_thinned_out_is_said(cloud: Any) -> None:
    run = made_up(cloud, {0: 1.0})
    run.streams["wandb-events.jsonl"] = {
        n: json.dumps({"_timestamp": 1.7e9 + n, "system.cpu": float(n)}) for n in range(100)
    }
    cloud.most_samples = 20
    (found,) = read("wandb://team/lab")
    (warning,) = (value["message"] for kind, _, _, value in found["events"] if kind == "warning")
    assert "20 of the 100 samples" in warning


@pytest.mark.parametrize("status", [429, 503, 0])
def test_a_server_that_is_busy_or_breaks_off_is_asked_again(cloud: Any, status: int) -> None:
    made_up(cloud, {step: float(step) for step in range(1500)})
    seen: list[str] = []

    def before(path: str, operation: str) -> int | None:
        seen.append(operation)
        return status if operation == "HistoryPage" and seen.count(operation) == 2 else None

    cloud.before = before
    (run,) = read("wandb://team/lab")
    assert len(run["rows"]) == 1500
    assert seen.count("HistoryPage") >= 3


def test_an_import_that_was_cut_off_half_way_goes_on(cloud: Any, tmp_path: Path) -> None:
    made_up(cloud, {step: float(step) for step in range(3000)})
    code = """
import os, signal, sys
from lossbook.trackers import ingest, staging
from lossbook.trackers.sources import find_source
staging.BATCH_ROWS = 200
source = find_source("wandb://team/lab")
(run,) = source.runs()
counted = [0]
def count(rows):
    counted[0] += rows
    if sys.argv[2] == "cut" and counted[0] >= 1400:
        os.kill(os.getpid(), signal.SIGKILL)
print("brought", ingest.import_rows(ingest.import_run(sys.argv[1], source, run), source, run, count))
"""
    assert run_program(code, str(tmp_path / "store"), "cut").returncode == -9
    done = run_program(code, str(tmp_path / "store"), "whole")
    assert done.stdout.strip() == "brought 1600", done.stderr[-2000:]
    history = lossbook.open(tmp_path / "store").run("made-up").history(["loss"]).df()
    assert list(history.loss) == list(range(3000))


def test_without_a_login_it_says_how_to_log_in_and_asks_nobody(cloud: Any) -> None:
    said = refused("wandb://team/lab", WANDB_API_KEY="")
    assert said.startswith("refused: nobody is logged in to http://127.0.0.1")
    assert "wandb login" in said
    assert cloud.requests == []


def test_a_login_that_is_refused_and_a_project_that_is_not_there_are_one_sentence(cloud: Any) -> None:
    assert "Could not find project nothing" in refused("wandb://team/nothing")
    cloud.before = lambda path, operation: 401
    assert "refuses the login" in refused("wandb://team/lab")


def test_a_location_without_a_project_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadArgument, match="wandb://ENTITY/PROJECT"):
        find_source("wandb://")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingLibrary, match="lossbook\\[wandb\\]"):
        find_source("wandb://team/lab")
