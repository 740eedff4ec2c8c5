"""`wandb.env`: its constants are names of variables, its functions read and set them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping

from lossbook.compat.wandb.unsupported import absent

__all__: list[str] = []


def __getattr__(name: str) -> object:
    if name.startswith("_"):
        raise AttributeError(name)
    if name.isupper():
        return f"WANDB_{name}"
    asks, _, variable = name.partition("_")
    if asks == "get" and variable:
        return _reader(f"WANDB_{variable.upper()}")
    if asks == "set" and variable:
        return _writer(f"WANDB_{variable.upper()}")
    return absent("wandb.env", name)


def _reader(key: str) -> Callable[..., str | None]:
    def read(default: str | None = None, env: Mapping[str, str] | None = None) -> str | None:
        return (os.environ if env is None else env).get(key, default)

    return read


def _writer(key: str) -> Callable[..., None]:
    def write(value: object, env: MutableMapping[str, str] | None = None) -> None:
        (os.environ if env is None else env)[key] = str(value)

    return write
