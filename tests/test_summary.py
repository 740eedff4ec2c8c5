"""What `summary.json` promises: the run in numbers, the same from sealed files as from journals, and cheap to keep."""

from __future__ import annotations

import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from journals import BEGIN, WrittenRun

from lossbook.paths import RunFolder, read_json, write_json
from lossbook.processes import boot_id, host_name, process_start
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary, compute_summary, overlay
from lossbook.storage.summary_file import MetricTable, ReadTo, RunSummary, read_summary, write_summary


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "run")


def lasting(summary: RunSummary) -> dict[str, Any]:
    """A summary without what depends on when and from what it was made."""
    return {name: value for name, value in summary.to_json().items() if name not in ("updated", "cursor")}


def nearly(metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {key: one | {"mean": one["mean"] and pytest.approx(one["mean"], rel=1e-12)} for key, one in metrics.items()}


# -- numbers --------------------------------------------------------------------------------------------------------


def test_a_summary_has_the_last_the_extremes_and_the_mean_of_each_key(run: WrittenRun) -> None:
    run.segment([{"loss": 3.0}, {"loss": 1.0, "lr": 0.5}, {"loss": 2.0}], end="finished")
    summary = compute_summary(run.folder)
    assert summary.metrics.to_json()["loss"] == {
        "last": 2.0,
        "last_step": 2,
        "min": 1.0,
        "min_step": 1,
        "max": 3.0,
        "max_step": 0,
        "mean": 2.0,
        "count": 3,
        "nonfinite": 0,
    }
    assert summary.metrics["lr"].count == 1
    assert (summary.to_json()["format"], summary.state, summary.error, summary.rows) == (2, "finished", None, 5)
    assert summary.last_step == 2
    assert summary.last_time == summary.ended == BEGIN + 4_000
    assert summary.problems == ()


def test_what_is_not_finite_is_counted_and_kept_out_of_the_extremes(run: WrittenRun) -> None:
    run.segment([{"x": 1.0}, {"x": math.inf}, {"x": 3.0}, {"x": -math.inf}, {"x": math.nan}, {"y": math.nan}])
    for sealed in (False, True):
        if sealed:
            seal_run(run.folder, finished=True)
        metrics = compute_summary(run.folder).metrics.to_json()
        assert metrics["x"] == {
            "last": "NaN",
            "last_step": 4,
            "min": 1.0,
            "min_step": 0,
            "max": 3.0,
            "max_step": 2,
            "mean": 2.0,
            "count": 5,
            "nonfinite": 3,
        }
        assert metrics["y"] == {
            "last": "NaN",
            "last_step": 5,
            "min": None,
            "min_step": None,
            "max": None,
            "max_step": None,
            "mean": None,
            "count": 1,
            "nonfinite": 1,
        }


def test_the_last_value_is_that_of_the_highest_step(run: WrittenRun) -> None:
    run.segment([(10, {"x": 1.0}), (3, {"x": 2.0}), (10, {"x": 3.0}), (-7, {"x": 4.0})], end="finished")
    for sealed in (False, True):
        if sealed:
            seal_run(run.folder, finished=True)
        assert (one := compute_summary(run.folder).metrics["x"]).last == 3.0
        assert (one.last_step, one.max_step) == (10, -7)


def test_a_key_of_negative_steps_alone_has_its_highest_as_the_last(run: WrittenRun) -> None:
    run.segment([(-9, {"x": 1.0}), (-3, {"x": 2.0}), (-5, {"x": 3.0})], end="finished")
    summary = compute_summary(run.folder)
    one = summary.metrics["x"]
    assert (one.last, one.last_step, summary.last_step) == (2.0, -3, -3)


def test_a_huge_sum_never_breaks_the_file(run: WrittenRun) -> None:
    run.segment([{"x": 1.7e308}, {"x": 1.7e308}, {"y": 1.7e308}, {"y": -1.7e308}], end="finished")
    for sealed in (False, True):
        if sealed:
            seal_run(run.folder, finished=True)
        LiveSummary(run.folder).write()
        metrics = json.loads(Path(run.folder.summary_json).read_text())["metrics"]
        assert (metrics["x"]["max"], metrics["y"]["min"]) == (1.7e308, -1.7e308)


def test_live_half_sealed_and_sealed_runs_have_the_same_summary(run: WrittenRun) -> None:
    generator = random.Random(5)
    for number in range(6):
        rows = [
            (generator.randrange(-50, 500), {"a": generator.gauss(0, 1), f"part/{number}": generator.random()})
            for _ in range(300)
        ]
        rows += [(501 + number, {"rare": math.nan if number % 2 else 1.0})]
        extra = [("config", {"number": number}), ("summary", {"best": number}), ("alert", {"title": "x"})]
        run.segment([*rows, *extra], attempt=number // 3, end="finished" if number == 5 else None)
    run.identity["attempts"] = [run.attempt_entry(0), run.attempt_entry(1, resume_step=200)]
    run.write_identity()
    live = compute_summary(run.folder)
    seal_run(run.folder, finished=False)
    half = compute_summary(run.folder)
    seal_run(run.folder, finished=True)
    sealed = compute_summary(run.folder)
    for other in (half, sealed):
        assert other.metrics.to_json() == nearly(live.metrics.to_json())
        assert lasting(other) | {"metrics": None} == lasting(live) | {"metrics": None}
    assert (live.config, live.summary, live.alerts) == ({"number": 5}, {"best": 5}, 6)


@pytest.mark.slow
def test_a_hundred_thousand_keys_fit(run: WrittenRun) -> None:
    run.segment(({f"layer/{at}": float(at)} for at in range(100_000)), end="finished")
    live = compute_summary(run.folder).metrics.to_json()
    assert len(live) == 100_000
    seal_run(run.folder, finished=True)
    assert compute_summary(run.folder).metrics.to_json() == live


def test_an_empty_folder_has_a_summary(tmp_path: Path) -> None:
    summary = compute_summary(RunFolder(str(tmp_path)))
    assert (summary.rows, len(summary.metrics), summary.last_step) == (0, 0, None)


# -- other rows -----------------------------------------------------------------------------------------------------


def test_configuration_changes_are_merged_deeply_in_order(run: WrittenRun) -> None:
    changes: list[dict[str, Any]] = [
        {"optimizer": {"lr": 1.0, "betas": [0.9, 0.95]}, "seed": 1},
        {"optimizer": {"lr": 2.0}},
        {"seed": {"data": 3}},
    ]
    run.segment([("config", change) for change in changes], end="finished")
    expected = {"optimizer": {"lr": 2.0, "betas": [0.9, 0.95]}, "seed": {"data": 3}}
    assert compute_summary(run.folder).config == expected
    seal_run(run.folder, finished=True)
    assert compute_summary(run.folder).config == expected


def test_definitions_of_one_pattern_replace_each_other(run: WrittenRun) -> None:
    first, second = {"pattern": "val/*", "goal": "minimize"}, {"pattern": "val/*", "goal": "maximize"}
    run.segment([("define", first), ("define", {"pattern": "x"}), ("define", second)], end="finished")
    defined = compute_summary(run.folder).define
    assert sorted(defined, key=lambda one: one["pattern"]) == [second, {"pattern": "x"}]


def test_a_damaged_line_is_among_the_problems_before_and_after_sealing(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}, b"{damaged\n", {"a": 2.0}], end="finished")
    for sealed in (False, True):
        if sealed:
            seal_run(run.folder, finished=True)
        summary = compute_summary(run.folder)
        assert any("line 3" in problem for problem in summary.problems)
        assert summary.metrics["a"].count == 2


