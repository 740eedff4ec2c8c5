"""A run is recorded as having ended the way it did, and the process still ends the way it would have."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from programs import all_runs, begin, kill_group, only_run, recorded, run, steps

import lossbook
from lossbook import open as open_book
from lossbook.run.scheduler import how_terminated

LOG_THREE = """
run = lossbook.init(store=store, project="p", name="ends")
for step in range(3):
    run.log({"loss": step}, step=step)
"""


def terminate_when_ready(code: str, store: Path, **environment: str) -> None:
    """Run a program until it prints `ready`, and hold that SIGTERM ends it: that it dies of the signal itself."""
    process = begin(code, store, **environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    finally:
        kill_group(process)


def test_the_end_of_the_program_finishes_the_run(store: Path) -> None:
    assert run(LOG_THREE, store).returncode == 0
    assert recorded(only_run(store)).state == "finished"


def test_an_exception_fails_the_run_with_the_last_lines_of_its_traceback(store: Path) -> None:
    done = run(LOG_THREE + 'raise ValueError("loss is nan at step 3")', store)
    assert done.returncode == 1
    assert "loss is nan at step 3" in done.stderr
    found = recorded(only_run(store))
    assert found.state == "failed"
    assert found.error.endswith("ValueError: loss is nan at step 3")
    assert 'raise ValueError("loss is nan' in found.error


@pytest.mark.parametrize(
    "how",
    ["sys.exit(3)", "exit(3)", "raise SystemExit(3)", "import argparse; argparse.ArgumentParser().exit(3)"],
)
def test_a_program_that_exits_with_an_error_has_failed(store: Path, how: str) -> None:
    assert run(LOG_THREE + how, store).returncode == 3
    found = recorded(only_run(store))
    assert (found.state, found.error) == ("failed", "the program ended with exit code 3")


@pytest.mark.parametrize("how", ["sys.exit", "raise SystemExit"])
def test_an_exit_with_a_message_has_failed_with_that_message(store: Path, how: str) -> None:
    done = run(LOG_THREE + f'{how}("no such dataset")', store)
    assert (done.returncode, done.stderr) == (1, "no such dataset\n")
    found = recorded(only_run(store))
    assert (found.state, found.error) == ("failed", "the program ended with the message 'no such dataset'")


@pytest.mark.parametrize("how", ["sys.exit()", "exit(0)", "raise SystemExit", "raise SystemExit(0)"])
def test_an_exit_without_an_error_has_finished(store: Path, how: str) -> None:
    assert run(LOG_THREE + how, store).returncode == 0
    assert recorded(only_run(store)).state == "finished"


@pytest.mark.parametrize(("status", "state"), [(0, "finished"), (3, "failed"), (143, "killed")])
def test_leaving_at_once_is_an_end_with_a_status_too(store: Path, status: int, state: str) -> None:
    assert run(LOG_THREE + f"os._exit({status})", store).returncode == status
    found = recorded(only_run(store))
    assert (found.state, steps(only_run(store))) == (state, [0, 1, 2])
    assert found.error == (f"the program ended with exit code {status}" if status else None)


def test_leaving_at_once_waits_for_nobody_who_holds_what_the_end_needs(store: Path) -> None:
    code = """
        import threading
        run = lossbook.init(store=store, project="p", console=False)
        run.log({"loss": 1.0}, step=0)
        class Leaves:
            def __float__(self):
                os._exit(3)  # in the midst of log()
        run.log({"loss": 2.0, "leaves": Leaves()}, step=1)
    """
    assert run(code, store).returncode == 3
    assert steps(only_run(store)) == [0]


def test_an_exit_still_answers_for_its_code(store: Path) -> None:
    code = """
class Stop(SystemExit):
    pass

for leaving in (SystemExit(2), Stop("why"), SystemExit(), SystemExit(1, 2)):
    print(leaving.code, end=" ")
leaving.code = 5
print(leaving.code)
"""
    done = run(LOG_THREE + code, store)
    assert (done.returncode, done.stdout) == (0, "2 why None (1, 2) 5\n")
    assert recorded(only_run(store)).state == "finished"


def test_an_exit_that_somebody_caught_is_no_end(store: Path) -> None:
    code = """
for leave in (sys.exit, exit):
    try:
        leave(3)
    except SystemExit as leaving:
        assert leaving.code == 3
