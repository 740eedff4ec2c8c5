"""Reads the number in a foreign value: numpy's, torch's and jax's, none of which is imported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lossbook.run.text import shown


def number_of(value: Any) -> float:
    """The number in a value of numpy, torch (on the CPU), jax, Decimal, Fraction and what else has one.

    Raises:
        ValueError, TypeError: it has several, or none.
    """
    if hasattr(value, "shape") and element_count(value) != 1:
        raise ValueError(f"it has {element_count(value)} elements; log a scalar or lossbook.Histogram of it")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    convert = getattr(value, "item", None)
    number = convert() if callable(convert) else value
    if isinstance(number, complex):
        raise TypeError("a complex number is no scalar; log its parts")
    if isinstance(number, (str, bytes)):
        raise TypeError(f"{shown(number)} is no number; log lossbook.Text for a text")
    return as_float(number)


def as_float(value: Any) -> float:
    """A number as a float; a whole number too large for one as an infinity."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def is_on_device(value: object) -> bool:
    """Whether reading the value would wait for a device: a torch tensor off the CPU, or a jax array in flight."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch" or hasattr(value, "is_cuda"):
        device = getattr(value, "device", None)
        return device is not None and getattr(device, "type", "cpu") not in ("cpu", "meta")
    ready: Callable[[], bool] | None = getattr(value, "is_ready", None)
    return module in ("jax", "jaxlib") and callable(ready) and not ready()


def element_count(value: object) -> int:
    """How many elements an array or a tensor has; 1 for what is none."""
    count = getattr(value, "numel", None)
    if callable(count):
        return int(count())
    size = 1
    for extent in getattr(value, "shape", ()):
        size *= int(extent)
    return size
