"""Runs that the real MLflow wrote: its SQLite file and folder store read directly, a server through its client."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.trackers.mlflow.source import parameter_value
from lossbook.trackers.sources import find_source

pytest.importorskip("mlflow")
# MLflow's own use of its database library.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]

WRITE = """
import sys, math, os, time, mlflow, numpy
from mlflow import MlflowClient
from mlflow.entities import Metric
uri = sys.argv[1]
mlflow.set_tracking_uri(uri)
experiment = mlflow.create_experiment("exp A", artifact_location=sys.argv[2])
client = MlflowClient(uri)
for name, scale in (("first", 1.0), ("second", 2.0)):
    tags = {"team": "x", "reviewed": "true", "mlflow.note.content": "a note", "mlflow.source.git.commit": "abc123"}
    run = client.create_run(experiment, run_name=name, tags=tags)
    client.log_batch(run.info.run_id, params=[mlflow.entities.Param(*pair) for pair in
        {"lr": str(3e-4 * scale), "layers": "[1, 2]", "on": "True", "optimizer": "adam", "seed": "7"}.items()])
    for step in range(50):
        stamp = 1700000000000 + step
        client.log_batch(run.info.run_id, metrics=[
            Metric("train/loss", scale / (step + 1), stamp, step),
            Metric("odd", [math.nan, math.inf, -math.inf, 1e300][step % 4], stamp, step),
            Metric("system/gpu_0_utilization_percentage", 40.0 + step, stamp, step)])
    if sys.argv[3:] != ["bare"]:
        client.log_text(run.info.run_id, "hello", "notes/x.txt")
        client.log_image(run.info.run_id, numpy.zeros((4, 4, 3), dtype=numpy.uint8), key="dog", step=3)
    client.set_terminated(run.info.run_id, "FINISHED" if name == "first" else "FAILED")
