"""Runs that earlier versions wrote: read as they were, gone on with, merged, and seen by other engines once written anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest

import lossbook
from lossbook.book import Book
from lossbook.cli import main
from lossbook.paths import RunFolder
from lossbook.storage import seal_run, verify_run

#: A store of format 1: two sealed segments, rollups beside the rows, and a journal that nobody sealed.
FORMAT_1 = Path(__file__).resolve().parent / "fixtures" / "format-1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "store"
    shutil.copytree(FORMAT_1, copy)
    monkeypatch.setenv("LOSSBOOK_STORE", str(copy))
    return copy


def check(book: Book) -> None:
    run = book.run("resumed")
    assert run.metrics["loss"]["count"] == 41
    assert run.metrics["loss"]["max"] == 2.0
    assert len(run.history(["loss"])) == 41
    assert run.curve("loss").count.sum() == 41
    query = "SELECT project, run, count(*), max(value) FROM metrics WHERE key = 'loss' GROUP BY ALL"
    assert book.sql(query).rows() == [("gpt2", "resumed", 41, 2.0)]
    assert [event["value"] for event in run.events("text")] == [{"text": "the end"}]
    assert run.problems() == []


def test_a_run_of_format_1_is_read(store: Path) -> None:
    check(lossbook.open())
    folder = RunFolder(str(store / "gpt2" / "resumed"))
    assert [found for found in verify_run(folder) if not found.ok] == []


def test_its_journal_is_sealed_and_all_its_files_are_merged_into_one_of_format_2(store: Path) -> None:
    folder = RunFolder(str(store / "gpt2" / "resumed"))
    assert seal_run(folder, finished=True).merged == 3
    check(lossbook.open())
    assert [found for found in verify_run(folder) if not found.ok] == []
    assert os.listdir(folder.metrics) == os.listdir(folder.rollups) == ["r0-000001-000003.parquet"]


def test_files_of_both_formats_are_read_side_by_side(store: Path) -> None:
    folder = RunFolder(str(store / "gpt2" / "resumed"))
    seal_run(folder, finished=False)
    assert not os.path.exists(folder.rollups)
    with pytest.MonkeyPatch.context() as patch:
        from lossbook.storage import compaction

        patch.setattr(compaction, "FEW_ROWS", 0)  # as where the files are too large to be merged for nothing
        seal_run(folder, finished=True)
    assert len(os.listdir(folder.metrics)) == 5
    assert os.listdir(folder.rollups) == ["r0-000003.parquet"]
    check(lossbook.open())
    assert [found for found in verify_run(folder) if not found.ok] == []


def test_files_that_are_written_anew_say_which_run_they_belong_to(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(store / "gpt2" / "resumed" / "journal")
    with pytest.MonkeyPatch.context() as patch:
        from lossbook.storage import compaction

        patch.setattr(compaction, "FEW_ROWS", 0)
        assert main(["seal", "--all", "--rewrite"]) == 0
        assert "2 sealed segments written anew" in capsys.readouterr().out
        assert main(["seal", "--all", "--rewrite"]) == 0
        assert "written anew" not in capsys.readouterr().out
    folder = RunFolder(str(store / "gpt2" / "resumed"))
    assert sorted(os.listdir(folder.metrics)) == sorted(os.listdir(folder.rollups))
    said = duckdb.sql(f"SELECT DISTINCT project, run FROM '{folder.metrics}/*.parquet'").fetchall()
    assert said == [("gpt2", "resumed")]
    assert [found for found in verify_run(folder) if not found.ok] == []
