"""A store of several people: what one makes there another may change exactly where the umask and the folder say so."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import REPOSITORY, only_run, recorded
from waiting import wait_until

from lossbook.cli.followers import follower_of

GROUP, ALICE, BOB = 64_000, 64_001, 64_002

TRAIN = """
import sys, lossbook
run = lossbook.init(store=sys.argv[1], project="p", id=sys.argv[2], resume="allow", config={"lr": 1e-3})
print("what the console shows")
for step in range(400):
    run.log({"loss": 1.0 / (step + 1)}, step=run.attempt * 400 + step)
run.log({"picture": lossbook.Image([[0, 255], [255, 0]]), "sample": lossbook.Text("hello")})
run.alert("a spike")
run.note("done")
with open("weights.txt", "w") as file:
    file.write("weights")
run.save("weights.txt")
artifact = run.log_artifact("weights.txt", name="weights")
run.finish()
"""


class Member:
    """A person of the team, or this test's own user where it may be nobody else."""

    def __init__(self, home: Path, umask: int, user: int | None) -> None:
        self._home, self._umask, self._user = home, umask, user
        home.mkdir()
        if user is not None:
            os.chown(home, user, GROUP)

    def run(self, *words: Any, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these words, in this person's folder and under this person's umask."""
        prefix = []
        if self._user is not None:
            # Reading everything is kept, for the interpreter may lie in a folder of root's; writing is what is tested.
            kept = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
            prefix = ["setpriv", f"--reuid={self._user}", f"--regid={GROUP}", "--clear-groups", *kept]
        return subprocess.run(
            [*prefix, sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self._home,
            umask=self._umask,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "LOSSBOOK_CACHE": str(self._home / "cache"),
                "LOSSBOOK_SEGMENT_BYTES": "8000",
                **environment,
            },
        )

    def train(self, store: Path, run_id: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("-c", TRAIN, store, run_id, **environment)

    def command(self, *words: Any) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "lossbook.cli", *words)


def entries(store: Path) -> dict[str, int]:
    """The permissions of all that lies in a store, by path."""
    found = {}
    for place, folders, files in os.walk(store):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            found[os.path.relpath(path, store)] = stat.S_IMODE(os.lstat(path).st_mode)
    return found


def is_left_by_its_follower(store: Path) -> bool:
    return follower_of(only_run(store).path) is None


@pytest.mark.usefixtures("follower")
@pytest.mark.parametrize("umask", [0o002, 0o007, 0o022, 0o077])
def test_every_file_of_a_run_has_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    store = tmp_path / "store"
    store.mkdir()
    member = Member(tmp_path / "alice", umask, None)
    trained = member.train(store, "r", LOSSBOOK_SYSTEM_INTERVAL="0.2")
    assert trained.returncode == 0, trained.stderr
    wait_until(lambda: is_left_by_its_follower(store), 60)
    for words in (["rename", "r", "renamed"], ["seal", "r"], ["show", "r"], ["rm", "r"], ["undo"]):
        assert member.command(*words, "--store", store).returncode == 0
    found = entries(store)
    assert {"p/r/media", "p/r/metrics", "p/r/events", "p/r/console", "p/r/followers", "p/r/digests"} <= set(found)
    wrong = {path: oct(mode) for path, mode in found.items() if mode & 0o666 & ~0o111 != 0o666 & ~umask}
    assert wrong == {}


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A folder that belongs to a group, as it is set up for a team."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("acting as other users needs root and setpriv")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    store = tmp_path / "store"
    store.mkdir()
    os.chown(store, 0, GROUP)
    store.chmod(0o2770)
    return store


@pytest.mark.usefixtures("follower")
@pytest.mark.root
@pytest.mark.parametrize("umask", [0o002, 0o007])
def test_another_member_of_the_team_names_seals_resumes_and_removes_a_run(
    team: Path, tmp_path: Path, umask: int
) -> None:
    alice, bob = Member(tmp_path / "alice", umask, ALICE), Member(tmp_path / "bob", umask, BOB)
    trained = alice.train(team, "r", LOSSBOOK_FOLLOWER="off")
    assert (trained.returncode, trained.stderr.count("lossbook:")) == (0, 0), trained.stderr
    for words in (["seal", "r"], ["rename", "r", "bobs"], ["show", "r"], ["verify", "r"]):
        done = bob.command(*words, "--store", team)
        assert done.returncode == 0, (words, done.stderr)
    resumed = bob.train(team, "r")
    assert (resumed.returncode, resumed.stderr.count("lossbook:")) == (0, 0), resumed.stderr
    wait_until(lambda: is_left_by_its_follower(team), 60)
    run = recorded(only_run(team))
    assert (run.name, len(run.info.attempts)) == ("bobs", 2)
    assert len(run.history(["loss"]).rows()) == 800
    assert {os.stat(team / path).st_uid for path in entries(team)} == {ALICE, BOB}
    assert {os.stat(team / path).st_gid for path in entries(team)} == {GROUP}
    removed = bob.command("rm", "r", "--store", team)
    assert removed.returncode == 0, removed.stderr
    back = alice.command("undo", "--store", team)
    assert back.returncode == 0, back.stderr
    assert alice.train(team, "r").returncode == 0


@pytest.mark.usefixtures("follower")
@pytest.mark.root
def test_what_a_umask_keeps_from_others_is_said_in_one_sentence(team: Path, tmp_path: Path) -> None:
    alice, bob = Member(tmp_path / "alice", 0o022, ALICE), Member(tmp_path / "bob", 0o022, BOB)
    assert alice.train(team, "r", LOSSBOOK_FOLLOWER="off").returncode == 0
    before = entries(team)
    for words in (["rename", "r", "bobs"], ["seal", "r"], ["rm", "r"], ["mv", "r", "--project", "q"]):
        refused = bob.command(*words, "--store", team)
        assert refused.returncode != 0, words
        (said,) = refused.stderr.splitlines()
        assert f"Permission denied: it belongs to user {ALICE}" in said, words
        assert "`umask 002`" in said, words
    assert bob.command("show", "r", "--store", team).returncode == 0
    assert entries(team).keys() == before.keys()
    resumed = bob.train(team, "r", LOSSBOOK_FOLLOWER="off")
    assert resumed.returncode == 0
    (said,) = [line for line in resumed.stderr.splitlines() if line.startswith("lossbook: ")]
    assert "`umask 002`" in said
    assert "rescued" in said
