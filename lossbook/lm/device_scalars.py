"""Numbers of a training loop that may still lie on a device: nothing here waits for one, unless it says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, TypeAlias, TypeGuard

from lossbook.lm.throughput import perplexity


class DType(Protocol):
    @property
    def itemsize(self) -> int: ...


class DeviceScalar(Protocol):
    """What is used of a 0-d array on a device, such as a torch tensor."""

    @property
    def device(self) -> object: ...

    @property
    def dtype(self) -> DType: ...

    def __float__(self) -> float: ...

    def __sub__(self, other: object, /) -> object: ...

    def __rsub__(self, other: object, /) -> object: ...

    def exp(self) -> DeviceScalar: ...

    def float(self) -> DeviceScalar: ...


#: A number on the host, or one on its device.
Scalar: TypeAlias = float | DeviceScalar


def detached(value: object) -> object:
    """A number that may be kept: on the host, or a copy on its device, without the graph that it was computed with.

    The loop may change its tensor in place (`total.zero_()`), and a loss that is kept would keep every activation.
    What is no number at all is returned as it is.
    """
    if value is None or isinstance(value, (int, float)):
        return value
    if is_on_device(value):
        detach = getattr(value, "detach", None)
        return detach().clone() if detach is not None else value
    number = plain_number(value)
    return value if number is None else number


def as_scalar(value: object) -> Scalar | None:
    """A held value as a number; None where it is no number."""
    if isinstance(value, (int, float)):
        return value
    return value if is_on_device(value) else None


def exponential(loss: Scalar) -> Scalar:
    """exp of a kept loss, where the loss is: a tensor stays on its device, and nothing waits for it."""
    if is_on_device(loss) and callable(getattr(loss, "exp", None)):
        # Half precision ends at 65504, which an untrained model's perplexity passes.
        return (loss.float() if getattr(loss, "itemsize", 8) < 4 else loss).exp()
    return perplexity(float(loss))


def difference(first: Scalar, second: Scalar) -> object:
    """`first - second` of kept values, where they are; None where one of them is no number."""
    if is_on_device(first) and is_on_device(second) and first.device != second.device:
        return None
    try:
        return first - second
    except TypeError:
        return None


def is_on_device(value: object) -> TypeGuard[DeviceScalar]:
    """Whether reading it would wait for a device."""
    device = getattr(value, "device", None)
    return device is not None and getattr(device, "type", "cpu") != "cpu"


def least(best: Scalar, value: Scalar) -> Scalar:
    """The smaller one; NaN and infinities never win. Values on a device are compared there."""
    one = value if is_on_device(value) else best
    if is_on_device(one):
        import torch

        other = value if one is best else best
        if one.dtype.itemsize < 4:
            one = one.float()  # a best of 3.214 is not to be rounded to the 3.219 of a bfloat16
        least_there: DeviceScalar = torch.fmin(
            one, other if is_on_device(other) else torch.full_like(one, float(other))
        )
        return least_there
    number, known = float(value), float(best)
    if not math.isfinite(number):
        return best
    return number if not math.isfinite(known) or number < known else best


def plain_number(value: object) -> float | None:
    """A number on the host; here, at a checkpoint or at the end, waiting for the device is right."""
    if value is None or isinstance(value, str):
        return None
    detach = getattr(value, "detach", None)
    if detach is not None:
        value = detach()
    item = getattr(value, "item", None)
    try:
        return float(item() if item is not None else value)  # type: ignore[arg-type]  # TypeError is no number
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def add_learning_rates(row: dict[str, object], learning_rate: object) -> None:
    """One learning rate, or that of each parameter group: all are logged where they differ."""
    if learning_rate is None:
        return
    if isinstance(learning_rate, (list, tuple)):
        rates = [group["lr"] if isinstance(group, Mapping) else group for group in learning_rate]
        if not rates:
            return
        row["train/learning_rate"] = rates[0]
        # Comparing rates that are on a device would wait for it.
        if any(is_on_device(rate) or rate != rates[0] for rate in rates[1:]):
            row.update({f"train/learning_rate/group_{number}": rate for number, rate in enumerate(rates)})
        return
    row["train/learning_rate"] = learning_rate
