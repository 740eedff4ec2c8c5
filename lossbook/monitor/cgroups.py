"""The limits of the container around a process: control groups, both kernel interfaces.

https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS_ROOT = Path("/sys/fs/cgroup")
#: The older kernel interface says "no limit" by the largest number of pages that it can hold, which varies a little.
_NO_LIMIT_BYTES = 2**60


def container_memory_bytes(groups: Path = OWN_GROUPS, root: Path = GROUPS_ROOT) -> tuple[int, int] | None:
    """Used and allowed bytes of the control group that limits this process most; None where none does.

    Used is without the page cache that would be given back first, as `docker stats` counts it. Read are memory.max and
    memory.current, or memory.limit_in_bytes and memory.usage_in_bytes.

    Args:
        groups: the file that says which groups this process is in.
        root: where the groups' folders are.
    """
    tightest: tuple[Path, int, bool] | None = None
    for folder, unified in _group_folders(groups, root, "memory"):
        limit_bytes = _whole_number(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        if limit_bytes is not None and limit_bytes < (tightest[1] if tightest else _NO_LIMIT_BYTES):
            tightest = (folder, limit_bytes, unified)
    if tightest is None:
        return None
    folder, limit_bytes, unified = tightest
    used_bytes = _whole_number(folder / ("memory.current" if unified else "memory.usage_in_bytes"))
    if used_bytes is None:
        return None
    idle_bytes = _field(folder / "memory.stat", "inactive_file" if unified else "total_inactive_file") or 0
    return max(0, used_bytes - idle_bytes), limit_bytes


def container_cpu(groups: Path = OWN_GROUPS, root: Path = GROUPS_ROOT) -> tuple[float, float] | None:
    """Processor seconds used so far by the group that limits this process most, and its limit in cores; None without one.

    Read are cpu.max and cpu.stat, or cpu.cfs_quota_us, cpu.cfs_period_us and cpuacct.usage.
    """
    tightest: tuple[float, float] | None = None
    for folder, unified in _group_folders(groups, root, "cpu"):
        cores = _cores(folder, unified)
        if cores is None or (tightest is not None and cores >= tightest[1]):
            continue
        used_seconds = _cpu_seconds(folder, unified, root)
        if used_seconds is not None:
            tightest = (used_seconds, cores)
    return tightest


def _cores(folder: Path, unified: bool) -> float | None:
    try:
        if unified:
            quota, period = folder.joinpath("cpu.max").read_text(encoding="ascii").split()
            return int(quota) / int(period)
        quota_us = int(folder.joinpath("cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int(folder.joinpath("cpu.cfs_period_us").read_text(encoding="ascii"))
        return quota_us / period_us if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no limit
        return None


def _cpu_seconds(folder: Path, unified: bool, root: Path) -> float | None:
    if unified:
        microseconds = _field(folder / "cpu.stat", "usage_usec")
        return None if microseconds is None else microseconds / 1e6
    # The accounting is a controller of its own, mounted together with the processor's on every usual system.
    beside = root / "cpuacct" / folder.relative_to(root / "cpu")
    for place in (folder, beside):
        nanoseconds = _whole_number(place / "cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
    return None


@cache
def _group_folders(groups: Path, root: Path, controller: str) -> tuple[tuple[Path, bool], ...]:
    """Folders of the groups around this process, innermost first, and whether each is of the unified interface."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    folders: list[tuple[Path, bool]] = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        unified = not controllers
        base = root if unified else root / controller
        # In a container the path may be the host's, and only the base itself is there: then that is the group.
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base) and folder.is_dir():
                folders.append((folder, unified))
    return tuple(folders)


def _whole_number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(file: Path, name: str) -> int | None:
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None
