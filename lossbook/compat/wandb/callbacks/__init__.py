"""Callbacks of W&B's for other libraries, each with the keys that W&B's writes. Loaded where such a library is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from lossbook.run import Run, Table, current_run, say_once


def run_for(callback: str) -> Run | None:
    """The current run. Where there is none, nothing is recorded, and that is said once."""
    run = current_run()
    if run is None:
        say_once(f"{callback} records nothing: call wandb.init() before the training")
    return run


def settings_of(values: Mapping[str, object]) -> dict[str, object]:
    """Numbers and texts as they are, everything else as its text, without private ones and tensors.

    The text of a tensor on a device would have the training wait for it.
    """
    simple = (bool, int, float, str, type(None))
    return {
        key: value if isinstance(value, simple) else str(value)
        for key, value in values.items()
        if not key.startswith("_") and not hasattr(value, "detach")
    }


def log_importance(run: Run, scores: Iterable[tuple[str, float]]) -> None:
    """Log which features matter, and how much, as the table of that name of W&B's."""
    table = Table(columns=["Feature", "Importance"], data=[[feature, score] for feature, score in scores])
    run.log({"Feature Importance_table": table})


def keep_model(run: Run, model: Any, file_name: str, artifact: str) -> None:
    """Keep as an artifact what the model's `save_model` writes into a file of that name."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, file_name)
        model.save_model(path)
        run.log_artifact(path, name=artifact, type="model")
