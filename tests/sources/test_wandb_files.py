"""Offline runs that the real wandb wrote, read from their files without its library."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import StoreError
from lossbook.trackers import ingest
from lossbook.trackers.source import ForeignRow, Rewritten
from lossbook.trackers.sources import find_source
from lossbook.trackers.wandb.transaction_log import TransactionLog, read_records

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

WRITE = """
import math, os, sys, time
import numpy as np
import wandb
run = wandb.init(project="lab", name="first run", id="abc123", config={"lr": 3e-4, "model": {"depth": 12, "heads": 4}}, tags=["a", "b"],
                 group="sweep", notes="first try", job_type="train", settings=wandb.Settings(x_stats_sampling_interval=0.2))
print("hello\\nfrom the console")
run.define_metric("val/*", step_metric="epoch", summary="min")
for step in range(50):
    run.log({"loss": 1 / (step + 3), "nested": {"a": step, "b": {"c": 2.5}}, "on": True,
             "odd": [math.nan, math.inf, -math.inf, 0.1][step % 4]})
time.sleep(0.5)  # W&B samples the system every 0.2 s
black = np.zeros((8, 9, 3), dtype=np.uint8)
run.log({"words": "hi", "spread": wandb.Histogram(np.arange(100)), "picture": wandb.Image(black, caption="black"),
         "table": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]]), "list": [1, 2, 3], "nothing": None,
         "pictures": [wandb.Image(black), wandb.Image(black + 1)], "page": wandb.Html("<b>x</b>")})
run.config.update({"later": 5, "model": {"depth": 13}}, allow_val_change=True)
run.summary["best"] = 0.25
run.alert("spike", "at 3", level="WARN")
open("kept.txt", "w").write("kept")
run.save("kept.txt")
run.log({"loss": 9.0}, step=100)
run.finish(exit_code=int(sys.argv[1]))
"""


def write(folder: Path, *arguments: str, text: str = WRITE) -> None:
    environment = {
        **os.environ,
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "HOME": str(folder),
        "WANDB_ERROR_REPORTING": "false",
    }
    command = [sys.executable, "-W", "ignore", "-c", text, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    write(folder, "0")
    return folder


@pytest.fixture
def offline(written: Path, tmp_path: Path) -> Path:
    """A copy of W&B's folder, so that a test may damage it."""
    return Path(shutil.copytree(written / "wandb", tmp_path / "wandb", symlinks=True))


def log_file(offline: Path) -> Path:
    (found,) = offline.glob("offline-run-*/*.wandb")
    return found


def inspected(offline: Path) -> list[dict[str, Any]]:
    """The records of the run as W&B's own program shows them."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(log_file(offline).parent)]
    printed = subprocess.run(command, check=True, cwd=offline, capture_output=True, text=True, timeout=60).stdout
    return [json.loads(line) for line in printed.splitlines()]


def same(one: float, other: Any) -> bool:
    other = float(other)
    return one == other or (math.isnan(one) and math.isnan(other))


def read_all(location: Path) -> list[ForeignRow]:
    source = find_source(str(location))
    assert source is not None
    (run,) = source.runs()
    return list(source.rows(run))


def test_an_offline_folder_reads_like_a_store(offline: Path) -> None:
    run = lossbook.open(offline).run("first run")
    assert (run.id, run.project, run.group, run.notes, run.state) == ("abc123", "lab", "sweep", "first try", "finished")
    assert run.tags == ["a", "b"]
    assert run.config == {"lr": 3e-4, "model": {"depth": 13, "heads": 4}, "later": 5}
    assert (run.summary["best"], run.summary["loss"], run.summary["nested.a"]) == (0.25, 9.0, 49)
    loss = run.history(["loss"]).df()
    assert list(loss.step) == [*range(50), 100]
    assert list(loss.loss) == [*(1 / (step + 3) for step in range(50)), 9.0]


def test_every_value_step_and_time_is_what_wandbs_own_program_shows(offline: Path) -> None:
    records = inspected(offline)
    scalars = [row for row in read_all(offline) if row.kind is None]
    logged = [row for row in scalars if not any(key.startswith("system.") for key in row.body)]
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert len(history) == 52, "one of them without a number"
    for row, item in zip(logged, [one for one in history if "loss" in one], strict=True):
        assert (row.step, row.time_us) == (item["_step"], round(item["_timestamp"] * 1e6))
        plain = {key: value for key, value in item.items() if not key.startswith("_")}
        assert row.body.keys() == plain.keys()
        assert all(same(row.body[key], value) for key, value in plain.items())
    system = [row for row in scalars if row not in logged]
    stats = [record["stats"]["item"] for record in records if record["type"] == "stats"]
    assert system
    assert [row.body for row in system] == [
        {f"system.{key}": float(value) for key, value in one.items()} for one in stats
    ]


def test_media_tables_histograms_text_alerts_files_and_console_arrive(offline: Path) -> None:
    run = lossbook.open(offline).run("latest")
    events = {(event["kind"], event["key"]): event["value"] for event in run.events()}
    picture = events["image", "picture"]
    assert (picture["caption"], picture["width"], picture["height"]) == ("black", 9, 8)
    (stored,) = offline.glob("offline-run-*/files/media/images/picture_*.png")
    assert Path(run.path, picture["file"]).read_bytes() == stored.read_bytes()
    assert len([event for event in run.events() if event["key"] == "pictures"]) == 2
    assert events["table", "table"] == {"columns": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}
    assert sum(events["histogram", "spread"]["counts"]) == 100
    assert (events["text", "words"]["text"], events["text", "list"]["text"]) == ("hi", "[1,2,3]")
    assert events["alert", None] == {"title": "spike", "text": "at 3", "level": "warning"}
    assert events["define", None] == {"pattern": "val/*", "x": "epoch", "summary": "min"}
    kept = {event["value"]["path"]: event["value"]["file"] for event in run.events() if event["kind"] == "file"}
    assert Path(run.path, kept["kept.txt"]).read_text() == "kept"
    assert "page" in {event["key"] for event in run.events() if event["kind"] == "file"}
    assert "hello\nfrom the console\n" in Path(run.path, "console", "r0.log").read_text()


def test_one_file_is_enough_and_wandbs_library_is_not_needed(offline: Path) -> None:
    code = """
