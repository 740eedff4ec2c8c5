"""What a training loop of a language model tells is counted exactly, and is there afterwards."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from experiments import last, recorded, rows, track, train

import lossbook
from lossbook.lm import ExperimentConfig, load_experiment_log


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- what is logged -----------------------------------------------------------------------------------------------


def test_a_training_step_logs_loss_times_and_throughput(store: Path) -> None:
    config = ExperimentConfig(model_size="17M", dataset="tinystories", learning_rate=3e-4, num_iterations=50)
    tracker = track(store, config)
    for step in range(10):
        time.sleep(0.001)  # a step takes a while
        tracker.log_train_step(loss=2.0, learning_rate=3e-4, grad_norm=0.5, tokens=1024, iteration=step)
    tracker.finish()
    run = recorded(store)
    assert run.name == config.name
    assert run.tags == ["17M", "tinystories", "baseline"]
    assert run.config["learning_rate"] == 3e-4
    row = run.history(start=9).dicts()[0]
    expected = {
        "train/loss": 2.0,
        "train/perplexity": math.exp(2.0),
        "train/learning_rate": 3e-4,
        "train/grad_norm": 0.5,
        "time/gradient_steps": 10,
        "time/tokens_seen": 10240,
        "progress/completion_pct": 20.0,
    }
    assert {key: row[key] for key in expected} == expected
    for key in ("time/wallclock_hours", "progress/estimated_hours_remaining", "throughput/steps_per_hour"):
        assert row[key] > 0
    assert 0 < row["throughput/tokens_per_second"] < 1024 / 0.001
    assert row["throughput/steps_per_hour"] == pytest.approx(row["throughput/tokens_per_second"] / 1024 * 3600)
    # Four fifths are left; the rate is that of the steps so far.
    assert row["progress/estimated_hours_remaining"] == pytest.approx(4 * row["time/wallclock_hours"], rel=0.05)
    for key in ("used_gb", "total_gb", "percent"):
        assert last(store, f"memory/system_memory_{key}") > 0


def test_a_validation_a_checkpoint_and_a_metric_of_ones_own(store: Path) -> None:
    tracker = track(store)
    tracker.log_train_step(loss=3.0, iteration=7, tokens=10)
    tracker.log_validation(val_loss=3.5, num_batches=20)
    tracker.log_checkpoint("checkpoints/7.pt", is_best=True)
    tracker.log_custom_metric("my_metric", value=0.95)
    tracker.stage("full_ternary")
    tracker.log_validation(val_loss=3.25, val_perplexity=26.0)
    tracker.finish()
    assert rows(store, "val/loss", "val/train_val_gap", "val/runs_completed") == [(7, 3.5, 0.5, 1), (7, 3.25, 0.25, 2)]
    assert [perplexity for _, perplexity in rows(store, "val/perplexity")] == [math.exp(3.5), 26.0]
    assert rows(store, "val/num_batches") == [(7, 20)]
    assert rows(store, "time/gradient_steps_at_val") == [(7, 1), (7, 1)]
    assert all(hours > 0 for _, hours in rows(store, "time/wallclock_hours_at_val"))
    assert all(seconds >= 0 for _, seconds in rows(store, "val/eval_time_seconds"))
    assert rows(store, "checkpoint/saved", "checkpoint/gradient_steps", "checkpoint/is_best") == [(7, 1, 1, 1)]
    assert last(store, "checkpoint/wallclock_hours") > 0
    assert rows(store, "custom/my_metric") == [(7, 0.95)]
    (checkpoint,) = recorded(store).events("checkpoint")
    assert checkpoint["value"] == {"path": os.path.abspath("checkpoints/7.pt"), "is_best": True}
    assert [event["value"] for event in recorded(store).events("stage")] == [{"name": "full_ternary"}]


def test_memory_is_not_logged_when_it_is_turned_off(store: Path) -> None:
    tracker = track(store, ExperimentConfig(track_memory=False))
    tracker.log_train_step(loss=1.0)
    tracker.finish()
    assert not [key for key in recorded(store).metrics if key.startswith("memory/")]


def test_the_learning_rates_of_all_parameter_groups_are_logged_where_they_differ(store: Path) -> None:
    tracker = track(store)
    tracker.log_train_step(loss=1.0, learning_rate=[0.1, 0.01])
    tracker.log_train_step(loss=1.0, learning_rate=[{"lr": 0.2, "params": []}, {"lr": 0.2, "params": []}])
    tracker.log_train_step(loss=1.0, learning_rate=[])
    tracker.finish()
    assert rows(store, "train/learning_rate") == [(0, 0.1), (1, 0.2)]
    assert rows(store, "train/learning_rate/group_1") == [(0, 0.01)]


def test_a_perplexity_too_large_for_a_float_is_infinity(store: Path) -> None:
    tracker = track(store)
    for loss in (700.0, 800.0, math.inf, -math.inf):
        tracker.log_train_step(loss=loss)
    tracker.finish()
    assert [value for _, value in rows(store, "train/perplexity")] == [math.exp(700.0), math.inf, math.inf, 0.0]


def test_a_loss_that_is_not_finite_is_logged_and_never_the_best(store: Path) -> None:
    tracker = track(store)
    for loss in (math.nan, 2.0, math.nan, math.inf, -math.inf):
        tracker.log_train_step(loss=loss)
        tracker.log_validation(val_loss=math.nan)
    tracker.finish()
    losses = [value for _, value in rows(store, "train/loss")]
    assert math.isnan(losses[0])
    assert losses[3:] == [math.inf, -math.inf]
    assert recorded(store).summary["final/best_train_loss"] == 2.0
    assert "final/best_val_loss" not in recorded(store).summary
    assert math.isnan(recorded(store).summary["final/val_loss"])
    json.dumps(tracker.state_dict(), allow_nan=False)


def test_the_finals_are_a_summary_and_no_series(store: Path) -> None:
    tracker = track(store)
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        tracker.log_train_step(loss=loss, tokens=10, iteration=step)
        tracker.log_validation(val_loss=loss + 1)
    tracker.finish(val_loss=2.5, notes="as expected")
    summary = recorded(store).summary
    assert (summary["final/best_train_loss"], summary["final/train_loss"]) == (1.0, 2.0)
    assert (summary["final/best_val_loss"], summary["final/val_loss"]) == (2.0, 2.5)
    assert summary["final/best_val_perplexity"] == math.exp(2.0)
    assert (summary["final/gradient_steps"], summary["final/tokens_seen"]) == (3, 30)
    assert summary["final/training_seconds"] > 0
    assert not [key for key in recorded(store).metrics if key.startswith("final/")]
    assert [event["value"]["text"] for event in recorded(store).events("note")] == ["as expected"]


def test_what_is_no_number_costs_itself_and_not_the_row(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = track(store)
    for loss in ("n/a", None, [1.0, 2.0], object()):
        tracker.log_train_step(loss=loss, grad_norm=1.0, tokens=10)
        tracker.log_validation(val_loss=loss, num_batches=2)
    tracker.log_metrics(iteration=4, train_loss="n/a", learning_rate=0.1)
    tracker.log_train_step(loss=1.0, tokens="many")  # type: ignore[arg-type]
    tracker.increment_gradient_step("one")  # type: ignore[arg-type]
    tracker.finish(train_loss="n/a")
    assert [step for step, _ in rows(store, "train/grad_norm")] == [0, 1, 2, 3]
    assert len(rows(store, "val/num_batches")) == 4
    assert rows(store, "train/learning_rate") == [(4, 0.1)]
    assert recorded(store).state == "finished"
    assert "could not record everything" in capsys.readouterr().err


# -- tensors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_tensors_are_taken_as_they_are(store: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tracker = track(store)
    loss = torch.tensor(11.5, dtype=getattr(torch, dtype), requires_grad=True)
    tracker.log_train_step(loss=loss, grad_norm=torch.tensor(0.5), iteration=torch.tensor(3))
    tracker.log_validation(val_loss=loss + 1)
    tracker.finish()
    assert rows(store, "train/loss", "train/grad_norm") == [(3, 11.5, 0.5)]
    # As float16 it would be infinite.
    assert rows(store, "train/perplexity") == [(3, math.exp(11.5))]
    assert rows(store, "val/train_val_gap") == [(3, 1.0)]
    assert recorded(store).summary["final/best_val_loss"] == 12.5


def test_the_graph_of_a_loss_is_neither_changed_nor_kept(store: Path) -> None:
    torch = pytest.importorskip("torch")
    import weakref

    tracker = track(store)
    weight = torch.tensor(3.0, requires_grad=True)

    class Loss(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(context: Any, weight: Any) -> Any:
            context.kept = activations = torch.zeros(1000)
            alive.append(weakref.ref(activations))
            return weight**2

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            return gradient * 2 * 3.0

    alive: list[Any] = []
    loss = Loss.apply(weight)
    tracker.log_train_step(loss=loss)
    tracker.log_validation(val_loss=loss)
    loss.backward()
    assert weight.grad.item() == 6.0
    del loss
    import gc

    gc.collect()
    assert alive[0]() is None, "a loss that is kept would keep its activations"


def test_a_loss_that_is_changed_in_place_afterwards_stays_as_it_was_logged(store: Path) -> None:
    torch = pytest.importorskip("torch")
    tracker = track(store)
    total = torch.tensor(2.0)
    tracker.log_train_step(loss=total)
    total.zero_()
    tracker.log_validation(val_loss=3.0)
    tracker.finish()
    assert rows(store, "val/train_val_gap") == [(0, 1.0)]
    assert recorded(store).summary["final/train_loss"] == 2.0


def test_a_state_in_a_checkpoint_is_read_by_torch_without_trust(store: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    numpy = pytest.importorskip("numpy")
    tracker = track(store)
    for step in range(5):
        tracker.log_train_step(loss=torch.tensor(5.0 - step), tokens=numpy.int64(8), iteration=numpy.int64(step))
    torch.save({"tracker": tracker.state_dict()}, tmp_path / "5.pt")
    tracker.finish()
    state = torch.load(tmp_path / "5.pt", weights_only=True)["tracker"]
    resumed = track(store)
    resumed.load_state_dict(state)
    assert (resumed.gradient_steps, resumed.tokens_seen, resumed.iteration) == (5, 40, 4)
    assert json.loads(json.dumps(state)) == state


def test_nothing_waits_for_a_value_on_a_device() -> None:
    """A tensor on the meta device has no value: whatever reads one fails."""
    torch = pytest.importorskip("torch")
    from lossbook.lm.device_scalars import add_learning_rates, detached, difference, exponential, least

    loss = torch.ones((), device="meta", dtype=torch.float16, requires_grad=True)
    with pytest.raises(RuntimeError):
        loss.detach().item()
    kept = detached(loss)
    assert not kept.requires_grad
    assert exponential(kept).dtype == torch.float32, "e to the 12 is too large for half precision"
    assert difference(kept, 2.0).device.type == "meta"
    for best, value in ((math.nan, kept), (3.0, kept), (kept, 3.0), (kept, kept)):
        assert least(best, value).dtype == torch.float32
    row: dict[str, Any] = {}
    add_learning_rates(row, [kept, kept])
    assert list(row) == ["train/learning_rate", "train/learning_rate/group_0", "train/learning_rate/group_1"]


# -- time and throughput ------------------------------------------------------------------------------------------


def test_validation_and_checkpoint_time_is_kept_out_of_training_throughput(store: Path) -> None:
    tracker = track(store)
    tracker.log_train_step(loss=1.0, tokens=1000)
    with tracker.validating():
        time.sleep(0.3)  # the pauses are what is measured: the validation,
    tracker.log_validation(val_loss=1.0)
    time.sleep(0.3)  # the checkpoint,
    tracker.log_checkpoint("a.pt")
    tracker.log_train_step(loss=1.0, tokens=1000)
    time.sleep(0.3)  # and a validation that nothing announced
    tracker.log_validation(val_loss=1.0)
    tracker.log_train_step(loss=1.0, tokens=1000)
    tracker.finish()
    seconds = [1000 / rate for _, rate in rows(store, "throughput/tokens_per_second")][1:]
    wallclock = 3600 * last(store, "time/wallclock_hours")
    assert wallclock >= 0.9
    # 0.9 of those seconds were none of training's; each step's own are what is left between the two.
    assert sum(seconds) <= wallclock - 0.9 + 0.001
    assert all(3600 / rate <= wallclock - 0.9 + 0.001 for _, rate in rows(store, "throughput/steps_per_hour")[1:])
    assert all(seconds >= 0.3 for _, seconds in rows(store, "val/eval_time_seconds"))


def test_steps_per_hour_counts_gradient_steps_and_not_micro_batches(store: Path) -> None:
    tracker = track(store, ExperimentConfig(gradient_accumulation_steps=4, track_memory=False))
    for step in range(3):
        for micro in range(4):
            time.sleep(0.002)  # a micro-batch takes a while
            tracker.log_train_step(loss=1.0, tokens=10, iteration=step, accumulation_step=micro)
    tracker.finish()
    assert tracker.gradient_steps == 3
    assert tracker.tokens_seen == 120
    per_hour = rows(store, "throughput/steps_per_hour")
    assert len(per_hour) == 3
    assert all(rate <= 3600 / (4 * 0.002) for _, rate in per_hour)
    assert all(rate <= 10 / 0.002 for _, rate in rows(store, "throughput/tokens_per_second"))


def test_utilisation_is_the_models_flops_over_the_peak(store: Path) -> None:
    shape = {"vocab_size": 1000, "context_length": 64, "d_model": 32, "num_layers": 2, "num_heads": 4}
    tracker = track(store, ExperimentConfig(track_memory=False, **shape), peak_flops=1e9, world_size=2)
    for step in range(3):
        tracker.log_train_step(loss=1.0, tokens=512, iteration=step)
    tracker.finish()
    per_second, utilisation = rows(store, "throughput/tokens_per_second", "throughput/mfu")[-1][1:]
    # GPT-2's shape: 12·L·d² weights in matrices, their biases and norms (13·d a block, 2·d at the end), the tied head;
    # positions (T·d) are looked up, and cost nothing.
    weights = 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32 + 1000 * 32
    per_token = 6 * weights + 12 * 2 * 32 * 64
    assert utilisation == pytest.approx(100 * per_second * per_token / (2 * 1e9))
    assert last(store, "throughput/flops_seen") == pytest.approx(per_token * 3 * 512 * 2)
    per_gpu = rows(store, "throughput/tokens_per_second", "throughput/tokens_per_second_per_gpu")[-1]
    assert per_gpu[2] == per_gpu[1] / 2


def test_utilisation_is_left_out_where_the_peak_is_not_known(store: Path) -> None:
    tracker = track(store)
    tracker.log_train_step(loss=1.0, tokens=512)
    tracker.finish()
    assert "throughput/mfu" not in recorded(store).metrics


def test_a_model_that_is_not_what_its_configuration_says_is_named(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(100, 100)
    config = ExperimentConfig(vocab_size=1000, context_length=64, d_model=32, num_layers=2, num_heads=4)
    tracker = track(store, config, model=model)
    assert tracker.parameters == 10_100
    said = capsys.readouterr().err
    assert "the model has 10,100 parameters, but its configuration means 59" in said
    assert "check vocab_size" in said
    tracker.log_train_step(loss=1.0)
    assert recorded(store).config["parameters"] == 10_100
    assert track(store, model=object()).parameters is None
    assert capsys.readouterr().err == ""


# -- the course's vocabulary --------------------------------------------------------------------------------------


def test_iterations_and_gradient_steps_differ_with_accumulation(store: Path) -> None:
    config = ExperimentConfig(batch_size=2, context_length=8, gradient_accumulation_steps=4, track_memory=False)
    tracker = track(store, config).start()
    for iteration in range(12):
        tracker.log_metrics(iteration=iteration, train_loss=5.0 - iteration / 10, learning_rate=1e-3, iter_time_ms=2.0)
        if (iteration + 1) % 4 == 0:
            tracker.increment_gradient_step()
        if (iteration + 1) % 6 == 0:
            tracker.log_eval(iteration=iteration, train_loss=4.5, val_loss=4.75)
    tracker.finish(train_loss=4.0, val_loss=4.2, notes="with accumulation")
    log = load_experiment_log(tracker.save())
    train_rows = [one for one in log.metrics_history if one.learning_rate is not None]
    assert [one.iteration for one in train_rows] == list(range(12))
    assert [one.gradient_step for one in train_rows] == [1] * 4 + [2] * 4 + [3] * 4
    evaluations = [one for one in log.metrics_history if one.val_loss is not None]
    assert [(one.iteration, one.train_loss, one.val_loss) for one in evaluations] == [(5, 4.5, 4.75), (11, 4.5, 4.75)]
    assert (log.final_train_loss, log.final_val_loss, log.best_val_loss, log.notes) == (
        4.0,
        4.2,
        4.2,
        "with accumulation",
    )
    assert tracker.tokens_seen == 12 * 16
    assert log.problems == []
    assert log.duration_seconds == pytest.approx(tracker.wallclock_seconds)


def test_without_accumulation_a_step_is_counted_before_or_after_it_is_logged(store: Path) -> None:
    for before in (True, False):
        tracker = track(store)
        for iteration in range(4):
            if before:
                tracker.increment_gradient_step()
            tracker.log_metrics(iteration=iteration, train_loss=1.0)
            if not before:
                tracker.increment_gradient_step()
        tracker.finish()
        assert [step for _, step in rows(store, "time/gradient_steps")] == [1, 2, 3, 4]


def test_a_log_that_was_saved_once_keeps_its_rows(store: Path) -> None:
    tracker = track(store).start()
    for iteration in range(4):
        tracker.log_metrics(iteration=iteration, train_loss=1.0)
        path = tracker.save()
    tracker.finish(notes="done")
    written = json.loads(path.read_text())
    assert len(written["metrics_history"]) == 4
    assert written["notes"] == "done"
    assert written["end_time"] is not None


# -- the end ------------------------------------------------------------------------------------------------------


def test_a_second_finish_does_nothing(store: Path) -> None:
    tracker = track(store)
    train(tracker, range(2))
    tracker.finish(notes="first")
    seconds = tracker.wallclock_seconds
    tracker.finish(notes="second", train_loss=0.0, state="failed")
    assert tracker.wallclock_seconds == seconds
    assert recorded(store).state == "finished"
    assert recorded(store).summary["final/train_loss"] == 1.0


def test_an_exception_in_the_context_fails_the_run_with_its_finals(store: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with track(store) as tracker:
            train(tracker, range(3))
            tracker.log_validation(val_loss=1.5)
            raise ZeroDivisionError("a batch of no tokens")
    tracker.finish()
    run = recorded(store)
    assert run.state == "failed"
    assert "a batch of no tokens" in str(run.error)
    assert run.summary["final/best_val_loss"] == 1.5
    log = load_experiment_log(tracker.log_path)
    assert log.best_val_loss == 1.5
    assert len(log.metrics_history) == 4


def test_the_context_finishes_what_went_well(store: Path) -> None:
    with track(store) as tracker:
        train(tracker, range(3))
    assert recorded(store).state == "finished"
    assert recorded(store).summary["final/gradient_steps"] == 3


def test_many_trackers_in_one_process_one_after_another(store: Path) -> None:
    for rate in (1e-4, 6e-4, 1e-3):
        for batch_size in (32, 64):
            config = ExperimentConfig(
                experiment_name=f"lr_{rate:.0e}_bs_{batch_size}",
                max_learning_rate=rate,
                batch_size=batch_size,
                track_memory=False,
            )
            tracker = track(store, config).start()
            tracker.log_metrics(iteration=0, train_loss=rate, learning_rate=rate)
            tracker.finish()
            tracker.save()
    runs = lossbook.open(store).runs()
    assert len({run.name for run in runs}) == 6
    assert all(run.state == "finished" for run in runs)
    assert all(run.metrics["train/loss"]["last"] == run.config["learning_rate"] for run in runs)


def test_two_trackers_at_once_do_not_mix(store: Path) -> None:
    one, two = track(store, {"experiment_name": "one"}), track(store, {"experiment_name": "two"})
    for step in range(3):
        one.log_train_step(loss=1.0, iteration=step)
        two.log_train_step(loss=2.0, iteration=step)
    one.finish()
    two.finish()
    assert rows(store, "train/loss", ref="one") == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert rows(store, "train/loss", ref="two") == [(0, 2.0), (1, 2.0), (2, 2.0)]


def test_a_second_experiment_of_the_same_name_overwrites_nothing(store: Path, tmp_path: Path) -> None:
    paths, summaries = [], []
    for loss in (1.0, 2.0, 3.0):
        tracker = track(store).start()
        tracker.log_metrics(iteration=0, train_loss=loss)
        tracker.finish(save_summary=True)
        paths.append(tracker.save())
    assert len(set(paths)) == 3
    assert [load_experiment_log(path).final_train_loss for path in paths] == [1.0, 2.0, 3.0]
    for path in (tmp_path / "experiments").iterdir():
        summaries.append(json.loads(path.read_text())["metrics"]["final/train_loss"])
    assert sorted(summaries) == [1.0, 2.0, 3.0]
    assert len(lossbook.open(store).runs()) == 3


def test_the_summary_has_what_the_experiment_came_to_and_its_configuration(store: Path, tmp_path: Path) -> None:
    config = ExperimentConfig(
        experiment_name="my/experiment", d_model=64, track_memory=False, extra={"path": Path("/x")}
    )
    tracker = track(store, config)
    train(tracker, range(2))
    tracker.log_train_step(loss=math.inf)
    tracker.finish(save_summary=True)
    (path,) = (tmp_path / "experiments").iterdir()
    assert path.name == "my_experiment_summary.json"
    summary = json.loads(path.read_text())
    assert summary["experiment_name"] == "my/experiment"
    assert summary["config"]["d_model"] == 64
    assert (summary["metrics"]["final/gradient_steps"], summary["metrics"]["final/train_loss"]) == (3, "Infinity")


def test_what_is_printed_says_what_it_came_to(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = track(store)
    train(tracker, range(1, 4))
    tracker.log_validation(val_loss=2.5)
    tracker.finish(notes="a note")
    capsys.readouterr()
    tracker.print_summary()
    said = capsys.readouterr().out
    for words in ("one", "finished", "gradient steps", "3", "tokens", "30", "best validation loss", "2.5", "a note"):
        assert words in said
