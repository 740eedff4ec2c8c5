"""GPUs that idle, memory that runs out, heat and clocks held down, in the machine's own series."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rows import MONITOR, findings, row

from lossbook.diagnosis import Finding

EVERY_SECONDS = 2.0


def machine(minutes: float, key: str, value: Callable[[float], float]) -> list[Finding]:
    """Findings in samples of one series; `value` has it by the minute."""
    samples = int(minutes * 60 / EVERY_SECONDS)
    return findings(
        row(10 * at, {key: value(at * EVERY_SECONDS / 60)}, seconds=at * EVERY_SECONDS, rank=MONITOR)
        for at in range(samples)
    )


def test_a_gpu_that_was_busy_and_does_nothing_any_more_is_idle() -> None:
    (one,) = machine(20, "system.gpu.3.gpu", lambda minute: 95.0 if minute < 10 else 1.0)
    assert (one.kind, one.severity, one.key, one.threshold) == ("gpu_idle", "warning", "system.gpu.3.gpu", 5.0)
    assert one.first_step == 3000
    assert one.sentence.startswith("GPU 3 is idle (1%) for ")
    assert [seen.value for seen in one.evidence] == [1.0, 1.0]


def test_a_gpu_that_waits_for_a_checkpoint_is_not_idle() -> None:
    assert machine(30, "system.gpu.0.gpu", lambda minute: 1.0 if minute % 10 < 3 else 95.0) == []


def test_a_gpu_that_this_run_never_used_is_not_idle() -> None:
    assert machine(60, "system.gpu.0.gpu", lambda minute: 0.0) == []


def test_a_gpu_on_which_this_run_has_memory_and_does_nothing_is_idle() -> None:
    rows = [
        row(
            at,
            {"system.gpu.1.process.memoryAllocatedBytes": 1e9, "system.gpu.1.gpu": 0.0},
            seconds=2.0 * at,
            rank=MONITOR,
        )
        for at in range(300)
    ]
    assert [one.key for one in findings(rows)] == ["system.gpu.1.gpu"]


@pytest.mark.parametrize(
    ("key", "full", "well", "kind", "severity"),
    [
        ("system.gpu.0.memoryAllocated", 99.5, 96.0, "memory", "warning"),
        ("memory_percent", 97.0, 90.0, "memory", "error"),
        ("memory_percent/node_8", 97.0, 90.0, "memory", "error"),
        ("system.gpu.0.temp", 93.0, 82.0, "overheating", "warning"),
        ("system.gpu.0.throttle", 0x40, 0x4, "throttling", "warning"),
        ("system.gpu.0.throttle", 0x8, 0x1, "throttling", "warning"),
    ],
)
def test_what_holds_for_minutes_is_found_and_what_is_usual_is_not(
    key: str, full: float, well: float, kind: str, severity: str
) -> None:
    (one,) = machine(10, key, lambda minute: full if 4 <= minute < 8 else well)
    assert (one.kind, one.severity, one.key, one.value) == (kind, severity, key, full)
    assert (one.first_step, one.last_step) == (1200, 2390)
    assert machine(10, key, lambda minute: well) == []
    assert machine(10, key, lambda minute: full if 4 <= minute < 4.3 else well) == []


def test_what_comes_back_soon_is_the_same_finding() -> None:
    (one,) = machine(30, "system.gpu.0.temp", lambda minute: 95.0 if int(minute) % 6 < 3 else 80.0)
    assert one.first_step == 0
    assert one.last_step > 8000
    found = machine(120, "system.gpu.0.temp", lambda minute: 95.0 if int(minute) % 60 < 3 else 80.0)
    assert [one.first_step for one in found] == [0, 18000]


def test_each_gpu_has_findings_of_its_own() -> None:
    hot = {f"system.gpu.{gpu}.temp": 95.0 if gpu in (2, 5) else 70.0 for gpu in range(8)}
    found = findings(row(at, hot, seconds=2.0 * at, rank=MONITOR) for at in range(100))
    assert [one.key for one in found] == ["system.gpu.2.temp", "system.gpu.5.temp"]
