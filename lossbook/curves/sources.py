"""Says which rows an answer is made of: a run's and those of the runs that it was forked from, and how their clocks run.

A history needs no more of this package than this; nothing here draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from lossbook.storage import NEVER

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from lossbook.run_info import Parent
    from lossbook.storage import RunRows

#: Places on an axis, steps, or times in µs.
Places: TypeAlias = "NDArray[numpy.float64]"
#: A fork of a fork of a fork: deeper than that is a circle.
_DEEPEST_FORK = 50


@dataclass(frozen=True)
class Source:
    """Rows that a curve is made of: a run, the last step that counts, and how its clocks run.

    `clock` turns (µs since 1970, attempt) into seconds of wallclock, `elapsed` µs since 1970 into seconds since the
    run began.
    """

    rows: RunRows
    last_step: int
    clock: Callable[[Places, int], Places]
    elapsed: Callable[[Places], Places]


def make_sources(rows: RunRows, find_parent: Callable[[Parent], RunRows | None]) -> list[Source]:
    """A run's rows and those of the runs that it was forked from, the oldest first."""
    chain: list[tuple[RunRows, int]] = [(rows, NEVER)]
    last = NEVER
    while len(chain) < _DEEPEST_FORK:
        parent = chain[0][0].info.parent
        if parent is None:
            break
        found = find_parent(parent)
        if found is None:
            break
        last = min(last, parent.step or 0)
        chain.insert(0, (found, last))
    clocks = _Clocks([one for one, _ in chain])
    return [
        Source(one, last, partial(clocks.seconds, number), clocks.elapsed_seconds)
        for number, (one, last) in enumerate(chain)
    ]


class _Clocks:
    """The clocks of a run and of those that it was forked from: seconds that attempts ran, and those between them."""

    def __init__(self, chain: list[RunRows]) -> None:
        self._chain = chain
        self._known: list[dict[int, tuple[int, float]]] | None = None

    def seconds(self, number: int, time_us: Places, attempt: int) -> Places:
        """What the clock that leaves gaps out showed at some times of an attempt of the chain's `number`-th run."""
        begun, offset = self._offsets()[number].get(attempt, (0, 0.0))
        return (time_us - begun) / 1e6 + offset

    def elapsed_seconds(self, time_us: Places) -> Places:
        """How long the first attempt of the first run of the chain had begun before some times."""
        begun = min((one for offsets in self._offsets() for one, _ in offsets.values()), default=0)
        return (time_us - begun) / 1e6

    def _offsets(self) -> list[dict[int, tuple[int, float]]]:
        if self._known is None:
            # Only an axis that needs it looks it up.
            self._known, elapsed = [], 0.0
            for rows in self._chain:
                offsets, elapsed = _offsets(rows, elapsed)
                self._known.append(offsets)
        return self._known


def _offsets(rows: RunRows, elapsed: float) -> tuple[dict[int, tuple[int, float]], float]:
    """Per attempt its beginning (µs) and what the clock showed then; and what it shows at the end."""
    times = rows.attempt_times()
    begins = {attempt: first for attempt, (first, _) in times.items()}
    for attempt in rows.info.attempts:
        if attempt.started:
            begins[attempt.number] = attempt.started
    offsets: dict[int, tuple[int, float]] = {}
    for number, begun in sorted(begins.items()):
        offsets[number] = (begun, elapsed)
        elapsed += max(0.0, (times.get(number, (begun, begun))[1] - begun) / 1e6)
    return offsets, elapsed
