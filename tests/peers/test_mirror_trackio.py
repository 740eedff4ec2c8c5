"""A run as Trackio reads it: with its own API, its command line and its own server."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving_mirrors import CREATED, deliver_through_kills, drive, ending, other, scalars, subject

from lossbook.run.values import Image
from lossbook.trackers.mirror import LoggedRow, MirrorSettings, MirrorUnavailable
from lossbook.trackers.trackio.mirror import TrackioMirror

pytest.importorskip("trackio")


@pytest.fixture(autouse=True)
def trackio_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Trackio of this test's own: it reads `TRACKIO_DIR` when it is imported."""
    for name in list(os.environ):
        if name.startswith("TRACKIO_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _forget_trackio()
    yield tmp_path / "trackio"
    _forget_trackio()


def _forget_trackio() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]


def mirror(
    folder: Path, remote: dict[str, Any] | None = None, *, mode: str = "online", **changes: Any
) -> TrackioMirror:
    settings = MirrorSettings(mode=mode, cwd=str(folder))
    return TrackioMirror(subject(folder, **changes), settings, {} if remote is None else remote)


def logs(project: str = "lab", run_id: str = "abcd2345") -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    found: list[dict[str, Any]] = SQLiteStorage.get_logs(project, run_id=run_id)
    return found


def points(key: str, **where: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in logs(**where) if key in row]


def config(project: str = "lab", run_id: str = "abcd2345") -> dict[str, Any]:
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[str, Any] = SQLiteStorage.get_run_config(project, "", run_id=run_id)
    return found


def report(key: str) -> list[str]:
    return [row[key]["_value"] for row in logs() if key in row]


def run_names(project: str) -> list[str]:
    from trackio.sqlite_storage import SQLiteStorage

    return sorted(str(record["name"]) for record in SQLiteStorage.get_run_records(project))


def test_trackios_own_command_line_shows_the_run(tmp_path: Path) -> None:
    drive(mirror(tmp_path), [scalars(i, i, {"train/loss": i / 8}) for i in range(5)], ending())

    def shown(*arguments: str) -> Any:
        command = [sys.executable, "-m", "trackio.cli", *arguments, "--json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert "small run" in json.dumps(shown("list", "runs", "--project", "lab"))
    values = shown("get", "metric", "--project", "lab", "--run", "small run", "--metric", "train/loss")["values"]
    assert [(one["step"], one["value"]) for one in values] == [(i, i / 8) for i in range(5)]


def test_every_row_has_its_own_step_value_and_time(tmp_path: Path) -> None:
    steps = [5, 3, 4, 4, 5, -2, 1 << 40]
    drive(mirror(tmp_path), [scalars(i, step, {"loss": i / 7, "lr": 1e-4}) for i, step in enumerate(steps)])
    assert points("loss") == [(step, i / 7) for i, step in enumerate(steps)]
    assert [row["timestamp"] for row in logs()][:2] == [
        "2025-11-21T01:20:00.000000+00:00",
        "2025-11-21T01:20:00.001000+00:00",
    ]


def test_values_that_are_not_finite_arrive(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 1e300]
    drive(mirror(tmp_path), [scalars(i, i, {"loss": value}) for i, value in enumerate(values)])
    nan, *others = (value for _, value in points("loss"))
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, 1e300]


def test_other_ranks_have_series_of_their_own_and_reserved_names_two_underscores(tmp_path: Path) -> None:
    made = mirror(tmp_path)
    made.open({})
    made.deliver(
        [scalars(0, 1, {"loss": 1.0}), scalars(0, 1, {"loss": 2.0}, rank=1), scalars(0, 1, {"time": 3.0}, rank=-1)]
    )
    made.flush()
    assert points("loss") == [(1, 1.0)]
    assert points("loss/rank_1") == [(1, 2.0)]
    assert points("__time") == [(1, 3.0)]


