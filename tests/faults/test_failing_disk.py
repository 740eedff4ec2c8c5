"""A disk or a file server that fails now and then: readers say so, and never take what they could not read for nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from untouched import make_store

import lossbook
from lossbook.errors import StoreError


def fail(*_: object) -> Any:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_store_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = lossbook.open(make_store(store))
    assert len(book.runs()) > 5
    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StoreError, match=r"cannot be read \(Stale file handle\)"):
        book.runs()


def test_a_store_that_is_gone_or_belongs_to_another_has_no_runs(store: Path) -> None:
    make_store(store)
    (store / "a file").write_text("")
    (store / "a link").symlink_to("a link")
    assert len(lossbook.open(store).runs()) > 5


def test_a_file_that_fails_while_it_is_read_is_named(store: Path) -> None:
    run = lossbook.open(make_store(store)).run("dead")

    def question() -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "journal/r0-000001.jsonl")

    with pytest.raises(StoreError, match=r"journal/r0-000001\.jsonl cannot be read \(Input/output error\)"):
        run.consistently(question)


def test_a_run_whose_folder_does_not_answer_for_once_stays_in_the_list(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {run.id for run in lossbook.open(make_store(store)).runs()}
    stat = os.stat

    def fail_once(path: Any, *arguments: Any, **more: Any) -> Any:
        if str(path).endswith("/finished") and not failed:
            failed.append(path)
            fail()
        return stat(path, *arguments, **more)

    failed: list[object] = []
    monkeypatch.setattr(os, "stat", fail_once)
    assert {run.id for run in lossbook.open(store).runs()} == names
