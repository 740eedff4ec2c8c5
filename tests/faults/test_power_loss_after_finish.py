"""`sync()` and `finish()` flush everything that a loss of power must not take: the list in `journal/flush.py`, traced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from programs import only_run

import lossbook
from lossbook.journal import flush, writer


class Flushed:
    """The calls of `fsync`, by the path that the descriptor led to at that time."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def fsync(self, fd: int) -> None:
        self.paths.append(os.readlink(f"/proc/self/fd/{fd}"))


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Flushed:
    """What is flushed in this test, by a process that has flushed nothing before."""
    found = Flushed()
    monkeypatch.setattr(os, "fsync", found.fsync)
    monkeypatch.setattr(flush, "folders_with_safe_names", set())
    return found


def promised(store: Path) -> set[str]:
    """Every file of the one run that holds what was recorded, and every folder on the way to it."""
    folder = only_run(store)
    files = [Path(folder.run_json)]
    for place in (folder.journal, folder.media, folder.files):
        files += [path for path in Path(place).rglob("*") if path.is_file()]
    folders = {above for path in files for above in path.parents if store.parent in (above, *above.parents)}
    return {str(path) for path in [*files, *folders]}


def record_everything(store: Path, tmp_path: Path, **arguments: Any) -> lossbook.Run:
    run = lossbook.init(store=store, project="p", console=False, system_metrics=False, **arguments)
    for step in range(30):
        run.log({"loss": float(step)}, step=step)
    run.log({"picture": lossbook.Image([[0, 255]]), "table": lossbook.Table(["a"], [["x" * 9000]] * 40)})
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(b"weights")
    run.save(checkpoint)
    inside = Path(run.folder.files, "deep", "notes.txt")
    inside.parent.mkdir(parents=True)
    inside.write_text("notes")
    run.save(inside)
    run.name = "renamed"
    return run


@pytest.mark.parametrize("durability", ["process", "async"])
def test_finish_flushes_every_file_and_folder_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: Flushed, durability: str
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 700)
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    store = tmp_path / "made" / "with" / "the run"
    record_everything(store, tmp_path, durability=durability).finish()
    expected = promised(store)
    assert len([path for path in expected if path.endswith(".jsonl")]) > 1
    assert {"media", "files", "deep", "journal"} <= {os.path.basename(path) for path in expected}
    assert expected - set(flushed.paths) == set()
    assert str(tmp_path / "made") in flushed.paths, "the store's folder was made with the run as well"


def test_what_was_flushed_is_not_flushed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: Flushed
) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    store = tmp_path / "store"
    run = record_everything(store, tmp_path)
    assert run.sync()
    flushed.paths.clear()
    run.log({"loss": 1.0})
    assert run.sync()
    folder = only_run(store)
    assert sorted(flushed.paths) == sorted([f"{folder.journal}/r0-000001.jsonl", folder.journal, folder.path])
    run.finish()


def test_a_run_with_more_pictures_than_are_remembered_flushes_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: Flushed
) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    monkeypatch.setattr(flush, "MOST_NAMES", 3)
    store = tmp_path / "store"
    run = lossbook.init(store=store, project="p", console=False, system_metrics=False)
    for shade in range(10):
        run.log({"picture": lossbook.Image([[shade, 255]])})
    run.finish()
    assert len(list(Path(only_run(store).media).iterdir())) == 10
    assert promised(store) - set(flushed.paths) == set()


def test_nothing_is_flushed_while_training_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flushed: Flushed
) -> None:
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")
    run = record_everything(tmp_path / "store", tmp_path)
    assert flushed.paths == []
    run.finish()
