"""Sees to it that a follower looks after each run of this process, and says when none does.

A follower is a process of its own, `python -m lossbook.follower`, one for all runs that processes of this node write into
a store. Nothing here waits for it, and nothing touches the store, which may hang.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossbook.processes import process_start
from lossbook.run.handover import BEHIND_SECONDS, Handover, HandoverFolder, Unshared, hand_over, handover_folder
from lossbook.run.messages import say_once
from lossbook.start import python_command

if TYPE_CHECKING:
    from lossbook.run.distributed import Launch

_Action = tuple[int, int, str, int, int] | tuple[int, int, int]
#: Followers that this process has started, until their exit status was asked for.
started_followers: list[int] = []
#: Those that were asked for it: how they ended.
_ended: dict[int, int] = {}
#: Runs whose followers serve them alone.
_on_their_own: set[str] = set()
_told: set[str] = set()
_LATER = "`lossbook seal` does its work later"


class RunFollower:
    """The follower of one run that this process writes, from the run's beginning to its end."""

    def __init__(self) -> None:
        self._rank: int | None = None  # of the run that was handed over
        self._say_ended: Callable[[], None] | None = None

    def begin(self, run_path: str, *, attempt: int, launch: Launch) -> None:
        """Hand the run over where this process leads on its node; elsewhere let the follower know of this rank."""
        if launch.rank > 0:
            self._say_ended = announce_rank(run_path, attempt=attempt, rank=launch.rank)
        if launch.local_rank != 0:
            return
        self._rank = launch.rank
        start_follower(run_path, attempt=attempt, rank=launch.rank)

    def look_after(self, run_path: str, *, attempt: int) -> str | None:
        """As `look_after_follower`; None where the run was not handed over by this process."""
        return None if self._rank is None else look_after_follower(run_path, attempt=attempt, rank=self._rank)

    def end(self) -> None:
        """The run has said how it ended: this process may end in any way."""
        if self._say_ended is not None:
            self._say_ended()

    def leave_to_parent(self) -> None:
        """In a child process: the follower is the parent's to look after."""
        self._rank = self._say_ended = None


def start_follower(run_path: str, *, attempt: int, rank: int, pid: int | None = None) -> None:
    """Hand a run to the follower of this node, which is started where none lives; what goes wrong is said.

    Args:
        pid: the training process; this one unless told otherwise.
    """
    if os.environ.get("LOSSBOOK_FOLLOWER", "on") in ("off", "0", "none"):
        return
    if not sys.executable:
        say_once(f"no follower was started, because Python does not know its own path; {_LATER}")
        return
    if getattr(sys, "frozen", False):
        say_once(f"no follower was started, because this program is a single file without an interpreter; {_LATER}")
        return
    pid = os.getpid() if pid is None else pid
    try:
        cwd: str | None = os.getcwd()
    except OSError:
        cwd = None
    folder = handover_folder(_store_of(run_path))
    try:
        hand_over(
            Handover(run_path, pid, process_start(pid), attempt, rank, cwd),
            folder,
            lambda: _start([_store_of(run_path), "--folder", folder.path], folder.log),
        )
    except Unshared:
        _start_own(run_path, pid, attempt, rank)
    except (OSError, NotImplementedError, ValueError) as error:
        # ValueError: a variable of the environment that no process can be given.
        say_once(f"no follower could be started ({error}); {_LATER}")


def announce_rank(run_path: str, *, attempt: int, rank: int) -> Callable[[], None] | None:
    """Let this node's follower know of a rank that is not handed over, so that it is missed when it is killed.

    Returns:
        What to call when the rank has said how it ended; None where there is no such follower.
    """
    start = process_start(os.getpid())
    if start is None or os.environ.get("LOSSBOOK_FOLLOWER", "on") in ("off", "0", "none"):
        return None
    folder = handover_folder(_store_of(run_path))
    for _ in range(3):
        try:
            name = folder.announce_rank(Handover(run_path, os.getpid(), start, attempt, rank))
        except FileNotFoundError:  # a follower that has just left took the folder along
            continue
        except (Unshared, OSError):
            return None
        return lambda: folder.drop_rank(name)
    return None


def _start_own(run_path: str, pid: int, attempt: int, rank: int) -> None:
    """Start a follower for this run alone."""
    _on_their_own.add(run_path)
    arguments = [run_path, "--pid", str(pid), "--attempt", str(attempt), "--rank", str(rank)]
    log = os.path.join(run_path, "followers", "follow.log")
    try:
        os.makedirs(os.path.dirname(log), exist_ok=True)
    except OSError:
        log = os.devnull
    try:
        _start(arguments, log)
    except (OSError, NotImplementedError, ValueError) as error:
        say_once(f"no follower could be started ({error}); {_LATER}")


def _start(arguments: list[str], log: str) -> int:
    """Start a follower and return its process id.

    `posix_spawn` rather than `fork`: a training process may hold a hundred gigabytes, and its page tables with them.

    Raises:
        OSError, NotImplementedError, ValueError: it cannot be started.
    """
    actions: list[_Action] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = python_command("lossbook.follower", *arguments)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True, setsigmask=())
    started_followers.append(pid)
    return pid


def look_after_follower(run_path: str, *, attempt: int, rank: int) -> str | None:
    """See whether the follower that a run was handed to lives; start another where it was killed.

    Reads a small file on the local disk; meant for the rare moments of a run.

    Returns:
        What is wrong, in one sentence that this process has not been told yet; None where nothing is known to be.
    """
    if run_path in _on_their_own or os.environ.get("LOSSBOOK_FOLLOWER", "on") in ("off", "0", "none"):
        return None
    collect_followers()
    folder = handover_folder(_store_of(run_path))
    serves = folder.process()
    if serves is not None and serves.is_alive():
        silent = time.time() - serves.heard
        if silent <= BEHIND_SECONDS:
            return None
        return _once(
            "behind",
            f"the follower (process {serves.pid}) has not been heard of for {silent:.0f} s: it has fallen behind, or the "
            f"store does not answer it; {_LATER} if it does not go on",
        )
    if serves is None or serves.is_ready:
        start_follower(run_path, attempt=attempt, rank=rank)
        return None
    folder.take_back(os.getpid())
    how = f" with status {_ended[serves.pid]}" if _ended.get(serves.pid) else ""
    return _once("ended", f"the follower ended at its start{how}{_last_line(folder)}; {_LATER}")


def _once(kind: str, sentence: str) -> str | None:
    if kind in _told:
        return None
    _told.add(kind)
    return sentence


def _last_line(folder: HandoverFolder) -> str:
    """What a follower said last, to be put behind the sentence that it has ended."""
    try:
        with open(folder.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1].strip()[:200]})" if lines else ""


def collect_followers() -> None:
    """Ask for the exit status of followers that have ended: they are this process's children, and zombies until then."""
    for pid in list(started_followers):
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except OSError:  # somebody else has asked, or this is a forked child
            ended, status = pid, 0
        if ended == pid:
            started_followers.remove(pid)
            _ended[pid] = os.waitstatus_to_exitcode(status)


def _store_of(run_path: str) -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(run_path)))
