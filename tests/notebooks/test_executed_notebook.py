"""A notebook that is executed without anybody looking, as CI and papermill do, and then read."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import wait_until

import lossbook

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

pytestmark = pytest.mark.slow

CELLS = (
    "import lossbook\nrun = lossbook.init(project='study', id='r', name='first', config={'lr': 0.1}, system_metrics=False)",
    "chart = run.live_chart('train/loss', every_seconds=0.2)",
    "for step in range(50):\n    run.log({'train/loss': 1 / (1 + step)}, step=step)\nprint('trained')",
    "run.finish()\nassert chart.wait()",
    "lossbook.open().run('first')",
)


def test_an_executed_notebook_has_its_pictures_and_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    # The chart stands below the cell that began it, with the last rows of the cells after it.
    chart = notebook.cells[1].outputs[0]["data"]["text/html"]
    assert "<svg" in chart
    assert "0.02" in chart
    assert "finished" in chart
    assert "Configuration" in notebook.cells[4].outputs[0]["data"]["text/html"]
    run = lossbook.open(tmp_path / "store").run("r")
    assert (run.state, run.metrics["train/loss"]["count"]) == ("finished", 50)
    cells = (tmp_path / "store/study/r/code/cells.py").read_text()
    assert all(source in cells for source in CELLS[:4])
    assert "trained" in (tmp_path / "store/study/r/console/r0.log").read_text()


def test_a_notebook_that_fails_leaves_its_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    sources = (CELLS[0], "run.log({'train/loss': 1.0})\nraise MemoryError('no room')", "run.finish()")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="no room"):
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    wait_until(lambda: lossbook.open(tmp_path / "store").run("r").state != "running")
    run = lossbook.open(tmp_path / "store").run("r")
    assert run.state == "failed"
    assert "MemoryError: no room" in (run.error or "")
