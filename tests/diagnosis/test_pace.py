"""Stalls, falling throughput and straggling ranks, by the times and speeds of rows."""

from __future__ import annotations

import random

from rows import BEGIN, attempt, event, findings, kinds, row

from lossbook.diagnosis import Diagnosis
from lossbook.storage.scan import LoggedRow


def steady(steps: int, *, start: int = 0, begin: float = 0.0, pace: float = 1.0, rank: int = 0) -> list[LoggedRow]:
    return [row(start + at, {"train/loss": 2.0}, seconds=begin + pace * at, rank=rank) for at in range(steps)]


# -- stalled ------------------------------------------------------------------------------------------------------


def test_a_long_silence_between_two_rows_is_a_stall_with_both_ends() -> None:
    (one,) = findings([*steady(100), *steady(100, start=100, begin=100 + 2000)])
    assert (one.kind, one.severity, one.key, one.first_step, one.last_step) == ("stall", "error", "", 99, 100)
    assert (one.value, one.threshold) == (2001.0, 900.0)
    assert one.sentence == "the training logged nothing for 33m 21s after step 99"


def test_an_evaluation_of_minutes_is_no_stall() -> None:
    assert findings([*steady(100), *steady(100, start=100, begin=100 + 600)]) == []


def test_a_run_that_logs_once_in_ten_minutes_is_held_to_its_own_pace() -> None:
    assert findings([*steady(50, pace=600), *steady(50, start=50, begin=50 * 600 + 3000, pace=600)]) == []


def test_evaluations_that_take_long_each_time_are_no_stall_after_the_first() -> None:
    rows = [one for part in range(6) for one in steady(100, start=100 * part, begin=1800.0 * part)]
    assert [one.first_step for one in findings(rows)] == [99]


def test_the_time_before_the_first_rows_is_for_compilation() -> None:
    assert findings([*steady(2), *steady(100, start=2, begin=2400)]) == []


def test_silence_is_a_stall_while_the_run_goes_on_and_is_said_once() -> None:
    diagnosis = Diagnosis()
    assert diagnosis.feed(steady(100)) == []
    assert diagnosis.clock(BEGIN + 800_000_000) == []
    (one,) = diagnosis.clock(BEGIN + 1_200_000_000)
    assert one.sentence == "the training has logged nothing for 18m 21s after step 99"
    assert diagnosis.clock(BEGIN + 1_300_000_000) == []
    # The rows come again: the same finding, with its end.
    assert diagnosis.feed(steady(100, start=100, begin=1500)) == []
    (whole,) = diagnosis.findings()
    assert (whole.first_step, whole.last_step, whole.value) == (99, 100, 1401.0)


def test_the_time_between_two_attempts_is_no_stall() -> None:
    rows = [attempt(0), *steady(100), attempt(1, resume_step=99, seconds=9000)]
    rows += [one._replace(attempt=1) for one in steady(100, start=100, begin=9000)]
    assert findings(rows) == []


# -- throughput ---------------------------------------------------------------------------------------------------


def speeds(steps: int, speed: float, *, start: int = 0, seed: int = 0) -> list[LoggedRow]:
    chance = random.Random(seed)
    return [
        row(step, {"train/loss": 2.0, "tokens_per_second": speed * chance.uniform(0.75, 1.25)}, seconds=5.0 * step)
        for step in range(start, start + steps)
    ]


def test_a_speed_that_halves_is_found_with_both_speeds() -> None:
    (one,) = findings([*speeds(200, 10_000), *speeds(100, 4500, start=200)])
    assert (one.kind, one.severity, one.key) == ("throughput", "warning", "tokens_per_second")
    assert 190 < one.first_step < 210  # the first block that was slow as a whole or in most
    assert one.last_step > 280
    assert one.value < one.threshold < 10_000


def test_a_speed_that_varies_by_a_quarter_has_not_fallen() -> None:
    assert findings([*speeds(200, 10_000), *speeds(200, 8000, start=200, seed=1)]) == []


