"""Any number of processes and threads log into one store, or into one run, without getting in each other's way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, begin, journal_rows, kill_group, only_run, recorded, row_numbers, steps

import lossbook
from lossbook.journal import writer
from lossbook.journal.attempt_row import AttemptRow
from lossbook.journal.reader import journal_segments
from lossbook.journal.writer import Journal
from lossbook.paths import RunFolder, read_json
from lossbook.run_info import Attempt

#: Waits until its standard input is closed, so that several begin at the same moment; `together` until all three are there.
AT_ONCE = """
def together(store):
    here = os.path.dirname(store)
    open(os.path.join(here, f"there-{os.getpid()}"), "w").close()
    for _ in range(3000):
        if sum(name.startswith("there-") for name in os.listdir(here)) == 3:
            return
        time.sleep(0.01)  # polls: this program has no test to wait with

print("ready", flush=True)
sys.stdin.read()
"""


def at_once(count: int, code: str, store: Path) -> list[str]:
    """Run a program several times at the same moment; returns what each printed behind "ready"."""
    processes = [begin(AT_ONCE + code, store, number) for number in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        said = []
        for process in processes:
            assert process.stdout is not None
            said.append(process.stdout.read())
            assert process.wait(60) == 0
        return said
    finally:
        for process in processes:
            kill_group(process)


def test_sixteen_processes_begin_runs_in_one_store_at_once(store: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", name="same name", config={"number": int(sys.argv[2])}, console=False)
for step in range(50):
    run.log({"loss": float(sys.argv[2])}, step=step)
run.finish()
"""
    at_once(16, code, store)
    runs = lossbook.open(store).runs()
    assert len({one.id for one in runs}) == 16
    assert {one.config["number"] for one in runs} == set(range(16))
    for one in runs:
        assert one.state == "finished"
        assert one.metrics["loss"]["count"] == 50
        assert one.metrics["loss"]["mean"] == one.config["number"]
        assert one.problems() == []


@pytest.mark.parametrize("resume", ["allow", "never"])
def test_processes_that_begin_the_same_run_at_once_are_never_merged(tmp_path: Path, resume: str) -> None:
    code = f"""
run = lossbook.init(store=store, project="p", id="same", resume="{resume}", console=False)
for step in range(50):
    run.log({{"loss": float(sys.argv[2])}}, step=step)
print(run.path, flush=True)
together(store)
run.finish()
"""
    for number in range(3):
        store = tmp_path / str(number) / "store"
        store.parent.mkdir()
        paths = at_once(3, code, store)
        assert len(set(paths)) == 3
        assert len(all_runs(store)) == 3
        for folder in all_runs(store):
            assert steps(folder) == list(range(50))
            assert len({row.body["loss"] for row in journal_rows(folder) if row.kind is None}) == 1
            assert len((read_json(folder.run_json) or {})["attempts"]) == 1


