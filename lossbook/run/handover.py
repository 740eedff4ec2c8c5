"""How a training process hands its run to the follower of its node: a small folder on the local disk.

    /tmp/lossbook-<user>/<key>/   mode 0700; the key tells the store and everything in which two followers would differ
      lock                        held for microseconds: by who looks whether a follower lives, and by one that leaves
      follower.json               the follower's process; its time of change says when it was last heard of
      <name>.request              a run to follow, with the environment of its process; removed when it has been read
      <name>.run                  a run that is followed, without the environment
      <name>.rank                 a process of another rank of such a run; removed by itself when it has said how it ended
      follower.log                what the follower has to say

A request is renamed into place before the lock is taken, and a follower leaves with the lock held after it has looked for
requests once more: either it sees the request, or the requester sees that there is no follower.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import orjson

from lossbook.json_shapes import number_or_none, whole_or_none
from lossbook.processes import boot_id, process_start

#: A follower looks after its runs twice a second and says so; one that has not been heard of for so long is behind.
BEHIND_SECONDS = 60.0
#: Nobody holds the lock for longer than it takes to list a folder: one who does has been stopped.
_LOCK_SECONDS = 0.25
_REQUEST, _RUN, _RANK = ".request", ".run", ".rank"
#: Variables that count for the follower as a whole, not for one run: where modules, caches and servers are found.
_SHARED_VARIABLES = (
    "HOME",
    "LD_LIBRARY_PATH",
    "LOSSBOOK_CACHE",
    "PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CACHE_HOME",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Unshared(Exception):
    """The folder cannot be used: it is not ours alone, or on a disk without locks."""


class _Left(Unshared):
    """A follower that left took the folder along: it can be made again."""


class Handover(NamedTuple):
    """One process's part of a run.

    Attributes:
        run: the run's folder.
        pid, start: the training process.
        attempt, rank: what it writes.
        cwd: its working directory; None where that is gone.
        environment: its variables; None where they are not known any more.
        name: its file's, without the ending.
    """

    run: str
    pid: int
    start: float | None
    attempt: int
    rank: int
    cwd: str | None = None
    environment: Mapping[str, str] | None = None
    name: str = ""


class FollowerProcess(NamedTuple):
    """Who serves a folder; `heard` is the Unix time at which it was last heard of, `is_ready` whether it ever was."""

    pid: int
    start: float | None
    is_ready: bool
    heard: float

    def is_alive(self) -> bool:
        """Whether it runs; it is one of this machine's own processes."""
        now = process_start(self.pid)
        return now is not None and (self.start is None or now == self.start)


