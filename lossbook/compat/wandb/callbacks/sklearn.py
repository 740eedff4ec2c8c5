"""`wandb.sklearn`: the plots of a classifier, logged as tables under W&B's keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lossbook.compat.wandb.callbacks import run_for
from lossbook.compat.wandb.charts import confusion_matrix, pr_curve, roc_curve
from lossbook.integrations import harmless
from lossbook.run import Table

__all__ = ["plot_classifier", "plot_confusion_matrix", "plot_precision_recall", "plot_roc"]


@harmless
def plot_confusion_matrix(
    y_true: Sequence[Any] | None = None,
    y_pred: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    *_: object,
    **__: object,
) -> None:
    """Log how often each class was taken for each, as "confusion_matrix"."""
    _log("confusion_matrix", lambda: confusion_matrix(y_true=y_true, preds=y_pred, class_names=labels))


@harmless
def plot_roc(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    plot_micro: bool = True,
    plot_macro: bool = True,
    classes_to_plot: Sequence[Any] | None = None,
) -> None:
    """Log the rates of true and false positives, as "roc"."""
    _log("roc", lambda: roc_curve(y_true, y_probas, labels, classes_to_plot))


@harmless
def plot_precision_recall(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    plot_micro: bool = True,
    classes_to_plot: Sequence[Any] | None = None,
) -> None:
    """Log precision over recall, as "precision_recall"."""
    _log("precision_recall", lambda: pr_curve(y_true, y_probas, labels, classes_to_plot))


def plot_classifier(
    model: object,
    X_train: object,
    X_test: object,
    y_train: object,
    y_test: Sequence[Any],
    y_pred: Sequence[Any],
    y_probas: Sequence[Sequence[float]],
    labels: Sequence[str] | None,
    *_: object,
    **__: object,
) -> None:
    """The three above, of the test's examples."""
    plot_confusion_matrix(y_test, y_pred, labels)
    plot_roc(y_test, y_probas, labels)
    plot_precision_recall(y_test, y_probas, labels)


def _log(key: str, make: Callable[[], Table]) -> None:
    if (run := run_for(f"wandb.sklearn of {key}")) is not None:
        run.log({key: make()})
