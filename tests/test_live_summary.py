"""A summary that is kept: whatever happens to the run's files, it says what one made anew says, and reads only what is new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from journals import WrittenRun

from lossbook.book import open as open_store
from lossbook.journal.line import encode_event, encode_scalars
from lossbook.processes import host_name
from lossbook.storage import summary as module
from lossbook.storage.compaction import MERGE_FILES, SealReport, merge_segments, seal_run
from lossbook.storage.summary import LiveSummary, compute_summary, overlay
from lossbook.storage.summary_file import RunSummary, read_summary

T = 1_763_688_000_000_000


def here(number: int = 0, resume_step: int | None = None) -> dict[str, Any]:
    return WrittenRun.attempt_entry(number, resume_step, host=host_name(), pid=os.getpid())


def same(found: RunSummary, expected: RunSummary) -> None:
    """That two summaries say the same; a mean may differ in its last digit."""
    one: dict[str, Any] = found.to_json()
    other: dict[str, Any] = expected.to_json()
    skipped = ("updated", "cursor", "metrics")
    assert {name: value for name, value in one.items() if name not in skipped} == {
        name: value for name, value in other.items() if name not in skipped
    }
    assert list(one["metrics"]) == list(other["metrics"])
    for key, statistics in one["metrics"].items():
        wanted = other["metrics"][key]
        assert statistics | {"mean": None} == wanted | {"mean": None}, key
        assert statistics["mean"] == (wanted["mean"] and pytest.approx(wanted["mean"], rel=1e-9)), key


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read from journals, and -1 for each sealed file, since the list was cleared."""
    counts: list[int] = []
    read_segment, read_sealed = module.read_segment, module.read_sealed

    def counting(path: str, **options: Any) -> Any:
        reading = read_segment(path, **options)
        counts.append(len(reading.rows))
        return reading

    def sealed(*arguments: Any) -> Any:
        counts.append(-1)
        return read_sealed(*arguments)

    monkeypatch.setattr(module, "read_segment", counting)
    monkeypatch.setattr(module, "read_sealed", sealed)
    return counts


def append(path: str, *lines: bytes) -> None:
    with open(path, "ab") as file:
        file.write(b"".join(lines))


def test_sealing_and_merging_make_nothing_be_read_again(tmp_path: Path, read: list[int]) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    live = LiveSummary(run.folder)
    for number in range(MERGE_FILES + 3):
        run.segment([(10 * number + step, {"a": float(step), "b": 1.0}) for step in range(10)])
        live.update()
        seal_run(run.folder, finished=False)
        assert live.update().metrics["a"].count == 10 * (number + 1)
    assert -1 not in read
    assert sum(read) == 11 * (MERGE_FILES + 3)
    assert any("-000001-" in name for name in os.listdir(run.folder.metrics)), "nothing was merged"
    same(live.update(), compute_summary(run.folder))


