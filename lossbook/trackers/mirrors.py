"""Mirrors: a run as another tracker has it. One file a tracker; `base` is what they all promise.

A tracker's library is imported by its own file alone, in the mirror's own process, and only when rows are delivered.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument

if TYPE_CHECKING:
    from lossbook.trackers.mirror import Mirror

#: Each tracker and the class that delivers to it.
MIRRORS = {
    "wandb": "lossbook.trackers.wandb.mirror:WandbMirror",
    "trackio": "lossbook.trackers.trackio.mirror:TrackioMirror",
    "tensorboard": "lossbook.trackers.tensorboard.mirror:TensorBoardMirror",
    "mlflow": "lossbook.trackers.mlflow.mirror:MlflowMirror",
}


def mirror_class(name: str) -> type[Mirror]:
    """The class that delivers to a tracker.

    Raises:
        BadArgument: no such tracker is known.
    """
    if name not in MIRRORS:
        raise BadArgument(f"there is no mirror {name!r}: use one of {', '.join(MIRRORS)}")
    module, _, attribute = MIRRORS[name].partition(":")
    found: type[Mirror] = getattr(importlib.import_module(module), attribute)
    return found
