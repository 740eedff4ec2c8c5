"""What a container leaves out: git, a home, an entry in /etc/passwd, a writable root. Runs are recorded all the same."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from programs import REPOSITORY, only_run, recorded, steps

import lossbook
from lossbook.paths import cache_folder

STRANGER = 64_009

TRAIN = """
import sys, lossbook
run = lossbook.init(store=sys.argv[1], project="p", config={"lr": 1e-3})
for step in range(20):
    run.log({"loss": 1.0 / (step + 1)}, step=step)
run.finish()
print(run.path)
"""


def train(
    store: Path, *, prefix: tuple[str, ...] = (), without: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own; `without` are variables that it does not have."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", TRAIN, str(store)],
        env={**kept, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=store.parent,
    )
    assert done.returncode == 0, done.stderr
    return done


def is_whole(store: Path) -> bool:
    folder = only_run(store)
    return steps(folder) == list(range(20)) and recorded(folder).state == "finished"


def test_no_git_and_no_other_program(store: Path) -> None:
    assert train(store, PATH="/nonexistent").stderr == ""
    assert is_whole(store)


@pytest.mark.usefixtures("follower")
def test_no_home(store: Path) -> None:
    assert train(store, without=("HOME", "LOSSBOOK_CACHE", "XDG_CACHE_HOME")).stderr == ""
    assert recorded(only_run(store)).state == "finished"


def test_a_run_that_finds_neither_its_store_nor_a_home_is_kept_below_tmpdir(
    tmp_path: Path, below_a_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(below_a_file))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("LOSSBOOK_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with lossbook.init(store=below_a_file / "store", project="p", console=False) as run:
        run.log({"loss": 1.0})
    kept = tmp_path / f"lossbook-cache-{os.geteuid()}"
    assert run.path.startswith(str(kept / "rescued"))
    assert str(kept) in capsys.readouterr().err
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def test_a_folder_that_others_can_write_is_no_cache(
    tmp_path: Path, below_a_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOSSBOOK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(below_a_file))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    taken = tmp_path / f"lossbook-cache-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    assert cache_folder() != str(taken)


@pytest.mark.root
def test_a_user_whom_the_container_does_not_know(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("acting as another user needs root and setpriv")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    kept = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
    stranger = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *kept)
    nowhere = ("HOME", "LOSSBOOK_CACHE", "XDG_CACHE_HOME")
    assert train(place / "store", prefix=stranger, without=nowhere).stderr == ""
    assert is_whole(place / "store")
    assert recorded(only_run(place / "store")).info.host.user is None
    done = train(tmp_path / "store", prefix=stranger, without=nowhere, TMPDIR=str(place))
    assert done.stdout.startswith(str(place / f"lossbook-cache-{STRANGER}"))
    assert not (tmp_path / "~").exists()


@pytest.mark.usefixtures("follower")
@pytest.mark.root
def test_a_root_that_is_read_only_but_for_the_store(tmp_path: Path, store: Path) -> None:
    store.mkdir(exist_ok=True)
    closed = " && ".join(
        f"{{ ! mountpoint -q {path} && ! [ {path} = / ] || mount -o remount,bind,ro {path}; }}"
        for path in ("/dev/shm", "/tmp", "/")
    )
    script = f'mount --bind "$1" "$1" && {closed} && ! touch /beside 2>/dev/null && shift && exec "$@"'
    can_mount = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(store), "true"], capture_output=True, check=False
    )
    if can_mount.returncode:
        pytest.skip(f"a read-only root needs mount namespaces ({can_mount.stderr.decode().strip()})")
    done = train(store, prefix=("unshare", "-m", "sh", "-c", script, "sh", str(store)), without=("LOSSBOOK_CACHE",))
    assert done.stderr == ""
    assert recorded(only_run(store)).state == "finished"


def test_two_stores_in_one_process(tmp_path: Path) -> None:
    first = lossbook.init(store=tmp_path / "a", project="p", console=False)
    second = lossbook.init(store=tmp_path / "b", project="p", console=False, reinit="create_new")
    for step in range(20):
        first.log({"loss": 1.0}, step=step)
        second.log({"loss": 2.0}, step=step)
    first.finish()
    second.finish()
    assert is_whole(tmp_path / "a")
    assert is_whole(tmp_path / "b")
