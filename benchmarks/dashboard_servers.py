"""The dashboards' servers: each started as its documentation shows, on a free port of this machine, and ended again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness import start
from benchmarks.trackers import OURS, PROJECT, recorded_in

START_SECONDS = 90.0
_ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):\d+")


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        address: without a slash at its end.
        process: the leader of a process group that holds all of it.
    """

    address: str
    process: subprocess.Popen[bytes]

    def memory_bytes(self) -> int:
        """Resident memory of the whole process tree."""
        import psutil

        whole = psutil.Process(self.process.pid)
        return sum(one.memory_info().rss for one in (whole, *whole.children(recursive=True)))


@contextmanager
def serving(tracker: str, folder: str, options: Sequence[str] = ()) -> Iterator[Served]:
    """The dashboard on what `tracker` wrote below `folder`, until the block ends.

    Raises:
        RuntimeError: it ended, or did not say its address in time; the message has the end of what it printed.
    """
    log = os.path.join(folder, f"server-{tracker}.log")
    # Python would keep the address to itself until its buffer is full, and no browser shall open.
    os.environ.update(PYTHONUNBUFFERED="1", BROWSER="true", GRADIO_SERVER_PORT=str(_free_port()))
    with open(log, "wb") as output:
        process = start([*_command(tracker, folder), *options], folder, output, group=True)
    try:
        yield Served(_address(process, log), process)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process group, by force what does not go by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def await_tensorboard(served: Served, runs: int) -> None:
    """Wait until TensorBoard's loader has read every run."""
    deadline = time.monotonic() + START_SECONDS
    before = ""
    while time.monotonic() < deadline:
        # How far each run is read, as far as it tells: its tags, with a summary each.
        with urllib.request.urlopen(f"{served.address}/data/plugin/scalars/tags", timeout=60) as answer:
            text = answer.read().decode()
        if len(json.loads(text)) >= runs and text == before:
            return
        before = text
        time.sleep(2.0)
    raise RuntimeError(f"TensorBoard has not read its {runs} runs within {START_SECONDS:.0f} s")


def _command(tracker: str, folder: str) -> list[str]:
    if tracker == OURS:
        store = recorded_in(OURS, folder)
        return [sys.executable, "-m", "lossbook.cli", "serve", "--store", store, "--port", "0", "--no-open", "--json"]
    if tracker == "trackio":
        return [sys.executable, "-c", "from trackio.cli import main; main()", "show", "--project", PROJECT]
    logs = recorded_in(tracker, folder)
    return [sys.executable, "-m", "tensorboard.main", "--logdir", logs, "--port", "0"]


def _address(process: subprocess.Popen[bytes], log: str) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with open(log, encoding="utf-8", errors="replace") as file:
            printed = file.read()
        found = _ADDRESS.search(printed)
        if found is not None:
            return found.group()
        if process.poll() is not None:
            raise RuntimeError(f"the dashboard's server ended: {printed[-1000:].strip()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the dashboard's server said no address: {printed[-1000:].strip()}")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
