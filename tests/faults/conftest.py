"""File systems that misbehave: a small one, a read-only one, and one whose server can be stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from passthrough import mount, unmount
from waiting import wait_until

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
DISK_BYTES = 1 << 20


def mounted(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system, or skip the test where that is not allowed."""
    target.mkdir(exist_ok=True)
    try:
        mount(source, str(target), kind, flags, options)
    except OSError as error:
        pytest.skip(f"this test needs to mount a file system, which is not allowed here ({error.strerror})")


class SmallDisk:
    """A disk of `DISK_BYTES` with a ballast file that takes what room it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, but_bytes: int = 0) -> None:
        """Take all room but that much (whole pages are what the disk hands out)."""
        with open(self._ballast, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
            if but_bytes:
                file.truncate(max(0, file.tell() - but_bytes))

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A tmpfs of 1 MB."""
    target = tmp_path / "disk"
    mounted("tmpfs", target, "tmpfs", 0, f"size={DISK_BYTES}")
    yield SmallDisk(target)
    unmount(str(target))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that is mounted read-only: not even root writes there."""
    source, target = tmp_path / "writable", tmp_path / "read-only"
    source.mkdir()
    mounted(str(source), target, "", MS_BIND)
    mounted("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    yield target
    unmount(str(target))


class HangingFileSystem:
    """A FUSE mount: `path` is where it is seen, `behind` where its files really lie."""

    def __init__(self, path: Path, behind: Path, server: subprocess.Popen[str]) -> None:
        self.path = path
        self.behind = behind
        self._server = server

    def hang(self) -> None:
        """Stop answering, as a network file system does whose server has gone."""
        self._server.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self._server.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", what="the server is stopped")

    def answer(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._server.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._server.kill()
        self._server.wait()
        unmount(str(self.path))


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingFileSystem]:
    """A file system that hangs and answers on demand."""
    path, behind = tmp_path / "mount", tmp_path / "behind"
    path.mkdir()
    behind.mkdir()
    script = Path(__file__).with_name("passthrough.py")
    server = subprocess.Popen(
        [sys.executable, str(script), str(behind), str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stderr is not None
    with server.stdout, server.stderr:
        if server.stdout.readline() != "serving\n":
            server.wait()
            said = server.stderr.read().strip().splitlines()
            pytest.skip(f"this test needs to mount a FUSE file system, which is not possible here ({said[-1]})")
        found = HangingFileSystem(path, behind, server)
        yield found
        found.end()


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    """A path below a file, where no folder can be made, whoever asks."""
    (tmp_path / "a-file").write_text("not a folder")
    return Path(os.path.join(tmp_path, "a-file", "below"))
