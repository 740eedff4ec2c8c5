"""NVIDIA GPUs, through NVIDIA's own bindings on a library that speaks NVML's C interface."""

from __future__ import annotations

import os
import shutil

import pytest
from fake_nvml import FakeNvml, of_gpu

from lossbook.monitor.gpus import aggregates

pytest.importorskip("pynvml")
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the fake library")

GIB = 2**30


def test_every_figure_has_its_name_and_unit(nvml: FakeNvml) -> None:
    nvml.set(
        "cards 1",
        "set gpu 0 87",
        "set memory 0 41",
        "set temp 0 63",
        "set power 0 350500",
        "set limit 0 700000",
        "set clock 0 1755",
        "set memclock 0 2619",
        f"set used 0 {20 * GIB}",
        f"set total 0 {80 * GIB}",
        "set corrected 0 3",
        "set uncorrected 0 1",
        "set fan 0 35",
        f"set pid 0 {os.getpid()}",
    )
    nvml.start(processes=(os.getpid(),))
    figures = of_gpu(nvml.sample(), 0)
    assert figures == {
        "gpu": 87.0,
        "memory": 41.0,
        "temp": 63.0,
        "powerWatts": 350.5,
        "powerPercent": 50.07,
        "smClock": 1755.0,
        "memoryClock": 2619.0,
        "memoryAllocated": 25.0,
        "memoryAllocatedBytes": 20.0 * GIB,
        "memoryTotalBytes": 80.0 * GIB,
        "throttle": 0.0,
        "throttled": 0.0,
        "eccCorrected": 3.0,
        "eccUncorrected": 1.0,
        "fanSpeed": 35.0,
        "process.memoryAllocatedBytes": 5.0 * GIB,
    }
    assert nvml.said() == []


def test_traffic_is_what_the_counters_grew_by(nvml: FakeNvml) -> None:
    nvml.start()
    nvml.set("cards 1", "set pcietx 0 1000", "set nvrx 0 1000")
    first = of_gpu(nvml.sample(), 0)
    assert "pcieTx" not in first
    nvml.set("cards 1", "set pcietx 0 5001000", "set nvrx 0 1001000")
    later = of_gpu(nvml.sample(), 0)
    assert later["pcieTx"] > 0
    # NVLink's counter is in KiB, PCIe's in bytes, and both were looked at over the same time.
    assert later["nvlinkRx"] / later["pcieTx"] == pytest.approx(1_000_000 * 1024 / 5_000_000, rel=1e-3)
    assert later["pcieRx"] == 0.0


def test_a_driver_without_counters_measures_pcie_itself(nvml: FakeNvml) -> None:
    nvml.set("cards 1", "call pcietx 3", "call pcierx 3", "call nvtx 3", "call nvrx 3")
    nvml.start()
    figures = of_gpu(nvml.sample(), 0)
    assert (figures["pcieTx"], figures["pcieRx"]) == (1000.0 * 1024, 2000.0 * 1024)
    assert "nvlinkTx" not in figures


def test_eight_gpus_are_averaged_and_summed(nvml: FakeNvml) -> None:
    nvml.set("cards 8", *(f"set gpu {card} {10 * card}" for card in range(8)), f"set total 3 {40 * GIB}")
    nvml.start()
    figures = nvml.sample()
    assert [of_gpu(figures, card)["gpu"] for card in range(8)] == [10.0 * card for card in range(8)]
    assert aggregates(figures) == {
        "gpu/compute_util_avg": 35.0,
        "gpu/memory_util_avg": 33.5,
        "gpu/memory_used_avg_gb": 20.0,
        "gpu/memory_used_total_gb": 160.0,
        "gpu/memory_total_gb": 600.0,
    }


def test_figures_that_a_card_lacks_are_absent_and_never_zero(nvml: FakeNvml) -> None:
    lacking = (
        "utilization",
        "fan",
        "ecc",
        "power",
        "temperature",
        "throttle",
        "clock",
        "memory2",
        "events",
        "processes",
    )
    nvml.set("cards 1", *(f"call {name} 3" for name in (*lacking, "pcietx", "pcierx", "nvtx", "nvrx", "pcie")))
    nvml.start()
    assert of_gpu(nvml.sample(), 0) == {
        "memoryAllocated": 25.0,
        "memoryAllocatedBytes": 20.0 * GIB,
        "memoryTotalBytes": 80.0 * GIB,
    }
    assert nvml.said() == []  # an older card is no fault


def test_what_may_not_be_read_is_said_once_and_left_out(nvml: FakeNvml) -> None:
    nvml.set("cards 2", "call power 4")
    nvml.start()
    figures = nvml.sample()
    assert "powerWatts" not in of_gpu(figures, 0)
    assert of_gpu(figures, 1)["gpu"] == 51.0
    nvml.set("cards 2")
    assert "powerWatts" not in of_gpu(nvml.sample(), 0)  # it is not asked for again
    assert nvml.said() == ["the power of NVIDIA GPUs may not be read by this user; its series are left out"]


