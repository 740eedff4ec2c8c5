"""Which GPUs are a run's own."""

from __future__ import annotations

import pytest

from lossbook.monitor.visible import Card, Chosen, Instance, amd_devices, nvidia_devices

PLAIN = [Card(number, f"GPU-{number:08x}-aaaa-bbbb") for number in range(4)]
DIVIDED = [
    Card(0, "GPU-00000000-aaaa-bbbb"),
    Card(1, "GPU-00000001-aaaa-bbbb", (Instance(0, "MIG-0000-10"), Instance(2, "MIG-0000-12"))),
    Card(2, "GPU-00000002-aaaa-bbbb", ()),
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, [0, 1, 2, 3]), ("0", [0]), ("2,0", [2, 0]), (" 1 , 3 ", [1, 3]), ("", []), ("-1", []), ("0,-1,2", [0]),
        ("7", []), ("1,7,2", [1]), ("GPU-00000002", [2]), ("GPU-00000003-aaaa-bbbb,0", [3, 0]),
        ("GPU-0000", []),  # could be any of them
        ("NoDevFiles", []), ("1,1", [1]),
    ],
)  # fmt: skip
def test_cuda_visible_devices_is_read_as_cuda_reads_it(wanted: str | None, chosen: list[int]) -> None:
    assert nvidia_devices(PLAIN, wanted) == [Chosen(number) for number in chosen]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, [Chosen(1, 0)]),  # a program sees one instance, and no whole GPU beside it
        ("0", [Chosen(0)]), ("1", [Chosen(1, 0)]), ("MIG-0000-12", [Chosen(1, 2)]),
        ("MIG-0000-12,MIG-0000-10", [Chosen(1, 2), Chosen(1, 0)]), ("MIG-9999-99", []),
        ("2", []),  # divided, and nothing in it
        ("GPU-00000001-aaaa-bbbb", []),
    ],
)  # fmt: skip
def test_mig_instances_are_gpus_of_their_own(wanted: str | None, chosen: list[Chosen]) -> None:
    assert nvidia_devices(DIVIDED, wanted) == chosen


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, [0, 1, 2, 3]), ({"HIP_VISIBLE_DEVICES": "2,1"}, [2, 1]), ({"CUDA_VISIBLE_DEVICES": "3"}, [3]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "3"}, [0]), ({"ROCR_VISIBLE_DEVICES": "3,2"}, [3, 2]),
        ({"ROCR_VISIBLE_DEVICES": "3,2", "HIP_VISIBLE_DEVICES": "1"}, [2]), ({"ROCR_VISIBLE_DEVICES": "GPU-c2"}, [2]),
        ({"HIP_VISIBLE_DEVICES": ""}, []), ({"HIP_VISIBLE_DEVICES": "1,9,2"}, [1]),
    ],
)  # fmt: skip
def test_amds_variables_choose_one_after_the_other(environment: dict[str, str], chosen: list[int]) -> None:
    assert amd_devices(["GPU-C0", "GPU-C1", "GPU-C2", ""], environment) == chosen
