"""SwanLab, DVCLive and Neptune's exporter: files in their shapes, made here, read without their libraries."""

from __future__ import annotations

import datetime
import decimal
import json
import struct
import sys
import time
import zlib
from pathlib import Path

import pytest
from made_up_source import check_every_place

import lossbook
from lossbook.cli.app import main
from lossbook.trackers.sources import find_source

START, FINISH, SCALAR, MEDIA, LOG = 10, 11, 13, 14, 16


# -- SwanLab ----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def part(number: int, contents: bytes | str) -> bytes:
    contents = contents.encode() if isinstance(contents, str) else contents
    return varint(number << 3 | 2) + varint(len(contents)) + contents


def moment(seconds: int) -> bytes:
    return whole(1, seconds)


def scalar(key: str, step: int, value: float, at: int) -> bytes:
    number = varint(1 << 3 | 1) + struct.pack("<d", value) if value else b""
    return part(SCALAR, part(1, key) + (whole(2, step) if step else b"") + part(4, moment(at)) + part(5, number))


def record_file(folder: Path, records: list[bytes]) -> Path:
    """Write a file of records as SwanLab does, each after the time at which it was made."""
    written = bytearray(struct.pack("<4sHB", b":SWL", 0xE1D6, 2))
    for contents in records:
        contents = whole(1, 1) + part(2, moment(1_700_000_000)) + contents
        left = 32768 - len(written) % 32768
        assert left > 7 + len(contents)
        written += struct.pack("<IHB", zlib.crc32(contents, zlib.crc32(b"\1")), len(contents), 1) + contents
    folder.mkdir(parents=True)
    path = folder / "run-abc123.swanlab"
    path.write_bytes(written)
    return path


BEGUN = part(
    START, part(1, "texts") + part(4, "wide") + part(6, "paper") + part(10, "abc123") + part(12, moment(1_700_000_000))
)


def test_a_run_of_swanlab_comes_with_its_rows_and_its_configuration(tmp_path: Path, store: Path) -> None:
    folder = tmp_path / "swanlog" / "run-1"
    records = [BEGUN, part(LOG, part(1, "said") + part(3, moment(1_700_000_001)))]
    for step in range(3):
        records += [
            scalar("loss", step * 10, 2.0 - step, 1_700_000_010 + step),
            scalar("lr", step * 10, 0.1, 1_700_000_010 + step),
        ]
    records += [
        part(
            MEDIA,
            part(1, "sample")
            + whole(2, 20)
            + whole(3, 4)
            + part(5, part(1, part(1, "a.txt")) + part(1, part(1, "b.txt"))),
        )
    ]
    records += [part(FINISH, whole(1, 2) + part(2, "Traceback\nValueError: no") + part(3, moment(1_700_000_099)))]
    record_file(folder, records)
    (folder / "media" / "text").mkdir(parents=True)
    for name in "ab":
        (folder / "media" / "text" / f"{name}.txt").write_text(f"text {name}")
    (folder / "files").mkdir()
    (folder / "files" / "config.yaml").write_text("lr:\n  desc: ''\n  sort: 0\n  value: 0.1\n")
    assert main(["import", str(tmp_path / "swanlog"), "--to", str(store)]) == 0
    run = lossbook.open(store).run()
    assert (run.id, run.name, run.project, run.tags) == ("abc123", "wide", "texts", ["paper"])
    assert (run.state, run.error, run.config) == ("failed", "ValueError: no", {"lr": 0.1})
    assert run.history(["loss", "lr"]).df()[["step", "loss", "lr"]].values.tolist() == [
        [0, 2.0, 0.1],
        [10, 1.0, 0.1],
        [20, 0.0, 0.1],
    ]
    assert [one["value"]["text"] for one in run.events("text")] == ["text a", "text b"]
    assert run.curve("loss", x="time").x.tolist() == [1_700_000_010.0, 1_700_000_011.0, 1_700_000_012.0]
    source = find_source(str(tmp_path / "swanlog"))
    assert source is not None
    assert check_every_place(source) == 6


