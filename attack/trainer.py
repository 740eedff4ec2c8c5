"""A training that can be killed: `python -m attack.trainer STORE MARK FIRST`, and the handle to one (`Trainer`).

It logs a row each few milliseconds, from step FIRST on, and keeps in the file MARK the last step whose `log()` has returned.
It ends when it reads a line: with `finish()` for "finish".
"""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Trainer:
    """A training in a session of its own, with its follower where `followed`.

    Args:
        first: its first step.
        prefix: a command that it is started with (`unshare ...`).
        variables: more of the environment.
    """

    def __init__(
        self,
        store: Path,
        *,
        first: int = 0,
        followed: bool = True,
        prefix: Sequence[str] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        self.first = first
        self._mark = store.parent / f"mark-{os.urandom(4).hex()}"
        self._mark.write_bytes(struct.pack("<q", first - 1))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LOSSBOOK_CACHE": str(store.parent / "cache"),
            "LOSSBOOK_SEGMENT_BYTES": "10000",
            **(variables or {}),
        }
        environment.pop("LOSSBOOK_FOLLOWER", None)
        if not followed:
            environment["LOSSBOOK_FOLLOWER"] = "off"
        command = [*prefix, sys.executable, "-m", "attack.trainer", str(store), str(self._mark), str(first)]
        self.said = store.parent / f"said-{os.urandom(4).hex()}"
        with open(self.said, "wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=store.parent,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def returned(self) -> int:
        """The last step whose `log()` has returned."""
        return int(struct.unpack("<q", self._mark.read_bytes())[0])

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, rows: int) -> None:
        """Wait until it has logged that many rows more, or has ended."""
        goal = self.returned + rows
        while self.returned < goal and self.lives:
            time.sleep(0.005)  # between two looks at another process

    def finish(self, word: str = "finish") -> int:
        """Let it finish (or just end, for another word); returns its status."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        return self._process.wait(timeout=120)

    def kill(self) -> None:
        """SIGKILL, to it alone: its follower is in a session of its own."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def pause(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)


def followers_of(store: Path) -> list[int]:
    """The followers at work on a store, by process id."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"lossbook.follower" in words and any(os.fsencode(store) in word for word in words):
                found.append(int(entry))
    return found


def end_followers(store: Path) -> int:
    """SIGKILL every follower of a store; returns how many there were."""
    found = followers_of(store)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return len(found)


def main(store: str, mark: str, first: str) -> None:
    from attack.runs import begin, log_steps

    run = begin(store, resume="allow")
    with open(mark, "r+b") as file:
        returned = mmap.mmap(file.fileno(), 8)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    step = int(first)
    # A step takes some time, so that others come between two rows.
    while not selector.select(timeout=0.01):
        log_steps(run, [step])
        returned[:8] = struct.pack("<q", step)
        step += 1
    if sys.stdin.readline().strip() == "finish":
        run.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