def test_system_metrics_are_in_the_table_of_system_metrics(tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    drive(mirror(tmp_path), [scalars(i, None, {"system.gpu.0.temp": 50.0 + i, "loss": 1.0}) for i in range(3)])
    rows = SQLiteStorage.get_system_logs("lab", run_id="abcd2345")
    assert [row["system.gpu.0.temp"] for row in rows] == [50.0, 51.0, 52.0]
    assert rows[1]["timestamp"] == "2025-11-21T01:20:00.001000+00:00"
    assert all("system.gpu.0.temp" not in row for row in logs())
    assert points("loss") == [(0, 1.0)] * 3


def test_configuration_tags_notes_group_and_the_end_are_in_the_configuration(tmp_path: Path) -> None:
    rows = [
        other(0, "config", {"model": {"width": 64}}),
        scalars(1, 0, {"loss": 1.0}),
        other(2, "config", {"lr": 5e-4}),
    ]
    first = mirror(tmp_path)
    drive(first, rows)
    known = config()
    assert known["model"] == {"depth": 12, "width": 64}
    assert known["tags"] == ["ablation", "step-05"]
    assert known["notes"] == "first try"
    assert known["_Group"] == "ratio-ablation"
    assert known["_Created"] == "2025-11-21T01:20:00.000000+00:00"
    assert known["lossbook"]["id"] == "abcd2345"
    assert known["lossbook"]["git"] == "0123abc"
    assert "state" not in known

    drive(mirror(tmp_path, first.remote), rows, ending("failed", **{"val/loss": 1.5}))
    known = config()
    assert known["lr"] == 5e-4
    assert known["state"] == "failed"
    assert known["summary"] == {"val/loss": 1.5}
    assert report("lossbook/state") == ["failed"]


def test_a_configuration_that_has_tags_itself_keeps_them(tmp_path: Path) -> None:
    drive(mirror(tmp_path, config={"tags": "mine"}), [scalars(0, 0, {"loss": 1.0})])
    assert config()["tags"] == "mine"
    assert config()["lossbook_tags"] == ["ablation", "step-05"]


def test_a_run_that_logged_nothing_is_on_trackios_list(tmp_path: Path) -> None:
    drive(mirror(tmp_path), [], ending())
    assert run_names("lab") == ["small run"]
    assert config()["lr"] == 3e-4


def test_texts_histograms_images_and_tables_arrive(tmp_path: Path, trackio_folder: Path) -> None:
    picture = Image([[0.0, 1.0, 0.5]], caption="a row").event("picture")
    assert picture.file is not None
    (tmp_path / "run" / "media").mkdir(parents=True)
    (tmp_path / "run" / picture.file.path).write_bytes(picture.file.contents)
    rows = [
        other(0, "text", {"text": "Once upon"}, key="sample", step=3),
        other(1, "histogram", {"edges": [0, 1, 2], "counts": [4, 5], "nonfinite": 7}, key="weights", step=4),
        other(2, "image", picture.value, key="picture", step=5),
        other(3, "image", {"file": "media/gone.png"}, key="lost", step=5),
        other(4, "table", {"columns": ["a", "a"], "rows": [[1, "x"], ["NaN", None]]}, key="table", step=6),
    ]
    drive(mirror(tmp_path), rows)
    assert report("sample") == ["Once upon"]
    (weights,) = (row["weights"] for row in logs() if "weights" in row)
    assert weights == {"_type": "trackio.histogram", "bins": [0, 1, 2], "values": [4, 5], "nonfinite": 7}
    (image,) = (row["picture"] for row in logs() if "picture" in row)
    assert image["_type"] == "trackio.image"
    assert image["caption"] == "a row"
    assert (trackio_folder / "media" / image["file_path"]).read_bytes() == picture.file.contents
    assert report("lost") == ["media/gone.png is not there any more"]
    assert report("table") == [[{"a": 1, "a (2)": "x"}, {"a": "NaN", "a (2)": None}]]


def test_a_run_whose_name_is_no_folder_name_keeps_its_files_inside_trackios_folder(
    tmp_path: Path, trackio_folder: Path
) -> None:
    (tmp_path / "run" / "media").mkdir(parents=True)
    (tmp_path / "run" / "media" / "a.png").write_bytes(b"png")
    drive(mirror(tmp_path, name="../../../out"), [other(0, "image", {"file": "media/a.png"}, key="picture", step=1)])
    assert (trackio_folder / "media" / "lab" / "abcd2345" / "1" / "a.png").read_bytes() == b"png"


def test_alerts_are_alerts_and_notes_stages_and_checkpoints_reports(tmp_path: Path) -> None:
    import trackio

    rows = [
        other(0, "alert", {"title": "loss spike", "text": "9.1", "level": "warning"}, step=7),
        other(1, "note", {"text": "more heads"}, step=8),
        other(2, "stage", {"name": "full_ternary"}, step=9),
        other(3, "checkpoint", {"path": "/models/best.pt", "is_best": True}, step=10),
        other(4, "warning", {"message": "a value was no number"}),
        other(5, "define", {"pattern": "val/*", "x": "tokens"}),
    ]
    drive(mirror(tmp_path), rows)
    (alert,) = trackio.Api().alerts("lab")
    assert (alert["title"], alert["text"], alert["level"], alert["step"]) == ("loss spike", "9.1", "warn", 7)
    assert report("lossbook/notes") == ["more heads"]
    assert report("lossbook/stages") == ["full_ternary"]
    assert report("lossbook/checkpoints") == ["/models/best.pt (best)"]
    assert report("lossbook/warnings") == ["a value was no number"]


def test_the_end_brings_what_was_printed_and_comes_once(tmp_path: Path) -> None:
    (tmp_path / "run" / "console").mkdir(parents=True)
    (tmp_path / "run" / "console" / "r0.log").write_text("begin\nend")
    first = mirror(tmp_path)
    drive(first, [scalars(0, 0, {"loss": 1.0})], ending())
    drive(mirror(tmp_path, first.remote), [scalars(0, 0, {"loss": 1.0})], ending())
    assert report("lossbook/console") == ["    begin\n    end"]
    assert report("lossbook/state") == ["finished"]
    assert points("loss") == [(0, 1.0)]


def test_what_was_delivered_and_not_noted_is_not_there_twice(tmp_path: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i), "system.cpu": 1.0}) for i in range(30)]
    rows.append(other(30, "alert", {"title": "a", "text": "b", "level": "info"}))
    first = mirror(tmp_path)
    first.open({})
    first.deliver(rows)
    noted = dict(first.remote)
    first.flush()  # and the engine dies before it stores what was noted
    drive(mirror(tmp_path, noted), rows)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    assert points("loss") == [(i, float(i)) for i in range(30)]
    assert len(SQLiteStorage.get_system_logs("lab", run_id="abcd2345")) == 30
    assert len(trackio.Api().alerts("lab")) == 1


