"""Going on with a run: another attempt of the same one, and one clean line in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import all_rows

import lossbook
from lossbook.errors import DamagedFile, StoreError, UnknownRun
from lossbook.journal import writer
from lossbook.journal.reader import journal_segments, last_row, read_segment
from lossbook.paths import RunFolder, read_json
from lossbook.processes import host_name, process_start
from lossbook.run import claim
from lossbook.storage.compaction import seal_run


def begin(store: Path, **arguments: Any) -> lossbook.Run:
    """A run called "one", in the project "p"."""
    return lossbook.init(**{"store": store, "project": "p", "id": "one", "console": False} | arguments)


def attempt(store: Path, steps: range, **arguments: Any) -> lossbook.Run:
    """One attempt at the run "one" that logs those steps and finishes."""
    run = begin(store, **arguments)
    for step in steps:
        run.log({"loss": step + run.attempt / 10}, step=step)
    run.finish()
    return run


def folder_of(run: lossbook.Run) -> RunFolder:
    return RunFolder(run.path)


def identity(run: lossbook.Run) -> dict[str, Any]:
    return read_json(folder_of(run).run_json) or {}


def line(store: Path, ref: str = "one", **arguments: Any) -> dict[int, float]:
    """The curve of the loss as a reader sees it: its value at each step."""
    rows = lossbook.open(store).run(ref).history(["loss"], **arguments).dicts()
    assert len({row["step"] for row in rows}) == len(rows), "one row a step"
    return {row["step"]: row["loss"] for row in rows}


def row_numbers(run: lossbook.Run) -> list[int]:
    """The numbers of the rows of rank 0, sealed or not, scalars and others."""
    import duckdb

    folder = folder_of(run)
    found = {row for _, row, _, _, rank, _ in all_rows(folder) if rank == 0}
    for segment in journal_segments(folder.journal):
        found |= {row.i for row in read_segment(segment.path).rows}
    if os.path.isdir(folder.events):
        events = duckdb.sql(f"SELECT row FROM read_parquet('{folder.events}/*.parquet') WHERE rank = 0").fetchall()
        found |= {row for (row,) in events}
    return sorted(found)


# -- which run ----------------------------------------------------------------------------------------------------


def test_allow_begins_the_run_the_first_time_and_goes_on_with_it_afterwards(store: Path) -> None:
    first = attempt(store, range(3), resume="allow")
    second = attempt(store, range(3, 6), resume="allow")
    assert (first.resumed, first.attempt, second.resumed, second.attempt) == (False, 0, True, 1)
    assert first.path == second.path
    assert line(store) == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.1, 4: 4.1, 5: 5.1}


def test_true_and_false_are_words_for_allow_and_never(store: Path) -> None:
    attempt(store, range(1))
    assert begin(store, resume=True).id == "one"
    lossbook.finish()
    assert begin(store, resume=False).id == "one-2"


def test_never_leaves_the_run_that_is_there_alone(store: Path) -> None:
    first = attempt(store, range(3))
    before = Path(first.path, "run.json").read_bytes()
    second = attempt(store, range(3))
    assert (second.id, second.resumed, second.attempt) == ("one-2", False, 0)
    assert Path(first.path, "run.json").read_bytes() == before


@pytest.mark.parametrize("durability", ["process", "async"])
def test_must_raises_where_there_is_no_such_run(store: Path, durability: str) -> None:
    with pytest.raises(UnknownRun, match="there is no run one"):
        begin(store, resume="must", durability=durability)
    assert not (store / "p" / "one").exists()


def test_must_needs_an_id(store: Path) -> None:
    with pytest.raises(UnknownRun, match="pass id= or set LOSSBOOK_RUN_ID"):
        lossbook.init(store=store, resume="must")


def test_a_run_on_a_file_system_that_may_hang_is_resumed_like_any_other(store: Path) -> None:
    attempt(store, range(3), durability="async")
    second = attempt(store, range(3, 6), durability="async", resume="must")
    assert (second.attempt, second.resumed) == (1, True)
    third = attempt(store, range(3), durability="async")
    assert third.id == "one-2"
    assert sorted(line(store)) == [0, 1, 2, 3, 4, 5]
    assert sorted(line(store, "one-2")) == [0, 1, 2]


def test_a_run_that_another_process_writes_is_left_to_it(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, lossbook; run = lossbook.init(store=sys.argv[1], project='p', id='one', console=False);"
        "print('ready', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert begin(store, resume="allow").id == "one-2"
        assert f"is being written by process {other.pid} right now" in capsys.readouterr().err
        with pytest.raises(StoreError, match="end that process first"):
            begin(store, resume="must")
    finally:
        other.communicate()
    assert begin(store, resume="must").attempt == 1


def test_a_cell_of_a_notebook_that_is_run_again_ends_the_run_before(store: Path) -> None:
    first = begin(store, resume="allow")
    first.log({"loss": 1.0})
    second = begin(store, resume="allow")
    second.log({"loss": 2.0})
    first.log({"loss": 3.0})
    second.finish()
    assert second.attempt == 1
    assert row_numbers(second) == [0, 1, 2, 3, 4, 5], "attempt, row, finish, twice"


def test_the_configuration_and_tags_of_a_resumed_run_are_added_to(store: Path) -> None:
    attempt(store, range(1), config={"lr": 0.1, "model": {"layers": 4}}, tags=["a"], name="first", notes="x")
    run = begin(store, resume="must", config={"lr": 0.2, "model": {"heads": 2}}, tags=["b"])
    found = identity(run)
    assert found["config"] == dict(run.config) == {"lr": 0.2, "model": {"layers": 4, "heads": 2}}
    assert (found["tags"], found["name"], found["notes"]) == (["a", "b"], "first", "x")


def test_a_run_json_that_is_damaged_is_left_for_a_new_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = attempt(store, range(3))
    Path(first.path, "run.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"run\.json is damaged"):
        begin(store, resume="must")
    assert begin(store, resume="allow").id == "one-2"
    assert "cannot be resumed" in capsys.readouterr().err


def test_a_run_without_attempts_can_be_resumed(store: Path) -> None:
    # As another program may have written it.
    path = store / "p" / "one" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format":1,"id":"one","name":"n","project":"p","created":0}')
    run = attempt(store, range(2), resume="must")
    assert (run.resumed, run.name) == (True, "n")
    assert sorted(line(store)) == [0, 1]


def test_a_folder_whose_run_json_is_lost_keeps_its_rows(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "IDENTITY_SECONDS", 0.05)
    first = attempt(store, range(3))
    os.unlink(os.path.join(first.path, "run.json"))
    assert attempt(store, range(3)).id == "one-2"
    again = attempt(store, range(3, 5), resume="allow")
    assert again.path == first.path
    assert row_numbers(again) == list(range(9))


def test_many_processes_that_begin_a_run_of_one_id_at_once_get_one_each(store: Path) -> None:
    code = (
        "import sys, lossbook; sys.stdin.readline();"
        "run = lossbook.init(store=sys.argv[1], project='p', id='one', console=False);"
        "run.log({'loss': 1.0}, 0); print(run.id, flush=True)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    names = sorted(process.communicate()[0].decode().strip() for process in processes)
    assert names == ["one", *(f"one-{number}" for number in range(2, 7))]
    for run in lossbook.open(store).runs():
        assert run.problems() == []


# -- attempts and row numbers -------------------------------------------------------------------------------------


def test_every_attempt_is_noted_with_its_process_and_step(store: Path) -> None:
    attempt(store, range(3))
    run = attempt(store, range(2, 4), resume="must", resume_step=1)
    attempts = identity(run)["attempts"]
    assert [(one["number"], one["resume_step"], one["pid"]) for one in attempts] == [
        (0, None, os.getpid()),
        (1, 1, os.getpid()),
    ]
    assert attempts[1]["process_start"] == process_start(os.getpid())
    assert attempts[1]["host"] == host_name()
    heads = [read_segment(segment.path).rows[0] for segment in journal_segments(folder_of(run).journal)]
    assert [(head.body["number"], head.body["resume_step"]) for head in heads] == [(0, None), (1, 1)]


@pytest.mark.parametrize("sealed", ["not", "sealed", "sealed, notes lost"])
def test_row_numbers_go_on_without_a_gap(store: Path, sealed: str) -> None:
    for number in range(3):
        run = attempt(store, range(number * 5, number * 5 + 5), resume="allow")
        if sealed != "not":
            seal_run(folder_of(run), finished=True)
            assert journal_segments(folder_of(run).journal) == []
        if sealed == "sealed, notes lost":
            os.unlink(os.path.join(run.path, "followers", "seal.json"))
    assert row_numbers(run) == list(range(3 * 7)), "attempt, five rows, finish, three times"
    assert sorted(line(store)) == list(range(15))


def test_row_numbers_go_on_when_only_the_earlier_segments_are_sealed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 500)
    run = begin(store)
    for step in range(40):
        run.log({"loss": float(step)}, step=step)
    seal_run(folder_of(run), finished=False)
    assert os.listdir(folder_of(run).metrics)
    run.finish()
    attempt(store, range(40, 50), resume="must")
    numbers = row_numbers(run)
    assert numbers == list(range(len(numbers)))
    assert sorted(line(store)) == list(range(50))


def test_the_number_of_a_torn_last_line_is_used_again(store: Path) -> None:
    run = attempt(store, range(3))
    (segment,) = journal_segments(folder_of(run).journal)
    size = os.path.getsize(segment.path)
    os.truncate(segment.path, size - 5)
    last = last_row(segment.path)
    assert last is not None
    attempt(store, range(3, 6), resume="must")
    numbers = row_numbers(run)
    assert numbers == list(range(len(numbers)))
    assert sorted(line(store)) == list(range(6))


def test_a_damaged_parquet_file_does_not_keep_a_run_from_going_on(store: Path) -> None:
    run = attempt(store, range(5))
    seal_run(folder_of(run), finished=True)
    os.unlink(os.path.join(run.path, "followers", "seal.json"))
    for name in os.listdir(folder_of(run).metrics):
        Path(folder_of(run).metrics, name).write_bytes(b"PAR1 no more")
    again = begin(store, resume="must")
    assert again.attempt == 1
    again.log({"loss": 9.0})
    again.sync()
    *_, newest = journal_segments(folder_of(again).journal)
    rows = [row for row in read_segment(newest.path).rows if row.kind is None]
    assert [row.i for row in rows] == [8], "the events tell: attempt, five rows, finish, attempt"


# -- steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
def test_steps_that_are_not_given_go_on_from_the_last(store: Path, sealed: bool) -> None:
    run = begin(store)
    for _ in range(5):
        run.log({"loss": 1.0})
    run.finish()
    if sealed:
        seal_run(folder_of(run), finished=True)
    run = begin(store, resume="must")
    assert run.step == 5
    run.log({"loss": 2.0})
    run.finish()
    assert sorted(line(store)) == [0, 1, 2, 3, 4, 5]


def test_steps_go_on_from_the_step_of_the_checkpoint(store: Path) -> None:
    attempt(store, range(10))
    run = begin(store, resume="must", resume_step=6)
    assert run.step == 7
    run.log({"loss": 0.5})
    run.finish()
    assert line(store) == {step: float(step) for step in range(7)} | {7: 0.5}


def test_rows_beyond_the_checkpoint_are_hidden_and_never_deleted(store: Path) -> None:
    attempt(store, range(10))
    attempt(store, range(7, 12), resume="must", resume_step=6)
    assert line(store) == {step: float(step) for step in range(7)} | {step: step + 0.1 for step in range(7, 12)}
    assert len(all_rows(RunFolder(str(store / "p" / "one")))) == 15
    recorded = lossbook.open(store).run("one")
    assert list(recorded.curve("loss", attempt=0).last) == [float(step) for step in range(10)]


def test_without_a_checkpoint_what_is_logged_again_replaces_what_was(store: Path) -> None:
    attempt(store, range(10))
    attempt(store, range(7, 9), resume="must")
    assert line(store) == {step: float(step) for step in range(7)} | {7: 7.1, 8: 8.1}


# -- forks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [lambda run: run, lambda run: run.id, lambda run: run.name])
def test_a_fork_begins_with_its_parents_history(store: Path, by: Callable[[lossbook.Run], Any]) -> None:
    parent = attempt(store, range(10), name="parent")
    fork = begin(store, id="two", fork_from=(by(parent), 4))
    created = lossbook.open(store).run("one").info.created
    assert identity(fork)["parent"] == {"project": "p", "run": "one", "step": 4, "created": created}
    assert (fork.attempt, fork.resumed, fork.step) == (0, False, 5)
    fork.log({"loss": 0.25})
    fork.finish()
    assert line(store, "two") == {step: float(step) for step in range(5)} | {5: 0.25}
    assert sorted(line(store)) == list(range(10)), "the parent stays as it is"


def test_a_fork_of_a_run_that_is_not_there_raises(store: Path) -> None:
    with pytest.raises(UnknownRun, match="fork_from names the run 'nobody'"):
        begin(store, fork_from=("nobody", 4))


def test_a_fork_that_is_resumed_stays_a_fork(store: Path) -> None:
    attempt(store, range(10))
    begin(store, id="two", fork_from=("one", 4)).finish()
    fork = begin(store, id="two", resume="must")
    assert fork.step == 5
    fork.log({"loss": 0.5})
    fork.finish()
    assert identity(fork)["parent"]["run"] == "one"
    assert sorted(line(store, "two")) == [0, 1, 2, 3, 4, 5]


def test_a_rank_that_makes_the_journal_first_sends_no_run_elsewhere(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks of one launch make the same folder at once: rank 1 may be between rank 0's two calls."""
    made = os.mkdir

    def mkdir_with_another_rank(path: str, *arguments: Any, **named: Any) -> None:
        made(path, *arguments, **named)
        if os.path.basename(path) == "together":
            made(os.path.join(path, "journal"))

    monkeypatch.setattr(os, "mkdir", mkdir_with_another_rank)
    run = lossbook.init(project="p", id="together", store=store, console=False)
    run.finish()
    assert run.path == str(store / "p" / "together")
    assert (store / "p" / "together" / "run.json").exists()
