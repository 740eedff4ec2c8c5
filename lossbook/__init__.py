"""Lossbook: an experiment tracker for language-model training.

    run = lossbook.init(config={"lr": 3e-4})
    run.log({"train/loss": loss}, step=step)
    run.finish()

    book = lossbook.open("lossbook-runs")
    book.run("latest").curve("train/loss")

Importing this costs what a training process needs; the reading side is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossbook.run.begin import finish, init, log
from lossbook.run.run import Run
from lossbook.run.values import Histogram, Image, Table, Text

if TYPE_CHECKING:
    from lossbook.store import Book, Curve, RecordedRun, open

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
]

_READING = ("Book", "Curve", "RecordedRun", "open")


def __getattr__(name: str) -> Any:
    if name == "run":
        from lossbook.run import begin

        return begin.current
    if name in _READING:
        import lossbook.store

        return getattr(lossbook.store, name)
    raise AttributeError(f"module 'lossbook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_READING])
