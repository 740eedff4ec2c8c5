"""`import lossbook.wandb as wandb`: code written for W&B's Python package runs on Lossbook with that line changed.

Everything that W&B's users know is here: Lossbook's own names, and W&B's words, found when they are asked for
(docs/wandb.md). W&B's own package is neither needed nor imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lossbook import errors
from lossbook.run import Histogram, Image, LiveModule, Run, Table, finish, init, log

if TYPE_CHECKING:
    from lossbook.compat.wandb import util_functions as util
    from lossbook.compat.wandb.artifact import Artifact
    from lossbook.compat.wandb.module_api import (
        AlertLevel,
        Api,
        Settings,
        alert,
        define_metric,
        link_model,
        log_artifact,
        log_model,
        login,
        mark_preempting,
        restore,
        save,
        unwatch,
        use_artifact,
        use_model,
        watch,
    )
    from lossbook.compat.wandb.unsupported import Audio, Html, Video
    from lossbook.errors import CommError, Error, UsageError
    from lossbook.run import RecordedMapping

    config: RecordedMapping
    summary: RecordedMapping
    run: Run | None
    plot: ModuleType

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "CommError",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "Run",
    "Settings",
    "Table",
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


def __getattr__(name: str) -> Any:
    return getattr(import_module("lossbook.compat.wandb"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


sys.modules[__name__].__class__ = LiveModule
