"""Lossbook: an experiment tracker for language-model training.

    run = lossbook.init(config={"lr": 3e-4})
    run.log({"train/loss": loss}, step=step)
    run.finish()

    book = lossbook.open("lossbook-runs")
    book.run("latest").curve("train/loss")

Importing this costs what a training process needs; the reading side is loaded when it is first asked for.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lossbook.run import begin as _begin
from lossbook.run.begin import finish, init, log
from lossbook.run.run import Run
from lossbook.run.values import Histogram, Image, Table, Text

if TYPE_CHECKING:
    from lossbook.store import Book, Curve, RecordedRun, open

    #: The run that `init()` began last and `finish()` has not ended; None when there is none.
    run: Run | None

__version__ = "0.1.0"
__all__ = [
    "Book",
    "Curve",
    "Histogram",
    "Image",
    "RecordedRun",
    "Run",
    "Table",
    "Text",
    "finish",
    "init",
    "log",
    "open",
    "run",
]

_READING = ("Book", "Curve", "RecordedRun", "open")


def __getattr__(name: str) -> Any:
    if name in _READING:
        import lossbook.store

        return getattr(lossbook.store, name)
    raise AttributeError(f"module 'lossbook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


class _Facade(ModuleType):
    """`lossbook.run` is the current run, although a package of that name lies below."""

    @property
    def run(self) -> Run | None:
        return _begin.current

    @run.setter
    def run(self, package: ModuleType) -> None:
        """The import system puts the package here; it is found through `sys.modules` all the same."""


sys.modules[__name__].__class__ = _Facade
