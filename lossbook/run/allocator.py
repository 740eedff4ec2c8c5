"""What PyTorch's own allocator holds on GPUs: the one figure of the machine that only the training process has.

A daemon thread reads host-side counters every ten seconds: no device is asked, nothing waits for one, and there is no
thread at all where torch cannot use a GPU.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping

INTERVAL_SECONDS = 10.0
GIBIBYTE_BYTES = 2**30

#: Writes a row of scalars.
Write = Callable[[dict[str, float]], None]


def has_gpu_build() -> bool:
    """Whether torch has been imported by somebody else, and is a build that can use GPUs."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return bool(getattr(version, "cuda", None) or getattr(version, "hip", None))


def allocator_memory() -> dict[str, float]:
    """Memory that this process's tensors hold, and that torch has taken from the driver; empty where it uses no GPU.

    Returns:
        `torch_gpu_memory_allocated` and `torch_gpu_memory_reserved` in 2^30 bytes, summed over the GPUs of this process;
        where those are several, also for each: `torch_gpu_memory_allocated/gpu_{i}`, numbered as torch does.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    held: dict[int, tuple[float, float]] = {}
    for index in range(int(cuda.device_count())):
        counters = cuda.memory_stats_as_nested_dict(index)
        allocated, reserved = _gigabytes(counters, "allocated_bytes"), _gigabytes(counters, "reserved_bytes")
        if reserved:
            held[index] = allocated, reserved
    if not held:
        return {}
    figures: dict[str, float] = {}
    for at, name in enumerate(("torch_gpu_memory_allocated", "torch_gpu_memory_reserved")):
        figures[name] = sum(one[at] for one in held.values())
        if len(held) > 1:
            figures.update((f"{name}/gpu_{index}", one[at]) for index, one in held.items())
    return figures


def _gigabytes(counters: Mapping[str, Mapping[str, Mapping[str, int]]], name: str) -> float:
    return int(counters.get(name, {}).get("all", {}).get("current", 0)) / GIBIBYTE_BYTES


class AllocatorWatch:
    """Writes the allocator's figures until it is stopped.

    Args:
        write: takes a row; called from this object's thread.
    """

    def __init__(self, write: Write, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._write = write
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lossbook-allocator", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Does not wait: a row on its way is written or dropped."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            try:
                figures = allocator_memory()
                if figures and not self._stop.is_set():
                    self._write(figures)
            except Exception:  # a torch that is being torn down, or has other counters: these series end
                return
