"""Lossbook: an experiment tracker for language-model training.

    run = lossbook.init(config={"lr": 3e-4})
    run.log({"train/loss": loss}, step=step)
    run.finish()

    book = lossbook.open("lossbook-runs")
    book.run("latest").curve("train/loss")

Importing this costs what a training process needs; the reading side is loaded when it is first asked for. So are the
names that W&B's users know: with `import lossbook as wandb` their code runs as it is (docs/wandb.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lossbook import errors
from lossbook.compat.wandb import run_methods as _familiar
from lossbook.errors import CommError, Error, UsageError
from lossbook.run import init as _begin
from lossbook.run.init import finish, init, log
from lossbook.run.run import Run
from lossbook.run.values import Histogram, Image, Table, Text

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.compat.wandb import (
        AlertLevel,
        Api,
        Artifact,
        Audio,
        Html,
        Settings,
        Video,
        alert,
        define_metric,
        link_model,
        log_artifact,
        log_model,
        login,
        mark_preempting,
        plot,
        restore,
        save,
        unwatch,
        use_artifact,
        use_model,
        util,
        watch,
    )
    from lossbook.curves.downsample import Curve
    from lossbook.reading.run import RecordedRun
    from lossbook.trackers.sources import open

    #: The current run's configuration and summary, by attribute and by key; empty before `init()`.
    config: Any
    summary: Any
    #: The run that `init()` began last and `finish()` has not ended; None when there is none.
    run: Run | None

__version__ = "0.1.0"
__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "Book",
    "CommError",
    "Curve",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "RecordedRun",
    "Run",
    "Settings",
    "Table",
    "Text",
    "UsageError",
    "Video",
    "alert",
    "config",
    "define_metric",
    "errors",
    "finish",
    "init",
    "link_model",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "mark_preempting",
    "open",
    "plot",
    "restore",
    "run",
    "save",
    "summary",
    "unwatch",
    "use_artifact",
    "use_model",
    "util",
    "watch",
]

#: Where the names of the reading side are: loaded when they are first asked for.
_READING = {
    "open": "lossbook.trackers.sources",
    "Book": "lossbook.book",
    "Curve": "lossbook.curves.downsample",
    "RecordedRun": "lossbook.reading.run",
}


def __getattr__(name: str) -> Any:
    if name in _READING:
        import importlib

        return getattr(importlib.import_module(_READING[name]), name)
    if name.startswith("_"):
        raise AttributeError(f"module 'lossbook' has no attribute {name!r}")
    return getattr(_words_of_wandb(), name)


def _words_of_wandb() -> ModuleType:
    import lossbook.compat.wandb as words

    return words


def _above(word: str) -> Callable[..., Any]:
    found: Callable[..., Any] = _words_of_wandb().above(word)
    return found


_familiar.find_above = _above


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

    @property
    def config(self) -> Any:
        return _words_of_wandb().config if _begin.current is None else _begin.current.config

    @config.setter
    def config(self, values: Any) -> None:
        """`wandb.config = {…}`, as old scripts have it, records the values."""
        if values is not self.config:
            self.config.update(values)

    @property
    def summary(self) -> Any:
        return _words_of_wandb().summary if _begin.current is None else _begin.current.summary


sys.modules[__name__].__class__ = _Facade
