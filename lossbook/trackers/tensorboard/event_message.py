"""The messages of TensorBoard's event files, decoded: what an `Event` says, in plain Python.

Sources: tensorboard/compat/proto/{event,summary,tensor}.proto and tensorboard/plugins/hparams/plugin_data.proto.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from lossbook.json_shapes import Json, JsonObject
from lossbook.trackers.protobuf import BadMessage, fields, signed, text, varint

HPARAMS_START, HPARAMS_END = "_hparams_/session_start_info", "_hparams_/session_end_info"

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_DT_STRING = 7
#: Tensors of numbers: by TensorFlow's number of the type, the letter that `struct` has for it.
_LETTERS = {1: "f", 2: "d", 3: "i", 4: "B", 5: "h", 6: "b", 9: "q", 10: "?", 17: "H", 19: "e", 22: "I", 23: "Q"}
_SIGNS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"<svg": ".svg"}
_STATES = {1: "finished", 2: "failed", 3: "running"}


@dataclass
class Tensor:
    """A tensor: its shape, and its numbers or texts."""

    shape: tuple[int, ...]
    numbers: list[float] | None = None
    texts: list[bytes] | None = None


class Picture(NamedTuple):
    """A picture's file, and its size in pixels."""

    contents: bytes
    width: int
    height: int


class HistogramBins(NamedTuple):
    """As `docs/format.md` has a histogram: one edge more than counts."""

    edges: list[float]
    counts: list[float]


@dataclass
class Value:
    """One value of a summary under its tag; of the fields, one is set."""

    tag: str
    plugin: str = ""
    contents: bytes = b""
    scalar: float | None = None
    image: Picture | None = None
    histogram: HistogramBins | None = None
    tensor: Tensor | None = None


@dataclass
class Event:
    """One event. `restart` says that training began again at its step: what was logged at it and beyond counts no more."""

    time: float = 0.0
    step: int = 0
    restart: bool = False
    values: list[Value] = field(default_factory=list)


def decode_event(message: bytes) -> Event:
    """Decode one record's message.

    Raises:
        BadMessage: it is none.
    """
    event = Event()
    try:
        for number, value in fields(message):
            if number == 1:
                event.time = _DOUBLE.unpack(value)[0]
            elif number == 2:
                event.step = signed(value)
            elif number == 5:
                event.values += [_value(one) for inner, one in fields(value) if inner == 1]
            elif number == 7:
                event.restart = any(inner == 1 and one == 1 for inner, one in fields(value))
    except (struct.error, TypeError, AttributeError, IndexError) as error:
        raise BadMessage(f"no event ({error})") from None
    return event


def picture_ending(contents: bytes) -> str:
    """What a picture's file name ends with, by its first bytes."""
    return next((ending for sign, ending in _SIGNS.items() if contents.startswith(sign)), ".png")


def hyperparameters(contents: bytes) -> JsonObject:
    """The configuration in what the HPARAMS plugin keeps at the beginning of a session."""
    config: JsonObject = {}
    for number, session in fields(contents):
        if number != 3:
            continue
        for inner, entry in fields(session):
            if inner == 1:
                pair = dict(fields(entry))
                config[text(pair.get(1, b""))] = _json(pair.get(2, b""))
    return config


def session_end(contents: bytes) -> tuple[str, float | None]:
    """How a session ended, and when (Unix seconds, where that is said)."""
    for number, session in fields(contents):
        if number == 4:
            found = dict(fields(session))
            when = _DOUBLE.unpack(found[2])[0] if 2 in found else None
            return _STATES.get(found.get(1, 0), "finished"), when
    return "finished", None


def _packed(value: int | bytes, letter: str) -> list[float]:
    """Repeated numbers, packed or one by one."""
    if isinstance(value, int):
        return [signed(value)]
    if letter in "fd":
        size = 4 if letter == "f" else 8
        return list(struct.unpack(f"<{len(value) // size}{letter}", value))
    numbers: list[float] = []
    at = 0
    while at < len(value):
        number, at = varint(value, at)
        numbers.append(signed(number))
    return numbers


# -- values -----------------------------------------------------------------------------------------------------------


def _value(message: bytes) -> Value:
    value = Value("")
    for number, contents in fields(message):
        if number == 1:
            value.tag = text(contents)
        elif number == 2:
            value.scalar = _FLOAT.unpack(contents)[0]
        elif number == 4:
            picture = dict(fields(contents))
            value.image = Picture(picture.get(4, b""), picture.get(2, 0), picture.get(1, 0))
        elif number == 5:
            value.histogram = _histogram(contents)
        elif number == 8:
            value.tensor = _tensor(contents)
        elif number == 9:
            for inner, plugin in fields(contents):
                if inner == 1:
                    named = dict(fields(plugin))
                    value.plugin, value.contents = text(named.get(1, b"")), named.get(2, b"")
    return value


