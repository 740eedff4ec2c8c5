"""What torch's allocator holds: read by a thread of the training process, only where torch can use a GPU."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lossbook
from lossbook.run import allocator

WaitUntil = Callable[..., None]
GIB = 2**30


class Cuda:
    """Stands in for `torch.cuda`: the counters that the allocator of each device keeps."""

    def __init__(self, *held: tuple[int, int]) -> None:
        self.held = held
        self.initialized = True

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return len(self.held)

    def memory_stats_as_nested_dict(self, device: int) -> dict[str, Any]:
        allocated, reserved = self.held[device]
        return {
            "allocated_bytes": {"all": {"current": allocated}},
            "reserved_bytes": {"all": {"current": reserved}},
        }


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A torch that was built for GPUs, with one of them in use."""
    fake = ModuleType("torch")
    fake.version = SimpleNamespace(cuda="13.0", hip=None)  # type: ignore[attr-defined]
    fake.cuda = Cuda((3 * GIB, 4 * GIB))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_figures_are_in_gib_and_summed_over_devices(torch: ModuleType) -> None:
    assert allocator.allocator_memory() == {"torch_gpu_memory_allocated": 3.0, "torch_gpu_memory_reserved": 4.0}
    torch.cuda = Cuda((GIB, 2 * GIB), (0, 0), (3 * GIB, 4 * GIB))
    assert allocator.allocator_memory() == {
        "torch_gpu_memory_allocated": 4.0,
        "torch_gpu_memory_reserved": 6.0,
        "torch_gpu_memory_allocated/gpu_0": 1.0,
        "torch_gpu_memory_reserved/gpu_0": 2.0,
        "torch_gpu_memory_allocated/gpu_2": 3.0,
        "torch_gpu_memory_reserved/gpu_2": 4.0,
    }


def test_cuda_is_never_begun_by_looking(torch: ModuleType) -> None:
    torch.cuda.initialized = False
    assert allocator.allocator_memory() == {}


def test_a_torch_without_gpus_costs_no_thread(torch: ModuleType, store: Path) -> None:
    torch.version = SimpleNamespace(cuda=None, hip=None)
    lossbook.init(store=store)
    assert "lossbook-allocator" not in threads()


def test_a_process_without_torch_costs_no_thread(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    lossbook.init(store=store)
    assert "lossbook-allocator" not in threads()


def test_rows_stand_at_the_last_step_and_do_not_move_it(
    torch: ModuleType, store: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(allocator.AllocatorWatch.__init__, "__kwdefaults__", {"interval_seconds": 0.01})
    run = lossbook.init(store=store, project="p")
    run.log({"loss": 1.0}, step=41)
    allocated = "torch_gpu_memory_allocated"

    def steps() -> list[Any]:
        read = lossbook.open(store).run("latest")
        return [row[0] for row in read.history([allocated]).rows()] if allocated in set(read.keys()) else []

    wait_until(lambda: 41 in steps())
    run.log({"loss": 0.5})
    run.finish()
    wait_until(lambda: "lossbook-allocator" not in threads())
    assert [row[0] for row in lossbook.open(store).run("latest").history(["loss"]).rows()] == [41, 42]


def test_a_run_that_wants_no_system_metrics_has_none(torch: ModuleType, store: Path) -> None:
    lossbook.init(store=store, system_metrics=False)
    assert "lossbook-allocator" not in threads()
