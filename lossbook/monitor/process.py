"""The training process and its children (the workers of its data loaders, as a rule)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lossbook.monitor.base import FamilyLost, Rates, SlowClock

if TYPE_CHECKING:
    import psutil

#: Where the kernel does not list a process's children, all processes of the machine are gone through: less often.
_SEARCH_SECONDS = 30.0
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_LOCAL_RANKS = ("LOSSBOOK_LOCAL_RANK", "LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
#: Equal for all ranks of one job, and for no two jobs on a node.
_JOB = ("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")


class TrainingProcess:
    """One process and its descendants.

    Args:
        pid: the training process.
        is_one_of_several: whether its launcher started other ranks on this machine too; they are the run's as well.
    """

    def __init__(self, pid: int, *, is_one_of_several: bool = False) -> None:
        self._pid = pid
        self._has_siblings = is_one_of_several
        self._process: psutil.Process | None = None
        self._children: dict[int, psutil.Process] = {}
        self._spent_seconds: dict[int, float] = {}
        self._ended_seconds = 0.0
        self._rates = Rates()
        self._slow_clock = SlowClock()

    def open(self) -> bool:
        """As `Family.open`."""
        import psutil

        try:
            self._process = psutil.Process(self._pid)
        except psutil.Error:
            return False
        self.sample()
        return True

    def close(self) -> None:
        """As `Family.close`."""
        self._process = None
        self._children.clear()
        self._spent_seconds.clear()

    def sample(self) -> dict[str, float]:
        """As `Family.sample`; the names are those of docs/system-metrics.md."""
        import psutil

        now = time.monotonic()
        process = self._process
        if process is None:
            return {}
        figures: dict[str, float] = {}
        try:
            with process.oneshot():
                times = process.cpu_times()
                figures["system.proc.memory_rss_bytes"] = float(process.memory_info().rss)
                figures["system.proc.threads"] = float(process.num_threads())
        except psutil.AccessDenied:
            raise FamilyLost(
                "the training process may not be looked at by this user; its series are left out"
            ) from None
        except psutil.Error:
            return {}  # it has ended
        self._put_percent(figures, "system.proc.cpu_percent", times.user + times.system, now)
        if self._slow_clock.is_due(now):
            self._look_for_children()
        rss_bytes, spent_seconds = self._measure_children()
        figures["system.proc.children"] = float(len(self._children))
        if self._children:
            figures["system.proc.children_memory_rss_bytes"] = float(rss_bytes)
            self._put_percent(figures, "system.proc.children_cpu_percent", spent_seconds, now)
        return figures

    def processes(self) -> set[int]:
        """The ids of this run's processes on this machine: the tree below the launcher where it started several ranks."""
        ids = {self._pid, *_descendants(self._pid)}
        if self._has_siblings:
            try:
                parent = self._process.ppid() if self._process is not None else 0
            except Exception:  # it has ended
                parent = 0
            if parent > 1:
                ids.update(_descendants(parent))
        return ids

    def _put_percent(self, figures: dict[str, float], name: str, spent_seconds: float, now: float) -> None:
        cores = self._rates.of(name, spent_seconds, now)
        if cores is not None:
            figures[name] = round(100.0 * cores, 1)

    def _look_for_children(self) -> None:
        import psutil

        found = set(_descendants(self._pid))
        for pid in found - self._children.keys():
            try:
                self._children[pid] = psutil.Process(pid)
            except psutil.Error:
                continue
        for pid in self._children.keys() - found:
            self._forget(pid)

    def _measure_children(self) -> tuple[int, float]:
        """Memory in bytes of the children that live, and processor seconds of all there were (so that it only grows)."""
        import psutil

        rss_bytes = 0
        for pid, child in list(self._children.items()):
            try:
                with child.oneshot():
                    times = child.cpu_times()
                    rss_bytes += child.memory_info().rss
            except psutil.Error:
                self._forget(pid)
                continue
            self._spent_seconds[pid] = times.user + times.system
        return rss_bytes, self._ended_seconds + sum(self._spent_seconds.values())

    def _forget(self, pid: int) -> None:
        self._children.pop(pid, None)
        self._ended_seconds += self._spent_seconds.pop(pid, 0.0)


def node_environment(pid: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a node's part of a job: visible GPUs are those of all its ranks, in the order of local ranks.

    A launcher may leave each rank all GPUs, or give each its own: `srun --gpus-per-task=1` does.

    Args:
        environment: that of the process `pid`.
    """
    ranks = _ranks_beside(pid, environment)
    joined = dict(environment)
    if len(ranks) > 1:
        joined.setdefault("LOCAL_WORLD_SIZE", str(len(ranks)))
        for name in _VISIBLE:
            lists = [one[name] for _, one in sorted(ranks.items()) if name in one]
            if len(set(lists)) > 1:
                joined[name] = ",".join(dict.fromkeys(device.strip() for one in lists for device in one.split(",")))
    return joined


def _ranks_beside(pid: int, environment: Mapping[str, str]) -> dict[int, Mapping[str, str]]:
    """Environments of the ranks that the same launcher started here for the same job, by local rank."""
    import psutil

    own = _local_rank(environment)
    if own is None:
        return {}
    ranks: dict[int, Mapping[str, str]] = {own: environment}
    try:
        parent = psutil.Process(pid).parent()
        siblings = parent.children() if parent is not None and parent.pid > 1 else []
    except psutil.Error:
        return ranks
    for sibling in siblings:
        try:
            other = sibling.environ()
        except (psutil.Error, OSError):
            continue
        local_rank = _local_rank(other)
        if local_rank is not None and all(other.get(name) == environment.get(name) for name in _JOB):
            ranks.setdefault(local_rank, other)
    return ranks


def _local_rank(environment: Mapping[str, str]) -> int | None:
    for name in _LOCAL_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return None


def _descendants(pid: int) -> list[int]:
    """The ids of all processes below one."""
    if not os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
        return _search(pid)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            if child not in found:
                found.append(child)
                waiting.append(child)
    return found


def _children(pid: int) -> Iterator[int]:
    """The kernel's own list, a thread at a time: https://man7.org/linux/man-pages/man5/proc_pid_task.5.html."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                yield from map(int, file.read().split())
        except (OSError, ValueError):
            continue


_searched: dict[int, tuple[float, list[int]]] = {}


def _search(pid: int) -> list[int]:
    import psutil

    now = time.monotonic()
    before = _searched.get(pid)
    if before is not None and now - before[0] < _SEARCH_SECONDS:
        return before[1]
    try:
        found = [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        found = []
    _searched[pid] = (now, found)
    return found
