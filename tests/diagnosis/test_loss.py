"""Spikes, divergence and plateaus: found on real curves that have them, and on no real curve that is well."""

from __future__ import annotations

import math
import random

import pytest
from rows import attempt, curves, event, findings, kinds, learning, real_rows, row

CURVES = curves()
HEALTHY = [name for name, curve in CURVES.items() if not curve["expected"]]
ILL = [name for name, curve in CURVES.items() if curve["expected"]]


@pytest.mark.parametrize("mean_of", [1, 5, 10, 25])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_real_run_that_is_well_has_no_finding_however_it_is_averaged(name: str, mean_of: int) -> None:
    assert findings(real_rows(CURVES[name], mean_of=mean_of)) == []


@pytest.mark.parametrize("name", ILL)
def test_a_real_run_that_is_ill_has_the_findings_that_it_should(name: str) -> None:
    curve = CURVES[name]
    found = {one.kind: one for one in findings(real_rows(curve))}
    assert sorted(found) == sorted(curve["expected"])
    for kind, (earliest, latest) in curve["expected"].items():
        assert earliest <= found[kind].first_step <= latest, kind


# -- spikes -------------------------------------------------------------------------------------------------------


def test_one_row_far_above_all_others_is_a_spike_with_its_height_and_what_it_was_held_against() -> None:
    rows = [row(step, {"loss": 9.0 if step == 400 else loss}) for step, loss in learning(500)]
    (one,) = findings(rows)
    assert (one.kind, one.severity, one.key, one.first_step, one.last_step) == ("spike", "warning", "loss", 400, 400)
    assert one.value == 9.0
    assert 2.5 < one.threshold < 9.0
    assert "to 9 at step 400" in one.sentence


def test_several_rows_a_little_higher_are_a_spike_and_one_is_not() -> None:
    def run(raised: set[int]) -> list[str]:
        return kinds(findings(row(step, {"loss": loss + 2.2 * (step in raised)}) for step, loss in learning(500)))

    assert run({400}) == []
    assert run({400, 402, 405}) == ["spike"]


def test_two_spikes_far_apart_are_two_findings_and_rows_close_together_are_one() -> None:
    rows = [row(step, {"loss": loss + 9 * (step in (200, 203, 400))}) for step, loss in learning(500)]
    assert [(one.first_step, one.last_step) for one in findings(rows)] == [(200, 203), (400, 400)]


def test_a_spike_in_a_stage_that_has_just_begun_is_no_spike() -> None:
    rows = [row(step, {"loss": loss}) for step, loss in learning(300)]
    rows.append(event("stage", {"name": "full_ternary"}, seconds=300))
    rows += [row(step, {"loss": loss + 1.5}) for step, loss in learning(300, start=300)]
    assert findings(rows) == []


def test_a_heavy_tailed_loss_is_measured_by_its_own_tail() -> None:
    def heavy(step: int, loss: float) -> float:
        return loss * (2.2 if step % 97 == 0 else 1.0)

    assert findings(row(step, {"loss": heavy(step, loss)}) for step, loss in learning(3000)) == []


# -- divergence ---------------------------------------------------------------------------------------------------


def test_a_loss_that_goes_up_for_good_has_diverged_and_says_since_when() -> None:
    rows = [row(step, {"loss": loss + 0.02 * max(0, step - 300)}) for step, loss in learning(600)]
    (one,) = (found for found in findings(rows) if found.kind == "divergence")
    assert (one.severity, one.key) == ("error", "loss")
    assert 300 < one.first_step < 450
    assert one.last_step == 599
    assert one.value > one.threshold


def test_a_run_that_gives_back_less_than_half_of_what_it_learned_has_not_diverged() -> None:
    rows = [row(step, {"loss": loss + (0.5 if 300 < step < 400 else 0.0)}) for step, loss in learning(600)]
    assert "divergence" not in kinds(findings(rows))


def test_a_loss_that_can_be_negative_says_nothing_by_its_height() -> None:
    rows = [row(step, {"loss": math.sin(step / 150) - 0.5}) for step in range(3000)]
    assert findings(rows) == []


def test_noise_around_one_height_never_diverges_however_long_the_run() -> None:
    chance = random.Random(1)
    rows = (row(step, {"loss": chance.uniform(2, 3), "lr": 1e-3 / (1 + step)}) for step in range(30_000))
    assert findings(rows) == []


# -- plateau ------------------------------------------------------------------------------------------------------


def flat(steps: int, rate: float = 1e-3) -> list[dict[str, float]]:
    return [
        {"train/loss": 3.0 + loss - 1.5 - 4.0 * (1 + step / 20) ** -0.5, "lr": rate} for step, loss in learning(steps)
    ]


