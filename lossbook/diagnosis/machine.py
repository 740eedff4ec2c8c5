"""What can go wrong with the machine: a GPU that does nothing, memory that runs out, heat, clocks that are held down."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.finding import Evidence, Finding, Report, Take
from lossbook.diagnosis.thresholds import Thresholds
from lossbook.diagnosis.windows import Held
from lossbook.formatting import duration, number

_OF_GPU = re.compile(r"system\.gpu\.(\d+)\.([\w.]+)\Z")
_HOST_MEMORY = re.compile(r"(?:system\.)?memory_percent(/node_\d+)?\Z")
#: Bits of NVML's clocks event reasons that slow a healthy job down: hardware, heat (software, hardware), power brake.
_HEAT = 0x20 | 0x40
_SLOWDOWNS = 0x8 | _HEAT | 0x80


@dataclass(slots=True)
class _Series:
    """One curve of the machine, and the finding on it that has not ended yet."""

    key: str
    held: Held
    worst: float = 0.0
    first: Evidence | None = None
    again: Evidence | None = None  # where the last finding began
    found_us: int = 0  # and when it was last seen to hold


class _Machine(Detector):
    """A detector of conditions that have to hold for a while."""

    def _series(self, key: str, seconds: float) -> _Series:
        limits = self.limits
        held = Held(
            seconds, least=limits.held_least_samples, share=limits.held_share, gap_seconds=limits.held_gap_seconds
        )
        return _Series(key, held)

    def _hold(self, series: _Series, one: Evidence, *, holds: bool, is_worse: bool) -> bool:
        """Take a sample; returns whether the condition holds, and has for long enough, with this one."""
        before_us = series.held.since_us
        confirmed = series.held.take(holds, one.step, one.time_us)
        if not series.held.all:
            series.first = None
        elif series.first is None or series.held.since_us != before_us:
            series.first, series.worst = one, one.value
        elif holds and is_worse:
            series.worst = one.value
        return confirmed and holds

    def _say(self, series: _Series, last: Evidence, threshold: float, severity: str, sentence: str) -> None:
        assert series.first is not None
        first = series.first
        if series.again is not None and last.time_us - series.found_us < 1e6 * self.limits.held_again_seconds:
            first = series.again
        series.again, series.found_us = first, last.time_us
        lasted = duration((last.time_us - first.time_us) / 1e6)
        self.report(
            Finding(
                self.kind,
                severity,
                series.key,
                first.step,
                last.step,
                series.worst,
                threshold,
                f"{sentence} for {lasted}, from step {first.step} on",
                (first, last),
            )
        )


class GpuIdle(_Machine):
    """A GPU that this run has used does nothing, while the run goes on."""

    kind = "gpu_idle"
    title = "GPU idle"

    def __init__(self, report: Report, limits: Thresholds) -> None:
        super().__init__(report, limits)
        self._used: dict[str, int] = {}

    def watch(self, key: str, rank: int) -> Take | None:
        matched = _OF_GPU.match(key)
        if matched is None:
            return None
        gpu, name = matched[1], matched[2]
        if name == "process.memoryAllocatedBytes":
            return lambda value, step, time_us: self._mark(gpu, value > 0)
        if name != "gpu":
            return None
        series = self._series(key, self.limits.idle_seconds)

        def take(value: float, step: int, time_us: int) -> None:
            self._mark(gpu, value >= self.limits.idle_used_percent)
            idle = value < self.limits.idle_percent and self._used.get(gpu, 0) >= self.limits.held_least_samples
            one = Evidence(key, step, value, time_us, rank)
            if self._hold(series, one, holds=idle, is_worse=value < series.worst):
                self._say(series, one, self.limits.idle_percent, "warning", f"GPU {gpu} is idle ({number(value)}%)")

        return take

    def _mark(self, gpu: str, is_used: bool) -> None:
        if is_used:
            self._used[gpu] = self._used.get(gpu, 0) + 1


class MemoryLimit(_Machine):
    """The memory of a GPU, or the host's (its container's), is nearly full."""

    kind = "memory"
    title = "memory near its limit"

    def watch(self, key: str, rank: int) -> Take | None:
        matched = _OF_GPU.match(key)
        if matched is not None and matched[2] == "memoryAllocated":
            what, severity = f"the memory of GPU {matched[1]}", "warning"
            limit, seconds = self.limits.gpu_memory_percent, self.limits.gpu_memory_seconds
        elif (host := _HOST_MEMORY.match(key)) is not None:
            what, severity = f"the host's memory{(host[1] or '').replace('/node_', ' on node ')}", "error"
            limit, seconds = self.limits.host_memory_percent, self.limits.host_memory_seconds
        else:
            return None
        series = self._series(key, seconds)

        def take(value: float, step: int, time_us: int) -> None:
            one = Evidence(key, step, value, time_us, rank)
            if self._hold(series, one, holds=value >= limit, is_worse=value > series.worst):
                self._say(series, one, limit, severity, f"{what} is {number(series.worst, 4)}% full")

        return take


class Overheating(_Machine):
    """A GPU is hotter than cards run when they are well."""

    kind = "overheating"
    title = "overheating"

    def watch(self, key: str, rank: int) -> Take | None:
        matched = _OF_GPU.match(key)
        if matched is None or matched[2] != "temp":
            return None
        gpu, limit = matched[1], self.limits.temperature_celsius
        series = self._series(key, self.limits.temperature_seconds)

        def take(value: float, step: int, time_us: int) -> None:
            one = Evidence(key, step, value, time_us, rank)
            if self._hold(series, one, holds=value >= limit, is_worse=value > series.worst):
                self._say(series, one, limit, "warning", f"GPU {gpu} is at {number(series.worst, 4)} °C")

        return take


class Throttling(_Machine):
    """A GPU's clock is held down by heat, by its hardware or by a power brake."""

    kind = "throttling"
    title = "throttling"

    def watch(self, key: str, rank: int) -> Take | None:
        matched = _OF_GPU.match(key)
        if matched is None or matched[2] != "throttle":
            return None
        gpu = matched[1]
        series = self._series(key, self.limits.throttle_seconds)

        def take(value: float, step: int, time_us: int) -> None:
            reasons = int(value) & _SLOWDOWNS if 0 <= value < 2**53 else 0
            one = Evidence(key, step, value, time_us, rank)
            if self._hold(series, one, holds=bool(reasons), is_worse=False):
                why = "by heat" if reasons & _HEAT else "by a power brake" if reasons & 0x80 else "by its hardware"
                self._say(series, one, 0.0, "warning", f"the clock of GPU {gpu} is held down {why}")

        return take
