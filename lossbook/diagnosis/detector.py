"""What all detectors have in common: which keys they ask for, and what they are told of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lossbook.diagnosis.finding import Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.json_shapes import JsonMapping


class Detector:
    """Looks for one kind of finding, row by row, in memory that does not grow with the run.

    A detector overrides what its kind needs. Its `report` takes a finding when it is made, and again when its end, its
    worst value or its sentence has changed.

    Args:
        report: takes what is found.
        limits: when something counts as wrong.
    """

    #: The kind of its findings, and its name in the registry.
    kind: ClassVar[str]
    #: What is wrong, in two or three words.
    title: ClassVar[str]
    #: Whether its findings are about the curve: rows that a resume hides take them along.
    is_of_curve: ClassVar[bool] = False

    #: What the run has said of its keys by now (`define_metric`), one object each.
    defined: Sequence[JsonMapping] = ()

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
        """Another attempt begins: what came before is no measure any more."""

    def begin_stage(self) -> None:
        """Another stage of training begins (`run.stage`); by default as another attempt."""
        self.begin()

    def clock(self, time_us: int) -> None:
        """It is that late now, and the run goes on."""

    def close(self) -> None:
        """Nothing more comes."""

    def hints(self) -> list[str]:
        """What would let it see more, a sentence each; no finding."""
        return []
