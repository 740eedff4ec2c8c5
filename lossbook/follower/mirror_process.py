"""`python -m lossbook.follower.mirror_process RUN_FOLDER... --to NAME --mode M --pid PID`: mirrors in a process of their own.

A mirror that hangs or dies takes nothing with it: `Mirrors` in the run's follower starts each of them, hears whether
they live, and starts them again. A run that goes on has a process for each tracker. Runs that have ended share: a few
processes at a time, each for all runs that wait for the same tracker with the same environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


#: Processes at a time that deliver runs which have ended, and such runs that one of them gets at the most.
MOST_FOR_ENDED, MOST_RUNS = 2, 50


@dataclass(eq=False)
class _Process:
    """A process that delivers runs to one tracker, one after the other."""

    popen: subprocess.Popen[bytes]
    started: float
    children: list[_Child]


@dataclass(eq=False)
class _Child:
    """One run on its way to one tracker."""

    mirrors: Mirrors
    name: str
    mode: str
    process: _Process | None = None
    starts: int = 0
    not_before: float = 0.0
    done: bool = False

    def same_work(self) -> tuple[object, ...]:
        """What two runs have in common that one process can deliver."""
        alone = id(self) if self.starts else 0  # one that was not delivered at the first go holds up no other
        return (self.name, self.mode, *self.mirrors.same_work(), alone)


class _EndedRuns:
    """Runs that have ended and wait for a process."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[object, ...], list[_Child]] = {}
        self._active: list[_Process] = []

    def add(self, child: _Child) -> None:
        """Let a run wait, and start a process if there may be one more."""
        waiting = self._waiting.setdefault(child.same_work(), [])
        if child not in waiting:
            waiting.append(child)
        self._active = [process for process in self._active if process.popen.poll() is None]
        while self._waiting and len(self._active) < MOST_FOR_ENDED:
            work, children = next(iter(self._waiting.items()))
            chosen, rest = children[:MOST_RUNS], children[MOST_RUNS:]
            del self._waiting[work]
            if rest:
                self._waiting[work] = rest
            process = chosen[0].mirrors.start(chosen)
            if process is not None:
                self._active.append(process)


_ended_runs = _EndedRuns()


class Mirrors:
    """The mirrors of one run.

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
        self._children: list[_Child] = []
        for spec in specs:
            name, _, own = spec.partition(":")
            chosen = own or mode
            if chosen in ("online", "offline"):
                self._children.append(_Child(self, name, chosen))
        self._stuck_seconds = float(self._environment.get("LOSSBOOK_MIRROR_TIMEOUT") or STUCK_SECONDS)

    def tend(self, *, is_over: bool = False) -> bool:
        """Start those that do not run, end those that hang; returns whether any still has something to do.

        Args:
            is_over: whether nobody writes the run any more.
        """
        now = time.monotonic()
        for child in self._children:
            if child.done:
                continue
            if child.process is None:
                if now >= child.not_before:
                    if is_over:
                        _ended_runs.add(child)
                    else:
                        self.start([child])
                continue
            status = child.process.popen.poll()
            if status is None:
                if self._is_stuck(child.process):
                    self._end(child.process)
                    if child.mode == "online" and child.starts >= 2:
                        child.mode = "offline" if has_offline(child.name) else child.mode
                    self._again(child, f"{child.name} does not answer")
            elif status == 0 or (len(child.process.children) > 1 and self._is_delivered(child)):
                child.done = True
            else:
                self._again(child, f"the mirror to {child.name} ended with status {status}")
        return not all(child.done for child in self._children)

    def same_work(self) -> tuple[object, ...]:
        """What the processes of two runs need to have in common to be one."""
        return (self._pid, self._attempt, self._cwd, tuple(sorted(self._environment.items())))

    def all_delivered(self) -> bool:
        """Whether every tracker has all of the run."""
        return all(map(self._is_delivered, self._children))

    def _is_delivered(self, child: _Child) -> bool:
        return any(
            is_complete(self._folder, load_cursor(self._folder, cursor_name(child.name, mode)))
            for mode in (child.mode, "offline")
        )

    def start(self, children: list[_Child]) -> _Process | None:
        """Start a process for runs that have the same work, this one among them; None where that fails."""
        child = children[0]
        log_path = os.path.join(self._folder.followers, f"{cursor_name(child.name, child.mode)}.log")
        arguments = python_command(
            "lossbook.follower.mirror_process",
            *(one.mirrors._folder.path for one in children),
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
        for one in children:
            one.starts += 1
        try:
            with open(log_path, "ab") as log:
                popen = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._cwd,
                    start_new_session=True,
                )
        except OSError as error:
            for one in children:
                one.mirrors._again(one, f"the mirror to {child.name} could not be started ({error.strerror})")
            return None
        process = _Process(popen, time.time(), children)
        for one in children:
            one.process = process
        return process

    def _is_stuck(self, process: _Process) -> bool:
        heard = process.started
        for child in process.children:
            for mode in ("online", "offline"):
                try:
                    path = beat_path(child.mirrors._folder, cursor_name(child.name, mode))
                    heard = max(heard, os.stat(path).st_mtime)
                except OSError:
                    continue
        return time.time() - heard > self._stuck_seconds

    def _end(self, process: _Process) -> None:
        """End a mirror with all that it started."""
        try:
            os.killpg(process.popen.pid, signal.SIGKILL)
        except OSError:
            process.popen.kill()
        process.popen.wait()

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
    parser.add_argument("folders", nargs="+", help="the runs' folders: one that is written, or such as have ended")
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
    status = 0
    for path in arguments.folders:
        folder = RunFolder(path)
        if len(arguments.folders) > 1:
            _log_beside(folder, cursor_name(arguments.to, arguments.mode))
        print(
            f"{time.strftime('%Y-%m-%d %H:%M:%S')} mirror {os.getpid()} to {arguments.to} ({arguments.mode})",
            flush=True,
        )
        try:
            mirror_live(
                folder,
                arguments.to,
                mode=arguments.mode,
                is_over=_over(folder, arguments.pid, arguments.attempt, arguments.follower),
                tell=lambda sentence: tell(arguments.pid, sentence),
                pid=arguments.pid,
            )
        except (LossbookError, OSError) as error:
            print(f"{time.strftime('%H:%M:%S')} {error}", flush=True)
            status = 1
    return status


def _log_beside(folder: RunFolder, name: str) -> None:
    """Go on with the output in the log of another run."""
    try:
        log = os.open(os.path.join(folder.followers, f"{name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        return
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


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