import sys
sys.modules["wandb"] = sys.modules["google.protobuf"] = None
import lossbook
print(lossbook.open(sys.argv[1]).run("latest").history(["loss"]).df().loss.sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(log_file(offline))],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert math.isclose(float(done.stdout), 9.0 + sum(1 / (step + 3) for step in range(50)), rel_tol=1e-12)


def test_reading_on_from_any_row_gives_the_rest(offline: Path) -> None:
    source = find_source(str(offline))
    assert source is not None
    (run,) = source.runs()
    rows = list(source.rows(run))
    for number in range(0, len(rows) - 1, 7):
        place = json.loads(json.dumps(rows[number].place))
        again = list(source.rows(dataclasses.replace(run, after=place), number + 1))
        assert [row._replace(body={}) for row in again] == [row._replace(body={}) for row in rows[number + 1 :]]


def test_a_torn_tail_keeps_what_stands_before_it(offline: Path) -> None:
    whole = read_all(offline)
    path = log_file(offline)
    contents = path.read_bytes()
    last = 0
    for cut in (400, len(contents) // 2, len(contents) * 3 // 4, len(contents)):
        path.write_bytes(contents[:cut])
        rows = read_all(offline)
        assert rows == whole[: len(rows)]
        assert len(rows) > last or cut == 400
        last = len(rows)
    assert last == len(whole)
    path.write_bytes(contents[:3])
    source = find_source(str(offline))
    assert source is not None
    assert list(source.runs()) == []


def test_a_growing_file_is_read_on_where_it_was_torn(offline: Path, store: Path) -> None:
    path = log_file(offline)
    contents = path.read_bytes()
    whole = [row for row in read_all(offline) if row.kind is None]
    for cut in (len(contents) // 3, len(contents) // 2, len(contents)):
        path.write_bytes(contents[:cut])
        source = find_source(str(offline))
        assert source is not None
        (run,) = source.runs()
        assert run.state == ("finished" if cut == len(contents) else "running")
        ingest.import_rows(ingest.import_run(str(store), source, run), source, run)
    recorded = lossbook.open(store).run("abc123")
    assert recorded.state == "finished"
    expected = [row.body["loss"] for row in whole if "loss" in row.body]
    assert list(recorded.history(["loss"]).df().loss) == expected


def test_a_damaged_block_costs_that_block_and_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-20260101_000000-x"
    folder.mkdir()
    path = folder / "run-x.wandb"
    log = TransactionLog(str(path))
    log.begin()
    log.append(b"\x8a\x01" + bytes([8]) + b"\x0a\x01x\x1a\x03lab")  # Record.run: run_id "x", project "lab"
    for step in range(3000):
        log.append(history_record(step, 1.0 / (step + 1)))
    log.flush()
    log.close()
    contents = bytearray(path.read_bytes())
    contents[40_000] ^= 0xFF
    path.write_bytes(contents)
    rows = read_all(tmp_path)
    steps = [row.step for row in rows if row.kind is None]
    (warning,) = (row for row in rows if row.kind == "warning")
    assert "damaged" in warning.body["message"]
    assert steps[0] == 0
    assert steps[-1] == 2999
    assert 2000 < len(steps) < 3000
    assert all(row.body == {"loss": 1.0 / (row.step + 1)} for row in rows if row.kind is None and row.step is not None)
    assert len(list(read_records(str(path)))) < len(steps), "who goes on writing trusts nothing behind the damage"


def test_a_large_file_is_read_to_its_end_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.trackers.wandb import offline_files

    folder = tmp_path / "offline-run-20260101_000000-x"
    folder.mkdir()
    path = folder / "run-x.wandb"
    log = TransactionLog(str(path))
    log.begin()
    log.append(b"\x8a\x01" + bytes([8]) + b"\x0a\x01x\x1a\x03lab")
    for step in range(25_000):
        log.append(history_record(step, 1.0 / (step + 1)))
    log.flush()
    assert path.stat().st_size > 1 << 20
    read: list[int] = []
    real = offline_files.read_head
    monkeypatch.setattr(offline_files, "read_head", lambda records: (read.append(1), real(records))[1])
    listed = [list(offline_files.WandbFiles(str(tmp_path)).runs()) for _ in range(3)]
    assert listed[0] == listed[1] == listed[2]
    assert len(read) == 1
    log.append(history_record(25_000, 0.5))
    log.flush()
    log.close()
    (run,) = offline_files.WandbFiles(str(tmp_path)).runs()
    assert len(read) == 2
    assert offline_files.WandbFiles(str(tmp_path)).row_count(run) == 25_001


def history_record(step: int, loss: float) -> bytes:
    """A `Record` with one row of the history, encoded by hand."""
    items = b"".join(
        field(1, field(2, name) + b"\x82\x01" + bytes([len(text)]) + text)
        for name, text in ((b"loss", repr(loss).encode()), (b"_step", str(step).encode()))
    )
    return field(2, items)


def field(number: int, contents: bytes) -> bytes:
    assert len(contents) < 128
    return bytes([number << 3 | 2, len(contents)]) + contents


def test_folders_of_one_run_are_attempts_of_it(tmp_path: Path) -> None:
    for attempt, (first, last) in enumerate(((0, 10), (6, 15))):
        text = f"""
import wandb
run = wandb.init(project="lab", id="same", config={{"attempt": {attempt}}}, tags=["t{attempt}"], settings=wandb.Settings(x_disable_stats=True))
for step in range({first}, {last}):
    run.log({{"loss": step + {attempt} / 2}}, step=step)
run.finish()
"""
        write(tmp_path, text=text)
        for folder in tmp_path.glob("wandb/offline-run-*-same"):
            folder.rename(
                folder.with_name(f"{attempt}-{folder.name.lstrip('01-')}") if folder.name[0] == "o" else folder
            )
    (run,) = lossbook.open(tmp_path / "wandb").runs()
    history = run.history(["loss"]).df()
    assert list(history.step) == list(range(15))
    assert list(history.loss) == [*range(6), *(step + 0.5 for step in range(6, 15))]
    assert run.config == {"attempt": 1}
    assert run.tags == ["t0", "t1"]


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    write(tmp_path, "3")
    run = lossbook.open(tmp_path / "wandb").run("latest")
    assert run.state == "failed"
    assert "3" in (run.error or "")


def test_a_file_that_was_written_anew_is_not_mixed_with_what_was_read(offline: Path) -> None:
    source = find_source(str(offline))
    assert source is not None
    (run,) = source.runs()
    place = next(row.place for row in source.rows(run) if row.step == 30)
    path = log_file(offline)
    contents = bytearray(path.read_bytes())
    other = struct.pack("<I", 0)
    contents[place["start"] : place["start"] + 4] = other
    path.write_bytes(contents)
    with pytest.raises(Rewritten):
        list(source.rows(dataclasses.replace(run, after=place)))


def test_what_lossbooks_own_mirror_wrote_comes_back_as_it_was(tmp_path: Path, peers: Any) -> None:
    rows = [
        *(
            peers.scalars(i, step, {"loss": float(i), "system.gpu.0.temp": 60.0 + i})
            for i, step in enumerate((5, 6, 3, 3, 1 << 61))
        ),
        peers.other(5, "note", {"text": "a note"}, step=7),
        peers.scalars(0, 5, {"loss": 0.25}, rank=2),
    ]
    peers.drive(peers.mirror(tmp_path), rows, peers.ending("killed", final=1.25))
    source = find_source(str(tmp_path / "wandb"))
    assert source is not None
    (run,) = source.runs()
    assert (run.state, run.summary["final"]) == ("killed", 1.25)
    read = list(source.rows(run))
    logged = [(row.rank, row.step, row.body["loss"]) for row in read if row.kind is None and "loss" in row.body]
    assert sorted(logged) == sorted((row.rank, row.step, row.body["loss"]) for row in rows if row.kind is None)
    assert [row.body["system.gpu.0.temp"] for row in read if "system.gpu.0.temp" in row.body] == [60, 61, 62, 63, 64]
    assert [row.body for row in read if row.kind == "note"] == [{"text": "a note"}]


@pytest.fixture
def peers() -> Any:
    """The mirror, and what drives it in its own tests."""
    import importlib.util

    path = Path(__file__).parents[1] / "peers" / "driving_mirrors.py"
    spec = importlib.util.spec_from_file_location("driving_mirrors_of_peers", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from lossbook.trackers.mirror import MirrorSettings
    from lossbook.trackers.wandb.mirror import WandbMirror

    make: Callable[[Path], WandbMirror] = lambda folder: WandbMirror(  # noqa: E731
        module.subject(folder), MirrorSettings(mode="offline", cwd=str(folder)), {}
    )
    module.mirror = make
    return module


def test_a_folder_without_runs_is_one_sentence(tmp_path: Path) -> None:
    from lossbook.trackers.wandb.offline_files import WandbFiles

    with pytest.raises(StoreError, match="there is no .wandb file"):
        WandbFiles(str(tmp_path))
