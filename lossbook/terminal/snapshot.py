"""What the user is looking at, and what was read for it: two frozen records between the screen and the reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lossbook.terminal.console_tail import ConsoleTail
from lossbook.terminal.overview import Overview
from lossbook.terminal.runs import RunLine

if TYPE_CHECKING:
    from lossbook.analysis import Band, GpuFigures
    from lossbook.curves import Curve

#: Runs that are drawn over one another at the most, and whose rows are held.
MOST_DRAWN = 24


@dataclass(frozen=True)
class ViewRequest:
    """What is looked at.

    Attributes:
        view: "runs", "curves", "gpus", "console" or "overview".
        where: an expression that runs must fit; empty for all.
        focus: the folder of the run that the last three views are about.
        drawn: folders of the runs whose curves are drawn.
        keys: metrics of the panels.
        start, end: the part of the x axis.
        grouped: runs of one group are drawn as their mean and range.
        watched: folders of the runs whose lines are on the screen.
        console: which console file; None for the first.
        asked: raised by one to have everything read again.
    """

    view: str = "runs"
    where: str = ""
    focus: str | None = None
    drawn: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    x: str = "step"
    smoothing: str | None = None
    start: float | None = None
    end: float | None = None
    points: int = 200
    grouped: bool = False
    watched: tuple[str, ...] = ()
    console: str | None = None
    asked: int = 0


@dataclass(frozen=True)
class PanelCurve:
    """One curve of a panel.

    Attributes:
        paths: folders of the runs that it is of; several for the mean of a group.
        group: the group's name, None for a single run.
        curve: None where the run has not logged the metric or has no such axis.
        raw: the rows under a smoothed curve, for their extremes.
    """

    paths: tuple[str, ...]
    group: str | None
    curve: Curve | Band | None
    raw: Curve | None = None


@dataclass(frozen=True)
class Panel:
    """The curves of one metric."""

    key: str
    x: str
    start: float | None
    end: float | None
    curves: tuple[PanelCurve, ...]


@dataclass(frozen=True)
class Snapshot:
    """What was last read; a field stays the same object until something in it changed.

    Attributes:
        lines: every run of the book (or of the one project); None before the first look.
        fits: folders of the runs for which the expression holds; None without one.
        keys: what the drawn runs have logged, the usual first.
        gpus, overview, tail: of the run in focus, for the view that shows them; `about` is its folder.
        consoles: its console files.
        troubles: a sentence for each kind of look that failed.
    """

    lines: tuple[RunLine, ...] | None = None
    fits: frozenset[str] | None = None
    keys: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    about: str | None = None
    gpus: GpuFigures | None = None
    overview: Overview | None = None
    tail: ConsoleTail | None = None
    tail_read: int = 0
    consoles: tuple[str, ...] = ()
    troubles: dict[str, str] = field(default_factory=dict)


def same_panels(new: Sequence[Panel], old: Sequence[Panel]) -> bool:
    """Whether nothing was drawn anew: arrays are compared by identity."""
    return len(new) == len(old) and all(
        (one.key, one.x, one.start, one.end) == (other.key, other.x, other.start, other.end)
        and len(one.curves) == len(other.curves)
        and all(a is b for a, b in zip(one.curves, other.curves, strict=True))
        for one, other in zip(new, old, strict=True)
    )
