"""Starts `python -m lossbook.follower` beside a run, in a session of its own, and collects its exit status."""

from __future__ import annotations

import os
import sys

from lossbook.run.messages import say

_Action = tuple[int, int, str, int, int] | tuple[int, int, int]
started_followers: list[int] = []


def start_follower(run_path: str, *, attempt: int, rank: int) -> None:
    """Start a follower of the run, unless `LOSSBOOK_FOLLOWER` says no; what goes wrong is said.

    `posix_spawn` rather than `fork`: a training process may hold a hundred gigabytes, and its page tables with them.
    """
    if os.environ.get("LOSSBOOK_FOLLOWER", "on") in ("off", "0", "none"):
        return
    if not sys.executable:
        say("no follower was started, because Python does not know its own path; `lossbook seal` does its work later")
        return
    environment = dict(os.environ)
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    arguments = [sys.executable, "-P", "-m", "lossbook.follower", run_path]
    arguments += ["--pid", str(os.getpid()), "--attempt", str(attempt), "--rank", str(rank)]
    try:
        actions = [*_output_actions(run_path), (os.POSIX_SPAWN_DUP2, 1, 2)]
        started_followers.append(
            os.posix_spawn(sys.executable, arguments, environment, file_actions=actions, setsid=True, setsigmask=())
        )
    except (OSError, NotImplementedError, ValueError) as error:
        # ValueError: a variable of the environment that no process can be given.
        say(f"no follower could be started ({error}); `lossbook seal` does its work later")


def _output_actions(run_path: str) -> list[_Action]:
    """Its input is empty, its output goes to the run's `followers/follow.log`, or nowhere where that cannot be made."""
    log = os.path.join(run_path, "followers", "follow.log")
    actions: list[_Action] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    try:
        os.makedirs(os.path.dirname(log), exist_ok=True)
        actions.append((os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    except OSError:
        actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0))
    return actions


def collect_followers() -> None:
    """Ask for the exit status of followers that have ended: they are this process's children, and zombies until then."""
    for pid in list(started_followers):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except OSError:  # somebody else has asked, or this is a forked child
            ended = True
        if ended:
            started_followers.remove(pid)
