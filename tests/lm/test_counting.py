"""A gradient step is counted once, whatever shape the loop has; and the time of everything else is left out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from lossbook.lm.counters import GradientSteps, ManualStepCount, Progress, TrainingClock


def counts(accumulation: int, numbers: Iterable[int | None]) -> list[int]:
    """The count of gradient steps after each call."""
    steps, total, after = GradientSteps(accumulation), 0, []
    for number in numbers:
        total += steps.taken(number)
        after.append(total)
    return after


# -- gradient steps -----------------------------------------------------------------------------------------------


def test_micro_batches_numbered_from_0_are_one_step_each_cycle() -> None:
    assert counts(4, [0, 1, 2, 3, 0, 1, 2, 3]) == [0, 0, 0, 1, 1, 1, 1, 2]


def test_micro_batches_numbered_from_1_are_too() -> None:
    assert counts(4, [1, 2, 3, 4, 1, 2, 3, 4]) == [0, 0, 0, 1, 1, 1, 1, 2]


def test_a_call_without_a_number_is_a_step() -> None:
    assert counts(4, [None, None, None]) == [1, 2, 3]
    assert counts(1, [None, None, None]) == [1, 2, 3]


@pytest.mark.parametrize("left_over", [3, 4])
def test_the_number_left_over_from_the_inner_loop_is_a_step(left_over: int) -> None:
    assert counts(4, [left_over] * 3) == [1, 2, 3]


@pytest.mark.parametrize("always", [0, 1, 2])
def test_one_number_again_and_again_is_a_step_each_time(always: int) -> None:
    """The first cannot be told from a micro-batch; it is counted with the second."""
    assert counts(4, [always] * 4) == [0, 2, 3, 4]


def test_where_accumulation_is_not_configured_each_cycle_is_a_step_still() -> None:
    assert counts(1, [0, 1, 2, 3, 0, 1, 2, 3, 0]) == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert counts(1, [1, 2, 1, 2]) == [1, 1, 2, 2]
    assert counts(1, [0, 0, 0]) == [1, 2, 3]
    assert counts(1, [3, 3, 3]) == [1, 2, 3], "called once per step with the number left over"


def test_a_cycle_that_breaks_off_at_the_end_of_an_epoch_is_one_step() -> None:
    epoch = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert counts(4, epoch * 3)[-1] == 3 * 3 - 1, "the last one is counted when the next begins"
    assert counts(4, [*epoch * 3, 0])[-1] == 3 * 3
    assert counts(4, [*epoch, *epoch])[10:14] == [3, 3, 3, 4], "and afterwards micro-batches are no steps"


def test_one_micro_batch_left_at_the_end_of_an_epoch_does_not_make_steps_of_micro_batches() -> None:
    epoch = [0, 1, 2, 3, 0]
    assert counts(4, [*epoch, *epoch, 0])[-1] == 4


def test_more_micro_batches_than_configured_are_one_step_too() -> None:
    assert counts(4, [*range(8), *range(8)])[-1] == 2


def test_fewer_than_configured_are_counted_when_the_next_cycle_begins() -> None:
    assert counts(4, [0, 1] * 5) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@given(
    accumulation=st.integers(2, 8), first=st.integers(0, 1), cycles=st.lists(st.integers(2, 8), min_size=1, max_size=30)
)
def test_every_cycle_is_counted_once_however_long_it_is(accumulation: int, first: int, cycles: list[int]) -> None:
    numbers = [number for length in cycles for number in range(first, first + length)]
    after = counts(accumulation, [*numbers, first])
    assert after[-1] == len(cycles)
    assert after == sorted(after)


def test_a_restored_count_goes_on_with_a_new_cycle() -> None:
    before = GradientSteps(4)
    assert sum(before.taken(number) for number in [1, 2, 3, 4, 1, 2]) == 1
    after = GradientSteps(4)
    after.restore(before.plain())
    # The gradient of the cycle that was cut off is gone with the process.
    assert [after.taken(number) for number in [1, 2, 3, 4]] == [0, 0, 0, 1]


def test_a_restored_count_knows_that_calls_come_once_per_step() -> None:
    before = GradientSteps(4)
    for _ in range(3):
        before.taken(0)
    after = GradientSteps(4)
    after.restore(before.plain())
    assert [after.taken(0) for _ in range(3)] == [1, 1, 1]


def test_progress_comes_back_from_what_a_checkpoint_keeps() -> None:
    progress = Progress(iteration=9, gradient_steps=5, tokens_seen=2**40, wallclock_seconds=1.5, started=1e9)
    assert Progress.read(progress.plain()) == progress
    assert Progress.read({"tokens_seen": None, "unknown": 1}) == Progress()


# -- the training clock -----------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def spend(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lossbook.lm.counters.time", clock)
    return clock


@pytest.fixture
def training_clock(clock: Clock) -> TrainingClock:
    return TrainingClock()


def test_a_validation_in_its_context_is_no_training(clock: Clock, training_clock: TrainingClock) -> None:
    clock.spend(1.0)
    assert training_clock.trained() == 1.0
    training_clock.enter()
    clock.spend(5.0)
    training_clock.leave()
    assert training_clock.interrupted() == 5.0
    clock.spend(2.0)
    assert training_clock.trained() == 2.0
    assert training_clock.wallclock_seconds == 8.0, "but it is wallclock"


def test_a_validation_that_is_said_after_the_fact_is_no_training_either(
    clock: Clock, training_clock: TrainingClock
) -> None:
    clock.spend(1.0)
    training_clock.trained()
    clock.spend(5.0)
    assert training_clock.interrupted() == 5.0
    clock.spend(3.0)
    assert training_clock.interrupted() == 3.0, "a checkpoint after it is its own"
    clock.spend(2.0)
    assert training_clock.trained() == 2.0


def test_training_before_the_context_counts_as_training(clock: Clock, training_clock: TrainingClock) -> None:
    """A loop that logs every tenth step validates in between."""
    training_clock.trained()
    clock.spend(4.0)
    training_clock.enter()
    clock.spend(5.0)
    training_clock.leave()
    assert training_clock.interrupted() == 5.0
    clock.spend(1.0)
    assert training_clock.trained() == 5.0


def test_what_is_said_inside_its_context_is_left_out_once(clock: Clock, training_clock: TrainingClock) -> None:
    training_clock.enter()
    clock.spend(5.0)
    assert training_clock.interrupted() == 5.0
    training_clock.leave()
    clock.spend(2.0)
    assert training_clock.trained() == 2.0


def test_a_checkpoint_after_a_validation_that_was_said_inside_has_its_own_seconds(
    clock: Clock, training_clock: TrainingClock
) -> None:
    training_clock.enter()
    clock.spend(5.0)
    training_clock.interrupted()
    training_clock.leave()
    clock.spend(3.0)
    assert training_clock.interrupted() == 3.0
    clock.spend(2.0)
    assert training_clock.trained() == 2.0


def test_a_context_that_nobody_spoke_of_is_not_taken_for_a_later_one(
    clock: Clock, training_clock: TrainingClock
) -> None:
    training_clock.enter()
    clock.spend(5.0)
    training_clock.leave()
    clock.spend(1.0)
    assert training_clock.trained() == 1.0
    clock.spend(3.0)
    assert training_clock.interrupted() == 3.0
    assert training_clock.trained() == 0.0


def test_a_checkpoint_within_a_validation_is_left_out_once(clock: Clock, training_clock: TrainingClock) -> None:
    training_clock.enter()
    clock.spend(2.0)
    training_clock.enter()
    clock.spend(3.0)
    training_clock.leave()
    assert training_clock.interrupted() == 5.0, "asked within the outer one"
    clock.spend(1.0)
    training_clock.leave()
    clock.spend(4.0)
    assert training_clock.trained() == 4.0


def test_a_step_logged_within_a_context_is_not_left_out_twice(clock: Clock, training_clock: TrainingClock) -> None:
    training_clock.enter()
    clock.spend(5.0)
    training_clock.trained()
    clock.spend(1.0)
    training_clock.leave()
    clock.spend(2.0)
    assert training_clock.trained() == 2.0


def test_a_new_beginning_forgets_what_was(clock: Clock, training_clock: TrainingClock) -> None:
    clock.spend(9.0)
    training_clock.restart()
    clock.spend(1.0)
    assert training_clock.wallclock_seconds == 1.0
    assert training_clock.trained() == 1.0


# -- loops that count their gradient steps themselves ---------------------------------------------------------------


def steps_by_hand(rows: int, cycle: int, *, accumulation: int, first: bool) -> list[int]:
    """The gradient step of each row of a loop that counts one every `cycle` iterations, before or after it logs."""
    by_hand, counted, found = ManualStepCount(accumulation), 0, []
    for iteration in range(rows):
        due = (iteration + 1) % cycle == 0
        if first and due:
            by_hand.count()
            counted += 1
        found.append(by_hand.step_of(iteration, counted))
        if not first and due:
            by_hand.count()
            counted += 1
    return found


@pytest.mark.parametrize("first", [False, True], ids=["counts after logging", "counts before logging"])
def test_every_row_of_a_cycle_belongs_to_its_gradient_step(first: bool) -> None:
    assert steps_by_hand(12, 4, accumulation=4, first=first) == [1] * 4 + [2] * 4 + [3] * 4
    assert steps_by_hand(6, 1, accumulation=1, first=first) == [1, 2, 3, 4, 5, 6]


def test_without_a_configured_accumulation_the_second_count_tells_the_order() -> None:
    assert steps_by_hand(12, 4, accumulation=1, first=False) == [1] * 4 + [2] * 4 + [3] * 4
    counted_first = steps_by_hand(16, 4, accumulation=1, first=True)
    assert counted_first[8:] == [3] * 4 + [4] * 4


def test_a_restored_count_by_hand_goes_on_where_it_was() -> None:
    by_hand = ManualStepCount(2)
    for iteration in range(3):
        by_hand.step_of(iteration, iteration // 2)
        if iteration % 2:
            by_hand.count()
    again = ManualStepCount(2)
    again.restore(by_hand.plain())
    assert [again.step_of(3, 1), again.step_of(4, 2)] == [by_hand.step_of(3, 1), by_hand.step_of(4, 2)]