def _tensor(message: bytes) -> Tensor:
    kind, shape, content = 0, [], b""
    numbers: list[float] = []
    texts: list[bytes] = []
    for number, value in fields(message):
        if number == 1:
            kind = value
        elif number == 2:
            for inner, dimension in fields(value):
                if inner == 2:
                    shape.append(signed(dict(fields(dimension)).get(1, 0)))
        elif number == 4:
            content = value
        elif number == 5:
            numbers += _packed(value, "f")
        elif number == 6:
            numbers += _packed(value, "d")
        elif number == 8:
            texts.append(value)
        elif number == 13:
            # Halves as integers: their 16 bits, of two kinds of float.
            numbers += [_half(int(one), kind) for one in _packed(value, "q")]
        elif number in (7, 10, 11, 16, 17):
            numbers += _packed(value, "q")
    if kind == _DT_STRING:
        return Tensor(tuple(shape), texts=texts)
    if content:
        numbers = _from_content(content, kind)
    count = math.prod(shape)
    if numbers and len(numbers) < count <= 1 << 24:
        # A tensor that ends in equal numbers is written without repeating the last one.
        numbers += [numbers[-1]] * (count - len(numbers))
    return Tensor(tuple(shape), numbers=numbers or ([0.0] * count if count <= 1 << 24 else []))


def _half(bits: int, kind: int) -> float:
    bits &= 0xFFFF
    packed = struct.pack("<H", bits) if kind == 19 else struct.pack("<HH", 0, bits)
    return float(struct.unpack("<e" if kind == 19 else "<f", packed)[0])


def _from_content(content: bytes, kind: int) -> list[float]:
    if kind == 14:  # bfloat16: the upper half of a float
        return [_half(bits, kind) for bits in struct.unpack(f"<{len(content) // 2}H", content)]
    letter = _LETTERS.get(kind)
    if letter is None:
        return []
    size = struct.calcsize(f"<{letter}")
    return [
        float(one) for one in struct.unpack(f"<{len(content) // size}{letter}", content[: len(content) // size * size])
    ]


def _histogram(message: bytes) -> HistogramBins:
    """As `docs/format.md` has a histogram; bins that are empty at either end are left out."""
    low = high = 0.0
    limits: list[float] = []
    counts: list[float] = []
    for number, value in fields(message):
        if number == 1:
            low = _DOUBLE.unpack(value)[0]
        elif number == 2:
            high = _DOUBLE.unpack(value)[0]
        elif number == 6:
            limits += _packed(value, "d")
        elif number == 7:
            counts += _packed(value, "d")
    edges = [min(low, limits[0]) if limits else low, *limits]
    counts = counts[: len(limits)]
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return HistogramBins([low, high], [0.0])
    edges, counts = edges[filled[0] : filled[-1] + 2], counts[filled[0] : filled[-1] + 1]
    # The outermost bins reach to infinity, or nearly: the smallest and the largest value say where they end.
    edges[0] = max(edges[0], min(low, edges[1]))
    edges[-1] = min(edges[-1], max(high, edges[-2]))
    return HistogramBins(edges, counts)


def histogram_of(tensor: Tensor) -> HistogramBins | None:
    """A histogram that is kept as a tensor of left edge, right edge and count; None where it is something else."""
    if tensor.numbers is None or len(tensor.shape) != 2 or tensor.shape[1] != 3 or len(tensor.numbers) < 3:
        return None
    bins = list(itertools.batched(tensor.numbers, 3)) if hasattr(itertools, "batched") else _threes(tensor.numbers)
    return HistogramBins([bins[0][0], *(one[1] for one in bins)], [one[2] for one in bins])


def _threes(numbers: list[float]) -> list[tuple[float, ...]]:
    return [tuple(numbers[at : at + 3]) for at in range(0, len(numbers) - 2, 3)]


def _json(message: bytes) -> Json:
    """google.protobuf.Value"""
    for number, value in fields(message):
        if number == 2:
            real = float(_DOUBLE.unpack(value)[0])
            # Every number is a double there; people wrote 12 and not 12.0.
            return int(real) if real.is_integer() and abs(real) < 1 << 53 else real
        if number == 3:
            return text(value)
        if number == 4:
            return bool(value)
        if number == 6:
            return [_json(one) for inner, one in fields(value) if inner == 1]
        if number == 5:
            pairs = [dict(fields(entry)) for inner, entry in fields(value) if inner == 1]
            return {text(pair.get(1, b"")): _json(pair.get(2, b"")) for pair in pairs}
    return None
