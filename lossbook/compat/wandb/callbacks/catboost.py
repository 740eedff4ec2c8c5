"""`wandb.integration.catboost`: the callback for CatBoost."""

from __future__ import annotations

from typing import Any

import catboost  # noqa: F401  # whoever has it not is told so once, in place of this module

from lossbook.compat.wandb.callbacks import keep_model, log_importance, run_for
from lossbook.integrations import harmless

__all__ = ["WandbCallback", "log_summary"]


class WandbCallback:
    """Records each round's scores as "data-metric".

    Args:
        metric_period: as of the model: every so many rounds.
    """

    def __init__(self, metric_period: int = 1) -> None:
        self.metric_period = metric_period

    def after_iteration(self, info: Any) -> bool:
        """Record the scores; True goes on."""
        self.record_scores(info)
        return True

    @harmless
    def record_scores(self, info: Any) -> None:
        """The last of each series."""
        if info.iteration % self.metric_period or (run := run_for("WandbCallback")) is None:
            return
        scores = {f"{data}-{metric}": values[-1] for data, of in info.metrics.items() for metric, values in of.items()}
        run.log({**scores, f"iteration@metric-period-{self.metric_period}": info.iteration})


@harmless
def log_summary(
    model: Any, log_all_params: bool = True, save_model_checkpoint: bool = False, log_feature_importance: bool = True
) -> None:
    """Record the settings, the best round, which features matter, and if asked the model."""
    if (run := run_for("log_summary()")) is None:
        return
    run.config.update(model.get_all_params() if log_all_params else model.get_params())
    best = {
        f"best_score-{data}-{name}": value for data, of in model.get_best_score().items() for name, value in of.items()
    }
    run.summary.update({"best_iteration": model.get_best_iteration(), **best})
    if log_feature_importance:
        log_importance(run, zip(model.feature_names_, map(float, model.feature_importances_), strict=True))
    if save_model_checkpoint:
        keep_model(run, model, "model.cbm", f"model_{run.id}")
