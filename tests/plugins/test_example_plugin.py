"""The example of a plugin, installed from its wheel: each of its five parts does its work through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from installed import EXAMPLE, Place
from waiting import wait_until

STEPS = 40
TRAIN = f"""
import lossbook
with lossbook.init(project="lab", name="first", config={{"lr": 0.1}}, tags=["a"], console=False) as run:
    for step in range({STEPS}):
        run.log({{"train/loss": 1 / (step + 1), "lr": 0.0 if step >= 20 else 0.1}}, step=step)
print(run.path)
"""


def record(place: Place, **environment: str) -> Path:
    """Record a run; returns its folder."""
    ran = place.python("-c", TRAIN, **environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    return Path(ran.stdout.strip())


def lines(place: Place) -> list[dict[str, object]]:
    """What Labbook's file of the run has."""
    (path,) = place.folder.glob("labbook/lab/*.labbook")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_example_is_one_file_of_python() -> None:
    assert sorted(path.name for path in EXAMPLE.glob("*.*")) == ["labbook_for_lossbook.py", "pyproject.toml"]


def test_doctor_lists_all_five(example: Place) -> None:
    said = json.loads(example.lossbook("doctor", "--json").stdout)
    package = "labbook-for-lossbook 1.0"
    assert said["plugins"] == {
        "mirror labbook": package,
        "source labbook": package,
        "detector zero_rate": package,
        "alert sink file": package,
        "command last": package,
        "warnings": [],
    }
    assert said["mirrors"]["labbook"] == package
    assert "stay in Lossbook" in said["mirrors"]["labbook lacks 1"]


def test_a_run_is_delivered_once_and_only_what_is_new_later(example: Place) -> None:
    run = record(example)
    for _ in range(2):
        synced = example.lossbook("sync", run.name, "--to", "labbook")
        assert synced.returncode == 0, synced.stderr
    assert [line["step"] for line in lines(example) if "step" in line] == list(range(STEPS))
    assert lines(example)[0]["run"] == {
        "id": run.name,
        "name": "first",
        "project": "lab",
        "created": json.loads((run / "run.json").read_text())["created"] / 1e6,
        "config": {"lr": 0.1},
        "tags": ["a"],
    }
    (end,) = [line["end"] for line in lines(example) if "end" in line]
    assert isinstance(end, dict)
    assert end["state"] == "finished"


def test_a_mirror_that_was_killed_before_its_cursor_was_written_delivers_nothing_twice(example: Place) -> None:
    run = record(example)
    assert example.lossbook("sync", run.name, "--to", "labbook").returncode == 0
    whole = lines(example)
    cursor = run / "followers" / "labbook.json"
    noted = json.loads(cursor.read_text())
    # As it was after the first line alone.
    (path,) = example.folder.glob("labbook/lab/*.labbook")
    first_bytes = len(path.read_bytes().splitlines(keepends=True)[0])
    cursor.write_text(json.dumps({**noted, "delivered": {}, "state": "open", "remote": {"bytes": first_bytes}}))
    assert example.lossbook("sync", run.name, "--to", "labbook").returncode == 0
    assert lines(example) == whole


def test_the_run_is_mirrored_while_it_trains_and_its_alert_goes_to_the_sink(example: Place, follower: None) -> None:
    run = record(example, LOSSBOOK_MIRRORS="labbook", LOSSBOOK_ALERT_FILE="alerts.jsonl")
    assert json.loads((run / "run.json").read_text())["mirrors"] == ["labbook"]
    wait_until(lambda: list(example.folder.glob("labbook/lab/*.labbook")) and "end" in lines(example)[-1], 60)
    assert sum("metrics" in line for line in lines(example)) == STEPS
    alerts = wait_until(
        lambda: (example.folder / "alerts.jsonl").exists() and (example.folder / "alerts.jsonl").read_text(), 60
    )
    assert json.loads(str(alerts)) == {
        "run": "first",
        "level": "warning",
        "text": "lr has been 0 since step 20: nothing is learned any more",
    }


def test_what_the_sink_is_given_is_masked_where_the_environment_is_kept(example: Place, follower: None) -> None:
    run = record(example, LOSSBOOK_ALERT_FILE="alerts-of-a-secret-place.jsonl")
    kept = run / "code" / "environment.json"
    wait_until(kept.exists, 60)
    assert "LOSSBOOK_ALERT_FILE" in kept.read_text()
    assert "secret-place" not in kept.read_text()


@pytest.mark.parametrize("location", ["labbook://", "labbook://labbook", "labbook", "labbook/lab"])
def test_its_files_are_read_as_a_store_is(example: Place, location: str) -> None:
    run = record(example)
    assert example.lossbook("sync", run.name, "--to", "labbook").returncode == 0
    listed = json.loads(example.lossbook("ls", "--json", "--store", location).stdout)
    assert [(one["id"], one["name"], one["project"], one["state"]) for one in listed] == [
        (run.name, "first", "lab", "finished")
    ]
    losses = example.lossbook(
        "sql",
        "select count(*) as n, min(value) as low from metrics where key = 'train/loss'",
        "--json",
        "--store",
        location,
    )
    assert json.loads(losses.stdout) == [{"n": STEPS, "low": 1 / STEPS}]


def test_its_runs_are_imported(example: Place) -> None:
    run = record(example)
    assert example.lossbook("sync", run.name, "--to", "labbook").returncode == 0
    imported = example.lossbook("import", "labbook", "--to", "mine", "--json")
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout)[0]["rows"] == STEPS
    assert (
        json.loads((example.folder / "mine" / "lab" / run.name / "run.json").read_text())["source"]["kind"] == "labbook"
    )


def test_check_tells_what_its_detector_found(example: Place) -> None:
    record(example)
    checked = example.lossbook("check", "--json")
    assert checked.returncode == 1
    (finding,) = [one for one in json.loads(checked.stdout)["findings"] if one["kind"] == "zero_rate"]
    assert (finding["key"], finding["first_step"], finding["last_step"]) == ("lr", 20, STEPS - 1)


def test_its_command_is_one_of_lossbooks(example: Place) -> None:
    record(example)
    assert "Print the last value of a metric" in example.lossbook("--help").stdout
    assert json.loads(example.lossbook("last", "train/loss", "--json").stdout) == {"first": 1 / STEPS}
    assert example.lossbook("last", "train/loss", "--project", "lab").stdout == f"first  {1 / STEPS:g}\n"
