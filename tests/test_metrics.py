"""The vocabulary of metrics: roles, units, goals, and whether a utilisation is in percent."""

from __future__ import annotations

import pytest

from lossbook.metrics import (
    TABLE,
    find_key,
    goal_of,
    host_charts,
    is_speed,
    is_step_time,
    key_metrics,
    may_be_step_time,
    percent_factor,
    role_of,
    same_quantities,
    step_seconds,
    unit_of,
)


@pytest.mark.parametrize("metric", [one for one in TABLE if one.role is not None], ids=lambda one: one.names[0])
def test_every_alias_has_the_role_of_its_metric(metric):
    assert {role_of(name) for name in metric.names} == {metric.role}


@pytest.mark.parametrize("metric", TABLE, ids=lambda one: one.names[0])
def test_every_alias_stands_for_its_metric_where_a_run_logs_it_alone(metric):
    for name in metric.names:
        expected = {metric.role: name} if metric.role else {}
        assert key_metrics([name, "other"]) == expected


def test_no_name_is_listed_under_two_metrics():
    names = [name for metric in TABLE for name in metric.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("key", "role"),
    [
        ("moe/aux_loss", "loss"), ("train/ce_loss", "loss"), ("perf/mfu", "utilisation"), ("compute_seconds", "step-time"),
        ("train/samples_per_second", "speed"), ("system.gpu.0.power_watts", "machine"), ("cpu_percent", "machine"),
        ("eval/bits_per_byte", "quality"), ("train/loss_scale", None), ("throughput/tokens_per_second_per_gpu", None),
    ],
)  # fmt: skip
def test_a_name_that_is_not_in_the_table_has_its_role_from_its_words(key, role):
    assert role_of(key) == role


def test_of_several_keys_of_one_role_the_most_usual_name_stands_for_it():
    assert key_metrics(["loss", "train/loss", "a_loss"])["train-loss"] == "train/loss"
    assert key_metrics(["z/samples_per_second", "a/steps_per_second"])["speed"] == "a/steps_per_second"


def test_series_of_the_machine_stand_for_no_role():
    assert key_metrics(["gpu/0/mfu", "cpu_percent"]) == {}


@pytest.mark.parametrize(
    ("key", "largest", "defined", "factor", "unit"),
    [
        ("throughput/mfu", 0.9, (), 1, "%"),  # the documented name is in percent
        ("mfu", 0.46, (), 100, "share"),
        ("train/mfu", 46.0, (), 1, "%"),
        ("perf/mfu", 1.0, (), 100, "share"),
        ("mfu", "NaN", (), 1, ""),
        ("mfu", None, (), 1, ""),
        ("mfu", 0.9, ({"pattern": "mfu", "unit": "%"},), 1, "%"),
        ("throughput/mfu", 0.4, ({"pattern": "*/mfu", "unit": "share"},), 100, "share"),
    ],
)
def test_percent_and_share_are_told_apart_by_one_rule(key, largest, defined, factor, unit):
    assert percent_factor(key, largest, defined) == factor
    assert unit_of(key, defined=defined, largest=largest) == unit


def test_a_utilisation_that_may_be_a_share_is_no_alias_of_the_one_in_percent():
    assert find_key("throughput/mfu", ["mfu"]) is None
    assert find_key("train/mfu", ["mfu"]) == "mfu"
    assert same_quantities([["throughput/mfu"], ["mfu"]]) == {}


def test_what_a_run_defined_wins_over_the_table():
    defined = [{"pattern": "val/*", "goal": "maximize", "unit": "points"}]
    assert (goal_of("val/loss", defined), unit_of("val/loss", defined=defined)) == ("maximize", "points")
    assert (goal_of("train/loss", defined), unit_of("train/loss", defined=defined)) == ("minimize", "nats")


@pytest.mark.parametrize(
    ("key", "seconds"),
    [
        ("step_time_ms", 0.001), ("step_time", 1.0), ("perf/step_ms", 0.001), ("iteration-time (ms)", 0.001),
        ("train_step_timing in s", 1.0), ("ms/step", 0.001), ("seconds_per_iter", 1.0), ("time/forward", 1.0),
        ("batch_time_us", 1e-6), ("throughput/data_seconds", 1.0),
    ],
)  # fmt: skip
def test_a_step_time_is_known_by_its_name_and_read_as_seconds(key, seconds):
    assert is_step_time(key)
    assert role_of(key) == "step-time"
    assert step_seconds(key, 1.0) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "key", ["train/step", "time", "elapsed_time", "eval_time", "val/seconds", "steps", "timestamp"]
)
def test_other_times_are_no_step_times(key):
    assert not is_step_time(key)
    assert not may_be_step_time(key)


def test_a_role_that_the_run_gave_holds_against_the_name():
    defined = [{"pattern": "perf/*", "role": "step_time"}, {"pattern": "step_time", "role": "speed"}]
    assert (role_of("perf/wait", defined), role_of("step_time", defined)) == ("step-time", "speed")
    assert (is_step_time("step_time", defined), is_speed("step_time", defined)) == (False, True)
    assert may_be_step_time("allreduce_ms")
    assert not may_be_step_time("perf/allreduce_ms", defined)


def test_the_host_has_a_chart_with_a_line_for_each_node():
    (chart,) = host_charts(["cpu_percent/node_1", "cpu_percent/node_2", "train/loss"])
    assert chart.series == (("cpu_percent/node_1", "host, node 1"), ("cpu_percent/node_2", "host, node 2"))