def test_rows_that_were_sealed_before_they_were_read_are_read_from_the_sealed_file(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    run.segment([{"a": 1.0}])
    live = LiveSummary(run.folder)
    live.update()
    run.segment([(step, {"a": float(step)}) for step in range(1, 5)])
    run.segment([(5, {"a": 9.0})])
    seal_run(run.folder, finished=False)
    same(live.update(), compute_summary(run.folder))
    path = run.segment([(6, {"a": 2.0})])
    live.update()
    append(path, encode_scalars(run.next_row[0], T, 7, {"a": 100.0, "new": 1.0}))
    run.next_row[0] += 1
    run.segment([(8, {"a": 3.0})])
    seal_run(run.folder, finished=False)
    same(live.update(), compute_summary(run.folder))


def test_a_reader_reads_only_what_is_behind_the_cursor(tmp_path: Path, read: list[int]) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    run.segment([(step, {"a": float(step)}) for step in range(50)])
    path = run.segment([(step, {"a": float(step), "b": float("nan")}) for step in range(50, 90)])
    seal_run(run.folder, finished=False)
    LiveSummary(run.folder).write()
    written = read_summary(run.folder) or RunSummary()
    append(
        path,
        encode_scalars(run.next_row[0], T, 90, {"a": 0.5, "c": 1.0}),
        encode_event(run.next_row[0] + 1, T + 1, None, "config", None, {"later": 1}),
        encode_event(run.next_row[0] + 2, T + 2, None, "alert", None, {"text": "x"}),
    )
    read.clear()
    found = overlay(written, run.folder)
    assert read == [3]
    same(found, compute_summary(run.folder))
    assert (found.config, found.alerts, found.metrics["c"].count) == ({"later": 1}, 1, 1)


def test_a_reader_goes_on_when_what_was_behind_the_cursor_is_sealed(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    path = run.segment([(step, {"a": float(step)}) for step in range(50)])
    LiveSummary(run.folder).write()
    written = read_summary(run.folder) or RunSummary()
    append(path, encode_scalars(run.next_row[0], T, 50, {"a": 0.5}))
    run.next_row[0] += 1
    run.segment([(51, {"a": 1.0})])
    seal_run(run.folder, finished=False)
    same(overlay(written, run.folder), compute_summary(run.folder))


@pytest.mark.parametrize("resume_step", [None, 4])
def test_a_reader_of_a_resumed_run_counts_no_hidden_row(tmp_path: Path, resume_step: int | None) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[WrittenRun.attempt_entry(0), here(1, resume_step)])
    run.segment([(step, {"a": float(step), "b": 1.0}) for step in range(10)])
    path = run.segment([(5, {"a": 50.0})], attempt=1)
    LiveSummary(run.folder).write()
    written = read_summary(run.folder) or RunSummary()
    append(path, encode_scalars(run.next_row[0], T, 6, {"a": 60.0, "b": 2.0}))
    found = overlay(written, run.folder)
    same(found, compute_summary(run.folder))
    assert found.metrics["a"].count == 7
    assert found.metrics["b"].count == (7 if resume_step is None else 6)


def test_an_attempt_that_begins_meanwhile_hides_rows_of_a_kept_summary(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    run.segment([(step, {"a": float(step)}) for step in range(10)])
    LiveSummary(run.folder).write()
    live = LiveSummary(run.folder)
    assert live.update(read_summary(run.folder)).metrics["a"].count == 10
    run.identity["attempts"].append(here(1, 3))
    run.write_identity()
    assert live.update().metrics["a"].count == 4
    run.segment([(4, {"a": 44.0})], attempt=1)
    found = live.update()
    assert (found.metrics["a"].count, found.metrics["a"].max) == (5, 44.0)
    same(found, compute_summary(run.folder))


def test_a_file_that_went_or_shrank_takes_its_rows_along(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "run", attempts=[here()])
    first = run.segment([(step, {"a": float(step)}) for step in range(10)])
    second = run.segment([(10, {"a": 10.0, "only": 1.0})])
    live = LiveSummary(run.folder)
    live.update()
    os.unlink(second)
    same(live.update(), compute_summary(run.folder))
    assert "only" not in live.update().metrics
    with open(first, "rb+") as file:
        lines = file.readlines()
        file.truncate(sum(len(line) for line in lines[:4]))
    assert live.update().metrics["a"].count == 3


def test_a_running_run_costs_its_new_rows_alone_for_all_who_ask(store: Path, read: list[int]) -> None:
    run = WrittenRun(store / "tests" / "a1", attempts=[here()])
    path = run.segment([(step, {"a": float(step)}) for step in range(500)])
    book = open_store(store)
    listing = book.listing()
    listing.look()
    listing.look(everything=True)
    kept = book.kept_run("tests", "a1")
    assert kept.metrics["a"]["count"] == 500
    read.clear()
    for more in range(5):
        append(path, encode_scalars(run.next_row[0] + more, T, 500 + more, {"a": -1.0}))
        listing.look(everything=True)
        assert listing.column("a") == [-1.0]
        assert kept.refresh().metrics["a"]["count"] == 501 + more
    assert read == [1] * 5


ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf")]),
        min_size=1,
    ),
    min_size=1,
    max_size=4,
)
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ROWS),
        st.tuples(st.just("segment"), ROWS),
        st.tuples(st.just("other rank"), ROWS),
        st.tuples(st.just("resume"), st.none() | st.integers(-1, 12)),
        st.sampled_from([("seal",), ("merge",), ("ask",), ("write",), ("seeded",)]),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=DEEDS)
def test_whatever_happens_to_a_run_a_kept_summary_is_that_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[Any, ...]]
) -> None:
    run = WrittenRun(tmp_path_factory.mktemp("any") / "run", attempts=[here()])
    path, attempt, step = run.segment([(0, {"a": 1.0})]), 0, 1
    live = LiveSummary(run.folder)
    seeded: LiveSummary | None = None
    for deed, *what in deeds:
        if deed == "append":
            for row in what[0]:
                append(path, encode_scalars(run.next_row[0], T + run.next_row[0], step, row))
                run.next_row[0] += 1
                step += 1
        elif deed in ("segment", "other rank"):
            rows = [(step + at, row) for at, row in enumerate(what[0])]
            step += len(rows)
            if deed == "segment":
                path = run.segment(rows, attempt=attempt)
            else:
                run.segment(rows, attempt=attempt, rank=1)
        elif deed == "resume":
            attempt += 1
            step = max(0, what[0] + 1 if what[0] is not None else step - 3)
            run.identity["attempts"].append(here(attempt, what[0]))
            run.write_identity()
            path = run.segment([(step, {"a": 5.0})], attempt=attempt)
            step += 1
        elif deed == "seal":
            seal_run(run.folder, finished=False)
        elif deed == "merge":
            seal_run(run.folder, finished=False)
            merge_segments(run.folder, SealReport(), everything=True)
        elif deed == "write":
            LiveSummary(run.folder).write()
        elif deed == "seeded":
            seeded = LiveSummary(run.folder)
            same(seeded.update(read_summary(run.folder)), compute_summary(run.folder))
        else:
            same(live.update(), compute_summary(run.folder))
    for one in (live, seeded):
        if one is not None:
            same(one.update(), compute_summary(run.folder))
