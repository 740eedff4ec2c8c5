"""Which process is meant, long after: its id, when it began, and which boot of which machine it ran in."""

from __future__ import annotations

import os


def host_name() -> str:
    """The machine's name, as attempts record it."""
    return os.uname().nodename


def process_start(pid: int) -> float | None:
    """When a process began, in clock ticks since boot (seconds since 1970 off Linux); None when it is gone.

    With the process id it names one process for as long as the machine is up: ids are used again, starts are not.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: field 22; the name may hold spaces.
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, IndexError, ValueError):
        return None if os.path.exists("/proc/self/stat") else _process_start_elsewhere(pid)
    # A zombie has ended; its parent has only not asked yet.
    return None if fields[0] in (b"Z", b"X") else float(fields[19])


def _process_start_elsewhere(pid: int) -> float | None:
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def boot_id() -> str | None:
    """What this boot of the machine is called; None where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def is_alive(pid: int, start: float | None, boot: str | None) -> bool:
    """Whether the very process that was recorded runs on this machine now.

    Args:
        start: its `process_start`, or None where that was not known (the id alone decides then).
        boot: its `boot_id`, or None where that was not known.
    """
    here = boot_id()
    if boot is not None and here is not None and boot != here:
        return False
    now = process_start(pid)
    if now is None:
        return False
    return start is None or abs(now - start) < 1.0
