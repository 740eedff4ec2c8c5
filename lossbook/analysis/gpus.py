"""Reads what a run says of its GPUs, whoever logged it: each quantity now, on average and at most.

The machine's own series (docs/system-metrics.md, and W&B's, Trackio's and MLflow's as `lossbook.trackers` brings them)
come first; what a trainer logged itself stands in where they are missing. Made from the statistics that every run keeps
of its series; rows are read for one question alone, how much all GPUs held at the same moment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lossbook.errors import LossbookError
from lossbook.storage import MetricStatistics

if TYPE_CHECKING:
    from lossbook.reading import RecordedRun

_GIBIBYTE_BYTES = 2.0**30
_MEBIBYTE_BYTES = 2.0**20

#: A series of one GPU: `system.gpu.0.temp`; W&B has `/l:` and a label behind it where several nodes write one run.
_OF_MACHINE = re.compile(
    r"(?:system[./])?gpu\.(?P<process>process\.)?(?P<gpu>\d+)\.(?P<name>[\w.]+)(?:/l:(?P<node>.+))?\Z"
)
#: The same as trainers log it: memory that torch counts in this process.
_OF_TRAINER = re.compile(
    r"(?:memory/gpu_(?P<gpu>\d+)_(?P<name>\w+)|(?P<torch>torch_gpu_memory_\w+)/gpu_(?P<torch_gpu>\d+))\Z"
)


class _Name(NamedTuple):
    """One name of a quantity; the lowest place wins where a GPU has several."""

    quantity: str
    factor: float = 1.0
    place: int = 0


_MACHINE_NAMES = {
    "gpu": _Name("utilisation_percent"),
    "memory": _Name("memory_activity_percent"),
    "memoryReadWriteActivity": _Name("memory_activity_percent", 1.0, 1),
    "memoryAllocated": _Name("memory_percent"),
    "memoryAllocatedBytes": _Name("memory_bytes"),
    "memoryUsed": _Name("memory_bytes", 1.0, 1),
    "memoryTotalBytes": _Name("memory_total_bytes"),
    "process.memoryAllocatedBytes": _Name("process_memory_bytes"),
    "powerWatts": _Name("power_watts"),
    "powerPercent": _Name("power_percent"),
    "temp": _Name("temperature_celsius"),
}
_TRAINER_NAMES = {
    "reserved_gb": _Name("memory_bytes", _GIBIBYTE_BYTES, 5),
    "torch_gpu_memory_reserved": _Name("memory_bytes", _GIBIBYTE_BYTES, 6),
    "allocated_gb": _Name("memory_bytes", _GIBIBYTE_BYTES, 7),
    "torch_gpu_memory_allocated": _Name("memory_bytes", _GIBIBYTE_BYTES, 8),
    "total_gb": _Name("memory_total_bytes", _GIBIBYTE_BYTES, 5),
    "utilization_pct": _Name("memory_percent", 1.0, 9),
}
#: Names without a number, of trainers that know of one GPU.
_FIRST_GPU_NAMES = {
    "gpu_utilization": _Name("utilisation_percent", 1.0, 3),
    "gpu_memory_percent": _Name("memory_percent", 1.0, 3),
    "gpu_memory_used": _Name("memory_bytes", _MEBIBYTE_BYTES, 3),
    "gpu_temperature": _Name("temperature_celsius", 1.0, 3),
    "torch_gpu_memory_reserved": _Name("memory_bytes", _GIBIBYTE_BYTES, 6),
    "torch_gpu_memory_allocated": _Name("memory_bytes", _GIBIBYTE_BYTES, 8),
}
#: Over all GPUs of a run.
_OVERALL_NAMES = {
    "gpu/compute_util_avg": _Name("utilisation_percent"),
    "gpu/memory_util_avg": _Name("memory_activity_percent"),
    "gpu/memory_used_avg_gb": _Name("memory_each_bytes", _GIBIBYTE_BYTES),
    "gpu/memory_used_total_gb": _Name("memory_bytes", _GIBIBYTE_BYTES),
    "gpu/memory_total_gb": _Name("memory_total_bytes", _GIBIBYTE_BYTES),
    "system.gpu.mean_utilization": _Name("utilisation_percent", 1.0, 1),
    "system.gpu.total_allocated_memory": _Name("memory_bytes", _GIBIBYTE_BYTES, 1),
}
#: Memory of these places is what torch counts in the training process, not what the device holds.
_TORCH_PLACE = 5


@dataclass(frozen=True)
class Reading:
    """One quantity of one GPU, or of all: its last value, mean and maximum, finite values only.

    Attributes:
        current, average, maximum: in the unit that the quantity's name ends in; None where that is not known.
        count: how many values were logged.
        key: the series that it was taken from, None where it was worked out from others.
        by_torch: it is what torch counts in the training process.
    """

    current: float | None
    average: float | None
    maximum: float | None
    count: int = 0
    key: str | None = None
    by_torch: bool = False

    @property
    def values(self) -> tuple[float | None, float | None, float | None]:
        """Current, average, maximum."""
        return self.current, self.average, self.maximum


@dataclass(frozen=True)
class Gpu:
    """One GPU of a run.

    Attributes:
        number: as the series have it, from 0.
        node: the label of its node, where several nodes count from 0 each.
        readings: by quantity: memory_bytes, memory_percent, memory_total_bytes, memory_activity_percent,
            utilisation_percent, power_watts, power_percent, temperature_celsius, process_memory_bytes. What is not
            known is absent.
        is_active: whether it did anything for the run, as far as can be seen.
    """

    number: int
    node: str | None
    readings: Mapping[str, Reading]
    is_active: bool = True

    @property
    def name(self) -> str:
        """Its number, with its node where that has a label."""
        return str(self.number) if self.node is None else f"{self.number} ({self.node})"


@dataclass(frozen=True)
class GpuFigures:
    """All that a run says of its GPUs.

    Attributes:
        gpus: in the order of nodes and numbers; empty where only means were logged.
        overall: means and sums over all GPUs as they were logged: utilisation_percent, memory_activity_percent,
            memory_each_bytes (mean of a GPU), memory_bytes (sum), memory_total_bytes (sum of what they have).
    """

    gpus: tuple[Gpu, ...]
    overall: Mapping[str, Reading]

    def __bool__(self) -> bool:
        return bool(self.gpus or self.overall)

    @property
    def active(self) -> tuple[Gpu, ...]:
        """The GPUs that did something."""
        return tuple(gpu for gpu in self.gpus if gpu.is_active)

    @property
    def shown(self) -> tuple[Gpu, ...]:
        """The active GPUs; all where none was."""
        return self.active or self.gpus

    @property
    def mean_utilisation_percent(self) -> float | None:
        """Mean compute utilisation of the active GPUs."""
        return self._mean("utilisation_percent")

    @property
    def mean_memory_activity_percent(self) -> float | None:
        """Mean share of time in which device memory was read or written, of the active GPUs."""
        return self._mean("memory_activity_percent")

    @property
    def most_memory_bytes(self) -> float | None:
        """The most held on all active GPUs, by statistics alone: where no sum was logged, the sum of each GPU's most."""
        if "memory_bytes" in self.overall:
            return self.overall["memory_bytes"].maximum
        known = [gpu.readings["memory_bytes"].maximum for gpu in self.shown if "memory_bytes" in gpu.readings]
        return _sum(known) if known else None

    def _mean(self, quantity: str) -> float | None:
        if quantity in self.overall:
            return self.overall[quantity].average
        known = [gpu.readings[quantity].average for gpu in self.shown if quantity in gpu.readings]
        means = [one for one in known if one is not None]
        return sum(means) / len(means) if means else None


