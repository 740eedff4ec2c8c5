"""W&B's transaction log, a `.wandb` file: appended to, read as far as it is whole, cut back to a known place.

It is a record log (`lossbook.trackers.record_log`) with a header of W&B's. A record is a `Record` of W&B's own protobuf
messages; this module knows bytes alone. W&B's library wrote such files from Python until 0.19; now only its Go service
does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator

from lossbook.trackers.record_log import encode_record, read_records as read_record_log

_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
#: So much is collected before it is written.
_BUFFER_BYTES = 1 << 20


class TransactionLog:
    """The writing end of a `.wandb` file, and the only one: it is locked until `close`, or until this process ends.

    `begin` or `go_on` comes first.

    Raises:
        BlockingIOError: another process has it, and does not let go of it within `wait_seconds`.
        OSError: the file cannot be made.
    """

    def __init__(self, path: str, *, wait_seconds: float = 5.0) -> None:
        self.path = path
        self.offset = 0
        self._buffer = bytearray()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.close()
                    raise BlockingIOError(errno.EWOULDBLOCK, "another process delivers this run right now") from None
                time.sleep(0.05)
            except OSError:
                return  # a file system that knows no locks

    def begin(self) -> None:
        """Empty the file; its header is the first to be written.

        Raises:
            OSError: the disk does not do it; as `flush`.
        """
        os.ftruncate(self._fd, 0)
        self._buffer += _HEADER
        self.offset = len(_HEADER)

    def go_on(self, offset: int) -> None:
        """Cut off what lies behind the end of a record, and write there.

        Raises:
            OSError: the disk does not do it.
        """
        if os.fstat(self._fd).st_size > offset:
            os.ftruncate(self._fd, offset)
        self.offset = offset

    def append(self, record: bytes) -> None:
        """Add one record; it is in the file after `flush`, or earlier."""
        encoded = encode_record(record, self.offset)
        self._buffer += encoded
        self.offset += len(encoded)
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel: from here on it outlives this process."""
        while self._buffer:
            written = os.write(self._fd, self._buffer)
            del self._buffer[:written]

    def close(self) -> None:
        """Close the file; what was not flushed is given up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_records(path: str, offset: int = 0, *, past_damage: bool = False) -> Iterator[tuple[int, bytes]]:
    """The whole records of a `.wandb` file, as `lossbook.trackers.record_log.read_records` tells them."""
    return read_record_log(path, _HEADER, offset, past_damage=past_damage)
