"""A source says what it did not read: damaged records, files of no known kind, rows that nobody asked for yet."""

from __future__ import annotations

import json
import struct
import time
import zlib
from pathlib import Path

import pytest

import lossbook
from lossbook.cli import source_reading
from lossbook.cli.app import main

HISTORY, RUN, EXIT = 2, 17, 18


def field(number: int, contents: bytes) -> bytes:
    """One length-delimited field of a protobuf message."""
    head = bytearray()
    for value in (number << 3 | 2, len(contents)):
        while value > 127:
            head.append(value & 127 | 128)
            value >>= 7
        head.append(value)
    return bytes(head) + contents


def number(field_number: int, value: int) -> bytes:
    head = bytearray([field_number << 3])
    while value > 127:
        head.append(value & 127 | 128)
        value >>= 7
    return bytes([*head, value])


def history(step: int, moment: float) -> bytes:
    items = {"loss": 1.0 / (step + 1), "pad": "x" * 40, "_step": step, "_timestamp": moment}
    row = b"".join(
        field(1, field(2, key.encode()) + field(16, json.dumps(value).encode())) for key, value in items.items()
    )
    return field(HISTORY, row)


def offline_file(path: Path, began: float, rows: int, exit_code: int | None = 0) -> bytes:
    """Write the file that W&B's library would for a run that logged once a second."""
    start = field(1, b"abc") + field(3, b"p") + field(8, b"named") + field(17, number(1, int(began)))
    records = [field(RUN, start), *(history(step, began + step) for step in range(rows))]
    if exit_code is not None:
        records.append(field(EXIT, number(1, exit_code) if exit_code else b""))
    written = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        first = True
        while first or record:
            left = 32768 - len(written) % 32768
            if left < 7:
                written += bytes(left)
                continue
            piece, record = record[: left - 7], record[left - 7 :]
            kind = (1 if not record else 2) if first else (4 if not record else 3)
            written += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written)
    return bytes(written)


def event_files(folder: Path, steps: int = 100) -> None:
    writer = pytest.importorskip("tensorboardX").SummaryWriter(str(folder))
    for step in range(steps):
        writer.add_scalar("train/loss", 5.0 - step / 50, step, walltime=1.7e9 + step * 60)
    writer.close()


def test_an_offline_run_that_was_killed_is_over_by_its_last_record_not_by_its_files_time(tmp_path: Path) -> None:
    offline_file(tmp_path / "wandb" / "run-abc" / "run-abc.wandb", time.time() - 400 * 86400, 30, exit_code=None)
    (run,) = lossbook.open(tmp_path / "wandb").runs()
    assert run.state == "crashed"
    assert run.ended == pytest.approx(run.created + 29, abs=1.0)


@pytest.mark.parametrize("place", ["middle", "last block"])
def test_an_import_of_a_damaged_offline_file_says_so(tmp_path: Path, store: Path, capsys, place: str) -> None:
    path = tmp_path / "wandb" / "run-abc" / "run-abc.wandb"
    whole = offline_file(path, time.time() - 9000, 2000)
    at = len(whole) // 2 if place == "middle" else len(whole) - 900
    path.write_bytes(whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 8]) + whole[at + 8 :])
    assert main(["import", str(tmp_path / "wandb"), "--to", str(store)]) == 0
    assert "is damaged here" in capsys.readouterr().err
    assert len(lossbook.open(store).run().history("loss")) < 2000


def test_a_whole_offline_file_and_one_cut_off_are_not_called_damaged(tmp_path: Path, store: Path, capsys) -> None:
    path = tmp_path / "wandb" / "run-abc" / "run-abc.wandb"
    whole = offline_file(path, time.time() - 9000, 500)
    for contents in (whole, whole[:-300], whole[:-300] + bytes(300)):
        path.write_bytes(contents)
        assert main(["import", str(path), "--to", str(store / str(len(contents)) / contents[-1:].hex())]) == 0
        assert "damaged" not in capsys.readouterr().err