def test_a_run_of_swanlab_that_was_killed_and_one_that_is_damaged_say_so(tmp_path: Path, store: Path, capsys) -> None:
    path = record_file(tmp_path / "run-1", [BEGUN, *(scalar("loss", step, 1.0, 1_700_000_000) for step in range(20))])
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0x55
    path.write_bytes(contents)
    assert main(["import", str(tmp_path), "--to", str(store)]) == 0
    assert "is damaged here" in capsys.readouterr().err
    assert lossbook.open(store).run().state == "crashed"
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "run-x.swanlab").write_bytes(b"of another time")
    assert main(["--store", str(tmp_path), "ls"]) == 0
    assert "run-x.swanlab is no record file" in capsys.readouterr().err


# -- DVCLive ----------------------------------------------------------------------------------------------------------


def test_the_tables_of_dvclive_are_one_run_that_can_grow(tmp_path: Path, store: Path) -> None:
    metrics = tmp_path / "dvclive" / "plots" / "metrics"
    (metrics / "train").mkdir(parents=True)
    (tmp_path / "dvclive" / "metrics.json").write_text('{"train": {"loss": 1.0}, "step": 1}')
    (tmp_path / "dvclive" / "params.yaml").write_text("lr: 0.1\n")
    for steps in (2, 4):
        (metrics / "train" / "loss.tsv").write_text("step\tloss\n" + "".join(f"{n}\t{3.0 - n}\n" for n in range(steps)))
        (metrics / "acc.tsv").write_text(
            "timestamp\tstep\tacc\n" + "".join(f"{1_700_000_000_000 + n}\t{n}\t{n / 4}\n" for n in range(0, steps, 2))
        )
        assert main(["import", str(tmp_path), "--to", str(store)]) == 0
    (run,) = lossbook.open(store).runs()
    assert run.config == {"lr": 0.1}
    assert run.history("train/loss").df()["train/loss"].tolist() == [3.0, 2.0, 1.0, 0.0]
    assert run.history("acc").df()[["step", "acc"]].values.tolist() == [[0, 0.0], [2, 0.5]]
    assert run.info.source is not None
    assert run.info.source.kind == "dvclive"
    source = find_source(str(tmp_path / "dvclive"))
    assert source is not None
    assert check_every_place(source) == 4


# -- Neptune ----------------------------------------------------------------------------------------------------------


