"""`wandb.integration.xgboost`: the callback for XGBoost."""

from __future__ import annotations

import json
from typing import Any

from xgboost.callback import TrainingCallback

from lossbook.compat.wandb.callbacks import keep_model, log_importance, run_for
from lossbook.integrations import harmless

__all__ = ["WandbCallback", "wandb_callback"]


class WandbCallback(TrainingCallback):  # type: ignore[misc]
    """Records each round's scores as "data-metric", the booster's settings, and which features matter.

    Args:
        log_model: keep the model as an artifact.
        log_feature_importance: log a table of it, under "Feature Importance_table".
        importance_type: "gain", "weight", "cover", "total_gain" or "total_cover".
        define_metric: taken; each metric has its minimum, maximum and last value anyway.
    """

    def __init__(
        self,
        log_model: bool = False,
        log_feature_importance: bool = True,
        importance_type: str = "gain",
        define_metric: bool = True,
    ) -> None:
        super().__init__()
        self.log_model = log_model
        self.log_feature_importance = log_feature_importance
        self.importance_type = importance_type

    def before_training(self, model: Any) -> Any:
        """Record the booster's settings."""
        self.record_settings(model)
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, dict[str, list[Any]]]) -> bool:
        """Record the scores; False goes on."""
        self.record_scores(epoch, evals_log)
        return False

    def after_training(self, model: Any) -> Any:
        """Record what the training came to."""
        self.record_end(model)
        return model

    @harmless
    def record_settings(self, model: Any) -> None:
        """Into the configuration."""
        if (run := run_for("WandbCallback")) is not None:
            run.config.update(json.loads(model.save_config()))

    @harmless
    def record_scores(self, epoch: int, evals_log: dict[str, dict[str, list[Any]]]) -> None:
        """The last of each series."""
        if (run := run_for("WandbCallback")) is None:
            return
        scores = {
            f"{data}-{metric}": values[-1][0] if isinstance(values[-1], tuple) else values[-1]
            for data, metrics in evals_log.items()
            for metric, values in metrics.items()
        }
        run.log({**scores, "epoch": epoch})

    @harmless
    def record_end(self, model: Any) -> None:
        """The best round, the features and the model."""
        if (run := run_for("WandbCallback")) is None:
            return
        if self.log_model:
            keep_model(run, model, f"{run.id}_model.json", f"{run.id}_model.json")
        if self.log_feature_importance:
            log_importance(run, model.get_score(importance_type=self.importance_type).items())
        if model.attr("best_score") is not None:
            best = {"best_score": float(model.attr("best_score")), "best_iteration": int(model.attr("best_iteration"))}
            run.log(best)


def wandb_callback() -> WandbCallback:
    """`WandbCallback()`, as it was called before."""
    return WandbCallback()
