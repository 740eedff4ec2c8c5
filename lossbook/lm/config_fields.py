"""The fields of an `ExperimentConfig`: which names there are, and what each may hold."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import SupportsFloat, SupportsIndex, TypeAlias

from lossbook.errors import BadArgument
from lossbook.metrics import nearest

#: What a field holds once it was checked; `extra` holds whatever the user put there.
FieldValue: TypeAlias = "str | int | float | bool | list[str] | dict[str, object] | None"

#: Two names of one quantity: ours, and what the other vocabulary calls it.
SAME = {"learning_rate": "max_learning_rate", "num_iterations": "max_iters"}
#: The other name of a quantity that has two.
TWIN = {**SAME, **{second: first for first, second in SAME.items()}}

_WHOLE = (
    "vocab_size", "context_length", "d_model", "num_heads", "num_layers", "d_ff", "num_kv_heads", "batch_size",
    "gradient_accumulation_steps", "num_iterations", "max_iters", "warmup_iters", "seed",
)  # fmt: skip
_NUMBERS = (
    "rope_theta", "learning_rate", "max_learning_rate", "min_learning_rate", "weight_decay", "grad_clip", "beta1",
    "beta2", "eps",
)  # fmt: skip
_TEXTS = (
    "experiment_name", "model_size", "dataset", "experiment_type", "architecture", "optimizer_name", "device", "dtype",
    "notes",
)  # fmt: skip
_FLAGS = ("track_memory",)
ARCHITECTURES = ("gpt2", "llama")
#: The smallest allowed value, whether that value itself is allowed, and how to say it.
_AT_LEAST_ONE = "1 or more"
_RANGES: dict[str, tuple[float, bool, float, bool, str]] = {
    **dict.fromkeys(_WHOLE, (1, True, 2**63, False, _AT_LEAST_ONE)),
    "warmup_iters": (0, True, 2**63, False, "0 or more"),
    "seed": (-(2**63), True, 2**64, False, "a whole number of 64 bits"),
    "rope_theta": (0, False, math.inf, False, "above 0"),
    "learning_rate": (0, False, math.inf, False, "above 0"),
    "max_learning_rate": (0, False, math.inf, False, "above 0"),
    "min_learning_rate": (0, True, math.inf, False, "0 or more"),
    "weight_decay": (0, True, math.inf, False, "0 or more"),
    "grad_clip": (0, True, math.inf, True, "0 or more"),
    "beta1": (0, True, 1, False, "from 0 to below 1"),
    "beta2": (0, True, 1, False, "from 0 to below 1"),
    "eps": (0, True, math.inf, False, "0 or more"),
}
#: A number as a text has it, also in a form that YAML 1.1 takes for a text.
NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


def meant(name: str, fields: Sequence[str]) -> str:
    """The fields that a wrong name may stand for, as part of a sentence."""
    close = nearest(str(name), fields, 3)
    return f"; did you mean {' or '.join(close)}?" if close else f" (there are {', '.join(fields)})"


def check(name: str, value: object) -> FieldValue:
    """The value as the field holds it.

    Raises:
        BadArgument: it has the wrong type or is out of range.
    """
    if value is None and name not in (
        "tags",
        "extra",
        "track_memory",
        "gradient_accumulation_steps",
        "experiment_type",
    ):
        return None
    if name in _WHOLE:
        number = _as_number(value)
        if number is None or (isinstance(number, float) and not number.is_integer()):
            raise BadArgument(f"{name} is a whole number, {_RANGES[name][4]}, not {shown(value)}")
        return _in_range(name, int(number), value)
    if name in _NUMBERS:
        number = _as_number(value)
        if number is None:
            raise BadArgument(f"{name} is a number {_RANGES[name][4]}, not {shown(value)}")
        return _in_range(name, number if isinstance(number, float) else _as_float(number), value)
    if name in _TEXTS:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
            raise BadArgument(f"{name} is a text, not {shown(value)}")
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        if name == "architecture" and text not in ARCHITECTURES:
            raise BadArgument(f"architecture is one of {', '.join(ARCHITECTURES)}, not {value!r}")
        return text
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise BadArgument(f"{name} is true or false, not {shown(value)}")
        return value
    if name == "tags":
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, (list, tuple, set)) or not all(isinstance(word, (str, int, float)) for word in words):
            raise BadArgument(f"tags is a list of words, not {shown(value)}")
        return [str(word) for word in words]
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadArgument(f"extra is a mapping of names to values, not {shown(value)}")
    return dict(value)


def _as_number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # YAML 1.1 reads 3e-4 as text; shells and .env files give texts as well.
        digits = value.strip().replace("_", "")
        if digits in ("Infinity", "inf"):  # as our JSON has it; only `grad_clip` may be that
            return math.inf
        if not NUMBER.match(digits):
            return None
        return int(digits) if len(digits) < 30 and digits.lstrip("+-").isdigit() else float(digits)
    if isinstance(value, int):
        return value
    try:
        if isinstance(value, SupportsIndex):
            return operator.index(value)  # a whole number of numpy's, whatever its size
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        return float(value) if isinstance(value, SupportsFloat) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def shown(value: object) -> str:
    """A value within a message, which stays short."""
    text = "a number of thousands of digits" if isinstance(value, int) and abs(value) >> 512 else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _in_range(name: str, number: float, value: object) -> float:
    low, low_allowed, high, high_allowed, words = _RANGES[name]
    fits = (number > low or (low_allowed and number == low)) and (number < high or (high_allowed and number == high))
    if not fits:
        raise BadArgument(f"{name} must be {words}, not {shown(value)}")
    return number
