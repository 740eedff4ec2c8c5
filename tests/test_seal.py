"""What sealing promises: every row once, bit for bit, whatever the journal holds and wherever it is cut off."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from journals import BEGIN, ENDED, WrittenRun, all_rows

from lossbook.errors import StoreError
from lossbook.journal import extend_digest
from lossbook.journal.lease import place_name
from lossbook.journal.line import encode_scalars
from lossbook.paths import RunFolder
from lossbook.processes import this_place
from lossbook.storage import compaction as segments_module, digests
from lossbook.storage.compaction import seal_run
from lossbook.storage.schema import EVENTS, METRICS, ROLLUP, connect, parquet
from lossbook.storage.segments import list_segments


def query(path: str | None, text: str) -> list[Any]:
    assert path is not None
    connection = connect()
    try:
        return connection.execute(text.replace("$file", parquet(path))).fetchall()
    finally:
        connection.close()


def files_of(folder: RunFolder) -> set[str]:
    return {
        os.path.relpath(os.path.join(directory, name), folder.path)
        for directory, _, names in os.walk(folder.path)
        for name in names
    }


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "run")


# -- what a sealed segment is ---------------------------------------------------------------------------------------


def test_a_sealed_segment_has_the_schema_of_the_specification_and_is_sorted(run: WrittenRun) -> None:
    run.segment([{"b": 1.0, "a": float(at)} for at in range(300)], end="finished")
    report = seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    said = {"project": "VARCHAR", "run": "VARCHAR"}
    for path, columns in ((segment.metrics, said | METRICS), (segment.rollup, ROLLUP), (segment.events, said | EVENTS)):
        assert dict(row[:2] for row in query(path, "DESCRIBE SELECT * FROM $file")) == columns
    rows = query(segment.metrics, "SELECT key, step, row FROM $file")
    assert rows == sorted(rows)
    assert len(rows) == report.scalars == 600
    assert [kind for (kind,) in query(segment.events, "SELECT kind FROM $file")] == ["attempt", "finish"]
    assert files_of(run.folder) >= {"metrics/r0-000001.parquet", "rollups/r0-000001.parquet"}
    assert not os.listdir(run.folder.journal)
    assert 0 < report.bytes_after < report.bytes_before
    assert report.problems == []


def test_times_and_steps_read_back_as_they_were_logged(run: WrittenRun) -> None:
    run.segment([(-5, {"a": 1.0}), ((1 << 62), {"a": 2.0})], end="finished")
    before = all_rows(run.folder)
    seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == before
    (segment,) = list_segments(run.folder)
    times = query(segment.metrics, "SELECT epoch_us(time) FROM $file ORDER BY row")
    assert times == [(BEGIN + 1000,), (BEGIN + 2000,)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=200))
def test_any_double_reads_back_with_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    run = WrittenRun(tmp_path_factory.mktemp("bits") / "run")
    run.segment([{"x": value} for value in values], end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    read = [value for (value,) in query(segment.metrics, "SELECT value FROM $file ORDER BY row")]
    assert [bits(value) for value in read] == [bits(value) for value in values]


def bits(value: float) -> bytes:
    # A NaN's payload is the one thing that JSON cannot carry.
    return b"NaN" if math.isnan(value) else struct.pack("<d", value)


def test_the_doubles_at_every_edge_read_back_with_the_same_bits(run: WrittenRun) -> None:
    values = [
        -0.0,
        0.0,
        5e-324,
        -5e-324,
        2.2250738585072011e-308,
        1e308,
        -1.7976931348623157e308,
        0.1,
        1 / 3,
        math.inf,
        -math.inf,
        math.nan,
        2.0**53 + 2,
        1e22,
        1e23,
    ]
    generator = random.Random(7)
    values += [struct.unpack("<d", generator.randbytes(8))[0] for _ in range(5_000)]
    run.segment([{"x": value} for value in values], end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    read = [value for (value,) in query(segment.metrics, "SELECT value FROM $file ORDER BY row")]
    assert [bits(value) for value in read] == [bits(value) for value in values]


# -- rollups --------------------------------------------------------------------------------------------------------


def test_each_rollup_level_agrees_with_the_rows_below_it(run: WrittenRun) -> None:
    generator = random.Random(3)
    values = [generator.gauss(0, 1) for _ in range(5_000)]
    values[777], values[1500], values[4000], values[4999] = 50.0, math.nan, -math.inf, math.nan
    run.segment(
        [{"loss": value, "rare": 1.0} if at % 100 == 0 else {"loss": value} for at, value in enumerate(values)],
        end="finished",
    )
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    levels = query(segment.rollup, "SELECT DISTINCT key, level FROM $file ORDER BY ALL")
    finest = min(level for key, level in levels if key == "loss")
    assert ("loss", 63) in levels
    assert ("rare", 63) in levels
    for _, level in levels:
        width = 1 << level
        buckets = query(
            segment.rollup,
            "SELECT first_step, last_step, first, last, min, max, sum, min_step, max_step, count, nonfinite "
            f"FROM $file WHERE key = 'loss' AND level = {level} ORDER BY first_step",
        )
        if not buckets:
            continue
        assert len(buckets) == -(-5_000 // width)
        for number, bucket in enumerate(buckets):
            part = values[number * width : (number + 1) * width]
            finite = [value for value in part if math.isfinite(value)]
            first_step, last_step, first, last, low, high, total, low_step, high_step, count, nonfinite = bucket
            begin = number * width
            assert (first_step, last_step, count) == (begin, begin + len(part) - 1, len(part))
            assert nonfinite == len(part) - len(finite)
            assert bits(first) == bits(part[0])
            assert bits(last) == bits(part[-1])
            assert (low, high) == (min(finite), max(finite))
            assert (low_step, high_step) == (begin + part.index(low), begin + part.index(high))
            assert total == pytest.approx(sum(finite))
    assert finest < 13


def test_a_series_of_nothing_finite_has_no_extremes(run: WrittenRun) -> None:
    run.segment([{"x": math.nan}, {"x": math.inf}, {"x": -math.inf}], end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    found = query(segment.rollup, "SELECT min, max, min_step, max_step, count, nonfinite FROM $file WHERE level = 63")
    assert found == [(None, None, None, None, 3, 3)]


# -- damage ---------------------------------------------------------------------------------------------------------


def test_a_damaged_line_costs_that_line_alone_and_one_sentence(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}, b'{"i":2,"t":17,"s":1,"m":{"a":1.\n', {"a": 2.0}], end="finished")
    report = seal_run(run.folder, finished=True)
    assert [row[3] for row in all_rows(run.folder)] == [0.0, 2.0]
    (problem,) = report.problems
    assert "line 3" in problem
    (segment,) = list_segments(run.folder)
    kept = query(segment.events, "SELECT value FROM $file WHERE kind = 'damaged'")
    assert '"a":1.' in orjson.loads(kept[0][0])["text"]


def test_a_torn_last_line_is_reported_and_nothing_else_is_lost(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}, {"a": 1.0}], tail=b'{"i":3,"t":1763688000')
    report = seal_run(run.folder, finished=True)
    assert [row[3] for row in all_rows(run.folder)] == [0.0, 1.0]
    assert len(report.problems) == 1
    assert "torn" in report.problems[0]


@pytest.mark.parametrize(
    "line",
    [
        b'{"i":2,"t":17,"s":1,"m":{"a":"1.5"}}\n',
        b'{"i":2,"t":17,"s":1,"m":{"a":null}}\n',
        b'{"i":2,"t":17,"s":1,"m":{"a":[1]}}\n',
        b'{"i":2,"t":17,"s":1,"m":[1]}\n',
        b'{"i":2,"t":17,"s":"1","m":{"a":1}}\n',
        b'{"i":2,"t":17,"s":1.5,"m":{"a":1}}\n',
        b'{"i":2,"t":17,"s":null,"m":{"a":1}}\n',
        b'{"i":"2","t":17,"s":1,"m":{"a":1}}\n',
        b'{"i":2,"t":17,"m":{"a":1}}\n',
        b'{"i":2,"t":17,"s":18446744073709551615,"m":{"a":1}}\n',
        b'{"i":18446744073709551615,"t":17,"s":1,"m":{"a":1}}\n',
        b'{"i":2,"t":18446744073709551615,"s":1,"m":{"a":1}}\n',
        b'{"i":2,"t":9223372036854775807,"s":1,"m":{"a":1}}\n',
        b'{"i":2,"t":-9223372036854775808,"s":1,"m":{"a":1}}\n',
        b'{"i":2,"t":17,"s":18446744073709551615,"k":"note","v":{}}\n',
        b'{"i":18446744073709551615,"t":17,"k":"note","v":{}}\n',
        b'{"i":2,"t":18446744073709551615,"k":"note","v":{}}\n',
        b'{"i":2,"t":17,"k":"attempt","v":{"number":"x"}}\n',
        b'{"i":2,"t":17,"k":"attempt","v":{"number":99999999}}\n',
        b'{"i":2,"t":17,"k":"note","key":5,"v":{}}\n',
        b'{"i":2,"t":17,"k":"note","v":[1]}\n',
        b'{"i":2,"t":17,"k":5,"v":{}}\n',
        b'{"i":2,"t":17,"s":1,"m":{"\\ud800":1}}\n',
        b"[]\n",
        b"null\n",
        b"\n",
        b"\x00\xff\xfe\n",
        b"\x00" * 4096 + b"\n",
    ],
)
def test_a_line_of_wrong_types_never_costs_another_row(run: WrittenRun, line: bytes) -> None:
    run.segment([{"a": 0.0}, line, {"a": 2.0}], end="finished")
    report = seal_run(run.folder, finished=True)
    assert not os.listdir(run.folder.journal)
    rows = [(row[1], row[3], row[5]) for row in all_rows(run.folder)]
    assert rows == [(1, 0.0, 0), (3, 2.0, 0)]
    assert any("line 3" in problem for problem in report.problems)


def test_a_row_of_an_unknown_kind_is_kept_among_the_events(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}, ("hologram", {"depth": [1, {"x": "é\x00"}]})], end="finished")
    report = seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    ((step, value),) = query(segment.events, "SELECT step, value FROM $file WHERE kind = 'hologram'")
    assert (step, orjson.loads(value)) == (1, {"depth": [1, {"x": "é\x00"}]})
    assert report.problems == []


def test_a_key_twice_in_a_line_counts_once(run: WrittenRun) -> None:
    run.segment([b'{"i":1,"t":17,"s":0,"m":{"a":1.0,"b":5.0,"a":2.0}}\n'], end="finished")
    before = all_rows(run.folder)
    seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == before == [("a", 1, 0, 2.0, 0, 0), ("b", 1, 0, 5.0, 0, 0)]


def test_whole_numbers_and_booleans_are_doubles(run: WrittenRun) -> None:
    line = b'{"i":1,"t":17,"s":0,"m":{"a":true,"b":9007199254740993,"c":18446744073709551615}}\n'
    run.segment([line], end="finished")
    seal_run(run.folder, finished=True)
    assert [row[3] for row in all_rows(run.folder)] == [1.0, 9007199254740992.0, 18446744073709551616.0]


def test_strange_keys_survive(run: WrittenRun) -> None:
    keys = [
        "k" * 10_000,
        "é",
        "日本語/損失",
        "a b",
        "",
        "'",
        '"',
        "x\x00y",
        "\n",
        "a/b/../c",
        "\U0001f600",
        "%s {0}",
        "Z",
        "a",
    ]
    run.segment([{key: float(at) for at, key in enumerate(keys)}], end="finished")
    before = all_rows(run.folder)
    seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == before
    assert len(before) == len(keys)
    (segment,) = list_segments(run.folder)
    stored = [key for (key,) in query(segment.metrics, "SELECT key FROM $file")]
    assert stored == sorted(keys, key=str.encode)


@pytest.mark.slow
def test_a_hundred_thousand_keys_survive(run: WrittenRun) -> None:
    run.segment(({f"layer/{at}/norm": float(at)} for at in range(100_000)), end="finished")
    report = seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    assert report.scalars == 100_000
    assert query(segment.metrics, "SELECT count(DISTINCT key), sum(value) FROM $file") == [(100_000, 4999950000.0)]
    assert query(segment.rollup, "SELECT count(*), count(DISTINCT key) FROM $file") == [(100_000, 100_000)]


def test_steps_out_of_order_and_clocks_that_go_back_are_sorted_by_step(run: WrittenRun) -> None:
    steps = [5, 3, 3, 9, -2, 0, 5]
    lines = [encode_scalars(at + 1, BEGIN - at * 1_000_000, step, {"a": float(at)}) for at, step in enumerate(steps)]
    run.segment(lines, end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    found = query(segment.metrics, "SELECT step, row, value, epoch_us(time) FROM $file")
    assert [row[:2] for row in found] == sorted((step, at + 1) for at, step in enumerate(steps))
    assert all(time == BEGIN - int(value) * 1_000_000 for _, _, value, time in found)
    top = query(segment.rollup, "SELECT first_step, last_step, first, last FROM $file WHERE level = 63")
    assert top == [(-2, 9, 4.0, 3.0)]


# -- writers --------------------------------------------------------------------------------------------------------


def test_two_attempts_of_one_rank_keep_their_numbers_and_their_rollups_apart(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}] * 10, attempt=0)
    run.segment([{"a": 2.0}] * 10, attempt=1, first_step=5, end="finished")
    seal_run(run.folder, finished=True)
    assert sorted((row[2], row[3], row[5]) for row in all_rows(run.folder)) == sorted(
        [(step, 1.0, 0) for step in range(10)] + [(step, 2.0, 1) for step in range(5, 15)]
    )
    columns = "attempt, first_step, last_step, min, count"
    tops = [
        row
        for segment in list_segments(run.folder)
        for row in query(segment.rollup, f"SELECT {columns} FROM $file WHERE level = 63")
    ]
    assert sorted(tops) == [(0, 0, 9, 1.0, 10), (1, 5, 14, 2.0, 10)]


def test_a_segment_whose_first_line_is_damaged_belongs_to_the_attempt_before_it(run: WrittenRun) -> None:
    run.identity["attempts"] = [run.attempt_entry(3, **ENDED)]
    run.write_identity()
    run.segment([{"a": 1.0}], attempt=3)
    seal_run(run.folder, finished=True)
    run.segment([b'{"i":9,"t":"torn\n', {"a": 2.0}], head=False)
    run.segment([{"a": 3.0}], head=False, end="finished")
    seal_run(run.folder, finished=True)
    assert [row[5] for row in all_rows(run.folder)] == [3, 3, 3]


def test_ranks_and_child_processes_keep_files_of_their_own(run: WrittenRun) -> None:
    for rank in (0, 1, -1, 12):
        run.segment([{"a": float(rank)}], rank=rank, end="finished")
    seal_run(run.folder, finished=True)
    assert sorted((row[4], row[3]) for row in all_rows(run.folder)) == [(-1, -1.0), (0, 0.0), (1, 1.0), (12, 12.0)]
    assert {segment.name.rank for segment in list_segments(run.folder)} == {0, 1, -1, 12}


def test_two_writers_of_one_rank_are_both_kept_and_reported(run: WrittenRun) -> None:
    run.segment([encode_scalars(1, BEGIN, 0, {"a": 1.0}), encode_scalars(1, BEGIN, 0, {"a": 7.0})], end="finished")
    report = seal_run(run.folder, finished=True)
    assert sorted(row[3] for row in all_rows(run.folder)) == [1.0, 7.0]
    assert any("two processes" in problem for problem in report.problems)


def test_missing_rows_are_reported(run: WrittenRun) -> None:
    run.segment([encode_scalars(1, BEGIN, 0, {"a": 1.0}), encode_scalars(8, BEGIN, 1, {"a": 7.0})])
    report = seal_run(run.folder, finished=True)
    assert any("rows 2 to 7 are missing" in problem for problem in report.problems)


def test_rows_missing_between_two_sealings_are_reported(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}] * 5)
    run.segment([{"a": 1.0}] * 5)
    seal_run(run.folder, finished=False)
    run.next_row[0] += 4
    run.segment([{"a": 1.0}] * 5)
    report = seal_run(run.folder, finished=True)
    # Segment 1 was sealed alone; 2 and 3 follow it, and the rows are missing between these.
    assert any("rows 12 to 15 are missing" in problem for problem in report.problems)


def test_the_segment_that_is_being_written_is_left_alone(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}])
    last = run.segment([{"a": 2.0}])
    seal_run(run.folder, finished=False)
    assert os.listdir(run.folder.journal) == [os.path.basename(last)]
    assert [row[3] for row in all_rows(run.folder)] == [1.0, 2.0]


def test_foreign_files_and_half_written_ones_are_passed_over(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    seal_run(run.folder, finished=True)
    for name in (
        "notes.txt",
        "r0-000002.parquet.host.1.tmp",
        "r0-000003.parquet.bak",
        "._r0-000001.parquet",
        "rX-1.parquet",
        "r0-000004.rollup.parquet",
    ):
        Path(run.folder.metrics, name).write_bytes(b"not parquet")
    Path(run.folder.journal, "r0-000001.jsonl~").write_bytes(b"junk")
    assert [segment.name.stem for segment in list_segments(run.folder)] == ["r0-000001"]
    assert len(all_rows(run.folder)) == 1


@pytest.mark.parametrize("parent", ["step=7/key=b", "rank=1", "a[1]*?", "it's", "with space %20 é"])
def test_the_name_of_a_store_never_changes_what_is_read(tmp_path: Path, parent: str) -> None:
    run = WrittenRun(tmp_path / parent / "run")
    for part in range(3):
        run.segment([{"a": float(part)}], end="finished" if part == 2 else None)
        seal_run(run.folder, finished=False)
    before = all_rows(run.folder)
    seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == before
    assert [row[:3] for row in before] == [("a", 1, 0), ("a", 3, 0), ("a", 5, 0)]
    (segment,) = list_segments(run.folder)
    assert query(segment.rollup, "SELECT key, rank, first_step, count FROM $file WHERE level = 63") == [("a", 0, 0, 3)]


# -- cut off at any point -------------------------------------------------------------------------------------------


class PulledPlug(BaseException):
    """The process ends here."""


class Plug:
    """Stands in for the functions that change files; ends the process at the call of a given number."""

    NAMES = ("replace", "unlink", "fsync", "rename", "remove")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.calls = 0
        self.pulled = False
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name), at, after))

    def _wrapped(self, real: Any, at: int, after: bool) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.pulled:
                # A process that is gone tidies nothing up.
                raise PulledPlug
            self.calls += 1
            if self.calls != at:
                return real(*arguments, **options)
            self.pulled = True
            if after:
                real(*arguments, **options)
            raise PulledPlug

        return call


def several_segments(path: Path) -> WrittenRun:
    run = WrittenRun(path)
    for number in range(3):
        rows = [{"a": float(number), "b": 0.5}] * 4
        run.segment([*rows, ("note", {"text": "x"})], end="finished" if number == 2 else None)
        if number < 2:
            # Sealed one by one, so that a merge comes of it at the end.
            run.segment([], number=number + 2)
            seal_run(run.folder, finished=False)
            os.unlink(os.path.join(run.folder.journal, f"r0-{number + 2:06d}.jsonl"))
            run.next_number[0] = number + 2
            run.next_row[0] -= 1
    return run


def cut_off(begun: RunFolder, path: Path, at: int, *, after: bool) -> RunFolder:
    """Copy a run and seal the copy, the process ending before or after a file operation of a given number."""
    folder = RunFolder(shutil.copytree(begun.path, path))
    with pytest.MonkeyPatch.context() as patch:
        Plug(patch, at, after=after)
        with pytest.raises(PulledPlug):
            seal_run(folder, finished=True)
    return folder


def event_rows(folder: RunFolder) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for segment in list_segments(folder):
        if segment.metrics is not None:
            found += query(segment.events, "SELECT row, kind FROM $file")
        else:
            from lossbook.journal.reader import read_segment

            found += [(row.i, row.kind) for row in read_segment(str(segment.journal)).rows if row.kind]
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_a_process_killed_between_any_two_file_operations_loses_and_doubles_nothing(
    tmp_path: Path, after: bool
) -> None:
    begun = several_segments(tmp_path / "begun")
    rows, events = all_rows(begun.folder), event_rows(begun.folder)
    assert len(rows) == 24
    whole = RunFolder(shutil.copytree(begun.folder.path, tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch:
        counted = Plug(patch, -1, after=False)
        seal_run(whole, finished=True)
    assert counted.calls > 10
    final = files_of(whole)
    for at in range(1, counted.calls + 1):
        folder = cut_off(begun.folder, tmp_path / f"cut-{at}", at, after=after)
        assert all_rows(folder) == rows, f"cut at file operation {at}"
        assert event_rows(folder) == events, f"cut at file operation {at}"
        assert seal_run(folder, finished=True).problems == [], f"mended after operation {at}"
        assert all_rows(folder) == rows, f"mended after operation {at}"
        assert event_rows(folder) == events, f"mended after operation {at}"
        assert {name for name in files_of(folder) if not name.endswith(".tmp")} == final, f"after operation {at}"


@pytest.mark.slow
def test_the_next_row_number_is_right_wherever_sealing_was_cut_off(tmp_path: Path) -> None:
    from lossbook.storage.resume_point import next_row

    begun = several_segments(tmp_path / "begun")
    expected = begun.next_row[0]
    whole = RunFolder(shutil.copytree(begun.folder.path, tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch:
        counted = Plug(patch, -1, after=False)
        seal_run(whole, finished=True)
    assert next_row(whole, 0) == expected
    for at in range(1, counted.calls + 1):
        folder = cut_off(begun.folder, tmp_path / f"cut-{at}", at, after=True)
        seal_run(folder, finished=True)
        assert next_row(folder, 0) == expected, f"cut at file operation {at}"


def test_sealing_twice_changes_nothing(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}] * 10, end="finished")
    seal_run(run.folder, finished=True)
    files, rows = files_of(run.folder), all_rows(run.folder)
    report = seal_run(run.folder, finished=True)
    assert (report.segments, report.scalars) == (0, 0)
    assert (files_of(run.folder), all_rows(run.folder)) == (files, rows)


def test_two_processes_that_seal_at_once_keep_every_row_once(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "run")
    for number in range(12):
        run.segment([{"a": float(number), "b": 1.0}] * 500, end="finished" if number == 11 else None)
    rows = all_rows(run.folder)
    code = (
        "import sys; from lossbook.paths import RunFolder; from lossbook.storage.compaction import seal_run; "
        "seal_run(RunFolder(sys.argv[1]), finished=True)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, run.folder.path]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert all_rows(run.folder) == rows
    assert not os.listdir(run.folder.journal)


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_full_disk_leaves_the_journal_and_nothing_half_written(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    run.segment([{"a": 1.0}] * 10, end="finished")
    before = files_of(run.folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, full)
        with pytest.raises(StoreError, match="No space left"):
            seal_run(run.folder, finished=True)
    assert files_of(run.folder) - {"followers/seal.lock", "followers/seal.json"} == before
    seal_run(run.folder, finished=True)
    assert len(all_rows(run.folder)) == 10


def test_a_folder_that_cannot_be_written_is_one_sentence(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    Path(run.folder.metrics).write_text("in the way")
    with pytest.raises(StoreError, match="r0-000001"):
        seal_run(run.folder, finished=True)
    assert len(os.listdir(run.folder.journal)) == 1


# -- digests --------------------------------------------------------------------------------------------------------


def test_each_sealed_file_has_a_digest_that_sha256sum_checks(run: WrittenRun) -> None:
    for number in range(3):
        run.segment([{"a": float(number)}, ("note", {"text": "x"})])
    run.segment([], end="finished")
    seal_run(run.folder, finished=True)
    names = os.listdir(run.folder.digests)
    checked = subprocess.run(
        ["sha256sum", "-c", *(f"digests/{name}" for name in names)], cwd=run.folder.path, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == 3 + 1, "those of the segment, and what other engines see"


def test_a_digest_is_in_place_before_the_file_that_it_covers(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def put(source: str, target: str) -> None:
        if target.startswith(run.folder.metrics):
            assert os.path.exists(f"{run.folder.digests}/r0-000001.sha256")
        replace(source, target)

    monkeypatch.setattr(os, "replace", put)
    run.segment([{"a": 1.0}], end="finished")
    seal_run(run.folder, finished=True)
    assert len(all_rows(run.folder)) == 1


def test_a_file_that_is_not_what_was_written_is_left_out_of_merging(run: WrittenRun) -> None:
    for number in range(4):
        run.segment([{"a": float(number)}] * 50)
        seal_run(run.folder, finished=False)
    run.segment([], end="finished")
    damaged = Path(run.folder.metrics, "r0-000002.parquet")
    contents = bytearray(damaged.read_bytes())
    contents[200] ^= 1
    damaged.write_bytes(contents)
    report = seal_run(run.folder, finished=True)
    assert damaged.read_bytes() == contents
    assert any(str(damaged) in problem for problem in report.problems)
    stems = [segment.name.stem for segment in list_segments(run.folder)]
    assert stems == ["r0-000001", "r0-000002", "r0-000003-000005"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_stays_out_of_merging_and_is_named(
    run: WrittenRun, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for number in range(4):
        run.segment([{"a": float(number)}] * 50)
        seal_run(run.folder, finished=False)
    run.segment([], end="finished")
    failing = os.path.join(run.folder.metrics, "r0-000002.parquet")
    digest = digests.sha256_of

    def sha256_of(path: str) -> str:
        if path == failing:
            raise OSError(code, os.strerror(code), path)
        return digest(path)

    monkeypatch.setattr(digests, "sha256_of", sha256_of)
    report = seal_run(run.folder, finished=True)
    assert [problem.split(" ")[0] for problem in report.problems] == [failing]
    monkeypatch.undo()
    assert len([row for row in all_rows(run.folder) if row[3] is not None]) == 200
    assert seal_run(run.folder, finished=True).problems == []


def test_a_journal_that_is_not_what_was_written_stays_as_it_is_and_the_others_are_sealed(run: WrittenRun) -> None:
    for number in range(3):
        run.segment([{"a": 10 * number + at / 64} for at in range(200)])
    run.segment([], end="finished")
    for name in os.listdir(run.folder.journal):
        extend_digest(run.folder, os.path.join(run.folder.journal, name), to_end=True)
    path = Path(run.folder.journal, "r0-000002.jsonl")
    contents = path.read_bytes()
    path.write_bytes(contents.replace(b'"a":11.5}', b'"a":11.7}'))
    assert path.read_bytes() != contents
    report = seal_run(run.folder, finished=True)
    assert [str(path)] == [problem.split(" ")[0] for problem in report.problems]
    assert os.listdir(run.folder.journal) == ["r0-000002.jsonl"]
    values = {row[3] for row in all_rows(run.folder)}
    assert len(values) == 599
    assert not values & {11.5, 11.7}


# -- merging --------------------------------------------------------------------------------------------------------


def test_small_files_are_merged_and_no_row_is_lost_or_doubled(run: WrittenRun) -> None:
    generator = random.Random(1)
    for number in range(20):
        rows = [(generator.randrange(1000), {"a": generator.random(), f"only/{number}": 1.0}) for _ in range(200)]
        run.segment([*rows, ("note", {"text": str(number)})], attempt=number // 8)
        seal_run(run.folder, finished=False)
    run.segment([], end="finished", attempt=2)
    rows, events = all_rows(run.folder), event_rows(run.folder)
    # A merge of eight happened on the way.
    assert sum(segment.metrics is not None for segment in list_segments(run.folder)) < 12
    report = seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    assert all_rows(run.folder) == rows
    assert event_rows(run.folder) == events
    assert report.merged > 0
    stored = query(segment.metrics, "SELECT key, step, row FROM $file")
    assert stored == sorted(stored)
    assert files_of(run.folder) - {"followers/seal.lock", "followers/seal.json"} == {
        "run.json",
        f"metrics/{segment.name.stem}.parquet",
        f"rollups/{segment.name.stem}.parquet",
        f"events/{segment.name.stem}.parquet",
        f"digests/{segment.name.stem}.sha256",
        "digests/visible.sha256",
        "visible/visible.parquet",
    }


def test_a_merged_rollup_is_made_of_the_merged_rows(run: WrittenRun) -> None:
    for _ in range(9):
        run.segment([{"a": float(at)} for at in range(300)], first_step=run.next_row.get(0, 0))
        seal_run(run.folder, finished=False)
    run.segment([], end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    top = query(segment.rollup, "SELECT min, max, count, sum FROM $file WHERE level = 63")
    assert top == [(0.0, 299.0, 2700, 9 * 44850.0)]
    # 2,700 rows fill buckets of 1,024, which no single segment of 300 rows had.
    found = query(segment.rollup, "SELECT count FROM $file WHERE level = 10 ORDER BY first_step")
    assert [count for (count,) in found] == [1024, 1024, 652]


def test_merged_attempts_that_overlap_have_rollups_of_their_own(run: WrittenRun) -> None:
    for attempt in range(3):
        run.segment([{"a": float(attempt)} for _ in range(400)], attempt=attempt, first_step=attempt * 100)
    run.segment([], attempt=2, end="finished")
    seal_run(run.folder, finished=True)
    (segment,) = list_segments(run.folder)
    columns = "attempt, first_step, last_step, min, max, count"
    tops = query(segment.rollup, f"SELECT {columns} FROM $file WHERE level = 63 ORDER BY attempt")
    assert tops == [(0, 0, 399, 0.0, 0.0, 400), (1, 100, 499, 1.0, 1.0, 400), (2, 200, 599, 2.0, 2.0, 400)]
    mixed = query(segment.rollup, "SELECT count(*) FROM $file WHERE min <> max")
    assert mixed == [(0,)]


def test_a_merge_that_cannot_be_read_back_keeps_its_inputs(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        run.segment([{"a": float(number)}], end="finished" if number == 8 else None)
        monkeypatch.setattr(segments_module, "MERGE_FILES", 99)
        seal_run(run.folder, finished=False)
    rows = all_rows(run.folder)
    monkeypatch.undo()
    from lossbook.storage import segment_file

    def wrong(*_: Any) -> None:
        raise StoreError("reads back with 1 row in place of 2")

    with monkeypatch.context() as patch:
        patch.setattr(segment_file, "check_counts", wrong)
        with pytest.raises(StoreError):
            seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == rows
    assert not any(name.endswith(".tmp") for name in files_of(run.folder))
    seal_run(run.folder, finished=True)
    assert all_rows(run.folder) == rows


def test_a_damaged_sealed_file_is_never_merged_away(run: WrittenRun) -> None:
    for number in range(3):
        run.segment([{"a": float(number)}], end="finished" if number == 2 else None)
        run.segment([], number=number + 2)
        seal_run(run.folder, finished=False)
        os.unlink(os.path.join(run.folder.journal, f"r0-{number + 2:06d}.jsonl"))
        run.next_number[0] = number + 2
        run.next_row[0] -= 1
    damaged = Path(run.folder.metrics, "r0-000002.parquet")
    damaged.write_bytes(b"not parquet")
    before = files_of(run.folder)
    # It may be passed over or complained of in one sentence; either way somebody can still restore it.
    with contextlib.suppress(StoreError):
        seal_run(run.folder, finished=True)
    assert files_of(run.folder) == before
    assert damaged.read_bytes() == b"not parquet"


def test_what_a_killed_sort_left_is_removed_by_the_next_sealing(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}], end="finished")
    spilled = Path(run.folder.followers, f"sort-{place_name(this_place())}-{(1 << 22) + 7}.tmp")
    spilled.mkdir(parents=True)
    (spilled / "duckdb_temp_storage").write_bytes(b"rows")
    seal_run(run.folder, finished=True)
    assert not spilled.exists()


def test_a_merge_in_small_pieces_makes_the_same_rollup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbook.storage import segment_file

    generator = random.Random(11)
    begun = WrittenRun(tmp_path / "begun")
    for number in range(4):
        rows = [
            (generator.randrange(3000), {"a": generator.gauss(0, 1), "c": math.nan} | ({"b": 1.0} if at % 7 else {}))
            for at in range(700)
        ]
        begun.segment(rows, attempt=number // 2)
        begun.segment([], number=number + 2)
        seal_run(begun.folder, finished=False)
        os.unlink(os.path.join(begun.folder.journal, f"r0-{number + 2:06d}.jsonl"))
        begun.next_number[0] = number + 2
        begun.next_row[0] -= 1
    rollups = []
    for rows_at_once in (1 << 20, 128):
        monkeypatch.setattr(segment_file, "PIECE_ROWS", rows_at_once, raising=False)
        folder = RunFolder(shutil.copytree(begun.folder.path, tmp_path / str(rows_at_once)))
        seal_run(folder, finished=True)
        (segment,) = list_segments(folder)
        # Sums may be added up in another order.
        rollups.append(query(segment.rollup, "SELECT * REPLACE (round(sum, 9) AS sum) FROM $file"))
    # NaN is not equal to itself.
    assert repr(rollups[0]) == repr(rollups[1])
    assert {row[1] for row in rollups[0]} == {0, 1}