run.log({"loss": 3})
"""
    assert run(LOG_THREE + code, store).returncode == 0
    assert recorded(only_run(store)).state == "finished"


def test_ctrl_c_interrupts_the_run(store: Path) -> None:
    done = run(LOG_THREE + "os.kill(os.getpid(), signal.SIGINT); signal.pause()", store)
    assert done.returncode == -signal.SIGINT
    assert recorded(only_run(store)).state == "interrupted"


def test_sigterm_kills_the_run_and_the_process_still_dies_of_it(store: Path) -> None:
    terminate_when_ready(LOG_THREE + 'print("ready", flush=True); signal.pause()', store)
    found = recorded(only_run(store))
    assert (found.state, found.error) == ("killed", "ended by SIGTERM")


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"SLURM_JOB_END_TIME": "1000000000"}, "ended by SIGTERM: the time limit of Slurm's job 42 was reached"),
        (
            {"SLURM_JOB_END_TIME": "99999999999"},
            "ended by SIGTERM: Slurm's job 42 was cancelled or preempted, or its program was told to end",
        ),
        ({}, "ended by SIGTERM: Slurm's job 42 was cancelled or preempted, or its program was told to end"),
    ],
    ids=["time limit", "before it", "no limit"],
)
def test_sigterm_of_a_job_of_slurms_says_whether_it_was_the_time_limit(
    store: Path, variables: dict[str, str], error: str
) -> None:
    done = run(LOG_THREE + "os.kill(os.getpid(), signal.SIGTERM)", store, SLURM_JOB_ID="42", **variables)
    assert done.returncode == -signal.SIGTERM
    found = recorded(only_run(store))
    assert (found.state, found.error) == ("killed", error)


def test_sigterm_shortly_before_a_time_limit_and_in_a_pod_says_so() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1000"}
    assert how_terminated(job, now=880.0) == "ended by SIGTERM 120 s before the time limit of Slurm's job 7"
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0"}
    assert how_terminated(pod).startswith("ended by SIGTERM: the pod train-0 was deleted, evicted or preempted")
    assert how_terminated({}) == "ended by SIGTERM"


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("", "finished"),
        ("raise SystemExit(1)", "preempted"),
        ('raise ValueError("the other node is gone")', "preempted"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "preempted"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "preempted"),
        ("os.kill(os.getpid(), signal.SIGINT); signal.pause()", "interrupted"),
    ],
)
def test_a_run_that_says_that_it_is_preempted_was_unless_it_finishes(store: Path, end: str, state: str) -> None:
    code = """
import lossbook.wandb as wandb
run = wandb.init(project="p")
run.log({"loss": 1.0})
wandb.mark_preempting()
"""
    run(code + end, store, LOSSBOOK_STORE=str(store))
    found = recorded(only_run(store))
    assert (found.state, found.problems()) == (state, [])
    assert len(open_book(store).runs(where="state = 'preempted'")) == (state == "preempted")


def test_sigterm_at_any_moment_loses_no_row_and_never_hangs(tmp_path: Path) -> None:
    code = """
        run = lossbook.init(store=store, project="p", console=False)
        print("ready", flush=True)
        step = 0
        while True:
            run.log({"loss": step}, step=step)
            if step % 50 == 0:
                run.log({"text": lossbook.Text("once upon")}, step=step)
                run.sync()
            step += 1
    """
    for number in range(5):
        store = tmp_path / str(number) / "store"
        store.parent.mkdir()
        terminate_when_ready(code, store, LOSSBOOK_SEGMENT_BYTES="4000")
        logged = steps(only_run(store))
        assert logged == list(range(len(logged)))
        assert recorded(only_run(store)).state == "killed"


HANGS_IN_A_LIBRARY = """
run = lossbook.init(store=store, project="p", console=False)
run.log({"loss": 1})
import ctypes
libc = ctypes.CDLL(None)
partners = ctypes.create_string_buffer(256)
libc.pthread_barrier_init(partners, None, 2)
print("ready", flush=True)
libc.pthread_barrier_wait(partners)  # for somebody who never comes
"""


def test_sigterm_ends_a_process_that_hangs_in_a_library_and_its_run_is_killed(store: Path) -> None:
    terminate_when_ready(HANGS_IN_A_LIBRARY, store)
    found = recorded(only_run(store))
    assert (found.state, found.error) == ("killed", "ended by SIGTERM")
    assert steps(only_run(store)) == [0]


def test_sigterm_ends_a_forked_child_as_ever_and_not_the_run(store: Path) -> None:
    code = """
        from pathlib import Path
        from waiting import wait_until
        run = lossbook.init(store=store, project="p", console=False)
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            import ctypes
            pause = ctypes.CDLL(None).pause
            os.write(tell, b"r")
            pause()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.read(ready, 1)
        # The child comes to rest in the library.
        wait_until(lambda: Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(3)  # nothing shall happen in it: it is longer than a main thread may take to its handler
        run.log({"loss": 1})
    """
    done = run(code, store)
    assert (done.returncode, done.stderr) == (0, "")
    assert recorded(only_run(store)).state == "finished"


def test_sigterm_that_does_not_end_process_1_of_a_container_does_not_end_the_run(store: Path) -> None:
    inside = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("this test needs to make a PID namespace")
    code = """
        run = lossbook.init(store=store, project="p", console=False)
        assert os.getpid() == 1
        run.log({"loss": 0}, step=0)
        print("ready", flush=True)
        sys.stdin.readline()
        run.log({"loss": 1}, step=1)
    """
    process = begin(code, store, before=inside)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.communicate("go on\n", timeout=30)
    assert process.returncode == 0
    assert steps(only_run(store)) == [0, 1]
    assert recorded(only_run(store)).state == "finished"


def test_sigterm_during_finish_does_not_hang(store: Path) -> None:
    code = """
        run = lossbook.init(store=store, project="p", console=False)
        sync = run.sync
        def slow_sync():
            os.kill(os.getpid(), signal.SIGTERM)
            return sync()
        run.sync = slow_sync
        run.finish()
    """
    assert run(code, store).returncode == -signal.SIGTERM
    assert recorded(only_run(store)).state in ("finished", "killed")


def test_a_handler_of_the_users_own_decides_about_sigterm(store: Path) -> None:
    code = """
        signal.signal(signal.SIGTERM, lambda number, frame: print("saving", flush=True))
        run = lossbook.init(store=store, project="p", console=False)
        os.kill(os.getpid(), signal.SIGTERM)
        run.log({"loss": 1})
    """
    done = run(code, store)
    assert (done.returncode, done.stdout) == (0, "saving\n")
    assert recorded(only_run(store)).state == "finished"


def test_a_handler_that_the_user_puts_in_later_decides_too(store: Path) -> None:
    code = """
        run = lossbook.init(store=store, project="p", console=False)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    assert run(code, store).returncode == 143
    assert recorded(only_run(store)).state == "killed"


def test_leaving_the_with_block_finishes_the_run(store: Path) -> None:
    with lossbook.init(store=store, project="p", console=False) as one:
        one.log({"loss": 1})
    assert recorded(only_run(store)).state == "finished"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError("out of memory"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "failed"),
        (SystemExit(0), "finished"),
    ],
    ids=["error", "interrupt", "exit 1", "exit 0"],
)
def test_the_with_block_tells_errors_apart(store: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)), lossbook.init(store=store, project="p", console=False) as one:
        one.log({"loss": 1})
        raise error
    assert recorded(only_run(store)).state == state