def test_what_neptunes_exporter_wrote_is_read_run_by_run(tmp_path: Path, store: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    begun = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    types = {
        "project_id": arrow.string(),
        "run_id": arrow.string(),
        "attribute_path": arrow.string(),
        "attribute_type": arrow.string(),
        "step": arrow.decimal128(18, 6),
        "timestamp": arrow.timestamp("ms", tz="UTC"),
        "int_value": arrow.int64(),
        "float_value": arrow.float64(),
        "string_value": arrow.string(),
        "bool_value": arrow.bool_(),
        "datetime_value": arrow.timestamp("ms", tz="UTC"),
        "string_set_value": arrow.list_(arrow.string()),
        "file_value": arrow.struct([("path", arrow.string())]),
    }
    for name, shift in (("RUN-1", "0"), ("RUN-2", "0.5")):
        rows: list[dict[str, object]] = [
            {"attribute_path": "sys/name", "attribute_type": "string", "string_value": f"the {name}"},
            {"attribute_path": "sys/creation_time", "attribute_type": "datetime", "datetime_value": begun},
            {"attribute_path": "sys/tags", "attribute_type": "string_set", "string_set_value": ["a", "b"]},
            {"attribute_path": "params/lr", "attribute_type": "float", "float_value": 0.1},
            {"attribute_path": "params/layers", "attribute_type": "int", "int_value": 3},
            {
                "attribute_path": "said",
                "attribute_type": "string_series",
                "step": decimal.Decimal(1),
                "string_value": "hello",
            },
        ]
        for step in range(3):
            at = {"step": step + decimal.Decimal(shift), "timestamp": begun + datetime.timedelta(seconds=step)}
            for key in ("loss", "acc"):
                rows.append({"attribute_path": key, "attribute_type": "float_series", "float_value": 2.0 - step, **at})
        table = arrow.Table.from_pylist(
            [{"project_id": "team/texts", "run_id": name, **row} for row in rows],
            schema=arrow.schema(list(types.items())),
        )
        (tmp_path / "export" / name).mkdir(parents=True)
        parquet.write_table(table, tmp_path / "export" / name / "part_0.parquet")
    assert main(["import", str(tmp_path / "export"), "--to", str(store)]) == 0
    first, second = sorted(lossbook.open(store).runs(), key=lambda run: run.id)
    assert (first.name, first.project, first.tags) == ("the RUN-1", "texts", ["a", "b"])
    assert first.config == {"params/lr": 0.1, "params/layers": 3}
    assert first.created == begun.timestamp()
    history = first.history(["loss", "acc"]).df()
    assert history[["step", "loss", "acc"]].values.tolist() == [[0, 2.0, 2.0], [1, 1.0, 1.0], [2, 0.0, 0.0]]
    assert first.events("text")[0]["value"]["text"] == "hello"
    # A step that is no whole number is counted, and kept.
    assert second.history("neptune/step").df()[["step", "neptune/step"]].values.tolist() == [
        [0, 0.5],
        [1, 1.5],
        [2, 2.5],
    ]
    source = find_source(str(tmp_path / "export"))
    assert source is not None
    assert check_every_place(source) == 8


def test_other_parquet_files_are_no_export_of_neptune(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"a": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    assert find_source(str(tmp_path)) is None


# -- Aim --------------------------------------------------------------------------------------------------------------


def test_a_repository_of_aim_is_read_through_its_library(tmp_path: Path, store: Path, program) -> None:
    pytest.importorskip("aim")
    program(
        "from aim import Run, Text\n"
        "run = Run(repo='.', experiment='texts', log_system_params=False, system_tracking_interval=None)\n"
        "run.name, run['lr'] = 'wide', 0.1\n"
        "run.add_tag('paper')\n"
        "for step in range(3):\n"
        "    for part in ('train', 'val'):\n"
        "        run.track(2.0 - step, name='loss', step=step * 10, context={'subset': part})\n"
        "run.track(Text('hello'), name='said', step=20)\n"
        "run.close()\n"
    )
    assert main(["import", str(tmp_path), "--to", str(store)]) == 0
    run = lossbook.open(store).run()
    assert (run.name, run.project, run.tags, run.config) == ("wide", "texts", ["paper"], {"lr": 0.1})
    history = run.history(["train/loss", "val/loss"]).df()
    assert history[["step", "train/loss", "val/loss"]].values.tolist() == [[0, 2, 2], [10, 1, 1], [20, 0, 0]]
    assert run.events("text")[0]["value"]["text"] == "hello"
    source = find_source(str(tmp_path))
    assert source is not None
    assert check_every_place(source) == 4


def test_where_aims_library_is_missing_its_runs_alone_are_passed_over(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "aim", None)
    (tmp_path / ".aim" / "meta" / "chunks").mkdir(parents=True)
    assert main(["--store", str(tmp_path), "ls"]) == 1
    assert "pip install 'lossbook[aim]'" in capsys.readouterr().err
    (tmp_path / "train.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    assert main(["--store", str(tmp_path), "ls"]) == 0
    said = capsys.readouterr()
    assert "train" in said.out
    assert "passed over" in said.err


# -- all of them ------------------------------------------------------------------------------------------------------


def test_a_folder_of_all_of_them_and_a_log_shows_them_all(tmp_path: Path, capsys) -> None:
    record_file(tmp_path / "swanlog" / "run-1", [BEGUN, scalar("loss", 0, 1.0, int(time.time()))])
    (tmp_path / "dvclive" / "plots" / "metrics").mkdir(parents=True)
    (tmp_path / "dvclive" / "params.yaml").write_text("lr: 0.1\n")
    (tmp_path / "dvclive" / "plots" / "metrics" / "loss.tsv").write_text("step\tloss\n0\t1.0\n")
    (tmp_path / "train.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    assert main(["--store", str(tmp_path), "--json", "ls"]) == 0
    assert sorted(run["name"] for run in json.loads(capsys.readouterr().out)) == ["dvclive", "train", "wide"]
