"""From what a user logs to what a row holds: the only place that knows foreign types.

Scalars become floats, exactly; tensors on a device are left for `run.deferred`; `Text`, `Histogram`, `Table` and
`Image` become rows of their own; the rest becomes a warning. Nothing here imports numpy, torch or jax: a value
of theirs can only arrive when the user has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from lossbook.journal.line import encode_number

#: A table larger than this (bytes of JSON) goes to a file in `media/`, so the journal stays quick to read.
INLINE_TABLE_BYTES = 1 << 16
#: Nested dictionaries are flattened that deep; deeper ones are a warning.
DEEPEST = 20


class FileOfRun(NamedTuple):
    """A content-addressed file that goes with a row: its path inside the run's folder, and its bytes."""

    path: str
    contents: bytes


class Event(NamedTuple):
    """A row that is no set of scalars."""

    kind: str
    key: str
    value: dict[str, Any]
    file: FileOfRun | None = None


class Split(NamedTuple):
    """One logged dictionary, sorted by what becomes of each value."""

    scalars: dict[str, float]
    deferred: dict[str, Any]
    events: list[Event]
    warnings: list[tuple[str, str]]


class Media:
    """A value that becomes a row of its own."""

    def event(self, key: str) -> Event:
        """Describe the row.

        Raises:
            ValueError, TypeError: the contents cannot be kept; the message says why.
        """
        raise TypeError(f"{type(self).__name__} describes no row")


class Text(Media):
    """A text, a generated sample say."""

    def __init__(self, text: str) -> None:
        self.text = str(text)

    def event(self, key: str) -> Event:
        return Event("text", key, {"text": self.text.encode("utf-8", "replace").decode()})


