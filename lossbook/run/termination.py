"""Ends the runs of a process that SIGTERM ends, and sees to it that it ends: what SIGTERM did without a run, it does.

A handler is put in only where SIGTERM would end the process: not where the user has one, and not in process 1 of a
container, for which the kernel ignores a signal without a handler. Python calls a handler between two steps of the main
thread, so never while that hangs in a library; a thread that sleeps until a signal comes ends the process then.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

#: A main thread that has not come to its handler by then hangs.
HANGING_SECONDS = 2.0
#: So long a handler may take to write what is left, and so long a run of a process that hangs.
ENDING_SECONDS, LAST_SECONDS = 30.0, 5.0
_KILLED = 128 + signal.SIGTERM

_end: Callable[[], None] | None = None
_begun = threading.Event()
_pipe: tuple[int, int] | None = None


def end_runs_at_sigterm(end: Callable[[], None]) -> None:
    """Call `end` before SIGTERM ends the process; does nothing where it would not end it."""
    global _end
    if threading.current_thread() is not threading.main_thread() or os.getpid() == 1:
        return
    try:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        signal.signal(signal.SIGTERM, _terminated)
    except (ValueError, OSError):
        return
    _end = end
    if _pipe is None:
        _begin_watching()


def leave_sigterm_to_child() -> None:
    """In a forked child: SIGTERM ends it as it ends a process without a run."""
    global _end, _pipe
    _end = None
    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _pipe is not None:
        # The child's signals are not the parent's.
        before = signal.set_wakeup_fd(-1)
        if before not in (-1, _pipe[1]):
            signal.set_wakeup_fd(before)
        for fd in _pipe:
            os.close(fd)
        _pipe = None


def _terminated(number: int, frame: FrameType | None) -> None:
    _begun.set()
    _say_ended()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _say_ended() -> None:
    if _end is not None:
        _end()


def _begin_watching() -> None:
    """Have a thread told of each signal as it comes, whatever the main thread is at."""
    global _pipe
    try:
        told, telling = os.pipe()
    except OSError:
        return
    os.set_blocking(telling, False)
    before = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    if before != -1:
        # An event loop is told of signals already, and there can be one alone.
        signal.set_wakeup_fd(before)
        os.close(told)
        os.close(telling)
        return
    _pipe = told, telling
    threading.Thread(target=_watch, args=(told,), name="lossbook-sigterm", daemon=True).start()


def _watch(told: int) -> None:
    while numbers := os.read(told, 512):
        if signal.SIGTERM not in numbers or signal.getsignal(signal.SIGTERM) is not _terminated:
            continue
        if _begun.wait(HANGING_SECONDS):
            time.sleep(ENDING_SECONDS)  # the handler ends the process, unless the disk hangs that it writes to
        else:
            # In a thread of its own, because the main thread may hold what it waits for.
            ending = threading.Thread(target=_say_ended, daemon=True)
            ending.start()
            ending.join(LAST_SECONDS)
        _die()


def _die() -> None:
    """End by SIGTERM, from a thread, where Python sets no handler."""
    try:
        import ctypes

        ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)
    finally:
        os._exit(_KILLED)
