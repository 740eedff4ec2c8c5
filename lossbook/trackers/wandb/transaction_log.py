"""W&B's transaction log, a `.wandb` file: appended to, read as far as it is whole, cut back to a known place.

It is LevelDB's log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of seven
bytes, with the plain CRC-32 in place of the masked CRC-32C. A record is a `Record` of W&B's own protobuf messages;
this module knows bytes alone. W&B's library wrote such files from Python until 0.19; now only its Go service does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator

_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_PART = struct.Struct("<IHB")  # checksum, length, which part of a record
_BLOCK_BYTES = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
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
        first = True
        while True:
            left = _BLOCK_BYTES - self.offset % _BLOCK_BYTES
            if left < _PART.size:
                self._buffer += bytes(left)
                self.offset += left
                left = _BLOCK_BYTES
            part, record = record[: left - _PART.size], record[left - _PART.size :]
            kind = (_FULL if first else _LAST) if not record else (_FIRST if first else _MIDDLE)
            self._buffer += _PART.pack(zlib.crc32(part, zlib.crc32(bytes((kind,)))), len(part), kind) + part
            self.offset += _PART.size + len(part)
            first = False
            if not record:
                break
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


def _is_torn(rest: bytes, length: int, left: int) -> bool:
    """Whether the end of a file is a part that is not all there yet, or room that was never written to.

    Args:
        left: bytes of its block from the part on, of which no part has more.
    """
    return len(rest) < _PART.size + length <= left or not any(rest)


def read_records(
    path: str, offset: int = 0, *, past_damage: bool = False, header: bytes = _HEADER
) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file from a place on, each with the place where it ends.

    A torn or damaged record ends the reading: nothing behind it can be trusted to follow what was before.

    Args:
        offset: 0, or the end of a record.
        past_damage: go on with the next block instead; an empty record stands for what was left out.
        header: what the file begins with: SwanLab writes such files with one of its own.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        if file.read(len(header)) != header:
            return
        position = max(offset, len(header))
        record = bytearray()
        begun = False  # a first part may be empty: where a block has room for its seven bytes alone
        block = b""
        block_start = -1
        skipping = False
        while True:
            start = position - position % _BLOCK_BYTES
            left = _BLOCK_BYTES - position % _BLOCK_BYTES
            if left < _PART.size:
                position += left
                continue
            if start != block_start:
                file.seek(start)
                block, block_start = file.read(_BLOCK_BYTES), start
            inside = position - start
            if len(block) < inside + _PART.size:
                return
            checksum, length, kind = _PART.unpack_from(block, inside)
            part = block[inside + _PART.size : inside + _PART.size + length]
            whole = len(part) == length and zlib.crc32(part, zlib.crc32(bytes((kind,)))) == checksum
            if not whole or kind not in ((_MIDDLE, _LAST) if begun else (_FULL, _FIRST)):
                if not past_damage or (len(block) < _BLOCK_BYTES and _is_torn(block[inside:], length, left)):
                    return
                if not whole:
                    position = start + _BLOCK_BYTES
                elif not begun:  # the rest of a record whose beginning is lost
                    position += _PART.size + length
                record, begun = bytearray(), False
                if not skipping:
                    skipping = True
                    yield position, b""
                continue
            skipping = False
            record += part
            begun = kind in (_FIRST, _MIDDLE)
            position += _PART.size + length
            if kind in (_FULL, _LAST):
                yield position, bytes(record)
                record = bytearray()
