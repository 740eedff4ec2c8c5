"""Projects that the real Trackio wrote, read from its database."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.errors import StoreError
from lossbook.trackers.sources import find_source

pytest.importorskip("trackio")

pytestmark = pytest.mark.slow

WRITE = """
import sys, math, numpy, pandas, trackio
for name, scale in (("first", 1.0), ("second", 2.0)):
    trackio.init(project="my.model", name=name, group="sweep", config={"lr": 3e-4 * scale, "layers": [1, 2], "nested": {"a": 1}},
                 auto_log_cpu=False, auto_log_gpu=False)
    for step in range(50):
        trackio.log({"train/loss": scale / (step + 1), "odd": [math.nan, math.inf, -math.inf][step % 3], "on": True,
                     "deep": {"x": step}, "words": "hello"}, step=step * 10)
    trackio.log({"picture": trackio.Image(numpy.zeros((4, 5, 3), dtype=numpy.uint8), caption="black")}, step=500)
    trackio.log({"table": trackio.Table(dataframe=pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))}, step=500)
    trackio.log({"spread": trackio.Histogram([1.0, 2.0, 3.0, 3.0], num_bins=4), "said": trackio.Markdown("# hi")}, step=500)
    trackio.log_system({"gpu/0/utilization": 55.5, "gpu/0/allocated_memory": 1.5, "cpu/utilization": 12.0})
    trackio.alert("spike", text="at 3", level=trackio.AlertLevel.WARN)
    trackio.finish()
"""

ADD = """
import trackio
trackio.init(project="my.model", name="second", resume="must", auto_log_cpu=False, auto_log_gpu=False)
trackio.log({"train/loss": 0.125}, step=900)
trackio.finish()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", WRITE], env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def project(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, so that a test may add to it."""
    folder = tmp_path / "trackio"
    shutil.copytree(written, folder)
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    return folder


def test_a_project_reads_like_a_store(project: Path) -> None:
    book = lossbook.open("trackio://my.model")
    assert {run.name for run in book.runs()} == {"first", "second"}
    run = book.run("first")
    assert (run.project, run.group, run.state) == ("mymodel", "sweep", "finished")
    assert run.config == {"lr": 3e-4, "layers": [1, 2], "nested": {"a": 1}}
    history = run.history("train/loss").df()
    assert history["step"].tolist() == list(range(0, 500, 10))
    assert history["train/loss"].tolist() == [1.0 / (step + 1) for step in range(50)]
    odd = run.history("odd").df()["odd"].tolist()
    assert str(odd[:3]) == "[nan, inf, -inf]"
    assert run.metrics["deep/x"]["last"] == 49
    assert run.metrics["on"]["mean"] == 1.0
    assert run.problems() == []


def test_the_time_of_a_row_is_the_one_in_the_database(project: Path) -> None:
    import datetime

    with sqlite3.connect(project / "mymodel.db") as connection:
        texts = [
            row[0] for row in connection.execute("SELECT timestamp FROM metrics WHERE run_name = 'first' ORDER BY id")
        ]
    connection.close()
    times = [event["time"] for event in lossbook.open("trackio://my.model").run("first").events("text")][:50]
    assert times == pytest.approx([datetime.datetime.fromisoformat(text).timestamp() for text in texts[:50]], abs=1e-6)


def test_system_metrics_have_the_names_and_units_that_lossbook_measures_by(project: Path) -> None:
    run = lossbook.open(project).run("first")
    assert run.metrics["system.gpu.0.gpu"]["last"] == 55.5
    assert run.metrics["system.gpu.0.memoryAllocatedBytes"]["last"] == 1.5 * 2**30
    assert run.metrics["system.cpu.utilization"]["last"] == 12.0


