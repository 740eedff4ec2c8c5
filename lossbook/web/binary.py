"""Binary answers: a header in JSON, then arrays of float64 as they lie in memory, which a page reads without parsing.

uint32, little-endian        how long the header is, in bytes, its padding included
the header                   JSON in UTF-8, padded with spaces until 4 + its length is a multiple of 8
float64, little-endian       the arrays, one behind the other, in the order that the header's type says
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lossbook.errors import DamagedFile

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from lossbook.json_shapes import JsonObject

#: What becomes float64 in a frame.
Array: TypeAlias = "NDArray[numpy.float64] | NDArray[numpy.int64]"
MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Frame:
    """An answer of a header and arrays."""

    header: object  # one of `schemas`' dataclasses
    arrays: Sequence[Array]


def encode_frame(frame: Frame) -> bytes:
    """A frame as bytes."""
    import numpy

    from lossbook.web.routing import json_of

    header = json_of(frame.header)
    header += b" " * (-(4 + len(header)) % 8)
    parts: list[bytes | memoryview] = [struct.pack("<I", len(header)), header]
    parts += [numpy.ascontiguousarray(array, dtype="<f8").data.cast("B") for array in frame.arrays if array.size]
    return b"".join(parts)


def decode_frame(body: bytes) -> tuple[JsonObject, NDArray[numpy.float64]]:
    """The header of a frame and all its values behind one another; see `split_arrays`.

    Raises:
        DamagedFile: these bytes are no frame.
    """
    import numpy
    import orjson

    try:
        (length,) = struct.unpack_from("<I", body)
        header = orjson.loads(body[4 : 4 + length])
        return header, numpy.frombuffer(body, dtype="<f8", offset=4 + length)
    except (struct.error, ValueError) as error:
        raise DamagedFile(f"{len(body)} bytes are no frame ({error})") from None


def split_arrays(values: NDArray[numpy.float64], lengths: Sequence[int]) -> Iterator[NDArray[numpy.float64]]:
    """The arrays of a frame, whose lengths its header tells."""
    at = 0
    for length in lengths:
        yield values[at : at + length]
        at += length
