"""A run goes on where it was: counts exact, one clean line, and the gap in between told apart from work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments import last, one_clean_line, recorded, rows, track, train

import lossbook
from lossbook.errors import BadArgument
from lossbook.lm import ExperimentConfig, load_experiment_log


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_goes_on_from_the_state_in_its_checkpoint(store: Path) -> None:
    first = track(store)
    train(first, range(6))
    first.log_validation(val_loss=9.0)
    state = first.state_dict()
    train(first, range(6, 10))
    first.log_validation(val_loss=1.0)
    first.finish()
    second = track(store)
    second.load_state_dict(json.loads(json.dumps(state)))
    assert (second.gradient_steps, second.tokens_seen, second.iteration) == (6, 60, 5)
    train(second, range(6, 12))
    second.log_validation(val_loss=8.0)
    second.finish()
    one_clean_line(store, 12)
    assert rows(store, "val/loss", "val/runs_completed") == [(5, 9.0, 1), (11, 8.0, 2)]
    assert recorded(store).summary["final/best_val_loss"] == 8.0, "what a hidden row had is not the best"


def test_a_run_goes_on_where_nothing_but_its_id_is_known(store: Path) -> None:
    first = track(store, run_id="my-run")
    train(first, range(10))
    first.log_validation(val_loss=1.0)
    first.finish()
    second = track(store, run_id="my-run").start()
    train(second, range(6, 12))
    second.finish()
    one_clean_line(store, 12)
    third = track(store, run_id="my-run")
    train(third, range(12, 13))
    assert (third.gradient_steps, third.tokens_seen) == (13, 130)
    third.finish()
    one_clean_line(store, 13)


def test_what_is_hidden_after_going_on_by_the_id_is_not_the_best_either(store: Path) -> None:
    first = track(store, run_id="my-run")
    for step in range(10):
        first.log_train_step(loss=10.0 - step, iteration=step)
    first.finish()
    second = track(store, run_id="my-run")
    second.log_train_step(loss=6.5, iteration=4)
    second.finish()
    assert recorded(store).summary["final/best_train_loss"] == 6.5


def test_the_id_in_the_environment_will_do(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBOOK_RUN_ID", "my-run")
    for iterations in (range(4), range(2, 6), range(6, 8)):
        tracker = track(store)
        train(tracker, iterations)
        tracker.finish()
    one_clean_line(store, 8)


def test_the_step_of_the_checkpoint_and_the_id(store: Path) -> None:
    first = track(store, run_id="my-run")
    train(first, range(10))
    first.finish()
    second = track(store, run_id="my-run", resume_from_step=5)
    second.start()
    assert second.gradient_steps == 5
    train(second, range(5, 8))
    second.finish()
    one_clean_line(store, 8)


def test_the_step_of_the_checkpoint_alone_begins_a_run_that_counts_on(store: Path) -> None:
    config = ExperimentConfig(batch_size=2, context_length=5, gradient_accumulation_steps=1, track_memory=False)
    tracker = track(store, config, resume_from_step=100)
    assert tracker.gradient_steps == 100
    tracker.log_train_step(loss=1.0, tokens=10)
    tracker.finish()
    assert rows(store, "time/gradient_steps", "time/tokens_seen") == [(100, 101, 1010)]
    with pytest.raises(BadArgument, match="resume_from_step is a step, 0 or more, not -1"):
        track(store, resume_from_step=-1)


def test_a_validation_may_be_the_first_thing_after_going_on(store: Path) -> None:
    first = track(store, run_id="my-run")
    train(first, range(6))
    first.log_validation(val_loss=3.0)
    first.finish()
    second = track(store, run_id="my-run")
    second.log_validation(val_loss=2.5)
    train(second, range(6, 9))
    second.finish()
    one_clean_line(store, 9)
    assert [value for _, value in rows(store, "val/runs_completed")][-1] == 2
    assert recorded(store).summary["final/best_val_loss"] == 2.5


def test_twice_in_a_row_from_states(store: Path) -> None:
    state = None
    for iterations in (range(5), range(5, 9), range(7, 12)):
        tracker = track(store)
        if state is not None:
            tracker.load_state_dict(state)
        for iteration in iterations:
            train(tracker, range(iteration, iteration + 1))
            if iteration in (4, 6):
                state = tracker.state_dict()
        tracker.finish()
    one_clean_line(store, 12)
    assert len(recorded(store).attempts) == 3


def test_going_on_in_the_middle_of_an_accumulation_counts_no_step_twice(store: Path) -> None:
    config = ExperimentConfig(gradient_accumulation_steps=4, track_memory=False)
    first = track(store, config)
    for call in range(10):
        first.log_train_step(loss=1.0, tokens=1, iteration=call // 4, accumulation_step=call % 4)
    state = first.state_dict()
    first.finish()
    second = track(store, config)
    second.load_state_dict(state)
    for call in range(8, 16):
        second.log_train_step(loss=1.0, tokens=1, iteration=call // 4, accumulation_step=call % 4)
    assert second.gradient_steps == 4


def test_the_gap_between_attempts_is_in_elapsed_and_not_in_wallclock(store: Path) -> None:
    first = track(store)
    train(first, range(3))
    state = first.state_dict()
    first.finish()
    state["started"] -= 7200.0
    second = track(store)
    second.load_state_dict(state)
    train(second, range(3, 5))
    second.finish()
    assert second.wallclock_seconds > 0
    # The two hours are in the one and not in the other, however long the training itself took.
    assert second.elapsed_seconds - second.wallclock_seconds > 7000
    assert second.wallclock_seconds >= state["wallclock_seconds"]
    assert 2.0 <= last(store, "time/elapsed_hours") < 3.0
    assert last(store, "time/wallclock_hours") < 1.0


def test_a_state_that_is_none_is_refused(store: Path) -> None:
    tracker = track(store)
    for state in ({}, None, {"model": 1}, [1]):
        with pytest.raises(BadArgument, match="this is no state of an ExperimentTracker"):
            tracker.load_state_dict(state)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="has been changed"):
        tracker.load_state_dict({"gradient_steps": "many", "tokens_seen": 0})


def test_a_state_that_comes_too_late_gives_its_counts_and_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = track(store)
    train(first, range(3))
    state = first.state_dict()
    first.finish()
    second = track(store).start()
    second.load_state_dict(state)
    assert second.gradient_steps == 3
    assert "call it before start()" in capsys.readouterr().err


def test_tokens_stay_exact_when_the_next_attempt_has_other_ranks_or_batches(store: Path) -> None:
    config = ExperimentConfig(batch_size=2, context_length=4, track_memory=False)
    first = track(store, config, world_size=4)
    for iteration in range(10):
        first.log_metrics(iteration=iteration, train_loss=1.0)
        first.increment_gradient_step()
    assert first.tokens_seen == 10 * 8 * 4
    state = first.state_dict()
    first.finish()
    second = track(store, config.replace(batch_size=1), world_size=2)
    second.load_state_dict(state)
    for iteration in range(10, 15):
        second.log_metrics(iteration=iteration, train_loss=1.0)
        second.increment_gradient_step()
    assert second.tokens_seen == 10 * 8 * 4 + 5 * 4 * 2
    assert [step for _, step in rows(store, "time/gradient_steps")] == list(range(1, 16))


def test_a_loaded_log_goes_on_with_its_run(store: Path) -> None:
    first = track(store).start()
    for iteration in range(6):
        first.log_metrics(iteration=iteration, train_loss=6.0 - iteration)
        first.increment_gradient_step()
    first.finish()
    path = first.save()
    second = track(store)
    second.load_from_file(path)
    second.start()
    for iteration in range(6, 9):
        second.log_metrics(iteration=iteration, train_loss=6.0 - iteration)
        assert len(load_experiment_log(path).metrics_history) >= 6, "the file never has less than it had"
        assert len(json.loads(path.read_text())["metrics_history"]) >= 6
        second.increment_gradient_step()
    second.finish()
    assert second.save() == path
    log = load_experiment_log(path)
    assert [(one.iteration, one.gradient_step) for one in log.metrics_history] == [(n, n + 1) for n in range(9)]
    assert len(lossbook.open(store).runs()) == 1


def test_a_log_without_a_run_is_counted_on_from_and_left_as_it_is(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiment_logs" / "experiment_old_20250222_140530.json"
    path.parent.mkdir()
    entry = {"iteration": 99, "gradient_step": 50, "wallclock_time": 12.5, "train_loss": 3.0, "val_loss": None}
    path.write_text(json.dumps({"config": {"experiment_name": "old"}, "metrics_history": [entry]}))
    before = path.read_bytes()
    tracker = track(store, load_experiment_log(path).config)
    tracker.load_from_file(path)
    tracker.start()
    tracker.log_metrics(iteration=100, train_loss=2.9)
    tracker.finish()
    assert tracker.save() != path
    assert path.read_bytes() == before
    assert rows(store, "time/gradient_steps") == [(100, 51)]
    assert tracker.wallclock_seconds >= 12.5
