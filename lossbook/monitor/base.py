"""What every device family promises, and the words in which it says that it has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: Figures that change slowly, or cost much to read, are read once in that time.
SLOW_SECONDS = 10.0

Say = Callable[[str], None]


class FamilyLost(Exception):
    """A family has failed as a whole (its driver is gone, say); the message is one sentence for the user."""


class Family(Protocol):
    """One kind of device. Handles are taken once, by `open`, and kept between samples."""

    def open(self) -> bool:
        """Find the devices; False where this machine has none.

        Raises:
            FamilyLost: there should be some, and they cannot be reached.
        """

    def sample(self) -> dict[str, float]:
        """The figures of this moment by name. What a device lacks is absent, never zero.

        Raises:
            FamilyLost: nothing can be read any more; after `close`, `open` may find the devices again.
        """

    def close(self) -> None:
        """Let go of every handle. Never raises."""


class Rates:
    """Counters that only grow, as rates: what was added since the last look, a second."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def of(self, name: str, count: float, now_seconds: float) -> float | None:
        """The rate since the last look; None at the first, and where the counter began again."""
        before = self._before.get(name)
        self._before[name] = (count, now_seconds)
        if before is None or count < before[0] or now_seconds <= before[1]:
            return None
        return (count - before[0]) / (now_seconds - before[1])


class SlowClock:
    """Says when figures that change slowly are due again.

    At the first two looks they are: a first sample is only there for rates to count from, and is not kept.
    """

    def __init__(self, seconds: float = SLOW_SECONDS) -> None:
        self._seconds = seconds
        self._due = float("-inf")
        self._looks = 0

    def is_due(self, now_seconds: float) -> bool:
        self._looks += 1
        if self._looks > 2 and now_seconds < self._due:
            return False
        self._due = now_seconds + self._seconds
        return True
