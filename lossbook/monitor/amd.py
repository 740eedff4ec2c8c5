"""AMD GPUs: through AMD SMI's library (`amdsmi`), or by the files of the kernel's driver where that is not installed.

Both need no root. Functions and units: https://rocm.docs.amd.com/projects/amdsmi/en/latest/reference/amdsmi-py-api.html
and https://docs.kernel.org/gpu/amdgpu/driver-misc.html, https://docs.kernel.org/gpu/amdgpu/thermal.html.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lossbook.monitor.base import FamilyLost, Say, SlowClock
from lossbook.monitor.drivers import AMD_VENDOR
from lossbook.monitor.visible import amd_devices

Figure = TypeVar("Figure")

#: Some versions give a temperature in thousandths of a degree, and a power limit in millionths of a watt.
_NO_TEMPERATURE = 1000
_NO_WATTS = 100_000


class Amd:
    """The AMD GPUs of a run, by the best way that this machine has.

    Args:
        first: the number of the first one in the names of series.
        environment: where HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES stand.
        processes: gives the ids of this run's processes on this machine.
        say: takes one sentence for the user.
        system: where the kernel's `/sys` is.
    """

    def __init__(
        self,
        *,
        first: int = 0,
        environment: Mapping[str, str] | None = None,
        processes: Callable[[], set[int]] = set,
        say: Say = print,
        system: Path = Path("/sys"),
    ) -> None:
        environment = os.environ if environment is None else environment
        self._files = AmdFiles(first=first, environment=environment, system=system)
        self._library = AmdLibrary(first=first, environment=environment, processes=processes, say=say)
        self._chosen: AmdFiles | AmdLibrary = self._library

    def open(self) -> bool:
        """As `Family.open`."""
        if not self._files.has_cards():
            return False
        self._chosen = self._library
        try:
            if self._library.open():
                return True
        except FamilyLost:
            self._library.close()  # the driver's files may still be there
        self._chosen = self._files
        return self._files.open()

    def sample(self) -> dict[str, float]:
        """As `Family.sample`."""
        return self._chosen.sample()

    def close(self) -> None:
        """As `Family.close`."""
        self._library.close()
        self._files.close()


class AmdLibrary:
    """AMD GPUs as `libamd_smi` sees them."""

    def __init__(
        self, *, first: int = 0, environment: Mapping[str, str], processes: Callable[[], set[int]], say: Say
    ) -> None:
        self._first = first
        self._environment = environment
        self._processes = processes
        self._say = say
        self._said: set[str] = set()
        self._smi: Any = None
        self._begun = False
        self._handles: list[tuple[int, object]] = []
        self._missing: set[tuple[int, str]] = set()
        self._slow_clock = SlowClock()

    def open(self) -> bool:
        """As `Family.open`."""
        try:
            # It prints to standard output where the library is not there, and fails in a way of its own.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                import amdsmi
        except (ImportError, AttributeError, KeyError, NameError, OSError):
            return False
        self._smi = amdsmi
        try:
            amdsmi.amdsmi_init(amdsmi.AmdSmiInitFlags.INIT_AMD_GPUS)
            self._begun = True
            handles = list(amdsmi.amdsmi_get_processor_handles())
            uuids = [
                str(self._ask(-at, "uuid", amdsmi.amdsmi_get_gpu_device_uuid, one) or "")
                for at, one in enumerate(handles)
            ]
            chosen = amd_devices(uuids, self._environment)
        except amdsmi.AmdSmiException as error:
            self.close()
            raise FamilyLost(_sentence(error)) from None
        self._handles = [(self._first + at, handles[number]) for at, number in enumerate(chosen)]
        self._missing.clear()
        if not self._handles:
            self.close()
        return bool(self._handles)

    def close(self) -> None:
        """As `Family.close`."""
        self._handles = []
        begun, self._begun = self._begun, False
        if begun:
            try:
                self._smi.amdsmi_shut_down()
            except self._smi.AmdSmiException:
                pass

    def sample(self) -> dict[str, float]:
        """As `Family.sample`; the names are those of docs/system-metrics.md."""
        slow = self._slow_clock.is_due(time.monotonic())
        processes = self._processes() if slow else set()
        figures: dict[str, float] = {}
        for number, handle in self._handles:
            for name, value in self._figures(number, handle, slow, processes).items():
                figures[f"system.gpu.{number}.{name}"] = value
        return figures

    def _figures(self, number: int, handle: object, slow: bool, processes: set[int]) -> dict[str, float]:
        smi = self._smi
        figures: dict[str, float] = {}

        def ask(what: str, call: Callable[..., Figure], *arguments: object) -> Figure | None:
            return self._ask(number, what, call, handle, *arguments)

        kind = smi.AmdSmiMemoryType.VRAM
        total = ask("memory", smi.amdsmi_get_gpu_memory_total, kind)
        _put_memory(figures, ask("memory", smi.amdsmi_get_gpu_memory_usage, kind), total)
        activity = ask("activity", smi.amdsmi_get_gpu_activity) or {}
        _put(figures, "gpu", activity.get("gfx_activity"))
        _put(figures, "memory", activity.get("umc_activity"))
        now = smi.AmdSmiTemperatureMetric.CURRENT
        for sensor in ("HOTSPOT", "EDGE"):
            degrees = ask(sensor, smi.amdsmi_get_temp_metric, getattr(smi.AmdSmiTemperatureType, sensor), now)
            if degrees is not None:
                figures["temp"] = float(degrees if degrees < _NO_TEMPERATURE else degrees / 1e3)
                break
        power = ask("power", smi.amdsmi_get_power_info) or {}
        _put_power(
            figures,
            _first_number(power, "current_socket_power", "socket_power", "average_socket_power"),
            _first_number(power, "power_limit"),
        )
        for name, clock in (("smClock", "GFX"), ("memoryClock", "MEM")):
            speed = ask(name, smi.amdsmi_get_clock_info, getattr(smi.AmdSmiClkType, clock)) or {}
            _put(figures, name, _first_number(speed, "clk", "cur_clk"))
        if slow:
            speed, most = ask("fan", smi.amdsmi_get_gpu_fan_speed, 0), ask("fan", smi.amdsmi_get_gpu_fan_speed_max, 0)
            if speed is not None and most:
                figures["fanSpeed"] = round(100.0 * speed / most, 1)
            errors = ask("ECC errors", smi.amdsmi_get_gpu_total_ecc_count) or {}
            _put(figures, "eccCorrected", errors.get("correctable_count"))
            _put(figures, "eccUncorrected", errors.get("uncorrectable_count"))
            running = ask("processes", smi.amdsmi_get_gpu_process_list) or []
            used = [one["memory_usage"]["vram_mem"] for one in running if one.get("pid") in processes]
            if used:
                figures["process.memoryAllocatedBytes"] = float(sum(used))
        return figures

    def _ask(self, number: int, what: str, call: Callable[..., Figure], *arguments: object) -> Figure | None:
        """Call the library; None where there is no such figure, now or ever."""
        if (number, what) in self._missing:
            return None
        smi = self._smi
        wrapper = smi.amdsmi_wrapper
        try:
            return call(*arguments)
        except smi.AmdSmiLibraryException as error:
            code = abs(int(error.get_error_code()))
            if code in (
                wrapper.AMDSMI_STATUS_NOT_INIT,
                wrapper.AMDSMI_STATUS_DRIVER_NOT_LOADED,
                wrapper.AMDSMI_STATUS_NO_DRV,
            ):
                raise FamilyLost(_sentence(error)) from None
            if code in (wrapper.AMDSMI_STATUS_BUSY, wrapper.AMDSMI_STATUS_NO_DATA):
                return None
            if code == wrapper.AMDSMI_STATUS_NO_PERM and what not in self._said:
                self._said.add(what)
                self._say(f"the {what} of AMD GPUs may not be read by this user; its series are left out")
            self._missing.add((number, what))
            return None
        except smi.AmdSmiException:  # asked to try again, or it took too long
            return None


class AmdFiles:
    """AMD GPUs as the kernel's driver shows them below `/sys/class/drm`. The files are opened once and read again."""

    def __init__(self, *, first: int = 0, environment: Mapping[str, str], system: Path) -> None:
        self._first = first
        self._environment = environment
        self._drm = system / "class" / "drm"
        self._open: list[tuple[int, Path, dict[str, int]]] = []

    def has_cards(self) -> bool:
        """Whether the kernel knows of any AMD GPU."""
        return bool(self._cards())

    def _cards(self) -> list[Path]:
        cards = []
        for device in self._drm.glob("card*/device"):
            if (
                device.parent.name[4:].isdecimal()
                and _text(device / "vendor") == AMD_VENDOR
                and ((device / "mem_info_vram_total").exists() or (device / "gpu_busy_percent").exists())
            ):
                cards.append(device)
        # By their place on the bus, as ROCm counts them; `card10` would come before `card2`.
        return sorted(cards, key=lambda device: (device.resolve().name, device.parent.name))

    def open(self) -> bool:
        """As `Family.open`."""
        self.close()
        cards = self._cards()
        uuids = [f"GPU-{(_text(card / 'unique_id') or '').removeprefix('0x')}" for card in cards]
        for at, number in enumerate(amd_devices(uuids, self._environment)):
            sensors = next(iter(sorted((cards[number] / "hwmon").glob("hwmon*"))), cards[number])
            files: dict[str, int] = {}
            for name, path in _wanted_files(cards[number], sensors).items():
                try:
                    files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    continue
            self._open.append((self._first + at, cards[number], files))
        return bool(self._open)

    def close(self) -> None:
        """As `Family.close`."""
        opened, self._open = self._open, []
        for _, _, files in opened:
            for fd in files.values():
                os.close(fd)

    def sample(self) -> dict[str, float]:
        """As `Family.sample`."""
        figures: dict[str, float] = {}
        gone = []
        for number, card, files in self._open:
            raw = {name: _whole(fd) for name, fd in files.items()}
            if not card.exists():
                gone.append(number)
                continue
            for name, value in _from_files(raw).items():
                figures[f"system.gpu.{number}.{name}"] = value
        if gone and len(gone) == len(self._open):
            raise FamilyLost("the AMD driver is gone; the GPUs' series end here, training goes on")
        return figures


