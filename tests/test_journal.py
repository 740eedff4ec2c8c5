"""What the journal promises: a row is written when its append returns, and whatever is there can be read."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from lossbook.journal import writer
from lossbook.journal.attempt_row import AttemptRow, parse_attempt_row
from lossbook.journal.durability import choose_durability, file_system, is_network
from lossbook.journal.line import DamagedLine, decode, encode_event, encode_scalars
from lossbook.journal.null_journal import NullJournal
from lossbook.journal.reader import find_gaps, first_row, journal_segments, last_row, read_segment, rows_backwards
from lossbook.journal.segment_numbers import next_child_rank, next_segment
from lossbook.journal.writer import Journal, NotPlain
from lossbook.paths import RunFolder, write_json
from lossbook.run_info import Attempt
from lossbook.storage.resume_point import last_step, next_row


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(str(tmp_path / "run"))
    os.makedirs(folder.journal)
    return folder


@pytest.fixture
def said() -> list[str]:
    """The sentences that the journal said to the user."""
    return []


@pytest.fixture
def journal(folder: RunFolder, said: list[str]) -> Journal:
    journal = Journal(folder, 0, AttemptRow(Attempt(number=0), 0), warn=said.append)
    assert journal.begin_segment()
    return journal


def rows_of(folder: RunFolder, rank: int = 0) -> list[Any]:
    """Every row of a rank in order; none may be damaged."""
    rows = []
    for segment in journal_segments(folder.journal):
        if segment.name.rank == rank:
            reading = read_segment(segment.path)
            assert reading.problems == []
            rows += reading.rows
    return rows


# -- one line -----------------------------------------------------------------------------------------------------


def test_a_line_is_json_that_any_language_reads() -> None:
    line = encode_scalars(12, 1763688000123456, 100, {"train/loss": 3.21})
    assert line == b'{"i":12,"t":1763688000123456,"s":100,"m":{"train/loss":3.21}}\n'


def test_what_json_cannot_hold_is_written_by_its_name() -> None:
    line = encode_scalars(0, 1, 2, {"a": math.nan, "b": math.inf, "c": -math.inf})
    assert json.loads(line)["m"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    body = decode(line).body
    assert math.isnan(body["a"])
    assert (body["b"], body["c"]) == (math.inf, -math.inf)


@given(st.dictionaries(st.text(), st.floats(), max_size=5), st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_float_step_and_key_comes_back_bit_for_bit(scalars: dict[str, float], step: int) -> None:
    # Lone surrogates are no text; they are replaced before a row is encoded.
    scalars = {key.encode("utf-8", "replace").decode(): value for key, value in scalars.items()}
    row = decode(encode_scalars(7, 8, step, scalars))
    assert (row.i, row.t, row.step, row.kind) == (7, 8, step, None)
    assert {key: math.isnan(value) or value.hex() for key, value in row.body.items()} == {
        key: math.isnan(value) or value.hex() for key, value in scalars.items()
    }


def test_a_row_of_another_kind_has_a_key_and_contents() -> None:
    row = decode(encode_event(3, 4, 5, "text", "sample", {"text": "once upon"}))
    assert row == (3, 4, 5, "text", "sample", {"text": "once upon"})
    assert decode(encode_event(3, 4, None, "note", None, {})).step is None


def test_a_kind_from_a_later_version_is_read_like_any_other() -> None:
    assert decode(b'{"i":0,"t":1,"k":"hologram","v":{"x":1},"more":[]}').kind == "hologram"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"12",
        b"{}",
        b'{"i":0,"t":1,"s":2}',
        b'{"i":0,"t":1,"m":{"a":1}}',
        b'{"i":-1,"t":1,"s":2,"m":{"a":1}}',
        b'{"i":0.5,"t":1,"s":2,"m":{"a":1}}',
        b'{"i":true,"t":1,"s":2,"m":{"a":1}}',
        b'{"i":0,"t":"now","s":2,"m":{"a":1}}',
        b'{"i":0,"t":1,"s":99999999999999999999,"m":{"a":1}}',
        b'{"i":0,"t":1,"s":2,"m":{"a":"many"}}',
        b'{"i":0,"t":1,"s":2,"m":{"a":null}}',
        b'{"i":0,"t":1,"s":2,"m":[1]}',
        b'{"i":0,"t":1,"k":7,"v":{}}',
        b'{"i":0,"t":1,"k":"note","v":[1]}',
        b'{"i":0,"t":1,"k":"attempt","v":{"number":99999}}',
        b"\x00\x00\x00",
        b'{"i":0,"t":1,"s":2,"m":{"a":1}}{"i":1,"t":1,"s":2,"m":{"a":1}}',
    ],
)
def test_what_is_no_row_is_called_damaged_and_nothing_else(line: bytes) -> None:
    with pytest.raises(DamagedLine):
        decode(line)


# -- writing ------------------------------------------------------------------------------------------------------


def test_the_first_row_of_a_segment_says_which_attempt_it_is(folder: RunFolder, journal: Journal) -> None:
    head = first_row(journal.path)
    assert head is not None
    assert (head.i, head.kind, head.body["number"]) == (0, "attempt", 0)


def test_a_row_is_in_the_file_when_append_returns(folder: RunFolder, journal: Journal) -> None:
    journal.append({"loss": 0.5, "epoch": 3, "best": True}, 10)
    row = last_row(journal.path)
    assert row is not None
    assert (row.i, row.step, row.body) == (1, 10, {"loss": 0.5, "epoch": 3.0, "best": 1.0})


def test_one_row_is_one_write(folder: RunFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def write(fd: int, line: bytes) -> int:
        writes.append(line)
        return os.write(fd, line)

    monkeypatch.setattr(writer, "write_bytes", write)
    journal.append({f"key-{n}": float(n) for n in range(50)}, 1)
    journal.append_scalars({"loss": math.nan}, 2)
    journal.append_event("note", {"text": "x"})
    assert [line.count(b"\n") for line in writes] == [1, 1, 1]


def test_without_a_step_the_next_one_follows_the_last(folder: RunFolder, journal: Journal) -> None:
    for step in (None, None, 10, None, 3, None):
        journal.append({"loss": 1.0}, step)
    assert [row.step for row in rows_of(folder)[1:]] == [0, 1, 10, 11, 3, 4]


@pytest.mark.parametrize(
    ("scalars", "step"),
    [
        ({"loss": math.nan}, 0),
        ({"loss": math.inf}, 0),
        ({"a": math.inf, "b": -math.inf}, 0),
        ({"loss": "low"}, 0),
        ({"loss": None}, 0),
        ({"loss": [1.0]}, 0),
        ({"nested": {"loss": 1.0}}, 0),
        ({7: 1.0}, 0),
        ({"big": 1 << 70}, 0),
        ({"loss": 1.0}, 1.5),
        ({"loss": 1.0}, 1 << 63),
        ({"loss": 1.0}, -(1 << 63) - 1),
        ({"loss": 1.0}, True),
        (["loss"], 0),
        (None, 0),
    ],
)
def test_what_the_fast_path_cannot_take_it_refuses_whole(
    folder: RunFolder, journal: Journal, scalars: Any, step: Any
) -> None:
    with pytest.raises((NotPlain, TypeError, OverflowError, AttributeError)):
        journal.append(scalars, step)
    assert len(rows_of(folder)) == 1
    journal.append({"loss": 1.0}, 0)
    assert [row.i for row in rows_of(folder)] == [0, 1]


def test_finite_values_whose_sum_is_not_are_written_exactly(folder: RunFolder, journal: Journal) -> None:
    # The fast path tells finite values by their sum; the careful one takes these.
    large = {"a": 1.7e308, "b": 1.7e308}
    with pytest.raises(NotPlain):
        journal.append(large, 0)
    journal.append_scalars(large, 0)
    assert rows_of(folder)[-1].body == large


def test_a_row_that_comes_late_keeps_its_time_and_leaves_the_step_alone(folder: RunFolder, journal: Journal) -> None:
    journal.append({"loss": 1.0}, 10)
    journal.append_scalars({"loss": 2.0}, 4, time_us=1_700_000_000_000_000)
    journal.append({"loss": 3.0}, None)
    assert [(row.step, row.body["loss"]) for row in rows_of(folder)[1:]] == [(10, 1.0), (4, 2.0), (11, 3.0)]
    assert rows_of(folder)[2].t == 1_700_000_000_000_000


def test_threads_share_a_journal_without_losing_or_mixing_rows(folder: RunFolder, journal: Journal) -> None:
    def log(thread: int) -> None:
        for n in range(500):
            journal.append({f"thread-{thread}": float(n)}, n)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = rows_of(folder)
    assert [row.i for row in rows] == list(range(2001))
    assert sorted((key, row.step) for row in rows[1:] for key in row.body) == sorted(
        (f"thread-{thread}", n) for thread in range(4) for n in range(500)
    )


def test_a_full_segment_is_left_behind_and_row_numbers_go_on(
    folder: RunFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 2000)
    for step in range(100):
        journal.append({"loss": float(step)}, step)
    segments = journal_segments(folder.journal)
    assert [segment.name.first for segment in segments] == list(range(1, len(segments) + 1))
    assert len(segments) > 2
    heads = [first_row(segment.path) for segment in segments]
    assert all(head is not None and head.kind == "attempt" for head in heads)
    assert [bool(head.body.get("continues")) for head in heads if head] == [False] + [True] * (len(segments) - 1)
    rows = rows_of(folder)
    assert [row.i for row in rows] == list(range(len(rows)))
    assert [row.step for row in rows if row.kind is None] == list(range(100))


def test_a_new_journal_begins_behind_the_segments_that_are_there(folder: RunFolder, journal: Journal) -> None:
    journal.append({"loss": 1.0}, 0)
    journal.close()
    again = Journal(folder, 0, AttemptRow(Attempt(number=1), 0), row=next_row(folder, 0))
    assert again.begin_segment()
    again.append({"loss": 2.0}, 1)
    assert again.path.endswith("r0-000002.jsonl")
    assert [row.i for row in rows_of(folder)] == [0, 1, 2, 3]


def test_two_writers_of_one_rank_never_share_a_file(folder: RunFolder, journal: Journal) -> None:
    other = Journal(folder, 0, AttemptRow(Attempt(number=0), 0))
    # It looked for the next number before ours took it.
    other.segment = journal.segment - 1
    assert other.begin_segment()
    assert other.path != journal.path


def test_a_row_that_the_disk_refuses_is_counted_and_its_number_used_again(
    folder: RunFolder, journal: Journal, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def write(fd: int, line: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, line)

    monkeypatch.setattr(writer, "write_bytes", write)
    for step in range(3):
        with pytest.raises(OSError, match="No space") as refused:
            journal.append({"loss": 1.0}, step)
        journal.count_lost(refused.value)
    full = False
    journal.append({"loss": 4.0}, 3)
    rows = rows_of(folder)
    assert [row.i for row in rows] == [0, 1, 2]
    assert rows[2].kind == "warning"
    assert rows[2].body["lost"] == 3
    assert len(said) == 2, "one loud sentence when it begins, one when it is over"
    assert "ROWS ARE BEING LOST" in said[0]
    assert "disk is full" in said[0]


def test_half_a_written_line_is_taken_back(
    folder: RunFolder, journal: Journal, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def write(fd: int, line: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return os.write(fd, line[:10])
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, line)

    monkeypatch.setattr(writer, "write_bytes", write)
    journal.append({"loss": 1.0}, 0)
    journal.append({"loss": 2.0}, 1)
    rows = rows_of(folder)
    assert [row.body.get("loss") for row in rows[1:]] == [2.0, None]
    assert [row.i for row in rows] == [0, 1, 2]
    assert rows[2].body["lost"] == 1


def test_a_short_write_is_completed(folder: RunFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "write_bytes", lambda fd, line: os.write(fd, line[: max(1, len(line) // 2)]))
    journal.append({"loss": 1.0}, 0)
    monkeypatch.undo()
    assert [row.body.get("loss") for row in rows_of(folder)[1:]] == [1.0]


def test_sync_flushes_this_segment_and_those_left_behind(
    folder: RunFolder, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 500)
    for step in range(20):
        journal.append({"loss": float(step)}, step)
    assert journal.sync()
    names = [os.path.basename(segment.path) for segment in journal_segments(folder.journal)]
    assert set(names) < set(flushed)
    assert "journal" in flushed, "the folder's own entries as well"
    flushed.clear()
    assert journal.sync()
    assert [name for name in flushed if name.endswith(".jsonl")] == names[-1:]


def test_the_journal_folder_is_made_again_when_somebody_removed_it(folder: RunFolder) -> None:
    os.rmdir(folder.journal)
    journal = Journal(folder, 0, AttemptRow(Attempt(number=0), 0))
    assert journal.begin_segment()
    assert journal_segments(folder.journal)


# -- reading ------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_not_there_yet(folder: RunFolder, journal: Journal) -> None:
    journal.append({"loss": 1.0}, 0)
    whole = os.path.getsize(journal.path)
    with open(journal.path, "ab") as file:
        file.write(b'{"i":2,"t":17')
    reading = read_segment(journal.path)
    assert (len(reading.rows), reading.problems, reading.offset) == (2, [], whole)
    assert reading.torn == b'{"i":2,"t":17'
    row = last_row(journal.path)
    assert row is not None
    assert row.i == 1
    assert next_row(folder, 0) == 2


def test_a_damaged_line_costs_itself_and_one_sentence(folder: RunFolder, journal: Journal) -> None:
    for step in range(5):
        journal.append({"loss": float(step)}, step)
    with open(journal.path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    lines[3] = b"\x00" * 20 + b"\n"
    with open(journal.path, "wb") as file:
        file.write(b"".join(lines))
    reading = read_segment(journal.path)
    assert [row.i for row in reading.rows] == [0, 1, 2, 4, 5]
    assert [problem.line for problem in reading.problems] == [4]
    assert "damaged line passed over" in str(reading.problems[0])


def test_reading_goes_on_where_it_stopped(folder: RunFolder, journal: Journal) -> None:
    journal.append({"loss": 0.0}, 0)
    first = read_segment(journal.path)
    journal.append({"loss": 1.0}, 1)
    second = read_segment(journal.path, offset=first.offset)
    assert [row.body["loss"] for row in second.rows] == [1.0]
    assert read_segment(journal.path, offset=second.offset).rows == []


def test_reading_can_be_limited_to_whole_lines_of_about_so_many_bytes(folder: RunFolder, journal: Journal) -> None:
    for step in range(100):
        journal.append({"loss": float(step)}, step)
    offset, steps = 0, []
    while reading := read_segment(journal.path, offset=offset, limit_bytes=300):
        if not reading.rows:
            break
        assert len(reading.rows) < 10
        steps += [row.step for row in reading.rows if row.kind is None]
        offset = reading.offset
    assert steps == list(range(100))


@pytest.mark.parametrize("length", [10, 70_000, 300_000])
def test_the_end_of_a_segment_is_found_from_behind_whatever_the_length_of_its_lines(
    folder: RunFolder, journal: Journal, length: int
) -> None:
    for number in range(5):
        journal.append_event("note", {"text": str(number) * length})
    with open(journal.path, "ab") as file:
        file.write(b'{"i":6,"t":1,"k":"note","v":{"text":"' + b"x" * length)
    assert [row.i for row in rows_backwards(journal.path)] == [5, 4, 3, 2, 1, 0]


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    missing = str(tmp_path / "r0-000001.jsonl")
    assert (first_row(missing), last_row(missing), list(rows_backwards(missing))) == (None, None, [])


def test_foreign_files_in_the_journal_folder_are_passed_over(folder: RunFolder, journal: Journal) -> None:
    for name in (
        "notes.txt",
        "r0-000001.jsonl.tmp",
        "r0-1.jsonl",
        "x0-000001.jsonl",
        ".r0-000009.jsonl",
        "r0-000002.csv",
    ):
        Path(folder.journal, name).write_text("{}")
    assert [os.path.basename(segment.path) for segment in journal_segments(folder.journal)] == ["r0-000001.jsonl"]


def test_missing_and_repeated_row_numbers_are_said_in_one_sentence_each() -> None:
    rows = [decode(encode_scalars(i, 1, i, {"a": 1.0})) for i in (3, 4, 8, 8, 9)]
    assert [problem.message for problem in find_gaps(rows, "journal/r0-000002.jsonl", expected=1)] == [
        "rows 1 to 2 are missing",
        "rows 5 to 7 are missing",
        "row 8 comes again: two processes wrote as the same rank, both are kept",
    ]
    assert find_gaps(rows[:2], "x", expected=None) == []


ROWS = [encode_event(0, 1, None, "attempt", None, {"number": 0})] + [
    encode_scalars(i, 10 + i, i, {"train/loss": 1 / i, "lr": 3e-4, "naïve\n": math.nan}) for i in range(1, 12)
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    cut=st.integers(0, sum(map(len, ROWS))),
    flips=st.lists(st.tuples(st.integers(0, sum(map(len, ROWS)) - 1), st.integers(0, 255)), max_size=4),
)
def test_bytes_cut_or_changed_anywhere_cost_no_row_that_they_do_not_touch(
    tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    whole = bytearray(b"".join(ROWS))
    for position, value in flips:
        whole[position] = value
    text = bytes(whole[: len(whole) - cut])
    path = tmp_path / "r0-000001.jsonl"
    path.write_bytes(text)
    reading = read_segment(str(path))
    expected, start = [], 0
    for line in ROWS:
        # A line is untouched when it and the newline before it are as they were written.
        untouched = text[start : start + len(line)] == line and (start == 0 or text[start - 1 : start] == b"\n")
        if untouched:
            expected.append(decode(line).i)
        start += len(line)
    found = [row.i for row in reading.rows]
    assert set(expected) <= set(found)
    assert len(found) + len(reading.problems) == text.count(b"\n")
    assert [row.i for row in rows_backwards(str(path))] == found[::-1]
    first_row(str(path))


# -- where to go on -----------------------------------------------------------------------------------------------


def test_a_run_goes_on_behind_its_last_row_and_segment(folder: RunFolder, journal: Journal) -> None:
    assert (next_row(folder, 0), next_segment(folder, 0)) == (1, 2)
    assert (next_row(folder, 1), next_segment(folder, 1)) == (0, 1)
    for step in (3, 9, 4):
        journal.append({"loss": 1.0}, step)
    assert next_row(folder, 0) == 4
    assert last_step(folder) == 9


def test_what_sealing_noted_counts_when_the_journal_has_gone(folder: RunFolder) -> None:
    os.makedirs(folder.followers)
    write_json(os.path.join(folder.followers, "seal.json"), {"next_row": {"r0": 1234}, "last_step": {"r0": 77}})
    assert next_row(folder, 0) == 1234
    assert last_step(folder) == 77


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b'{"next_row":7}', b'{"next_row":{"r0":"x"},"last_step":null}'])
def test_damaged_notes_of_sealing_are_as_good_as_none(folder: RunFolder, journal: Journal, contents: bytes) -> None:
    os.makedirs(folder.followers)
    Path(folder.followers, "seal.json").write_bytes(contents)
    journal.append({"loss": 1.0}, 5)
    assert next_row(folder, 0) == 2
    assert last_step(folder) == 5


def test_child_processes_count_downwards(folder: RunFolder, journal: Journal) -> None:
    assert next_child_rank(folder) == -1
    assert Journal(folder, -1, AttemptRow(Attempt(number=0), -1)).begin_segment()
    assert next_child_rank(folder) == -2


# -- which durability ---------------------------------------------------------------------------------------------


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a mount table in the place of this machine's."""

    def put(**kinds: str) -> None:
        table = tmp_path / "mountinfo"
        lines = ["22 1 0:1 / / rw - ext4 /dev/sda1 rw"]
        lines += [f"30 22 0:2 / {point.replace('_', '/')} rw - {kind} server:/x rw" for point, kind in kinds.items()]
        table.write_text("\n".join(lines) + "\n")
        monkeypatch.setattr("lossbook.journal.durability.MOUNTS", str(table))

    return put


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "beegfs", "ceph", "fuse.sshfs", "9p", "cifs"])
def test_a_store_on_a_network_file_system_never_makes_training_wait(mounts: Callable[..., None], kind: str) -> None:
    mounts(_scratch=kind)
    durability, why = choose_durability("/scratch/me/runs")
    assert durability == "async"
    assert f"/scratch is {kind}" in why
    assert choose_durability("/home/me/runs")[0] == "process"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk"])
