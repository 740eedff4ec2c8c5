"""A full disk costs rows, which are counted, and nothing else: no exception, no damage, no stop."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, journal_rows, only_run, recorded, row_numbers, steps

import lossbook
from lossbook.errors import StoreError
from lossbook.journal import writer
from lossbook.journal.reader import journal_segments
from lossbook.paths import RunFolder
from lossbook.storage.compaction import seal_run

pytestmark = pytest.mark.root
#: A row of this is longer than what a page has left, so some writes are short.
ROW = {f"layer.{number}/grad_norm": number / 7 for number in range(20)}


def warnings_of(folder: RunFolder) -> list[dict[str, Any]]:
    return [row.body for row in journal_rows(folder) if row.kind == "warning"]


def fill_while_logging(run: lossbook.Run, disk: Any) -> int:
    """Log until rows are lost, and somewhat longer; returns the next step."""
    disk.fill(but_bytes=16 << 10)
    for step in range(200):
        run.log({**ROW, "step": step}, step=step)
    return 200


def test_logging_never_raises_and_resumes_when_there_is_room_again(
    small_disk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lossbook.init(store=small_disk.path / "store", project="p", console=False)
    next_step = fill_while_logging(run, small_disk)
    written = steps(only_run(small_disk.path / "store"))
    assert written == list(range(len(written)))
    assert len(written) < next_step
    assert capsys.readouterr().err.count("ROWS ARE BEING LOST") == 1
    small_disk.make_room()
    for step in range(next_step, next_step + 10):
        run.log({**ROW, "step": step}, step=step)
    run.finish()
    folder = only_run(small_disk.path / "store")
    lost = next_step - len(written)
    assert [warning["lost"] for warning in warnings_of(folder)] == [lost]
    assert f"{lost} rows could not be written" in capsys.readouterr().err
    assert steps(folder) == [*written, *range(next_step, next_step + 10)]
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
    (problem,) = recorded(folder).problems()
    assert f"{lost} rows could not be written" in problem
    assert recorded(folder).state == "finished"


def test_a_disk_that_takes_a_row_now_and_then_is_said_to_be_full_once(
    small_disk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lossbook.init(store=small_disk.path / "store", project="p", console=False)
    lost = 0
    step = 0
    for _ in range(5):
        small_disk.fill()
        for _ in range(40):
            run.log({**ROW, "step": step}, step=step)
            step += 1
        small_disk.make_room()
    run.log({"step": step}, step=step)
    run.finish()
    folder = only_run(small_disk.path / "store")
    assert capsys.readouterr().err.count("ROWS ARE BEING LOST") == 1
    lost = sum(warning["lost"] for warning in warnings_of(folder))
    assert lost > 0
    assert len(steps(folder)) + lost == step + 1
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))


def test_every_kind_of_row_is_counted(small_disk: Any) -> None:
    run = lossbook.init(store=small_disk.path / "store", project="p", console=False)
    small_disk.fill()
    for _ in range(5):  # what is left of the last page
        run.log({f"{number}": 1.0 for number in range(300)})
    run.note("a note" * 1000)
    run.alert("an alert" * 1000)
    run.config["lr"] = "x" * 10_000
    run.log({"text": lossbook.Text("x" * 10_000)})
    run.log({"bad": object(), "good": 1.0, **ROW})
    small_disk.make_room()
    run.log({"loss": 1.0})
    run.finish()
    folder = only_run(small_disk.path / "store")
    assert sum(warning.get("lost", 0) for warning in warnings_of(folder)) >= 9
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))


def test_a_disk_that_fills_while_segments_are_rotated_leaves_no_half_segment(
    small_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 4000)
    run = lossbook.init(store=small_disk.path / "store", project="p", console=False)
    next_step = fill_while_logging(run, small_disk)
    folder = only_run(small_disk.path / "store")
    written = steps(folder)
    small_disk.make_room()
    for step in range(next_step, next_step + 50):
        run.log({**ROW, "step": step}, step=step)
    run.finish()
    assert steps(folder) == [*written, *range(next_step, next_step + 50)]
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
    segments = journal_segments(folder.journal)
    assert len(segments) > 10
    assert [segment.name.first for segment in segments] == list(range(1, len(segments) + 1))
    (problem,) = recorded(folder).problems()
    assert "rows could not be written" in problem


def test_finishing_on_a_full_disk_does_not_raise(small_disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with lossbook.init(store=small_disk.path / "store", project="p", console=False) as run:
        fill_while_logging(run, small_disk)
        small_disk.fill()
        run.log(ROW)
    assert "ROWS ARE BEING LOST" in capsys.readouterr().err
    small_disk.make_room()
    assert recorded(only_run(small_disk.path / "store")).problems() == []


def test_a_run_that_begins_on_a_full_disk_is_kept_elsewhere(
    small_disk: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_disk.fill()
    with lossbook.init(store=small_disk.path / "store", project="p", console=False) as run:
        run.log({"loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert run.path.startswith(str(tmp_path / "cache" / "rescued"))
    assert steps(RunFolder(run.path)) == [0]


def test_sealing_on_a_full_disk_leaves_the_journal_as_it_was(small_disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 20_000)
    with lossbook.init(store=small_disk.path / "store", project="p", console=False) as run:
        for step in range(300):
            run.log({**ROW, "step": step}, step=step)
    folder = only_run(small_disk.path / "store")
    before = {path.path: Path(path.path).read_bytes() for path in journal_segments(folder.journal)}
    small_disk.fill()
    with pytest.raises(StoreError, match="full|No space"):
        seal_run(folder, finished=True)
    assert {path.path: Path(path.path).read_bytes() for path in journal_segments(folder.journal)} == before
    leftovers = [
        name for place in (folder.metrics, folder.events) if os.path.isdir(place) for name in os.listdir(place)
    ]
    assert [name for name in leftovers if name.endswith(".parquet")] == []
    small_disk.make_room()
    seal_run(folder, finished=True)
    assert journal_segments(folder.journal) == []
    assert recorded(folder).metrics["step"]["count"] == 300
    assert recorded(folder).problems() == []


def test_a_half_line_that_cannot_be_taken_back_costs_no_other_row(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    run.log({"loss": 0.0})
    write, calls = os.write, [0]

    def refuse_half(fd: int, line: bytes) -> int:
        calls[0] += 1
        if calls[0] == 1:
            return write(fd, line[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(writer, "write_bytes", refuse_half)
        broken.setattr(os, "ftruncate", refuse)
        run.log({"loss": 1.0})
    run.log({"loss": 2.0})
    run.finish()
    (folder,) = all_runs(store)
    assert steps(folder) == [0, 2]
    assert row_numbers(folder) == list(range(len(row_numbers(folder))))
