"""Running one measurement in a fresh process, and accounting for every process that it leaves behind.

On Linux this process becomes the reaper of its descendants (`PR_SET_CHILD_SUBREAPER`): a process that a tracker
detached, such as Lossbook's follower or wandb's service, is inherited and waited for when its parent has ended, so
`RUSAGE_CHILDREN` holds the processor time of the whole tree, to the last process. Elsewhere only the measured
process itself is accounted for, and `counts_whole_tree()` says so.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.trackers import environment

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_CHILD_SUBREAPER = 36
#: That long what a measurement left behind may go on working by itself; then it is ended.
LEFT_BEHIND_SECONDS = 300.0


class MeasurementFailed(Exception):
    """A measured process did not end as it should; the message has the end of what it printed."""


@dataclass(frozen=True)
class Outcome:
    """What one measurement returned and cost.

    Attributes:
        value: what the function returned.
        wall_seconds: from start to the end of the measured process, its imports included.
        settled_seconds: until the last process of its tree had ended.
        cpu_seconds: user and system time of the whole tree (of the process alone where that cannot be had).
    """

    value: Any
    wall_seconds: float
    settled_seconds: float
    cpu_seconds: float


def become_reaper() -> None:
    """Inherit what measured processes leave behind; does nothing where the system cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def counts_whole_tree() -> bool:
    return sys.platform == "linux"


def fresh(function: Callable[..., Any], folder: str, *, timeout: float = 1200.0, **arguments: Any) -> Outcome:
    """Call `function(folder=folder, **arguments)` in a fresh process inside `folder`.

    Args:
        function: of a module's top level; takes and returns what JSON can hold.
        folder: made if it is not there; all trackers write below it.

    Raises:
        MeasurementFailed: it raised, or took longer than `timeout` seconds.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor, result = tempfile.mkstemp(suffix=".json", dir=folder)
    os.close(descriptor)
    log = result.replace(".json", ".log")
    command = [
        sys.executable,
        "-m",
        "benchmarks.child",
        function.__module__,
        function.__name__,
        json.dumps({"folder": folder, **arguments}),
        result,
    ]
    before = _children_cpu_seconds()
    begin = time.perf_counter()
    with open(log, "wb") as output:
        process = start(command, folder, output)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    wall_seconds = time.perf_counter() - begin
    wait_for_what_is_left()
    settled_seconds = time.perf_counter() - begin
    cpu_seconds = _children_cpu_seconds() - before
    with open(log, encoding="utf-8", errors="replace") as file:
        printed = file.read()
    if code != 0:
        why = f"took longer than {timeout:.0f} s" if code is None else f"ended with status {code}"
        raise MeasurementFailed(f"{function.__name__} {why}: {printed[-1500:].strip()}")
    with open(result, encoding="utf-8") as file:
        value = json.load(file)
    os.unlink(result)
    os.unlink(log)
    return Outcome(value, wall_seconds, settled_seconds, cpu_seconds)


def run_script(script: str, folder: str, *words: str, timeout: float = 600.0) -> Outcome:
    """Run a script in an interpreter that has loaded nothing else, and time all of it, the interpreter's start included.

    Args:
        script: its text; it finds `words` in `sys.argv[1:]`.

    Returns:
        What it printed, and what it cost.

    Raises:
        MeasurementFailed: as `fresh`.
    """
    with tempfile.TemporaryFile() as output:
        before = _children_cpu_seconds()
        begin = time.perf_counter()
        process = start([sys.executable, "-c", script, *words], folder, output)
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        seconds = time.perf_counter() - begin
        cpu_seconds = _children_cpu_seconds() - before
        output.seek(0)
        printed = output.read().decode(errors="replace").strip()
    if code != 0:
        why = f"took longer than {timeout:.0f} s" if code is None else f"ended with status {code}"
        raise MeasurementFailed(f"a script {why}: {printed[-1500:]}")
    return Outcome(printed, seconds, seconds, cpu_seconds)


def start(command: list[str], folder: str, output: Any, *, group: bool = False) -> subprocess.Popen[bytes]:
    """Start a command inside `folder`, this checkout importable, trackers kept in there and off the network."""
    variables = environment(folder)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=group,
    )


def wait_for_what_is_left(seconds: float = LEFT_BEHIND_SECONDS) -> None:
    """Wait until no descendant is left; end by force what is still there after `seconds`."""
    import psutil

    deadline = time.monotonic() + seconds
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > deadline:
                for process in psutil.Process().children(recursive=True):
                    process.kill()
            time.sleep(0.01)


def folder_bytes(path: str) -> int:
    """Sizes of all files below `path`."""
    return sum(
        os.path.getsize(os.path.join(directory, filename))
        for directory, _, filenames in os.walk(path)
        for filename in filenames
    )


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