def _wanted_files(card: Path, sensors: Path) -> dict[str, Path]:
    """What to read of one card. The first sensor is the edge, the second the hottest spot, where there is one."""
    hottest = sensors / "temp2_input"
    average = sensors / "power1_average"
    return {
        "gpu": card / "gpu_busy_percent",
        "memory": card / "mem_busy_percent",
        "used": card / "mem_info_vram_used",
        "total": card / "mem_info_vram_total",
        "temp": hottest if hottest.exists() else sensors / "temp1_input",
        "power": average if average.exists() else sensors / "power1_input",
        "limit": sensors / "power1_cap",
        "core": sensors / "freq1_input",
        "memory clock": sensors / "freq2_input",
        "fan": sensors / "pwm1",
        "fan at most": sensors / "pwm1_max",
    }


def _from_files(raw: Mapping[str, int | None]) -> dict[str, float]:
    """The kernel's numbers in our units: thousandths of °C, millionths of W and Hz become °C, W and MHz."""
    figures: dict[str, float] = {}
    _put(figures, "gpu", raw.get("gpu"))
    _put(figures, "memory", raw.get("memory"))
    _put_memory(figures, raw.get("used"), raw.get("total"))
    for name, source, unit in (("temp", "temp", 1e3), ("smClock", "core", 1e6), ("memoryClock", "memory clock", 1e6)):
        value = raw.get(source)
        _put(figures, name, None if value is None else value / unit)
    watts, limit = raw.get("power"), raw.get("limit")
    _put_power(figures, None if watts is None else watts / 1e6, None if limit is None else limit / 1e6)
    fan, most = raw.get("fan"), raw.get("fan at most")
    if fan is not None and most:
        figures["fanSpeed"] = round(100.0 * fan / most, 1)
    return figures