def test_a_local_file_system_keeps_every_row(kind: str) -> None:
    assert not is_network(kind)


def test_the_longest_mount_point_decides(mounts: Callable[..., None]) -> None:
    mounts(_data="nfs4", _data_local="xfs")
    assert file_system("/data/local/runs") == ("/data/local", "xfs")
    assert file_system("/data/localish/runs") == ("/data", "nfs4")


def test_a_local_disk_of_a_machine_that_boots_from_the_network_is_local(mounts: Callable[..., None]) -> None:
    mounts(_="nfs4", _scratch="xfs")
    assert choose_durability("/scratch/me/runs")[0] == "process"
    assert choose_durability("/home/me/runs")[0] == "async"


def test_a_symbolic_link_to_a_network_mount_is_followed(tmp_path: Path, mounts: Callable[..., None]) -> None:
    mounts(_scratch="nfs4")
    (tmp_path / "runs").symlink_to("/scratch/runs")
    assert file_system(str(tmp_path / "runs" / "p")) == ("/scratch", "nfs4")


def test_links_that_run_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert choose_durability(str(tmp_path / "a" / "runs"))[0] in ("process", "async")


def test_where_there_is_no_mount_table_rows_are_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossbook.journal.durability.MOUNTS", "/nowhere/mountinfo")
    assert choose_durability("/home/me")[0] == "process"


