"""What the machine under a training run has and spends: working time, GPU memory, host memory, the model's size.

Nothing here waits for a device: GPU figures come from the allocator's counters in this process, so reading them
between two kernels costs microseconds and changes nothing. `_gb` is 2^30 bytes throughout.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TypeGuard

from lossbook.monitor import container_memory_bytes

GIBIBYTE_BYTES = 2**30


class Timer:
    """A clock that counts only the time it was meant to: it is paused for validation and for checkpoints.

    The time is monotonic: a clock that is set back or forward changes nothing, nor does a machine that sleeps.
    Pauses nest. Not for several threads at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_seconds = 0.0
        self._since = 0.0  # the clock when counting last began; means something only while counting
        self._running = False
        self._pauses = 0

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped; true in a pause as well."""
        return self._running

    @property
    def elapsed_seconds(self) -> float:
        """Seconds counted until now, earlier starts and restored ones included."""
        if self._counting:
            return self._counted_seconds + self._clock() - self._since
        return self._counted_seconds

    def start(self) -> Timer:
        """Begin to count, or go on after `stop`; a running timer simply runs on."""
        self._change(running=True)
        return self

    def stop(self) -> float:
        """Cease to count and end any pause; returns the seconds counted."""
        self._change(running=False, pauses=0)
        return self._counted_seconds

    def pause(self) -> None:
        """Leave out what follows until as many `resume` as there were `pause`."""
        self._change(pauses=self._pauses + 1)

    def resume(self) -> None:
        """End the innermost pause; nothing happens where there is none."""
        self._change(pauses=max(0, self._pauses - 1))

    @contextmanager
    def paused(self) -> Iterator[Timer]:
        """Leave out the block, also when it ends with an exception."""
        self.pause()
        try:
            yield self
        finally:
            self.resume()

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps. No reading of the clock is in it: on the next machine it would mean nothing."""
        return {"elapsed_seconds": self.elapsed_seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a kept state; the time between, in which nothing ran, is not counted.

        Raises:
            KeyError: the state has no `elapsed_seconds`.
        """
        elapsed = float(state["elapsed_seconds"])
        self._counted_seconds = elapsed
        self._since = self._clock()

    @property
    def _counting(self) -> bool:
        return self._running and not self._pauses

    def _change(self, *, running: bool | None = None, pauses: int | None = None) -> None:
        now = self._clock()
        if self._counting:
            self._counted_seconds += now - self._since
        self._since = now
        self._running = self._running if running is None else running
        self._pauses = self._pauses if pauses is None else pauses


def gpu_memory() -> dict[str, float]:
    """Memory of the GPUs that this process uses, by PyTorch's own counters; empty where it uses none.

    The GPUs are those that hold memory of this process, and the current one. Numbers are those of
    `torch.cuda.current_device()`, so of what CUDA_VISIBLE_DEVICES leaves visible.

    Returns:
        For each GPU i, in units of 2^30 bytes: `memory/gpu_{i}_allocated_gb` (held by tensors), `_reserved_gb` (taken
        from the driver), `_total_gb` (of the GPU), `_free_gb` (total less reserved: what other processes hold is not
        seen), and `memory/gpu_{i}_utilization_pct`, the allocated share of the total in percent.
    """
    # Only a torch that the trainer itself brought up: importing it, or beginning CUDA, is not for a tracker to do.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    current = int(cuda.current_device())
    figures: dict[str, float] = {}
    for index in range(int(cuda.device_count())):
        # Both counters in one call; memory_allocated() and memory_reserved() would each collect a hundred.
        # mem_get_info() is not asked: it enters the driver, and begins a context on a GPU that had none.
        counters = cuda.memory_stats_as_nested_dict(index)
        allocated_bytes = _current_bytes(counters, "allocated_bytes")
        reserved_bytes = _current_bytes(counters, "reserved_bytes")
        if index != current and not reserved_bytes:
            continue
        total_bytes = int(cuda.get_device_properties(index).total_memory)
        name = f"memory/gpu_{index}"
        figures[f"{name}_allocated_gb"] = allocated_bytes / GIBIBYTE_BYTES
        figures[f"{name}_reserved_gb"] = reserved_bytes / GIBIBYTE_BYTES
        figures[f"{name}_total_gb"] = total_bytes / GIBIBYTE_BYTES
        figures[f"{name}_free_gb"] = max(0, total_bytes - reserved_bytes) / GIBIBYTE_BYTES
        figures[f"{name}_utilization_pct"] = 100.0 * allocated_bytes / total_bytes if total_bytes else 0.0
    return figures


def _current_bytes(counters: Mapping[str, Mapping[str, Mapping[str, int]]], name: str) -> int:
    return int(counters.get(name, {}).get("all", {}).get("current", 0))


def system_memory() -> dict[str, float]:
    """Memory of the host, or of the container where that has a limit of its own.

    Returns:
        `memory/system_memory_used_gb` (without what the kernel would give back at once), `_total_gb` (the tightest
        limit), both in units of 2^30 bytes, and `memory/system_memory_percent`, used of total.
    """
    import psutil

    host = psutil.virtual_memory()
    used_bytes, total_bytes = host.total - host.available, host.total
    container = container_memory_bytes()
    if container is not None and container[1] < total_bytes:
        used_bytes, total_bytes = container
    return {
        "memory/system_memory_used_gb": used_bytes / GIBIBYTE_BYTES,
        "memory/system_memory_total_gb": total_bytes / GIBIBYTE_BYTES,
        "memory/system_memory_percent": 100.0 * used_bytes / total_bytes if total_bytes else 0.0,
    }


def model_parameters(model: object) -> int | None:
    """Count the parameters of a model: each object once, so that tied weights are not counted twice.

    Args:
        model: a `torch.nn.Module`, or anything whose `parameters()` gives arrays, in nested lists or dicts too.
            Of a model that is split over ranks, the part that this rank's `parameters()` shows.

    Returns:
        The count, or None where the model has no `parameters()` or cannot say yet how large one is (a lazy layer).
    """
    listed = getattr(model, "parameters", None)
    if not callable(listed):
        return None
    try:
        # Kept by identity, and kept alive: the id of an array that is gone may be given to the next one.
        arrays = {id(array): array for array in _arrays(listed())}
        return sum(_elements(array) for array in arrays.values())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None


class _Array(Protocol):
    @property
    def shape(self) -> Iterable[int]: ...


def _is_array(value: object) -> TypeGuard[_Array]:
    return hasattr(value, "shape")


def _arrays(tree: object) -> Iterator[_Array]:
    """The arrays in nested lists and dicts.

    Raises:
        TypeError: something else is in there.
    """
    if _is_array(tree):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _arrays(value)
    elif isinstance(tree, Iterable):
        for value in tree:
            yield from _arrays(value)
    elif tree is not None:
        raise TypeError(f"{type(tree).__name__} is no array")


def _elements(array: _Array) -> int:
    count = getattr(array, "numel", None)
    return int(count()) if callable(count) else math.prod(array.shape)
