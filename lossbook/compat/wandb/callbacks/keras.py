"""`wandb.integration.keras`: the callbacks for Keras 3, and for the Keras in TensorFlow."""

from __future__ import annotations

import os
from typing import Any

try:
    from keras.callbacks import Callback, ModelCheckpoint
except ImportError:
    from tensorflow.keras.callbacks import Callback, ModelCheckpoint  # where that is the only one

from lossbook.compat.wandb.callbacks import run_for
from lossbook.integrations import harmless
from lossbook.run import Table

__all__ = ["WandbCallback", "WandbEvalCallback", "WandbKerasCallback", "WandbMetricsLogger", "WandbModelCheckpoint"]


class WandbMetricsLogger(Callback):  # type: ignore[misc]
    """Records what Keras measures: "epoch/loss" after each epoch, and "batch/loss" in between.

    Args:
        log_freq: "epoch", "batch", or every so many batches.
        initial_global_step: the number of the first batch, where a training goes on.
    """

    def __init__(self, log_freq: str | int = "epoch", initial_global_step: int = 0, *_: object, **__: object) -> None:
        super().__init__()
        self.every = 1 if log_freq == "batch" else log_freq if isinstance(log_freq, int) else 0
        self.global_step = initial_global_step

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Draw the epochs' metrics over epochs and the batches' over batches."""
        self.define_axes()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record a batch, where asked."""
        self.global_step += 1
        if self.every and batch % self.every == 0:
            self.record("batch", {"batch_step": self.global_step - 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record an epoch."""
        self.record("epoch", {"epoch": epoch, **(logs or {})})

    @harmless
    def define_axes(self) -> None:
        """The axes of both kinds."""
        if (run := run_for("WandbMetricsLogger")) is not None:
            run.define_metric("epoch/*", "epoch/epoch")
            if self.every:
                run.define_metric("batch/*", "batch/batch_step")

    @harmless
    def record(self, kind: str, values: dict[str, Any]) -> None:
        """One row, with the learning rate."""
        if (run := run_for("WandbMetricsLogger")) is None:
            return
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        if rate is not None and "learning_rate" not in values:
            rate = rate(self.global_step) if callable(rate) else rate
            # The tensor itself: a value on a device is fetched later, and the training does not wait for it.
            values["learning_rate"] = getattr(rate, "value", rate)
        run.log({f"{kind}/{name}": value for name, value in values.items() if value is not None})


class WandbModelCheckpoint(ModelCheckpoint):  # type: ignore[misc]
    """Keras' own `ModelCheckpoint`; each file that it writes is kept as an artifact."""

    def __init__(self, filepath: str | os.PathLike[str], *arguments: Any, **named: Any) -> None:
        super().__init__(filepath, *arguments, **named)
        self._written: float = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """As Keras', then keep a new file."""
        super().on_train_batch_end(batch, logs)
        if isinstance(self.save_freq, int):
            self.keep(self._current_epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """As Keras', then keep a new file."""
        super().on_epoch_end(epoch, logs)
        self.keep(epoch, logs)

    @harmless
    def keep(self, epoch: int, logs: dict[str, Any] | None) -> None:
        """Keep the file as an artifact, if it was written since."""
        path = str(self.filepath).format(epoch=epoch + 1, **(logs or {}))
        if not os.path.exists(path) or (written := os.path.getmtime(path)) == self._written:
            return
        self._written = written
        if (run := run_for("WandbModelCheckpoint")) is not None:
            run.log_artifact(path, name=f"run_{run.id}_model", type="model", aliases=["latest", f"epoch_{epoch}"])


class WandbCallback(Callback):  # type: ignore[misc]
    """The older callback: records each epoch under Keras' own names.

    Args:
        log_freq or log_batch_frequency: also record every so many batches.
        others: taken, and not used: `WandbModelCheckpoint` keeps models, `log()` takes images.
    """

    def __init__(self, *_: object, log_batch_frequency: int | None = None, **__: object) -> None:
        super().__init__()
        self.every = log_batch_frequency or 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record a batch, where asked."""
        if self.every and batch % self.every == 0:
            self.record(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record an epoch."""
        self.record({"epoch": epoch, **(logs or {})})

    @harmless
    def record(self, values: dict[str, Any]) -> None:
        """One row."""
        if (run := run_for("WandbCallback")) is not None:
            run.log(values)


WandbKerasCallback = WandbCallback


class WandbEvalCallback(Callback):  # type: ignore[misc]
    """A table of predictions after each epoch; a subclass fills it.

    Args:
        data_table_columns, pred_table_columns: of the table of the truth and of that of the predictions.
    """

    def __init__(self, data_table_columns: list[str], pred_table_columns: list[str], *_: object, **__: object) -> None:
        super().__init__()
        self.data_table_columns = data_table_columns
        self.pred_table_columns = pred_table_columns

    def add_ground_truth(self, logs: dict[str, Any] | None = None) -> None:
        """A subclass adds rows to `self.data_table`."""

    def add_model_predictions(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """A subclass adds rows to `self.pred_table`."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Log the truth."""
        self.init_data_table(self.data_table_columns)
        self.add_ground_truth(logs)
        self.log_data_table()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the predictions."""
        self.init_pred_table(self.pred_table_columns)
        self.add_model_predictions(epoch, logs)
        self.log_pred_table()

    def init_data_table(self, column_names: list[str]) -> None:
        """An empty table of the truth."""
        self.data_table = self.data_table_ref = Table(columns=list(column_names))

    def init_pred_table(self, column_names: list[str]) -> None:
        """An empty table of predictions."""
        self.pred_table = Table(columns=list(column_names))

    @harmless
    def log_data_table(self, name: str = "val", type: str = "dataset", table_name: str = "val_data") -> None:
        """Log the truth."""
        if (run := run_for("WandbEvalCallback")) is not None:
            run.log({table_name: self.data_table})

    @harmless
    def log_pred_table(
        self, type: str = "evaluation", table_name: str = "eval_data", aliases: list[str] | None = None
    ) -> None:
        """Log the predictions."""
        if (run := run_for("WandbEvalCallback")) is not None:
            run.log({table_name: self.pred_table})
