"""Real runs in a store, and the command run on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Command, Result, record
from waiting import wait_until

import lossbook
from lossbook.cli import main
from lossbook.cli.followers import follower_of


def fail_training(run: lossbook.Run) -> None:
    run.log({"loss": 1.0})
    raise RuntimeError("out of memory")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as training left it; tests work on copies of it."""
    store = tmp_path_factory.mktemp("recorded") / "store"
    record(store, "baseline", tags=("ablation",))
    record(store, "wide", lr=1e-3)
    broken = lossbook.init(store=store, project="other", name="broken", console=False)
    with pytest.raises(RuntimeError, match="out of memory"), broken:
        fail_training(broken)
    wait_until(lambda: follower_of(broken.path) is None)
    return store


@pytest.fixture
def store(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recorded store, which the environment names as the default one."""
    copy = tmp_path / "store"
    shutil.copytree(recorded, copy)
    monkeypatch.setenv("LOSSBOOK_STORE", str(copy))
    monkeypatch.setenv("LOSSBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return copy


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `lossbook` in this process."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        status = main([os.fspath(one) if isinstance(one, Path) else str(one) for one in arguments])
        written = capfd.readouterr()
        return Result(status, written.out, written.err)

    return run


@pytest.fixture
def run_id(command: Command, store: Path) -> Callable[[str], str]:
    """The id of a run by its name."""

    def find(name: str) -> str:
        return str(next(one["id"] for one in command("ls", "--json").json if one["name"] == name))

    return find
