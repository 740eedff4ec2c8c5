"""The detectors that look through a run: Lossbook's own and those of other packages, by the kind of what they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.registry import DETECTORS
from lossbook.run import say_once

__all__ = ["DETECTORS", "detector_class", "detector_classes", "make_detector"]

Result = TypeVar("Result")


def detector_class(kind: str) -> type[Detector]:
    """The detector of a kind of finding.

    Raises:
        BadArgument: no such kind is known.
        BrokenPlugin: it is another package's, and cannot be used.
    """
    found = DETECTORS.load(kind)
    assert isinstance(found, type)
    assert issubclass(found, Detector)
    return found


def detector_classes() -> list[type[Detector]]:
    """Every detector that can be used; of a broken one of another package the reason is said, once."""
    return [detector_class(kind) for kind in DETECTORS.usable(say_once)]


def make_detector(kind: type[Detector], report: Report, limits: Thresholds) -> Detector:
    """A detector of that class; one of another package costs its own findings when it fails, and nothing more."""
    return kind(report, limits) if kind.kind in DETECTORS.own else _Guarded(kind, report, limits)


class _Guarded(Detector):
    """Another package's detector: when it raises, that is said once and it is asked nothing more."""

    def __init__(self, kind: type[Detector], report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._kind = kind.kind
        self._detector: Detector | None = None
        self._detector = self._try(lambda: kind(report, limits), None)

    def watch(self, key: str, rank: int) -> Take | None:
        detector = self._detector
        if detector is not None:
            detector.defined = self.defined
        take = None if detector is None else self._try(lambda: detector.watch(key, rank), None)
        if take is None:
            return None
        wanted = take
        return lambda value, step, time_us: self._call(lambda _: wanted(value, step, time_us))

    def row(self, rank: int, step: int | None, time_us: int) -> None:
        self._call(lambda detector: detector.row(rank, step, time_us))

    def rank_ended(self, rank: int) -> None:
        self._call(lambda detector: detector.rank_ended(rank))

    def begin(self) -> None:
        self._call(lambda detector: detector.begin())

    def begin_stage(self) -> None:
        self._call(lambda detector: detector.begin_stage())

    def clock(self, time_us: int) -> None:
        self._call(lambda detector: detector.clock(time_us))

    def close(self) -> None:
        self._call(lambda detector: detector.close())

    def hints(self) -> list[str]:
        detector = self._detector
        return [] if detector is None else self._try(detector.hints, [])

    def _call(self, work: Callable[[Detector], None]) -> None:
        detector = self._detector
        if detector is not None:
            self._try(lambda: work(detector), None)

    def _try(self, work: Callable[[], Result], otherwise: Result) -> Result:
        try:
            return work()
        except Exception as error:  # another package's code may raise anything
            self._detector = None
            package = DETECTORS.added().get(self._kind)
            say_once(
                f"the detector {self._kind!r} of the package {package} failed ({type(error).__name__}: {error}); "
                "the diagnosis goes on without it"
            )
            return otherwise