def test_media_tables_histograms_texts_and_alerts_come_along(project: Path) -> None:
    run = lossbook.open(project / "mymodel.db").run("first")
    (picture,) = run.events("image")
    assert (picture["key"], picture["step"], picture["value"]["caption"]) == ("picture", 500, "black")
    original = next((project / "media").rglob("*.png")).read_bytes()
    assert Path(run.path, picture["value"]["file"]).read_bytes() == original
    (table,) = run.events("table")
    assert table["value"] == {"columns": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}
    (spread,) = run.events("histogram")
    assert (len(spread["value"]["edges"]), sum(spread["value"]["counts"])) == (5, 4)
    assert "# hi" in [event["value"]["text"] for event in run.events("text")]
    (alert,) = run.events("alert")
    assert alert["value"] == {"title": "spike", "text": "at 3", "level": "warning"}


def test_an_import_has_equal_values_and_later_what_was_added(project: Path, store: Path, program, capsys) -> None:
    assert main(["import", "trackio://my.model", "--to", str(store), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["error"] for result in results] == [None, None]
    imported, read = lossbook.open(store), lossbook.open("trackio://my.model")
    for name in ("first", "second"):
        left, right = imported.run(name), read.run(name)
        assert left.keys() == right.keys()
        assert left.history().df().equals(right.history().df())
        assert (left.config, left.summary, left.tags) == (right.config, right.summary, right.tags)
    program(ADD, TRACKIO_DIR=str(project))
    assert main(["import", "trackio://my.model", "--to", str(store), "--json"]) == 0
    rows = {result["name"]: result["rows"] for result in json.loads(capsys.readouterr().out)}
    assert rows == {"first": 0, "second": 1}
    assert lossbook.open(store).run("second").metrics["train/loss"]["last"] == 0.125
    assert lossbook.open("trackio://my.model").run("second").metrics["train/loss"]["count"] == 51


def test_rows_that_another_table_brought_late_come_exactly_once(project: Path, store: Path, capsys) -> None:
    """Trackio writes system metrics from a thread of its own: older times may arrive behind newer ones."""
    assert main(["import", "trackio://my.model", "--to", str(store), "--run", "first"]) == 0
    with sqlite3.connect(project / "mymodel.db") as connection:
        connection.execute(
            "INSERT INTO system_metrics (run_id, timestamp, run_name, metrics) SELECT run_id, '2020-01-01T00:00:00+00:00', "
            "run_name, '{\"gpu/0/utilization\": 1.0}' FROM metrics WHERE run_name = 'first' LIMIT 1"
        )
    connection.close()
    assert main(["import", "trackio://my.model", "--to", str(store), "--run", "first"]) == 0
    run = lossbook.open(store).run("first")
    assert run.metrics["system.gpu.0.gpu"]["count"] == 2
    assert run.metrics["train/loss"]["count"] == 50


def test_runs_are_compared(project: Path, capsys) -> None:
    assert main(["--store", "trackio://my.model", "compare", "first", "second", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "0.0003" in shown
    assert "0.0006" in shown


def test_a_database_of_before_run_ids_is_read_by_names(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        connection.execute("INSERT INTO metrics VALUES (1, '2025-01-01T00:00:00', 'old run', 3, '{\"loss\": 0.5}')")
        connection.execute("INSERT INTO metrics VALUES (2, '2025-01-01T00:00:01', 'old run', 4, '{\"loss\": ')")
    connection.close()
    run = lossbook.open(path).run("old run")
    assert run.history("loss").df()["loss"].tolist() == [0.5]
    assert "damaged" in run.events("warning")[0]["value"]["message"]


def test_a_project_that_is_not_there_is_one_sentence(project: Path) -> None:
    with pytest.raises(StoreError, match="has mymodel"):
        find_source("trackio://other")


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    with pytest.raises(StoreError, match=r"broken\.db cannot be read"):
        lossbook.open("trackio://broken")


def test_reading_goes_on_from_any_row(project: Path) -> None:
    source = find_source("trackio://my.model")
    assert source is not None
    assert check_every_place(source) == 2 * (50 + 50 + 4 + 2)