def test_a_lost_gpu_ends_its_own_series_and_may_come_back(nvml: FakeNvml) -> None:
    nvml.set("cards 3")
    nvml.start()
    assert len(of_gpu(nvml.sample(), 1)) > 5
    nvml.set("cards 3", "card 1 15")
    figures = nvml.sample()
    assert of_gpu(figures, 1) == {}
    assert of_gpu(figures, 0)["gpu"] == 50.0
    assert of_gpu(figures, 2)["gpu"] == 52.0
    nvml.sample()
    assert nvml.said() == ["GPU 1 is lost (GPU is lost); its series end here, training goes on"]
    nvml.set("cards 3")
    assert of_gpu(nvml.sample(), 1)["gpu"] == 51.0


@pytest.mark.parametrize("error", [1, 9, 18, 999])
def test_a_driver_that_goes_ends_the_series_and_comes_back(nvml: FakeNvml, error: int) -> None:
    nvml.set("cards 2")
    nvml.start()
    assert len(of_gpu(nvml.sample(), 0)) > 5
    nvml.set("cards 2", f"driver {error}")
    assert nvml.sample() == {}
    assert nvml.sample() == {}
    said = nvml.said()
    assert len(said) == 1
    assert said[0].startswith("the NVIDIA driver does not answer (")
    assert said[0].endswith("); its series end here, training goes on")
    nvml.set("cards 2")
    assert of_gpu(nvml.sample(), 1)["gpu"] == 51.0


def test_a_machine_without_a_driver_says_nothing(nvml: FakeNvml) -> None:
    nvml.set("cards 0", "driver 9")
    nvml.start()
    assert nvml.sample() == {}
    assert nvml.said() == []


def test_nvml_is_begun_once_for_all_samples(nvml: FakeNvml) -> None:
    nvml.set("cards 2")
    nvml.start()
    for _ in range(20):
        nvml.sample()
    assert nvml.times_begun() == 1


def test_only_real_slow_downs_count_as_throttled(nvml: FakeNvml) -> None:
    nvml.start()
    for mask, throttled in (
        (0x1, 0),
        (0x2, 0),
        (0x10, 0),
        (0x4, 1),
        (0x8, 1),
        (0x20, 1),
        (0x40, 1),
        (0x80, 1),
        (0x41, 1),
    ):
        nvml.set("cards 1", f"set throttle 0 {mask}")
        figures = of_gpu(nvml.sample(), 0)
        assert (figures["throttle"], figures["throttled"]) == (mask, throttled)


def test_an_xid_error_is_shown_by_the_gpu_that_had_it(nvml: FakeNvml) -> None:
    nvml.set("cards 2")
    nvml.start()
    assert "xid" not in of_gpu(nvml.sample(), 1)
    nvml.set("cards 2", "xid 1 79")
    figures = nvml.sample()
    assert of_gpu(figures, 1)["xid"] == 79.0
    assert "xid" not in of_gpu(figures, 0)
    assert of_gpu(nvml.sample(), 1)["xid"] == 79.0  # the last one stays


def test_only_this_runs_gpus_are_measured_and_numbered_as_torch_does(nvml: FakeNvml) -> None:
    nvml.set("cards 4")
    nvml.start({"CUDA_VISIBLE_DEVICES": "3,GPU-00000001"})
    figures = nvml.sample()
    assert [of_gpu(figures, number)["gpu"] for number in (0, 1)] == [53.0, 51.0]
    assert of_gpu(figures, 2) == {}


def test_another_nodes_gpus_are_numbered_from_its_first_rank(nvml: FakeNvml) -> None:
    nvml.set("cards 2")
    nvml.start(first=8)
    figures = nvml.sample()
    assert {key.split(".")[2] for key in figures} == {"8", "9"}


def test_a_mig_instance_has_its_own_memory_and_no_share_of_the_cards_power(nvml: FakeNvml) -> None:
    nvml.set("cards 2", "mig 1 2")
    nvml.start({"CUDA_VISIBLE_DEVICES": "MIG-00000001-0001-2222-3333-444444444444"})
    figures = of_gpu(nvml.sample(), 0)
    assert figures["memoryTotalBytes"] == 20.0 * GIB
    assert (figures["temp"], figures["smClock"], figures["throttled"]) == (61.0, 1980.0, 0.0)
    assert not {"gpu", "memory", "powerWatts", "pcieTx", "nvlinkTx", "fanSpeed"} & figures.keys()


def test_an_empty_list_of_gpus_means_none(nvml: FakeNvml) -> None:
    nvml.set("cards 2")
    nvml.start({"CUDA_VISIBLE_DEVICES": ""})
    assert nvml.sample() == {}
    assert nvml.said() == []
