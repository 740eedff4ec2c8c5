"""What was measured on."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks.trackers import OURS, PEERS, installed, version


def facts(folder: str) -> dict[str, str]:
    """Machine and versions, a name and a word or two each."""
    import psutil

    found = {
        "processor": _processor(),
        "cores": f"{os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "file system": file_system(folder),
        "load when it began": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "python": sys.version.split()[0],
    }
    for name in (OURS, *PEERS, "tensorboard", "duckdb", "orjson", "numpy"):
        found[name] = version(name) if installed(name) else "not installed"
    return found


def file_system(folder: str) -> str:
    """The type of the file system that `folder` lies on ("ext4"), "unknown" where it cannot be told."""
    import psutil

    path = os.path.realpath(folder)
    best, kind = "", "unknown"
    for partition in psutil.disk_partitions(all=True):
        point = partition.mountpoint.rstrip("/") + "/"
        if (path + "/").startswith(point) and len(point) > len(best):
            best, kind = point, partition.fstype
    return kind


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
