"""The time of a run's rows: the machine's clock when its journal began, and from there on what the machine counts.

A clock that is set while a run is written (after a boot, by a person, of a virtual machine that was moved) moves no row:
within an attempt the time never goes back and never jumps. The time that a machine sleeps is counted.
"""

from __future__ import annotations

import time

#: What the machine counts; nobody can set it. In the path of every row, where it costs less than the clock does.
count_ns = time.monotonic_ns
#: The clock that people set.
clock_ns = time.time_ns
#: What is counted while the machine sleeps too: Linux has a clock of its own for that, elsewhere it is the monotonic one.
_NEVER_ASLEEP = getattr(time, "CLOCK_BOOTTIME", None) or time.CLOCK_MONOTONIC
#: A process that was stopped between two readings cannot compare them.
_AT_ONCE_US = 50_000
_SLEEP_US = 100_000
#: A clock that goes wrong by less, or by less than a thousandth of the time, was not set but drifts.
_STEP_US = 1_000_000


class RowClock:
    """The time of one writer's rows.

    Attributes:
        since_us: what is added to the count to have the time; changes with `look` where the machine has slept.
    """

    __slots__ = ("_ahead_us", "_asleep_us", "_looked_us", "since_us")

    def __init__(self) -> None:
        for _ in range(3):
            before_us, real_us, asleep_us, counted_us = _read()
            if counted_us - before_us < _AT_ONCE_US:
                break
        self.since_us = real_us - counted_us
        self._asleep_us = asleep_us
        self._looked_us = counted_us
        self._ahead_us = 0

    def now_us(self) -> int:
        """The time, in µs since 1970."""
        return count_ns() // 1000 + self.since_us

    def look(self) -> float:
        """See whether the machine has slept, or its clock was set; to be called now and then.

        Returns:
            By how many seconds the clock was set since the last look; 0.0 where it was not.
        """
        before_us, real_us, asleep_us, counted_us = _read()
        if counted_us - before_us >= _AT_ONCE_US:
            return 0.0  # the next look will tell
        if asleep_us - self._asleep_us > _SLEEP_US:
            self.since_us += asleep_us - self._asleep_us
            self._asleep_us = asleep_us
        ahead_us = real_us - counted_us - self.since_us
        stepped_us = ahead_us - self._ahead_us
        passed_us = counted_us - self._looked_us
        self._ahead_us, self._looked_us = ahead_us, counted_us
        return stepped_us / 1e6 if abs(stepped_us) > max(_STEP_US, passed_us // 1000) else 0.0


def _read() -> tuple[int, int, int, int]:
    """The count, the clock, how long the machine has slept since it was started, and the count again; in µs."""
    before_us = count_ns() // 1000
    real_us = clock_ns() // 1000
    awake_or_asleep_us = time.clock_gettime_ns(_NEVER_ASLEEP) // 1000
    counted_us = count_ns() // 1000
    return before_us, real_us, awake_or_asleep_us - counted_us, counted_us
