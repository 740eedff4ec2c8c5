"""`wandb.integration.lightgbm`: the callback for LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm  # noqa: F401  # whoever has it not is told so once, in place of this module

from lossbook.compat.wandb.callbacks import keep_model, log_importance, run_for
from lossbook.integrations import harmless

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
        log_importance(run, zip(model.feature_name(), map(int, model.feature_importance()), strict=True))
    if save_model_checkpoint:
        keep_model(run, model, "model.txt", f"model_{run.id}")
