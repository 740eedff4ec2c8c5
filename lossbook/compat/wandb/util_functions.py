"""What training code takes from `wandb.util`."""

from __future__ import annotations

import importlib
import json
import re
import sys
from types import ModuleType
from typing import IO, Any

from lossbook.errors import Error
from lossbook.paths import new_run_id
from lossbook.run import plain

__all__ = [
    "WandBHistoryJSONEncoder",
    "WandBJSONEncoder",
    "WandBJSONEncoderOld",
    "from_human_size",
    "generate_id",
    "get_module",
    "get_optional_module",
    "is_numpy_array",
    "is_pandas_data_frame",
    "json_dump_safer",
    "json_dumps_safer",
    "json_friendly",
    "json_friendly_val",
    "make_artifact_name_safe",
    "to_human_size",
]

_SIZES = {"B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


class WandBJSONEncoder(json.JSONEncoder):
    """For `json.dumps(…, cls=…)`: takes any value."""

    def default(self, value: object) -> Any:
        """What JSON has no form for, as a text, a number or a list."""
        return plain(value)


WandBHistoryJSONEncoder = WandBJSONEncoderOld = WandBJSONEncoder


def generate_id(length: int = 8) -> str:
    """A new run id: letters and digits."""
    text = ""
    while len(text) < length:
        text += new_run_id()
    return text[:length]


def get_module(name: str, required: str | bool | None = None, lazy: bool = True) -> ModuleType | None:
    """Import a module by its name; None where it is not installed.

    Args:
        required: what the error says where it is needed.

    Raises:
        Error: it is `required` and not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if required:
            raise Error(str(required)) from error
        return None


def get_optional_module(name: str, *_: object, **__: object) -> ModuleType | None:
    """Import a module by its name; None where it is not installed."""
    return get_module(name)


def json_friendly(value: object) -> tuple[Any, bool]:
    """A value as JSON can hold it, and whether it is another than before."""
    if value is None or isinstance(value, bool | int | float | str | dict | list | tuple):
        return value, False
    return plain(value), True


def json_friendly_val(value: object) -> Any:
    """A value as JSON can hold it, at every depth."""
    return plain(value)


def json_dumps_safer(value: object, **options: Any) -> str:
    """The JSON of any value."""
    return json.dumps(plain(value), **options)


def json_dump_safer(value: object, file: IO[str], **options: Any) -> None:
    """Write the JSON of any value."""
    json.dump(plain(value), file, **options)


def make_artifact_name_safe(name: str) -> str:
    """A name that an artifact may have: 128 letters, digits, dots, dashes and underscores at most."""
    safe = re.sub(r"[^a-zA-Z0-9_\-.]", "_", name)
    return safe if len(safe) <= 128 else f"{safe[:63]}..{safe[-63:]}"


def to_human_size(size: float, units: object = None) -> str:
    """A number of bytes as "1.5GB"."""
    word = next((one for one, many in reversed(_SIZES.items()) if abs(size) >= many), "B")
    return f"{round(size / _SIZES[word], 1)}{word if word == 'B' else word + 'B'}"


def from_human_size(text: str, units: object = None) -> int:
    """The bytes of "1.5GB" or "1.5G".

    Raises:
        ValueError: it is no size.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([BKMGTP]?)I?B?\s*", text.upper())
    if found is None:
        raise ValueError(f"{text!r} is no size: write it as 10GB")
    return int(float(found[1]) * _SIZES[found[2] or "B"])


def is_numpy_array(value: object) -> bool:
    """Whether it is one; NumPy is not loaded to tell."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_pandas_data_frame(value: object) -> bool:
    """Whether it is one; pandas is not loaded to tell."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)
