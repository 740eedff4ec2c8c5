"""AMD GPUs: through AMD's own bindings on a library that speaks its C interface, and by the kernel's files."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import REPOSITORY, of_gpu

from lossbook.monitor.amd import Amd, AmdFiles
from lossbook.monitor.base import FamilyLost

GIB = 2**30
SOURCE = Path(__file__).with_name("fake_amd_smi.c")

PROGRAM = """
import json, os, sys
from pathlib import Path
from lossbook.monitor import Monitor
from lossbook.monitor.amd import Amd
said = []
settings, system, environment, steps = json.loads(sys.argv[1])
amd = Amd(environment=environment, processes=lambda: {os.getpid()}, say=said.append, system=Path(system))
os.environ["FAKE_PID"] = str(os.getpid())
monitor = Monitor(os.getpid(), say=said.append, families={"amd": amd})
for lines in steps:
    Path(settings).write_text(lines)
    print(json.dumps(monitor.sample()))
print(json.dumps(said))
"""


# -- through the library ------------------------------------------------------------------------------------------


def library_functions() -> set[str]:
    """Every function that the installed bindings look up when they are imported."""
    found = importlib.util.find_spec("amdsmi")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).with_name("amdsmi_wrapper.py").read_text(encoding="utf-8")
    return set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", text))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake `libamd_smi.so`, compiled."""
    if importlib.util.find_spec("amdsmi") is None or shutil.which("cc") is None:
        pytest.skip("needs amdsmi and a C compiler")
    folder = tmp_path_factory.mktemp("amd")
    mine = set(re.findall(r"^int (amdsmi_\w+)\(", SOURCE.read_text(), re.MULTILINE))
    stubs = [f"int {name}(void) {{ return 2; }}" for name in sorted(library_functions() - mine)]
    (folder / "stubs.h").write_text("\n".join(stubs) + "\n")
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{folder}", "-o", str(folder / "libamd_smi.so"), str(SOURCE)],
        check=True,
    )
    return folder


def sampled(
    library: Path, folder: Path, *steps: str, environment: dict[str, str] | None = None
) -> tuple[list[dict[str, float]], list[str]]:
    """A sample for each state of the driver, and what was said; in a process of its own, as bindings load once."""
    make_card(folder / "sys", 0)
    given = [str(folder / "settings"), str(folder / "sys"), environment or {}, steps]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(given)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(library),
            "FAKE_AMD_SMI": str(folder / "settings"),
            "PYTHONPATH": str(REPOSITORY),
        },
    )
    lines: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]


def test_the_library_gives_every_figure_in_our_units(library: Path, tmp_path: Path) -> None:
    (figures,), said = sampled(library, tmp_path, "cards 2")
    expected = {
        "gpu": 71.0,
        "memory": 20.0,
        "memoryAllocated": 25.0,
        "memoryAllocatedBytes": 48.0 * GIB,
        "memoryTotalBytes": 192.0 * GIB,
        "temp": 67.0,
        "powerWatts": 300.0,
        "powerPercent": 40.0,
        "smClock": 2100.0,
        "memoryClock": 1300.0,
        "fanSpeed": 20.0,
        "eccCorrected": 4.0,
        "eccUncorrected": 1.0,
        "process.memoryAllocatedBytes": 6.0 * GIB,
    }
    assert of_gpu(figures, 1) == expected
    assert of_gpu(figures, 0) == {**expected, "gpu": 70.0, "temp": 66.0}
    assert said == []


def test_a_power_limit_in_millionths_of_a_watt_is_seen_to_be_one(library: Path, tmp_path: Path) -> None:
    (figures,), _ = sampled(library, tmp_path, "cards 1\ncall microwatts 1")
    assert of_gpu(figures, 0)["powerPercent"] == 40.0


def test_what_an_amd_gpu_lacks_is_absent(library: Path, tmp_path: Path) -> None:
    lacking = "\n".join(
        f"call {name} 2" for name in ("hotspot", "power", "fan", "ecc", "clock", "processes", "bandwidth")
    )
    (figures,), said = sampled(library, tmp_path, f"cards 1\n{lacking}")
    assert of_gpu(figures, 0) == {
        "gpu": 70.0,
        "memoryAllocated": 25.0,
        "memoryAllocatedBytes": 48.0 * GIB,
        "memoryTotalBytes": 192.0 * GIB,
        "temp": 50.0,
    }
    assert said == []


def test_what_amd_does_not_permit_is_said_once(library: Path, tmp_path: Path) -> None:
    samples, said = sampled(library, tmp_path, "cards 2\ncall power 10", "cards 2\ncall power 10")
    assert "powerWatts" not in of_gpu(samples[1], 0)
    assert said == ["the power of AMD GPUs may not be read by this user; its series are left out"]


def test_amd_gpus_are_chosen_by_amds_variables(library: Path, tmp_path: Path) -> None:
    (figures,), _ = sampled(library, tmp_path, "cards 4", environment={"ROCR_VISIBLE_DEVICES": "GPU-c2"})
    assert {key.split(".")[2] for key in figures if key.startswith("system.gpu.")} == {"0"}
    assert of_gpu(figures, 0)["gpu"] == 72.0


