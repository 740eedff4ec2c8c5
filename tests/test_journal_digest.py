"""What the running digest of a journal promises: every byte of a whole line is covered, and damage costs its line alone."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from journals import WrittenRun

from lossbook.journal import (
    DigestKeeper,
    check_journal,
    damaged_parts,
    digest_path,
    extend_digest,
    last_row,
    next_segment,
    read_segment,
)
from lossbook.paths import SegmentName


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "run")


@pytest.fixture
def journal(run: WrittenRun) -> str:
    """A journal of 500 rows, covered to its end."""
    path = run.segment([{"loss": 1 / (at + 3), "lr": at * 0.1} for at in range(500)], end="finished")
    extend_digest(run.folder, path, to_end=True)
    return path


def digest_of(run: WrittenRun) -> Path:
    return Path(digest_path(run.folder, SegmentName(0, 1, 1)))


def test_a_whole_journal_is_covered_to_its_last_byte(journal: str) -> None:
    check = check_journal(journal)
    assert check.is_whole
    assert check.covered == os.path.getsize(journal)
    assert damaged_parts(journal) == []


def test_every_flipped_byte_is_found_and_costs_its_line_alone(journal: str) -> None:
    contents = Path(journal).read_bytes()
    rows = read_segment(journal).rows
    generator = random.Random(5)
    for place in generator.sample(range(len(contents) - 1), 300):
        flipped = bytearray(contents)
        flipped[place] ^= 1 << generator.randrange(8)
        Path(journal).write_bytes(flipped)
        assert not check_journal(journal).is_whole, place
        reading = read_segment(journal)
        # The end of a line belongs to two lines: what was behind it cannot be told from it.
        most = 2 if contents[place] == ord("\n") else 1
        assert 0 < len(rows) - len(reading.rows) <= most
        assert set(map(repr, reading.rows)) <= set(map(repr, rows))
        assert reading.problems


def test_damage_to_the_digest_is_told_from_damage_to_the_journal(run: WrittenRun, journal: str) -> None:
    digest = digest_of(run)
    contents = digest.read_bytes()
    rows = read_segment(journal).rows
    generator = random.Random(6)
    for place in generator.sample(range(len(contents) - 1), 200):
        flipped = bytearray(contents)
        flipped[place] ^= 1 << generator.randrange(8)
        digest.unlink()
        digest.write_bytes(flipped)
        check = check_journal(journal)
        assert check.is_whole
        assert check.damaged_lines
        assert read_segment(journal).rows == rows


def test_a_digest_cut_off_anywhere_tells_what_it_still_covers(run: WrittenRun, journal: str) -> None:
    digest = digest_of(run)
    contents = digest.read_bytes()
    for length in range(0, len(contents), 7):
        digest.unlink()
        digest.write_bytes(contents[:length])
        check = check_journal(journal)
        assert check.is_whole
        assert check.covered <= os.path.getsize(journal)


def test_a_digest_cut_off_anywhere_is_gone_on_with(run: WrittenRun, journal: str) -> None:
    digest = digest_of(run)
    contents = digest.read_bytes()
    for length in [*range(0, 200, 9), len(contents) - 1]:
        digest.unlink()
        digest.write_bytes(contents[:length])
        extend_digest(run.folder, journal, to_end=True)
        check = check_journal(journal)
        assert (check.is_whole, check.covered, check.damaged_lines) == (True, os.path.getsize(journal), ())


def test_what_two_processes_say_of_the_same_piece_is_harmless(run: WrittenRun, journal: str) -> None:
    digest = digest_of(run)
    lines = digest.read_bytes().splitlines(keepends=True)
    digest.unlink()
    digest.write_bytes(b"".join([*lines, *reversed(lines)]))
    check = check_journal(journal)
    assert (check.is_whole, check.covered, check.damaged_lines) == (True, os.path.getsize(journal), ())


def test_a_piece_is_covered_while_the_journal_is_written_and_its_end_when_it_is_left(run: WrittenRun) -> None:
    path = run.segment([{"a": float(at)} for at in range(30)])
    keeper = DigestKeeper(run.folder)
    keeper.extend()
    assert not digest_of(run).exists()  # written on another machine
    extend_digest(run.folder, path)
    assert check_journal(path).covered == 0
    with open(path, "ab") as file:
        file.write(Path(run.segment([{"a": float(at)} for at in range(100)], number=2)).read_bytes())
        file.write(b'{"i":131,"t":1,"s":')
    extend_digest(run.folder, path)
    covered = check_journal(path).covered
    assert 4096 <= covered < os.path.getsize(path)
    extend_digest(run.folder, path, to_end=True)
    assert Path(path).read_bytes()[: check_journal(path).covered].endswith(b"}\n")
    assert check_journal(path).covered == os.path.getsize(path) - 19


def test_a_journal_that_became_shorter_is_not_covered_anew(journal: str, run: WrittenRun) -> None:
    size = os.path.getsize(journal)
    os.truncate(journal, size - 100)
    extend_digest(run.folder, journal, to_end=True)
    check = check_journal(journal)
    assert check.missing_bytes == 100
    assert not check.is_whole
    assert len(read_segment(journal).rows) >= 499


def test_the_last_row_is_not_one_that_is_damaged(journal: str) -> None:
    contents = Path(journal).read_bytes()
    last = contents[:-1].rfind(b"\n") + 1
    flipped = contents[:last] + contents[last:].replace(b"finished", b"finishem")
    Path(journal).write_bytes(flipped)
    row = last_row(journal)
    assert row is not None
    assert row.kind is None


def test_the_number_of_a_segment_that_was_deleted_is_not_used_again(run: WrittenRun, journal: str) -> None:
    os.unlink(journal)
    assert next_segment(run.folder, 0) == 2
