"""`wandb.integration.lightgbm`: the callback for LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm  # noqa: F401  # whoever has it not is told so once, in place of this module

from lossbook.compat.wandb.callbacks import run_for
from lossbook.integrations import harmless
from lossbook.run import Table

__all__ = ["log_summary", "wandb_callback"]


def wandb_callback(log_params: bool = True, define_metric: bool = True) -> Callable[[Any], None]:
    """A callback that records each round's scores as "data_metric", and the settings.

    Args:
        log_params: record the settings with the first round.
        define_metric: taken; each metric has its minimum, maximum and last value anyway.
    """

    @harmless
    def record(env: Any) -> None:
        if (run := run_for("wandb_callback()")) is None:
            return
        if log_params and env.iteration == env.begin_iteration:
            run.config.update(env.params)
        scores: dict[str, object] = {}
        for entry in env.evaluation_result_list or ():
            data, metric, value = entry[:3]
            # Of a cross-validation: "valid l2" and its mean. Before version 4 the data's name stood alone.
            scores[f"{data}_{metric}"] = value
        run.log({**scores, "iteration": env.iteration})

    return record


@harmless
def log_summary(model: Any, feature_importance: bool = True, save_model_checkpoint: bool = False) -> None:
    """Record the best round, which features matter, and if asked the model."""
    if (run := run_for("log_summary()")) is None:
        return
    best = {
        f"best_score_{data}_{metric}": value for data, of in model.best_score.items() for metric, value in of.items()
    }
    run.summary.update({"best_iteration": model.best_iteration, **best})
    if feature_importance:
        rows = [[name, int(much)] for name, much in zip(model.feature_name(), model.feature_importance(), strict=True)]
        run.log({"Feature Importance_table": Table(columns=["Feature", "Importance"], data=rows)})
    if save_model_checkpoint:
        import os
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.txt")
            model.save_model(path)
            run.log_artifact(path, name=f"model_{run.id}", type="model")
