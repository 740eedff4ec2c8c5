"""`wandb.integration.sb3`: the callback for Stable-Baselines3.

What the library logs itself comes through its TensorBoard writer (`sync_tensorboard`), as with W&B.
"""

from __future__ import annotations

import os

from stable_baselines3.common.callbacks import BaseCallback

from lossbook.compat.wandb.callbacks import run_for, settings_of
from lossbook.integrations import harmless

__all__ = ["WandbCallback"]


class WandbCallback(BaseCallback):  # type: ignore[misc]
    """Records the algorithm's settings and, if asked, its model and gradients.

    Args:
        model_save_path: a folder; the model is kept as `model.zip` in it and in the run.
        model_save_freq: every so many calls; 0 for the end alone.
        gradient_save_freq: as `log_freq` of `watch`; 0 for none.
        log: as of `watch`.
    """

    def __init__(
        self,
        verbose: int = 0,
        model_save_path: str | None = None,
        model_save_freq: int = 0,
        gradient_save_freq: int = 0,
        log: str | None = "all",
    ) -> None:
        super().__init__(verbose)
        self.model_save_path = model_save_path
        self.model_save_freq = model_save_freq
        self.gradient_save_freq = gradient_save_freq
        self.log = log
        self.path = os.path.join(model_save_path, "model.zip") if model_save_path else ""

    @harmless
    def _init_callback(self) -> None:
        if (run := run_for("WandbCallback")) is None:
            return
        run.config.update({"algo": type(self.model).__name__, **settings_of(vars(self.model))})
        if self.gradient_save_freq > 0:
            run.watch(self.model.policy, log_freq=self.gradient_save_freq, log=self.log)

    def _on_step(self) -> bool:
        if self.path and self.model_save_freq > 0 and self.n_calls % self.model_save_freq == 0:
            self.save_model()
        return True

    def _on_training_end(self) -> None:
        if self.path:
            self.save_model()

    @harmless
    def save_model(self) -> None:
        """Write the model, and keep it in the run."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.model.save(self.path)
        if (run := run_for("WandbCallback")) is not None:
            run.save(self.path, self.model_save_path)
