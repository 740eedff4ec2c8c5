"""`import lossbook as wandb`: code written for W&B's Python package runs on Lossbook with that line changed.

`lossbook` finds these names when they are asked for. docs/wandb.md lists what is taken over, what means something
else here, and what is missing. W&B's own package is neither needed nor imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossbook.compat.wandb.artifact import Artifact
    from lossbook.compat.wandb.module_api import (
        AlertLevel,
        Api,
        Settings,
        Util,
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
    from lossbook.compat.wandb.unsupported import Audio, Html, Plot, Video

    config: Any
    summary: Any
    plot: Plot
    util: Util

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "Html",
    "Settings",
    "Util",
    "Video",
    "alert",
    "config",
    "define_metric",
    "link_model",
    "log_artifact",
    "log_model",
    "login",
    "mark_preempting",
    "plot",
    "restore",
    "save",
    "summary",
    "unwatch",
    "use_artifact",
    "use_model",
    "util",
    "watch",
]

#: Which module has which word; a run's own words are reached through `above`.
_ABSENT = ("Html", "Audio", "Video")
_REACHED = {
    "log_artifact": "lossbook.compat.wandb.artifact_store",
    "use_artifact": "lossbook.compat.wandb.artifact_store",
    "use_model": "lossbook.compat.wandb.artifact_store",
    "watch": "lossbook.compat.wandb.watching",
    "unwatch": "lossbook.compat.wandb.watching",
}


def __getattr__(name: str) -> Any:
    """A word of W&B's that `lossbook` lacks.

    Raises:
        AttributeError: it is no name of W&B's.
    """
    if name in ("config", "summary"):
        from lossbook.compat.wandb.module_api import CurrentMapping

        found: Any = CurrentMapping(name)
    elif name == "plot":
        from lossbook.compat.wandb.unsupported import Plot

        found = Plot()
    elif name == "util":
        from lossbook.compat.wandb.module_api import Util

        found = Util()
    elif name == "Artifact" or name in _ABSENT:
        module = "artifact" if name == "Artifact" else "unsupported"
        found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    elif name in __all__:
        found = getattr(importlib.import_module(f"{__name__}.module_api"), name)
    else:
        from lossbook.compat.wandb.unsupported import find_absent

        found = find_absent(name)
    globals()[name] = found
    return found


def above(word: str) -> Callable[..., Any]:
    """The function behind a word of `Run` that lies above the run's own room; its first argument is the run."""
    found: Callable[..., Any] = getattr(importlib.import_module(_REACHED[word]), word)
    return found
