"""What a heat map promises: each row that counts in exactly one cell, whatever pieces the run's files are in."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from journals import WrittenRun

import lossbook
from lossbook.curves import heatmap as matrix_module
from lossbook.curves.cells import Matrix
from lossbook.curves.layers import layer_families
from lossbook.errors import BadArgument, UnknownKey
from lossbook.processes import host_name
from lossbook.reading.run import RecordedRun
from lossbook.storage.compaction import seal_run

Rows = list[tuple[str, int, float]]
MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(name: str = "a1", *, live: bool = False, **identity: Any) -> WrittenRun:
        if live:
            here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
            identity = {"attempts": [here]} | identity
        return WrittenRun(tmp_path / "store" / "tests" / name, name=name, **identity)

    return make


def reading(run: WrittenRun) -> RecordedRun:
    store = os.path.dirname(os.path.dirname(run.folder.path))
    return lossbook.open(store).run(os.path.basename(run.folder.path))


def assert_holds(matrix: Matrix, rows: Rows) -> None:
    """The matrix is what the rows say, put into cells one by one."""
    columns = len(matrix.edges) - 1
    for line, key in enumerate(matrix.keys):
        cells: list[list[float]] = [[] for _ in range(columns)]
        for name, step, value in rows:
            if name == key and matrix.edges[0] <= step <= matrix.edges[-1]:
                at = int(numpy.searchsorted(matrix.edges, step, side="right")) - 1
                cells[min(at, columns - 1)].append(value)
        for column, values in enumerate(cells):
            finite = [value for value in values if math.isfinite(value)]
            assert matrix.count[line, column] == len(values)
            assert matrix.nonfinite[line, column] == len(values) - len(finite)
            if finite:
                assert (matrix.min[line, column], matrix.max[line, column]) == (min(finite), max(finite))
                assert math.isclose(matrix.mean[line, column], sum(finite) / len(finite), rel_tol=1e-9, abs_tol=1e-9)
            else:
                assert all(math.isnan(one[line, column]) for one in (matrix.mean, matrix.min, matrix.max))


def test_rows_of_sealed_and_live_segments_are_in_one_map(make_run: MakeRun) -> None:
    run = make_run(live=True)
    rows: Rows = []
    for number in range(4):
        written = [
            (step, {f"l/{k}": step * k + 0.5 for k in range(5)}) for step in range(number * 50, number * 50 + 50)
        ]
        run.segment(written)
        rows += [(key, step, value) for step, values in written for key, value in values.items()]
    seal_run(run.folder, finished=False)
    assert os.listdir(run.folder.journal)
    keys = ["l/4", "l/0", "l/2"]
    matrix = reading(run).matrix(keys, columns=17)
    assert matrix.keys == tuple(keys)
    assert matrix.mean.shape == (3, 17)
    assert matrix.beyond == 0.0
    assert int(matrix.count.sum()) == 600
    assert_holds(matrix, rows)
    assert_holds(reading(run).matrix(keys, columns=7, start=30, end=141), rows)


def test_what_a_resumed_attempt_went_back_over_does_not_count(make_run: MakeRun) -> None:
    attempts = [WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 40), WrittenRun.attempt_entry(2)]
    run = make_run(attempts=attempts)
    run.segment([(step, {"a": 1.0, "b": 1.0}) for step in range(100)])
    run.segment([(step, {"a": 2.0, "b": 2.0}) for step in range(41, 90)], attempt=1)
    run.segment([(step, {"a": 3.0}) for step in range(70, 80)], attempt=2, end="finished")
    rows: Rows = [(key, step, 1.0) for step in range(41) for key in "ab"]
    rows += [("a", step, 2.0) for step in range(41, 70)] + [("b", step, 2.0) for step in range(41, 90)]
    rows += [("a", step, 3.0) for step in range(70, 80)]
    assert_holds(reading(run).matrix(["a", "b"], columns=9), rows)
    seal_run(run.folder, finished=True)
    recorded = reading(run)
    assert not os.listdir(run.folder.journal)
    assert_holds(recorded.matrix(["a", "b"], columns=9), rows)


def test_ranks_and_a_fork_are_respected(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with lossbook.init(project="tests", name="parent", store=store) as parent:
        for step in range(20):
            parent.log({"l/0": 1.0, "l/1": 2.0}, step=step)
    with lossbook.init(project="tests", name="child", store=store, fork_from=(parent.id, 9)) as child:
        for step in range(10, 15):
            child.log({"l/0": 5.0}, step=step)
    rows: Rows = [("l/0", step, 1.0) for step in range(10)] + [("l/1", step, 2.0) for step in range(10)]
    rows += [("l/0", step, 5.0) for step in range(10, 15)]
    assert_holds(lossbook.open(store).run(child.id).matrix(["l/0", "l/1"], columns=5), rows)
    shared = WrittenRun(store / "tests" / "ranks")
    for rank in range(3):
        shared.segment([(step, {"x": float(rank)}) for step in range(10)], rank=rank, end="finished")
    seal_run(shared.folder, finished=True)
    matrix = reading(shared).matrix(["x"], columns=2)
    assert matrix.count.tolist() == [[15, 15]]
    assert (matrix.min[0, 0], matrix.max[0, 0], matrix.mean[0, 0]) == (0.0, 2.0, 1.0)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(-50, 200), st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf])
        ),
        min_size=1,
        max_size=60,
    ),
    columns=st.integers(1, 40),
    sealed=st.booleans(),
    at_once=st.sampled_from([1, 10, 1000]),
)
def test_every_row_is_in_one_cell(
    rows: Rows,
    columns: int,
    sealed: bool,
    at_once: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matrix_module, "READ_ROWS", at_once)
    monkeypatch.setattr(matrix_module, "METRICS_ROW_GROUP", at_once)
    run = WrittenRun(tmp_path_factory.mktemp("store") / "tests" / "a1")
    run.segment([(step, {key: value}) for key, step, value in rows], end="finished")
    if sealed:
        seal_run(run.folder, finished=True)
    keys = sorted({key for key, _, _ in rows}, reverse=True)[:3]
    matrix = reading(run).matrix(keys, columns=columns)
    own = [row for row in rows if row[0] in keys]
    assert int(matrix.count.sum()) == len(own)
    assert_holds(matrix, own)


def test_of_very_many_rows_buckets_are_counted_once_and_their_reach_is_told(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_module, "MOST_ROWS", 1000)
    run = make_run(attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 15_000)])
    run.segment(
        [
            (step, {"a": float(step), "b": -1.0, "few": 1.0} if step < 10 else {"a": float(step), "b": -1.0})
            for step in range(20_000)
        ]
    )
    run.segment([(step, {"a": float(step)}) for step in range(15_001, 16_001)], attempt=1, end="finished")
    seal_run(run.folder, finished=True)
    recorded = reading(run)
    matrix = recorded.matrix(["a", "b", "few"], columns=8)
    assert 0 < matrix.beyond <= 32
    assert matrix.count.sum(axis=1).tolist() == [16_001, 15_001, 10]
    assert (float(numpy.nanmin(matrix.min[0])), float(numpy.nanmax(matrix.max[0]))) == (0.0, 16_000.0)
    exact = [16_001 / 8] * 8
    assert numpy.allclose(matrix.count[0], exact, atol=2 * matrix.beyond + 1)
    zoomed = recorded.matrix(["a"], columns=2, start=101, end=15_500)
    assert int(zoomed.count.sum()) == 15_400
    assert (zoomed.min[0, 0], zoomed.max[0, 1]) == (101.0, 15_500.0)


def test_another_axis_has_its_own_edges(make_run: MakeRun) -> None:
    run = make_run()
    run.segment(
        [(step, {"l/0": float(step), "tokens": 512.0 * step, "wave": float(step % 3)}) for step in range(100)],
        end="finished",
    )
    recorded = reading(run)
    matrix = recorded.matrix(["l/0"], x="tokens", columns=4)
    assert (matrix.x_name, matrix.edges[0], matrix.edges[-1]) == ("tokens", 0.0, 99 * 512.0)
    assert matrix.count.tolist() == [[25, 25, 25, 25]]
    zoomed = recorded.matrix(["l/0"], x="tokens", columns=1, start=5120, end=10240)
    assert (zoomed.count.tolist(), zoomed.min[0, 0], zoomed.max[0, 0]) == ([[11]], 10.0, 20.0)
    assert recorded.matrix(["l/0"], x="wallclock", columns=4).count.sum() == 100
    with pytest.raises(BadArgument, match="goes back"):
        recorded.matrix(["l/0"], x="wave")


def test_what_cannot_be_drawn_is_said(make_run: MakeRun) -> None:
    run = make_run()
    run.segment([{"a": 1.0}], end="finished")
    recorded = reading(run)
    with pytest.raises(UnknownKey, match="nothing"):
        recorded.matrix(["a", "nothing"])
    for keys, options in (([], {}), ("a", {}), (["a"], {"columns": 0}), (["a"], {"start": 5, "end": 1})):
        with pytest.raises(BadArgument):
            recorded.matrix(keys, **options)
    assert recorded.matrix(["a"], columns=3).count.tolist() == [[1, 0, 0]]
    assert recorded.matrix(["a"], start=50, end=60).count.sum() == 0


# -- which series belong together ---------------------------------------------------------------------------------


def test_names_that_differ_in_a_number_are_a_family() -> None:
    keys = [f"layers/{layer}/attn/grad_norm" for layer in (10, 2, 0)] + ["train/loss", "layers/0/mlp/grad_norm"]
    (family,) = layer_families(keys)
    assert (family.pattern, family.kind) == ("layers/*/attn/grad_norm", "layer")
    assert [member.index for member in family.members] == [0, 2, 10]
    assert family.keys[-1] == "layers/10/attn/grad_norm"


def test_parameters_paths_are_a_family_and_their_layers_too() -> None:
    keys = [f"gradient/transformer.h.{layer}.mlp.c_fc.weight" for layer in range(11)]
    keys += [f"gradient/transformer.h.{layer}.ln_1.bias" for layer in range(11)] + ["gradient/transformer.wte.weight"]
    found = {family.pattern: family for family in layer_families(keys)}
    assert set(found) == {
        "gradient/**",
        "gradient/transformer.h.*.mlp.c_fc.weight",
        "gradient/transformer.h.*.ln_1.bias",
    }
    whole = found["gradient/**"]
    assert (whole.kind, len(whole.members)) == ("path", 23)
    labels = [member.label for member in whole.members]
    assert labels.index("transformer.h.2.ln_1.bias") < labels.index("transformer.h.10.ln_1.bias")


def test_of_two_numbers_the_one_that_varies_is_the_layer() -> None:
    keys = [f"act/layer_{layer}/head_0/rms" for layer in range(12)]
    (family,) = layer_families(keys)
    assert family.pattern == "act/layer_*/head_0/rms"


def test_the_machine_s_series_are_no_layers() -> None:
    assert layer_families([f"system.gpu.{k}.temp" for k in range(8)] + ["gpu/0", "gpu/1"]) == []
