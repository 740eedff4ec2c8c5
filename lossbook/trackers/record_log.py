"""A record log, the format of W&B's and SwanLab's files: records of bytes, written one behind the other in checked parts.

It is LevelDB's log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of the tracker's
own, with the plain CRC-32 in place of the masked CRC-32C. A reader gives whole records alone, each with the place where it
ends, so that it can go on there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_PART = struct.Struct("<IHB")  # checksum, length, which part of a record
_BLOCK_BYTES = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def encode_record(record: bytes, offset: int) -> bytes:
    """One record as it stands in a file from `offset` on, in as many parts as its blocks have room for."""
    encoded = bytearray()
    first = True
    while True:
        left = _BLOCK_BYTES - (offset + len(encoded)) % _BLOCK_BYTES
        if left < _PART.size:
            encoded += bytes(left)
            left = _BLOCK_BYTES
        part, record = record[: left - _PART.size], record[left - _PART.size :]
        kind = (_FULL if first else _LAST) if not record else (_FIRST if first else _MIDDLE)
        encoded += _PART.pack(zlib.crc32(part, zlib.crc32(bytes((kind,)))), len(part), kind) + part
        first = False
        if not record:
            return bytes(encoded)


def read_records(
    path: str, header: bytes, offset: int = 0, *, past_damage: bool = False
) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file from a place on, each with the place where it ends.

    A torn or damaged record ends the reading: nothing behind it can be trusted to follow what was before.

    Args:
        header: what the file begins with; one that begins otherwise has no record.
        offset: 0, or the end of a record.
        past_damage: go on with the next block instead; an empty record stands for what was left out.
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


def _is_torn(rest: bytes, length: int, left: int) -> bool:
    """Whether the end of a file is a part that is not all there yet, or room that was never written to.

    Args:
        left: bytes of its block from the part on, of which no part has more.
    """
    return len(rest) < _PART.size + length <= left or not any(rest)
