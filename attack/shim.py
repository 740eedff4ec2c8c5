"""The library that stands between a program and its files: it counts, fails, kills and writes down (shim.c).

It is preloaded, so a process that attacks begins itself anew with it (`preload`). Children arm it for one folder and one
fault; nothing else of them is another than in real use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
#: In the order of shim.c; the first twelve change something.
KINDS = (
    "create", "write", "fsync", "truncate", "rename", "unlink", "mkdir", "rmdir", "link", "utime", "allocate", "mode",
    "open", "read", "stat", "list", "access",
)  # fmt: skip
CHANGES = frozenset(KINDS[:12])
NEED_ROOM = frozenset(("create", "write", "mkdir", "link", "allocate"))
_FAILED = 0x80000000
_MARK = ".attack-mark-"


@dataclass(frozen=True)
class Fault:
    """What happens at a file operation.

    Attributes:
        action: as in shim.c: 1 kill before it, 2 kill after half of it, 3 fail, 4 full from then on, 5 read-only from then on.
        strikes: the kinds of operation that it makes sense for.
    """

    name: str
    action: int
    error: int
    strikes: frozenset[str]


FAULTS = (
    Fault("SIGKILL before", 1, 0, CHANGES),
    Fault("SIGKILL amid", 2, 0, CHANGES),
    Fault("EIO", 3, errno.EIO, frozenset(KINDS)),
    Fault("ESTALE", 3, errno.ESTALE, frozenset(KINDS)),
    Fault("ENOSPC", 4, errno.ENOSPC, NEED_ROOM),
    Fault("EDQUOT", 4, errno.EDQUOT, NEED_ROOM),
    Fault("EROFS", 5, errno.EROFS, CHANGES),
)


@dataclass(frozen=True)
class FileOperation:
    """One operation as it was done.

    Attributes:
        path, other: `other` the second name of a rename or a link.
        offset: of a write, or the new size of a truncation; of a creation 1 where the file was there and was emptied.
        flags: of an opening.
    """

    kind: str
    path: str
    other: str
    flags: int
    offset: int
    contents: bytes
    failed: bool

    @property
    def changes(self) -> bool:
        """Whether it changed something."""
        return self.kind in CHANGES and not self.failed

    @property
    def mark(self) -> int | None:
        """The number that the program noted here (`mark`); None for every other operation."""
        name = os.path.basename(self.path)
        return int(name.removeprefix(_MARK)) if self.kind == "access" and name.startswith(_MARK) else None


def preload() -> None:
    """Begin this program anew with the library in it, unless it is in already.

    Raises:
        RuntimeError: there is no C compiler here, or the system is not Linux.
    """
    if "ATTACK_SHIM" in os.environ:
        return
    if sys.platform != "linux":
        raise RuntimeError("the attack needs Linux: it stands between a program and its files with LD_PRELOAD")
    library = os.path.join(tempfile.mkdtemp(prefix="attack-shim-"), "shim.so")
    command = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise RuntimeError("the attack needs a C compiler (cc) to build its library") from None
    before = os.environ.get("LD_PRELOAD")
    environment = {**os.environ, "ATTACK_SHIM": library, "LD_PRELOAD": f"{library}:{before}" if before else library}
    os.execve(sys.executable, [sys.executable, "-m", "attack", *sys.argv[1:]], environment)


def arm(folder: Path | str, fault: Fault, at: int) -> None:
    """From now on, let `fault` happen at operation `at` (from 0) below a folder, in this process."""
    _library().attack_arm(os.fsencode(folder), ctypes.c_long(at), fault.action, fault.error, -1)


def arm_recording(folder: Path | str, log: Path | str) -> None:
    """From now on, write down each operation below a folder, in this process and those that it forks."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _library().attack_arm(os.fsencode(folder), ctypes.c_long(-1), 0, 0, descriptor)


def mark(folder: Path | str, number: int) -> None:
    """Note a number among the operations that are written down: a look at a file that is not there."""
    os.access(os.path.join(folder, f"{_MARK}{number}"), os.F_OK)


def disarm() -> int:
    """Let nothing happen any more; returns how often something did."""
    library = _library()
    library.attack_disarm()
    return int(library.attack_hits())


def step_clock(seconds: float) -> None:
    """Let the clock of this process (not that of files) jump."""
    _library().attack_step_clock(ctypes.c_int64(int(seconds * 1e9)))


def read_log(log: Path | str) -> Iterator[FileOperation]:
    """What was written down, in order."""
    contents = Path(log).read_bytes()
    at = 0
    while at < len(contents):
        kind, path, other, flags, offset, size = struct.unpack_from("<IIIIQQ", contents, at)
        at += struct.calcsize("<IIIIQQ")
        parts = []
        for length in (path, other, size):
            parts.append(contents[at : at + length])
            at += length
        yield FileOperation(
            KINDS[kind],
            os.fsdecode(parts[0]),
            os.fsdecode(parts[1]),
            flags & ~_FAILED,
            offset,
            parts[2],
            bool(flags & _FAILED),
        )


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ["ATTACK_SHIM"])
