"""A run belongs to its writer: who may seal it, who may go on with it, and what a look from elsewhere may not do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from journals import ENDED, WrittenRun, all_rows
from waiting import wait_until

import lossbook
from lossbook.cli.moving import refuse_running
from lossbook.errors import StoreError
from lossbook.follower.ending import seal_left_behind
from lossbook.follower.followed import forget_followed, note_followed
from lossbook.journal import lease, life_of, live_writers, segment_writers
from lossbook.journal.lease import lease_path, renew_lease, seems_alive, server_clock
from lossbook.journal.line import encode_scalars
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.journal.takeover import take_over
from lossbook.paths import FOLLOWED, RunFolder, read_json
from lossbook.processes import Life, Place, process_life, process_start, this_place
from lossbook.run import create
from lossbook.run_info import Attempt
from lossbook.storage import LiveSummary, overlay, read_summary
from lossbook.storage.compaction import seal_run
from lossbook.storage.run_state import is_running
from lossbook.storage.segments import list_segments

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc"]
#: As `init()` records a process that cannot be seen from here.
ELSEWHERE: dict[str, Any] = {"host": "node-b", "boot": "b", "pid_namespace": "pid:[1]", "pid": 77, "process_start": 5.0}
PLACE = Place("node-b", "b", "pid:[1]")

Changed = Callable[..., str]


def has_containers() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0


containers = pytest.mark.skipif(not has_containers(), reason="needs root: PID namespaces of its own")


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    """A run that is written on another node, as far as `run.json` says."""
    return WrittenRun(tmp_path / "store" / "p" / "one", attempts=[WrittenRun.attempt_entry(0, **ELSEWHERE)])


def segment_of(run: WrittenRun, process: dict[str, Any], values: list[float], *, age: float = 0.0, **more: Any) -> str:
    """A journal segment by that process, whose last row was written so many seconds ago."""
    path = run.segment([{"a": value} for value in values], process=process, **more)
    set_back(path, age)
    return path


def set_back(path: str, seconds: float) -> None:
    now = time.time()
    os.utime(path, (now - seconds, now - seconds))


def renewed(run: WrittenRun, *, age: float = 0.0) -> str:
    """The lease of the other node, renewed so many seconds ago."""
    renew_lease(run.folder, PLACE)
    path = lease_path(run.folder, PLACE)
    set_back(path, age)
    return path


def values(run: WrittenRun) -> list[float]:
    return sorted(row[3] for row in all_rows(run.folder))


def names(run: WrittenRun) -> list[str]:
    return sorted(os.path.basename(one.path) for one in journal_segments(run.folder.journal))


# -- who lives --------------------------------------------------------------------------------------------------------


def mine(**changed: Any) -> Attempt:
    here = this_place()
    known = Attempt(
        host=here.host,
        boot=here.boot,
        pid_namespace=here.pid_namespace,
        pid=os.getpid(),
        process_start=process_start(os.getpid()),
    )
    return known._replace(**changed)


@pytest.mark.parametrize(
    ("changed", "life"),
    [
        ({}, Life.ALIVE),
        ({"process_start": 1.0}, Life.DEAD),
        ({"pid": ENDED["pid"]}, Life.DEAD),
        ({"host": "node-b", "pid": ENDED["pid"]}, Life.UNKNOWN),
        ({"boot": "another", "pid": ENDED["pid"]}, Life.UNKNOWN),
        ({"pid": None}, Life.UNKNOWN),
    ],
)
def test_a_process_is_seen_from_its_own_place_alone(changed: dict[str, Any], life: Life) -> None:
    assert life_of(mine(**changed)) is life


@pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces are Linux's")
def test_a_process_of_an_earlier_version_is_seen_to_live_but_never_to_be_dead() -> None:
    assert life_of(mine(pid_namespace=None)) is Life.ALIVE
    assert life_of(mine(pid_namespace=None, pid=ENDED["pid"])) is Life.UNKNOWN
    assert life_of(mine(pid_namespace="pid:[1]", pid=ENDED["pid"])) is Life.UNKNOWN


def test_a_zombie_is_over_and_a_stopped_process_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    process.send_signal(signal.SIGSTOP)
    assert process_life(process.pid, start) is Life.ALIVE
    process.kill()
    wait_until(lambda: process_life(process.pid, start) is Life.DEAD)
    process.communicate()
    assert process_life(process.pid, start) is Life.DEAD


# -- the lease ----------------------------------------------------------------------------------------------------------


def test_the_clock_of_the_file_server_leaves_nothing_behind(run: WrittenRun) -> None:
    before = sorted(os.listdir(run.folder.followers)) if os.path.isdir(run.folder.followers) else []
    assert abs(server_clock(run.folder) - time.time()) < 60
    assert sorted(os.listdir(run.folder.followers)) == before


def test_a_follower_renews_the_lease_of_a_quiet_run(
    store: Path, follower: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lossbook.init(store=store, project="p", id="one", console=False)
    path = lease_path(RunFolder(run.path), this_place())
    wait_until(lambda: os.path.exists(path))
    run.finish()
    wait_until(lambda: not os.path.exists(path))


@pytest.mark.parametrize(("age", "state"), [(5.0, "running"), (3600.0, "crashed")])
def test_a_run_of_another_machine_is_shown_by_its_lease_however_quiet_its_journal(
    run: WrittenRun, age: float, state: str
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=4000.0)
    renewed(run, age=age)
    assert lossbook.open(Path(run.folder.path).parents[1]).run("one").state == state


def test_a_lease_that_is_renewed_while_one_looks_lives_by_any_clock(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=4000.0)
    renewed(run)
    attempt = Attempt(**ELSEWHERE)
    now = time.time()
    monkeypatch.setattr(lease.time, "time", lambda: now + 3600)  # this machine's clock is an hour ahead
    is_running(run.folder, attempt)
    renewed(run, age=-1.0)
    assert is_running(run.folder, attempt)


def test_a_journal_without_a_lease_is_judged_by_its_last_row(run: WrittenRun) -> None:
    path = segment_of(run, ELSEWHERE, [1.0], age=300.0)
    assert seems_alive(run.folder, PLACE)
    set_back(path, 700.0)
    assert not seems_alive(run.folder, PLACE)


# -- sealing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leased", [None, 3.0, 3600.0])
def test_what_another_node_wrote_is_left_alone_without_proof(run: WrittenRun, leased: float | None) -> None:
    segment_of(run, ELSEWHERE, [1.0, 2.0], age=4000.0)
    if leased is not None:
        renewed(run, age=leased)
    report = seal_run(run.folder, finished=True)
    assert report.segments == 0
    assert report.left is not None
    assert "process 77 on node-b cannot be seen from here" in report.left
    assert "--take-over" in report.left
    assert names(run) == ["r0-000001.jsonl"]


def test_what_another_node_finished_is_sealed_by_a_person_and_not_by_a_follower(run: WrittenRun) -> None:
    segment_of(run, ELSEWHERE, [1.0], end="finished")
    assert seal_run(run.folder, finished=True, node_only=True).segments == 0
    report = seal_run(run.folder, finished=True)
    assert (report.segments, report.left) == (1, None)


def test_a_follower_seals_its_own_nodes_ranks_and_no_others(run: WrittenRun) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=4000.0)
    segment_of(run, ENDED, [2.0], rank=1)
    report = seal_run(run.folder, finished=True, node_only=True)
    assert (report.segments, names(run)) == (1, ["r0-000001.jsonl"])
    assert values(run) == [1.0, 2.0]
    assert [one.name.rank for one in live_writers(run.folder.journal)] == [0]
    assert live_writers(run.folder.journal, place=this_place()) == []


def test_a_segment_that_its_writer_has_left_is_sealed_though_the_writer_lives(run: WrittenRun) -> None:
    here = {**this_place()._asdict(), "pid": os.getpid(), "process_start": process_start(os.getpid())}
    segment_of(run, here, [1.0])
    segment_of(run, here, [2.0])
    report = seal_run(run.folder, finished=True, take_over=True)
    assert (report.segments, names(run)) == (1, ["r0-000002.jsonl"])
    assert report.left is not None
    assert "is writing" in report.left


def test_a_segment_before_that_of_another_process_is_not_left_by_its_writer(run: WrittenRun) -> None:
    segment_of(run, ELSEWHERE, [1.0])
    segment_of(run, ENDED, [2.0], attempt=1)
    assert seal_run(run.folder, finished=True).segments == 1
    assert names(run) == ["r0-000001.jsonl"]


# -- taking over --------------------------------------------------------------------------------------------------------


def test_rows_that_reach_a_segment_after_it_was_taken_over_are_kept(run: WrittenRun) -> None:
    path = segment_of(run, ELSEWHERE, [1.0, 2.0])
    with open(path, "ab") as writer:  # a process that was suspended, and does not know
        assert seal_run(run.folder, finished=True, take_over=True).segments == 1
        assert values(run) == [1.0, 2.0]
        (kept,) = os.listdir(run.folder.journal)
        writer.write(encode_scalars(3, 1, 2, {"a": 3.0}))
        writer.flush()
        seal_run(run.folder, finished=True)
        assert values(run) == [1.0, 2.0, 3.0]
        writer.write(encode_scalars(4, 1, 3, {"a": 4.0}))
        writer.flush()
        # It has looked after its file since, and goes on in another.
        run.next_number[0] = 3
        segment_of(run, ELSEWHERE, [5.0])
        seal_run(run.folder, finished=True)
    seal_run(run.folder, finished=True)
    assert values(run) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert kept not in names(run)
    assert [one for one in names(run) if ".taken-" in one] == [], "its writer has begun another segment"


def test_a_segment_that_was_taken_over_is_read_like_any_other_until_it_is_sealed(run: WrittenRun) -> None:
    segment_of(run, ELSEWHERE, [1.0, 2.0])
    (segment,) = journal_segments(run.folder.journal)
    taken = take_over(segment)
    assert not os.path.exists(segment.path)
    assert journal_segments(run.folder.journal) == [taken]
    book = lossbook.open(Path(run.folder.path).parents[1])
    assert [row["a"] for row in book.run("one").history(["a"]).dicts()] == [1.0, 2.0]
    assert seal_run(run.folder, finished=False, node_only=True).segments == 1, "the run's new owner seals it"
    assert [one.is_sealed for one in list_segments(run.folder)] == [True]


def test_a_sealing_of_a_taken_segment_that_is_cut_off_is_done_again(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbook.storage import compaction

    segment_of(run, ELSEWHERE, [1.0, 2.0])
    put = compaction.put_segment

    def cut_off(*arguments: Any) -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr(compaction, "put_segment", cut_off)
    with pytest.raises(StoreError):
        seal_run(run.folder, finished=True, take_over=True)
    assert values(run) == [1.0, 2.0]
    monkeypatch.setattr(compaction, "put_segment", put)
    seal_run(run.folder, finished=True)
    seal_run(run.folder, finished=True)
    assert values(run) == [1.0, 2.0]


def test_rows_that_came_while_a_segment_was_sealed_are_kept(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.storage import compaction

    path = segment_of(run, ENDED, [1.0, 2.0])
    put = compaction.put_segment

    def late(*arguments: Any) -> int:
        with open(path, "ab") as writer:
            writer.write(encode_scalars(3, 1, 2, {"a": 3.0}))
        return put(*arguments)

    monkeypatch.setattr(compaction, "put_segment", late)
    seal_run(run.folder, finished=True)
    monkeypatch.setattr(compaction, "put_segment", put)
    seal_run(run.folder, finished=True)
    assert values(run) == [1.0, 2.0, 3.0]


# -- going on -----------------------------------------------------------------------------------------------------------


def resume(run: WrittenRun, how: str) -> lossbook.Run:
    return lossbook.init(
        store=Path(run.folder.path).parents[1], project="p", id="one", resume=how, console=False, system_metrics=False
    )


def test_a_run_whose_node_is_gone_is_gone_on_with_once_its_lease_has_expired(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=20.0)
    renewed(run, age=34.0)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 35.0)
    again = resume(run, "must")
    again.log({"a": 2.0}, step=1)
    again.finish()
    assert (again.id, again.attempt) == ("one", 1)
    assert "waiting up to" in capsys.readouterr().err
    assert names(run) == ["r0-000001.taken-0.jsonl", "r0-000002.jsonl"]
    assert values(run) == [1.0, 2.0]


def test_a_run_that_seems_to_live_elsewhere_is_never_taken_over(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=4000.0)
    path = renewed(run)

    def as_time_passes(seconds: float) -> None:
        os.utime(path, (time.time(), time.time()))  # its follower renews it while we wait

    monkeypatch.setattr("time.sleep", as_time_passes)
    with pytest.raises(StoreError, match=r"process 77 on node-b.*lease was renewed \d seconds ago; end that process"):
        resume(run, "must")
    other = resume(run, "allow")
    assert other.id == "one-2"
    assert "the run one may be being written by process 77 on node-b" in capsys.readouterr().err
    assert names(run) == ["r0-000001.jsonl"]


def test_where_the_file_system_may_hang_a_live_run_is_left_alone_too(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_of(run, ELSEWHERE, [1.0])
    monkeypatch.setenv("LOSSBOOK_DURABILITY", "async")
    with pytest.raises(StoreError, match="process 77 on node-b"):
        resume(run, "must")
    with resume(run, "allow") as other:
        other.log({"a": 2.0})
        assert other.id == "one-2"
    assert values(run) == [1.0]


def test_where_the_file_system_may_hang_a_lease_is_waited_for_too(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=33.0)
    renewed(run, age=33.0)
    monkeypatch.setattr(create, "OPEN_SECONDS", 1.0)
    monkeypatch.setenv("LOSSBOOK_DURABILITY", "async")
    with resume(run, "must") as again:
        assert (again.id, again.attempt) == ("one", 1)
        again.log({"a": 2.0}, step=1)
    assert values(run) == [1.0, 2.0]


def test_without_a_lease_the_last_row_decides_and_nothing_is_waited_for(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=300.0)
    assert resume(run, "allow").id == "one-2"
    monkeypatch.setenv("LOSSBOOK_TAKEOVER_SECONDS", "120")
    assert resume(run, "allow").id == "one"


def test_a_process_of_the_same_number_in_another_container_is_not_this_one(run: WrittenRun) -> None:
    other = {**this_place()._asdict(), "pid_namespace": "pid:[1]", "pid": os.getpid(), "process_start": 5.0}
    run.identity["attempts"] = [run.attempt_entry(0, **other)]
    run.write_identity()
    segment_of(run, other, [1.0])
    assert resume(run, "allow").id == "one-2"


# -- real processes -----------------------------------------------------------------------------------------------------

TRAINING = """
import os, sys, time, lossbook
run = lossbook.init(store=sys.argv[1], project="p", id="one", console=False, system_metrics=False)
for step in range(5): run.log({"a": float(step)}, step=step)
print("quiet", flush=True)
sys.stdin.readline()
for step in range(5, 10): run.log({"a": float(step)}, step=step)
run.finish()
"""


@pytest.fixture
def trained(store: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a training that is quiet until a line is sent to it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*before: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", TRAINING, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"quiet\n"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@containers
@pytest.mark.parametrize("inside", ["training", "reader"])
def test_a_look_and_a_sealing_from_another_pid_namespace_cost_no_row(
    store: Path, trained: Callable[..., subprocess.Popen[bytes]], inside: str
) -> None:
    training = trained(*(CONTAINER if inside == "training" else ()))
    journal = store / "p" / "one" / "journal"
    for name in os.listdir(journal):
        set_back(str(journal / name), 660.0)
    look = (
        "import sys; from lossbook.cli import main; sys.argv = ['lossbook', '--store', *sys.argv[1:]]; sys.exit(main())"
    )
    said = subprocess.run(
        [*(CONTAINER if inside == "reader" else ()), sys.executable, "-c", look, str(store), "seal", "one"],
        capture_output=True,
        text=True,
    )
    assert "cannot be seen from here" in said.stdout
    training.communicate(b"\n")
    run = lossbook.open(store).run("one")
    assert [row["a"] for row in run.history(["a"]).dicts()] == [float(step) for step in range(10)]
    assert run.state == "finished"


@pytest.mark.slow
@containers
def test_a_training_that_lives_goes_on_in_another_segment_when_a_person_takes_its_journal_over(
    store: Path, trained: Callable[..., subprocess.Popen[bytes]]
) -> None:
    training = trained(*CONTAINER)
    folder = RunFolder(str(store / "p" / "one"))
    assert seal_run(folder, finished=True, take_over=True).segments == 1
    training.communicate(b"\n")
    seal_run(folder, finished=True)
    seal_run(folder, finished=True)
    rows = all_rows(folder)
    assert sorted(row[3] for row in rows) == [float(step) for step in range(10)]
    run = lossbook.open(store).run("one")
    assert (run.state, len(run.attempts)) == ("finished", 1)


@pytest.mark.slow
def test_a_job_that_was_suspended_while_another_took_its_run_over_loses_no_row(
    store: Path, trained: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trained()
    training.send_signal(signal.SIGSTOP)
    folder = RunFolder(str(store / "p" / "one"))
    # Whoever comes from another node cannot see the process, and its last sign of life is old.
    (segment,) = journal_segments(folder.journal)
    set_back(segment.path, 700.0)
    monkeypatch.setattr("lossbook.processes.pid_namespace", lambda: "pid:[1]")
    again = lossbook.init(store=store, project="p", id="one", resume="must", console=False, system_metrics=False)
    again.log({"b": 1.0}, step=0)
    again.finish()
    seal_run(folder, finished=True, node_only=True)
    assert [one.life for one in segment_writers(folder.journal)] == [Life.UNKNOWN], "kept, for it may yet be added to"
    training.send_signal(signal.SIGCONT)
    training.communicate(b"\n")
    monkeypatch.undo()
    seal_run(folder, finished=True)
    seal_run(folder, finished=True)
    rows = all_rows(folder)
    assert sorted(row[3] for row in rows if row[0] == "a") == [float(step) for step in range(10)]
    assert {row[5] for row in rows if row[0] == "a"} == {0}, "in its own attempt"
    assert [one["number"] for one in (read_json(folder.run_json) or {})["attempts"]] == [0, 1]


def test_every_attempt_records_its_pid_namespace(store: Path) -> None:
    run = lossbook.init(store=store, project="p", id="one", console=False)
    run.log({"a": 1.0})
    (segment,) = journal_segments(RunFolder(run.path).journal)
    recorded = (read_json(RunFolder(run.path).run_json) or {})["attempts"][0]
    assert recorded.get("pid_namespace") == this_place().pid_namespace
    assert read_segment(segment.path).rows[0].body["pid_namespace"] == this_place().pid_namespace


# -- what a killed run left ---------------------------------------------------------------------------------------------


def test_the_next_follower_of_a_place_seals_what_a_killed_one_left(store: Path) -> None:
    left = WrittenRun(store / "p" / "left", attempts=[WrittenRun.attempt_entry(0, **ENDED)])
    segment_of(left, ENDED, [1.0, 2.0])
    elsewhere = WrittenRun(store / "p" / "elsewhere", attempts=[WrittenRun.attempt_entry(0, **ELSEWHERE)])
    segment_of(elsewhere, ELSEWHERE, [3.0], age=4000.0)
    for one in (left, elsewhere):
        note_followed(one.folder)
    (said,) = seal_left_behind(str(store))
    assert "left unsealed by a follower that was killed" in said
    assert names(left) == []
    assert values(left) == [1.0, 2.0]
    assert lossbook.open(store).run("left").state == "crashed"
    assert names(elsewhere) == ["r0-000001.jsonl"]
    assert seal_left_behind(str(store)) == []


def test_the_note_of_a_place_that_is_gone_goes_when_all_of_the_run_is_sealed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = WrittenRun(store / "p" / "one")
    monkeypatch.setattr("lossbook.processes.pid_namespace", lambda: "pid:[1]")
    note_followed(run.folder)
    monkeypatch.undo()
    note_followed(run.folder)
    segment_of(run, ENDED, [1.0])
    forget_followed(run.folder)
    assert len(os.listdir(store / FOLLOWED)) == 1, "there is a journal that the other place may have written"
    seal_run(run.folder, finished=True)
    forget_followed(run.folder)
    assert not (store / FOLLOWED).exists()


def test_what_lives_is_not_left_behind(store: Path) -> None:
    run = lossbook.init(store=store, project="p", id="one", console=False)
    run.log({"a": 1.0})
    note_followed(RunFolder(run.path))
    assert seal_left_behind(str(store)) == []
    assert len(journal_segments(RunFolder(run.path).journal)) == 1


def test_a_follower_that_was_killed_leaves_a_note_that_its_successor_takes_back(
    store: Path, follower: None, trained: Callable[..., subprocess.Popen[bytes]]
) -> None:
    training = trained()
    folder = RunFolder(str(store / "p" / "one"))
    held = Path(lease_path(folder, this_place()))
    wait_until(lambda: held.exists() and held.read_text().endswith("\n"))
    assert os.listdir(store / FOLLOWED)
    follower_pid = int(held.read_text())
    os.kill(follower_pid, signal.SIGKILL)
    wait_until(lambda: process_life(follower_pid, None) is Life.DEAD)
    training.kill()
    training.communicate()
    assert len(journal_segments(folder.journal)) >= 1
    with lossbook.init(store=store, project="p", id="two", console=False) as run:
        run.log({"a": 1.0})
        wait_until(lambda: not journal_segments(folder.journal))
    assert [one.is_sealed for one in list_segments(folder) if one.name.rank == 0] == [True]


# -- moving and summing up ----------------------------------------------------------------------------------------------


def test_a_run_that_may_be_written_elsewhere_is_not_moved(run: WrittenRun, tmp_path: Path) -> None:
    segment_of(run, ELSEWHERE, [1.0], age=4000.0)
    path = renewed(run)
    recorded = lossbook.open(Path(run.folder.path).parents[1]).run("one")
    set_back(path, 20.0)
    with pytest.raises(StoreError, match="cannot be moved"):
        refuse_running(recorded, "moved")
    set_back(path, 3600.0)
    recorded = lossbook.open(Path(run.folder.path).parents[1]).run("one")
    refuse_running(recorded, "moved")


def test_a_summary_counts_each_row_once_when_its_journal_is_taken_over(run: WrittenRun) -> None:
    segment_of(run, ELSEWHERE, [1.0, 2.0])
    LiveSummary(run.folder).write()
    (segment,) = journal_segments(run.folder.journal)
    take_over(segment)
    written = read_summary(run.folder)
    assert written is not None
    assert overlay(written, run.folder).metrics["a"].count == 2
    seal_run(run.folder, finished=True)
    assert overlay(written, run.folder).metrics["a"].count == 2
