"""`lossbook export --all --parquet FOLDER`: a folder of Parquet with what `book.sql` says, kept up to date."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pytest
from waiting import wait_until

import lossbook
from lossbook.book import Book
from lossbook.cli import main
from lossbook.dataset import ParquetExport
from lossbook.errors import StoreError

QUESTION = "SELECT project, run, count(*), avg(value), min(value) FROM {} WHERE key = 'loss' GROUP BY ALL ORDER BY ALL"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSBOOK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def record(name: str, losses: list[float], *, first: int = 0, finish: bool = True, **more: Any) -> Any:
    run = lossbook.init(**{"project": "p", "name": name, "id": name, "console": False, **more})
    for step, loss in enumerate(losses, first):
        run.log({"loss": loss}, step=step)
    if finish:
        run.finish()
    return run


def ask(folder: Path, query: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(query.format(f"read_parquet('{folder}/metrics/*/*.parquet')")).fetchall()


def check(book: Book, folder: Path) -> list[tuple[Any, ...]]:
    """What the data set says of each run is what `book.sql` says."""
    found = ask(folder, QUESTION)
    assert found == book.sql(QUESTION.format("metrics")).rows()
    return found


def test_runs_that_ended_live_were_resumed_and_forked_are_as_sql_says(store: Path, tmp_path: Path) -> None:
    record("plain", [2.0 + step / 100 for step in range(100)])
    record("other", [1.5] * 40, project="q")
    record("again", [2.0] * 50 + [900.0] * 50)
    record("again", [2.0] * 50, first=50, resume="must", resume_step=49)
    record("without-step", [3.0] * 20)
    record("without-step", [2.5] * 5, first=10, resume="must")
    record("fork", [1.25] * 29, first=71, fork_from="again?_step=70")
    record("live", [4.0] * 30, finish=False)
    book = lossbook.open()
    done = ParquetExport(book, str(tmp_path / "team")).turn()
    assert (done.written, done.removed, done.problems) == (6, 0, [])
    said = {row[1]: row[2:] for row in check(book, tmp_path / "team")}
    assert said["plain"] == (100, pytest.approx(2.495), 2.0)
    assert said["again"] == (100, 2.0, 2.0)
    assert said["without-step"] == (15, pytest.approx((10 * 3.0 + 5 * 2.5) / 15), 2.5)
    assert said["live"] == (30, 4.0, 4.0)


def test_only_what_changed_is_written_again(store: Path, tmp_path: Path) -> None:
    record("one", [1.0] * 5)
    live = record("two", [2.0] * 5, finish=False)
    export = ParquetExport(lossbook.open(), str(tmp_path / "team"))
    assert export.turn().written == 2
    assert not export.turn().changed
    live.log({"loss": 3.0}, step=5)
    done = export.turn()
    assert (done.written, done.unchanged) == (1, 1)
    assert ask(tmp_path / "team", "SELECT count(*) FROM {} WHERE run = 'two' AND key = 'loss'") == [(6,)]


def test_a_file_that_somebody_removed_is_made_again(store: Path, tmp_path: Path) -> None:
    record("one", [1.0] * 5)
    export = ParquetExport(lossbook.open(), str(tmp_path / "team"))
    export.turn()
    (tmp_path / "team" / "metrics" / "p" / "one.parquet").unlink()
    assert export.turn().written == 1
    assert check(lossbook.open(), tmp_path / "team")


def test_a_run_that_was_removed_renamed_moved_rewound_or_made_anew_is_right_after_the_next_export(
    store: Path, tmp_path: Path
) -> None:
    for name in ("removed", "renamed", "moved", "rewound", "anew"):
        record(name, [1.0] * 10)
    record("fork", [7.0] * 3, first=6, fork_from="rewound?_step=5")
    folder = tmp_path / "team"
    assert main(["export", "--all", "--parquet", str(folder)]) == 0
    assert main(["rm", "removed", "anew"]) == 0
    assert main(["rename", "renamed", "a better name"]) == 0
    assert main(["mv", "moved", "--project", "archive"]) == 0
    record("rewound", [5.0] * 4, first=3, resume="must", resume_step=2)
    record("anew", [0.5] * 2)
    assert main(["export", "--all", "--parquet", str(folder)]) == 0
    said = {row[:2]: row[2:] for row in check(lossbook.open(), folder)}
    assert set(said) == {("p", "renamed"), ("archive", "moved"), ("p", "rewound"), ("p", "anew"), ("p", "fork")}
    assert said["p", "anew"] == (2, 0.5, 0.5)
    assert said["p", "rewound"][0] == 7
    assert ask(folder, "SELECT DISTINCT run_name FROM {} WHERE run = 'renamed'") == [("a better name",)]
    runs = duckdb.sql(f"SELECT project, run, run_name FROM '{folder}/runs.parquet'").fetchall()
    assert {row[:2] for row in runs} == set(said)
    assert ("p", "renamed", "a better name") in runs


def test_names_that_other_tools_take_for_numbers_dates_or_paths_stay_texts(store: Path, tmp_path: Path) -> None:
    projects = ["2025", "a=b/c %20", "vision: möbel", "x.parquet"]
    for number, project in enumerate(projects):
        record(f"00{number}", [1.0] * 3, project=project)
    record("2025-11-30", [1.0] * 3, project="2025")
    book = lossbook.open()
    ParquetExport(book, str(tmp_path / "team")).turn()
    assert {row[0] for row in check(book, tmp_path / "team")} == set(projects)
    assert ask(tmp_path / "team", "SELECT typeof(run), typeof(project) FROM {} LIMIT 1") == [("VARCHAR", "VARCHAR")]


def test_configuration_has_typed_columns_and_a_type_that_holds_all_where_runs_disagree(
    store: Path, tmp_path: Path
) -> None:
    record("one", [1.0], config={"lr": 1, "seed": 3, "name": "a", "flag": True, "mixed": 3, "model": {"width": 64}})
    record(
        "two", [1.0], config={"lr": 0.5, "seed": 1 << 40, "flag": False, "mixed": "auto", "LR": 9.0, "sizes": [1, 2]}
    )
    run = record("three", [1.0], finish=False)
    run.summary["score"] = float("nan")
    run.finish()
    book = lossbook.open()
    ParquetExport(book, str(tmp_path / "team")).turn()
    table = f"'{tmp_path}/team/runs.parquet'"
    types = {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()}
    assert {name: kind for name, kind in types.items() if name.startswith(("config.", "summary."))} == {
        "config.LR": "DOUBLE",
        "config.lr_2": "DOUBLE",
        "config.flag": "BOOLEAN",
        "config.mixed": "VARCHAR",
        "config.model.width": "BIGINT",
        "config.name": "VARCHAR",
        "config.seed": "BIGINT",
        "config.sizes": "VARCHAR",
        "summary.score": "DOUBLE",
    }
    columns = '"config.lr_2", "config.seed", "config.mixed", "config.sizes", "config.flag"'
    rows = duckdb.sql(f"SELECT run, {columns} FROM {table} WHERE run != 'three' ORDER BY run").fetchall()
    assert rows == [("one", 1.0, 3, "3", None, True), ("two", 0.5, 1 << 40, "auto", "[1,2]", False)]
    assert types["created"] == "TIMESTAMP"


def test_events_are_a_table_too(store: Path, tmp_path: Path) -> None:
    run = record("one", [1.0], finish=False)
    run.alert("loss spike", text="twice the median", level="warning")
    run.finish()
    ParquetExport(lossbook.open(), str(tmp_path / "team")).turn()
    found = duckdb.sql(
        f"SELECT run_name, value->>'title' FROM '{tmp_path}/team/events/*/*.parquet' WHERE kind = 'alert'"
    ).fetchall()
    assert found == [("one", "loss spike")]


def test_a_run_without_a_row_has_a_line_and_an_empty_file(store: Path, tmp_path: Path) -> None:
    record("empty", [])
    ParquetExport(lossbook.open(), str(tmp_path / "team")).turn()
    assert ask(tmp_path / "team", "SELECT count(*) FROM {}") == [(0,)]
    assert duckdb.sql(f"SELECT run FROM '{tmp_path}/team/runs.parquet'").fetchall() == [("empty",)]


def has_files_or_ended(folder: Path, files: int, process: subprocess.Popen[bytes]) -> bool:
    return len(list(folder.glob("metrics/*/*.parquet"))) >= files or process.poll() is not None


def test_an_export_that_is_killed_anywhere_is_right_after_the_next(store: Path, tmp_path: Path) -> None:
    for number in range(12):
        record(f"run{number}", [float(number)] * 20)
    folder = tmp_path / "team"
    command = [sys.executable, "-m", "lossbook.cli", "export", "--all", "--parquet", str(folder)]
    for files in (0, 3, 9):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
            wait_until(partial(has_files_or_ended, folder, files, killed))
            killed.send_signal(signal.SIGKILL)
        # What is in place is whole, whatever is missing.
        if list(folder.glob("metrics/*/*.parquet")):
            assert {row[2] for row in ask(folder, QUESTION)} == {20}
    assert main(["rm", "run3"]) == 0
    assert main(["export", "--all", "--parquet", str(folder)]) == 0
    assert len(check(lossbook.open(), folder)) == 11
    assert [name for name in os.listdir(folder / ".lossbook") if name.endswith((".tmp", ".parquet"))] == []


GROWING = """
import lossbook
from lossbook.dataset import ParquetExport
run = lossbook.init(project="p", id="growing", console=False)
export = None
for step in range(3000):
    run.log({"loss": float(step)}, step=step)
    if step % 150 == 0:
        export = export or ParquetExport(lossbook.open(), "team")
        export.turn()
