"""Trackio's public names against what `lossbook run --as trackio` has: each works, or says why it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unedited import count_rows, only_run, run_unedited, values

from lossbook.compat.trackio_names import NOT_HERE, find_name
from lossbook.compat.wandb import unsupported
from lossbook.compat.wandb.unknown_names import Unanswered

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "wandb.md"


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")


def test_each_public_name_of_trackio_works_or_has_its_reason() -> None:
    text = "import json, trackio; print(json.dumps(trackio.__all__))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], capture_output=True, text=True, timeout=120)
    if "No module named 'trackio'" in done.stderr:
        pytest.skip("trackio is not installed: pip install 'lossbook[test]'")
    names = json.loads(done.stdout.splitlines()[-1])
    assert len(names) > 15
    explained = NOT_HERE.keys() | unsupported.NOT_HERE.keys()
    # What a page of Trackio's is made of.
    inside = {"ReferenceHandler", "ResolvedReference", "TRACKIO_LOGO_DIR", "Trace"}
    silent = {name for name in names if isinstance(find_name(name), Unanswered)} - explained
    assert silent - inside == set()


def test_the_documentation_shows_the_reasons() -> None:
    text = DOCUMENT.read_text()
    assert [name for name, reason in NOT_HERE.items() if f"| `trackio.{name}` | {reason} |" not in text] == []


def test_a_program_written_for_trackio_runs_as_it_is(store: Path) -> None:
    text = """
import trackio
run = trackio.init(project="p", name="tracked", config={"lr": 0.1}, group="g", space_id=None, embed=False, auto_log_gpu=False)
for step in range(3):
    trackio.log({"loss": 1.0 / (step + 1)})
trackio.log({"loss": 0.1}, step=9)
trackio.log_system({"gpu_power": 100.0})
trackio.log({"note": trackio.Markdown("**bold**"), "rows": trackio.Table(columns=["a"], data=[[1]])})
trackio.alert("spike", "the loss", level=trackio.AlertLevel.WARN)
trackio.show(project="p")
trackio.sync(project="p")
trackio.finish()
"""
    said = run_unedited(text, "--as", "trackio")
    run: Any = only_run(store)
    assert (run.name, run.group, run.config["lr"]) == ("tracked", "g", 0.1)
    assert values(run, "loss") == [(0, 1.0), (1, 0.5), (2, 1.0 / 3), (9, 0.1)]
    assert count_rows(run, "system.gpu_power") == [1]
    assert said.count("`lossbook serve` shows the store") == 1
