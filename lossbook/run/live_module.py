"""`LiveModule`: a module whose `run`, `config` and `summary` are those of the current run, whenever they are asked for."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossbook.run.run import Run


class LiveModule(ModuleType):
    """The class of `lossbook` and of `lossbook.wandb`."""

    @property
    def run(self) -> Run | None:
        """The run that `init()` began last and `finish()` has not ended; None when there is none."""
        return current_run()

    @run.setter
    def run(self, package: ModuleType) -> None:
        """The import system puts the package of that name here; it is found through `sys.modules` all the same."""

    @property
    def config(self) -> MutableMapping[str, object]:
        """The current run's configuration, by attribute and by key; empty before `init()`."""
        return _before_init("config") if (run := current_run()) is None else run.config

    @config.setter
    def config(self, values: MutableMapping[str, object]) -> None:
        """`wandb.config = {…}`, as old scripts have it, records the values."""
        if values is not self.config:
            self.config.update(values)

    @property
    def summary(self) -> MutableMapping[str, object]:
        """The current run's summary, by attribute and by key; empty before `init()`."""
        return _before_init("summary") if (run := current_run()) is None else run.summary


def current_run() -> Run | None:
    """The current run; what writes runs is not loaded to say that there is none."""
    if "lossbook.run.current" not in sys.modules:
        return None
    from lossbook.run.current import current_run as current

    return current()


def _before_init(name: str) -> MutableMapping[str, object]:
    found: MutableMapping[str, object] = getattr(import_module("lossbook.compat.wandb"), name)
    return found
