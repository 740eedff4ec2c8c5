"""`/api/run/code`: what was captured of the code, per attempt, of bounded size, with its secrets masked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import BadArgument
from lossbook.follower.capture import capture
from lossbook.paths import RunFolder
from lossbook.web import schemas
from lossbook.web.api import code as code_api
from lossbook.web.api.code import CodeQuestion
from lossbook.web.session import Session


@pytest.fixture
def run_path(store: Path) -> Path:
    lossbook.init(store=store, project="p", id="one", console=False).finish()
    return Path(store / "p/one")


@pytest.fixture
def session(store: Path, run_path: Path) -> Iterator[Session]:
    session = Session(lossbook.open(store))
    yield session
    session.close()


def asked(session: Session, attempt: int | None = None) -> schemas.Code:
    return code_api.code(session, CodeQuestion("p", "one", attempt))


def captured(folder: Path, **files: str) -> None:
    """Put files of a captured attempt into place."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_what_was_captured_is_shown(
    session: Session, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for command in (
        ["init", "-q", "-b", "main"],
        ["config", "user.email", "a@example.org"],
        ["config", "user.name", "a"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    (repository / "train.py").write_text("lr = 1\n")
    subprocess.run(["git", "add", "."], cwd=repository, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "first"], cwd=repository, check=True)
    (repository / "train.py").write_text('lr = 2\npassword = "hunter2hunter2"\n')
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "argv", [str(repository / "train.py")])
    monkeypatch.setenv("WANDB_API_KEY", "not-for-anybody")
    run = lossbook.init(store=store, project="p", id="two", console=False)
    capture(RunFolder(run.path), attempt=0, main=True)
    run.finish()
    found = code_api.code(session, CodeQuestion("p", "two"))
    assert found.git is not None
    assert (found.git["branch"], found.git["dirty"]) == ("main", True)
    assert found.diff is not None
    assert "+lr = 2" in found.diff
    assert "hunter2hunter2" not in found.diff
    assert not found.diff_truncated
    assert found.packages is not None
    assert "orjson==" in found.packages
    assert found.environment is not None
    assert "not-for-anybody" not in json.dumps(found.environment)
    assert (found.attempts, found.attempt, found.problems) == ([0], 0, [])


def test_a_run_of_which_nothing_was_captured_has_nothing_to_show(session: Session) -> None:
    found = asked(session)
    assert (found.git, found.diff, found.script, found.packages, found.environment) == (None, None, None, None, None)
    assert found.attempts == []
    assert found.script_name


def test_each_attempt_has_code_of_its_own(session: Session, run_path: Path) -> None:
    captured(run_path / "code", packages__txt="a==1\n", train__py="first", git__json='{"commit": "abc"}')
    captured(run_path / "code/attempt-2", packages__txt="a==2\n", train__py="third")
    assert asked(session).packages == "a==2\n"
    assert asked(session).attempt == 2
    first = asked(session, 0)
    assert (first.packages, first.script, first.script_name) == ("a==1\n", "first", "train.py")
    assert first.git == {"commit": "abc"}
    assert asked(session, 2).script == "third"
    assert asked(session).attempts == [0, 2]
    for attempt in (1, -1, 10**9):
        with pytest.raises(BadArgument, match="no code of attempt"):
            asked(session, attempt)


def test_a_large_diff_is_cut_and_says_so(session: Session, run_path: Path) -> None:
    captured(run_path / "code", diff__patch="ü" * code_api.MOST_DIFF_BYTES)
    found = asked(session)
    assert found.diff is not None
    assert len(found.diff) == code_api.MOST_DIFF_BYTES // 2
    assert found.diff_truncated
    assert "longer than 2 MB" in found.problems[0]


@pytest.mark.parametrize("contents", ["", "{", "[1]", "\0"])
def test_a_damaged_file_is_a_problem_and_the_rest_is_shown(session: Session, run_path: Path, contents: str) -> None:
    captured(run_path / "code", git__json=contents, environment__json=contents, packages__txt="a==1\n")
    found = asked(session)
    assert (found.git, found.environment, found.packages) == (None, None, "a==1\n")
    assert len(found.problems) == 2


def test_links_pipes_and_folders_in_place_of_files_hold_up_nobody(
    session: Session, run_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    captured(run_path / "code", packages__txt="a==1\n")
    (run_path / "code/diff.patch").symlink_to(tmp_path / "secret")
    (run_path / "code/script.py").symlink_to(tmp_path / "secret")
    (run_path / "code/git.json").mkdir()
    os.mkfifo(run_path / "code/environment.json")
    found = asked(session)
    assert (found.diff, found.script, found.git, found.environment) == (None, None, None, None)
    assert found.packages == "a==1\n"
    assert len(found.problems) == 3


def test_code_is_served(served: Callable[..., Any], store: Path, run_path: Path) -> None:
    captured(run_path / "code", packages__txt="a==1\n")
    server = served(store)
    assert server.get("/api/run/code", project="p", run="one", attempt=0)["packages"] == "a==1\n"
    assert server.ask("/api/run/code", project="p", run="one", attempt=3).status == 400
