"""The W&B mirror, read back with W&B's own programs: `wandb leet inspect`, `wandb sync` and `wandb.Api()`.

Online it delivers through W&B's own client to a stand-in for the cloud (`wandb_server.py`).
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driving_mirrors import CREATED, deliver_through_kills, drive, ending, other, scalars, subject
from wandb_server import WandbServer

from lossbook.journal import append_bounded, bounded_text
from lossbook.trackers.mirror import LoggedRow, MirrorSettings, MirrorUnavailable
from lossbook.trackers.wandb.mirror import WandbMirror
from lossbook.trackers.wandb.transaction_log import TransactionLog, read_records

WANDB = Path(sys.executable).with_name("wandb")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _a_users_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in, and nothing of W&B is set."""
    for name in list(os.environ):
        if name.startswith("WANDB"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A stand-in for the W&B cloud, and a login to it."""
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def mirror(folder: Path, remote: dict[str, Any] | None = None, *, mode: str = "offline", **options: str) -> WandbMirror:
    settings = MirrorSettings(mode=mode, cwd=str(folder), options=options)
    return WandbMirror(subject(folder), settings, {} if remote is None else remote)


def run_folder(folder: Path) -> Path:
    (found,) = folder.glob("wandb/offline-run-*")
    return found


def inspect(folder: Path) -> list[dict[str, Any]]:
    """The records of the only offline run, as W&B reads them."""
    command = [WANDB, "leet", "inspect", "--json", str(run_folder(folder))]
    printed = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True, timeout=60).stdout
    return [json.loads(line) for line in printed.splitlines()]


def rows_in(file: Path) -> list[dict[str, Any]]:
    """The history in a file, read faster than by starting W&B's program."""
    from wandb.proto import wandb_internal_pb2 as messages

    read = [messages.Record.FromString(contents) for _, contents in read_records(str(file))]
    return [
        {item.nested_key[0]: item.value_json for item in record.history.item}
        for record in read
        if record.HasField("history")
    ]


def of(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record["item"] for record in of(records, "history")]


def logged(items: list[dict[str, Any]]) -> list[tuple[str, int, Any]]:
    """Every value as (key, step, value), W&B's own series aside."""
    return sorted(
        (key, item["lossbook/step"], value)
        for item in items
        for key, value in item.items()
        if not key.startswith("_") and key != "lossbook/step"
    )


def given(rows: list[LoggedRow]) -> list[tuple[str, int, Any]]:
    return sorted((key, row.step or 0, value) for row in rows if row.kind is None for key, value in row.body.items())


# -- offline ----------------------------------------------------------------------------------------------------


def test_name_project_tags_group_notes_config_and_surroundings_arrive(tmp_path: Path) -> None:
    drive(mirror(tmp_path), [scalars(0, 0, {"loss": 1.0})], ending())
    records = inspect(tmp_path)
    (run,) = of(records, "run")
    assert (run["display_name"], run["project"], run["run_group"]) == ("small run", "lab", "ratio-ablation")
    assert (run["notes"], run["tags"]) == ("first try", ["ablation", "step-05"])
    assert run["config"]["update"] == {"lr": 3e-4, "model": {"depth": 12}}
    assert datetime.datetime.fromisoformat(run["start_time"]).timestamp() == CREATED
    (environment,) = of(records, "environment")
    assert (environment["host"], environment["git"], environment["args"]) == (
        "here",
        {"commit": "0123abc"},
        ["--lr", "3e-4"],
    )


def test_each_row_has_its_own_step_time_and_value(tmp_path: Path) -> None:
    rows = [scalars(0, 3, {"loss": 0.1, "lr": 3e-4}), scalars(1, 10, {"loss": NAN}), scalars(2, 11, {"loss": -INF})]
    drive(mirror(tmp_path), rows, ending())
    first, second, third = history(inspect(tmp_path))
    assert first == {
        "loss": 0.1,
        "lr": 3e-4,
        "lossbook/step": 3,
        "_step": 3,
        "_timestamp": CREATED,
        "_runtime": 0,
    }
    assert (second["loss"], second["_step"], second["_timestamp"], second["_runtime"]) == (
        "NaN",
        10,
        CREATED + 0.001,
        0.001,
    )
    assert third["loss"] == "-Infinity"


def test_every_series_is_drawn_over_the_step_as_logged(tmp_path: Path) -> None:
    drive(mirror(tmp_path), [other(0, "define", {"pattern": "val/*", "x": "tokens", "goal": "minimize"})], ending())
    metrics = {metric.get("name") or metric["glob_name"]: metric for metric in of(inspect(tmp_path), "metric")}
    assert metrics["*"]["step_metric"] == "lossbook/step"
    assert (metrics["val/*"]["step_metric"], metrics["val/*"]["goal"]) == ("tokens", "GOAL_MINIMIZE")


def test_steps_that_go_backward_or_repeat_lose_nothing(tmp_path: Path) -> None:
    rows = [scalars(i, step, {"loss": float(i)}) for i, step in enumerate((5, 6, 7, 6, 6, 7, -3, 100, 1 << 62, 101))]
    drive(mirror(tmp_path), rows, ending())
    items = history(inspect(tmp_path))
    assert [item["lossbook/step"] for item in items] == [5, 6, 7, 6, 6, 7, -3, 100, 1 << 62, 101]
    assert [item["loss"] for item in items] == list(range(10))
    assert [item["_step"] for item in items] == [5, 6, 7, 8, 9, 10, 11, 100, 101, 102]


def test_rows_of_one_step_with_different_keys_are_one_row_at_wandb(tmp_path: Path) -> None:
    rows = [scalars(0, 1, {"train/loss": 2.0}), scalars(1, 1, {"val/loss": 3.0}), scalars(2, 2, {"train/loss": 1.0})]
    drive(mirror(tmp_path), rows, ending())
    first, second = history(inspect(tmp_path))
    assert (first["train/loss"], first["val/loss"], first["_step"], first["_timestamp"]) == (2, 3, 1, CREATED + 0.001)
    assert (second["train/loss"], second["_step"]) == (1, 2)


def test_which_step_a_row_gets_does_not_depend_on_who_delivers_it_when(tmp_path: Path) -> None:
    chance = random.Random(11)
    keys = ("a", "b", "c", "system.gpu.0.temp")
    rows = [
        scalars(i, chance.randrange(20), {key: chance.random() for key in chance.sample(keys, 2)}) for i in range(200)
    ]
    rows[50::40] = [other(row.i, "config", {"seen": row.i}) for row in rows[50::40]]
    at_once, in_pieces = tmp_path / "at once", tmp_path / "in pieces"
    drive(mirror(at_once), rows, ending())
    cursor: dict[str, Any] = {"delivered": {}, "remote": {}}
    left = rows
    while left:
        one = mirror(in_pieces, json.loads(json.dumps(cursor["remote"])))
        held = one.open(cursor["delivered"])
        left = [row for row in rows if row.i > held.get(0, -1)]
        for _ in range(chance.randrange(4)):
            size = chance.randrange(9)
            one.deliver(left[:size])
            if chance.random() < 0.6:
                one.flush()
                last = [row.i for row in left[:size]] or [held.get(0, -1)]
                cursor = {"delivered": {0: last[-1]}, "remote": json.loads(json.dumps(one.remote))}
                held = cursor["delivered"]
            left = left[size:]
        if not left:
            one.close(ending())
        else:
            one._file.close()  # it ends here, as if killed
    assert history(inspect(in_pieces)) == history(inspect(at_once))
    assert of(inspect(in_pieces), "stats") == of(inspect(at_once), "stats")


def test_system_metrics_are_in_the_event_stream_and_other_ranks_are_told_apart(tmp_path: Path) -> None:
    rows = [
        scalars(0, 4, {"system.gpu.0.temp": 61.0, "system/cpu": 12.5, "loss": 1.0}),
        scalars(0, 4, {"system.gpu.0.temp": 62.0, "loss": 2.0}, rank=3),
    ]
    drive(mirror(tmp_path), rows, ending())
    records = inspect(tmp_path)
    first, second = of(records, "stats")
    assert first["item"] == {"gpu.0.temp": 61, "cpu": 12.5}
    assert datetime.datetime.fromisoformat(first["timestamp"]).timestamp() == CREATED
    assert second["item"] == {"gpu.0.temp/l:rank_3": 62}
    assert logged(history(records)) == [("loss", 4, 1), ("loss/rank_3", 4, 2)]


def test_text_histograms_images_tables_and_notes_are_in_the_history(tmp_path: Path) -> None:
    media = tmp_path / "run" / "media"
    media.mkdir(parents=True)
    (media / "ab.png").write_bytes(b"\x89PNG picture")
    (media / "cd.json").write_text('{"columns": ["n"], "rows": [[1], [2]]}')
    rows = [
        other(0, "text", {"text": "once upon"}, key="sample", step=7),
        other(1, "histogram", {"edges": [0.0, 1.0, 2.0], "counts": [3, 4]}, key="h", step=7),
        other(2, "image", {"file": "media/ab.png", "width": 8, "height": 9, "caption": "c"}, key="a/../im", step=7),
        other(3, "table", {"columns": ["x", "y"], "rows": [[1, "two"]]}, key="small", step=7),
        other(4, "table", {"columns": ["n"], "count": 2, "file": "media/cd.json"}, key="large", step=7),
        other(5, "note", {"text": "lowered the rate"}, step=7),
        other(6, "histogram", {"edges": list(range(1025)), "counts": [1] * 1024}, key="wide", step=7),
    ]
    drive(mirror(tmp_path), rows, ending())
    (item,) = history(inspect(tmp_path))
    files = run_folder(tmp_path) / "files"
    assert (item["sample"], item["lossbook/note"]) == ("once upon", "lowered the rate")
    assert item["h"] == {"_type": "histogram", "values": [3, 4], "bins": [0, 1, 2]}
    assert item["wide"] == {"_type": "histogram", "values": [2] * 512, "bins": list(range(0, 1025, 2))}
    picture = item["a/../im"]
    assert (picture["_type"], picture["width"], picture["caption"]) == ("image-file", 8, "c")
    assert (files / picture["path"]).resolve().is_relative_to(files / "media" / "images")
    assert (files / picture["path"]).read_bytes() == b"\x89PNG picture"
    assert json.loads((files / item["small"]["path"]).read_text()) == {"columns": ["x", "y"], "data": [[1, "two"]]}
    assert json.loads((files / item["large"]["path"]).read_text()) == {"columns": ["n"], "data": [[1], [2]]}


def test_configuration_summary_alerts_console_and_ending_arrive(tmp_path: Path) -> None:
    console = tmp_path / "run" / "console"
    console.mkdir(parents=True)
    (console / "r0.log").write_text("epoch 1\nepoch 2\nno newline")
    rows = [
        scalars(0, 1, {"loss": 2.0, "best": 9.0}),
        other(1, "config", {"model": {"depth": 24}, "gone": None}),
        other(2, "summary", {"best": 0.5, "nested": {"a": 1}}),
        other(3, "alert", {"title": "spike", "text": "loss is 9", "level": "warning"}),
        scalars(4, 2, {"loss": 1.0, "best": 8.0}),
    ]
    drive(mirror(tmp_path), rows, ending("crashed", final=1.25))
    records = inspect(tmp_path)
    command = [WANDB, "leet", "inspect", "--summary", "--json", str(run_folder(tmp_path))]
    state = json.loads(
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout
    )
    expected = {"loss": 1, "best": 0.5, "final": 1.25, "lossbook/state": "crashed", "nested": {"a": 1}}
    assert {key: state["summary"].get(key) for key in expected} == expected
    assert state["config"] == {"lr": 3e-4, "model": {"depth": 24}}
    (alert,) = of(records, "alert")
    assert (alert["title"], alert["text"], alert["level"]) == ("spike", "loss is 9", "WARN")
    assert "".join(output["line"] for output in of(records, "output_raw")) == "epoch 1\nepoch 2\nno newline"
    assert of(records, "exit") == [{"exit_code": 1, "runtime": 60}]


def test_lines_arrive_once_when_the_console_is_shortened_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("LARGEST_BYTES", 4000), ("HEAD_BYTES", 1000), ("TAIL_BYTES", 1000)):
        monkeypatch.setattr(bounded_text, name, size)
    console = tmp_path / "run" / "console"
    console.mkdir(parents=True)
    lines = [f"line {number:04d}\n" for number in range(1000)]
    # Of 10 bytes each: it is shortened at line 401, and about every 200 lines from then on.
    for start, end in itertools.pairwise((0, 350, 390, 720, 1000)):
        for line in lines[start:end]:
            append_bounded(str(console / "r0.log"), line.encode())
        drive(mirror(tmp_path), [scalars(0, 1, {"loss": 2.0})], ending() if end == 1000 else None)
    sent = "".join(output["line"] for output in of(inspect(tmp_path), "output_raw")).splitlines(keepends=True)
    assert sent[:390] == lines[:390]
    assert sent[-1] == lines[-1]
    assert [line for line in sent if line.startswith("line")] == sorted(
        {line for line in sent if line.startswith("line")}
    )
    assert any("bytes of the console were left out here" in line for line in sent)