def test_a_sealed_file_that_cannot_be_read_is_a_problem_and_the_rest_counts(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}])
    seal_run(run.folder, finished=False)
    run.segment([{"b": 1.0}])
    seal_run(run.folder, finished=False)
    run.segment([{"c": 1.0}])
    (sealed,) = [name for name in os.listdir(run.folder.metrics) if name.endswith("000001.parquet")]
    for directory in (run.folder.metrics, run.folder.rollups):
        Path(directory, sealed).write_bytes(b"not parquet")
    summary = compute_summary(run.folder)
    assert {"c"} <= set(summary.metrics) <= {"b", "c"}
    assert any("000001" in problem for problem in summary.problems)


# -- attempts and ranks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seal", [False, True])
def test_rows_beyond_the_step_of_a_resume_do_not_count(run: WrittenRun, seal: bool) -> None:
    run.segment([{"a": 100.0 - step, "old": 1.0} for step in range(10)], attempt=0)
    run.segment([{"a": 50.0} for _ in range(3)], attempt=1, first_step=5, end="finished")
    run.identity["attempts"] = [run.attempt_entry(0), run.attempt_entry(1, resume_step=4)]
    run.write_identity()
    if seal:
        seal_run(run.folder, finished=True)
    metrics = compute_summary(run.folder).metrics
    assert metrics.to_json()["a"] == {
        "last": 50.0,
        "last_step": 7,
        "min": 50.0,
        "min_step": 5,
        "max": 100.0,
        "max_step": 0,
        "mean": pytest.approx((100 + 99 + 98 + 97 + 96 + 150) / 8),
        "count": 8,
        "nonfinite": 0,
    }
    assert metrics["old"].count == 5