def read_gpus(metrics: Mapping[str, MetricStatistics]) -> GpuFigures:
    """Find what a run's series say of its GPUs.

    Args:
        metrics: statistics by key, as `IndexRecord.metrics`.
    """
    chosen: dict[tuple[str, int], dict[str, tuple[int, Reading]]] = {}
    overall: dict[str, tuple[int, Reading]] = {}
    single: dict[str, tuple[int, Reading]] = {}
    for key in metrics:
        place = _place_of(key)
        if place is not None:
            _keep(chosen.setdefault(place[0], {}), place[1], key, metrics[key])
        if key in _OVERALL_NAMES:
            _keep(overall, _OVERALL_NAMES[key], key, metrics[key])
        if key in _FIRST_GPU_NAMES:
            _keep(single, _FIRST_GPU_NAMES[key], key, metrics[key])
    chosen = {which: known for which, known in chosen.items() if known}
    if single and len(chosen) < 2:
        # With several GPUs that have series of their own it adds nothing, and the sum over them is not GPU 0.
        known = chosen.setdefault(next(iter(chosen), ("", 0)), {})
        for quantity, one in single.items():
            if quantity not in known or one[0] < known[quantity][0]:
                known[quantity] = one
    found = []
    for (node, number), known in sorted(chosen.items()):
        readings = {quantity: reading for quantity, (_, reading) in sorted(known.items())}
        _work_out_percent(readings)
        found.append(Gpu(number, node or None, readings))
    gpus = tuple(Gpu(one.number, one.node, one.readings, _is_active(one, found)) for one in found)
    return GpuFigures(gpus, {quantity: reading for quantity, (_, reading) in sorted(overall.items())})