def test_series_with_names_that_wandb_keeps_for_itself_are_moved(tmp_path: Path) -> None:
    drive(mirror(tmp_path), [scalars(0, 3, {"_step": 7.0, "lossbook/step": 8.0, "_timestamp": 9.0})], ending())
    (item,) = history(inspect(tmp_path))
    assert (item["_step"], item["lossbook/step"], item["_timestamp"]) == (3, 3, CREATED)
    assert (item["logged/_step"], item["logged/lossbook/step"], item["logged/_timestamp"]) == (7, 8, 9)


# -- killed, torn, full -----------------------------------------------------------------------------------------


def _training_rows(count: int) -> list[LoggedRow]:
    """As a training logs them: two rows of one step now and then, system metrics between, steps that go back once."""
    rows: list[LoggedRow] = []
    for number in range(count):
        step = number if number < count // 2 else number - count // 4
        rows.append(scalars(len(rows), step, {"loss": float(number), "lr": 1 / (1 + number)}))
        if number % 7 == 0:
            rows.append(scalars(len(rows), step, {"val/loss": number + 0.5}))
        if number % 11 == 0:
            rows.append(scalars(len(rows), step, {"system.gpu.0.temp": float(number)}))
        if number % 50 == 0:
            rows.append(other(len(rows), "config", {"at": number}))
    return rows


