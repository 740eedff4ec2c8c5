"""Importing another tracker's rows: exactly once, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_source import Recorded, expected_losses
from waiting import wait_until

import lossbook
from lossbook.errors import StoreError
from lossbook.paths import RunFolder, read_json
from lossbook.run_info import edit_run_info
from lossbook.trackers import ingest, staging
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten
from lossbook.trackers.source_book import SourceBook


def import_all(store: Path, source: Recorded) -> RunFolder:
    (run,) = source.runs()
    folder = ingest.import_run(str(store), source, run)
    ingest.import_rows(folder, source, run)
    return folder


def losses(store: Path) -> dict[int, float]:
    history = lossbook.open(store).run("first").history(["loss"])
    rows = history.df()
    assert len(set(rows["step"])) == len(rows), "a row came twice"
    return dict(zip(rows["step"].tolist(), rows["loss"].tolist(), strict=True))


def test_every_row_arrives_with_its_step_time_and_value(store: Path) -> None:
    folder = import_all(store, Recorded("memory", rows=100, tags=("a",), notes="n", group="g", summary={"best": 0.5}))
    assert losses(store) == expected_losses(100)
    run = lossbook.open(store).run("first")
    assert (run.id, run.project, run.state, run.tags, run.notes, run.group) == (
        "abc",
        "there",
        "finished",
        ["a"],
        "n",
        "g",
    )
    assert run.config == {"lr": 0.1}
    assert run.summary == {"best": 0.5}
    curve = run.curve("loss", x="time", points=1000)
    assert curve.x[0] == 1.7e9
    assert [event["value"]["text"] for event in run.events("text")] == [f"text {n}" for n in range(3, 100, 10)]
    assert Path(folder.console, "r0.log").read_text() == "".join(f"line {n}\n" for n in range(7, 100, 10))
    assert run.problems() == []


def test_importing_again_brings_nothing_and_later_only_what_is_new(store: Path) -> None:
    import_all(store, Recorded("memory", rows=25))
    (run,) = Recorded("memory", rows=25).runs()
    same = Recorded("memory", rows=25)
    assert ingest.import_rows(ingest.import_run(str(store), same, run), same, run) == 0
    assert same.asked == []
    grown = Recorded("memory", rows=60, version="2")
    folder = import_all(store, grown)
    assert grown.asked == [(25, {"at": 24})]
    assert losses(store) == expected_losses(60)
    assert Path(folder.console, "r0.log").read_text() == "".join(f"line {n}\n" for n in range(7, 60, 10))
    assert lossbook.open(store).run("first").problems() == []


def test_a_source_that_breaks_off_is_read_on_from_there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 10)
    source = Recorded("memory", rows=95)
    source.stop_at = 37
    with pytest.raises(OSError, match="dead"):
        import_all(store, source)
    # Nobody sees, and nobody seals, the half of an import.
    assert lossbook.open(store).run("first").keys() == []
    source.stop_at = None
    import_all(store, source)
    assert [start for start, _ in source.asked] == [0, 30]
    assert losses(store) == expected_losses(95)


def test_an_update_that_breaks_off_leaves_the_run_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 10)
    import_all(store, Recorded("memory", rows=20))
    for stop in (22, 24, 47, 48, 59):
        source = Recorded("memory", rows=60, version="2")
        source.stop_at = stop
        with pytest.raises(OSError, match="dead"):
            import_all(store, source)
        assert losses(store) == expected_losses(20)
    folder = import_all(store, Recorded("memory", rows=60, version="2"))
    assert losses(store) == expected_losses(60)
    assert Path(folder.console, "r0.log").read_text() == "".join(f"line {n}\n" for n in range(7, 60, 10))


@pytest.mark.slow
def test_an_import_killed_anywhere_is_exact_after_the_next(store: Path) -> None:
    rows, chance = 30_000, random.Random(5)
    program = f"from made_up_source import import_all; import_all({str(store)!r}, {rows}, '1')"
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"}
    kills = 0
    cursor = store / "there" / "abc" / "followers" / "import.json"

    def modified() -> int:
        return cursor.stat().st_mtime_ns if cursor.exists() else 0

    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        before = modified()
        wait_until(lambda process=process, before=before: process.poll() is not None or modified() != before, 60)
        time.sleep(chance.random() * 0.05)  # killed at any moment of its work
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        if (store / "there" / "abc" / "run.json").exists():
            # A reader in between, which would seal what it finds.
            lossbook.open(store).run("first").keys()
    assert kills >= 2, "the program was never killed at work"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert losses(store) == expected_losses(rows)
    folder = RunFolder(str(store / "there" / "abc"))
    assert len(Path(folder.console, "r0.log").read_text().splitlines()) == rows // 10
    assert not os.path.exists(os.path.join(folder.followers, "import"))


@pytest.mark.parametrize("moment", ["os.replace", "fsync_folder", "write_json"])
def test_a_death_while_the_rows_are_moved_into_the_run_is_mended(
    store: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    import_all(store, Recorded("memory", rows=40))
    source = Recorded("memory", rows=80, version="2")
    real = staging.publish

    def dying(*arguments: object) -> object:
        with monkeypatch.context() as patch:
            target = "lossbook.trackers.staging." + moment

            def die(*_: object, **__: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(target, die)
            return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "publish", dying)
        with pytest.raises(KeyboardInterrupt):
            import_all(store, source)
    import_all(store, source)
    assert losses(store) == expected_losses(80)
    console = store / "there" / "abc" / "console" / "r0.log"
    assert console.read_text() == "".join(f"line {n}\n" for n in range(7, 80, 10))


def test_what_was_changed_here_stays_and_what_the_source_says_anew_arrives(store: Path) -> None:
    folder = import_all(store, Recorded("memory", rows=10, tags=("theirs",)))
    edit_run_info(folder, lambda known: known._replace(name="mine", notes="seen", tags=("theirs", "own")))
    source = Recorded("memory", rows=10, version="2", tags=("theirs", "new"), config={"lr": 0.2})
    import_all(store, source)
    known = read_json(folder.run_json) or {}
    assert (known["name"], known["notes"], known["tags"]) == ("mine", "seen", ["theirs", "own", "new"])
    assert known["config"] == {"lr": 0.2}


def test_looking_again_writes_nothing(store: Path) -> None:
    source = Recorded("memory", rows=10)
    folder = import_all(store, source)
    before = {path: os.stat(path).st_mtime_ns for path in (folder.run_json, folder.summary_json)}
    (run,) = source.runs()
    ingest.import_run(str(store), source, run)
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_two_runs_of_one_id_from_two_projects_do_not_mix(store: Path) -> None:
    first, second = Recorded("memory", rows=5), Recorded("memory", rows=9, project="elsewhere")
    folders = []
    for source in (first, second):
        (run,) = source.runs()
        folder = ingest.import_run(str(store), source, run, project="one")
        ingest.import_rows(folder, source, run)
        folders.append(folder.path)
    assert folders[0] != folders[1]
    assert {run.id for run in lossbook.open(store).runs()} == {os.path.basename(path) for path in folders}


def test_going_back_to_a_step_hides_what_was_logged_beyond_it(store: Path) -> None:
    class WentBack(Recorded):
        def rows(self, run: ForeignRun, start: int = 0):  # type: ignore[no-untyped-def]
            steps = [(0, 1.0), (1, 2.0), (2, 3.0), None, (2, 30.0), (3, 40.0)]
            for number, one in enumerate(steps[start:], start):
                time_us = 1_700_000_000_000_000 + number
                if one is None:
                    yield ForeignRow(time_us, 2, "attempt", None, {"resume_step": 1})
                else:
                    yield ForeignRow(time_us, one[0], None, None, {"loss": one[1]})

    import_all(store, WentBack("memory"))
    assert losses(store) == {0: 1.0, 1: 2.0, 2: 30.0, 3: 40.0}
    run = lossbook.open(store).run("first")
    assert [attempt.resume_step for attempt in run.attempts] == [None, 1]
    assert (run.state, run.problems()) == ("finished", [])
    import_all(store, WentBack("memory", version="2"))
    assert losses(store) == {0: 1.0, 1: 2.0, 2: 30.0, 3: 40.0}


def test_odd_values_cost_nothing_else(store: Path) -> None:
    class Odd(Recorded):
        def rows(self, run: ForeignRun, start: int = 0):  # type: ignore[no-untyped-def]
            yield ForeignRow(1_700_000_000_000_000, 2**70, None, None, {"a": float("nan"), "b\udcff": float("-inf")})
            yield ForeignRow(1_700_000_000_000_001, None, None, None, {"a": 1e300})
            yield ForeignRow(1_700_000_000_000_002, 1, "text", "t", {"text": "\udcff", "big": 2**80})
            yield ForeignRow(1_700_000_000_000_003, 1, "file", None, {"name": "../../etc/x", "contents": b"12"})

    config = {"n": 2**90, "nan": float("nan"), "set": {1}, "api_key": "hush"}
    folder = import_all(store, Odd("memory", config=config, summary={"s": float("inf")}))
    run = lossbook.open(store).run("first")
    assert run.keys() == ["a", "b?"]
    assert run.summary == {"s": float("inf")}
    assert run.config["api_key"] == "***"
    assert Path(folder.path, "files", "etc", "x").read_bytes() == b"12"
    (kept,) = run.events("file")
    assert kept["value"] == {"path": "../../etc/x", "file": "files/etc/x", "bytes": 2}
    assert run.problems() == []


def test_a_full_disk_is_one_sentence_and_the_import_goes_on_later(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lossbook.journal.writer as writer

    source = Recorded("memory", rows=50)
    real, calls = writer.write_bytes, 0

    def full(fd: int, line: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise OSError(28, "No space left on device")
        return real(fd, line)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_bytes", full)
        with pytest.raises(StoreError, match="the disk is full"):
            import_all(store, source)
    import_all(store, source)
    assert losses(store) == expected_losses(50)


# -- the book of a source ---------------------------------------------------------------------------------------------


def test_a_book_of_a_source_brings_rows_when_they_are_asked_for(tmp_path: Path) -> None:
    source = Recorded("memory", rows=20, summary={"loss": 0.05})
    book = SourceBook(source)
    (run,) = book.runs()
    assert run.record.metrics["loss"].last == 0.05
    assert source.asked == []
    assert run.metrics["loss"]["count"] == 16
    assert len(source.asked) == 1
    grown = SourceBook(Recorded("memory", rows=40, version="2"))
    assert grown.run("first").metrics["loss"]["count"] == 32
    assert len(grown.sql("select * from metrics where key = 'loss'")) == 32


def test_a_run_that_the_source_wrote_anew_is_read_anew(tmp_path: Path) -> None:
    assert SourceBook(Recorded("memory", rows=20)).run("first").metrics["loss"]["count"] == 16

    class Anew(Recorded):
        def rows(self, run: ForeignRun, start: int = 0):  # type: ignore[no-untyped-def]
            if start:
                raise Rewritten("it is another run now")
            yield from super().rows(run, start)

    assert SourceBook(Anew("memory", rows=5, version="2")).run("first").metrics["loss"]["count"] == 4


def test_a_run_that_the_source_removed_leaves_the_book(tmp_path: Path) -> None:
    class Empty(Recorded):
        def runs(self):  # type: ignore[no-untyped-def]
            return iter(())

    assert len(SourceBook(Recorded("memory")).runs()) == 1
    assert SourceBook(Empty("memory")).runs() == []


def test_one_damaged_cursor_of_the_cache_costs_one_reading(tmp_path: Path) -> None:
    book = SourceBook(Recorded("memory", rows=20))
    run = book.run("first")
    assert run.metrics["loss"]["count"] == 16
    Path(run.folder.followers, "import.json").write_text("{")
    assert SourceBook(Recorded("memory", rows=20)).run("first").metrics["loss"]["count"] == 16


def test_statistics_over_seeds_are_of_the_rows_and_not_of_what_a_listing_knows() -> None:
    losses = expected_losses(20).values()
    (group,) = SourceBook(Recorded("memory", rows=20)).seeds("loss", value="mean").groups
    assert group.values == (pytest.approx(sum(losses) / len(losses)),)
