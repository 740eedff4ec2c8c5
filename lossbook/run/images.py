"""Pictures as users hold them (arrays, tensors, figures, files) made into the bytes of a picture file."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

ENDINGS = ("png", "jpg", "jpeg", "gif", "webp", "bmp")
_CHANNELS = (1, 3, 4)


class Picture(NamedTuple):
    """A picture file: its contents, its ending, and its size; 0 × 0 where only a decoder would know."""

    contents: bytes
    ending: str
    width: int
    height: int


def draw_picture(image: Any, mode: str | None = None) -> Picture:
    """Make a picture file of an image.

    Args:
        image: uint8 or floats 0 to 1 in an array (height, width[, 1|3|4]), a torch tensor of that shape or in
            torch's own order (1|3|4, height, width), a PIL image, a matplotlib figure, or a file's path.
        mode: PIL's name of what a PIL image is converted to ("L", "RGB").

    Raises:
        ValueError, OSError: it is none of these, or the file cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        return _from_file(image)
    figure = getattr(image, "savefig", None) or getattr(getattr(image, "figure", None), "savefig", None)
    if callable(figure) or (hasattr(image, "save") and hasattr(image, "size")):
        import io

        buffer = io.BytesIO()
        if callable(figure):
            figure(buffer, format="png")
            return Picture(buffer.getvalue(), "png", *_size_of_png(buffer.getvalue()))
        if mode is not None:
            image = image.convert(mode)
        image.save(buffer, format="PNG")
        return Picture(buffer.getvalue(), "png", int(image.size[0]), int(image.size[1]))
    return _from_array(image)


def _from_file(path: str | os.PathLike[str]) -> Picture:
    with open(path, "rb") as file:
        contents = file.read()
    ending = os.path.splitext(os.fspath(path))[1].lstrip(".").lower()
    if ending not in ENDINGS:
        raise ValueError(f"{os.fspath(path)} is no picture (png, jpg, gif, webp, bmp)")
    return Picture(contents, ending, 0, 0)


def _from_array(image: Any) -> Picture:
    import numpy

    is_tensor = hasattr(image, "detach")
    if is_tensor:
        image = image.detach().cpu()
        # numpy has no bfloat16.
        image = (image.float() if image.is_floating_point() else image).numpy()
    pixels = numpy.asarray(image)
    if pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if is_tensor and pixels.ndim == 3 and pixels.shape[0] in _CHANNELS:
        # torch has the channels first, as torchvision's pictures do.
        pixels = numpy.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS or 0 in pixels.shape:
        raise ValueError(f"an image has the shape (height, width[, 1|3|4]), not {numpy.shape(image)}")
    if pixels.dtype != numpy.uint8:
        scale = 255.0 if pixels.dtype.kind in "fb" else 1.0
        pixels = (numpy.clip(numpy.nan_to_num(pixels) * scale, 0, 255) + (0.5 if scale > 1 else 0)).astype(numpy.uint8)
    height, width, channels = pixels.shape
    return Picture(_png(pixels.tobytes(), width, height, channels), "png", width, height)


def _size_of_png(contents: bytes) -> tuple[int, int]:
    return int.from_bytes(contents[16:20], "big"), int.from_bytes(contents[20:24], "big")


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
