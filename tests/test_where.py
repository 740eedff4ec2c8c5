"""What a `where` expression can say about a run, and what is said when it cannot be understood."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lossbook.errors import BadQuery
from lossbook.reading.names import compile_value
from lossbook.reading.record import IndexRecord, parse_record
from lossbook.reading.where import compile_where, sorted_places
from lossbook.storage.summary_file import MetricTable

KNOWN: dict[str, Any] = {
    "id": "k3v9", "name": "gpt2_adamw", "project": "tests", "state": "finished", "error": None, "group": None,
    "notes": "it's the 2nd run", "tags": ["baseline", "seed-1"], "created": 1_763_688_000.0, "host": "node-7",
    "last_step": 900,
    "config": {"lr": 3e-4, "model": {"size": "124M", "layers": 12}, "flag": True, "a.b": 5, "text": "2e-3", "none": None},
    "summary": {"params": 124_439_808},
}  # fmt: skip
METRICS: dict[str, Any] = {
    "val_loss": {"last": 3.1, "min": 2.9, "max": 9.0, "mean": 4.0, "count": 10, "last_step": 900},
    "train/loss": {"last": "NaN", "min": 2.5, "max": "Infinity", "mean": 3.0, "count": 900, "last_step": 900},
    "gpu/0 util %": {"last": 97.0, "min": 1.0, "max": 99.0, "mean": 80.0, "count": 5, "last_step": 900},
}  # fmt: skip
RECORD = IndexRecord(
    **KNOWN, created_us=1_763_688_000_000_000, started=1_763_688_000.0, ended=None, duration=60.0, user=None, attempts=1,
    rows=1000, metrics=MetricTable(METRICS), define=[], alerts=0, problems=[],
)  # fmt: skip


@pytest.mark.parametrize(
    "expression",
    [
        "state = 'finished'",
        'state == "finished"',
        "config.lr > 1e-4 and state = 'finished'",
        "config.lr>=.0003 and config.lr<=3e-4",
        "config.lr != 1 and config.lr <> 1",
        "state = 'running' or state = 'finished'",
        # `and` binds more tightly than `or`.
        "state = 'finished' or state = 'x' and state = 'y'",
        "not (state = 'running' or state = 'failed')",
        "NOT state = 'running' AND name LIKE 'gpt2%'",
        "name like 'gpt2_adam_'",
        "name ilike 'GPT2%'",
        "name not like 'gpt3%'",
        "name ~ '^gpt[0-9]_'",
        "state in ('finished', 'failed')",
        "state not in ('running')",
        "config.lr in (1e-4, 3e-4)",
        "'baseline' in tags",
        "tags contains 'seed-1'",
        "not tags contains 'seed-2'",
        "group is null",
        "notes is not null",
        "config.none is null and config.missing is null",
        "notes = 'it''s the 2nd run'",
        "config.model.size = '124M'",
        "config.model.layers = 12",
        "config.a.b = 5",
        "config.flag = true",
        "config.flag",
        "config.flag != false",
        "config.text > 1e-3",
        "summary.params > 1e8",
        "val_loss < 3.2",
        "val/loss < 3.2",
        "val/loss.min < 3 and val/loss.max = 9 and val/loss.mean = 4 and val/loss.last = 3.1",
        "`gpu/0 util %` = 97",
        "`gpu/0 util %.min` = 1",
        "train/loss.max > 1e300",
        "created > 1763687999",
        "host = 'node-7'",
        "last_step >= 900",
        "1 < 2",
    ],
)
def test_an_expression_that_holds(expression: str) -> None:
    assert compile_where(expression)(RECORD)


@pytest.mark.parametrize(
    "expression",
    [
        "state = 'running'",
        "config.lr > 1",
        "not state = 'finished'",
        "state = 'running' and state = 'finished' or state = 'x'",
        "(state = 'running' or state = 'finished') and name = 'x'",
        "'seed-2' in tags",
        "group is not null",
        "name like 'gpt2'",
        "name like '%ADAMW'",
        "config.flag = false",
        # NaN is neither below, above nor equal to anything.
        "train/loss < 100",
        "train/loss > 0",
        "train/loss = 0",
        # A number is never below a text that holds none.
        "name < 5",
    ],
)
def test_an_expression_that_does_not_hold(expression: str) -> None:
    assert not compile_where(expression)(RECORD)


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
def test_what_a_run_does_not_have_compares_with_nothing(operator: str) -> None:
    for name in ("config.missing", "summary.missing", "missing/metric", "val/loss.missing", "config.none", "group"):
        assert not compile_where(f"{name} {operator} 0")(RECORD)
        assert not compile_where(f"0 {operator} {name}")(RECORD)


@pytest.mark.parametrize(
    "expression",
    [
        "", "  ", "state =", "= 3", "state = 'finished", "(state = 'x'", "state = 'x')", "state = 'x' 'y'",
        "state = 'x' and", "state is 3", "state not 3", "state in ('x'", "state in ()", "state ! 'x'", "state = #",
        "'x' in", "config.lr > > 3", "`unclosed = 3", "and", "not",
    ],
)  # fmt: skip
def test_an_expression_that_cannot_be_understood_is_one_sentence(expression: str) -> None:
    with pytest.raises(BadQuery) as caught:
        compile_where(expression)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert len(text) < 300


def test_the_sentence_says_where_the_expression_went_wrong() -> None:
    with pytest.raises(BadQuery, match="18"):
        compile_where("state = 'x' and (>")


def test_a_name_that_no_run_has_is_answered_with_the_nearest() -> None:
    for expression, nearest in (
        ("stat = 'finished'", "state"),
        ("projekt = 'x'", "project"),
        ("confg.lr > 0", "config.lr"),
        ("config.modell.size = '124M'", "config.model.size"),
        ("val_los.min < 3", "val_loss"),
        ('"gpu/1 util %" > 5', '"gpu/0 util %"'),
        ("1 < 2 or summary.parms > 1", "summary.params"),
        ("nothng is null", ""),
    ):
        with pytest.raises(BadQuery, match="no run has") as caught:
            compile_where(expression).verify([RECORD])
        assert nearest in str(caught.value)


def test_a_name_that_some_runs_have_and_others_lack_is_no_mistake() -> None:
    without = RECORD._replace(config={}, summary={}, metrics=MetricTable())
    for expression in (
        "config.lr > 0",
        "params > 0",
        '"gpu/0 util %" > 5',
        "config.none is null",
        "config.model.size is null",
    ):
        assert compile_where(expression).verify([without, RECORD]) == []


def test_no_name_is_a_mistake_where_there_is_no_run() -> None:
    assert compile_where("config.lr > 0 and name > 5").verify([]) == []


def test_a_name_may_still_come_while_a_run_goes_on() -> None:
    (remark,) = compile_where("config.lrr > 0").verify([RECORD, RECORD._replace(state="running")])
    assert "config.lrr" in remark
    assert "config.lr" in remark


def test_double_quotes_hold_a_name_where_a_value_of_the_run_is_asked_for() -> None:
    metrics = MetricTable({"f1-score": {"last": 0.9}, "val/top 5": {"last": 0.7, "min": 0.1}})
    record = RECORD._replace(metrics=metrics, tags=["f1-score"], name="f1-score")
    for holds in (
        '"f1-score" > 0.5',
        '0.5 < "f1-score"',
        '"val/top 5.min" < 0.5',
        '"f1-score" in (0.9, 1)',
        '"f1-score" is not null',
        '"val loss" is null',
        # A text, as it always was.
        'name = "f1-score"',
        '"f1-score" in tags',
        'tags contains "f1-score"',
        'name in ("f1-score", "x")',
        'name like "f1%"',
    ):
        assert compile_where(holds)(record), holds
    assert not compile_where('"f1-score" > 0.95')(record)
    with pytest.raises(BadQuery, match="'nosuch'"):
        compile_where('"nosuch" > 0.5').verify([record])


def test_the_columns_of_the_list_are_names() -> None:
    for holds in (
        "steps = 900",
        "steps = last_step",
        "started = created",
        "loss.min = 2.5",
        '"val loss" < 3.2',
        "`val loss.min` = 2.9",
    ):
        assert compile_where(holds).verify([RECORD]) == []
        assert compile_where(holds)(RECORD), holds
    with pytest.raises(BadQuery, match="path"):
        compile_where("path = 'x'")


def test_a_time_is_compared_with_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        # It was created on 2025-11-21 at 01:20:00, UTC.
        for holds in (
            "created > '2001-01-01'",
            "'2001-01-01' < created",
            "started >= '2025-11-21'",
            "created = '2025-11-21'",
            "created <= '2025-11-21'",
            "created < '2025-11-22' and created != '2025-11-20'",
            "created in ('2025-11-20', '2025-11-21')",
            "created = '2025-11-21 01:20' and created = '2025-11-21T01:20:00Z'",
            "created = '2025-11-21T02:20+01:00'",
            'created > "2025-11-20"',
            "created > '1763687999'",
            "ended is null",
        ):
            assert compile_where(holds)(RECORD), holds
        for fails in (
            "created < '2001-01-01'",
            "created > '2025-11-21 01:21'",
            "created != '2025-11-21'",
            "ended > '2001-01-01'",
        ):
            assert not compile_where(fails)(RECORD), fails
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["yesterday", "2025", "2025-13-01", "2025-11-21 25:00", "20251121", "1.2.2025"])
def test_a_text_that_is_no_date_is_refused_beside_a_time(text: str) -> None:
    with pytest.raises(BadQuery, match="2026-11-30"):
        compile_where(f"created > '{text}'")


@pytest.mark.parametrize(
    "expression",
    ["name < 5", "name > 5", "name = 5", "5 < state", "val_loss > 'low'", "config.model.size >= 100", "last_step = 'many'", "tags > 3",
     "config.model.layers in ('few', 'many')", "name > val_loss"],
)  # fmt: skip
def test_a_text_against_a_number_is_refused(expression: str) -> None:
    test = compile_where(expression)
    assert not test(RECORD)
    with pytest.raises(BadQuery, match="compare"):
        test.verify([RECORD, RECORD])


def test_a_text_that_holds_a_number_is_one_and_one_run_that_can_be_compared_is_enough() -> None:
    assert compile_where("name = 5").verify([RECORD, RECORD._replace(name="5")]) == []
    assert compile_where("config.lr > 1e-4").verify([RECORD, RECORD._replace(config={"lr": "auto"})]) == []
    assert compile_where("config.text > 1").verify([RECORD]) == []


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(BadQuery, match="regular expression"):
        compile_where("name ~ '('")(RECORD)


def test_an_expression_nested_too_deeply_is_refused_in_a_sentence() -> None:
    for deep in ("(" * 20_000 + "state = 'x'" + ")" * 20_000, "not " * 20_000 + "state = 'x'"):
        with pytest.raises(BadQuery):
            compile_where(deep)


def test_a_long_chain_of_conditions_is_understood() -> None:
    assert compile_where(" or ".join(["name = 'x'"] * 5_000 + ["name = 'gpt2_adamw'"]))(RECORD)


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "state",
                "config.lr",
                "tags",
                "val/loss",
                "=",
                "<",
                "~",
                "(",
                ")",
                ",",
                "and",
                "or",
                "not",
                "in",
                "is",
                "null",
                "like",
                "contains",
                "'x'",
                "3",
                "-1e-4",
                "`a b`",
                "true",
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_any_text_is_a_test_on_runs_or_a_sentence(text: str) -> None:
    # BadQuery is the one error that there may be; any other fails the test.
    with suppress(BadQuery):
        test = compile_where(text)
        assert test(RECORD) in (True, False)
        assert test(RECORD._replace(metrics=MetricTable(), config={}, summary={})) in (True, False)


def test_a_name_to_sort_by_finds_fields_configuration_and_metrics() -> None:
    assert compile_value("name")(RECORD) == "gpt2_adamw"
    assert compile_value("config.model.layers")(RECORD) == 12
    assert compile_value("val/loss")(RECORD) == 3.1
    assert compile_value("val/loss.min")(RECORD) == 2.9
    assert compile_value("`gpu/0 util %`")(RECORD) == 97.0
    assert compile_value("params")(RECORD) == 124_439_808
    assert compile_value("nothing")(RECORD) is None


def test_a_record_reads_back_from_its_text_as_it_was() -> None:
    again = parse_record(RECORD.to_text())
    assert again.metrics.to_json() == RECORD.metrics.to_json()
    assert again._replace(metrics=RECORD.metrics) == RECORD


def test_values_are_sorted_numbers_first_then_texts_and_what_has_none_or_nan_last() -> None:
    values: list[Any] = ["b", None, 2, float("nan"), 1.5, "a"]
    assert sorted_places(values) == [4, 2, 5, 0, 1, 3]
    assert sorted_places(values, descending=True) == [2, 4, 0, 5, 1, 3]
