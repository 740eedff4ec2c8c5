"""NaN and infinity: the first key at the first step, and no alarm where such values are no fault."""

from __future__ import annotations

import math

import pytest
from rows import findings, row

from lossbook.storage.scan import LoggedRow


def training(steps: int, **bad: dict[int, float]) -> list[LoggedRow]:
    """Rows of three keys; `bad` has by key (dots for slashes) the steps at which it is something else."""
    rows = []
    for step in range(steps):
        metrics = {"train/loss": 2.0, "grad_norm": 1.0, "lr": 1e-3}
        for key, at in bad.items():
            if step in at:
                metrics[key.replace("_loss", "/loss")] = at[step]
        rows.append(row(step, metrics))
    return rows


def test_a_single_nan_loss_is_found_with_its_key_and_step() -> None:
    (one,) = findings(training(100, train_loss={60: math.nan}))
    assert (one.kind, one.severity, one.key, one.first_step, one.last_step) == (
        "nonfinite",
        "error",
        "train/loss",
        60,
        60,
    )
    assert math.isnan(one.value)
    assert one.sentence == "train/loss is NaN at step 60, the first that is not finite"
    assert [(seen.key, seen.step) for seen in one.evidence] == [("train/loss", 60)]


def test_the_key_that_was_first_is_named_and_those_that_followed_are_listed() -> None:
    rows = training(
        100, grad_norm=dict.fromkeys(range(40, 100), math.nan), train_loss=dict.fromkeys(range(41, 100), math.inf)
    )
    (one,) = findings(rows)
    assert (one.key, one.first_step, one.last_step) == ("grad_norm", 40, 99)
    assert one.sentence == "grad_norm is NaN at step 40, the first that is not finite; then train/loss"
    assert [(seen.key, seen.step) for seen in one.evidence] == [("grad_norm", 40), ("train/loss", 41)]


def test_a_loss_that_was_never_finite_is_found_too() -> None:
    (one,) = findings([row(0, {"loss": math.inf})])
    assert (one.key, one.first_step, one.value) == ("loss", 0, math.inf)


def test_nan_that_went_and_came_again_is_two_findings() -> None:
    found = findings(training(100, train_loss={10: math.nan, 11: math.nan, 70: math.nan}))
    assert [(one.first_step, one.last_step) for one in found] == [(10, 11), (70, 70)]


def test_a_rank_that_is_not_rank_0_is_named() -> None:
    (one,) = findings([row(5, {"train/loss": math.nan}, rank=3)])
    assert one.sentence.startswith("train/loss is NaN at step 5 on rank 3")
    assert one.evidence[0].rank == 3


def test_gradients_that_overflow_now_and_then_are_how_loss_scaling_works() -> None:
    assert findings(training(100, grad_norm={0: math.inf, 1: math.inf, 50: math.inf, 80: math.nan})) == []


def test_gradients_that_stay_infinite_are_found() -> None:
    (one,) = findings(training(100, grad_norm=dict.fromkeys(range(50, 53), math.inf)))
    assert (one.key, one.first_step, one.last_step) == ("grad_norm", 50, 52)


def test_a_key_that_always_is_nan_marks_what_was_not_measured() -> None:
    assert findings(row(step, {"train/loss": 2.0, "val/accuracy": math.nan}) for step in range(50)) == []


@pytest.mark.parametrize("key", ["train_perplexity", "val/perplexity", "ppl", "eval/ppl"])
def test_a_perplexity_too_large_for_a_float_is_no_fault(key: str) -> None:
    rows = [row(step, {"train_loss": 800.0, key: 5.0 if step < 9 else math.inf}) for step in range(50)]
    assert findings(rows) == []


def test_finite_values_whose_sum_overflows_are_finite() -> None:
    assert findings(row(step, {"a": 1.7e308, "b": 1.7e308, "train/loss": 2.0}) for step in range(20)) == []
