"""One follower a node and store: runs are handed over in a folder on the local disk, and nobody waits for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lossbook
from lossbook.cli.followers import follower_of, living_followers
from lossbook.journal.reader import journal_segments
from lossbook.paths import RunFolder, read_json
from lossbook.run.handover import Handover, HandoverFolder, Unshared, hand_over, handover_folder

REPOSITORY = Path(__file__).resolve().parents[1]
WaitUntil = Callable[..., None]

SHORT_RUNS = """
import sys, lossbook
for number in range(int(sys.argv[2])):
    with lossbook.init(store=sys.argv[1], project=sys.argv[3], id=f"r{number}", console=False) as run:
        for step in range(20):
            run.log({"loss": float(number + step)}, step=step)
"""
ONE_RUN = """
import sys, lossbook
run = lossbook.init(store=sys.argv[1], project="p", id=sys.argv[2], console=False)
run.log({"loss": 1.0}, step=0)
print("logged", flush=True)
sys.stdin.readline()
run.log({"loss": 2.0}, step=1)
run.finish()
"""


@pytest.fixture(autouse=True)
def handed_over_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the tests' runs are handed over."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def start(code: str, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
    )


def start_one(store: Path, run: str, **variables: str) -> subprocess.Popen[bytes]:
    process = start(ONE_RUN, store, run, **variables)
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    return process


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.communicate(b"\n", timeout=60)


def folder_of(store: Path, run: str) -> RunFolder:
    return RunFolder(str(store / "p" / run))


def all_followed(store: Path) -> bool:
    return not any(Path(path).is_relative_to(store) for path in living_followers())


# -- whole trainings ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_many_short_runs_of_two_processes_share_one_follower(
    store: Path, handed_over_here: Path, wait_until: WaitUntil
) -> None:
    trainings = [start(SHORT_RUNS, store, 30, project) for project in ("p", "q")]
    end(*trainings)
    wait_until(lambda: all_followed(store), 60)
    runs = lossbook.open(store).runs()
    assert len(runs) == 60
    logs = "".join(Path(run.folder.followers, "follow.log").read_text() for run in runs)
    assert len(set(re.findall(r"follower (\d+) of process", logs))) == 1
    for run in runs:
        assert (run.state, run.metrics["loss"]["count"]) == ("finished", 20)
        number = int(run.id[1:])
        assert [row[2] for row in run.history(["loss"]).rows()] == [number + step for step in range(20)]
        assert journal_segments(run.folder.journal) == []
        assert "orjson==" in Path(run.folder.code, "packages.txt").read_text()
    wait_until(lambda: list(handed_over_here.iterdir()) == [], 60)


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_mirrors_of_many_short_runs_share_a_few_processes(store: Path, tmp_path: Path, wait_until: WaitUntil) -> None:
    training = start(SHORT_RUNS, store, 12, "p", LOSSBOOK_MIRRORS="tensorboard", WANDB_DIR=str(tmp_path))
    end(training)
    wait_until(lambda: all_followed(store), 120)
    processes: set[str] = set()
    for number in range(12):
        followers = Path(folder_of(store, f"r{number}").followers)
        cursor = read_json(str(followers / "tensorboard.json")) or {}
        assert (cursor["state"], cursor["error"]) == ("closed", None)
        processes.update(re.findall(r"mirror (\d+) to", (followers / "tensorboard.log").read_text()))
    assert len(processes) < 12


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_the_follower_is_replaced_when_it_is_killed_and_serves_every_run_that_lives(
    store: Path, wait_until: WaitUntil
) -> None:
    living = [start_one(store, "one"), start_one(store, "two")]
    wait_until(lambda: follower_of(folder_of(store, "one").path) == follower_of(folder_of(store, "two").path) != None)  # noqa: E711
    killed = follower_of(folder_of(store, "one").path)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: follower_of(folder_of(store, "one").path) is None)
    another = start_one(store, "three")
    for run in ("one", "two", "three"):
        wait_until(lambda run=run: follower_of(folder_of(store, run).path) not in (None, killed), 60)
    end(*living, another)
    wait_until(lambda: all_followed(store), 60)
    for run in ("one", "two", "three"):
        assert (read_json(folder_of(store, run).summary_json) or {})["state"] == "finished"
        assert journal_segments(folder_of(store, run).journal) == []


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_a_run_whose_follower_is_killed_gets_another_one_when_it_ends(store: Path, wait_until: WaitUntil) -> None:
    process = start_one(store, "one")
    wait_until(lambda: follower_of(folder_of(store, "one").path))
    wait_until(lambda: list(Path(folder_of(store, "one").followers).glob("lease-*")))
    os.kill(int(follower_of(folder_of(store, "one").path) or 0), signal.SIGKILL)
    wait_until(lambda: follower_of(folder_of(store, "one").path) is None)
    end(process)
    wait_until(lambda: (read_json(folder_of(store, "one").summary_json) or {}).get("state") == "finished", 60)
    wait_until(lambda: all_followed(store), 60)


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_a_follower_treats_each_run_by_the_environment_of_its_own_process(
    store: Path, tmp_path: Path, handed_over_here: Path, wait_until: WaitUntil
) -> None:
    def command(name: str) -> str:
        return f'cat > /dev/null; echo "$WHO $SECRET_KEY" >> {tmp_path / name}'

    alert = ONE_RUN.replace("run.finish", "run.alert('look'); run.finish")
    processes = [
        start(
            alert, store, run, WHO=run, SECRET_KEY=f"hidden-{run}", LOSSBOOK_ALERT_COMMAND=command(run), NCCL_DEBUG=run
        )
        for run in ("one", "two")
    ]
    end(*processes)
    wait_until(lambda: (tmp_path / "one").exists() and (tmp_path / "two").exists(), 60)
    wait_until(lambda: all_followed(store), 60)
    for run in ("one", "two"):
        assert (tmp_path / run).read_text() == f"{run} hidden-{run}\n"
        variables = json.loads(Path(folder_of(store, run).code, "environment.json").read_text())["variables"]
        assert variables["NCCL_DEBUG"] == run
    for path in [*store.rglob("*"), *handed_over_here.rglob("*")]:
        assert not path.is_file() or b"hidden-" not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_a_follower_that_cannot_start_is_said_once_and_is_a_problem_of_the_run(
    store: Path, tmp_path: Path, handed_over_here: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif 'lossbook.follower' in sys.orig_argv: sys.exit('no such library here')\n"
    )
    path = f"{broken}{os.pathsep}{REPOSITORY}"
    code = ONE_RUN.replace(
        "run.finish()",
        "import os\nos.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # the follower\nrun.sync()\nrun.finish()",
    )
    process = start(code, store, "one", PYTHONPATH=path, A_TOKEN="hidden")
    _, said = process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    assert said.decode().count("the follower ended at its start") == 1, said
    (run,) = lossbook.open(store).runs()
    assert any("the follower ended at its start" in problem for problem in run.problems())
    assert len(run.history(["loss"]).rows()) == 2
    listed = subprocess.run(
        [sys.executable, "-m", "lossbook.cli", "--store", store, "ls"], capture_output=True, text=True
    )
    assert "1 run with problems (one)" in listed.stderr
    assert [path for path in handed_over_here.rglob("*") if path.is_file() and b"hidden" in path.read_bytes()] == []


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_a_follower_that_has_fallen_behind_is_said_once_and_by_doctor(
    store: Path, handed_over_here: Path, wait_until: WaitUntil
) -> None:
    code = ONE_RUN.replace("run.finish()", "run.sync(); run.sync(); run.finish()")
    process = start(code, store, "one")
    assert process.stdout is not None
    assert process.stdout.readline() == b"logged\n"
    (path,) = handed_over_here.glob("*/*")
    folder = HandoverFolder(str(path))
    wait_until(lambda: (found := folder.process()) is not None and found.is_ready)
    found = folder.process()
    assert found is not None
    os.kill(found.pid, signal.SIGSTOP)
    os.utime(os.path.join(folder.path, "follower.json"), (1, 1))
    doctor = subprocess.run(
        [sys.executable, "-m", "lossbook.cli", "--store", store, "doctor"], capture_output=True, text=True
    )
    _, said = process.communicate(b"\n", timeout=60)
    os.kill(found.pid, signal.SIGCONT)
    assert "has fallen behind" in doctor.stdout
    assert said.decode().count("has fallen behind") == 1
    wait_until(lambda: all_followed(store), 60)


def test_a_backport_beside_the_package_does_not_hide_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "lossbook").symlink_to(REPOSITORY / "lossbook")
    (tmp_path / "pathlib.py").write_text("raise ImportError('for Python 2')")
    (tmp_path / "argparse.py").write_text("raise ImportError('for Python 2')")
    done = subprocess.run(
        [sys.executable, "-P", str(tmp_path / "lossbook" / "start.py"), "lossbook.follower", "--help"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--folder" in done.stdout


# -- the folder ---------------------------------------------------------------------------------------------------


def a_handover(run: str = "/runs/p/one") -> Handover:
    return Handover(run, os.getpid(), None, 0, 0, cwd="/work")


def test_a_request_is_for_its_user_alone_and_gone_when_it_was_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hidden")
    folder = handover_folder(str(store))
    hand_over(a_handover(), folder, os.getpid)
    (name,) = folder.requests()
    request = Path(folder.path, f"{name}.request")
    assert request.stat().st_mode & 0o777 == 0o600
    assert Path(folder.path).stat().st_mode & 0o777 == 0o700
    found = folder.take(name)
    assert found is not None
    assert (found.run, found.cwd, found.pid) == ("/runs/p/one", "/work", os.getpid())
    assert dict(found.environment or {})["SOME_API_KEY"] == "hidden"
    assert all(b"hidden" not in path.read_bytes() for path in Path(folder.path).iterdir())
    assert [one.run for one in folder.followed()] == ["/runs/p/one"]
    folder.done(name)
    assert folder.followed() == []


def test_a_folder_in_which_others_could_write_is_refused(store: Path, handed_over_here: Path) -> None:
    folder = handover_folder(str(store))
    folder.make()
    os.chmod(os.path.dirname(folder.path), 0o777)
    with pytest.raises(Unshared, match="not a folder of this user alone"):
        hand_over(a_handover(), folder, os.getpid)
    os.chmod(os.path.dirname(folder.path), 0o700)
    elsewhere = handed_over_here / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    os.rmdir(folder.path)
    os.symlink(elsewhere, folder.path)
    with pytest.raises(Unshared, match="not a folder of this user alone"):
        hand_over(a_handover(), folder, os.getpid)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_another_users_folder_is_refused(store: Path) -> None:
    folder = handover_folder(str(store))
    folder.make()
    os.chown(folder.path, 12345, 12345)
    with pytest.raises(Unshared, match="not a folder of this user alone"):
        hand_over(a_handover(), folder, os.getpid)


@pytest.mark.slow
@pytest.mark.usefixtures("follower")
def test_a_run_that_cannot_be_handed_over_has_a_follower_of_its_own(
    store: Path, handed_over_here: Path, wait_until: WaitUntil
) -> None:
    (handed_over_here / f"lossbook-{os.geteuid()}").write_text("in the way")
    process = start_one(store, "one")
    wait_until(lambda: follower_of(folder_of(store, "one").path))
    end(process)
    wait_until(lambda: all_followed(store), 60)
    assert (read_json(folder_of(store, "one").summary_json) or {})["state"] == "finished"


FAKE_FOLLOWER = """
import sys
from lossbook.run.handover import HandoverFolder
folder = HandoverFolder(sys.argv[1])
if folder.announce():
    while True:
        for name in folder.requests():
            taken = folder.take(name)
            if taken is not None:
                with open(sys.argv[2], "a") as file:
                    file.write(taken.run + "\\n")
                folder.done(name)
        if folder.leave():
            break
"""
HANDING_OVER = """
import os, subprocess, sys
from lossbook.run.handover import Handover, HandoverFolder, hand_over
folder = HandoverFolder(sys.argv[1])
started = []
def start():
    started.append(subprocess.Popen([sys.executable, "-c", sys.argv[4], sys.argv[1], sys.argv[2]]))
    return started[-1].pid
for number in range(25):
    hand_over(Handover(f"{sys.argv[3]}-{number}", os.getpid(), None, 0, 0), folder, start)
for one in started: one.wait()
"""


@pytest.mark.slow
def test_no_run_arrives_unseen_while_a_follower_leaves(store: Path, tmp_path: Path, wait_until: WaitUntil) -> None:
    # Followers that leave the moment they have nothing to do, and four processes that hand over at once.
    folder, seen = handover_folder(str(store)), tmp_path / "seen"
    processes = [start(HANDING_OVER, folder.path, seen, who, FAKE_FOLLOWER) for who in "abcd"]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    wanted = sorted(f"{who}-{number}" for who in "abcd" for number in range(25))
    wait_until(lambda: sorted(seen.read_text().split()) == wanted, 60)
    wait_until(lambda: not os.path.exists(folder.path), 60)