class HandoverFolder(NamedTuple):
    """The folder of one follower."""

    path: str

    @property
    def log(self) -> str:
        return os.path.join(self.path, "follower.log")

    def make(self) -> None:
        """Make the folder, unless it is there.

        Raises:
            Unshared: it cannot be made, or another user could write there.
        """
        for path in (os.path.dirname(self.path), self.path):
            try:
                try:
                    os.mkdir(path, 0o700)
                except FileExistsError:
                    pass
                found = os.lstat(path)
            except OSError as error:
                raise Unshared(f"{path} cannot be made ({error.strerror})") from None
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise Unshared(f"{path} is not a folder of this user alone")

    @contextmanager
    def locked(self, *, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock.

        Raises:
            Unshared: it could not be had in time, or the folder has gone.
        """
        path = os.path.join(self.path, "lock")
        deadline = time.monotonic() + seconds
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            raise _Left(f"{path} was removed") from None
        except OSError as error:
            raise Unshared(f"{path} cannot be opened ({error.strerror})") from None
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Unshared(f"{path} is held by a process that does not go on") from None
                    time.sleep(0.001)
                except OSError as error:
                    raise Unshared(f"{path} cannot be locked ({error.strerror})") from None
            try:
                is_this = os.stat(path).st_ino == os.fstat(fd).st_ino
            except OSError:
                is_this = False
            if not is_this:
                raise _Left(f"{path} was removed")
            yield
        finally:
            os.close(fd)

    # -- what is handed over ------------------------------------------------------------------------------------

    def request(self, handover: Handover, environment: Mapping[bytes, bytes]) -> str:
        """Put a request into the folder; returns its name.

        Raises:
            OSError: it cannot be written.
        """
        return self._put(handover, environment, _REQUEST)

    def _put(self, handover: Handover, environment: Mapping[bytes, bytes], ending: str) -> str:
        name = f"{time.time_ns():020d}-{handover.pid}-{os.urandom(3).hex()}"
        head = {"pid": handover.pid, "start": handover.start, "attempt": handover.attempt, "rank": handover.rank}
        paths = [os.fsencode(handover.run), os.fsencode(handover.cwd or "")]
        text = b"\0".join([orjson.dumps(head), *paths, *(b"%s=%s" % item for item in environment.items())])
        partial = os.path.join(self.path, name + ".tmp")
        _write(partial, text)
        os.rename(partial, os.path.join(self.path, name + ending))
        return name

    def requests(self) -> list[str]:
        """The names of the requests that wait, oldest first."""
        return self._names(_REQUEST)

    def take(self, name: str) -> Handover | None:
        """Read a request and remove it; what it says but for the environment stays in the folder until `done`."""
        path = os.path.join(self.path, name + _REQUEST)
        handover = _parse(name, _read(path))
        if handover is not None:
            try:
                os.rename(_without_environment(path), os.path.join(self.path, name + _RUN))
            except OSError:
                pass  # a full disk: the follower that comes after a kill does not learn of this run
        _unlink(path)
        return handover

    def take_back(self, pid: int) -> None:
        """Leave nothing of the environment in requests of a process that no follower has read; a later one finds the runs."""
        for name in self.requests():
            if name.split("-")[1:2] == [str(pid)]:
                self.take(name)

    def followed(self) -> list[Handover]:
        """The runs that a follower has taken and is not done with."""
        found = (_parse(name, _read(os.path.join(self.path, name + _RUN))) for name in self._names(_RUN))
        return [one for one in found if one is not None]

    def waiting(self) -> list[Handover]:
        """The runs that are followed, and those that are about to be."""
        found = (_parse(name, _read(os.path.join(self.path, name + _REQUEST))) for name in self._names(_REQUEST))
        return [one._replace(environment=None) for one in found if one is not None] + self.followed()

    def done(self, name: str) -> None:
        """A run needs no follower any more."""
        _unlink(os.path.join(self.path, name + _RUN))

    # -- ranks that need no follower of their own -----------------------------------------------------------------

    def announce_rank(self, handover: Handover) -> str:
        """Let the follower know of a process that writes a run which another one hands over; returns a name.

        Raises:
            Unshared, OSError: the folder cannot be used.
        """
        self.make()
        return self._put(handover, {}, _RANK)

    def ranks(self, known: Mapping[str, Handover]) -> dict[str, Handover]:
        """The processes that were announced and have not said how they ended, by name.

        Args:
            known: what the last call returned; only the others are read.
        """
        found = {}
        for name in self._names(_RANK):
            one = known.get(name) or _parse(name, _read(os.path.join(self.path, name + _RANK)))
            if one is not None:
                found[name] = one
        return found

    def is_announced(self, name: str) -> bool:
        """Whether a process has still not said how it ended."""
        return os.path.exists(os.path.join(self.path, name + _RANK))

    def drop_rank(self, name: str) -> None:
        """A process has said how it ended, or its end is known."""
        _unlink(os.path.join(self.path, name + _RANK))

    def _names(self, ending: str) -> list[str]:
        try:
            return sorted(name.removesuffix(ending) for name in os.listdir(self.path) if name.endswith(ending))
        except OSError:
            return []

    # -- who serves it ------------------------------------------------------------------------------------------

    def process(self) -> FollowerProcess | None:
        """Who serves the folder, or did."""
        path = os.path.join(self.path, "follower.json")
        try:
            heard = os.stat(path).st_mtime
            said = orjson.loads(_read(path) or b"null")
            pid = whole_or_none(said.get("pid"))
        except (OSError, ValueError, AttributeError):
            return None
        if pid is None:
            return None
        return FollowerProcess(pid, number_or_none(said.get("start")), bool(said.get("ready")), heard)

    def name_process(self, pid: int, *, is_ready: bool) -> None:
        """Write down who serves the folder; with the lock held.

        Raises:
            OSError: it cannot be written.
        """
        path = os.path.join(self.path, "follower.json")
        partial = f"{path}.{os.getpid()}.tmp"
        with open(partial, "wb") as file:
            file.write(orjson.dumps({"pid": pid, "start": process_start(pid), "ready": is_ready}))
        os.rename(partial, path)

    def beat(self) -> None:
        """The follower is heard of."""
        try:
            os.utime(os.path.join(self.path, "follower.json"))
            os.utime(os.path.join(self.path, "lock"))  # what cleans /tmp leaves what was used lately
        except OSError:
            pass

    def announce(self) -> bool:
        """Say that this process serves the folder from now on; False where another one does.

        Raises:
            Unshared, OSError: the folder cannot be used.
        """
        with self.locked(seconds=5.0):
            serves = self.process()
            if serves is not None and serves.pid != os.getpid() and serves.is_alive():
                return False
            self.name_process(os.getpid(), is_ready=True)
        return True

    def leave(self) -> bool:
        """Give the folder up, unless a request waits; False where one does.

        Once this has returned True, whoever comes finds no follower and starts another.
        """
        try:
            with self.locked(seconds=5.0):
                if self.requests():
                    return False
                for name in ("follower.json", "follower.log", "lock"):
                    _unlink(os.path.join(self.path, name))
        except Unshared:
            return True  # it is not there any more, so nobody can have put anything into it
        for path in (self.path, os.path.dirname(self.path)):
            try:
                os.rmdir(path)
            except OSError:  # others came, or were here
                break
        return True


def handover_folder(store: str) -> HandoverFolder:
    """Where this process hands over its runs in a store.

    Args:
        store: as an absolute path.
    """
    return HandoverFolder(os.path.join(_root(), _key(store)))


def hand_over(handover: Handover, folder: HandoverFolder, start: Callable[[], int]) -> None:
    """Put a request into the folder, and see to it that a follower lives that will read it. Waits for nothing.

    Args:
        start: starts a follower of the folder and returns its process id; raises OSError.

    Raises:
        Unshared: the folder cannot be used; nothing of the request is left.
        OSError: no follower could be started, or the request not be written.
    """
    for _ in range(10):
        folder.make()
        name = ""
        try:
            name = folder.request(handover, os.environb)
            with folder.locked():
                _see_to_follower(folder, start)
            return
        except (_Left, FileNotFoundError):
            _unlink(os.path.join(folder.path, name + _REQUEST))
        except (Unshared, OSError):
            _unlink(os.path.join(folder.path, name + _REQUEST))
            raise
    raise Unshared(f"{folder.path} is removed again and again")


def see_to_follower(folder: HandoverFolder, start: Callable[[], int]) -> None:
    """Start a follower for what the last one has left, if it has died.

    Raises:
        Unshared, OSError: as `hand_over`.
    """
    if folder.requests() or folder.followed():
        with folder.locked():
            _see_to_follower(folder, start)


def _see_to_follower(folder: HandoverFolder, start: Callable[[], int]) -> None:
    serves = folder.process()
    if serves is None or not serves.is_alive():
        folder.name_process(start(), is_ready=False)


def _key(store: str) -> str:
    """What two processes have in common that share a follower: the store, and all that the follower itself depends on."""
    import hashlib

    said = [store, sys.executable, sys.prefix, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    said += [str(boot_id()), str(sys.flags.ignore_environment), str(sys.flags.no_user_site)]
    for name in ("pid", "mnt", "net", "user"):
        try:
            said.append(os.readlink(f"/proc/self/ns/{name}"))
        except OSError:
            said.append("")
    # A job's processes end with its control group, and what it may use is measured by it.
    said.append((_read("/proc/self/cgroup") or b"").decode(errors="replace"))
    # Its files are for whom the training's are: a umask and a group make them readable and writable.
    said += [_umask(), str(os.getegid()), str(sorted(os.getgroups()))]
    said += [f"{name}={os.environ.get(name)}" for name in _SHARED_VARIABLES]
    said += [f"{name}={os.environ.get(name)}" for low in _PROXIES for name in (low, low.upper())]
    return hashlib.sha256("\0".join(said).encode(errors="surrogateescape")).hexdigest()[:24]


def _umask() -> str:
    """As the system shows it; asking for it otherwise means setting it, for all threads. Empty off Linux."""
    found = re.search(rb"^Umask:\s*(\d+)", _read("/proc/self/status") or b"", re.MULTILINE)
    return found[1].decode() if found else ""


def _root() -> str:
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"lossbook-{os.geteuid()}")


def _parse(name: str, text: bytes | None) -> Handover | None:
    head, *fields = (text or b"").split(b"\0")
    try:
        said = orjson.loads(head)
        pid, start = whole_or_none(said.get("pid")), number_or_none(said.get("start"))
        attempt, rank = whole_or_none(said.get("attempt")) or 0, whole_or_none(said.get("rank")) or 0
        run, cwd, *variables = map(os.fsdecode, fields)
    except (ValueError, AttributeError):
        return None
    if pid is None:
        return None
    pairs = (variable.partition("=") for variable in variables)
    environment = {key: value for key, _, value in pairs} if variables else None
    return Handover(run, pid, start, attempt, rank, cwd or None, environment, name)


def _without_environment(path: str) -> str:
    """A file that has of a request all but the environment."""
    partial = path + ".tmp"
    _write(partial, b"\0".join((_read(path) or b"").split(b"\0", 3)[:3]))
    return partial


def _write(path: str, text: bytes) -> None:
    """Write a new file that this user alone may read.

    Raises:
        OSError: it cannot be written whole.
    """
    _unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(fd, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    except OSError:
        _unlink(path)
        raise
    finally:
        os.close(fd)


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
