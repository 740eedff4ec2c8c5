"""NVIDIA GPUs, through NVML (`pynvml`, the package nvidia-ml-py). Needs no root.

NVML is begun once and its handles are kept. A figure that a card lacks, or that this user may not read, is not asked
for again; a lost GPU ends its own series, a driver that is gone ends them all.
Functions and units: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lossbook.monitor.base import FamilyLost, Rates, Say, SlowClock
from lossbook.monitor.visible import Card, Chosen, Instance, nvidia_devices

Figure = TypeVar("Figure")

#: A lost GPU is looked for again after so long.
LOST_SECONDS = 60.0
_DRIVER = "/proc/driver/nvidia/version"
_KIBIBYTE_BYTES = 1024
#: Reasons for a lower clock that slow training down: power cap, hardware, both kinds of heat, power brake. The others
#: (idle, a clock that somebody set, sync boost) are no slow-downs.
SLOWDOWNS = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
#: `scopeId` that asks NVLink counters for the sum over all links.
_ALL_LINKS = 0xFFFFFFFF
_MOST_EVENTS = 16


class _CardLost(Exception):
    """This GPU does not answer any more; others may."""


class _Device:
    """One GPU of the run: handles, and what it does not have."""

    def __init__(self, number: int, handle: object, card: object, uuid: str) -> None:
        self.number = number  # as torch counts, and the series' names
        self.handle = handle
        self.card = card  # the whole GPU, where `handle` is one MIG instance of it
        self.uuid = uuid
        self.is_instance = handle is not card
        self.missing: set[str] = set()
        self.rates = Rates()
        self.lost_until = float("-inf")
        self.xid: float | None = None
        self.power_limit_watts: float | None = None


class Nvidia:
    """The NVIDIA GPUs of a run.

    Args:
        first: the number of the first one in the names of series.
        environment: where CUDA_VISIBLE_DEVICES stands.
        processes: gives the ids of this run's processes on this machine.
        say: takes one sentence for the user.
    """

    def __init__(
        self,
        *,
        first: int = 0,
        environment: Mapping[str, str] | None = None,
        processes: Callable[[], set[int]] = set,
        say: Say = print,
    ) -> None:
        self._first = first
        self._environment = os.environ if environment is None else environment
        self._processes = processes
        self._say = say
        self._said: set[str] = set()
        self._nvml: Any = None
        self._begun = False
        self._was_there = False
        self._devices: list[_Device] = []
        self._events: object = None
        self._slow_clock = SlowClock()

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> bool:
        """As `Family.open`."""
        try:
            import pynvml
        except ImportError:
            if os.path.exists(_DRIVER):
                self._say_once("this machine has NVIDIA GPUs; for their series: pip install 'lossbook[gpu]'")
            return False
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._begun = True
            chosen = nvidia_devices(cards := self._cards(), self._environment.get("CUDA_VISIBLE_DEVICES"))
            self._devices = [self._device(self._first + at, one, cards) for at, one in enumerate(chosen)]
        except pynvml.NVMLError as error:
            self.close()
            absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
            if not self._was_there and _code(error) in absent:
                return False
            raise FamilyLost(_sentence(error)) from None
        self._was_there = True
        self._watch_events()
        if not self._devices:
            self.close()
        return bool(self._devices)

    def close(self) -> None:
        """As `Family.close`."""
        events, self._events = self._events, None
        self._devices = []
        begun, self._begun = self._begun, False
        if not begun:
            return
        try:
            if events is not None:
                self._nvml.nvmlEventSetFree(events)
        except self._nvml.NVMLError:
            pass
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass

    def _cards(self) -> list[Card]:
        nvml = self._nvml
        cards = []
        for number in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                uuid = nvml.nvmlDeviceGetUUID(handle)
            except nvml.NVMLError as error:
                if _code(error) not in self._losses:
                    raise
                self._say_once(f"GPU {number} does not answer ({error}); the others are measured")
                continue
            cards.append(Card(number, str(uuid), self._instances(handle)))
        return cards

    def _instances(self, handle: object) -> tuple[Instance, ...] | None:
        nvml = self._nvml
        try:
            if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
                return None
            most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        except nvml.NVMLError:
            return None
        found = []
        for number in range(most):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                found.append(Instance(number, str(nvml.nvmlDeviceGetUUID(instance))))
            except nvml.NVMLError:
                continue  # a place that holds no instance
        return tuple(found)

    def _device(self, number: int, chosen: Chosen, cards: list[Card]) -> _Device:
        nvml = self._nvml
        card = nvml.nvmlDeviceGetHandleByIndex(chosen.card)
        uuid = next(one.uuid for one in cards if one.number == chosen.card)
        if chosen.instance is None:
            return _Device(number, card, card, uuid)
        return _Device(number, nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, chosen.instance), card, uuid)

    def _watch_events(self) -> None:
        """Ask to be told of Xid errors, where the driver does so."""
        nvml = self._nvml
        try:
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return
        for device in self._devices:
            try:
                nvml.nvmlDeviceRegisterEvents(device.card, nvml.nvmlEventTypeXidCriticalError, self._events)
            except nvml.NVMLError:
                continue

    # -- samples ------------------------------------------------------------------------------------------------

    def sample(self) -> dict[str, float]:
        """As `Family.sample`; the names are those of docs/system-metrics.md."""
        now = time.monotonic()
        slow = self._slow_clock.is_due(now)
        processes = self._processes() if slow else set()
        self._take_events()
        figures: dict[str, float] = {}
        for device in self._devices:
            if now < device.lost_until:
                continue
            try:
                for name, value in self._figures(device, now, slow, processes).items():
                    figures[f"system.gpu.{device.number}.{name}"] = value
            except _CardLost as error:
                device.lost_until = now + LOST_SECONDS
                self._say_once(f"GPU {device.number} is lost ({error}); its series end here, training goes on")
        return figures

    def _figures(self, device: _Device, now: float, slow: bool, processes: set[int]) -> dict[str, float]:
        nvml = self._nvml
        ask = self._ask
        figures: dict[str, float] = {}
        memory = self._memory(device)
        if memory is not None:
            figures["memoryAllocatedBytes"] = float(memory.used)
            figures["memoryTotalBytes"] = float(memory.total)
            if memory.total:
                figures["memoryAllocated"] = _round(100.0 * memory.used / memory.total)
        card = device.card
        rates = None if device.is_instance else ask(device, "utilisation", nvml.nvmlDeviceGetUtilizationRates, card)
        if rates is not None:
            figures["gpu"] = float(rates.gpu)
            figures["memory"] = float(rates.memory)
        _put(figures, "temp", ask(device, "temperature", self._temperature, card))
        _put(figures, "smClock", ask(device, "clocks", nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_SM))
        _put(figures, "memoryClock", ask(device, "clocks", nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_MEM))
        reasons = ask(device, "throttle reasons", self._throttle_reasons, card)
        if reasons is not None:
            figures["throttle"] = float(reasons)
            figures["throttled"] = float(bool(reasons & SLOWDOWNS))
        _put(figures, "xid", device.xid)
        if device.is_instance:
            # What is left is of the whole card, of which others have their part.
            if slow:
                self._put_processes(figures, device, processes)
            return figures
        milliwatts = ask(device, "power", nvml.nvmlDeviceGetPowerUsage, card)
        if slow or device.power_limit_watts is None:
            limit = ask(device, "power limit", nvml.nvmlDeviceGetEnforcedPowerLimit, card)
            device.power_limit_watts = None if limit is None else limit / 1e3
        if milliwatts is not None:
            figures["powerWatts"] = milliwatts / 1e3
            if device.power_limit_watts:
                figures["powerPercent"] = _round(milliwatts / 10.0 / device.power_limit_watts)
        self._put_traffic(figures, device, now, slow)
        if slow:
            _put(figures, "fanSpeed", ask(device, "fan", nvml.nvmlDeviceGetFanSpeed, card))
            for name, kind in (
                ("eccCorrected", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
                ("eccUncorrected", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            ):
                _put(
                    figures,
                    name,
                    ask(device, name, nvml.nvmlDeviceGetTotalEccErrors, card, kind, nvml.NVML_VOLATILE_ECC),
                )
            self._put_processes(figures, device, processes)
        return figures

    def _memory(self, device: _Device) -> Any:
        """The memory's figures: the newer call leaves out what the driver keeps for itself, as nvidia-smi does."""
        nvml = self._nvml
        memory = self._ask(device, "memory (2)", nvml.nvmlDeviceGetMemoryInfo, device.handle, nvml.nvmlMemory_v2)
        return (
            memory if memory is not None else self._ask(device, "memory", nvml.nvmlDeviceGetMemoryInfo, device.handle)
        )

    def _temperature(self, card: object) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError as error:
            if _code(error) != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
            return int(nvml.nvmlDeviceGetTemperatureV(card, nvml.NVML_TEMPERATURE_GPU))

    def _throttle_reasons(self, card: object) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(card))
        except nvml.NVMLError as error:
            if _code(error) != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card))  # drivers before 535

    def _put_traffic(self, figures: dict[str, float], device: _Device, now: float, slow: bool) -> None:
        """PCIe and NVLink traffic in bytes a second, from the driver's own counters."""
        nvml = self._nvml
        wanted = [
            (name, field, unit)
            for name, field, unit in (
                ("pcieTx", nvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 1),
                ("pcieRx", nvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 1),
                ("nvlinkTx", (nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS), _KIBIBYTE_BYTES),
                ("nvlinkRx", (nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS), _KIBIBYTE_BYTES),
            )
            if name not in device.missing
        ]
        values = (
            self._ask(device, "traffic", nvml.nvmlDeviceGetFieldValues, device.card, [field for _, field, _ in wanted])
            if wanted
            else None
        )
        for (name, _, unit), value in zip(wanted, values if values is not None else (), strict=False):
            if value.nvmlReturn != nvml.NVML_SUCCESS:
                device.missing.add(name)
                continue
            count = value.value.uiVal if value.valueType == nvml.NVML_VALUE_TYPE_UNSIGNED_INT else value.value.ullVal
            rate = device.rates.of(name, float(count) * unit, now)
            _put(figures, name, None if rate is None else float(round(rate)))
        # Where there is no counter, the driver measures for 20 ms, asleep: not at every sample.
        if slow and (values is None or {"pcieTx", "pcieRx"} & device.missing):
            for name, direction in (("pcieTx", nvml.NVML_PCIE_UTIL_TX_BYTES), ("pcieRx", nvml.NVML_PCIE_UTIL_RX_BYTES)):
                rate = self._ask(device, f"{name} (measured)", nvml.nvmlDeviceGetPcieThroughput, device.card, direction)
                _put(figures, name, None if rate is None else rate * _KIBIBYTE_BYTES)

    def _put_processes(self, figures: dict[str, float], device: _Device, ours: set[int]) -> None:
        """Memory of this run's own processes. In a container the driver may name others' ids: then it is absent."""
        running = self._ask(device, "processes", self._nvml.nvmlDeviceGetComputeRunningProcesses, device.handle)
        used = [one.usedGpuMemory for one in running or () if one.pid in ours and one.usedGpuMemory is not None]
        if used:
            figures["process.memoryAllocatedBytes"] = float(sum(used))

    def _take_events(self) -> None:
        nvml = self._nvml
        for _ in range(_MOST_EVENTS if self._events is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError as error:
                if _code(error) not in (nvml.NVML_ERROR_TIMEOUT, nvml.NVML_ERROR_GPU_IS_LOST):
                    self._events = None
                return
            for device in self._devices:
                if _address(device.card) == _address(event.device):
                    device.xid = float(event.eventData)

    # -- what may go wrong ----------------------------------------------------------------------------------------

    @property
    def _losses(self) -> tuple[int, ...]:
        nvml = self._nvml
        return nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_GPU_NOT_FOUND, nvml.NVML_ERROR_RESET_REQUIRED

    def _ask(self, device: _Device, what: str, call: Callable[..., Figure], *arguments: object) -> Figure | None:
        """Call the driver; None where there is no such figure, now or ever."""
        if what in device.missing:
            return None
        nvml = self._nvml
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            code = _code(error)
            if code in self._losses:
                raise _CardLost(str(error)) from None
            if code in (
                nvml.NVML_ERROR_UNINITIALIZED,
                nvml.NVML_ERROR_DRIVER_NOT_LOADED,
                nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            ):
                raise FamilyLost(_sentence(error)) from None
            if code == nvml.NVML_ERROR_UNKNOWN and what == "memory":
                # The one figure that every GPU has: without it nothing else can be had either.
                raise FamilyLost(_sentence(error)) from None
            if code in (
                nvml.NVML_ERROR_TIMEOUT,
                nvml.NVML_ERROR_IN_USE,
                nvml.NVML_ERROR_NO_DATA,
                nvml.NVML_ERROR_NOT_READY,
                nvml.NVML_ERROR_INSUFFICIENT_SIZE,
                nvml.NVML_ERROR_IRQ_ISSUE,
            ):
                return None
            if code == nvml.NVML_ERROR_NO_PERMISSION:
                figure = what.partition(" (")[0]
                self._say_once(f"the {figure} of NVIDIA GPUs may not be read by this user; its series are left out")
            if not (code == nvml.NVML_ERROR_UNKNOWN and what == "memory (2)"):
                device.missing.add(what)
            return None

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)


def _put(figures: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        figures[name] = float(value)


def _round(value: float) -> float:
    """A percentage to a hundredth: the rest is noise that would be written every two seconds."""
    return round(value, 2)


def _code(error: BaseException) -> int:
    return int(getattr(error, "value", -1))


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _sentence(error: BaseException) -> str:
    return f"the NVIDIA driver does not answer ({error}); its series end here, training goes on"
