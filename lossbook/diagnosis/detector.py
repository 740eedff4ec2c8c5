"""What all detectors have in common: which keys they ask for, and what they are told of the run."""

from __future__ import annotations

from lossbook.diagnosis.finding import Report, Take
from lossbook.diagnosis.thresholds import Thresholds


class Detector:
    """Looks for one kind of finding, row by row, in memory that does not grow with the run.

    A detector does what its kind needs and leaves the rest of this as it is.

    Args:
        report: takes what is found.
        limits: when something counts as wrong.
    """

    kind = ""

    def __init__(self, report: Report, limits: Thresholds) -> None:
        self.report = report
        self.limits = limits

    def watch(self, key: str, rank: int) -> Take | None:
        """What takes the values of that key of that rank; None for a key that this detector does not look at."""
        return None

    def row(self, rank: int, step: int | None, time_us: int) -> None:
        """A row of the training has come, of whatever kind."""

    def rank_ended(self, rank: int) -> None:
        """That rank has said how it ended."""

    def begin(self) -> None:
        """Another attempt begins, or another stage of training: what came before is no measure any more."""

    def clock(self, time_us: int) -> None:
        """It is that late now, and the run goes on."""

    def close(self) -> None:
        """Nothing more comes."""