"""

ADD = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = [one.experiment_id for one in client.search_experiments() if one.name == "exp A"]
(run,) = [one for one in client.search_runs([experiment]) if one.info.run_name == "second"]
client.log_metric(run.info.run_id, "train/loss", 0.125, 1700000000900, 900)
client.log_metric(run.info.run_id, "late", 1.0, 1600000000000, 1)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import subprocess

    folder = tmp_path_factory.mktemp("mlflow")
    for uri, artifacts in (
        (f"sqlite:///{folder}/mlflow.db", folder / "artifacts"),
        ((folder / "mlruns").as_uri(), folder / "other-artifacts"),
    ):
        environment = {"PATH": "/usr/bin:/bin", "MLFLOW_ALLOW_FILE_STORE": "true", "HOME": str(folder)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", WRITE, uri, str(artifacts)],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=folder,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def place(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ml"
    shutil.copytree(written, folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.mark.parametrize("store", ["mlflow.db", "mlruns"])
def test_a_local_store_reads_like_a_store(place: Path, store: str) -> None:
    book = lossbook.open(place / store)
    assert book.projects() == ["exp A"]
    run = book.run("first")
    assert (run.state, book.run("second").state) == ("finished", "failed")
    assert run.config == {"lr": 3e-4, "layers": [1, 2], "on": True, "optimizer": "adam", "seed": 7}
    assert (run.notes, sorted(run.tags)) == ("a note", ["reviewed", "team=x"])
    assert run.info.git.commit == "abc123"
    history = run.history(["train/loss", "odd"]).df()
    assert history["step"].tolist() == list(range(50))
    assert history["train/loss"].tolist() == [1.0 / (step + 1) for step in range(50)]
    assert str(history["odd"].tolist()[:4]) == "[nan, inf, -inf, 1e+300]"
    assert run.metrics["system.gpu.0.gpu"]["last"] == 89.0
    assert run.curve("train/loss", x="time").x[0] == 1_700_000_000.0
    assert run.problems() == []


@pytest.mark.parametrize("store", ["mlflow.db", "mlruns"])
def test_pictures_and_small_artifacts_come_along(place: Path, store: str) -> None:
    run = lossbook.open(place / store).run("first")
    (picture,) = run.events("image")
    assert (picture["key"], picture["step"]) == ("dog", 3)
    assert Path(run.path, picture["value"]["file"]).read_bytes().startswith(b"\x89PNG")
    assert Path(run.folder.files, "notes", "x.txt").read_text() == "hello"


@pytest.mark.parametrize("store", ["mlflow.db", "mlruns"])
def test_an_import_is_equal_and_later_brings_what_was_added(
    place: Path, store: str, tmp_path: Path, program, capsys
) -> None:
    target = tmp_path / "store"
    assert main(["import", str(place / store), "--to", str(target), "--json"]) == 0
    assert [one["error"] for one in json.loads(capsys.readouterr().out)] == [None, None]
    for name in ("first", "second"):
        left, right = lossbook.open(target).run(name), lossbook.open(place / store).run(name)
        assert left.history().df().equals(right.history().df())
        assert (left.config, left.tags, left.notes) == (right.config, right.tags, right.notes)
    uri = f"sqlite:///{place / store}" if store.endswith(".db") else (place / store).as_uri()
    program(ADD, uri, MLFLOW_ALLOW_FILE_STORE="true")
    assert main(["import", str(place / store), "--to", str(target), "--json"]) == 0
    rows = {one["name"]: one["rows"] for one in json.loads(capsys.readouterr().out)}
    assert rows == {"first": 0, "second": 2}
    run = lossbook.open(target).run("second")
    assert (run.metrics["train/loss"]["count"], run.metrics["train/loss"]["last"]) == (51, 0.125)
    assert run.metrics["late"]["count"] == 1


def test_the_values_are_those_that_mlflow_reads(place: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    (experiment,) = [one.experiment_id for one in client.search_experiments() if one.name == "exp A"]
    for theirs in client.search_runs([experiment]):
        ours = lossbook.open(place / "mlflow.db").run(theirs.info.run_id)
        points = client.get_metric_history(theirs.info.run_id, "train/loss")
        rows = ours.history("train/loss").df()
        assert rows["step"].tolist() == [point.step for point in points]
        assert rows["train/loss"].tolist() == [point.value for point in points]


def test_a_server_is_read_through_mlflows_own_client(place: Path, tmp_path: Path, program, capsys) -> None:
    from mlflow_server import serving

    uri = f"sqlite:///{tmp_path}/served.db"
    program(WRITE, uri, str(tmp_path / "served-artifacts"), "bare")
    target = tmp_path / "store"
    with serving(uri) as (address, asked):
        assert main(["import", f"mlflow://{address}#exp A", "--to", str(target), "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        assert [one["error"] for one in results] == [None, None], results
        program(ADD, uri)
        assert main(["import", f"mlflow://{address}#exp A", "--to", str(target), "--json"]) == 0
        rows = {one["name"]: one["rows"] for one in json.loads(capsys.readouterr().out)}
        assert rows == {"first": 0, "second": 2}
        assert sum(path.endswith("metrics/get-history") for path in asked) > 20  # it was paged
        with pytest.raises(StoreError, match="no experiment 'other'"):
            lossbook.open(f"mlflow://{address}#other")
    run = lossbook.open(target).run("first")
    assert run.history("train/loss").df()["train/loss"].tolist() == [1.0 / (step + 1) for step in range(50)]
    assert str(run.history("odd").df()["odd"].tolist()[:4]) == "[nan, inf, -inf, 1e+300]"
    assert (run.config["seed"], run.notes) == (7, "a note")


def test_a_server_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match="cannot be read"):
        lossbook.open("mlflow://http://127.0.0.1:9")


def test_an_address_names_a_server_or_an_experiment_of_the_usual_store(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert lossbook.open("mlflow://exp A").run("first").project == "exp A"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (place / "mlruns").as_uri())
    assert {run.name for run in lossbook.open("mlflow://").runs()} == {"first", "second"}
    with pytest.raises(StoreError, match="it has Default, exp A|it has exp A"):
        lossbook.open("mlflow://other")


def test_a_database_that_was_rebuilt_is_not_mixed_with_what_was_imported(place: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "store"
    assert main(["import", str(place / "mlflow.db"), "--to", str(target)]) == 0
    with sqlite3.connect(place / "mlflow.db") as connection:
        connection.execute("DELETE FROM metrics WHERE step < 10")
    connection.close()
    assert main(["import", str(place / "mlflow.db"), "--to", str(target)]) == 1
    assert "written anew" in capsys.readouterr().err
    assert lossbook.open(target).run("first").metrics["train/loss"]["count"] == 50
    # What is only a cache is made anew.
    assert lossbook.open(place / "mlflow.db").run("first").metrics["train/loss"]["count"] == 40


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.0003", 3e-4), ("3e-4", 3e-4), ("12", 12), ("-1", -1), ("007", "007"), ("True", True), ("None", None),
     ("[1, 'a']", [1, "a"]), ("{'a': 1}", {"a": 1}), ("adam", "adam"), ("1_000", "1_000"), ("inf", math.inf), ("[1", "[1")],
)  # fmt: skip
def test_a_parameter_is_read_as_what_it_was_written_from(text: str, value: object) -> None:
    assert parameter_value(text) == value
    assert type(parameter_value(text)) is type(value)


@pytest.mark.parametrize("store", ["mlflow.db", "mlruns"])
def test_reading_goes_on_from_any_row(place: Path, store: str) -> None:
    source = find_source(str(place / store))
    assert source is not None
    assert check_every_place(source) == 2 * (50 + 2)
