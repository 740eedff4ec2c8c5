"""What other trackers call the machine's series, under the names that Lossbook measures them by (docs/system-metrics.md)."""

from __future__ import annotations

import re

_GIB = 2.0**30
#: By tracker: what it calls a quantity of one GPU, our name for it, and the factor between the units.
_TRACKIO_GPU = {
    "utilization": ("gpu", 1.0), "memory_utilization": ("memory", 1.0), "memory_usage": ("memoryAllocated", 100.0),
    "allocated_memory": ("memoryAllocatedBytes", _GIB), "power": ("powerWatts", 1.0),
    "power_percent": ("powerPercent", 1.0), "temp": ("temp", 1.0), "sm_clock": ("smClock", 1.0),
    "memory_clock": ("memoryClock", 1.0), "fan_speed": ("fanSpeed", 1.0),
    "corrected_memory_errors": ("eccCorrected", 1.0), "uncorrected_memory_errors": ("eccUncorrected", 1.0),
}  # fmt: skip
_MLFLOW_GPU = {
    "utilization_percentage": ("gpu", 1.0), "memory_usage_percentage": ("memoryAllocated", 1.0),
    "memory_usage_megabytes": ("memoryAllocatedBytes", 1e6), "memory_usage_gigabytes": ("memoryAllocatedBytes", 1e9),
    "power_usage_watts": ("powerWatts", 1.0), "power_usage_percentage": ("powerPercent", 1.0),
}  # fmt: skip
_TRACKIO = re.compile(r"gpu/(\d+)/(\w+)\Z")
_MLFLOW = re.compile(r"system/gpu_(\d+)_(\w+)\Z")


def from_trackio(key: str, value: float) -> tuple[str, float]:
    """One of Trackio's system metrics: GPUs by our names and units, everything else behind `system.`."""
    if key.startswith("system."):
        return key, value
    matched = _TRACKIO.match(key)
    if matched is not None and matched[2] in _TRACKIO_GPU:
        name, factor = _TRACKIO_GPU[matched[2]]
        return f"system.gpu.{matched[1]}.{name}", value * factor
    return f"system.{key.removeprefix('system/').replace('/', '.')}", value


def from_mlflow(key: str, value: float) -> tuple[str, float]:
    """One of MLflow's metrics: those of the machine by our names and units, all others as they are."""
    if not key.startswith("system/"):
        return key, value
    matched = _MLFLOW.match(key)
    if matched is not None and matched[2] in _MLFLOW_GPU:
        name, factor = _MLFLOW_GPU[matched[2]]
        return f"system.gpu.{matched[1]}.{name}", value * factor
    return f"system.{key.removeprefix('system/').replace('/', '.')}", value
