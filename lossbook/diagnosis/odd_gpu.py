"""One GPU of a run does other than all the others: less work, less power, a lower clock."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Evidence, Finding, Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.diagnosis.windows import SortedWindow, median
from lossbook.formatting import number

_OF_GPU = re.compile(r"system\.gpu\.(\d+)\.(gpu|powerWatts|smClock)\Z")
#: What is compared: how a sentence names it, and its unit.
_MEASURES = {"gpu": ("is busy", "%"), "powerWatts": ("draws", " W"), "smClock": ("runs at", " MHz")}
_MOST_GPUS = 20_000


@dataclass(slots=True)
class _Gpu:
    """One measure of one GPU, and how often in a row it was the odd one."""

    window: SortedWindow
    taken: int = 0
    median: float = 0.0
    odd: int = 0
    first: Evidence | None = None


class OddGpu(Detector):
    """A GPU that this run uses stays far below the others, which are alike.

    Medians of the last samples are compared. Where the others differ among themselves (stages of a pipeline do), none
    is odd; nor is one that does nothing at all, which another detector finds.
    """

    kind = "odd_gpu"
    title = "GPU unlike the others"

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._measures: dict[str, dict[int, _Gpu]] = {}

    def watch(self, key: str, rank: int) -> Take | None:
        matched = _OF_GPU.match(key)
        if matched is None:
            return None
        gpu, gpus = int(matched[1]), self._measures.setdefault(matched[2], {})
        if len(gpus) >= _MOST_GPUS:
            return None
        one = gpus.setdefault(gpu, _Gpu(SortedWindow(self.limits.odd_gpu_samples)))
        name = matched[2]

        def take(value: float, step: int, time_us: int) -> None:
            if value - value:  # NaN or infinite
                return
            one.window.add(value)
            one.taken += 1
            if one.taken % (self.limits.odd_gpu_samples // 4) == 0:
                one.median = median(one.window.values)
                self._judge(gpus, name, gpu, Evidence(key, step, one.median, time_us, rank))

        return take

    def begin(self) -> None:
        for gpus in self._measures.values():
            for one in gpus.values():
                one.window.clear()
                one.taken, one.median, one.odd, one.first = 0, 0.0, 0, None

    def begin_stage(self) -> None:
        """The machine is the same in every stage."""

    def _judge(self, gpus: dict[int, _Gpu], name: str, gpu: int, seen: Evidence) -> None:
        limits, one = self.limits, gpus[gpu]
        others = sorted(
            other.median
            for number_, other in gpus.items()
            if number_ != gpu and len(other.window) >= limits.odd_gpu_samples // 2
        )
        if len(one.window) < limits.odd_gpu_samples or len(others) < limits.odd_gpu_others:
            return
        usual = median(others)
        limit = limits.odd_gpu_share * usual
        alike = others[len(others) // 10] > (1 + limits.odd_gpu_share) / 2 * usual
        least = limits.idle_percent if name == "gpu" else 0.0
        one.odd = one.odd + 1 if alike and least <= one.median < limit else 0
        if one.odd == 1:
            one.first = seen
        if one.odd < limits.odd_gpu_checks or one.first is None:
            return
        does, unit = _MEASURES[name]
        self.report(
            Finding(
                self.kind,
                "warning",
                seen.key,
                one.first.step,
                seen.step,
                one.median,
                limit,
                f"GPU {gpu} {does} {number(one.median, 3)}{unit}, the other {len(others)} {number(usual, 3)}{unit}, "
                f"since step {one.first.step}",
                (one.first, seen),
            )
        )