def _put_memory(figures: dict[str, float], used: object, total: object) -> None:
    if isinstance(used, int) and isinstance(total, int) and total > 0:
        figures["memoryAllocatedBytes"] = float(used)
        figures["memoryTotalBytes"] = float(total)
        figures["memoryAllocated"] = round(100.0 * used / total, 2)


def _put_power(figures: dict[str, float], watts: float | None, limit: float | None) -> None:
    if watts is None:
        return
    figures["powerWatts"] = float(watts)
    if limit:
        limit = limit if limit < _NO_WATTS else limit / 1e6
        figures["powerPercent"] = round(100.0 * watts / limit, 2)


def _put(figures: dict[str, float], name: str, value: object) -> None:
    """Take a number; the library says "N/A" where a card has none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        figures[name] = float(value)


def _first_number(values: Mapping[str, object], *names: str) -> float | None:
    for name in names:
        value = values.get(name)
        # Zero watts and zero megahertz of a GPU that runs are how some versions say that they do not know.
        if isinstance(value, (int, float)) and value > 0:
            return float(value)
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _whole(fd: int) -> int | None:
    try:
        return int(os.pread(fd, 64, 0))
    except (OSError, ValueError):
        return None


def _sentence(error: BaseException) -> str:
    return f"AMD's library does not answer ({' '.join(str(error).split())}); its series end here, training goes on"
