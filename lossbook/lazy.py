"""A package's door: its `__init__` names what other packages may use, and loads each name when it is first asked for.

A door that imported its whole package would load DuckDB for `lossbook ls`, and the reading side for `import lossbook`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def shown_by(name: str) -> Callable[[Any], str | None]:
    """A `_repr_html_`: what a notebook shows of an object, made by a function of `lossbook.notebook` that is loaded then."""

    def _repr_html_(self: Any) -> str | None:
        from lossbook.errors import LossbookError

        try:
            shown: str = getattr(import_module("lossbook.notebook"), name)(self)
        except LossbookError:  # a damaged file, say: its text is shown instead
            return None
        return shown

    return _repr_html_


def lazy_exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Functions to be a package's `__getattr__` and `__dir__` (PEP 562).

    Nothing is kept in the package: a name is looked up in its module each time, so that there is one of it.

    Args:
        package: its `__name__`.
        homes: for each module of the package, the names that other packages may use, separated by spaces.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return load, lambda: sorted(home_of)
