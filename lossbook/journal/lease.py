"""The lease that a place holds on a run: the sign, in the run's folder, that writers there may still live.

A process is seen only where its id means it (`processes.Place`). For everybody else, the follower of each place renews
a file of its own in the run's `followers/` about every ten seconds. The file server sets its time, and whoever may
write in the run judges it by the file server's clock: no clock of another machine counts.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from lossbook.paths import RunFolder, make_folder
from lossbook.processes import Place, this_place

#: A lease is renewed about that often.
RENEW_SECONDS = 10.0
#: A lease that was not renewed for that long has expired: three renewals were missed.
EXPIRY_SECONDS = 35.0
#: Where there is no lease (no follower, or one of an earlier version), a journal that long without a row counts as left.
SILENT_SECONDS = 600.0
#: A reader may not write, so it has only its own clock to compare with: it allows for one that is ahead.
SHOWN_SECONDS = 120.0

#: By lease: the last sign of life that this process has seen, and when (by `time.monotonic`) it saw another than before.
_looks: dict[str, tuple[float, float]] = {}


class Sign(NamedTuple):
    """The last sign of life of a place: Unix seconds by the file server's clock, and whether a lease gave it."""

    seconds: float
    is_lease: bool

    @property
    def limit_seconds(self) -> float:
        """How old it must be before a resumed run goes on from here: `LOSSBOOK_TAKEOVER_SECONDS`, else by its kind."""
        named = named_limit()
        if named is not None:
            return named
        return EXPIRY_SECONDS if self.is_lease else SILENT_SECONDS


def named_limit() -> float | None:
    """The value of `LOSSBOOK_TAKEOVER_SECONDS`; None where it is not set, or no number."""
    try:
        value = float(os.environ.get("LOSSBOOK_TAKEOVER_SECONDS", ""))
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def lease_path(folder: RunFolder, place: Place) -> str:
    """Where the lease of a place on a run is."""
    return os.path.join(folder.followers, f"lease-{place_name(place)}")


def place_name(place: Place) -> str:
    """A place's name in file names: its host, and a checksum of the host, the boot and the PID namespace."""
    import hashlib

    digest = hashlib.sha256("\n".join(part or "" for part in place).encode("utf-8", "replace")).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', place.host or '')[:60]}-{digest[:8]}"


def renew_lease(folder: RunFolder, place: Place | None = None) -> None:
    """Say that writers of this place may still live; to be called about every `RENEW_SECONDS` while one does.

    Raises:
        OSError: the run's folder is gone or cannot be written.
    """
    path = lease_path(folder, place or this_place())
    try:
        os.utime(path)  # without a time of ours: the file server takes its own
    except FileNotFoundError:
        make_folder(folder.followers)
        with open(path, "ab") as file:
            file.write(b"%d\n" % os.getpid())


def drop_lease(folder: RunFolder, place: Place | None = None) -> None:
    """Give the lease up, once all that was written here is sealed."""
    try:
        os.unlink(lease_path(folder, place or this_place()))
    except OSError:
        pass


def server_clock(folder: RunFolder) -> float:
    """What time it is by the clock of the file server, in Unix seconds.

    Raises:
        OSError: the run's folder cannot be written.
    """
    make_folder(folder.followers)
    # A folder: its time is always the server's, where that of a file may wait in the client's cache.
    path = os.path.join(folder.followers, f"clock-{os.getpid()}-{os.urandom(3).hex()}.tmp")
    os.mkdir(path)
    try:
        return os.stat(path).st_mtime
    finally:
        os.rmdir(path)


def last_sign(folder: RunFolder, place: Place, journals: Iterable[str]) -> Sign | None:
    """The last sign of life of a place; None where there never was one.

    Args:
        journals: the journal files that were written there.
    """
    lease = _mtime(lease_path(folder, place))
    written = [when for path in journals if (when := _mtime(path)) is not None]
    if lease is not None:
        return Sign(max(lease, *written, lease), True)
    return Sign(max(written), False) if written else None


def seems_alive(folder: RunFolder, place: Place, *, now: float | None = None) -> bool:
    """Whether writers of a place seem to live: for what is shown, and for when to stop waiting; nothing is lost by it.

    Args:
        now: the time by the file server's clock, where that is known; a reader has only its own clock.
    """
    path = lease_path(folder, place)
    renewed = _mtime(path)
    if renewed is None:
        clock = time.time() if now is None else now
        return clock - _newest(folder.journal, folder.followers) < SILENT_SECONDS
    sign = max(renewed, _newest(folder.journal))
    if now is not None:
        return now - sign < EXPIRY_SECONDS
    before, changed_at = _looks.get(path, (sign, -SHOWN_SECONDS))
    if before < sign:
        # There was a sign of life while this process looked on: a clock that says otherwise is ahead.
        changed_at = time.monotonic()
    _looks[path] = sign, changed_at
    return time.time() - sign < SHOWN_SECONDS or time.monotonic() - changed_at < SHOWN_SECONDS


def _newest(*folders: str) -> float:
    """When the newest file in these folders was written; 0 where there is none."""
    newest = 0.0
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                newest = max([newest, *(entry.stat().st_mtime for entry in entries)])
        except OSError:
            continue
    return newest


def _mtime(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