@pytest.mark.parametrize("seal", [False, True])
def test_a_resume_that_did_not_say_from_where_hides_what_it_logs_again(run: WrittenRun, seal: bool) -> None:
    run.segment([{"a": 1.0, "b": 1.0} for _ in range(10)], attempt=0)
    run.segment([{"a": 2.0} for _ in range(2)], attempt=1, first_step=8, end="finished")
    run.identity["attempts"] = [run.attempt_entry(0), run.attempt_entry(1)]
    run.write_identity()
    if seal:
        seal_run(run.folder, finished=True)
    metrics = compute_summary(run.folder).metrics
    assert (metrics["a"].count, metrics["a"].mean) == (10, pytest.approx(1.2))
    assert metrics["b"].count == 10


# -- states ---------------------------------------------------------------------------------------------------------


def test_a_run_ends_as_its_last_attempt_said(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], attempt=0, end="failed")
    assert compute_summary(run.folder).state == "failed"
    run.segment([{"a": 1.0}], attempt=1, end="finished")
    run.identity["attempts"] = [run.attempt_entry(0), run.attempt_entry(1)]
    run.write_identity()
    assert compute_summary(run.folder).state == "finished"


def test_the_end_of_another_rank_or_of_a_child_is_not_the_runs(run: WrittenRun) -> None:
    run.identity["attempts"] = [here(os.getpid())]
    run.write_identity()
    run.segment([{"a": 1.0}])
    run.segment([{"a": 1.0}], rank=1, end="failed")
    run.segment([{"a": 1.0}], rank=-1, end="finished")
    assert compute_summary(run.folder).state == "running"


def here(pid: int, number: int = 0, **fields: Any) -> dict[str, Any]:
    entry = {"host": host_name(), "pid": pid, "process_start": process_start(pid), "boot": boot_id()}
    return WrittenRun.attempt_entry(number, **(entry | fields))


def test_a_process_that_lives_is_running_and_one_that_is_gone_has_crashed(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}])
    for entry, state in (
        (here(os.getpid()), "running"),
        (here(os.getpid(), process_start=1.0), "crashed"),
        (here(os.getpid(), boot="another boot"), "crashed"),
        (here((1 << 22) + 7), "crashed"),
    ):
        run.identity["attempts"] = [entry]
        run.write_identity()
        assert compute_summary(run.folder).state == state
    assert compute_summary(run.folder).error


def test_a_run_of_another_machine_counts_as_running_while_its_files_change(run: WrittenRun) -> None:
    path = run.segment([{"a": 1.0}])
    assert compute_summary(run.folder).state == "crashed"
    os.utime(path, (time.time(), time.time()))
    assert compute_summary(run.folder).state == "running"


def test_what_the_follower_saw_of_a_vanished_process_is_its_end(run: WrittenRun) -> None:
    run.identity["attempts"] = [here(os.getpid())]
    run.write_identity()
    run.segment([{"a": 1.0}])
    os.makedirs(run.folder.followers, exist_ok=True)
    watch = os.path.join(run.folder.followers, "watch.json")
    write_json(watch, {"attempt": 0, "state": "crashed", "ended": BEGIN + 5})
    summary = compute_summary(run.folder)
    assert (summary.state, summary.ended) == ("crashed", BEGIN + 5)
    # The next attempt lives: what was seen of the one before says nothing of it.
    run.identity["attempts"] = [run.attempt_entry(0), here(os.getpid(), number=1)]
    run.write_identity()
    assert compute_summary(run.folder).state == "running"


