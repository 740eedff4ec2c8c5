"""The tables of W&B's charts are W&B's own tables, without the drawing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy
import pytest

import lossbook
import lossbook.wandb as door
from lossbook.compat.wandb import charts


@pytest.fixture(autouse=True)
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))


TRUTH = [0, 1, 1, 0, 1, 0, 1, 1]
PROBABILITIES = [[1 - p, p] for p in (0.1, 0.8, 0.4, 0.35, 0.9, 0.5, 0.5, 0.7)]


def tables(name: str, *arguments: Any, **named: Any) -> tuple[Any, Any]:
    """Lossbook's table and W&B's, of the same numbers."""
    wandb = pytest.importorskip("wandb")
    theirs = getattr(wandb.plot, name)(*arguments, **named).table
    ours = getattr(door.plot, name)(*arguments, **named)
    return (ours.columns, ours.data), (theirs.columns, [list(row) for row in theirs.data])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("line_series", {"xs": [0, 1], "ys": [[1, 2], [3, 4]], "keys": ["a", "b"], "title": "t", "xname": "x"}),
        ("line_series", {"xs": [[0, 1], [5, 6, 7]], "ys": [[1, 2], [3, 4, 5]]}),
        ("confusion_matrix", {"y_true": [0, 1, 1, 2], "preds": [0, 1, 0, 2], "class_names": ["a", "b", "c"]}),
        ("confusion_matrix", {"y_true": [0, 1, 1, 2], "preds": [0, 1, 0, 2]}),
        ("confusion_matrix", {"y_true": [0, 1], "probs": [[0.9, 0.1], [0.2, 0.8]], "class_names": ["a", "b"]}),
    ],
)
def test_the_table_of_a_chart_is_wandbs(name: str, named: dict[str, Any]) -> None:
    ours, theirs = tables(name, **named)
    assert ours == theirs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("named", [{}, {"labels": ["no", "yes"]}, {"classes_to_plot": [1]}])
def test_the_curves_of_a_classifier_are_wandbs(named: dict[str, Any]) -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("W&B computes them with scikit-learn, which is not installed")
    for name in ("roc_curve", "pr_curve"):
        ours, theirs = tables(name, TRUTH, PROBABILITIES, **named)
        assert ours == theirs, name


def test_the_curves_of_a_classifier_by_hand() -> None:
    truth, probabilities = [0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]
    roc = charts.roc_curve(truth, probabilities, labels=["no", "yes"], classes_to_plot=[1])
    assert roc.columns == ["class", "fpr", "tpr"]
    assert roc.data == [["yes", 0.0, 0.0], ["yes", 0.0, 0.5], ["yes", 0.5, 0.5], ["yes", 0.5, 1.0], ["yes", 1.0, 1.0]]
    curve = charts.pr_curve(numpy.array(truth), numpy.array(probabilities), classes_to_plot=[1], interp_size=3)
    assert curve.data == [[1, 0.667, 1.0], [1, 1.0, 0.5], [1, 1.0, 0.0]]


def test_what_no_table_can_be_made_of_is_said_and_the_training_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    made = door.plot.roc_curve([0, 1], None)
    assert "plot.roc_curve is not supported and is not kept: no table could be made" in capsys.readouterr().err
    assert made.event("roc").kind == "warning"


def test_the_plots_of_a_classifier_are_logged_under_wandbs_keys(store: Path) -> None:
    run = door.init(project="p", console=False)
    labels = ["no", "yes"]
    door.sklearn.plot_classifier(None, None, None, None, TRUTH, [0, 1, 0, 0, 1, 1, 1, 1], PROBABILITIES, labels, True)
    door.sklearn.plot_learning_curve(None, None, None)
    run.finish()
    (found,) = lossbook.open(str(store)).runs()
    text = "".join(path.read_text() for path in Path(found.path).rglob("*.jsonl"))
    assert [text.count(f'"{key}"') > 0 for key in ("confusion_matrix", "roc", "precision_recall")] == [True] * 3
