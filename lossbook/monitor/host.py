"""The host's processors, memory, disks and network; in a container with limits, what the container has of them."""

from __future__ import annotations

import time

from lossbook.monitor.base import Rates
from lossbook.monitor.cgroups import GROUPS_ROOT, OWN_GROUPS, StrPath, container_cpu, container_memory_bytes


class Host:
    """The machine that a run is on.

    Args:
        folder: the run's folder: how full its disk is, is measured too.
        groups, root: where the control groups of this process are told, and lie.
    """

    def __init__(self, folder: str = ".", *, groups: StrPath = OWN_GROUPS, root: StrPath = GROUPS_ROOT) -> None:
        self._folder = folder
        self._groups = groups
        self._root = root
        self._rates = Rates()

    def open(self) -> bool:
        """As `Family.open`; every machine has this one."""
        self.sample()  # rates and shares count from here
        return True

    def close(self) -> None:
        """As `Family.close`."""

    def sample(self) -> dict[str, float]:
        """As `Family.sample`; the names are those of docs/system-metrics.md."""
        now = time.monotonic()
        figures: dict[str, float] = {}
        self._put_processors(figures, now)
        self._put_memory(figures)
        self._put_disks(figures, now)
        self._put_network(figures, now)
        return figures

    def _put_processors(self, figures: dict[str, float], now: float) -> None:
        import psutil

        limited = container_cpu(self._groups, self._root)
        if limited is not None and limited[1] < (psutil.cpu_count() or 1):
            used = self._rates.of("container", limited[0], now)
            if used is not None:
                figures["cpu_percent"] = round(100.0 * used / limited[1], 1)
            return
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # `guest` is in `user` already, `guest_nice` in `nice`.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy_cores = self._rates.of("busy", total - idle, now)
        all_cores = self._rates.of("total", total, now)
        if busy_cores is not None and all_cores:
            figures["cpu_percent"] = round(100.0 * busy_cores / all_cores, 1)

    def _put_memory(self, figures: dict[str, float]) -> None:
        import psutil

        host = psutil.virtual_memory()
        used_bytes, total_bytes = host.total - host.available, host.total
        container = container_memory_bytes(self._groups, self._root)
        if container is not None and container[1] < total_bytes:
            used_bytes, total_bytes = container
        figures["memory_percent"] = round(100.0 * used_bytes / total_bytes, 2)
        figures["memory_used_bytes"] = float(used_bytes)
        figures["memory_total_bytes"] = float(total_bytes)

    def _put_disks(self, figures: dict[str, float], now: float) -> None:
        import psutil

        try:
            figures["disk_percent"] = float(psutil.disk_usage(self._folder).percent)
        except OSError:
            pass
        try:
            counters = psutil.disk_io_counters()
        except (OSError, RuntimeError, NotImplementedError, ValueError):  # not shown in this container
            return
        if counters is not None:
            self._put_rate(figures, "disk_read_bytes_per_second", counters.read_bytes, now)
            self._put_rate(figures, "disk_write_bytes_per_second", counters.write_bytes, now)

    def _put_network(self, figures: dict[str, float], now: float) -> None:
        import psutil

        try:
            cards = psutil.net_io_counters(pernic=True)
        except (OSError, RuntimeError, ValueError):
            return
        # What a machine says to itself crosses no network.
        others = [counters for name, counters in cards.items() if name != "lo" and not name.startswith("lo0")]
        if others:
            self._put_rate(figures, "network_sent_bytes_per_second", sum(one.bytes_sent for one in others), now)
            self._put_rate(figures, "network_received_bytes_per_second", sum(one.bytes_recv for one in others), now)

    def _put_rate(self, figures: dict[str, float], name: str, count: float, now: float) -> None:
        rate = self._rates.of(name, float(count), now)
        if rate is not None:
            figures[name] = float(round(rate))
