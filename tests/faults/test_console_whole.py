"""The whole console: what C libraries and child processes print too, whatever ends the training or what keeps it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import begin, kill_group, run
from waiting import wait_until

PROGRAM = """
import ctypes, subprocess
libc = ctypes.CDLL(None)
def begin(**arguments):
    return lossbook.init(store=store, project="p", id="r", system_metrics=False, **arguments)
"""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it Python prints a line in pieces, and other processes print between them."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def console(store: Path, run_id: str = "r", rank: int = 0) -> str:
    path = store / "p" / run_id / "console" / f"r{rank}.log"
    return path.read_text() if path.exists() else ""


def pumps(pid: int) -> list[int]:
    """The processes that pass on what this one prints."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes()
            status = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"console_pump" in words and int(status[1]) == pid and status[0] != "Z":
            found.append(int(name))
    return found


def test_all_that_a_process_and_its_children_print_is_kept_in_its_order(store: Path) -> None:
    ended = run(
        PROGRAM
        + """
print("before")
run = begin()
print("python")
libc.printf(b"a C library\\n"); libc.fflush(None)
subprocess.run(["sh", "-c", "echo a child; echo its error >&2"])
os.write(1, b"a descriptor\\n")
if os.fork() == 0:
    print("a forked child")
    os._exit(0)
os.wait()
print("api_key='sk-abcdefghijklmnopqrstuv'", file=sys.stderr)
libc.printf(b"what C had not written yet")
run.finish()
print()
print("afterwards")
""",
        store,
    )
    assert ended.returncode == 0
    lines = ["python", "a C library", "a child", "a descriptor", "a forked child", "what C had not written yet"]
    assert ended.stdout == "\n".join(["before", *lines, "afterwards", ""])
    assert ended.stderr == "its error\napi_key='sk-abcdefghijklmnopqrstuv'\n"
    kept = console(store)
    assert [line for line in kept.splitlines() if line in lines] == lines
    assert "its error" in kept
    assert "api_key='***'" in kept
    assert "sk-abc" not in kept
    assert "before" not in kept
    assert "afterwards" not in kept


def test_standard_output_and_error_in_one_file_keep_their_order(store: Path) -> None:
    out = store.parent / "slurm.out"
    code = (
        PROGRAM
        + """
run = begin()
for number in range(50):
    print("out", number)
    print("err", number, file=sys.stderr)
"""
    )
    script = store.parent / "train.py"
    script.write_text("import os, sys\nimport lossbook\nstore = sys.argv[1]\n" + code)
    with open(out, "ab") as file:
        subprocess.run([sys.executable, script, store], stdout=file, stderr=file, check=True, timeout=90)
    expected = "".join(f"out {number}\nerr {number}\n" for number in range(50))
    assert out.read_text() == expected
    assert console(store) == expected


def test_lines_before_a_kill_are_kept_and_children_go_on_printing(store: Path) -> None:
    process = begin(
        PROGRAM
        + """
run = begin()
child = subprocess.Popen(["sh", "-c", "read line; echo still here && echo err still here >&2; echo status $?"],
                         stdin=subprocess.PIPE, start_new_session=True)
hold = os.dup(child.stdin.fileno())
os.set_inheritable(hold, True)
subprocess.Popen(["sh", "-c", "echo ready; sleep 1; echo go >&%d" % hold], pass_fds=[hold], start_new_session=True)
for number in range(1000):
    print("line", number)
libc.printf(b"C's last words\\n"); libc.fflush(None)
os.kill(os.getpid(), signal.SIGKILL)
""",
        store,
    )
    try:
        out, err = process.communicate(timeout=90)
    finally:
        kill_group(process)
    assert process.returncode == -signal.SIGKILL
    assert "line 999\n" in out
    assert out.endswith("still here\nstatus 0\n")
    assert err == "err still here\n"
    wait_until(lambda: "status 0\n" in console(store))
    kept = console(store)
    assert [line for line in kept.splitlines() if line.startswith("line")] == [
        f"line {number}" for number in range(1000)
    ]
    assert "C's last words\n" in kept


