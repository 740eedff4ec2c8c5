"""What things are called: names are safe, a run's files have one place each, and they are replaced in one step."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lossbook import paths
from lossbook.errors import BadArgument, DamagedFile, StoreError
from lossbook.paths import (
    RunFolder,
    SegmentName,
    cache_folder,
    default_project,
    default_store,
    folder_lock,
    new_run_id,
    parse_segment_name,
    read_json,
    replace_file,
    run_folder,
    run_folders,
    safe_name,
    write_json,
)
from lossbook.run_info import edit_run_info


@pytest.mark.parametrize("name", ["gpt2", "my-project_2", "v1.5", "A" * 80, "_x"])
def test_a_plain_name_is_its_own_folder(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b", "", ".", "..", ".hidden", "-rf", "nul\0", "größe", "a b", "x" * 200, "a\n"]
)
def test_any_other_name_becomes_one_safe_folder_of_its_own(name: str) -> None:
    folder = safe_name(name)
    assert folder != name
    assert folder == os.path.basename(folder)
    assert folder[0] not in ".-"
    assert len(folder) <= 80
    assert safe_name(folder) == folder


@given(st.lists(st.text(), unique=True, min_size=2, max_size=5))
def test_two_names_never_share_a_folder(names: list[str]) -> None:
    assert len({safe_name(name) for name in names}) == len(names)


def test_a_lone_surrogate_in_a_name_is_no_error() -> None:
    assert safe_name("\ud800").isascii()


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "", ".trash", "-rf"])
def test_a_run_id_that_leaves_the_store_is_refused(run_id: str) -> None:
    with pytest.raises(BadArgument, match="cannot be a folder name"):
        run_folder("store", "p", run_id)


def test_run_ids_are_safe_and_differ() -> None:
    ids = {new_run_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(safe_name(one) == one and len(one) == 8 and one[0].isalpha() for one in ids)
    assert not set("".join(ids)) & set("01lo")


def test_the_default_project_is_the_repository_and_a_checksum_of_where_it_lies(tmp_path: Path) -> None:
    deep = tmp_path / "nanogpt" / "src" / "model"
    deep.mkdir(parents=True)
    (tmp_path / "nanogpt" / ".git").mkdir()
    checksum = hashlib.sha256(os.fsencode(tmp_path / "nanogpt")).hexdigest()[:8]
    assert default_project(str(deep)) == f"nanogpt-{checksum}"


def test_without_a_repository_the_working_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checksum = hashlib.sha256(os.fsencode(tmp_path)).hexdigest()[:8]
    assert default_project() == f"{tmp_path.name}-{checksum}"


def test_the_environment_names_the_store_and_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_store() == "lossbook-runs"
    monkeypatch.setenv("LOSSBOOK_STORE", "/somewhere")
    monkeypatch.setenv("LOSSBOOK_CACHE", "/cache")
    assert (default_store(), cache_folder()) == ("/somewhere", "/cache")
    monkeypatch.delenv("LOSSBOOK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == "/xdg/lossbook"


# -- segments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("r0-000001.jsonl", SegmentName(0, 1, 1)),
        ("r12-000345.parquet", SegmentName(12, 345, 345)),
        ("r-3-000001.rollup.parquet", SegmentName(-3, 1, 1)),
        ("r0-000001-000008.parquet", SegmentName(0, 1, 8)),
        ("r0-1234567", SegmentName(0, 1234567, 1234567)),
    ],
)
def test_a_segment_name_says_whose_and_which(filename: str, name: SegmentName) -> None:
    assert parse_segment_name(filename) == name
    assert filename.startswith(name.stem)


@pytest.mark.parametrize(
    "filename", ["", "r0.jsonl", "r0-1.jsonl", "rx-000001.jsonl", "notes", "r0-000001-8.parquet", "R0-000001"]
)
def test_other_files_are_no_segments(filename: str) -> None:
    assert parse_segment_name(filename) is None


def test_a_merged_segment_covers_those_it_was_made_of() -> None:
    merged = SegmentName(0, 1, 8)
    assert merged.covers(SegmentName(0, 8, 8))
    assert not merged.covers(SegmentName(0, 8, 9))
    assert not merged.covers(SegmentName(1, 2, 2))


# -- a store ------------------------------------------------------------------------------------------------------


def test_a_store_is_walked_past_foreign_files(tmp_path: Path) -> None:
    for path in ("p/a", "p/b", "q/c", ".trash/p/d", "p/.hidden"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "README.txt").write_text("mine")
    (tmp_path / "p" / "notes.md").write_text("mine")
    found = [os.path.relpath(folder.path, tmp_path) for folder in run_folders(str(tmp_path))]
    assert sorted(found) == ["p/a", "p/b", "q/c"]


def test_a_store_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert list(run_folders(str(tmp_path / "none"))) == []


# -- small JSON files ---------------------------------------------------------------------------------------------


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "run.json")
    assert read_json(path) is None
    write_json(path, {"name": "größe", "steps": [1, 2], "best": None})
    assert read_json(path) == {"name": "größe", "steps": [1, 2], "best": None}
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("contents", [b"", b"{", b"[1]", b"\x00" * 100, b'{"a":1}}'])
def test_a_damaged_json_file_is_named_in_the_error(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(contents)
    with pytest.raises(DamagedFile, match=r"run\.json is damaged"):
        read_json(str(path))


def test_a_file_that_cannot_be_read_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(str(tmp_path))


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def refuse(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        replace_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"], "nothing half-written is left"


def test_changes_to_run_json_by_many_at_once_are_all_kept(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    write_json(folder.run_json, {"id": "one", "tags": []})

    def add(tag: str) -> None:
        edit_run_info(folder, lambda info: info._replace(tags=(*info.tags, tag)), durable=False)

    threads = [threading.Thread(target=add, args=(f"tag-{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((read_json(folder.run_json) or {})["tags"]) == sorted(f"tag-{number}" for number in range(16))


def test_a_lock_is_held_by_one_and_let_go_in_the_end(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    with folder_lock(folder, "seal") as mine:
        with folder_lock(folder, "seal", seconds=0.0) as second, folder_lock(folder, "run") as other:
            assert (mine, second, other) == (True, False, True)
    with folder_lock(folder, "seal", seconds=0.0) as again:
        assert again


def test_where_locks_cannot_be_had_the_work_goes_on(tmp_path: Path) -> None:
    (tmp_path / "followers").write_text("a file in the folder's place")
    with folder_lock(RunFolder(str(tmp_path)), "run") as held:
        assert not held
