"""Which follower processes live on this machine, and whose they are."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from lossbook.run import BEHIND_SECONDS, HandoverFolder


def living_followers() -> dict[str, list[int]]:
    """Process ids of the followers that run here, by the paths of the run folders that each looks after."""
    found: dict[str, list[int]] = {}
    for pid, path, folder in _followers():
        for run in [path] if folder is None else [one.run for one in folder.waiting()]:
            found.setdefault(os.path.realpath(run), []).append(pid)
    return found


def followers_behind() -> list[str]:
    """A sentence for each follower here that has not been heard of for a while."""
    sentences = []
    for pid, store, folder in _followers():
        serves = folder.process() if folder is not None else None
        silent = 0.0 if serves is None or serves.pid != pid else time.time() - serves.heard
        if silent > BEHIND_SECONDS:
            sentences.append(
                f"the follower of {store} (process {pid}) has not been heard of for {silent:.0f} s: it has fallen behind, "
                "or the store does not answer it"
            )
    return sentences


def _followers() -> Iterator[tuple[int, str, HandoverFolder | None]]:
    """The process id of each follower, and its store with the folder where runs are handed over, or else its one run."""
    for pid, arguments in _command_lines():
        try:
            at = arguments.index("lossbook.follower")
            path = arguments[at + 1]
        except (ValueError, IndexError):
            continue
        if not at or path.startswith("-"):
            continue
        if arguments[at + 2 : at + 3] != ["--folder"] or len(arguments) <= at + 3:
            yield pid, path, None
            continue
        folder = HandoverFolder(arguments[at + 3])
        serves = folder.process()
        if serves is None or serves.pid == pid:  # another is a child that is about to become git, say
            yield pid, path, folder


def follower_of(path: str) -> int | None:
    """The process id of a run's follower on this machine; None when there is none."""
    pids = living_followers().get(os.path.realpath(path))
    return pids[0] if pids else None


def _command_lines() -> list[tuple[int, list[str]]]:
    lines = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return _command_lines_elsewhere()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                raw = file.read()
        except OSError:
            continue
        if b"lossbook.follower" in raw:
            lines.append((pid, [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]))
    return lines


def _command_lines_elsewhere() -> list[tuple[int, list[str]]]:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    return [
        (process.pid, process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and "lossbook.follower" in process.info["cmdline"]
    ]
