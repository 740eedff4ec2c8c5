"""Which accelerator a reported name means, and what its dense peak is."""

from __future__ import annotations

import dataclasses

import pytest

from lossbook.lm.devices import DEVICES, Device, find_device, peak_flops

#: Names as drivers and frameworks really give them.
REPORTED = {
    "Tesla V100-SXM2-16GB": "V100 SXM2",
    "Tesla V100-SXM2-32GB": "V100 SXM2",
    "Tesla V100-PCIE-32GB": "V100 PCIe",
    "Tesla V100S-PCIE-32GB": "V100S PCIe",
    "Tesla T4": "T4",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA A30": "A30",
    "NVIDIA A40": "A40",
    "A100-SXM4-40GB": "A100",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA A100 80GB PCIe": "A100",
    "NVIDIA RTX A6000": "RTX A6000",
    "NVIDIA GeForce RTX 3090": "RTX 3090",
    "NVIDIA GeForce RTX 3090 Ti": "RTX 3090 Ti",
    "NVIDIA GeForce RTX 3080": "RTX 3080",
    "NVIDIA GeForce RTX 3080 Ti": "RTX 3080 Ti",
    "NVIDIA GeForce RTX 4070": "RTX 4070",
    "NVIDIA GeForce RTX 4070 Ti": "RTX 4070 Ti",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "RTX 4070 Ti Super",
    "NVIDIA GeForce RTX 4080 SUPER": "RTX 4080 Super",
    "NVIDIA GeForce RTX 5080": "RTX 5080",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA GeForce RTX 5090": "RTX 5090",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200",
    "NVIDIA H200 NVL": "H200 NVL",
    "NVIDIA H20": "H20",
    "NVIDIA B200": "B200",
    "NVIDIA GB200": "GB200, one GPU of two",
    "AMD Instinct MI100": "MI100",
    "AMD Instinct MI210": "MI210",
    "AMD Instinct MI250X": "MI250X, one die of two",
    "AMD INSTINCT MI250 (MCM) OAM AC MBA": "MI250, one die of two",
    "AMD Instinct MI300X": "MI300X",
    "AMD Instinct MI300X OAM": "MI300X",
    "AMD Instinct MI300X VF": "MI300X",
    "AMD Instinct MI325X": "MI325X",
    "AMD Instinct MI355X": "MI355X",
    "GAUDI2": "Gaudi 2",
    "GAUDI3": "Gaudi 3",
    "TPU v4": "TPU v4",
    "TPU v5 lite": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v5p": "TPU v5p",
    "TPU v6 lite": "TPU v6e",
}


@pytest.mark.parametrize("reported", REPORTED)
def test_a_reported_name_finds_its_device(reported: str) -> None:
    found = find_device(reported)
    assert found is not None
    assert found.name == REPORTED[reported]


@pytest.mark.parametrize(
    "reported",
    [
        "",
        "cpu",
        "Apple M3 Max",
        "NVIDIA H100",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3080 Laptop GPU",
        "NVIDIA GeForce RTX 2080 Ti",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A100-SXM-64GB",
        "GRID A100D-80C",
        "NVIDIA A40-48Q",
        "NVIDIA L40S-12C",
        "Quadro RTX 6000",
        "NVIDIA GH200 480GB",
        "AMD Instinct MI250X / MI250",
        "AMD Instinct MI300X HF",
        "TPU v4 lite",
        "TPU v5 something lite else v6",
    ],
)
def test_a_name_that_is_unknown_or_leaves_the_product_open_has_no_peak(reported: str) -> None:
    assert peak_flops(reported) is None


@pytest.mark.parametrize(
    ("reported", "dtype", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "torch.float16", 312e12),
        ("NVIDIA GeForce RTX 3080", "bfloat16", 59.5e12),
        ("NVIDIA GeForce RTX 4080", "bfloat16", 97.5e12),
        ("NVIDIA GeForce RTX 3070", "float32", 20.3e12),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156e12),
        ("NVIDIA A100-SXM4-80GB", "float32", 19.5e12),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.5e12),
        ("NVIDIA H100 80GB HBM3", "float8_e4m3fn", 1979e12),
        ("NVIDIA GeForce RTX 4090", "half", 165.2e12),
        ("AMD Instinct MI250X", "bfloat16", 191.5e12),
        ("Tesla V100-SXM2-32GB", "bfloat16", None),
        ("NVIDIA A100-SXM4-80GB", "fp8", None),
        ("NVIDIA A100-SXM4-80GB", "float64", None),
        ("NVIDIA A100-SXM4-80GB", "int8", None),
    ],
)
def test_the_peak_is_that_of_the_number_format(reported: str, dtype: str, expected: float | None) -> None:
    assert peak_flops(reported, dtype) == (None if expected is None else pytest.approx(expected))


def test_bfloat16_is_what_is_meant_where_nothing_is_said() -> None:
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H200", "bfloat16") == pytest.approx(989.5e12)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_each_device_has_a_source_and_figures_that_can_be(device: Device) -> None:
    peaks = {name: getattr(device, name) for name in ("fp32", "tf32", "fp16", "bf16", "fp8")}
    assert device.memory_gb
    assert len(device.source) > 20
    assert any(peaks.values())
    known = [peaks[name] for name in ("fp32", "tf32", "fp16", "fp8") if peaks[name] is not None]
    assert known == sorted(known), "a narrower format is never slower"
    assert peaks["fp8"] is None or peaks["bf16"] is None or peaks["fp8"] <= 2.05 * peaks["bf16"], "one is sparse"


def test_no_two_devices_answer_to_the_same_words() -> None:
    asked = [frozenset(words.split()) for device in DEVICES for words in device.words]
    assert len(asked) == len(set(asked))
    assert len({device.name for device in DEVICES}) == len(DEVICES)
    assert dataclasses.fields(Device)[-1].name == "source"
