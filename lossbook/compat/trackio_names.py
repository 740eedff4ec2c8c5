"""Trackio's names in Trackio's place: most are W&B's; what the others are here, or why they are not."""

from __future__ import annotations

from collections.abc import Mapping

from lossbook.compat.trackio_init import init
from lossbook.compat.wandb.submodules import known_or_absent
from lossbook.compat.wandb.unknown_names import UnansweredName
from lossbook.run import Text, current_run, say_once

#: What has no counterpart, with the reason that the first use of it says. docs/wandb.md shows the table.
NOT_HERE = {
    "delete_project": "`lossbook rm` hides runs",
    "freeze": "`lossbook export` writes pages and files that stay as they are",
    "import_csv": "`lossbook import` reads CSV files",
    "import_tf_events": "`lossbook import` reads TensorBoard's files",
    "log_cpu": "the machine is measured without a call",
    "log_gpu": "the machine is measured without a call",
    "register_reference_handler": "a reference of an artifact is kept and not fetched",
    "show": "`lossbook serve` shows the store",
    "sync": "`lossbook sync` delivers runs",
}


def find_name(name: str) -> object:
    """What `trackio.name` is: most of its names are W&B's."""
    if name == "init":
        return init
    if name == "Markdown":
        return Text
    if name == "log_system":
        return log_system
    if name in NOT_HERE:
        return UnansweredName(f"trackio.{name}", f"trackio.{name}() is not supported: {NOT_HERE[name]}")
    return known_or_absent("trackio", name)


def log_system(metrics: Mapping[str, float]) -> None:
    """Record what was measured of the machine, beside the steps of the training: `system.…`."""
    run = current_run()
    if run is None:
        say_once("log_system() before init() does nothing: call init() first")
        return
    run.log_aside({f"system.{key}": value for key, value in metrics.items()}, run.last_step or 0)
