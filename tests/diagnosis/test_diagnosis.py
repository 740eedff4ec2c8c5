"""The diagnosis as a whole: live and afterwards it finds the same, in constant memory, whatever the run logs."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

from hypothesis import given, settings, strategies as st
from rows import curves, findings, learning, real_rows, row

import lossbook
from lossbook.diagnosis import Diagnosis, Finding, Thresholds, diagnose
from lossbook.paths import RunFolder
from lossbook.registry import DETECTORS
from lossbook.storage.compaction import seal_run


def log_a_run_that_goes_wrong(store: Path) -> RunFolder:
    with lossbook.init(store=store, project="p", console=False) as run:
        for step, loss in learning(300):
            run.log({"train/loss": 12.0 if step == 200 else loss, "lr": 1e-3}, step=step)
        run.log({"train/loss": math.nan}, step=300)
    return RunFolder(run.path)


def test_a_recorded_run_says_the_same_live_and_sealed(store: Path) -> None:
    folder = log_a_run_that_goes_wrong(store)
    live = diagnose(folder).findings()
    assert [(one.kind, one.first_step) for one in live] == [("nonfinite", 300), ("spike", 200)]
    seal_run(folder, finished=True)
    sealed = diagnose(folder).findings()
    assert [json.dumps(one.plain()) for one in sealed] == [json.dumps(one.plain()) for one in live]


def test_rows_fed_one_by_one_are_found_once_each_and_when_they_come() -> None:
    diagnosis = Diagnosis()
    rows = list(real_rows(curves()["noise3"]))
    said = [(one.kind, at + 1) for at, each in enumerate(rows) for one in diagnosis.feed([each])]
    assert said == [("spike", 500)]
    assert [one.identity for one in diagnosis.findings()] == [one.identity for one in findings(rows)]


def test_memory_does_not_grow_with_the_run() -> None:
    diagnosis = Diagnosis()

    def feed(start: int, steps: int) -> None:
        diagnosis.feed(
            row(
                step,
                {
                    "train/loss": loss,
                    "lr": 1e-3 / (1 + step),
                    "tokens_per_second": 100.0,
                    "grad_norm": math.inf if step % 7 == 0 else 1.0,
                },
            )
            for step, loss in learning(steps, start=start)
        )

    feed(0, 4000)
    tracemalloc.start()
    feed(4000, 200)
    before, _ = tracemalloc.get_traced_memory()
    feed(4200, 16_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000


def test_many_findings_of_a_kind_are_kept_up_to_a_limit_and_the_rest_counted() -> None:
    diagnosis = Diagnosis(Thresholds(most_of_a_kind=5))
    diagnosis.feed(row(step, {"loss": math.nan if step % 10 == 0 else 2.0}) for step in range(1, 201))
    assert len(diagnosis.findings()) == 5
    assert diagnosis.left_out == {"nonfinite": 15}


def test_a_run_that_makes_ever_new_keys_is_diagnosed_all_the_same() -> None:
    rows = [row(step, {f"layer/{step}": 1.0, "loss": 9.0 if step == 9000 else loss}) for step, loss in learning(9500)]
    assert [(one.kind, one.first_step) for one in findings(rows)] == [("spike", 9000)]


values = st.one_of(st.floats(), st.floats(0, 10), st.just(math.nan))
keys = st.sampled_from(
    [
        "loss",
        "train/loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "step_time",
        "system.gpu.0.gpu",
        "system.gpu.0.temp",
        "system.gpu.0.throttle",
        "memory_percent",
        "val_loss",
        "ppl",
        "x",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.dictionaries(keys, values, max_size=5),
            st.floats(-1e9, 1e9),
            st.sampled_from([0, 1, 7, -3, -1000]),
            st.integers(0, 3),
        ),
        max_size=150,
    )
)
def test_whatever_is_logged_nothing_is_raised_and_every_finding_is_whole(
    made: list[tuple[int, dict[str, float], float, int, int]],
) -> None:
    diagnosis = Diagnosis(Thresholds(spike_least_rows=4, stall_seconds=1.0, plateau_least_rows=20))
    for step, metrics, seconds, rank, number in made:
        diagnosis.feed([row(step, metrics, seconds=seconds, rank=rank, attempt=number)])
    diagnosis.close()
    for one in diagnosis.findings():
        assert one.kind in DETECTORS.own
        assert one.severity in ("info", "warning", "error")
        assert one.sentence
        assert one.evidence
        json.dumps(one.plain(), allow_nan=False)


def test_a_finding_as_json_has_infinities_as_strings() -> None:
    plain = Finding("nonfinite", "error", "loss", 1, 2, math.nan, math.inf, "a sentence").plain()
    assert (plain["value"], plain["threshold"]) == ("NaN", "Infinity")