def test_a_training_goes_on_when_what_keeps_its_console_is_killed(store: Path) -> None:
    process = begin(
        PROGRAM
        + """
run = begin()
print("first", flush=True)
sys.stdin.readline()
for number in range(20_000):
    print("a line that fills more than any pipe holds", number)
subprocess.run(["echo", "a child"])
run.finish()
print("end")
""",
        store,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        wait_until(lambda: "first" in console(store))
        (pump,) = pumps(process.pid)
        os.kill(pump, signal.SIGKILL)
        wait_until(lambda: not pumps(process.pid))
        out, err = process.communicate("go\n", timeout=90)
    finally:
        kill_group(process)
    assert process.returncode == 0
    assert out.splitlines()[-3:] == ["a line that fills more than any pipe holds 19999", "a child", "end"]
    assert len(out.splitlines()) == 20_002
    assert "was ended" in err
    assert "holds 19999" in console(store)


def test_finish_gives_the_descriptors_back_as_they_were(store: Path) -> None:
    ended = run(
        PROGRAM
        + """
from waiting import wait_until
def state():
    return [(one.fileno(), os.readlink(f"/proc/self/fd/{one.fileno()}"), one.line_buffering, os.get_inheritable(one.fileno()),
             one.isatty()) for one in (sys.stdout, sys.stderr)]
before = state()
lossbook.init(store=store, project="p", console=False).finish()  # what looks after signals stays open
open_before = len(os.listdir("/proc/self/fd"))
for number in range(3):
    run = lossbook.init(store=store, project="p", id=f"r{number}", system_metrics=False)
    assert state() != before
    subprocess.run(["echo", f"run {number}"])
    if number != 1:
        # The other process passes on the first and the last; the second may be over before.
        kept = os.path.join(run.path, "console", "r0.log")
        wait_until(lambda: os.path.exists(kept) and os.path.getsize(kept))
    run.finish()
    assert state() == before, state()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) == open_before, 30)
""",
        store,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "run 0\nrun 1\nrun 2\n"
    for number in range(3):
        assert console(store, f"r{number}") == f"run {number}\n"


def test_of_two_runs_at_once_each_keeps_what_python_prints(store: Path) -> None:
    ended = run(
        """
first = lossbook.init(store=store, project="p", id="first", system_metrics=False)
second = lossbook.init(store=store, project="p", id="second", system_metrics=False)
print("both")
first.finish()
print("second alone")
second.finish()
print("nobody")
""",
        store,
    )
    assert ended.stdout == "both\nsecond alone\nnobody\n"
    assert console(store, "first") == "both\n"
    assert console(store, "second") == "both\nsecond alone\n"


def test_whoever_stops_reading_ends_the_training_as_without_us(store: Path) -> None:
    process = begin(
        PROGRAM
        + """
run = begin()
for number in range(10_000_000):
    print("line", number)
""",
        store,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        process.wait(60)
        assert process.stderr is not None
        assert "BrokenPipeError" in process.stderr.read()
    finally:
        kill_group(process)
    assert process.returncode != 0


def test_a_daemon_that_lets_go_of_its_output_holds_nobody_up(store: Path) -> None:
    ended = run(
        PROGRAM
        + """
run = begin()
if os.fork() == 0:
    for number in range(3):
        os.close(number)
    time.sleep(600)  # a daemon: the test ends it with the process group
print("done")
""",
        store,
    )
    assert ended.stdout == "done\n"


def test_c_code_that_holds_the_interpreter_prints_more_than_a_pipe_holds(store: Path) -> None:
    ended = run(
        PROGRAM
        + """
run = begin()
holding = ctypes.PyDLL(None)
text = b"x" * 99 + b"\\n"
for _ in range(30):
    holding.write(1, text * 10_000, len(text) * 10_000)
""",
        store,
    )
    assert ended.returncode == 0
    assert len(ended.stdout) == 30_000_000
    assert len(console(store)) == 30_000_000


def test_a_traceback_and_an_interrupt_are_shown_and_kept(store: Path) -> None:
    process = begin(PROGRAM + 'run = begin()\nprint("ready", flush=True)\ntime.sleep(600)  # until Ctrl-C\n', store)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        kill_group(process)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "KeyboardInterrupt" in console(store)


def test_faulthandler_speaks_of_a_crash_and_it_is_kept(store: Path) -> None:
    ended = run(
        PROGRAM + "import faulthandler\nfaulthandler.enable()\nrun = begin()\nctypes.string_at(0)\n",
        store,
    )
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.stderr
    wait_until(lambda: "Fatal Python error: Segmentation fault" in console(store))


def test_a_console_that_cannot_be_kept_is_shown_all_the_same(store: Path) -> None:
    ended = run(
        PROGRAM
        + """
run = begin()
open(os.path.join(run.path, "console"), "w").close()
for number in range(100):
    print("line", number)
""",
        store,
    )
    assert ended.returncode == 0
    assert ended.stdout == "".join(f"line {number}\n" for number in range(100))


def test_a_run_that_is_moved_keeps_its_console(store: Path) -> None:
    process = begin(
        PROGRAM
        + """
run = begin()
print("before", flush=True)
sys.stdin.readline()
print("after")
""",
        store,
    )
    try:
        wait_until(lambda: console(store) == "before\n")
        (store / "p" / "r").rename(store / "p" / "moved")
        out, _ = process.communicate("go\n", timeout=60)
    finally:
        kill_group(process)
    assert out == "before\nafter\n"
    assert console(store, "moved") == "before\nafter\n"


@pytest.mark.parametrize("how", ["fd", "stream"])
def test_what_the_workers_of_a_data_loader_print_is_kept(store: Path, how: str) -> None:
    pytest.importorskip("torch")
    ended = run(
        f"""
import torch
class Numbers(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        print("worker loads", index, flush=True)
        return index
run = lossbook.init(store=store, project="p", id="r", system_metrics=False, console={how!r})
print("main loads", sorted(int(x) for x in torch.utils.data.DataLoader(Numbers(), batch_size=None, num_workers=2)))
run.finish()
""",
        store,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [*(f"worker loads {number}" for number in range(4)), "main loads [0, 1, 2, 3]"]
    assert sorted(ended.stdout.splitlines()) == sorted(lines)
    assert sorted(console(store).splitlines()) == sorted(lines)


@pytest.mark.parametrize(("variable", "kept"), [("stream", "python\n"), ("off", ""), ("fd", "python\nchild\n")])
def test_a_variable_says_how_the_console_is_kept(store: Path, variable: str, kept: str) -> None:
    code = PROGRAM + 'run = begin()\nprint("python", flush=True)\nsubprocess.run(["echo", "child"])\n'
    ended = run(code, store, LOSSBOOK_CONSOLE=variable)
    assert ended.stdout == "python\nchild\n"
    assert console(store) == kept


# -- in a terminal --------------------------------------------------------------------------------------------------


def in_terminal(store: Path, code: str) -> tuple[int, str]:
    """Run a program in a terminal of 111 columns; returns its exit status and what the terminal got."""
    script = store.parent / "train.py"
    script.write_text("import os, sys\nimport lossbook\nstore = sys.argv[1]\n" + PROGRAM + code)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, str(script), str(store)], {**os.environ, "COLUMNS": ""})
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    got = b""
    try:
        while select.select([terminal], [], [], 90)[0]:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # nobody holds the other end any more
                break
            if not chunk:
                break
            got += chunk
            if b"name? " in chunk:
                os.write(terminal, b"Ada\n")
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    return os.waitstatus_to_exitcode(status), got.decode()


SESSION = """
import time
before = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
while os.get_terminal_size(1).columns != 111:
    time.sleep(0.01)  # polls: the test sets the size
run = begin(CONSOLE)
print("terminal", sys.stdout.isatty(), sys.stderr.isatty(), os.isatty(1), os.get_terminal_size(1).columns)
subprocess.run(["sh", "-c", "test -t 1 && echo child in a terminal"])
print("hello", input("name? "))
print("\\x1b[31mred\\x1b[0m")
run.finish()
assert [os.readlink(f"/proc/self/fd/{number}") for number in range(3)] == before
print("end")
"""


@pytest.mark.parametrize("how", ["auto", "fd"])
def test_a_terminal_stays_a_terminal(store: Path, how: str) -> None:
    status, got = in_terminal(store, SESSION.replace("CONSOLE", f"console={how!r}"))
    assert status == 0, got
    assert re.findall(r"[^\r\n]+", got) == [
        "terminal True True True 111",
        "child in a terminal",
        "name? Ada",
        "hello Ada",
        "\x1b[31mred\x1b[0m",
        "end",
    ]
    kept = console(store)
    assert "terminal True True True 111\n" in kept
    assert "\x1b[31mred\x1b[0m\n" in kept
    assert ("child in a terminal" in kept) == (how == "fd")