def peak_memory_bytes(run: RecordedRun, gpus: Sequence[Gpu]) -> float | None:
    """The most that GPUs held together at one moment, within one sample; None where it was not logged."""
    factors = {
        reading.key: _factor_of(reading.key)
        for gpu in gpus
        if (reading := gpu.readings.get("memory_bytes")) is not None and reading.key is not None
    }
    if not factors:
        return None
    if len(factors) == 1:
        return next(gpu.readings["memory_bytes"].maximum for gpu in gpus if "memory_bytes" in gpu.readings)
    from lossbook.storage import quote_name

    held = " + ".join(
        f"CASE WHEN isfinite({quote_name(key)}) THEN {quote_name(key)} * {factor} ELSE 0 END"
        for key, factor in factors.items()
    )
    # Added up where the rows are read: a run of weeks has millions of samples.
    ((most,),) = run.query_history(list(factors), f"max({held})").rows()
    return None if most is None else float(most)


def total_memory(run: RecordedRun, figures: GpuFigures) -> tuple[int, Reading] | None:
    """The memory of all active GPUs together, and of how many; None where there are fewer than two to add up.

    Current and average are sums over GPUs, the maximum is that of the sum. Where GPUs were not logged one by one it is
    the sum that was logged, of 0 GPUs that are known.
    """
    counted = [gpu for gpu in figures.shown if "memory_bytes" in gpu.readings]
    if not figures.gpus:
        logged = figures.overall.get("memory_bytes")
        return (0, logged) if logged is not None else None
    if len(counted) < 2:
        return None
    readings = [gpu.readings["memory_bytes"] for gpu in counted]
    try:
        maximum = peak_memory_bytes(run, counted)
    except LossbookError:
        # Rows that cannot be read leave the statistics standing.
        maximum = None
    return len(counted), Reading(
        _sum([one.current for one in readings]),
        _sum([one.average for one in readings]),
        maximum,
        min(one.count for one in readings),
        None,
        any(one.by_torch for one in readings),
    )


# -- one series ---------------------------------------------------------------------------------------------------


def _place_of(key: str) -> tuple[tuple[str, int], _Name] | None:
    """Which GPU (its node's label, its number) a series is of, and which quantity it is."""
    matched = _OF_MACHINE.match(key)
    if matched is not None:
        prefix = "process." if matched["process"] else ""
        name = _MACHINE_NAMES.get(f"{prefix}{matched['name']}")
        return ((matched["node"] or "", int(matched["gpu"])), name) if name is not None else None
    matched = _OF_TRAINER.match(key)
    if matched is not None:
        name = _TRAINER_NAMES.get(matched["torch"] or matched["name"])
        return (("", int(matched["torch_gpu"] or matched["gpu"])), name) if name is not None else None
    return None


def _factor_of(key: str) -> float:
    place = _place_of(key)
    return place[1].factor if place is not None else _FIRST_GPU_NAMES[key].factor


def _keep(known: dict[str, tuple[int, Reading]], name: _Name, key: str, one: MetricStatistics) -> None:
    """Take a series for a quantity, unless a better name of it was found."""
    if name.quantity in known and known[name.quantity][0] <= name.place:
        return
    current, average, maximum = (_scaled(value, name.factor) for value in (one.last, one.mean, one.max))
    if current is None and average is None and maximum is None:
        return
    by_torch = name.quantity == "memory_bytes" and name.place >= _TORCH_PLACE
    reading = Reading(current, average, maximum, one.count, key, by_torch)
    known[name.quantity] = name.place, reading


def _scaled(value: float | None, factor: float) -> float | None:
    return value * factor if value is not None and math.isfinite(value) else None


def _work_out_percent(readings: dict[str, Reading]) -> None:
    """The share of memory in use, from its bytes, where it was not logged or is of something else than they are."""
    used, total = readings.get("memory_bytes"), readings.get("memory_total_bytes")
    logged = readings.get("memory_percent")
    if used is None or total is None or not total.maximum or (logged is not None and not used.by_torch):
        return
    current, average, maximum = (None if value is None else 100.0 * value / total.maximum for value in used.values)
    readings["memory_percent"] = Reading(current, average, maximum, used.count, None, used.by_torch)


def _is_active(gpu: Gpu, every: Sequence[Gpu]) -> bool:
    """W&B samples all GPUs of a machine: those count that this run's processes held memory of, else those that worked."""
    if any(_worked(one, "process_memory_bytes") for one in every):
        return _worked(gpu, "process_memory_bytes")
    if "utilisation_percent" in gpu.readings:
        return _worked(gpu, "utilisation_percent")
    return True


def _worked(gpu: Gpu, quantity: str) -> bool:
    reading = gpu.readings.get(quantity)
    return reading is not None and bool(reading.maximum)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None