@pytest.mark.parametrize("state", ["finished", "failed", "interrupted", "killed", "preempted"])
def test_finish_takes_the_state_it_is_given(store: Path, state: str) -> None:
    lossbook.init(store=store, project="p", console=False).finish(state)
    assert recorded(only_run(store)).state == state


def test_a_notebook_begins_and_finishes_one_run_after_another(store: Path) -> None:
    for number in range(3):
        lossbook.init(store=store, project="p", name=f"cell {number}", console=False)
        lossbook.log({"loss": number})
        lossbook.finish()
    assert len(all_runs(store)) == 3
    assert {recorded(folder).state for folder in all_runs(store)} == {"finished"}


def test_finishing_twice_and_logging_afterwards_change_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = lossbook.init(store=store, project="p", console=False)
    one.log({"loss": 1})
    one.finish()
    one.finish("failed")
    one.log({"loss": 2})
    one.log({"loss": 3})
    one.alert("too late")
    assert capsys.readouterr().err.count("after finish()") == 1
    assert recorded(only_run(store)).state == "finished"
    assert steps(only_run(store)) == [] or steps(only_run(store)) == [0]
    assert recorded(only_run(store)).metrics["loss"]["count"] == 1


def test_two_runs_of_one_process_both_end_with_it(store: Path) -> None:
    code = """
        first = lossbook.init(store=store, project="p", name="first")
        second = lossbook.init(store=store, project="p", name="second")
        first.log({"loss": 1}); second.log({"loss": 2})
        raise RuntimeError("both end")
    """
    run(code, store)
    assert [recorded(folder).state for folder in all_runs(store)] == ["failed", "failed"]


@pytest.mark.usefixtures("follower")
def test_the_follower_ends_by_itself_after_each_kind_of_end(tmp_path: Path, wait_until: Any) -> None:
    from lossbook.cli.followers import follower_of

    for number, end in enumerate(
        ("", "raise ValueError", "os.kill(os.getpid(), signal.SIGTERM)", "os.kill(os.getpid(), signal.SIGKILL)")
    ):
        store = tmp_path / str(number) / "store"
        store.parent.mkdir()
        run(LOG_THREE + end, store)
    for number, state in enumerate(("finished", "failed", "killed", "crashed")):
        folder = only_run(tmp_path / str(number) / "store")
        wait_until(lambda folder=folder: follower_of(folder.path) is None and os.listdir(folder.journal) == [], 60)
        assert recorded(folder).state == state
        assert recorded(folder).metrics["loss"]["count"] == 3
