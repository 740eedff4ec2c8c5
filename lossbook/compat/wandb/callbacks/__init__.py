"""Callbacks of W&B's for other libraries, each with the keys that W&B's writes. Loaded where such a library is."""

from __future__ import annotations

from collections.abc import Mapping

from lossbook.run import Run, current_run, say_once


def run_for(callback: str) -> Run | None:
    """The current run. Where there is none, nothing is recorded, and that is said once."""
    run = current_run()
    if run is None:
        say_once(f"{callback} records nothing: call wandb.init() before the training")
    return run


def simple_settings(values: Mapping[str, object]) -> dict[str, object]:
    """Those that are numbers or texts, without the private ones."""
    simple = (bool, int, float, str)
    return {key: value for key, value in values.items() if isinstance(value, simple) and not key.startswith("_")}