def test_a_project_that_was_removed_is_written_again(tmp_path: Path, trackio_folder: Path) -> None:
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(10)]
    first = mirror(tmp_path)
    drive(first, rows)
    shutil.rmtree(trackio_folder)
    again = mirror(tmp_path, first.remote)
    assert again.open({0: 9}) == {}
    again.deliver(rows)
    again.flush()
    assert points("loss") == [(i, float(i)) for i in range(10)]


def test_two_projects_that_trackio_would_merge_stay_two(tmp_path: Path) -> None:
    projects = ["my lab", "mylab", "my.lab", "my lab"]
    made = [mirror(tmp_path, project=project, id=f"run{n}", name=f"run {n}") for n, project in enumerate(projects)]
    for one in made:
        drive(one, [scalars(0, 0, {"loss": 1.0})])
    chosen = [one.remote["project"] for one in made]
    assert chosen[0] == chosen[3] == "mylab"
    assert len(set(chosen)) == 3
    assert run_names("mylab") == ["run 0", "run 3"]
    assert made[0].remote["said"] == []
    assert "the project 'my.lab' is called 'mylab-" in made[2].remote["said"][0]


def test_a_project_of_trackios_own_users_is_added_to_under_exactly_its_name_only(tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.bulk_log("theirs", "their run", [{"loss": 1.0}], run_id="x")
    drive(mirror(tmp_path, project="theirs"), [scalars(0, 0, {"loss": 2.0})])
    other_project = mirror(tmp_path, project="the irs", id="other234")
    drive(other_project, [scalars(0, 0, {"loss": 3.0})])
    assert run_names("theirs") == ["small run", "their run"]
    assert other_project.remote["project"].startswith("theirs-")


@pytest.mark.parametrize("project", ["registry-models", "lab_system", "lab_artifacts", "...", "実験"])
def test_names_that_trackio_keeps_for_itself_or_cannot_keep_are_changed(tmp_path: Path, project: str) -> None:
    made = mirror(tmp_path, project=project)
    drive(made, [scalars(0, 0, {"loss": 2.0})])
    assert points("loss", project=made.remote["project"]) == [(0, 2.0)]


def test_two_runs_of_one_name_stay_two(tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.bulk_log("lab", "small run", [{"loss": 1.0}], run_id="of trackio's own")
    made = mirror(tmp_path)
    drive(made, [scalars(0, 0, {"loss": 2.0})])
    drive(mirror(tmp_path, {}), [scalars(0, 0, {"loss": 2.0})])  # its cursor was lost
    assert run_names("lab") == ["small run", "small run-abcd2345"]
    assert points("loss") == [(0, 2.0)]
    assert "would add to it: this one is called 'small run-abcd2345' there" in made.remote["said"][0]


def test_on_a_network_file_system_rows_go_to_trackios_inbox(
    tmp_path: Path, trackio_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "jsonl")
    rows = [
        *(scalars(i, i, {"loss": float(i), "system.cpu": 2.0}) for i in range(5)),
        other(5, "alert", {"title": "t"}),
    ]
    drive(mirror(tmp_path), rows, ending())
    drive(mirror(tmp_path), rows, ending())
    assert not (trackio_folder / "lab.db").exists()
    assert list((trackio_folder / "inbox").rglob("*.jsonl"))
    import trackio
    from trackio.fragments import import_inbox_dir

    import_inbox_dir()
    assert points("loss") == [(i, float(i)) for i in range(5)]
    assert logs()[3]["timestamp"] == "2025-11-21T01:20:00.003000+00:00"
    assert config()["state"] == "finished"
    assert len(trackio.Api().alerts("lab")) == 1


def test_sigkill_at_any_moment_neither_loses_nor_repeats_a_row(tmp_path: Path) -> None:
    rows = [other(0, "attempt", {"number": 0})]
    rows += [
        scalars(i, i - 1, {f"key/{n}": i / (n + 1) for n in range(9)} | {"system.cpu": 1.0}) for i in range(1, 1001)
    ]
    killed = deliver_through_kills("trackio", tmp_path, rows, kills=6, longest_seconds=2.0)
    assert killed > 0
    for n in range(9):
        assert points(f"key/{n}") == [(i - 1, i / (n + 1)) for i in range(1, 1001)]
    from trackio.sqlite_storage import SQLiteStorage

    assert len(SQLiteStorage.get_system_logs("lab", run_id="abcd2345")) == 1000
    assert report("lossbook/state") == ["finished"]
    assert config()["state"] == "finished"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path, trackio_folder: Path) -> None:
    trackio_folder.mkdir(mode=0o500)
    with pytest.raises(MirrorUnavailable, match="cannot be written"):
        drive(mirror(tmp_path), [scalars(0, 0, {"loss": 1.0})])


def test_a_folder_that_is_a_file_is_said_in_a_sentence(tmp_path: Path, trackio_folder: Path) -> None:
    trackio_folder.write_text("no folder")
    with pytest.raises(
        MirrorUnavailable, match="Trackio's folder .* cannot be written .*lossbook sync RUN --to trackio"
    ):
        drive(mirror(tmp_path), [scalars(0, 0, {"loss": 1.0})])


def test_a_full_disk_is_said_and_the_rows_can_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    rows = [scalars(i, i, {"loss": float(i)}) for i in range(10)]
    first = mirror(tmp_path)
    first.open({})
    first.deliver(rows)
    from trackio.sqlite_storage import SQLiteStorage

    def full(**anything: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStorage, "bulk_log", staticmethod(full))
        with pytest.raises(MirrorUnavailable, match="disk is full"):
            first.flush()
    drive(mirror(tmp_path, first.remote), rows)
    assert points("loss") == [(i, float(i)) for i in range(10)]


def test_without_trackio_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MirrorUnavailable, match=r"pip install 'lossbook\[trackio\]'") as raised:
        mirror(tmp_path).open({})
    assert not raised.value.may_pass


