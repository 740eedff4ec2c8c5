"""All detectors over one run: each row goes to those that want something of it, and to nobody else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.detectors import detector_classes, make_detector
from lossbook.diagnosis.finding import Finding, Take
from lossbook.diagnosis.finite import NonFinite
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.paths import is_monitor

if TYPE_CHECKING:
    from lossbook.json_shapes import JsonMapping
    from lossbook.paths import RunFolder
    from lossbook.storage import LoggedRow

#: Sets of keys of which it is remembered who wants what; a run that makes ever new ones begins again from none.
_MOST_SHAPES = 4096
#: Patterns of keys that a run can give a role.
_MOST_DEFINED = 256
_NONE: frozenset[str] = frozenset()


class _Shape:
    """A set of keys that a rank logs together: who wants which, and whether all have been finite."""

    __slots__ = ("wanted", "was_finite")

    def __init__(self, wanted: tuple[tuple[str, Take], ...]) -> None:
        self.wanted = wanted
        self.was_finite = False


class Diagnosis:
    """Finds what is wrong with a run, as its rows come. Memory does not grow with the run.

    Args:
        limits: when something counts as wrong.
    """

    def __init__(self, limits: Thresholds | None = None) -> None:
        self._limits = limits or Thresholds()
        self._found: dict[tuple[str, str, int], tuple[Finding, int]] = {}  # with the attempt
        self._fresh: list[Finding] = []
        #: By kind, how many findings were left out because there were too many.
        self.left_out: dict[str, int] = {}
        classes = detector_classes()
        self._finite = NonFinite(self._report, self._limits)
        self._detectors: list[Detector] = [
            self._finite if one is NonFinite else make_detector(one, self._report, self._limits) for one in classes
        ]
        self._defined: list[JsonMapping] = []
        for detector in self._detectors:
            detector.defined = self._defined
        self._of_curve = {one.kind for one in classes if one.is_of_curve}
        self._rows = [one for one in self._detectors if type(one).row is not Detector.row]
        self._takes: dict[tuple[int, str], tuple[Take, ...]] = {}
        self._shapes: dict[int, dict[tuple[str, ...], _Shape]] = {}
        self._shape_count = 0
        self._once_finite: dict[int, set[str]] = {}
        self._attempt = -1
        self._rewind = False

    # -- what comes in -------------------------------------------------------------------------------------------

    def feed(self, rows: Iterable[LoggedRow]) -> list[Finding]:
        """Take rows in the order of their time; returns what was found for the first time, in the order found.

        A finding goes on: `findings()` has it with its latest end and worst value.
        """
        for row in rows:
            self._row(row)
        return self._take_fresh()

    def clock(self, time_us: int) -> list[Finding]:
        """Say how late it is (Unix µs) while the run goes on: silence is a finding as well."""
        for detector in self._detectors:
            detector.clock(time_us)
        return self._take_fresh()

    def close(self) -> list[Finding]:
        """Say that no row follows any more."""
        for detector in self._detectors:
            detector.close()
        return self._take_fresh()

    def findings(self) -> list[Finding]:
        """All that was found and is visible, errors first, then by step.

        What was found on a stretch of a curve that a later attempt has taken anew is not among them.
        """
        order = {"error": 0, "warning": 1, "info": 2}
        return sorted(
            (finding for finding, _ in self._found.values()),
            key=lambda one: (order[one.severity], one.first_step, one.kind, one.key),
        )

    def hints(self) -> list[str]:
        """What would let more be found, a sentence each: a key that may be a step time, say."""
        return [hint for detector in self._detectors for hint in detector.hints()]

    def define(self, said: JsonMapping) -> None:
        """Take what a run says of a key, in the form of `define_metric`'s rows: `{"pattern": ..., "role": ...}`."""
        if said in self._defined or len(self._defined) >= _MOST_DEFINED:
            return
        self._defined.append(said)
        # Who wants which key is asked anew.
        self._takes.clear()
        self._shapes.clear()
        self._shape_count = 0

    # -- one row -------------------------------------------------------------------------------------------------

    def _row(self, row: LoggedRow) -> None:
        rank = row.rank
        if row.kind is not None:
            self._event(row)
            return
        step = row.step if row.step is not None else 0
        if not is_monitor(rank):
            if row.attempt > self._attempt:
                self._begin_attempt(row.attempt, None)
            if self._rewind:
                self._rewind = False
                self._retract(step - 1)
            for detector in self._rows:
                detector.row(rank, step, row.time_us)
        body = row.body
        keys = tuple(body)
        shapes = self._shapes.get(rank)
        shape = shapes.get(keys) if shapes is not None else None
        if shape is None:
            shape = self._learn(rank, keys)
        # One sum tells of all values at once; large finite ones that overflow it are looked at one by one as well.
        if math.isfinite(sum(body.values())):
            if not shape.was_finite:
                shape.was_finite = True
                self._once_finite.setdefault(rank, set()).update(keys)
            if self._finite.is_watching:
                self._finite.take(rank, body, step, row.time_us, was_finite=_NONE)
        else:
            self._finite.take(rank, body, step, row.time_us, was_finite=self._once_finite.get(rank, _NONE))
        for key, take in shape.wanted:
            take(body[key], step, row.time_us)

    def _event(self, row: LoggedRow) -> None:
        if is_monitor(row.rank):
            return
        if row.kind == "attempt":
            if not row.body.get("continues") and row.attempt > self._attempt:
                resumed = row.body.get("resume_step")
                self._begin_attempt(row.attempt, int(resumed) if resumed is not None else None)
        elif row.kind == "define":
            if row.body.get("role"):
                self.define(row.body)
        elif row.kind == "stage":
            for detector in self._detectors:
                detector.begin_stage()
        elif row.kind == "finish":
            for detector in self._detectors:
                detector.rank_ended(row.rank)
        for detector in self._rows:
            detector.row(row.rank, None, row.time_us)

    def _begin_attempt(self, number: int, resumed_from: int | None) -> None:
        before, self._attempt = self._attempt, number
        if before >= 0 and resumed_from is not None:
            self._retract(resumed_from)
        elif before >= 0:
            self._rewind = True  # the first step that it logs will tell
        for detector in self._detectors:
            detector.begin()

    def _retract(self, last_step: int) -> None:
        """Drop what earlier attempts' curves showed behind a step: those rows are hidden now."""
        for identity, (finding, attempt) in list(self._found.items()):
            if attempt < self._attempt and finding.kind in self._of_curve and finding.first_step > last_step:
                del self._found[identity]

    # -- who wants what ------------------------------------------------------------------------------------------

    def _learn(self, rank: int, keys: tuple[str, ...]) -> _Shape:
        if self._shape_count >= _MOST_SHAPES:
            self._shapes.clear()
            self._once_finite.clear()
            self._shape_count = 0
        wanted: list[tuple[str, Take]] = []
        for key in keys:
            takes = self._takes.get((rank, key))
            if takes is None:
                asked = (detector.watch(key, rank) for detector in self._detectors)
                takes = tuple(take for take in asked if take is not None)
                if takes:
                    self._takes[rank, key] = takes
            wanted += [(key, take) for take in takes]
        shape = _Shape(tuple(wanted))
        self._shapes.setdefault(rank, {})[keys] = shape
        self._shape_count += 1
        return shape

    # -- what goes out -------------------------------------------------------------------------------------------

    def _report(self, finding: Finding) -> None:
        identity = finding.identity
        known = self._found.get(identity)
        if known is not None and (known[1] == self._attempt or finding.kind not in self._of_curve):
            self._found[identity] = (finding, known[1])
            return
        same = sum(kind == finding.kind for kind, _, _ in self._found)
        if same >= self._limits.most_of_a_kind:
            self.left_out[finding.kind] = self.left_out.get(finding.kind, 0) + 1
            return
        self._found[identity] = (finding, self._attempt)
        self._fresh.append(finding)

    def _take_fresh(self) -> list[Finding]:
        # As it stands now: the row that completes a sentence may have come in the same batch.
        fresh = [self._found[one.identity][0] for one in self._fresh if one.identity in self._found]
        self._fresh = []
        return fresh


def diagnose(
    folder: RunFolder,
    *,
    now_us: int | None = None,
    limits: Thresholds | None = None,
    defined: Iterable[JsonMapping] = (),
) -> Diagnosis:
    """Look through all of a run.

    Args:
        now_us: Unix µs, when the run still goes on.
        limits: when something counts as wrong.
        defined: what its keys are, where the run did not say, in the form of `define_metric`'s rows.

    Raises:
        StoreError: a file of the run cannot be read.
    """
    from lossbook.storage import Replay

    diagnosis = Diagnosis(limits)
    for one in defined:
        diagnosis.define(one)
    diagnosis.feed(Replay(folder).rows())
    if now_us is not None:
        diagnosis.clock(now_us)
    diagnosis.close()
    return diagnosis
