"""Leaving with many runs at once: `lossbook sync` and `lossbook export` of a whole store, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from pseudo_terminal import run_on_a_terminal

import lossbook
from lossbook.cli import main
from lossbook.cli.progress import RunsProgress
from lossbook.follower import Delivery
from lossbook.paths import RunFolder

STEPS = 20
RUNS = 40

pytest.importorskip("wandb")
pytest.importorskip("trackio")
pytest.importorskip("tensorboard")


@pytest.fixture(autouse=True)
def _somewhere_else(own_trackers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))


def record(count: int) -> list[Path]:
    """Short runs of a sweep, in the order in which they were begun."""
    folders = []
    for number in range(count):
        run = lossbook.init(project="sweep", name=f"run-{number}", id=f"id{number:03d}", console=False)
        for step in range(STEPS):
            run.log({"loss": number + step / 64}, step=step)
        run.finish()
        folders.append(Path(run.path))
    return folders


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lossbook.cli", *words]


def lossbook_cli(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=120)


def sync_until(lines: int, how: signal.Signals, *words: str) -> tuple[int, str]:
    """Begin a sync, and signal it when it has said so many lines; its status, and what else it said."""
    with subprocess.Popen(
        command("sync", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


Rows = dict[str, list[tuple[int, float]]]


def in_tensorboard() -> Rows:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Rows = {}
    for folder in Path("runs/sweep").iterdir():
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        found[folder.name.rpartition("-id")[0]] = [(point.step, point.value) for point in events.Scalars("loss")]
    return found


def in_trackio() -> Rows:
    found: Rows = {}
    query = (
        "select run_name, step, json_extract(metrics, '$.loss') as loss from metrics where loss is not null order by id"
    )
    with closing(sqlite3.connect("trackio/sweep.db")) as database:
        for name, step, loss in database.execute(query):
            found.setdefault(name, []).append((step, loss))
    return found


def in_wandb_files() -> Rows:
    from wandb.proto.wandb_internal_pb2 import Record

    from lossbook.trackers.wandb.transaction_log import read_records

    found: Rows = {}
    for file in Path("wandb").glob("offline-run-*/*.wandb"):
        name, rows = "", []
        for _, contents in read_records(str(file), 0):
            record = Record.FromString(contents)
            name = record.run.display_name or name
            values = {item.nested_key[0]: item.value_json for item in record.history.item if item.nested_key}
            if "loss" in values:
                rows.append((record.history.step.num, float(values["loss"])))
        assert name not in found
        found[name] = rows
    return found


def in_mlflow() -> Rows:
    found: Rows = {}
    query = "select name, step, value from metrics join runs using (run_uuid) where key = 'loss' order by step"
    with closing(sqlite3.connect("mlflow.db")) as database:
        for name, step, loss in database.execute(query):
            found.setdefault(name, []).append((step, loss))
    return found


def all_rows(count: int) -> Rows:
    return {f"run-{number}": [(step, number + step / 64) for step in range(STEPS)] for number in range(count)}


TRACKERS = {"tensorboard": in_tensorboard, "wandb:offline": in_wandb_files, "trackio": in_trackio}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_sync_of_many_runs_that_is_killed_goes_on_and_delivers_each_row_once(tracker: str) -> None:
    record(RUNS)
    words = ("--all", "--to", tracker)
    assert sync_until(0, signal.SIGKILL, *words)[0] == -signal.SIGKILL
    assert sync_until(1, signal.SIGKILL, *words)[0] == -signal.SIGKILL
    status, said = sync_until(1, signal.SIGINT, *words)
    assert status == 130
    assert "the same command goes on there" in said
    assert "Traceback" not in said
    assert sync_until(1, signal.SIGKILL, *words)[0] == -signal.SIGKILL
    done = lossbook_cli("sync", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{RUNS - len(done.stdout.splitlines()) + 1} there already" in done.stdout
    assert TRACKERS[tracker]() == all_rows(RUNS)
    assert lossbook_cli("sync", *words).stdout == "everything is delivered\n"


def test_mlflow_gets_each_row_once_from_syncs_that_are_killed() -> None:
    pytest.importorskip("mlflow")
    record(6)
    assert sync_until(2, signal.SIGKILL, "--all", "--to", "mlflow")[0] == -signal.SIGKILL
    done = lossbook_cli("sync", "--all", "--to", "mlflow")
    assert (done.returncode, done.stderr) == (0, "")
    assert in_mlflow() == all_rows(6)


def test_two_syncs_at_once_share_the_work_and_neither_fails() -> None:
    record(RUNS)
    both = [
        subprocess.Popen(command("sync", "--all", "--to", "tensorboard"), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in both] == [("", 0), ("", 0)]
    assert in_tensorboard() == all_rows(RUNS)


def test_a_run_whose_delivery_is_under_way_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    folders = record(2)
    with Delivery(RunFolder(str(folders[0])), "tensorboard").held():
        assert main(["sync", "id000", "--to", "tensorboard"]) == 0
        assert "under way" in capsys.readouterr().out
        assert main(["sync", "--all", "--to", "tensorboard", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["delivered"], told["under_way"], told["failed"], told["rows"]) == (1, 1, 0, STEPS + 2)
    assert {one["run"]: (one["state"], one["error"]) for one in told["runs"]} == {
        "id000": ("under way", None),
        "id001": ("delivered", None),
    }
    assert list(in_tensorboard()) == ["run-1"]


def test_a_damaged_run_is_named_and_the_others_are_delivered(capsys: pytest.CaptureFixture[str]) -> None:
    folders = record(6)
    whole = (folders[2] / "run.json").read_bytes()
    (folders[2] / "run.json").write_text("not what it was")
    (folders[4] / "run.json").unlink()
    assert main(["sync", "--all", "--to", "tensorboard"]) == 1
    out, err = capsys.readouterr()
    assert "4 runs delivered, 2 failed" in out
    assert "id002/run.json is damaged" in err
    assert "id004/run.json is missing" in err
    assert "not delivered: id004, id002; mend what is said above" in err
    assert sorted(in_tensorboard()) == ["run-0", "run-1", "run-3", "run-5"]
    (folders[2] / "run.json").write_bytes(whole)
    assert main(["rm", "id004"]) == 0
    assert main(["sync", "--all", "--to", "tensorboard"]) == 0
    assert sorted(in_tensorboard()) == ["run-0", "run-1", "run-2", "run-3", "run-5"]


def test_damaged_rows_are_left_out_and_not_passed_over_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    folders = record(2)
    journal = folders[1] / "journal" / "r0-000001.jsonl"
    contents = bytearray(journal.read_bytes())
    contents[len(contents) // 2] ^= 4
    journal.write_bytes(contents)
    assert main(["sync", "--all", "--to", "tensorboard"]) == 1
    err = capsys.readouterr().err
    assert f"{journal}, line" in err
    assert "left out of run-1 (id001)" in err
    assert len(in_tensorboard()["run-1"]) == STEPS - 1
    for words in (["--all", "--parquet", "data"], ["--all", "-o", "all.csv"]):
        assert main(["export", *words]) == 1
        assert str(journal) in capsys.readouterr().err


def test_a_target_that_takes_nothing_is_given_up_after_three_runs() -> None:
    record(8)
    Path("runs").write_text("a file where the folder should be")
    refused = lossbook_cli("sync", "--all", "--to", "tensorboard,trackio")
    assert refused.returncode == 1
    assert "8 runs delivered, 3 failed, 5 not tried" in refused.stdout
    assert refused.stderr.count("TensorBoard files cannot be written") == 3
    assert "5 runs not tried for tensorboard" in refused.stderr
    assert in_trackio() == all_rows(8)
    Path("runs").unlink()
    assert main(["sync", "--all", "--to", "tensorboard"]) == 0
    assert in_tensorboard() == all_rows(8)


def test_a_run_that_cannot_be_written_is_not_said_to_be_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = record(1)
    for path in (folder / "followers").iterdir():
        path.unlink()
    (folder / "followers").rmdir()
    (folder / "followers").write_text("no folder")  # as one that somebody else owns, which root would not notice
    assert main(["sync", "--all", "--to", "tensorboard"]) == 1
    assert "cannot be written or locked" in capsys.readouterr().err


def test_a_run_that_was_renamed_and_moved_between_goes_on_where_it_is() -> None:
    (folder,) = record(1)
    with lossbook.init(project="sweep", id="id000", resume="allow", console=False) as run:
        assert main(["sync", "id000", "--to", "tensorboard"]) == 0
        run.log({"loss": 0.5}, step=STEPS)
    assert folder.exists()
    assert main(["rename", "id000", "other"]) == 0
    assert main(["mv", "id000", "--project", "archive"]) == 0
    assert main(["sync", "id000", "--to", "tensorboard"]) == 0
    assert in_tensorboard() == {"run-0": [*all_rows(1)["run-0"], (STEPS, 0.5)]}
    assert not Path("runs/archive").exists()


def test_what_was_delivered_and_is_gone_is_said_and_delivered_again_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(3)
    words = ["sync", "--all", "--to", "tensorboard"]
    assert main(words) == 0
    shutil.rmtree("runs/sweep/run-1-id001")
    assert main(words) == 0
    assert "1 run of those delivered before can no longer be found" in capsys.readouterr().err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main([*words, "--again"]) == 0
    assert in_tensorboard() == all_rows(3)
    assert main(words) == 0
    assert capsys.readouterr().err == ""


def test_export_delivers_to_trackers_as_sync_does(capsys: pytest.CaptureFixture[str]) -> None:
    record(3)
    assert main(["export", "--to", "tensorboard"]) == 0
    assert list(in_tensorboard()) == ["run-2"]  # the latest, as of every export
    assert main(["export", "--all", "--to", "tensorboard"]) == 0
    assert in_tensorboard() == all_rows(3)
    assert main(["export", "--all", "--to", "tensorboard", "--keys", "loss"]) == 2
    assert "leave --keys out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("sync", "--all", "--to", "tensorboard"), ("export", "--all", "--parquet", "data")],
    ids=lambda one: one[0],
)
def test_a_terminal_shows_how_many_runs_are_done_and_the_time_left(words: tuple[str, ...]) -> None:
    record(RUNS)
    status, said = run_on_a_terminal(command(*words), output=False)
    assert status == 0
    shown = said.decode()
    assert f" of {RUNS} runs " in shown
    assert "s left" in shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = 0.0

    def forward(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("lossbook.cli.progress.time", SimpleNamespace(monotonic=lambda: now))
    return forward


def test_where_no_terminal_is_a_line_comes_every_half_minute(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = RunsProgress("delivered", 100)
    for _ in range(50):
        clock(2.0)
        progress.run_done()
    assert capsys.readouterr().err.splitlines() == [
        "lossbook: 15 of 100 runs delivered; 2m 50s left",
        "lossbook: 30 of 100 runs delivered; 2m 20s left",
        "lossbook: 45 of 100 runs delivered; 1m 50s left",
    ]
