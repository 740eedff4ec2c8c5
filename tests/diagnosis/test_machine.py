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


# -- a GPU unlike the others --------------------------------------------------------------------------------------


def gpus(value: Callable[[int, int], float], *, count: int = 8, measure: str = "gpu") -> list[Finding]:
    """Findings in 600 samples of several GPUs; `value` has each by its number and the sample's."""
    return findings(
        row(
            10 * at,
            {f"system.gpu.{gpu}.{measure}": value(gpu, at) for gpu in range(count)},
            seconds=at * EVERY_SECONDS,
            rank=MONITOR,
        )
        for at in range(600)
    )


def test_the_one_gpu_that_does_less_than_all_others_is_named_with_its_figure_and_theirs() -> None:
    (one,) = gpus(lambda gpu, at: 55.0 if gpu == 2 and at > 200 else 90.0 + (7 * at + gpu) % 5)
    assert (one.kind, one.severity, one.key, one.value) == ("odd_gpu", "warning", "system.gpu.2.gpu", 55.0)
    assert one.sentence.startswith("GPU 2 is busy 55%, the other 7 92%, since step ")
    assert 2000 < one.first_step < 3000


@pytest.mark.parametrize(("measure", "usual", "odd"), [("powerWatts", 600.0, 400.0), ("smClock", 1900.0, 1200.0)])
def test_power_and_clock_tell_as_well(measure: str, usual: float, odd: float) -> None:
    (one,) = gpus(lambda gpu, _: odd if gpu == 0 else usual, measure=measure)
    assert one.key == f"system.gpu.0.{measure}"


def test_gpus_that_all_differ_as_stages_of_a_pipeline_do_have_no_odd_one_among_them() -> None:
    assert gpus(lambda gpu, _: 95.0 - 8 * gpu) == []


def test_of_two_gpus_nobody_can_tell_which_is_the_odd_one() -> None:
    assert gpus(lambda gpu, _: 95.0 - 40 * gpu, count=2) == []


def test_all_gpus_waiting_for_an_evaluation_at_once_are_not_odd() -> None:
    assert gpus(lambda _, at: 20.0 if at % 100 < 30 else 95.0) == []
