"""TFRecord: the framing of TensorBoard's event files, written and read without TensorFlow.

A file is a sequence of records: length (uint64), checksum of the length, message, checksum of the message. It has not
changed since 2015.

Source: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

_CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
#: Messages up to here are checked byte by byte when they are read; a picture of megabytes would take seconds.
CHECKED_BYTES = 1 << 16


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_CRC_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def masked_crc(contents: bytes) -> int:
    """The checksum of a record: CRC-32C, rotated and shifted so that a checksum of checksums is no fixed point."""
    crc = 0xFFFFFFFF
    table = _CRC
    for byte in contents:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(message: bytes) -> bytes:
    """One message as the file has it: length, checksum of the length, message, checksum of the message."""
    length = struct.pack("<Q", len(message))
    return b"".join((length, _CHECKSUM.pack(masked_crc(length)), message, _CHECKSUM.pack(masked_crc(message))))


class Record(NamedTuple):
    """One record that was read: where it begins and ends (bytes), and its message; None where that is damaged."""

    start: int
    end: int
    message: bytes | None


def read_records(file: IO[bytes], offset: int = 0) -> Iterator[Record]:
    """The whole records from `offset` on; a torn last one is not there yet.

    Behind a damaged length nothing can be read: one record without a message stands for the rest of the file.

    Raises:
        OSError: the file cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(offset)
    while offset + _HEADER.size <= size:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        length, checksum = _HEADER.unpack(head)
        if masked_crc(head[:8]) != checksum:
            yield Record(offset, size, None)
            return
        end = offset + _HEADER.size + length + _CHECKSUM.size
        if end > size:
            return
        message = file.read(length)
        (checksum,) = _CHECKSUM.unpack(file.read(_CHECKSUM.size))
        damaged = length <= CHECKED_BYTES and masked_crc(message) != checksum
        yield Record(offset, end, None if damaged else message)
        offset = end