# -- who writes -----------------------------------------------------------------------------------------------------


def test_an_attempt_row_is_read_as_it_was_written() -> None:
    attempt = Attempt(number=2, world_size=4, resume_step=7, host="h", pid=1, process_start=2.0, boot="b", launch="l:0")
    row = AttemptRow(attempt, 3)
    assert parse_attempt_row(row.to_json()) == row
    later = row.continued(spill="s.jsonl")
    assert (later.continues, later.spill, later.attempt) == (True, "s.jsonl", attempt)
    assert parse_attempt_row(later.to_json()) == later
    imported = AttemptRow(Attempt(number=1, world_size=1), 0, imported=True)
    assert "host" not in imported.to_json()
    assert parse_attempt_row(imported.to_json()) == imported


@pytest.mark.parametrize("values", [{}, {"number": "x", "rank": None, "pid": []}, {"format": {}, "spill": 1}])
def test_an_attempt_row_of_another_program_is_read_as_far_as_it_goes(values: dict[str, Any]) -> None:
    row = parse_attempt_row(values)
    assert (row.rank, row.attempt.number, row.attempt.pid, row.spill) == (0, 0, None, None)


def test_a_null_journal_takes_everything_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = NullJournal()
    journal.append({"a": "no number"}, "no step")  # type: ignore[dict-item,arg-type]
    journal.append_scalars({"a": 1.0}, None)
    journal.append_event("note", {"text": "x"})
    journal.put_file("media/x", b"x")
    journal.append_text("console/r0.log", b"x")
    assert journal.begin_segment()
    assert journal.sync()
    journal.close()
    assert (journal.step, journal.row, os.listdir(tmp_path)) == (-1, 0, [])
