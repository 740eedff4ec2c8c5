"""Which follower processes live on this machine, and whose they are."""

from __future__ import annotations

import os

from lossbook.run import HandoverFolder


def living_followers() -> dict[str, list[int]]:
    """Process ids of the followers that run here, by the paths of the run folders that each looks after."""
    found: dict[str, list[int]] = {}
    for pid, arguments in _command_lines():
        try:
            at = arguments.index("lossbook.follower")
            path = arguments[at + 1]
        except (ValueError, IndexError):
            continue
        if not at or path.startswith("-"):
            continue
        runs = [path]
        if arguments[at + 2 : at + 3] == ["--folder"] and len(arguments) > at + 3:
            folder = HandoverFolder(arguments[at + 3])
            runs = [one.run for one in folder.waiting()]
        for run in runs:
            found.setdefault(os.path.realpath(run), []).append(pid)
    return found


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