def test_kills_at_any_moment_leave_every_row_exactly_once(tmp_path: Path) -> None:
    console = tmp_path / "run" / "console"
    console.mkdir(parents=True)
    (console / "r0.log").write_text("".join(f"line {number}\n" for number in range(500)))
    rows = _training_rows(2000)
    killed = deliver_through_kills(
        "wandb", tmp_path, rows, kills=6, longest_seconds=1.0, environment={"WANDB_MODE": "offline"}
    )
    assert killed > 0
    records = inspect(tmp_path)
    system = [row for row in rows if row.kind is None and "system.gpu.0.temp" in row.body]
    assert logged(history(records)) == given([row for row in rows if row not in system])
    assert [record["item"]["gpu.0.temp"] for record in of(records, "stats")] == [
        row.body["system.gpu.0.temp"] for row in system
    ]
    steps = [item["_step"] for item in history(records)]
    assert steps == sorted(set(steps))
    assert "".join(output["line"] for output in of(records, "output_raw")) == (console / "r0.log").read_text()
    assert len(of(records, "exit")) == 1


def test_a_process_that_only_opened_the_run_changes_nothing(tmp_path: Path) -> None:
    rows = _training_rows(60)
    killed = mirror(tmp_path)
    killed.open({})
    killed.deliver(rows[:40])
    killed._flush_files()
    killed._file.close()  # behind its last cursor it delivered 40 rows, and died
    noted = json.loads(json.dumps(killed.remote))
    for _ in range(2):
        opened = mirror(tmp_path, noted)
        assert opened.open({})[0] >= 38, "one row may wait for others of its step"
        opened._file.close()
        noted = json.loads(json.dumps(opened.remote))
    drive(mirror(tmp_path, noted), rows, ending())
    system = [row for row in rows if row.kind is None and "system.gpu.0.temp" in row.body]
    assert logged(history(inspect(tmp_path))) == given([row for row in rows if row not in system])