# -- keeping it up to date ------------------------------------------------------------------------------------------


def test_a_live_summary_reads_only_what_is_new_and_is_always_right(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lossbook.storage import summary as module

    read_bytes: list[int] = []
    real = module.read_segment

    def counting(path: str, **options: Any) -> Any:
        reading = real(path, **options)
        read_bytes.append(reading.offset - options.get("offset", 0))
        return reading

    monkeypatch.setattr(module, "read_segment", counting)
    live = LiveSummary(run.folder)
    total = 0
    for number in range(5):
        path = run.segment([{"a": float(at)} for at in range(100)])
        total += os.stat(path).st_size
        assert live.update().metrics["a"].count == 100 * (number + 1)
    assert sum(read_bytes) == total
    read_bytes.clear()
    assert lasting(live.update()) == lasting(compute_summary(run.folder))
    seal_run(run.folder, finished=False)
    assert lasting(live.update()) == lasting(compute_summary(run.folder))


def test_a_torn_line_counts_as_soon_as_it_is_whole(run: WrittenRun) -> None:
    path = run.segment([{"a": 1.0}], tail=b'{"i":2,"t":17,"s":1,"m":')
    live = LiveSummary(run.folder)
    first = live.update()
    assert (first.metrics["a"].count, first.problems) == (1, ())
    with open(path, "ab") as file:
        file.write(b'{"a":5.0}}\n')
    assert live.update().metrics["a"].max == 5.0


def test_a_written_summary_reads_back_and_an_overlay_brings_it_up_to_date(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}])
    written = LiveSummary(run.folder).write()
    assert read_summary(run.folder) is not None
    assert read_json(run.folder.summary_json) == json.loads(json.dumps(written.to_json()))
    run.segment([{"a": 2.0}, ("config", {"x": 1})], end="finished")
    assert lasting(overlay(written, run.folder)) == lasting(compute_summary(run.folder))
    seal_run(run.folder, finished=True)
    assert lasting(overlay(written, run.folder)) == lasting(compute_summary(run.folder))


def test_an_overlay_of_a_run_that_ended_is_the_summary_itself(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    for sealed in (False, True):
        if sealed:
            seal_run(run.folder, finished=True)
        written = LiveSummary(run.folder).write()
        assert overlay(written, run.folder) == written


def test_an_overlay_notices_that_the_process_has_gone(run: WrittenRun) -> None:
    run.identity["attempts"] = [here(os.getpid())]
    run.write_identity()
    run.segment([{"a": 1.0}])
    written = LiveSummary(run.folder).write()
    assert written.state == "running"
    run.identity["attempts"] = [here((1 << 22) + 7)]
    run.write_identity()
    assert overlay(written, run.folder).state == "crashed"


def test_a_summary_of_something_else_is_made_anew(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    for odd in (RunSummary(), RunSummary(state="finished", cursor={"r9-000001.jsonl": ReadTo(3, 1, 1)})):
        assert overlay(odd, run.folder).metrics["a"].count == 1


# -- the file -------------------------------------------------------------------------------------------------------


def test_fields_of_a_newer_version_are_written_back(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    LiveSummary(run.folder).write()
    newer: dict[str, Any] = {**(read_json(run.folder.summary_json) or {}), "energy": {"joules": 7}}
    write_json(run.folder.summary_json, newer)
    summary = read_summary(run.folder)
    assert summary is not None
    write_summary(run.folder, summary)
    assert read_json(run.folder.summary_json) == newer


def test_statistics_that_are_not_finite_are_numbers_and_unknown_ones_none() -> None:
    table = MetricTable({"loss": {"last": "NaN", "max": "Infinity", "min": 0.5, "count": 3, "last_step": 2}})
    loss = table["loss"]
    assert math.isnan(loss.last or 0.0)
    assert (loss.max, loss.min, loss.count, loss.last_step) == (math.inf, 0.5, 3, 2)
    assert (loss.mean, loss.min_step, loss.nonfinite) == (None, None, 0)
    assert ("loss" in table, "other" in table, table.get("other"), list(table)) == (True, False, None, ["loss"])
