"""The tables of W&B's charts: what `wandb.plot.roc_curve(…)` and its like compute, without the drawing.

Columns, labels and rounding are W&B's, so that a table reads the same in both places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from lossbook.run import Table

#: Decimals of rates in a table.
_DECIMALS = 3


def line_series(
    xs: Iterable[Any],
    ys: Iterable[Iterable[Any]],
    keys: Iterable[str] | None = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,
) -> Table:
    """Several lines, a row a point.

    Args:
        xs: of all lines, or those of each.
        keys: the lines' names.
    """
    lines = [list(line) for line in ys]
    places = list(xs)
    each = [list(one) for one in places] if places and isinstance(places[0], Iterable) else [places] * len(lines)
    names = [f"line_{number}" for number in range(len(lines))] if keys is None else [str(key) for key in keys]
    rows = [
        [x, name, y]
        for name, x_of, line in zip(names, each, lines, strict=True)
        for x, y in zip(x_of, line, strict=True)
    ]
    return Table(columns=["step", "lineKey", "lineVal"], data=rows)


def confusion_matrix(
    probs: Sequence[Sequence[float]] | None = None,
    y_true: Sequence[Any] | None = None,
    preds: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
    split_table: bool = False,
) -> Table:
    """How often each class was taken for each.

    Args:
        probs: of each example, one for each class; or
        preds: the class that each was taken for.
    """
    truth = numpy.asarray(y_true)
    guessed = numpy.asarray(probs).argmax(axis=1) if preds is None else numpy.asarray(preds)
    if class_names is None:
        classes = sorted({*truth.tolist(), *guessed.tolist()})
        names = [f"Class_{number}" for number in range(1, len(classes) + 1)]
    else:
        classes, names = list(range(len(class_names))), [str(name) for name in class_names]
    rows: list[list[object]] = [
        [actual_name, guess_name, int(numpy.sum((truth == actual) & (guessed == guess)))]
        for actual, actual_name in zip(classes, names, strict=True)
        for guess, guess_name in zip(classes, names, strict=True)
    ]
    return Table(columns=["Actual", "Predicted", "nPredictions"], data=rows)


def roc_curve(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    title: str = "",
    split_table: bool = False,
) -> Table:
    """The rate of true over that of false positives, for each class."""
    rows: list[list[object]] = []
    for name, hits, misses in _counts(y_true, y_probas, labels, classes_to_plot):
        # A point between two others on a straight line adds nothing.
        bends = numpy.diff(hits, 2).astype(bool) | numpy.diff(misses, 2).astype(bool)
        kept = numpy.r_[True, bends, True] if len(hits) > 2 else numpy.ones(len(hits), bool)
        true_rate, false_rate = _rates(numpy.r_[0, hits[kept]]), _rates(numpy.r_[0, misses[kept]])
        rows += [[name, false, true] for false, true in zip(false_rate, true_rate, strict=True)]
    return Table(columns=["class", "fpr", "tpr"], data=rows)


def pr_curve(
    y_true: Sequence[Any],
    y_probas: Sequence[Sequence[float]] | None = None,
    labels: Sequence[str] | None = None,
    classes_to_plot: Sequence[Any] | None = None,
    interp_size: int = 21,
    title: str = "",
    split_table: bool = False,
) -> Table:
    """Precision at recalls from 1 to 0, for each class."""
    rows: list[list[object]] = []
    wanted = numpy.linspace(0, 1, interp_size)[::-1]
    for name, hits, misses in _counts(y_true, y_probas, labels, classes_to_plot):
        recall = numpy.r_[0, hits / max(hits[-1], 1)]
        precision = numpy.r_[1, hits / numpy.maximum(hits + misses, 1)]
        # The best precision that is to be had at this recall or at a higher one.
        best = numpy.maximum.accumulate(precision[::-1])[::-1]
        found = best[numpy.searchsorted(recall, wanted, side="left").clip(0, len(best) - 1)]
        rows += [
            [name, round(float(one), _DECIMALS), round(float(at), _DECIMALS)]
            for one, at in zip(found, wanted, strict=True)
        ]
    return Table(columns=["class", "precision", "recall"], data=rows)


def _counts(
    y_true: Sequence[Any], y_probas: Any, labels: Sequence[str] | None, chosen: Sequence[Any] | None
) -> Iterable[tuple[object, Any, Any]]:
    """Of each class its name, and how many hits and misses lie above each of its scores, the highest first."""
    truth, scores = numpy.asarray(y_true), numpy.asarray(y_probas, dtype=float)
    for number, value in enumerate(numpy.unique(truth).tolist()):
        if chosen is not None and value not in chosen:
            continue
        order = numpy.argsort(-scores[:, number], kind="stable")
        is_class = truth[order] == value
        ends = numpy.r_[numpy.flatnonzero(numpy.diff(scores[order, number])), len(order) - 1]
        hits = numpy.cumsum(is_class)[ends]
        name = labels[value] if labels is not None and isinstance(value, int) and value < len(labels) else value
        yield name, hits, 1 + ends - hits


def _rates(counts: Any) -> list[float]:
    return [round(float(count), _DECIMALS) for count in counts / max(counts[-1], 1)]
