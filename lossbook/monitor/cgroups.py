"""The limits of the container around a process: control groups, both kernel interfaces.

https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import os
from functools import cache

StrPath = str | os.PathLike[str]
OWN_GROUPS = "/proc/self/cgroup"
GROUPS_ROOT = "/sys/fs/cgroup"
MACHINE_EVENTS = "/proc/vmstat"
#: The older kernel interface says "no limit" by the largest number of pages that it can hold, which varies a little.
_NO_LIMIT_BYTES = 2**60


def container_memory_bytes(groups: StrPath = OWN_GROUPS, root: StrPath = GROUPS_ROOT) -> tuple[int, int] | None:
    """Used and allowed bytes of the control group that limits this process most; None where none does.

    Used is without the page cache that would be given back first, as `docker stats` counts it. Read are memory.max and
    memory.current, or memory.limit_in_bytes and memory.usage_in_bytes.

    Args:
        groups: the file that says which groups this process is in.
        root: where the groups' folders are.
    """
    tightest: tuple[str, int, bool] | None = None
    for folder, unified in _group_folders(os.fspath(groups), os.fspath(root), "memory"):
        limit_bytes = _whole_number(os.path.join(folder, "memory.max" if unified else "memory.limit_in_bytes"))
        if limit_bytes is not None and limit_bytes < (tightest[1] if tightest else _NO_LIMIT_BYTES):
            tightest = (folder, limit_bytes, unified)
    if tightest is None:
        return None
    folder, limit_bytes, unified = tightest
    used_bytes = _whole_number(os.path.join(folder, "memory.current" if unified else "memory.usage_in_bytes"))
    if used_bytes is None:
        return None
    idle_bytes = _field(os.path.join(folder, "memory.stat"), "inactive_file" if unified else "total_inactive_file") or 0
    return max(0, used_bytes - idle_bytes), limit_bytes


def container_cpu(groups: StrPath = OWN_GROUPS, root: StrPath = GROUPS_ROOT) -> tuple[float, float] | None:
    """Processor seconds used so far by the group that limits this process most, and its limit in cores; None without one.

    Read are cpu.max and cpu.stat, or cpu.cfs_quota_us, cpu.cfs_period_us and cpuacct.usage.
    """
    tightest: tuple[float, float] | None = None
    for folder, unified in _group_folders(os.fspath(groups), os.fspath(root), "cpu"):
        cores = _cores(folder, unified)
        if cores is None or (tightest is not None and cores >= tightest[1]):
            continue
        used_seconds = _cpu_seconds(folder, unified, root)
        if used_seconds is not None:
            tightest = (used_seconds, cores)
    return tightest


def oom_kills(groups: StrPath = OWN_GROUPS, root: StrPath = GROUPS_ROOT) -> int | None:
    """How many processes of this process's control group the kernel has ended for want of memory; None where it does not say.

    Read are memory.events or memory.oom_control; of a process that is in no group, the machine's own count.
    """
    for folder, unified in _group_folders(os.fspath(groups), os.fspath(root), "memory"):
        count = _field(os.path.join(folder, "memory.events" if unified else "memory.oom_control"), "oom_kill")
        if count is not None:
            return count
    return _field(MACHINE_EVENTS, "oom_kill")


def _cores(folder: str, unified: bool) -> float | None:
    try:
        if unified:
            quota, period = _text(os.path.join(folder, "cpu.max")).split()
            return int(quota) / int(period)
        quota_us = int(_text(os.path.join(folder, "cpu.cfs_quota_us")))
        period_us = int(_text(os.path.join(folder, "cpu.cfs_period_us")))
        return quota_us / period_us if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no limit
        return None


def _cpu_seconds(folder: str, unified: bool, root: StrPath) -> float | None:
    if unified:
        microseconds = _field(os.path.join(folder, "cpu.stat"), "usage_usec")
        return None if microseconds is None else microseconds / 1e6
    # The accounting is a controller of its own, mounted together with the processor's on every usual system.
    beside = os.path.join(root, "cpuacct", os.path.relpath(folder, os.path.join(root, "cpu")))
    for place in (folder, beside):
        nanoseconds = _whole_number(os.path.join(place, "cpuacct.usage"))
        if nanoseconds is not None:
            return nanoseconds / 1e9
    return None


@cache
def _group_folders(groups: str, root: str, controller: str) -> tuple[tuple[str, bool], ...]:
    """Folders of the groups around this process, innermost first, and whether each is of the unified interface."""
    try:
        lines = _text(groups, "utf-8").splitlines()
    except OSError:
        return ()
    folders: list[tuple[str, bool]] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        unified = not controllers
        base = root if unified else os.path.join(root, controller)
        # In a container the path may be the host's, and only the base itself is there: then that is the group.
        names = path.strip("/").split("/") if path.strip("/") else []
        for depth in range(len(names), -1, -1):
            folder = os.path.join(base, *names[:depth])
            if os.path.isdir(folder):
                folders.append((folder, unified))
    return tuple(folders)


def _text(path: StrPath, encoding: str = "ascii") -> str:
    with open(path, encoding=encoding) as file:
        return file.read()


def _whole_number(path: str) -> int | None:
    try:
        return int(_text(path))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(path: str, name: str) -> int | None:
    try:
        for line in _text(path).splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
