"""Whether a kind of GPU may be in this machine: a look at the files of its driver, before anything is loaded that measures it."""

from __future__ import annotations

import os
import sys

#: The kernel's driver on a server, under Windows' Linux, and on a board with a GPU of its own.
_NVIDIA = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/nvmap")
_NVML = "libnvidia-ml.so.1"
AMD_VENDOR = "0x1002"


def may_have_nvidia() -> bool:
    """False only where NVML cannot find a GPU: neither its driver is there, nor a library that the search path names."""
    if not sys.platform.startswith("linux"):
        return True
    named = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    return any(map(os.path.exists, _NVIDIA)) or any(os.path.exists(os.path.join(place, _NVML)) for place in named)


def may_have_amd(system: str = "/sys") -> bool:
    """Whether the kernel lists a graphics card of AMD's.

    Args:
        system: where the kernel's `/sys` is.
    """
    cards = os.path.join(system, "class", "drm")
    try:
        names = os.listdir(cards)
    except OSError:
        return False
    return any(_vendor(os.path.join(cards, name)) == AMD_VENDOR for name in names if name.startswith("card"))


def _vendor(card: str) -> str:
    try:
        with open(os.path.join(card, "device", "vendor"), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
