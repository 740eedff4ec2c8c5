"""Protocol buffers without their library: the fields of a message, by number.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class BadMessage(ValueError):
    """The bytes are no such message."""


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and contents of each field: an integer, or bytes (of 4 or 8 for what is not one).

    Raises:
        BadMessage: the bytes are no message.
    """
    at, size = 0, len(message)
    value: int | bytes
    while at < size:
        # Nearly all numbers are of one byte; calling for each would take most of the time.
        key, at = (message[at], at + 1) if message[at] < 128 else varint(message, at)
        wire = key & 7
        if wire == 2:
            length, at = (message[at], at + 1) if at < size and message[at] < 128 else varint(message, at)
            end = at + length
            value, at = message[at:end], end
        elif wire == 0:
            value, at = varint(message, at)
        elif wire in (1, 5):
            end = at + (8 if wire == 1 else 4)
            value, at = message[at:end], end
        else:
            raise BadMessage(f"a field of the unknown kind {wire}")
        if at > size:
            raise BadMessage("a field that is longer than its message")
        yield key >> 3, value


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The number of seven bits a byte that begins at `at`, and where it ends.

    Raises:
        BadMessage: the bytes are no message.
    """
    result = shift = 0
    try:
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, at
            shift += 7
            if shift > 63:
                raise BadMessage("a number of more than 64 bits")
    except IndexError:
        raise BadMessage("a field that is longer than its message") from None


def signed(value: int) -> int:
    """An integer field whose numbers may be below 0."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: object) -> str:
    """A field of text; empty where it is none."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