def test_a_file_torn_at_any_byte_is_gone_on_with(tmp_path: Path) -> None:
    rows = _training_rows(60)
    whole = tmp_path / "whole"
    drive(mirror(whole), rows, ending())
    file = next(whole.glob("wandb/*/*.wandb"))
    expected, contents = rows_in(file), file.read_bytes()
    assert len(expected) == len(history(inspect(whole)))
    chance = random.Random(3)
    for number, cut in enumerate((0, 3, 7, 20, *(chance.randrange(len(contents)) for _ in range(20)))):
        folder = tmp_path / str(number)
        torn = mirror(folder)
        torn.open({})
        torn._file.close()
        Path(torn.remote["file"]).write_bytes(contents[:cut])
        drive(mirror(folder), rows, ending())
        assert rows_in(Path(torn.remote["file"])) == expected, f"torn at byte {cut}"


def test_a_run_whose_files_were_removed_is_delivered_again(tmp_path: Path) -> None:
    rows = _training_rows(20)
    first = mirror(tmp_path)
    drive(first, rows)
    Path(first.remote["file"]).unlink()
    second = mirror(tmp_path, first.remote)
    assert second.open({0: rows[-1].i}) == {}
    second.deliver(rows)
    second.close(ending())
    assert len(history(inspect(tmp_path))) == 20


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    first = mirror(tmp_path)
    drive(first, [scalars(0, 0, {"loss": 1.0})], ending("failed"))
    Path(first.remote["file"] + ".synced").touch()
    more = [other(1, "attempt", {"number": 1}, attempt=1), scalars(2, 1, {"loss": 0.5}, attempt=1)]
    assert drive(mirror(tmp_path, first.remote), more, ending()) == {0: 0}
    records = inspect(tmp_path)
    assert [(item["loss"], item["_step"]) for item in history(records)] == [(1, 0), (0.5, 1)]
    assert history(records)[1]["lossbook/attempt"] == 1
    assert of(records, "exit") == [{"exit_code": 0, "runtime": 60}]
    assert not Path(first.remote["file"] + ".synced").exists(), "`wandb sync` would pass over the new rows"