def test_an_offline_file_that_says_nothing_of_its_run_is_named(tmp_path: Path, capsys) -> None:
    offline_file(tmp_path / "run-abc" / "run-abc.wandb", time.time(), 3)
    (tmp_path / "run-xyz").mkdir()
    (tmp_path / "run-xyz" / "run-xyz.wandb").write_bytes(b"nothing that W&B wrote")
    assert main(["--store", str(tmp_path), "ls"]) == 0
    said = capsys.readouterr()
    assert "named" in said.out
    assert "run-xyz.wandb is empty, or damaged" in said.err


def test_a_folder_of_several_trackers_shows_and_imports_the_runs_of_all(tmp_path: Path, store: Path) -> None:
    output = tmp_path / "output"
    event_files(output / "runs" / "x", 3)
    offline_file(output / "wandb" / "run-abc" / "run-abc.wandb", time.time() - 9000, 5)
    (output / "wandb" / "run-abc" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')  # of W&B's own folder
    history = [{"loss": 2 - step / 10, "step": step} for step in range(10)]
    (output / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    shown = {run.name: run.keys() for run in lossbook.open(output).runs()}
    assert shown == {"runs/x": ["train/loss"], "named": ["loss"], "trainer_state": ["loss"]}
    assert main(["import", str(output), "--to", str(store)]) == 0
    kinds = {run.name: run.info.source.kind for run in lossbook.open(store).runs() if run.info.source is not None}
    assert kinds == {"runs/x": "tensorboard", "named": "wandb-offline", "trainer_state": "logs"}


def test_what_one_tracker_left_unreadable_does_not_hide_the_others(tmp_path: Path, capsys) -> None:
    event_files(tmp_path / "runs" / "x", 3)
    (tmp_path / "settings.json").write_text('{"hidden_size": 3}')
    assert main(["--store", str(tmp_path), "ls"]) == 0
    said = capsys.readouterr()
    assert "runs/x" in said.out
    assert "passed over" in said.err


def test_ls_of_event_files_shows_their_own_steps_and_durations(tmp_path: Path, capsys) -> None:
    event_files(tmp_path / "runs" / "a")
    assert main(["--store", str(tmp_path / "runs"), "ls"]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[1].split()[-4:] == ["1h", "39m", "99", "3.02"]
    assert main(["--store", str(tmp_path / "runs"), "ls", "--sort", "created"]) == 0
    assert capsys.readouterr().out == first


def test_ls_says_not_read_of_runs_that_it_had_no_time_to_read(tmp_path: Path, capsys, monkeypatch) -> None:
    for name in "abc":
        event_files(tmp_path / "runs" / name, 5)
    monkeypatch.setattr(source_reading, "READ_SECONDS", 0.0)
    assert main(["--store", str(tmp_path / "runs"), "ls"]) == 0
    text = capsys.readouterr().out
    assert sorted(line.count("not read") for line in text.splitlines()) == [0, 0, 1, 3, 3]
    assert "the rows of 2 runs are not read yet" in text
    assert main(["--store", str(tmp_path / "runs"), "--json", "ls"]) == 0
    assert [run["last_step"] for run in json.loads(capsys.readouterr().out)] == [4, 4, 4]


def test_ls_shows_the_steps_of_a_tracker_that_keeps_last_values_alone(tmp_path: Path, capsys) -> None:
    run = tmp_path / "mlruns" / "7" / ("a" * 32)
    (run / "metrics").mkdir(parents=True)
    (tmp_path / "mlruns" / "7" / "meta.yaml").write_text(
        "artifact_location: .\nexperiment_id: '7'\nlifecycle_stage: active\nname: texts\n"
    )
    (run / "meta.yaml").write_text(
        f"experiment_id: '7'\nrun_id: {'a' * 32}\nrun_uuid: {'a' * 32}\nrun_name: wide\nlifecycle_stage: active\nstatus: 3\n"
        "start_time: 1700000000000\nend_time: 1700000060000\nuser_id: u\nartifact_uri: .\n"
    )
    (run / "metrics" / "loss").write_text(
        "".join(f"{1_700_000_000_000 + step} {3.0 - step} {step}\n" for step in range(3))
    )
    assert main(["--store", str(tmp_path), "ls", "--columns", "name,steps,duration,loss"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["wide", "2", "1m", "00s", "1"]