run.finish()
"""


def test_who_reads_while_it_is_exported_sees_whole_files(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "team"
    reads = 0
    with subprocess.Popen([sys.executable, "-c", GROWING], cwd=tmp_path) as exporting:
        wait_until(lambda: (folder / "metrics" / "p" / "growing.parquet").exists())
        while exporting.poll() is None:
            ((count, last),) = ask(folder, "SELECT count(*), max(value) FROM {} WHERE key = 'loss'")
            frame = pyarrow.dataset.dataset(folder / "metrics").to_table(filter=pyarrow.dataset.field("key") == "loss")
            assert count == last + 1
            assert frame.num_rows == max(frame["value"].to_pylist()) + 1
            reads += 1
    assert exporting.returncode == 0
    assert reads > 3


def test_follow_keeps_it_up_to_date_until_ctrl_c(store: Path, tmp_path: Path) -> None:
    run = record("live", [1.0] * 5, finish=False)
    folder = tmp_path / "team"
    command = [sys.executable, "-m", "lossbook.cli", "export", "--all", "--parquet", str(folder), "--follow"]
    following = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: (folder / "runs.parquet").exists())
        for step in range(5, 9):
            run.log({"loss": 1.0}, step=step)
        wait_until(lambda: ask(folder, "SELECT count(*) FROM {} WHERE key = 'loss'") == [(9,)])
        run.finish()
        state = f"SELECT state FROM '{folder}/runs.parquet'"
        wait_until(lambda: duckdb.sql(state).fetchall() == [("finished",)])
    finally:
        following.send_signal(signal.SIGINT)
        _, said = following.communicate()
    assert following.returncode == 0
    assert said.startswith("1 run written, 0 unchanged in ")


def test_a_second_export_to_the_folder_is_refused(store: Path, tmp_path: Path) -> None:
    record("one", [1.0])
    folder = tmp_path / "team"
    command = [sys.executable, "-m", "lossbook.cli", "export", "--all", "--parquet", str(folder)]
    export = ParquetExport(lossbook.open(), str(folder))
    with (folder / ".lossbook" / "lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        with pytest.raises(StoreError, match="another process exports to"):
            export.turn()
    assert refused.returncode == 1
    assert "another process exports to" in refused.stderr
    assert export.turn().written == 1


def test_a_folder_that_holds_something_else_is_left_alone(store: Path, tmp_path: Path) -> None:
    record("one", [1.0])
    (tmp_path / "mine" / "metrics").mkdir(parents=True)
    with pytest.raises(StoreError, match="that no export made"):
        ParquetExport(lossbook.open(), str(tmp_path / "mine"))
    with pytest.raises(StoreError, match="lies in the store"):
        ParquetExport(lossbook.open(), str(store / "team"))
    ParquetExport(lossbook.open(), str(tmp_path / "team")).turn()
    record("elsewhere", [1.0], store=str(tmp_path / "second"))
    with pytest.raises(StoreError, match="holds the runs of the store"):
        ParquetExport(lossbook.open(tmp_path / "second"), str(tmp_path / "team"))


def test_a_store_that_went_away_empties_nothing(store: Path, tmp_path: Path) -> None:
    record("one", [1.0])
    export = ParquetExport(lossbook.open(), str(tmp_path / "team"))
    export.turn()
    store.rename(tmp_path / "unmounted")
    store.mkdir()
    with pytest.raises(StoreError, match="holds no run any more"):
        export.turn()
    assert ask(tmp_path / "team", "SELECT count(*) FROM {}") == [(1,)]


def test_a_store_of_which_the_last_run_was_removed_is_an_empty_table(store: Path, tmp_path: Path) -> None:
    record("one", [1.0])
    export = ParquetExport(lossbook.open(), str(tmp_path / "team"))
    export.turn()
    assert main(["rm", "one"]) == 0
    assert export.turn().removed == 1
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/team/runs.parquet'").fetchall() == [(0,)]
    assert not list((tmp_path / "team").glob("metrics/*/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parquet", "team"], "say which runs"),
        (["--all", "--follow"], "--follow is for --parquet"),
        (["one", "--all"], "--all is every run"),
        (["--all", "--parquet", "team", "--format", "csv"], "leave --format out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    store: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_all_is_every_run_in_a_single_file_too(store: Path, tmp_path: Path) -> None:
    record("one", [1.0] * 3)
    record("two", [2.0] * 3, project="q")
    assert main(["export", "--all", "--long", "-o", str(tmp_path / "all.parquet")]) == 0
    found = duckdb.sql(f"SELECT DISTINCT project, run FROM '{tmp_path}/all.parquet' ORDER BY ALL").fetchall()
    assert found == [("p", "one"), ("q", "two")]
