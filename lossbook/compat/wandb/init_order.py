"""`wandb.init` with its arguments in W&B's order, for scripts that nobody edits: Lossbook's own begins with the project."""

from __future__ import annotations

from typing import Any

from lossbook.errors import BadArgument
from lossbook.run import Run, init as init_run

#: The arguments of wandb 0.31, in order.
ORDER = (
    "entity",
    "project",
    "dir",
    "id",
    "name",
    "notes",
    "tags",
    "config",
    "config_exclude_keys",
    "config_include_keys",
    "allow_val_change",
    "group",
    "job_type",
    "mode",
    "force",
    "reinit",
    "resume",
    "resume_from",
    "fork_from",
    "save_code",
    "tensorboard",
    "sync_tensorboard",
    "monitor_gym",
    "settings",
    "anonymous",
)


def init(*arguments: Any, **named: Any) -> Run:
    """Begin a run, as `lossbook.init` does.

    Raises:
        BadArgument: an argument is given twice, or there are more than W&B's `init` takes.
    """
    if len(arguments) > len(ORDER):
        raise BadArgument(f"init() takes {len(ORDER)} arguments, and {len(arguments)} were given")
    placed = dict(zip(ORDER, arguments, strict=False))
    if twice := sorted(placed.keys() & named):
        raise BadArgument(f"init() got {twice[0]!r} twice: by its place and by its name")
    return init_run(**placed, **named)