def test_a_full_disk_is_said_and_the_rest_comes_later(tmp_path: Path) -> None:
    rows = _training_rows(2000)
    one = mirror(tmp_path)
    one.open({})
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(MirrorUnavailable, match="cannot be written .*lossbook sync abcd2345 --to wandb"):
            one.deliver(rows)
            one.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one._file.close()
    held = drive(mirror(tmp_path), rows, ending())
    assert 0 < held[0] < rows[-1].i
    assert len(history(inspect(tmp_path))) == 2000


def test_two_processes_never_write_the_same_file(tmp_path: Path) -> None:
    first = mirror(tmp_path)
    first.open({})
    with pytest.raises(MirrorUnavailable, match="another process delivers this run right now") as raised:
        mirror(tmp_path).open({})
    assert raised.value.may_pass
    first.deliver([scalars(0, 0, {"loss": 1.0})])
    first.close(ending())
    assert len(history(inspect(tmp_path))) == 1


def test_without_the_package_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MirrorUnavailable, match=r"pip install 'lossbook\[wandb\]'") as raised:
        mirror(tmp_path).open({})
    assert not raised.value.may_pass


def test_the_mirror_is_imported_without_wandb() -> None:
    code = "import sys, lossbook.trackers.wandb.mirror; print('wandb' in sys.modules, 'google.protobuf' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert printed.split() == ["False", "False"]


