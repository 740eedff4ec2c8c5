"""`run.json` has one owner: it is parsed, checked, edited and written back without losing what it does not know."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

import lossbook
from lossbook.errors import DamagedFile
from lossbook.paths import RunFolder
from lossbook.run_info import (
    Attempt,
    Host,
    Parent,
    edit_run_info,
    load_run_info,
    parse_run_info,
    read_run_info,
    with_attempt,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    path = tmp_path / "project" / "run-1"
    path.mkdir(parents=True)
    return RunFolder(str(path))


def write(folder: RunFolder, values: object) -> None:
    Path(folder.run_json).write_bytes(orjson.dumps(values))


def test_what_init_wrote_is_parsed_and_written_back_byte_for_byte(store: Path) -> None:
    with lossbook.init(
        store=str(store), project="p", id="r1", config={"lr": 3e-4, "opt": {"name": "adamw"}}, tags=["a"]
    ):
        pass
    folder = RunFolder(str(store / "p" / "r1"))
    written = Path(folder.run_json).read_bytes()
    info = load_run_info(folder)
    assert info is not None
    assert (info.id, info.project, info.config["lr"], info.tags) == ("r1", "p", 3e-4, ("a",))
    assert info.last_attempt.number == 0
    assert info.last_attempt.resume_step is None
    edit_run_info(folder, lambda now: now)
    assert Path(folder.run_json).read_bytes() == written


def test_fields_of_a_newer_version_stay_where_they_are(folder: RunFolder) -> None:
    newer = {
        "id": "run-1",
        "name": "n",
        "project": "p",
        "sweep": {"id": 7},
        "host": {"name": "h", "gpu": "H200"},
        "attempts": [{"number": 0, "lease": "x"}],
    }
    write(folder, newer)
    edit_run_info(folder, lambda info: info._replace(notes="read again"))
    now = orjson.loads(Path(folder.run_json).read_bytes())
    assert now["sweep"] == {"id": 7}
    assert now["host"]["gpu"] == "H200"
    assert now["attempts"][0]["lease"] == "x"
    assert now["notes"] == "read again"


def test_what_has_another_type_is_left_out_and_named(folder: RunFolder) -> None:
    info, wrong = parse_run_info({"name": ["a"], "tags": 5, "created": "today", "argv": 5, "notes": "kept"}, folder)
    assert (info.name, info.project, info.tags, info.created, info.argv) == ("run-1", "project", (), 0, ())
    assert info.notes == "kept"
    assert wrong == [
        '"name" is not a text',
        '"created" is not a time in microseconds',
        '"tags" is not a list of texts',
        '"argv" is not a list of texts',
    ]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null"])
def test_a_run_json_that_cannot_be_read_is_a_run_without_a_name_and_a_sentence(folder: RunFolder, text: bytes) -> None:
    Path(folder.run_json).write_bytes(text)
    info, wrong = read_run_info(folder)
    assert (info.name, info.created, info.attempts) == ("run-1", 0, ())
    assert len(wrong) == 1
    assert folder.run_json in wrong[0]
    with pytest.raises(DamagedFile):
        load_run_info(folder)


def test_a_missing_run_json_is_told_from_a_damaged_one(folder: RunFolder) -> None:
    assert load_run_info(folder) is None
    assert "is missing" in read_run_info(folder)[1][0]


def test_attempts_hosts_and_parents_are_typed(folder: RunFolder) -> None:
    values = {
        "host": {"name": "node-1", "cpus": 96},
        "parent": {"project": "p", "run": "base", "step": 100},
        "attempts": [{"pid": 7}, {"resume_step": 50}],
    }
    info = parse_run_info(values, folder)[0]
    assert info.host == Host(name="node-1", cpus=96)
    assert info.parent == Parent("p", "base", 100)
    assert info.attempts == (Attempt(number=0, pid=7), Attempt(number=1, resume_step=50))
    assert info.resume_steps() == {0: None, 1: 50}
    assert with_attempt(info, 1, host="node-2").attempts[1].host == "node-2"
