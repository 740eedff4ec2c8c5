"""Lossbook: an experiment tracker for language-model training.

    run = lossbook.init(config={"lr": 3e-4})
    run.log({"train/loss": loss}, step=step)
    run.finish()

    book = lossbook.open("lossbook-runs")
    book.run("latest").curve("train/loss")

Importing this costs next to nothing: what writes runs is loaded with the first use of it, and so is the reading side.
So are the names that W&B's users know: with `import lossbook.wandb as wandb` their code runs as it is, and with
`import lossbook as wandb` too (docs/wandb.md).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lossbook import errors
from lossbook.run import LiveModule

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.compat.stand_in import install_as
    from lossbook.curves import Curve
    from lossbook.reading import RecordedRun
    from lossbook.run import Histogram, Image, RecordedMapping, Run, Table, Text, finish, init, log
    from lossbook.trackers import open

    #: The current run's configuration and summary, by attribute and by key; empty before `init()`.
    config: RecordedMapping
    summary: RecordedMapping
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
    "config",
    "errors",
    "finish",
    "init",
    "install_as",
    "log",
    "open",
    "run",
    "summary",
]

#: Where the names are that are loaded when they are first asked for.
_LAZY = {
    **dict.fromkeys(("Histogram", "Image", "Run", "Table", "Text", "finish", "init", "log"), "lossbook.run"),
    "open": "lossbook.trackers",
    "install_as": "lossbook.compat.stand_in",
    "Book": "lossbook.book",
    "Curve": "lossbook.curves",
    "RecordedRun": "lossbook.reading",
    "load_ipython_extension": "lossbook.notebook",
    "unload_ipython_extension": "lossbook.notebook",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        # Kept: `lossbook.log` is looked up once a row.
        found = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return found
    if name.startswith("_"):
        raise AttributeError(f"module 'lossbook' has no attribute {name!r}")
    return getattr(import_module("lossbook.compat.wandb"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


# `lossbook.run` is the current run, although a package of that name lies below.
sys.modules[__name__].__class__ = LiveModule