def test_a_loss_that_does_not_fall_is_on_a_plateau_and_one_finding_tells_of_all_of_it() -> None:
    (one,) = findings(row(step, metrics) for step, metrics in enumerate(flat(6000)))
    assert (one.kind, one.key) == ("plateau", "train/loss")
    assert one.first_step < 3000
    assert one.last_step > 5800


def test_a_short_run_is_not_judged() -> None:
    assert findings(row(step, metrics) for step, metrics in enumerate(flat(900))) == []


def test_a_loss_that_is_flat_because_the_rate_has_come_down_is_no_plateau() -> None:
    rates = [1e-3 * (1 if step < 300 else 0.1) for step in range(6000)]
    assert findings(row(step, metrics | {"lr": rates[step]}) for step, metrics in enumerate(flat(6000))) == []


def test_a_loss_that_is_flat_during_a_long_warm_up_is_no_plateau() -> None:
    assert findings(row(step, metrics | {"lr": 1e-9 * step}) for step, metrics in enumerate(flat(6000))) == []


def test_a_loss_that_falls_as_slowly_as_language_models_do_is_no_plateau() -> None:
    rows = [row(step, {"train/loss": 3.0 * (1 + step) ** -0.05, "lr": 1e-3}) for step in range(20_000)]
    assert findings(rows) == []


def test_a_fall_of_less_than_half_a_percent_that_is_sure_and_goes_on_is_no_plateau() -> None:
    chance = random.Random(3)

    def slow(rank: int) -> float:
        return 2.0 + 2.0 * (1000 * (rank + 1)) ** -0.25 + chance.gauss(0, 0.004)

    assert findings(row(1000 * at, {"train/loss": slow(at), "lr": 3e-4}) for at in range(6000)) == []


def test_a_loss_that_has_all_but_stopped_falling_is_on_a_plateau() -> None:
    chance = random.Random(4)
    rows = [row(at, {"loss": 2.0 + 5 * math.exp(-at / 300) + chance.gauss(0, 0.01), "lr": 1e-3}) for at in range(6000)]
    (one,) = findings(rows)
    assert one.kind == "plateau"
    assert one.last_step > 5800


@pytest.mark.parametrize("turn", [600, 1200, 2400])
def test_a_loss_that_falls_and_then_rises_was_on_no_plateau(turn: int) -> None:
    chance = random.Random(turn)

    def loss(at: int) -> float:
        fall = 2.0 + 3.0 * math.exp(-at / (0.4 * turn)) + 0.6 * math.exp(-at / (2 * turn))
        return fall + 0.002 * max(0, at - turn) ** 1.4 + chance.gauss(0, 0.05)

    found = kinds(findings(row(at, {"train/loss": loss(at), "lr": 1e-3}) for at in range(2 * turn)))
    assert "plateau" not in found
    assert "divergence" in found


# -- which key is the loss ----------------------------------------------------------------------------------------


def test_the_run_can_say_which_key_is_the_training_loss() -> None:
    said = event("define", {"pattern": "objective", "role": "train_loss"})
    rows = [row(step, {"objective": 9.0 if step == 400 else loss, "loss": 0.1}) for step, loss in learning(500)]
    assert kinds(findings(rows)) == []
    assert [(one.kind, one.key) for one in findings([said, *rows])] == [("spike", "objective")]


# -- attempts -----------------------------------------------------------------------------------------------------


def test_what_a_resume_has_taken_anew_is_not_found_any_more() -> None:
    rows = [attempt(0), *(row(step, {"loss": math.nan if step > 320 else loss}) for step, loss in learning(350))]
    assert kinds(findings(rows)) == ["nonfinite"]
    rows += [attempt(1, resume_step=300, seconds=400)]
    rows += [row(step, {"loss": loss}, seconds=100 + step, attempt=1) for step, loss in learning(200, start=301)]
    assert findings(rows) == []


def test_what_was_found_before_the_step_that_was_resumed_from_stays() -> None:
    rows = [attempt(0), *(row(step, {"loss": math.nan if step == 200 else loss}) for step, loss in learning(350))]
    rows += [attempt(1, resume_step=300, seconds=400)]
    rows += [row(step, {"loss": loss}, seconds=100 + step, attempt=1) for step, loss in learning(200, start=301)]
    assert [(one.kind, one.first_step) for one in findings(rows)] == [("nonfinite", 200)]


def test_an_attempt_that_does_not_say_where_it_resumed_hides_from_its_first_step_on() -> None:
    rows = [
        attempt(0),
        *(row(step, {"loss": math.nan if step in (200, 330) else loss}) for step, loss in learning(350)),
    ]
    rows += [attempt(1, seconds=400)]
    rows += [row(step, {"loss": loss}, seconds=100 + step, attempt=1) for step, loss in learning(200, start=301)]
    assert [(one.kind, one.first_step) for one in findings(rows)] == [("nonfinite", 200)]