class Histogram(Media):
    """A distribution: from values, or from edges and counts.

    Args:
        values: array-like of any shape; NaN and infinities are counted apart.
        bins: equal bins over the finite range, at the most.
        edges: n + 1 increasing numbers, in place of `values`.
        counts: n counts, with `edges`.
    """

    def __init__(
        self, values: Any = None, *, bins: int = 64, edges: Sequence[float] | None = None,
        counts: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        self.values, self.bins, self.edges, self.counts = values, bins, edges, counts

    def event(self, key: str) -> Event:
        if self.values is None:
            if self.edges is None or self.counts is None or len(self.edges) != len(self.counts) + 1:
                raise ValueError("a histogram takes values, or n + 1 edges with n counts")
            edges = [encode_number(float(edge)) for edge in self.edges]
            return Event("histogram", key, {"edges": edges, "counts": [float(count) for count in self.counts]})
        import numpy

        values = self.values
        if hasattr(values, "detach"):
            values = values.detach().float().cpu().numpy()
        array = numpy.asarray(values, dtype=numpy.float64).ravel()
        finite = array[numpy.isfinite(array)]
        nonfinite = int(array.size - finite.size)
        if finite.size == 0:
            return Event("histogram", key, {"edges": [0.0, 0.0], "counts": [0], "nonfinite": nonfinite})
        low, high = float(finite.min()), float(finite.max())
        if low == high:
            body: dict[str, Any] = {"edges": [low, high], "counts": [int(finite.size)]}
        else:
            counts, edges_array = numpy.histogram(finite, bins=max(1, self.bins), range=(low, high))
            body = {"edges": edges_array.tolist(), "counts": counts.tolist()}
        if nonfinite:
            body["nonfinite"] = nonfinite
        return Event("histogram", key, body)


class Table(Media):
    """Rows under named columns; cells are anything JSON can hold, the rest as text.

    Args:
        columns: names; taken from `dataframe` or from dictionaries in `rows` when absent.
        rows: a sequence of sequences, or of dictionaries.
        dataframe: a pandas or Polars frame, in place of both.
    """

    def __init__(
        self, columns: Sequence[str] | None = None, rows: Iterable[Any] = (), *, dataframe: Any = None
    ) -> None:
        if dataframe is not None:
            columns = [str(name) for name in dataframe.columns]
            cells = dataframe.rows() if hasattr(dataframe, "rows") else dataframe.itertuples(index=False, name=None)
            rows = [list(row) for row in cells]
        else:
            rows = list(rows)
        if columns is None and rows and isinstance(rows[0], Mapping):
            columns = list(dict.fromkeys(str(name) for row in rows for name in row))
        self.columns = [str(name) for name in columns or ()]
        self.rows = [
            [row.get(name) for name in self.columns] if isinstance(row, Mapping) else list(row) for row in rows
        ]

    def add_row(self, *cells: Any) -> None:
        """Add one row, a cell for each column."""
        self.rows.append(list(cells))

    def event(self, key: str) -> Event:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns")
        rows = [[_cell(cell) for cell in row] for row in self.rows]
        text = orjson.dumps({"columns": self.columns, "rows": rows})
        if len(text) <= INLINE_TABLE_BYTES:
            return Event("table", key, {"columns": self.columns, "rows": rows})
        file = FileOfRun(f"media/{_sha256(text)}.json", text)
        return Event("table", key, {"file": file.path, "columns": self.columns, "count": len(rows)}, file)


class Image(Media):
    """A picture: an array (height, width[, 1|3|4]) of uint8 or of floats 0 to 1, a PIL image, or a file's path."""

    def __init__(self, image: Any, *, caption: str | None = None) -> None:
        self.image, self.caption = image, caption

    def event(self, key: str) -> Event:
        contents, ending, width, height = _picture(self.image)
        file = FileOfRun(f"media/{_sha256(contents)}.{ending}", contents)
        body: dict[str, Any] = {"file": file.path}
        if width:
            body.update(width=width, height=height)
        if self.caption is not None:
            body["caption"] = str(self.caption)
        return Event("image", key, body, file)


def split(metrics: Any) -> Split:
    """Sort a logged dictionary by what each value becomes; never raises.

    Nested dictionaries are flattened with "/". A value that is no number becomes a warning: (key, sentence).
    """
    result = Split({}, {}, [], [])
    if not isinstance(metrics, Mapping):
        result.warnings.append(("", f"log() takes a dictionary, not {type(metrics).__name__}"))
        return result
    _flatten(metrics, "", result, ())
    return result


def describe(error: BaseException) -> str:
    """An error in a few words, also one that cannot say what it is."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(value: Any) -> str:
    """`str(value)` as JSON can hold it; the type's name where the value has no text."""
    try:
        return _text(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _flatten(metrics: Mapping[Any, Any], prefix: str, result: Split, outer: tuple[Any, ...]) -> None:
    outer = (*outer, metrics)
    for name, value in list(metrics.items()):
        key = prefix
        try:
            key = prefix + _text(name)
            _place(key, value, result, outer)
        except Exception as error:  # a foreign type may do anything when it is asked for its value
            result.warnings.append((key, f"{key!r} could not be recorded ({describe(error)})"))


def _place(key: str, value: Any, result: Split, outer: tuple[Any, ...]) -> None:
    kind = type(value)
    if kind is float:
        result.scalars[key] = value
    elif kind is int or kind is bool:
        result.scalars[key] = _float(value)
    elif isinstance(value, Media):
        result.events.append(value.event(key))
    elif isinstance(value, Mapping):
        if len(outer) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} dictionaries")
        if any(value is one for one in outer):
            raise ValueError("the dictionary contains itself")
        _flatten(value, f"{key}/", result, outer)
    elif is_on_device(value):
        if _size(value) != 1:
            raise ValueError(f"it has {_size(value)} elements; log a scalar or lossbook.Histogram of it")
        result.deferred[key] = value
    elif isinstance(value, (str, bytes)) or value is None:
        raise TypeError(f"{shown(value)} is no number; log lossbook.Text for a text")
    else:
        result.scalars[key] = _foreign(value)


def _foreign(value: Any) -> float:
    """The number in a value of numpy, torch (on the CPU), jax, Decimal, Fraction and what else has one."""
    if hasattr(value, "shape") and _size(value) != 1:
        raise ValueError(f"it has {_size(value)} elements; log a scalar or lossbook.Histogram of it")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    convert = getattr(value, "item", None)
    number = convert() if callable(convert) else value
    if isinstance(number, complex):
        raise TypeError("a complex number is no scalar; log its parts")
    if isinstance(number, (str, bytes)):
        raise TypeError(f"{shown(number)} is no number; log lossbook.Text for a text")
    return _float(number)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def is_on_device(value: Any) -> bool:
    """Whether reading the value would wait for a device: a torch tensor off the CPU, or a jax array in flight."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch" or hasattr(value, "is_cuda"):
        device = getattr(value, "device", None)
        return device is not None and getattr(device, "type", "cpu") not in ("cpu", "meta")
    ready: Callable[[], bool] | None = getattr(value, "is_ready", None)
    return module in ("jax", "jaxlib") and callable(ready) and not ready()


def _size(value: Any) -> int:
    count = getattr(value, "numel", None)
    if callable(count):
        return int(count())
    size = 1
    for extent in getattr(value, "shape", ()):
        size *= int(extent)
    return size


def _text(name: Any) -> str:
    """A key as JSON can hold it: lone surrogates replaced."""
    return str(name).encode("utf-8", "replace").decode()


def shown(value: Any) -> str:
    """A value as a sentence names it: its `repr`, cut short."""
    try:
        text = _text(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cell(cell: Any) -> Any:
    if cell is None or isinstance(cell, (bool, str)):
        return _text(cell) if isinstance(cell, str) else cell
    if isinstance(cell, int):
        return cell if -(1 << 63) <= cell < 1 << 63 else float(cell)
    if isinstance(cell, float):
        return encode_number(cell)
    try:
        return encode_number(_foreign(cell))
    except Exception:
        return _text(cell)


def _picture(image: Any) -> tuple[bytes, str, int, int]:
    """The picture as (file contents, ending, width, height); 0 × 0 where only the decoder would know."""
    if isinstance(image, (str, os.PathLike)):
        with open(image, "rb") as file:
            contents = file.read()
        ending = os.path.splitext(os.fspath(image))[1].lstrip(".").lower()
        if ending not in ("png", "jpg", "jpeg", "gif", "webp", "bmp"):
            raise ValueError(f"{os.fspath(image)} is no picture (png, jpg, gif, webp, bmp)")
        return contents, ending, 0, 0
    if hasattr(image, "save") and hasattr(image, "size"):
        import io

        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue(), "png", int(image.size[0]), int(image.size[1])
    import numpy

    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    pixels = numpy.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ValueError(f"an image has the shape (height, width[, 1|3|4]), not {numpy.shape(image)}")
    if pixels.dtype != numpy.uint8:
        scale = 255.0 if pixels.dtype.kind == "f" else 1.0
        pixels = (numpy.clip(numpy.nan_to_num(pixels) * scale, 0, 255) + (0.5 if scale > 1 else 0)).astype(numpy.uint8)
    height, width, channels = pixels.shape
    return _png(pixels.tobytes(), width, height, channels), "png", width, height


def _sha256(contents: bytes) -> str:
    import hashlib

    return hashlib.sha256(contents).hexdigest()


def _png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Encode 8-bit pixels as PNG (https://www.w3.org/TR/png-3/), rows unfiltered."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    stride = width * channels
    rows = b"".join(b"\x00" + pixels[row * stride : (row + 1) * stride] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
