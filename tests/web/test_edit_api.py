"""`POST /api/edit`: names, notes, tags and groups, changed as the command line changes them, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.cli import main
from lossbook.errors import BadArgument, StoreError, UnknownRun
from lossbook.web import schemas
from lossbook.web.api import edit as edit_api
from lossbook.web.routing import Forbidden
from lossbook.web.session import Session


@pytest.fixture
def run_json(store: Path) -> Path:
    """Where what is said about a finished run is kept."""
    lossbook.init(store=store, project="p", id="one", name="old", tags=["a"], notes="first", console=False).finish()
    return store / "p/one/run.json"


@pytest.fixture
def session(store: Path, run_json: Path) -> Iterator[Session]:
    session = Session(lossbook.open(store), editable=True)
    yield session
    session.close()


def edit(session: Session, **changes: Any) -> schemas.RunRow:
    return edit_api.edit(session, schemas.Change("p", "one", **changes))


def test_what_is_given_is_set_and_the_rest_stays(session: Session, run_json: Path) -> None:
    row = edit(session, name="  new  ", tags=["b", " c ", "b"])
    assert (row.name, row.tags, row.notes, row.group) == ("new", ["b", "c"], "first", None)
    row = edit(session, group="seeds", notes="second\nthird")
    assert (row.name, row.tags, row.notes, row.group) == ("new", ["b", "c"], "second\nthird", "seeds")
    row = edit(session, group="", notes=" ", tags=[])
    assert (row.tags, row.notes, row.group) == ([], None, None)
    kept = json.loads(run_json.read_bytes())
    assert (kept["name"], kept["tags"], kept["notes"], kept["group"]) == ("new", [], None, None)


def test_the_command_line_sees_what_the_page_set_and_the_other_way_round(
    session: Session, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(session, name="from the page", tags=["page"])
    assert main(["--store", str(store), "tag", "from the page", "+shell"]) == 0
    assert capsys.readouterr().out.split() == ["page", "shell"]
    assert main(["--store", str(store), "rename", "one", "from the shell"]) == 0
    row = edit(session, notes="x")
    assert (row.name, row.tags) == ("from the shell", ["page", "shell"])


def test_the_table_has_it_with_the_next_look(session: Session) -> None:
    listing = session.listing()
    edit(session, name="new")
    (key,) = session.listing().keys()
    assert listing.record(key).name == "new"


def test_the_table_over_http_has_it_with_the_next_question(
    served: Callable[..., Any], store: Path, run_json: Path
) -> None:
    server = served(store, editable=True)
    before = server.get("/api/runs", project="p")["revision"]
    assert server.post("/api/edit", {"project": "p", "run": "one", "name": "new"})["name"] == "new"
    changed = server.get("/api/runs", project="p", since=before)
    assert [row["name"] for row in changed["rows"]] == ["new"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "name cannot be empty"),
        ({"name": " \n"}, "name cannot be empty"),
        ({"name": "x" * 501}, "name of 501 characters is too long"),
        ({"notes": "x" * 100_001}, "notes of 100,001 characters"),
        ({"tags": ["ok", ""]}, "tag cannot be empty"),
        ({"tags": ["x" * 201]}, "tag of 201 characters"),
        ({"tags": [str(number) for number in range(201)]}, "201 tags are too many"),
        ({"group": "x" * 501}, "group of 501 characters"),
        ({}, "nothing is to be changed"),
        ({"name": "fine", "tags": [" "]}, "tag cannot be empty"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    session: Session, run_json: Path, changes: dict[str, Any], sentence: str
) -> None:
    before = run_json.read_bytes(), run_json.stat().st_mtime_ns
    with pytest.raises(BadArgument, match=sentence) as refused:
        edit(session, **changes)
    assert "\n" not in str(refused.value)
    assert (run_json.read_bytes(), run_json.stat().st_mtime_ns) == before


def test_odd_texts_are_kept_as_they_are(session: Session) -> None:
    row = edit(session, name='<b>ü</b> "日本" \x1b[31m', tags=["a,b", "+x", "-y"], notes="\0")
    assert row.name == '<b>ü</b> "日本" \x1b[31m'
    assert row.tags == ["a,b", "+x", "-y"]
    assert session.run("p", "one").name == row.name


def test_edits_of_different_things_at_the_same_moment_all_survive(session: Session, run_json: Path) -> None:
    changes: list[dict[str, Any]] = [{"name": "new"}, {"notes": "noted"}, {"tags": ["t"]}, {"group": "g"}]
    for _ in range(5):
        edit(session, name="old", notes="", tags=[], group="")
        with ThreadPoolExecutor(len(changes)) as threads:
            list(threads.map(lambda change: edit(session, **change), changes))
        kept = json.loads(run_json.read_bytes())
        assert (kept["name"], kept["notes"], kept["tags"], kept["group"]) == ("new", "noted", ["t"], "g")
    assert not list(run_json.parent.glob("*.tmp"))


def test_an_edit_while_another_attempt_begins_keeps_both(session: Session, store: Path, run_json: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        edits = threads.submit(lambda: [edit(session, notes=f"note {number}") for number in range(20)])
        for _ in range(5):
            lossbook.init(store=store, project="p", id="one", resume="must", console=False).finish()
        edits.result()
    kept = json.loads(run_json.read_bytes())
    assert len(kept["attempts"]) == 6
    assert kept["notes"] == "note 19"


def test_a_dashboard_that_only_reads_changes_nothing(served: Callable[..., Any], store: Path, run_json: Path) -> None:
    before = run_json.read_bytes()
    session = Session(lossbook.open(store))
    with pytest.raises(Forbidden, match="--edit"):
        edit(session, name="new")
    session.close()
    assert served(store).send("/api/edit", {"project": "p", "run": "one", "name": "new"}).status == 403
    assert run_json.read_bytes() == before


def test_another_trackers_runs_are_only_read(tmp_path: Path) -> None:
    logs = tmp_path / "experiment_logs"
    logs.mkdir()
    (logs / "run.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    book = lossbook.open(logs)
    session = Session(book, editable=True)
    run = book.runs()[0]
    with pytest.raises(Forbidden, match=r"another tracker's and are only read here: `lossbook import .* --to STORE`"):
        edit_api.edit(session, schemas.Change(run.project, run.id, name="new"))
    session.close()


def test_a_run_that_is_not_there_and_one_that_is_damaged_are_named(session: Session, run_json: Path) -> None:
    with pytest.raises(UnknownRun):
        edit_api.edit(session, schemas.Change("p", "none", name="new"))
    with pytest.raises(UnknownRun):
        edit_api.edit(session, schemas.Change("p", "../p/one", name="new"))
    run_json.write_bytes(b"{")
    with pytest.raises(StoreError, match="damaged"):
        edit(session, name="new")
    assert run_json.read_bytes() == b"{"
    run_json.unlink()
    with pytest.raises(StoreError, match="missing"):
        edit(session, name="new")
    assert not run_json.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_says_so(session: Session, run_json: Path) -> None:
    run_json.parent.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            edit(session, name="new")
    finally:
        run_json.parent.chmod(0o700)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"project": "p"}', b'{"project": "p", "run": "one", "name": 3}',
             b'{"project": "p", "run": "one", "tags": "a"}', b'{"project": "p", "run": "one", "state": "failed"}',
             b'{"project": "p", "run": "one", "name": "\\ud800"}', b"\xff"],
)  # fmt: skip
def test_bodies_that_cannot_be_meant_are_refused(
    served: Callable[..., Any], store: Path, run_json: Path, body: bytes
) -> None:
    before = run_json.read_bytes()
    answer = served(store, editable=True).raw("POST", "/api/edit", body, content_type="application/json")
    assert answer.status == 400
    assert run_json.read_bytes() == before
