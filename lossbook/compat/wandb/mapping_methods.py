"""The words of W&B's `config` and `summary` that Lossbook's have no word of their own for."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from lossbook.compat.wandb.unknown_names import CONFIG, SUMMARY, answer


def find_word(mapping: MutableMapping[str, Any], kind: str, name: str) -> object:
    """What `config.name` or `summary.name` is.

    A name that is neither a key nor a word of W&B's is an AttributeError, as in W&B's package: scripts ask with
    `hasattr` and `getattr` whether a key is set.

    Raises:
        AttributeError: there is no such key and no such word.
    """
    if name == "_as_dict":
        as_dict: Callable[[], dict[str, Any]] = lambda: dict(mapping)  # noqa: E731 - the bound method of W&B's
        return as_dict
    words = CONFIG if kind == "config" else SUMMARY
    if name in words:
        return answer(kind, name, known=(), words=words, private=words)
    raise AttributeError(f"there is no {name!r} here; it has {', '.join(mapping) or 'nothing'}")