def test_processes_that_resume_a_dead_run_at_once_are_never_merged(tmp_path: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", id="same", resume="allow", console=False)
run.log({"loss": float(sys.argv[2])})
print(run.path, run.attempt, flush=True)
together(store)
run.finish()
"""
    for number in range(3):
        store = tmp_path / str(number) / "store"
        store.parent.mkdir()
        lossbook.init(store=store, project="p", id="same", console=False).finish()
        places = at_once(3, code, store)
        assert len(set(places)) == 3
        for folder in all_runs(store):
            numbers = row_numbers(folder)
            assert numbers == list(range(len(numbers)))
            attempts = [one["number"] for one in (read_json(folder.run_json) or {})["attempts"]]
            assert attempts == list(range(len(attempts)))


# -- children -----------------------------------------------------------------------------------------------------------


def log_some(run: lossbook.Run, number: int) -> None:
    for step in range(20):
        run.log({f"child/{number}": float(step)}, step=step)


def test_forked_children_log_into_their_parents_run(store: Path) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    run.log({"loss": 1.0}, step=0)
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            try:
                log_some(run, number)
                run.note("from a child")
                run.finish()
            finally:
                os._exit(0)
        children.append(child)
    for step in range(1, 100):
        run.log({"loss": 1.0}, step=step)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    run.finish()
    folder = only_run(store)
    assert steps(folder) == list(range(100))
    for rank in (-1, -2, -3):
        assert steps(folder, rank) == list(range(20))
        assert row_numbers(folder, rank) == list(range(22))
    found = recorded(folder)
    assert found.state == "finished"
    assert {key: found.metrics[key]["count"] for key in found.keys()} == {  # noqa: SIM118 - a method of ours
        "loss": 100,
        "child/0": 20,
        "child/1": 20,
        "child/2": 20,
    }
    assert found.problems() == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_log_into_their_parents_run(store: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    run = lossbook.init(store=store, project="p", console=False)
    run.log({"loss": 1.0}, step=0)
    children = [context.Process(target=log_some, args=(run, number)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    run.log({"loss": 1.0}, step=1)
    run.finish()
    found = recorded(only_run(store))
    assert found.metrics["child/0"]["count"] == 20
    assert found.metrics["child/1"]["count"] == 20
    assert found.metrics["loss"]["count"] == 2
    assert found.state == "finished"
    assert found.problems() == []


def test_what_a_child_says_before_its_first_row_is_kept(store: Path) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    for number in range(2):
        child = os.fork()
        if child == 0:
            try:
                run.alert(f"alert {number}")
                run.note(f"note {number}")
                run.log({"bad": object()})
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    run.finish()
    folder = only_run(store)
    for number, rank in enumerate((-1, -2)):
        assert [row.kind for row in journal_rows(folder, rank)] == ["attempt", "alert", "note", "warning"]
        assert journal_rows(folder, rank)[1].body["title"] == f"alert {number}"
        assert row_numbers(folder, rank) == [0, 1, 2, 3]


def test_a_pickled_run_of_which_nothing_is_recorded_stays_so() -> None:
    run = lossbook.init(mode="disabled")
    copy = pickle.loads(pickle.dumps(run))
    copy.log({"loss": 1})
    assert copy.mode == "disabled"


def test_a_child_does_not_end_the_run_of_its_parent(store: Path) -> None:
    code = """
run = lossbook.init(store=store, project="p", console=False)
child = os.fork()
if child == 0:
    run.log({"child": 1})
    sys.exit(3)
os.waitpid(child, 0)
run.log({"loss": 1})
"""
    process = begin(code, store)
    process.communicate(timeout=60)
    kill_group(process)
    assert process.returncode == 0
    assert recorded(only_run(store)).state == "finished"
    assert [row.kind for row in journal_rows(only_run(store))] in ([], ["attempt", None, "finish"])


# -- threads and signals ------------------------------------------------------------------------------------------------


def test_threads_log_at_once_without_gaps_or_doubles(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 5_000)
    run = lossbook.init(store=store, project="p", console=False)

    def work(number: int) -> None:
        for step in range(300):
            run.log({f"thread/{number}": step}, step=step)
            if step % 50 == 0:
                run.log({f"text/{number}": lossbook.Text("x"), f"bad/{number}": "no number"}, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    folder = only_run(store)
    numbers = row_numbers(folder)
    assert numbers == list(range(len(numbers)))
    for number in range(8):
        own = [row.step for row in journal_rows(folder) if row.kind is None and f"thread/{number}" in row.body]
        assert own == list(range(300))


def test_a_signal_handler_may_log_while_a_row_is_being_written(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 3_000)
    run = lossbook.init(store=store, project="p", console=False)
    handled = [0]

    def handle(number: int, frame: Any) -> None:
        handled[0] += 1
        run.log({"handled": handled[0]}, step=handled[0])

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        step = 0
        while handled[0] < 2000 and step < 200_000:
            run.log({"loss": step}, step=step)
            if step % 3 == 0:
                run.log({"loss/nan": float("nan"), "text": lossbook.Text("x")}, step=step)
            step += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    run.finish()
    folder = only_run(store)
    numbers = row_numbers(folder)
    assert numbers == list(range(len(numbers)))
    rows = [row for row in journal_rows(folder) if row.kind is None]
    assert [row.step for row in rows if "loss" in row.body] == list(range(step))
    # A handler may itself be interrupted by the next signal, so theirs need not be in order.
    assert sorted(row.step for row in rows if "handled" in row.body) == list(range(1, handled[0] + 1))
    assert len([row for row in rows if "loss/nan" in row.body]) == (step + 2) // 3
    assert recorded(folder).problems() == []


# -- by mistake ---------------------------------------------------------------------------------------------------------


def test_two_writers_by_mistake_are_reported_and_both_are_read(store: Path) -> None:
    run = lossbook.init(store=store, project="p", console=False)
    for step in range(10):
        run.log({"loss": 1.0}, step=step)
    folder = RunFolder(run.path)
    intruder = Journal(folder, 0, AttemptRow(Attempt(number=0), 0, format=1))
    intruder.begin_segment()
    for step in range(10, 20):
        intruder.append({"loss": 2.0}, step)
    intruder.close()
    run.finish()
    assert len(journal_segments(folder.journal)) == 2
    found = recorded(folder)
    assert any("two processes" in problem for problem in found.problems())
    assert found.metrics["loss"]["count"] == 20


def test_a_child_does_not_collect_its_parent_s_connections(tmp_path: Path) -> None:
    """A process that reads runs and forks (a notebook with data loaders): DuckDB's threads are not in the child."""
    code = f"""
import gc, os
from lossbook.storage import connect
gc.disable()
for _ in range(20):
    circle = [connect(threads=4, spill={str(tmp_path)!r})]
    circle[0].execute("SELECT sum(range) FROM range(1000000)").fetchall()
    circle.append(circle)
child = os.fork()
if child == 0:
    gc.collect()
    os._exit(0)
raise SystemExit(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
