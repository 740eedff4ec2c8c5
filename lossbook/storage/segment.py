"""What a piece of a run's rows is: a live journal segment, or the files of a sealed one."""

from __future__ import annotations

from dataclasses import dataclass

from lossbook.paths import SegmentName


@dataclass(frozen=True)
class Segment:
    """One piece of a rank's rows: a live journal segment, or a sealed file (which may hold several)."""

    name: SegmentName
    journal: str | None = None
    metrics: str | None = None
    rollup: str | None = None
    events: str | None = None
    #: Only its rows from that number on count: those before are in another segment.
    first_row: int | None = None

    @property
    def is_sealed(self) -> bool:
        return self.metrics is not None


@dataclass(frozen=True)
class Identity:
    """The run that sealed rows belong to, as they say it themselves."""

    project: str
    run: str


@dataclass(frozen=True)
class Partials:
    """Where the three files of a segment are written before they are renamed into place."""

    metrics: str
    rollup: str
    events: str
