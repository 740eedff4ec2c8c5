"""Lets one thread at a time write, at next to no cost where there is only one.

A lock would cost a tenth of the time of a row. One thread alone passes an open gate instead: a statement without a call
looks and claims at once, because the interpreter changes threads, and runs signal handlers, only at calls and loops.
From the first time that two threads meet, all take the lock.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import ClassVar, Final, TypeVar

#: Nobody writes.
OPEN: Final = 0
#: Somebody writes. In place of this stands the thread's number where it is known.
TAKEN: Final = 1
#: Threads have met: whoever writes holds the lock.
LOCKED: Final = -1
_WAIT_SECONDS = 0.00005
_T = TypeVar("_T")


class Gate:
    """What a writer that several threads may use inherits from.

    Attributes:
        passing_code: the code that passes the gate without the lock, and has what it found in a variable `gate`.
    """

    __slots__ = ("_gate", "_left_as", "_lock")

    passing_code: ClassVar[tuple[CodeType, ...]] = ()

    def __init__(self) -> None:
        # Without a global lock of the interpreter's, looking and claiming would not be one step.
        self._gate: int = OPEN if getattr(sys, "_is_gil_enabled", lambda: True)() else LOCKED
        self._left_as: int = self._gate
        # Re-entrant, because a signal handler of the same thread may log while a row is being written.
        self._lock = threading.RLock()

    def _alone(self, work: Callable[[], _T]) -> _T:
        """Do something while no other thread writes; a signal handler of the thread that writes may."""
        gate, self._gate = self._gate, self._gate or TAKEN
        if gate == OPEN:
            try:
                self._gate = threading.get_ident()
                return work()
            finally:
                self._gate = self._left_as
        if gate != LOCKED and self._is_interrupted():
            return work()
        with self._lock:
            self._meet()
            return work()

    def _meet(self) -> None:
        """Make every thread take the lock from now on; wait for the one that passed without it."""
        self._left_as = LOCKED
        while True:
            gate, self._gate = self._gate, self._gate or LOCKED
            if gate in (OPEN, LOCKED):
                return
            time.sleep(_WAIT_SECONDS)

    def _is_interrupted(self) -> bool:
        """Whether it is this very thread that writes: a signal handler or a finalizer has interrupted it."""
        thread = threading.get_ident()
        if self._gate != TAKEN:
            return self._gate == thread
        # `append` leaves no number, for that would cost as much as half a lock: its call is looked for below this one.
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code in self.passing_code:
                held = frame.f_locals
                if held.get("self") is self and held.get("gate") == OPEN:
                    self._gate = thread
                    return True
            frame = frame.f_back  # type: ignore[assignment]
        return False


Gate.passing_code = (Gate._alone.__code__,)
