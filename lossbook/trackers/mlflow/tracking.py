"""What reading one of MLflow's stores gives, whichever kind of store it is: runs, points and artifacts."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lossbook.json_shapes import Json


class Point(NamedTuple):
    """One metric's value as a store has it, and where the store is read on behind it."""

    time_ms: int
    step: int
    key: str
    value: float
    place: Json


class Listed(NamedTuple):
    """One run as a store lists it. Times in Unix milliseconds; `last` and `version` as `ForeignRun` has them."""

    id: str
    name: str
    experiment: str
    status: str
    started_ms: int
    ended_ms: int | None
    params: dict[str, str]
    tags: dict[str, str]
    last: dict[str, float]
    artifacts: str
    version: str


class Tracking(Protocol):
    """One of MLflow's stores, to be read."""

    def runs(self, experiment: str | None) -> Iterator[Listed]:
        """All runs that are not deleted, of one experiment or of all."""

    def points(self, run_id: str, after: Json) -> Iterator[Point]:
        """A run's metrics behind a place, in the order in which they were logged, as nearly as the store knows it."""

    def files(self, run: Listed) -> Iterator[tuple[str, int]]:
        """The run's artifacts: path and size (bytes), sorted."""

    def contents(self, run: Listed, path: str) -> bytes:
        """One artifact."""


def largest_as_infinity(value: float) -> float:
    """MLflow's databases have no infinities and write the largest finite number in their place."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value