def test_importing_the_mirror_does_not_import_trackio() -> None:
    code = "import sys, lossbook.trackers.trackio.mirror; print([m for m in sys.modules if m.startswith(('trackio', 'numpy', 'httpx'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


SERVE = """
import trackio
_, _, _, url = trackio.show(open_browser=False, block_thread=False, server_port=int(__import__("sys").argv[1]))
print("URL", url, flush=True)
__import__("time").sleep(600)  # until it is killed
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real Trackio server on this machine, with a folder of its own: (its address with the token, the folder)."""
    folder = tmp_path / "server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        env={**os.environ, "TRACKIO_DIR": str(folder)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("URL "):
                break
        assert "".join(printed[-1:]).startswith("URL "), "".join(printed)
        yield printed[-1].split()[1], folder
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def asked(server: str, api_name: str, **what: Any) -> Any:
    from trackio.remote_client import RemoteClient

    return RemoteClient(server).predict(api_name=api_name, **what)


def test_a_server_of_trackio_gets_the_run(
    tmp_path: Path, server: tuple[str, Path], trackio_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    monkeypatch.setenv("TRACKIO_SERVER_URL", address)
    (tmp_path / "run" / "media").mkdir(parents=True)
    (tmp_path / "run" / "media" / "a.png").write_bytes(b"png")
    rows: list[LoggedRow] = [scalars(i, 9 - i, {"loss": i / 7, "system.cpu": math.nan}) for i in range(10)]
    rows.append(other(10, "image", {"file": "media/a.png"}, key="picture", step=3))
    rows.append(other(11, "alert", {"title": "spike", "text": "t", "level": "error"}, step=3))
    first = mirror(tmp_path)
    drive(first, rows)
    noted = {key: value for key, value in first.remote.items() if key != "last_log"}
    drive(mirror(tmp_path, noted), rows, ending())

    received = asked(address, "/get_logs", project="lab", run="small run", run_id="abcd2345")
    assert sorted((row["step"], row["loss"]) for row in received if "loss" in row) == [
        (9 - i, i / 7) for i in range(9, -1, -1)
    ]
    (picture,) = (row["picture"] for row in received if "picture" in row)
    assert (folder / "media" / picture["file_path"]).read_bytes() == b"png"
    assert len(asked(address, "/get_alerts", project="lab")) == 1
    assert asked(address, "/get_run_configs", project="lab")["abcd2345"]["state"] == "finished"
    assert not (trackio_folder / "lab.db").exists()
    assert first.url is not None
    assert "write_token" not in first.url
    assert "write_token" not in json.dumps(first.remote)


def test_offline_the_server_is_left_alone_and_trackios_own_folder_gets_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9/?write_token=t")
    # What the server had when it went away is not here: everything is delivered again.
    noted = {"place": "http://127.0.0.1:9/", "project": "lab", "run": "small run", "last_log": "abcd2345/0/4"}
    made = mirror(tmp_path, noted, mode="offline")
    assert made.open({0: 4}) == {}
    made.deliver([scalars(i, i, {"loss": 1.0}) for i in range(6)])
    made.flush()
    assert len(points("loss")) == 6


def test_a_server_that_is_not_there_is_said_and_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9/?write_token=t")
    with pytest.raises(
        MirrorUnavailable, match="127.0.0.1:9/ cannot be reached .*lossbook sync RUN --to trackio"
    ) as raised:
        mirror(tmp_path).open({})
    assert raised.value.may_pass


def test_a_server_without_a_token_is_said_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SERVER_URL", "http://127.0.0.1:9/")
    with pytest.raises(MirrorUnavailable, match="set TRACKIO_WRITE_TOKEN") as raised:
        mirror(tmp_path).open({})
    assert not raised.value.may_pass


def test_a_server_that_refuses_the_token_is_said(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SERVER_URL", server[0].partition("?")[0] + "?write_token=wrong")
    with pytest.raises(MirrorUnavailable, match="refuses the run .A write_token is required") as raised:
        drive(mirror(tmp_path), [scalars(0, 0, {"loss": 1.0})])
    assert not raised.value.may_pass


def test_a_server_that_fails_half_way_gets_the_rest_later(
    tmp_path: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_SERVER_URL", server[0])
    rows = [scalars(i, i, {"loss": float(i)}) for i in range(20)]
    first = mirror(tmp_path)
    first.open({})
    first.deliver(rows[:10])
    first.flush()
    from trackio.remote_client import RemoteClient

    real = RemoteClient.predict

    def fails_after_the_answer_was_made(*values: Any, **what: Any) -> Any:
        real(*values, **what)
        raise ConnectionError("the connection was reset")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteClient, "predict", fails_after_the_answer_was_made)
        first.deliver(rows[10:])
        with pytest.raises(MirrorUnavailable, match="the connection was reset"):
            first.flush()
    second = mirror(tmp_path, first.remote)
    assert second.open({0: 9}) == {0: 9}
    second.deliver(rows[10:])
    second.flush()
    received = asked(server[0], "/get_logs", project="lab", run="small run", run_id="abcd2345")
    assert sorted((row["step"], row["loss"]) for row in received) == [(i, float(i)) for i in range(20)]


def test_the_time_of_creation_is_the_runs(tmp_path: Path) -> None:
    drive(mirror(tmp_path, created=CREATED + 0.5), [scalars(0, 0, {"loss": 1.0})])
    assert config()["_Created"] == "2025-11-21T01:20:00.500000+00:00"
