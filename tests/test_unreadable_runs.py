"""What may not be read is said, and a store that went away is no store without runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from journals import ENDED, WrittenRun

import lossbook
from lossbook.cli import main
from lossbook.errors import StoreError, UnknownRun
from lossbook.web.api.store import store as store_page
from lossbook.web.routing import Nothing
from lossbook.web.session import Session

NOBODY = 65534


def ask(store: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """Ask a store everything; what came of it, and what a command said on standard error."""
    book = lossbook.open(store)
    found = book.runs()
    lines = [f"runs {sorted(run.id for run in found)}", *(f"unreadable {sentence}" for sentence in found.unreadable)]
    for ref in ("secret", "theirs", "nosuch"):
        try:
            book.run(ref)
        except UnknownRun as error:
            lines.append(f"run {ref} {error}")
    try:
        book.kept_run("p", "secret")
    except UnknownRun as error:
        lines.append(f"kept {error}")
    for id in ("nameless", "empty"):
        lines += [f"{id} {sentence}" for sentence in book.run(id).problems()]
    session = Session(book)
    page = store_page(session, Nothing())
    session.close()
    lines.append(f"page {sorted((one.name, one.runs) for one in page.projects)}")
    lines += [f"shown {sentence}" for sentence in page.unreadable]
    capsys.readouterr()
    assert main(["ls", "--store", str(store), "--columns", "id", "--json"]) == 0
    return lines, capsys.readouterr().err


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes this process somebody who may not read all: root may whatever the modes are."""
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)

    def become() -> None:
        cache = tmp_path / "cache of somebody"
        cache.mkdir()
        cache.chmod(0o777)
        monkeypatch.setenv("LOSSBOOK_CACHE", str(cache))
        os.seteuid(NOBODY)

    yield become
    os.seteuid(0)


def record(folder: Path) -> WrittenRun:
    run = WrittenRun(
        folder,
        project=folder.parent.name,
        name=f"name of {folder.name}",
        attempts=[WrittenRun.attempt_entry(0, **ENDED)],
    )
    run.segment([{"loss": 1.0}], end="finished")
    return run


@pytest.mark.root
def test_a_project_a_run_and_a_file_that_may_not_be_read_are_named(
    tmp_path: Path, somebody: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    for id in ("open", "secret", "nameless", "empty"):
        record(store / "p" / id)
    record(store / "hers" / "theirs")
    ask(store, capsys)  # what is imported lies where others may not read
    closed = [store / "p/secret", store / "hers", store / "p/nameless/run.json", store / "p/empty/journal"]
    for path in closed:
        path.chmod(0o700)
    somebody()
    for _ in range(2):  # the second time from the index
        lines, said = ask(store, capsys)
        assert "runs ['empty', 'nameless', 'open']" in lines
        assert "page [('p', 3)]" in lines
        for path in (store / "hers", store / "p" / "secret"):
            for kind in ("unreadable", "shown"):
                assert any(line.startswith(f"{kind} {path} cannot be read") for line in lines), (kind, path)
            assert f"{path} cannot be read" in said
        for ref in ("secret", "theirs", "nosuch"):
            assert any(line.startswith(f"run {ref} ") and "check who owns it" in line for line in lines)
        assert any(line.startswith("kept") and "check who owns it" in line for line in lines)
        assert any(line.startswith("nameless") and "run.json cannot be read" in line for line in lines)
        assert any(line.startswith("empty") and "journal cannot be listed" in line for line in lines)
    # What may be read one day is there then, though its folder has not changed.
    os.seteuid(0)
    for path in closed:
        path.chmod(0o755)
    os.seteuid(NOBODY)
    lines, said = ask(store, capsys)
    assert "runs ['empty', 'nameless', 'open', 'secret', 'theirs']" in lines
    assert not any("cannot be" in line for line in lines)
    assert said == ""


def test_a_store_that_went_away_is_said_and_back_when_it_is(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record(store / "p" / "abc")
    book = lossbook.open(store)
    listing, session = book.listing(), Session(book)
    try:
        listing.look()
        assert store_page(session, Nothing()).projects[0].runs == 1
        shutil.move(store, tmp_path / "unmounted")
        for ask in (
            book.runs,
            book.projects,
            book.run,
            listing.look,
            lambda: book.kept_run("p", "abc"),
            lambda: book.sql("select * from runs"),
        ):
            with pytest.raises(StoreError, match="not there any more") as caught:
                ask()
            assert not isinstance(caught.value, UnknownRun)
        assert [key.id for key in listing.keys("p")] == ["abc"]
        shutil.move(tmp_path / "unmounted", store)
        assert [run.id for run in book.runs()] == ["abc"]
        assert not listing.look(everything=True).removed
        assert book.kept_run("p", "abc").metrics["loss"]["count"] == 1
    finally:
        session.close()


def test_the_page_says_that_its_store_went_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record(store / "p" / "abc")
    session = Session(lossbook.open(store))
    try:
        assert store_page(session, Nothing()).projects[0].runs == 1
        shutil.rmtree(store)
        session.touch("p", "abc")
        with pytest.raises(StoreError, match="not there any more"):
            store_page(session, Nothing())
    finally:
        session.close()
