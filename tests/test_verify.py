"""What `verify` promises: each file is read whole, and what is damaged or missing is said in one sentence."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from journals import BEGIN, WrittenRun

from lossbook.journal.line import encode_scalars
from lossbook.storage.compaction import seal_run
from lossbook.storage.schema import connect, copy_to, parquet
from lossbook.storage.segments import list_segments
from lossbook.storage.summary import LiveSummary
from lossbook.storage.verify import Finding, verify_run


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return WrittenRun(tmp_path / "run")


@pytest.fixture
def sealed(run: WrittenRun) -> WrittenRun:
    rows = [{"loss": 1.0 / (at + 1), "lr": 0.1} for at in range(2_000)]
    run.segment([*rows, ("note", {"text": "half way"}), *rows], end="finished")
    seal_run(run.folder, finished=True)
    LiveSummary(run.folder).write()
    assert [finding for finding in verify_run(run.folder) if not finding.ok] == []
    return run


def faults(run: WrittenRun) -> list[Finding]:
    return [finding for finding in verify_run(run.folder) if not finding.ok]


def test_a_whole_run_is_well_and_every_file_of_it_is_named(sealed: WrittenRun) -> None:
    findings = verify_run(sealed.folder)
    assert all(finding.ok for finding in findings)
    assert [finding.path for finding in findings] == [
        "run.json",
        "summary.json",
        "metrics/r0-000001.parquet",
        "rollups/r0-000001.parquet",
        "events/r0-000001.parquet",
        "visible/visible.parquet",
    ]
    assert "8,000 scalars" in findings[2].message


def test_a_live_run_is_well(run: WrittenRun) -> None:
    run.segment([{"a": 1.0}])
    run.segment([{"a": 1.0}])
    findings = verify_run(run.folder)
    assert [(finding.path, finding.ok) for finding in findings] == [
        ("run.json", True),
        ("summary.json", True),
        ("journal/r0-000001.jsonl", True),
        ("journal/r0-000002.jsonl", True),
    ]


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\x00" * 9, b"{}"])
def test_a_damaged_small_file_is_named(sealed: WrittenRun, name: str, contents: bytes) -> None:
    Path(sealed.folder.path, name).write_bytes(contents)
    assert [finding.path for finding in faults(sealed)] == [name]


def test_a_missing_identity_is_named(sealed: WrittenRun) -> None:
    os.unlink(sealed.folder.run_json)
    assert [finding.path for finding in faults(sealed)] == ["run.json"]


def test_a_format_of_the_future_is_named(run: WrittenRun) -> None:
    run.identity["format"] = 99
    run.write_identity()
    (fault,) = faults(run)
    assert "99" in fault.message
    assert "upgrade" in fault.message


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "footer"])
@pytest.mark.parametrize("name", ["metrics/r0-000001.parquet", "rollups/r0-000001.parquet", "events/r0-000001.parquet"])
def test_a_sealed_file_that_cannot_be_read_is_named(sealed: WrittenRun, name: str, damage: str) -> None:
    path = Path(sealed.folder.path, name)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "text": b"hello\n" * 100,
            "footer": whole[:-20] + b"\xff" * 20,
        }[damage]
    )
    (fault,) = faults(sealed)
    assert fault.path == name
    assert "cannot be read" in fault.message


@pytest.mark.slow
def test_a_flipped_byte_is_noticed_or_changes_no_curve(run: WrittenRun) -> None:
    run.segment([{"loss": 1.0 / (at + 1)} for at in range(1_000)], end="finished")
    seal_run(run.folder, finished=True)
    path = Path(run.folder.metrics, "r0-000001.parquet")
    whole = path.read_bytes()
    query = f"SELECT count(*), min(value), max(value), min(step), max(step), avg(value) FROM {parquet(str(path))}"
    before = connect().execute(query).fetchall()[0]
    noticed = 0
    for at in range(4, len(whole) - 8, max(1, len(whole) // 40)):
        flipped = bytearray(whole)
        flipped[at] ^= 0x40
        path.write_bytes(flipped)
        if faults(run):
            noticed += 1
        else:
            assert connect().execute(query).fetchall()[0] == pytest.approx(before, rel=1e-9)
    assert noticed > 5


def test_a_rollup_of_other_rows_is_noticed(sealed: WrittenRun) -> None:
    (segment,) = list_segments(sealed.folder)
    assert segment.rollup is not None
    with connect() as connection:
        change = "CASE WHEN key = 'lr' THEN max + 1 ELSE max END AS max"
        query = f"SELECT * REPLACE ({change}) FROM {parquet(segment.rollup)}"
        copy_to(connection, query, f"{segment.rollup}.new", row_group=2048)
    os.replace(f"{segment.rollup}.new", segment.rollup)
    (fault,) = faults(sealed)
    assert fault.path == "rollups/r0-000001.parquet"
    assert "'lr'" in fault.message


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("SELECT * FROM $file ORDER BY step", "out of order"),
        ("SELECT * EXCLUDE (attempt) FROM $file", "attempt"),
        ("SELECT * REPLACE (3::SMALLINT AS rank) FROM $file", "ranks [3]"),
        ("SELECT * FROM $file WHERE row <> 17", "disagrees"),
        ("SELECT * REPLACE (CASE WHEN row = 17 THEN NULL ELSE value END AS value) FROM $file", "empty field"),
    ],
)
def test_rows_that_are_not_as_the_format_has_them_are_noticed(sealed: WrittenRun, change: str, sentence: str) -> None:
    (segment,) = list_segments(sealed.folder)
    assert segment.metrics is not None
    with connect() as connection:
        query = change.replace("$file", parquet(segment.metrics))
        copy_to(connection, query, f"{segment.metrics}.new", row_group=122_880)
    os.replace(f"{segment.metrics}.new", segment.metrics)
    assert any(sentence in fault.message for fault in faults(sealed))


def test_a_missing_rollup_or_events_file_is_noticed(sealed: WrittenRun) -> None:
    os.unlink(os.path.join(sealed.folder.rollups, "r0-000001.parquet"))
    os.unlink(os.path.join(sealed.folder.events, "r0-000001.parquet"))
    assert [fault.path for fault in faults(sealed)] == ["rollups/r0-000001.parquet", "events/r0-000001.parquet"]


def test_a_damaged_line_is_named_with_its_number_and_what_was_saved(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}, b'{"i":2,"t":17,"s":1,"m":{"a":1.\n', {"a": 2.0}])
    first, second = faults(run)
    assert first.message.startswith("line 3: damaged line")
    assert second.message == "1 line damaged, 3 rows saved"


def test_a_torn_end_is_named_when_nobody_writes_any_more(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}], tail=b'{"i":2,"t"')
    (fault,) = faults(run)
    assert "torn off after 10 bytes" in fault.message


def test_missing_rows_across_segments_and_two_writers_are_named(run: WrittenRun) -> None:
    run.segment([{"a": 0.0}])
    run.next_row[0] += 3
    run.segment([{"a": 0.0}])
    run.next_row[0] -= 1
    run.segment([{"a": 0.0}])
    sentences = [(fault.path, fault.message) for fault in faults(run)]
    assert sentences[0] == ("journal/r0-000002.jsonl", "rows 2 to 4 are missing")
    assert "two processes" in sentences[1][1]
    assert len(sentences) == 2


@pytest.mark.parametrize("seal", [False, True])
def test_a_missing_segment_is_named(run: WrittenRun, seal: bool) -> None:
    paths = [run.segment([{"a": 0.0}], end="finished" if number == 4 else None) for number in range(5)]
    os.unlink(paths[1])
    os.unlink(paths[2])
    if seal:
        seal_run(run.folder, finished=True)
    assert any("segments 2 to 3 of rank 0 are missing" in fault.message for fault in faults(run))


def test_damage_is_still_known_after_sealing_and_moving(run: WrittenRun, tmp_path: Path) -> None:
    run.segment([{"a": 0.0}, b"{torn\n", {"a": 2.0}], end="finished")
    seal_run(run.folder, finished=True)
    os.rename(run.folder.path, tmp_path / "moved")
    (fault,) = [finding for finding in verify_run(run.folder._replace(path=str(tmp_path / "moved"))) if not finding.ok]
    assert "r0-000001.jsonl, line 3" in fault.message
    assert os.sep + "run" not in fault.message


def test_an_altered_picture_and_a_missing_one_are_named(run: WrittenRun) -> None:
    pictures = [b"\x89PNG one", b"\x89PNG two", b"\x89PNG three"]
    names = [f"media/{hashlib.sha256(picture).hexdigest()}.png" for picture in pictures]
    os.makedirs(run.folder.media)
    for name, picture in zip(names[:2], pictures, strict=False):
        Path(run.folder.path, name).write_bytes(picture)
    Path(run.folder.media, "readme.txt").write_text("foreign")
    run.segment([("image", {"file": name}) for name in names])
    assert [fault.path for fault in faults(run)] == [names[2]]
    Path(run.folder.path, names[0]).write_bytes(b"\x89PNG 0ne")
    assert sorted(fault.path for fault in faults(run)) == sorted([names[0], names[2]])


def test_many_faults_of_one_file_are_counted_not_listed(run: WrittenRun) -> None:
    run.segment([b"{\n"] * 500)
    found = faults(run)
    assert len(found) < 30
    assert found[-1].message == "500 lines damaged, 1 row saved"


def test_half_written_files_are_harmless(sealed: WrittenRun) -> None:
    Path(sealed.folder.metrics, "r0-000002.parquet.1-ab.tmp").write_bytes(b"half")
    Path(sealed.folder.metrics, "README").write_bytes(b"foreign")
    assert faults(sealed) == []


def test_verify_changes_nothing(run: WrittenRun) -> None:
    run.segment([encode_scalars(1, BEGIN, 0, {"a": 1.0}), b"damaged\n"], tail=b"torn")
    before = {path: path.read_bytes() for path in Path(run.folder.path).rglob("*") if path.is_file()}
    verify_run(run.folder)
    assert {path: path.read_bytes() for path in Path(run.folder.path).rglob("*") if path.is_file()} == before


def test_a_folder_without_anything_is_one_fault(tmp_path: Path) -> None:
    from lossbook.paths import RunFolder

    assert [finding.path for finding in verify_run(RunFolder(str(tmp_path))) if not finding.ok] == ["run.json"]
