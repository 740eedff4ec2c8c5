"""Figures over all GPUs of a run, made from those of each: the names that dashboards of language-model trainers have."""

from __future__ import annotations

import re
from collections.abc import Mapping

GIBIBYTE_BYTES = 2**30
MEBIBYTE_BYTES = 2**20
_OF_GPU = re.compile(r"system\.gpu\.(\d+)\.(\w+)\Z")


def of_each_gpu(figures: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """Figures `system.gpu.{i}.{name}` as name to value, by i in order."""
    found: dict[int, dict[str, float]] = {}
    for key, value in figures.items():
        matched = _OF_GPU.match(key)
        if matched is not None:
            found.setdefault(int(matched[1]), {})[matched[2]] = value
    return dict(sorted(found.items()))


def aggregates(figures: Mapping[str, float]) -> dict[str, float]:
    """Means and totals over GPUs; `_gb` is 2^30 bytes. What no GPU has is absent.

    Args:
        figures: samples of every node of the run, in one dictionary.
    """
    gpus = of_each_gpu(figures).values()
    made: dict[str, float] = {}
    for name, source in (("gpu/compute_util_avg", "gpu"), ("gpu/memory_util_avg", "memory")):
        shares = [one[source] for one in gpus if source in one]
        if shares:
            made[name] = round(sum(shares) / len(shares), 2)
    used_gb = [one["memoryAllocatedBytes"] / GIBIBYTE_BYTES for one in gpus if "memoryAllocatedBytes" in one]
    if used_gb:
        made["gpu/memory_used_avg_gb"] = round(sum(used_gb) / len(used_gb), 4)
        made["gpu/memory_used_total_gb"] = round(sum(used_gb), 4)
    total_gb = [one["memoryTotalBytes"] / GIBIBYTE_BYTES for one in gpus if "memoryTotalBytes" in one]
    if total_gb:
        made["gpu/memory_total_gb"] = round(sum(total_gb), 4)
    return made


def first_gpu(figures: Mapping[str, float]) -> dict[str, float]:
    """The run's first GPU under the names of trainers that know of one; `gpu_memory_used` in 2^20 bytes (MB)."""
    for one in of_each_gpu(figures).values():
        made = {
            "gpu_utilization": one.get("gpu"),
            "gpu_memory_percent": one.get("memoryAllocated"),
            "gpu_temperature": one.get("temp"),
        }
        if "memoryAllocatedBytes" in one:
            made["gpu_memory_used"] = round(one["memoryAllocatedBytes"] / MEBIBYTE_BYTES, 1)
        return {name: value for name, value in made.items() if value is not None}
    return {}
