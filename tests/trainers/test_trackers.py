"""The GPT-2 trainer's tracking flags: what is said on the command line reaches every tracker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

import lossbook
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import is_complete
from lossbook.paths import default_project

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--size", "nano", "--context", "16", "--batch-size", "4", "--warmup-steps", "2", "--eval-batches", "2",
    "--eval-interval", "4", "--steps", "8",
]  # fmt: skip
FLAGS = [
    "--tracker-project", "my-project", "--tracker-run-name", "baseline", "--tracker-tags", "ablation,ra-ct,step-05",
    "--tracker-group", "ratio-ablation", "--tracker-notes", "first try",
]  # fmt: skip


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in list(os.environ):
        if name.startswith(("WANDB", "TRACKIO")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("LOSSBOOK_FOLLOWER", raising=False)
    text = tmp_path / "fable.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 60)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "gpt2" / "train.py"), "--dataset", str(text), *TINY, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return run


def wait_for(run: lossbook.RecordedRun, *names: str) -> None:
    wait_until(
        lambda: all(is_complete(run.folder, load_cursor(run.folder, name)) for name in names),
        60,
        what=f"{names} have the whole run",
    )


def wandb_records(folder: Path) -> list[dict[str, object]]:
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    return [json.loads(line) for line in subprocess.check_output(command, text=True, timeout=60).splitlines()]


def test_name_project_tags_group_notes_config_and_steps_reach_every_tracker(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("wandb")
    pytest.importorskip("trackio")
    done = train("--tracker", "wandb:offline,trackio,tensorboard", *FLAGS)
    assert done.returncode == 0, done.stderr
    run = lossbook.open(tmp_path / "lossbook-runs").run("latest")
    assert (run.name, run.project, run.group, run.notes) == ("baseline", "my-project", "ratio-ablation", "first try")
    wait_for(run, "wandb-offline", "trackio", "tensorboard")

    records = wandb_records(tmp_path)
    (described,) = [record["run"] for record in records if record["type"] == "run"]
    assert described["display_name"] == "baseline"  # type: ignore[index]
    assert described["project"] == "my-project"  # type: ignore[index]
    assert described["run_group"] == "ratio-ablation"  # type: ignore[index]
    assert described["notes"] == "first try"  # type: ignore[index]
    assert set(described["tags"]) == {"ablation", "ra-ct", "step-05"}  # type: ignore[index]
    steps = [
        one["history"]["item"]["_step"]
        for one in records  # type: ignore[index]
        if one["type"] == "history" and "train_loss" in one["history"]["item"]
    ]  # type: ignore[index]
    assert steps == list(range(1, 9)) or steps == list(range(8))

    program = (
        "import json\nfrom trackio.sqlite_storage import SQLiteStorage as S\n(run,) = S.get_runs('my-project')\n"
        "config = S.get_run_config('my-project', run)\nrows = S.get_logs('my-project', run)\n"
        "print(json.dumps([run, config, [r['step'] for r in rows if 'train_loss' in r]], default=str))"
    )
    name, config, trackio_steps = json.loads(
        subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60).splitlines()[-1]
    )
    assert name == "baseline"
    assert trackio_steps == steps
    assert "ratio-ablation" in json.dumps(config)
    assert "ra-ct" in json.dumps(config)
    assert (tmp_path / "runs" / "my-project").is_dir()


def test_wandb_mode_offline_works_with_no_login_and_leaves_an_offline_run(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("wandb")
    done = train("--tracker", "wandb", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    run = lossbook.open(tmp_path / "lossbook-runs").run("latest")
    assert run.project == default_project(str(tmp_path))
    wait_for(run, "wandb-offline")
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1


def test_without_a_tracker_the_local_run_is_recorded_and_no_local_turns_that_off(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert train("--no-local").returncode == 0
    assert not (tmp_path / "lossbook-runs").exists()
    assert train("--tracker", "none", WANDB_MODE="disabled").returncode == 0
    run = lossbook.open(tmp_path / "lossbook-runs").run("latest")
    assert run.state == "finished"
    assert not list(tmp_path.glob("wandb*"))


@pytest.mark.parametrize("tracker", ["wandbb", "wandb:often"])
def test_a_tracker_that_cannot_be_meant_is_refused_in_one_sentence(tracker: str, train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = train("--tracker", tracker)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "use one of" in done.stderr