def test_a_file_that_wandb_itself_wrote_comes_out_of_our_writer_byte_for_byte(tmp_path: Path) -> None:
    code = (
        "import wandb; run = wandb.init(mode='offline', config={'a': 'x' * 70_000}); run.log({'loss': 1}); run.finish()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    (theirs,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    log = TransactionLog(str(tmp_path / "ours.wandb"))
    log.begin()
    for _, record in read_records(str(theirs)):
        log.append(record)
    log.flush()
    log.close()
    assert (tmp_path / "ours.wandb").read_bytes() == theirs.read_bytes()


def test_a_record_may_end_anywhere_in_a_block(tmp_path: Path) -> None:
    for left in range(20):
        path = str(tmp_path / f"{left}.wandb")
        log = TransactionLog(path)
        log.begin()
        # 32,768 bytes to a block; seven are the file's header, seven the record's.
        written = [b"a" * (32768 - 14 - left), b"b" * 70_000, b"", b"c"]
        for record in written:
            log.append(record)
        log.flush()
        log.close()
        read = list(read_records(path))
        assert [record for _, record in read] == written, f"{left} bytes left"
        assert list(read_records(path, read[0][0])) == read[1:]


# -- online -----------------------------------------------------------------------------------------------------


def test_wandb_sync_takes_an_offline_run_and_the_api_reads_it(tmp_path: Path, cloud: WandbServer) -> None:
    rows = [*_training_rows(30), other(99, "alert", {"title": "spike", "text": "", "level": "info"})]
    drive(mirror(tmp_path), rows, ending(final=1.25))
    command = [WANDB, "sync", "--yes", str(run_folder(tmp_path))]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=60)
    code = """
import json, wandb
(run,) = wandb.Api().runs("team/lab")
print(json.dumps({"name": run.name, "state": run.state, "config": run.config, "tags": run.tags, "group": run.group,
    "notes": run.notes, "summary": run.summary._json_dict, "history": list(run.scan_history()),
    "events": run.history(pandas=False, stream="system")}))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert printed.returncode == 0, printed.stderr
    run = json.loads(printed.stdout.splitlines()[-1])
    assert (run["name"], run["state"], run["group"], run["notes"]) == (
        "small run",
        "finished",
        "ratio-ablation",
        "first try",
    )
    assert run["tags"] == ["ablation", "step-05"]
    assert run["config"] == {"lr": 3e-4, "model": {"depth": 12}, "at": 0}
    assert run["summary"]["final"] == 1.25
    assert run["summary"]["loss"] == 29
    scalar = [row for row in rows if row.kind is None and "system.gpu.0.temp" not in row.body]
    assert logged(run["history"]) == given(scalar)
    assert [event["system.gpu.0.temp"] for event in run["events"]] == [0, 11, 22]
    assert [alert["title"] for alert in cloud.alerts] == ["spike"]
    assert cloud.unknown == []


def test_an_online_run_is_uploaded_while_it_goes_on(
    tmp_path: Path, cloud: WandbServer, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
    rows = _training_rows(30)
    one = mirror(tmp_path, mode="online")
    one.open({})
    assert one.url == f"{cloud.url}/team/lab/runs/{one.remote['id']}"
    one.deliver([*rows[:10], other(10, "alert", {"title": "spike", "text": "9", "level": "error"})])
    one.flush()
    wait_until(lambda: cloud.runs and cloud.run().history)
    assert cloud.run().state == "running"
    assert [alert["title"] for alert in cloud.alerts] == ["spike"]
    one.deliver([row._replace(i=row.i + 1) for row in rows[10:]])
    one.flush()
    one.close(ending())
    scalar = [row for row in rows if row.kind is None and "system.gpu.0.temp" not in row.body]
    assert logged(cloud.run().history) == given(scalar)
    assert cloud.run().state == "finished"
    assert len(cloud.alerts) == 1, "an alert that was sent is not in the file: it would be sent again"


def test_a_run_left_open_is_gone_on_with_by_the_next_process(
    tmp_path: Path, cloud: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
    rows = _training_rows(30)
    first = mirror(tmp_path, mode="online")
    held = drive(first, rows[:20])
    assert (held, cloud.run().state) == ({}, "running")
    assert len(cloud.run().history) == len(history(inspect(tmp_path)))
    drive(mirror(tmp_path, first.remote, mode="online"), rows, ending("failed"))
    scalar = [row for row in rows if row.kind is None and "system.gpu.0.temp" not in row.body]
    assert logged(cloud.run().history) == given(scalar)
    assert cloud.run().state == "failed"


def test_kills_while_online_leave_every_row_at_the_server_exactly_once(
    tmp_path: Path, cloud: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So often that a kill finds a part of the rows at the server.
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.2")
    rows = _training_rows(3000)
    deliver_through_kills("wandb", tmp_path, rows, kills=4, longest_seconds=5.0)
    scalar = [row for row in rows if row.kind is None and "system.gpu.0.temp" not in row.body]
    assert logged(cloud.run().history) == given(scalar)
    assert len(cloud.run().events) == len([row for row in rows if "system.gpu.0.temp" in row.body])
    assert cloud.run().state == "finished"


def _half_way() -> Callable[[str, str], int | None]:
    """Take the first rows, refuse those behind them."""
    taken: list[str] = []

    def refuse(path: str, operation: str) -> int | None:
        if "file_stream" not in path:
            return None
        taken.append(path)
        return 404 if len(taken) > 1 else None

    return refuse


def _stalling(when: str) -> Callable[[str, str], int | None]:
    def stall(path: str, operation: str) -> int | None:
        if when in path or when in operation:
            threading.Event().wait(60)
        return None

    return stall


FAILURES: dict[str, tuple[Callable[[str, str], int | None], str, bool]] = {
    "the key is refused": (lambda path, operation: 401, "refuses the login", False),
    "the server is down": (lambda path, operation: 500, "did not answer within", True),
    "the server hangs up": (lambda path, operation: 0, "W&B does not take run abcd2345", True),
    "the server stalls": (_stalling("/"), "did not answer within", True),
    "the run is refused": (lambda path, operation: 403 if operation == "UpsertBucket" else None, "refuses", True),
    "rows are refused": (lambda path, operation: 404 if "file_stream" in path else None, "Fatal error", True),
    "the server breaks off half way": (_half_way(), "Fatal error", True),
    "rows stall": (_stalling("file_stream"), "did not answer within", True),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_sentence_and_offline_goes_on_in_the_same_run(
    tmp_path: Path, cloud: WandbServer, failure: str
) -> None:
    cloud.before, sentence, may_pass = FAILURES[failure]
    rows = _training_rows(30)
    remote: dict[str, Any] = {}
    with pytest.raises(MirrorUnavailable, match=sentence) as raised:
        drive(mirror(tmp_path, remote, mode="online", patience_seconds="4"), rows, ending())
    assert "lossbook sync abcd2345 --to wandb" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.may_pass is may_pass
    drive(mirror(tmp_path, remote), rows, ending())
    assert not list(tmp_path.glob("wandb/*/*.synced")), "`wandb sync` must not take it for uploaded"
    cloud.before = lambda path, operation: None
    drive(mirror(tmp_path, remote, mode="online"), rows, ending())
    scalar = [row for row in rows if row.kind is None and "system.gpu.0.temp" not in row.body]
    assert logged(cloud.run().history) == given(scalar)


def test_nobody_logged_in_is_said_and_nobody_is_asked(
    tmp_path: Path, cloud: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(MirrorUnavailable, match="wandb login") as raised:
        mirror(tmp_path, mode="online").open({})
    assert not raised.value.may_pass


def test_wandb_mode_offline_keeps_the_network_out(
    tmp_path: Path, cloud: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    drive(mirror(tmp_path, mode="online"), _training_rows(5), ending())
    assert len(history(inspect(tmp_path))) == 5
    assert cloud.requests == []