def test_a_slow_moment_is_no_fall() -> None:
    assert findings([*speeds(200, 10_000), *speeds(10, 1000, start=200), *speeds(200, 10_000, start=210)]) == []


def test_without_a_logged_speed_the_times_of_rows_tell() -> None:
    (one,) = findings([*steady(400), *steady(200, start=400, begin=400, pace=3)])
    assert (one.kind, one.key) == ("throughput", "")
    assert 384 <= one.first_step <= 448
    assert one.sentence.startswith("steps per second has fallen from 1 to 0.33")


def test_rows_of_an_import_that_all_have_one_time_tell_nothing() -> None:
    assert findings(row(step, {"train/loss": 2.0}, seconds=0.0) for step in range(500)) == []


# -- straggling rank ----------------------------------------------------------------------------------------------


def several(steps: int, slow: float, ranks: int = 4, key: str = "step_time") -> list[LoggedRow]:
    chance = random.Random(3)
    return [
        row(step, {key: chance.gauss(1.0, 0.05) * (slow if rank == 2 else 1.0)}, rank=rank)
        for step in range(steps)
        for rank in range(ranks)
    ]


def test_a_rank_that_takes_longer_than_the_others_is_named() -> None:
    (one,) = findings(several(300, slow=1.6))
    assert (one.kind, one.severity, one.key) == ("straggler", "warning", "step_time")
    assert one.sentence.startswith("rank 2 is slower than the others: step_time is 1.")
    assert {seen.rank for seen in one.evidence} == {2}


def test_a_rank_is_compared_by_the_key_that_the_run_calls_its_step_time() -> None:
    rows = several(300, slow=1.6, key="perf/fwd_dur")
    diagnosis = Diagnosis()
    diagnosis.feed(rows)
    assert diagnosis.findings() == []
    (hint,) = diagnosis.hints()
    assert "perf/fwd_dur is logged by several ranks and looks like a step time" in hint
    assert "role='step_time'" in hint

    said = event("define", {"pattern": "perf/*", "role": "step_time"})
    (one,) = findings([said, *rows])
    assert (one.kind, one.key) == ("straggler", "perf/fwd_dur")
    # A role that is said late holds from then on.
    assert kinds(findings([*rows[:400], said, *rows[400:]])) == ["straggler"]


def test_a_key_that_is_no_step_time_is_not_compared_though_its_name_speaks_of_one() -> None:
    said = event("define", {"pattern": "step_time", "role": "speed"})
    (one,) = findings([said, *several(300, slow=0.5)])
    assert one.sentence.startswith("rank 2 is slower")


def test_ranks_that_differ_by_little_do_not_straggle() -> None:
    assert findings(several(300, slow=1.15)) == []


def test_a_rank_whose_rows_stop_while_others_go_on_is_named_with_its_last_step() -> None:
    rows = [
        row(step, {"train/loss": 2.0}, rank=rank) for step in range(600) for rank in range(2) if rank == 0 or step < 200
    ]
    (one,) = findings(rows)
    assert (one.kind, one.severity, one.first_step) == ("straggler", "error", 199)
    assert one.sentence.startswith("rank 1 has logged nothing since step 199; others are at step ")


def test_a_rank_that_has_said_that_it_ended_does_not_straggle() -> None:
    rows = [row(step, {"train/loss": 2.0}, rank=rank) for step in range(200) for rank in range(2)]
    rows.append(event("finish", {"state": "finished"}, rank=1, seconds=199))
    rows += [row(step, {"train/loss": 2.0}) for step in range(200, 600)]
    assert findings(rows) == []


def test_ranks_that_log_now_and_then_do_not_straggle() -> None:
    rows = [
        row(step, {"train/loss": 2.0}, rank=rank)
        for step in range(900)
        for rank in range(2)
        if rank == 0 or step % 10 == 0
    ]
    assert kinds(findings(rows)) == []
