"""`python -m lossbook.follower.mirror_process RUN_FOLDER --to NAME --mode M --pid PID`: one mirror, in a process of its own.

A mirror that hangs or dies takes nothing with it: `Mirrors` in the run's follower starts each of them, hears whether
they live, and starts them again.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lossbook.errors import LossbookError
from lossbook.follower.alerts import is_diagnosed
from lossbook.follower.cursor import load_cursor
from lossbook.follower.deliver import beat_path, cursor_name, is_complete, mirror_live
from lossbook.follower.terminal_notice import Note, print_note, tell
from lossbook.journal import live_writers, seems_over
from lossbook.paths import RunFolder
from lossbook.processes import boot_id, is_alive, process_start
from lossbook.run import start_follower
from lossbook.start import python_command
from lossbook.trackers import has_offline

#: A mirror that is not heard of for so long is taken for hung; `LOSSBOOK_MIRROR_TIMEOUT` says otherwise.
STUCK_SECONDS = 120.0
#: What the follower finds in the training's last rows is waited for, but no longer than that.
DIAGNOSIS_SECONDS = 10.0
#: So often a mirror is started again before it is given up (`lossbook sync` delivers the rest).
MOST_STARTS = 5


@dataclass
class _Child:
    name: str
    mode: str
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    not_before: float = 0.0
    started: float = 0.0
    done: bool = False
    log: str = field(default="", repr=False)


class Mirrors:
    """The mirror processes of one run.

    Args:
        specs: "wandb", "wandb:offline", ... as in `run.json`.
        mode: of those that name none.
        pid: the training process.
        attempt: the attempt that it writes.
        environment: the training's variables; those of this process unless told otherwise.
        cwd: its working directory.
        note: takes what is worth a line in the follower's log.
    """

    def __init__(
        self,
        folder: RunFolder,
        specs: list[str],
        *,
        mode: str,
        pid: int,
        attempt: int = 0,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        note: Note = print_note,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self._cwd = cwd if cwd and os.path.isdir(cwd) else None
        self._note = note
        self._folder = folder
        self._pid = pid
        self._attempt = attempt
        self._children = []
        for spec in specs:
            name, _, own = spec.partition(":")
            chosen = own or mode
            if chosen in ("online", "offline"):
                self._children.append(_Child(name, chosen))
        self._stuck_seconds = float(self._environment.get("LOSSBOOK_MIRROR_TIMEOUT") or STUCK_SECONDS)

    def tend(self) -> bool:
        """Start those that do not run, end those that hang; returns whether any still has something to do."""
        now = time.monotonic()
        for child in self._children:
            if child.done:
                continue
            if child.process is None:
                if now >= child.not_before:
                    self._start(child)
                continue
            status = child.process.poll()
            if status is None:
                if self._is_stuck(child):
                    self._end(child)
                    if child.mode == "online" and child.starts >= 2:
                        child.mode = "offline" if has_offline(child.name) else child.mode
                    self._again(child, f"{child.name} does not answer")
            elif status == 0:
                child.done = True
            else:
                self._again(child, f"the mirror to {child.name} ended with status {status}")
        return not all(child.done for child in self._children)

    def all_delivered(self) -> bool:
        """Whether every tracker has all of the run."""
        return all(
            is_complete(self._folder, load_cursor(self._folder, cursor_name(child.name, child.mode)))
            or is_complete(self._folder, load_cursor(self._folder, cursor_name(child.name, "offline")))
            for child in self._children
        )

    def _start(self, child: _Child) -> None:
        child.starts += 1
        child.started = time.time()
        child.log = os.path.join(self._folder.followers, f"{cursor_name(child.name, child.mode)}.log")
        arguments = python_command(
            "lossbook.follower.mirror_process",
            self._folder.path,
            "--to",
            child.name,
            "--mode",
            child.mode,
            "--pid",
            str(self._pid),
            "--attempt",
            str(self._attempt),
            "--follower",
            str(os.getpid()),
        )
        try:
            with open(child.log, "ab") as log:
                child.process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._cwd,
                    start_new_session=True,
                )
        except OSError as error:
            self._again(child, f"the mirror to {child.name} could not be started ({error.strerror})")

    def _is_stuck(self, child: _Child) -> bool:
        heard = child.started
        for mode in ("online", "offline"):
            try:
                heard = max(heard, os.stat(beat_path(self._folder, cursor_name(child.name, mode))).st_mtime)
            except OSError:
                continue
        return time.time() - heard > self._stuck_seconds

    def _end(self, child: _Child) -> None:
        """End a mirror with all that it started."""
        assert child.process is not None
        try:
            os.killpg(child.process.pid, signal.SIGKILL)
        except OSError:
            child.process.kill()
        child.process.wait()

    def _again(self, child: _Child, why: str) -> None:
        child.process = None
        self._note(why)
        if child.starts >= MOST_STARTS:
            child.done = True
            run = os.path.basename(self._folder.path)
            tell(
                self._pid,
                f"{why}; training goes on, and `lossbook sync {run} --to {child.name}` delivers the rest later",
                self._note,
            )
            return
        child.not_before = time.monotonic() + min(60.0, 0.5 * 4 ** (child.starts - 1))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lossbook.follower.mirror_process", description=__doc__)
    parser.add_argument("folder", help="the run's folder")
    parser.add_argument("--to", required=True, help="the tracker")
    parser.add_argument("--mode", choices=("online", "offline"), default="online")
    parser.add_argument("--pid", type=int, required=True, help="the training process")
    parser.add_argument("--attempt", type=int, default=0, help="the attempt that it writes")
    parser.add_argument("--follower", type=int, default=os.getppid(), help="the follower that started this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.nice(19)
    except OSError:
        pass
    folder = RunFolder(arguments.folder)
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} mirror {os.getpid()} to {arguments.to} ({arguments.mode})", flush=True)
    try:
        is_over = _over(folder, arguments.pid, arguments.attempt, arguments.follower)
        mirror_live(
            folder,
            arguments.to,
            mode=arguments.mode,
            is_over=is_over,
            tell=lambda sentence: tell(arguments.pid, sentence),
            pid=arguments.pid,
        )
    except (LossbookError, OSError) as error:
        print(f"{time.strftime('%H:%M:%S')} {error}", flush=True)
        return 1
    return 0


def _over(folder: RunFolder, pid: int, attempt: int, follower: int) -> Callable[[], bool]:
    """A function that says whether nobody writes the run any more; it also sees to it that the run has a follower."""
    start, boot = process_start(pid), boot_id()
    ended = 0.0

    def is_over() -> bool:
        nonlocal ended
        if not os.path.isdir(folder.path):
            return True
        if all(seems_over(segment) for segment in live_writers(folder.journal)):
            # That the last loss is NaN is an alert as well, and the follower is about to write it.
            ended = ended or time.monotonic()
            is_awaited = os.getppid() == follower and time.monotonic() - ended < DIAGNOSIS_SECONDS
            return not is_awaited or is_diagnosed(folder, attempt)
        ended = 0.0
        if os.getppid() != follower and is_alive(pid, start, boot):
            # The follower was killed: another one takes over, with mirrors of its own that go on from the cursors.
            start_follower(folder.path, attempt=attempt, rank=0, pid=pid)
            sys.exit(0)
        return False

    return is_over


if __name__ == "__main__":
    sys.exit(main())
