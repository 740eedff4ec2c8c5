"""How a process ended that said nothing: what the kernel tells of its exit, and of the memory that ran out."""

from __future__ import annotations

import os
import sys
import time

from lossbook.processes import process_start

#: The kernel's PIDFD_GET_INFO for a `struct pidfd_info` of 64 bytes, and its PIDFD_INFO_EXIT (Linux 6.15).
_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_INFO_EXIT = 1 << 3
_EXIT_CODE_AT = 60
#: Signals by which a process crashes, rather than is killed by another.
_CRASHES = frozenset(("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"))
#: A process that dies so soon after the kernel has ended one for want of memory is the one.
_LATELY_SECONDS = 15.0


class ProcessEnd:
    """What the system knows of one process once it has ended; to be made while it lives.

    Args:
        start: its `process_start`.
    """

    def __init__(self, pid: int, start: float | None) -> None:
        self._fd = -1
        if sys.platform != "linux":
            return
        try:
            self._fd = os.pidfd_open(pid)
        except (OSError, AttributeError):  # an older kernel, or a Python that was built for one
            return
        if start is not None and process_start(pid) not in (start, None):
            self.close()  # another one has its number

    def status(self) -> int | None:
        """Its exit code, or the signal that ended it as a negative number; None where the kernel does not tell."""
        if self._fd < 0:
            return None
        import fcntl

        answer = bytearray(_INFO_EXIT.to_bytes(8, sys.byteorder) + bytes(56))
        try:
            fcntl.ioctl(self._fd, _GET_INFO, answer)
        except OSError:  # an older kernel
            return None
        told = int.from_bytes(answer[:8], sys.byteorder)
        code = int.from_bytes(answer[_EXIT_CODE_AT:], sys.byteorder, signed=True)
        return os.waitstatus_to_exitcode(code) if told & _INFO_EXIT else None

    def close(self) -> None:
        """Let go of the process."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class MemoryKills:
    """Counts the processes of this control group that the kernel's out-of-memory killer has ended."""

    def __init__(self) -> None:
        self._count = _oom_kills()
        self._last = -_LATELY_SECONDS

    def new(self) -> int:
        """How many there were since the last call."""
        before, self._count = self._count, _oom_kills()
        found = 0 if self._count is None or before is None else max(0, self._count - before)
        if found:
            self._last = time.monotonic()
        return found

    def is_recent(self) -> bool:
        """Whether there was one in the last seconds."""
        self.new()
        return time.monotonic() - self._last < _LATELY_SECONDS


def how_it_ended(status: int | None, *, out_of_memory: bool) -> str | None:
    """The predicate of a sentence about a process that said nothing; None where nothing is known.

    Args:
        status: `ProcessEnd.status()`.
        out_of_memory: whether the kernel has just ended a process of the control group for want of memory.
    """
    import signal  # its names are many, and a follower needs them once

    if out_of_memory and status in (None, -signal.SIGKILL):
        return f"was killed by the kernel's out-of-memory killer{_limit()}"
    if status is None:
        return None
    if status >= 0:
        return f"ended with exit code {status} and without a word"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"crashed with {name}" if name in _CRASHES else f"was killed by {name}"


def _limit() -> str:
    from lossbook.monitor import container_memory_bytes

    limits = container_memory_bytes()
    return "" if limits is None else f" (its control group may use {limits[1] / 1e9:.3g} GB)"


def _oom_kills() -> int | None:
    from lossbook.monitor import oom_kills

    return oom_kills()
