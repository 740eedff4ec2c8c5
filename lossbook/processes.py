"""Which process is meant, long after: its id, when it began, and where its id means it.

A process id names a process in one place alone: in one PID namespace (a container has its own), of one boot of one
machine. Elsewhere the same number is another process or none, so nothing about the process can be seen from there.
"""

from __future__ import annotations

import os
import sys
import time
from enum import Enum
from typing import NamedTuple

#: The time namespace that a machine has without containers (the kernel's PROC_TIME_INIT_INO).
_COMMON_TIME = "time:[4026531834]"
#: The kernel's PF_EXITING, among the flags of a process: its memory may be gone already, its state is not yet a zombie's.
_EXITING = 0x4


class Life(Enum):
    """Whether a process lives, as far as can be seen from here. What cannot be told is never "dead"."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Place(NamedTuple):
    """Where process ids mean the same: a PID namespace of a boot of a machine; None for what is not known."""

    host: str | None
    boot: str | None
    pid_namespace: str | None


def this_place() -> Place:
    """Where this process runs."""
    return Place(host_name(), boot_id(), pid_namespace())


def host_name() -> str:
    """The machine's name, as attempts record it."""
    return os.uname().nodename


def pid_namespace() -> str | None:
    """What the system calls this process's PID namespace; None where there are none (off Linux).

    A time namespace of its own is named too: in it, processes seem to have begun at other times.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    try:
        time = os.readlink("/proc/self/ns/time")
    except OSError:  # older than Linux 5.6
        return namespace
    return namespace if time == _COMMON_TIME else f"{namespace} {time}"


def process_life(pid: int, start: float | None) -> Life:
    """Whether a process of this very place lives.

    Args:
        start: its `process_start`; None where that is not known (the id alone decides then).
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Life.DEAD
    except PermissionError:
        pass  # another user's: it is there
    except (OSError, OverflowError):
        return Life.UNKNOWN
    if not _shows_this_namespace():
        # /proc numbers the processes of another namespace.
        return Life.ALIVE if start is None else Life.UNKNOWN
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        began, threads = float(fields[19]), int(fields[17])
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            # It has ended since, or /proc hides the processes of other users.
            return Life.DEAD if _is_gone(pid) else Life.UNKNOWN
        elsewhere = _process_start_elsewhere(pid)
        if elsewhere is None:
            return Life.DEAD if _is_gone(pid) else Life.UNKNOWN
        began, threads, fields = elsewhere, 1, []
    except (OSError, IndexError, ValueError):
        return Life.DEAD if _is_gone(pid) else Life.UNKNOWN
    if start is not None and abs(began - start) >= 1.0:
        return Life.DEAD
    # A zombie has ended, unless only its first thread has.
    return Life.DEAD if fields and fields[0] in (b"Z", b"X") and threads <= 1 else Life.ALIVE


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _shows_this_namespace() -> bool:
    """Whether `/proc` numbers processes as this process does (a namespace of its own may lack a `/proc` of its own)."""
    if sys.platform != "linux":
        return True
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def process_start(pid: int) -> float | None:
    """When a process began, in clock ticks since boot (seconds since 1970 off Linux); None when it is gone.

    With the process id it names one process for as long as the machine is up: ids are used again, starts are not.
    """
    if not _shows_this_namespace():
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: field 22; the name may hold spaces.
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, IndexError, ValueError):
        return None if os.path.exists("/proc/self/stat") else _process_start_elsewhere(pid)
    # A zombie has ended; its parent has only not asked yet. One that is exiting runs none of its program any more.
    return None if fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING else float(fields[19])


def process_age_seconds() -> float | None:
    """How long ago this process began; None where the system does not say."""
    began = process_start(os.getpid())
    if began is None:
        return None
    if not os.path.exists("/proc/self/stat"):
        return max(0.0, time.time() - began)
    try:
        # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: since boot, suspended time included.
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return None
    return max(0.0, now - began / os.sysconf("SC_CLK_TCK"))


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
