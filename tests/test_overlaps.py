"""Segments that two sealings left over the same rows: every reader counts each row once, and says so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from journals import WrittenRun

import lossbook
from lossbook.book import Book
from lossbook.journal import journal_segments
from lossbook.paths import RunFolder
from lossbook.storage import Replay, compute_summary, list_segments, next_row, verify_run
from lossbook.storage.compaction import seal_run, seal_segments

ROWS = 4 * 100


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    """Four segments of a hundred rows, each with a note."""
    run = WrittenRun(tmp_path / "store" / "tests" / "run")
    for number in range(4):
        rows = [(100 * number + at, {"loss": 1.0 / (100 * number + at + 1)}) for at in range(100)]
        run.segment([*rows, ("note", {"text": str(number)})], end="finished" if number == 3 else None)
    return run


def seal_some(run: WrittenRun, first: int, last: int, target: Path) -> None:
    """Seal some segments in a copy of the run, and put the files beside those of the others."""
    shutil.copytree(run.folder.path, target)
    folder = RunFolder(str(target))
    seal_segments(folder, [one for one in journal_segments(folder.journal) if first <= one.name.first <= last])


def put_together(run: WrittenRun, *copies: Path, journals: list[str]) -> None:
    for copy in copies:
        for directory in ("metrics", "rollups", "events", "digests"):
            shutil.copytree(copy / directory, Path(run.folder.path, directory), dirs_exist_ok=True)
    for name in set(os.listdir(run.folder.journal)) - set(journals):
        os.unlink(os.path.join(run.folder.journal, name))


def check_every_reader(run: WrittenRun) -> None:
    found = Book(Path(run.folder.path).parent.parent).run("run")
    assert found.curve("loss", points=1000).count.sum() == ROWS
    assert sorted(row["step"] for row in found.history(["loss"]).dicts()) == list(range(ROWS))
    assert len(found.events("note")) == 4
    assert found.metrics["loss"]["count"] == ROWS
    assert found.metrics["loss"]["min"] == 1.0 / ROWS
    matrix = found.matrix(["loss"], columns=10)
    assert matrix.count.sum() == ROWS
    book = lossbook.open(Path(run.folder.path).parent.parent)
    assert book.sql("select count(*), count(distinct row) from metrics").rows() == [(ROWS, ROWS)]
    assert book.sql("select count(*) from events where kind = 'note'").rows() == [(4,)]
    replayed = [row.i for row in Replay(run.folder).rows()]
    assert replayed == list(range(run.next_row[0]))
    assert next_row(run.folder, 0) == run.next_row[0]
    assert compute_summary(run.folder).rows == run.next_row[0]


def test_two_sealed_files_that_overlap_count_each_row_once(run: WrittenRun, tmp_path: Path) -> None:
    seal_some(run, 1, 3, tmp_path / "one")
    seal_some(run, 2, 4, tmp_path / "other")
    put_together(run, tmp_path / "one", tmp_path / "other", journals=[])
    assert [segment.name.stem for segment in list_segments(run.folder)] == ["r0-000001-000003", "r0-000002-000004"]
    check_every_reader(run)
    found = Book(tmp_path / "store").run("run")
    assert any("r0-000002-000004" in problem and "counted once" in problem for problem in found.problems())
    assert not any("differ" in problem for problem in found.problems())
    seal_run(run.folder, finished=True)
    check_every_reader(run)
    assert all(finding.ok for finding in verify_run(run.folder) if "parquet" in finding.path)


def test_where_two_files_disagree_one_wins_and_it_is_said(run: WrittenRun, tmp_path: Path) -> None:
    seal_some(run, 1, 3, tmp_path / "one")
    journal = Path(run.folder.journal, "r0-000003.jsonl")
    contents = journal.read_text()
    journal.write_text(contents.replace('"s":250,"m":{"loss":', '"s":250,"m":{"loss":7'))
    seal_some(run, 2, 4, tmp_path / "other")
    put_together(run, tmp_path / "one", tmp_path / "other", journals=[])
    found = Book(tmp_path / "store").run("run")
    assert [row["loss"] for row in found.history(["loss"], start=250, end=250).dicts()] == [1.0 / 251]
    assert any("1 values differ" in problem for problem in found.problems())


def test_a_journal_that_was_sealed_while_it_was_written_gives_the_rest_of_its_rows(
    run: WrittenRun, tmp_path: Path
) -> None:
    journal = Path(run.folder.journal, "r0-000004.jsonl")
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:40]))
    seal_some(run, 1, 4, tmp_path / "early")
    journal.write_bytes(whole)
    put_together(run, tmp_path / "early", journals=["r0-000004.jsonl"])
    check_every_reader(run)
    # It is no leftover: nothing else holds its last rows.
    seal_run(run.folder, finished=True)
    assert journal.read_bytes() == whole
    check_every_reader(run)


def test_a_sealed_file_that_is_damaged_gives_way_to_its_journal(run: WrittenRun, tmp_path: Path) -> None:
    seal_some(run, 1, 2, tmp_path / "one")
    put_together(run, tmp_path / "one", journals=sorted(os.listdir(run.folder.journal)))
    check_every_reader(run)
    damaged = Path(run.folder.metrics, "r0-000001-000002.parquet")
    contents = bytearray(damaged.read_bytes())
    contents[len(contents) // 3] ^= 4
    damaged.write_bytes(contents)
    found = Book(tmp_path / "store").run("run")
    assert len(found.history(["loss"]).rows()) == ROWS
    assert any(str(damaged) in problem for problem in found.problems())
    seal_run(run.folder, finished=True)
    assert len(os.listdir(run.folder.journal)) == 2