def test_amds_library_that_goes_ends_the_series(library: Path, tmp_path: Path) -> None:
    (before, after), said = sampled(library, tmp_path, "cards 1", "cards 1\ndriver 34")
    assert of_gpu(before, 0)["gpu"] == 70.0
    assert after == {}
    assert len(said) == 1
    assert said[0].startswith("AMD's library does not answer")


def test_a_library_that_does_not_begin_leaves_the_kernels_files(library: Path, tmp_path: Path) -> None:
    (figures,), said = sampled(library, tmp_path, "cards 1\ncall init 34")
    assert of_gpu(figures, 0)["gpu"] == 42.0
    assert said == []


# -- by the kernel's files ----------------------------------------------------------------------------------------


def make_card(
    system: Path, number: int, *, bus: str = "0000:03:00.0", without: tuple[str, ...] = (), **changed: str
) -> Path:
    """The files of one card, as the amdgpu driver shows them."""
    device = system / "devices" / bus
    (device / "hwmon" / "hwmon4").mkdir(parents=True)
    files = {
        "vendor": "0x1002",
        "gpu_busy_percent": "42",
        "mem_busy_percent": "7",
        "mem_info_vram_total": str(24 * GIB),
        "mem_info_vram_used": str(6 * GIB),
        "unique_id": f"abc{number}",
        "hwmon/hwmon4/temp1_input": "51000",
        "hwmon/hwmon4/temp2_input": "63500",
        "hwmon/hwmon4/power1_average": "142000000",
        "hwmon/hwmon4/power1_cap": "284000000",
        "hwmon/hwmon4/freq1_input": "2482000000",
        "hwmon/hwmon4/freq2_input": "1249000000",
        "hwmon/hwmon4/pwm1": "51",
        "hwmon/hwmon4/pwm1_max": "255",
    }
    for name, text in {**files, **changed}.items():
        if name not in without:
            (device / name).write_text(f"{text}\n")
    drm = system / "class" / "drm" / f"card{number}"
    drm.mkdir(parents=True)
    (drm / "device").symlink_to(device)
    return device


def files_of(system: Path, environment: dict[str, str] | None = None) -> AmdFiles:
    files = AmdFiles(first=0, environment=environment or {}, system=system)
    assert files.open()
    return files


def test_the_kernels_files_are_read_in_our_units(tmp_path: Path) -> None:
    make_card(tmp_path, 1)
    files = files_of(tmp_path)
    assert of_gpu(files.sample(), 0) == {
        "gpu": 42.0,
        "memory": 7.0,
        "memoryAllocated": 25.0,
        "memoryAllocatedBytes": 6.0 * GIB,
        "memoryTotalBytes": 24.0 * GIB,
        "temp": 63.5,
        "powerWatts": 142.0,
        "powerPercent": 50.0,
        "smClock": 2482.0,
        "memoryClock": 1249.0,
        "fanSpeed": 20.0,
    }
    files.close()


def test_files_stay_open_and_show_what_is_new(tmp_path: Path) -> None:
    device = make_card(tmp_path, 0)
    files = files_of(tmp_path)
    files.sample()
    (device / "gpu_busy_percent").write_text("99\n")
    assert of_gpu(files.sample(), 0)["gpu"] == 99.0
    files.close()


def test_files_that_a_card_lacks_are_absent(tmp_path: Path) -> None:
    make_card(tmp_path, 0, without=("mem_busy_percent", "hwmon/hwmon4/temp2_input", "hwmon/hwmon4/pwm1"))
    files = files_of(tmp_path)
    figures = of_gpu(files.sample(), 0)
    assert not {"memory", "fanSpeed"} & figures.keys()
    assert figures["temp"] == 51.0
    files.close()


def test_cards_are_counted_by_their_place_on_the_bus_and_chosen(tmp_path: Path) -> None:
    make_card(tmp_path, 10, bus="0000:03:00.0", gpu_busy_percent="10")
    make_card(tmp_path, 2, bus="0000:83:00.0", gpu_busy_percent="20")
    everything = files_of(tmp_path)
    assert [of_gpu(everything.sample(), at)["gpu"] for at in (0, 1)] == [10.0, 20.0]
    everything.close()
    chosen = files_of(tmp_path, {"ROCR_VISIBLE_DEVICES": "GPU-abc2"})
    assert of_gpu(chosen.sample(), 0)["gpu"] == 20.0
    assert of_gpu(chosen.sample(), 1) == {}
    chosen.close()


def test_a_driver_that_is_unloaded_ends_the_series(tmp_path: Path) -> None:
    make_card(tmp_path, 0)
    files = files_of(tmp_path)
    files.sample()
    shutil.rmtree(tmp_path / "devices")
    with pytest.raises(FamilyLost, match="the AMD driver is gone"):
        files.sample()
    files.close()


def test_other_makers_cards_are_none_of_ours(tmp_path: Path) -> None:
    make_card(tmp_path, 0, vendor="0x10de")
    assert not Amd(system=tmp_path).open()
