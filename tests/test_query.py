"""What a book promises: runs found by any name they have, tables to all libraries, SQL over everything."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import orjson
import pytest
from journals import BEGIN, WrittenRun
from waiting import wait_until

import lossbook
from lossbook.book import Book
from lossbook.errors import BadArgument, BadQuery, MissingLibrary, StoreError, UnknownKey, UnknownRun
from lossbook.journal.line import encode_scalars
from lossbook.processes import host_name
from lossbook.reading.run import RecordedRun
from lossbook.run_info import edit_run_info
from lossbook.storage.compaction import seal_run

MakeRun = Callable[..., WrittenRun]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def make_run(store: Path) -> MakeRun:
    def make(id: str, project: str = "tests", *, live: bool = False, **identity: Any) -> WrittenRun:
        if live:
            here = WrittenRun.attempt_entry(0, host=host_name(), pid=os.getpid())
            identity = {"attempts": [here]} | identity
        return WrittenRun(store / project / id, project=project, **identity)

    return make


@pytest.fixture
def book(store: Path) -> Book:
    return lossbook.open(store)


@pytest.fixture
def three(make_run: MakeRun) -> None:
    """Three finished runs, begun one after the other: alpha (lr 1e-3), beta (1e-4) and gamma (1e-5)."""
    for number, (name, lr) in enumerate([("alpha", 1e-3), ("beta", 1e-4), ("gamma", 1e-5)]):
        run = make_run(
            f"id{number}",
            name=name,
            created=BEGIN + number,
            config={"lr": lr, "model": {"size": "nano"}},
            tags=[name, "all"],
        )
        run.segment([{"val/loss": 3.0 - number + at / 10} for at in range(3)], end="finished")


# -- opening and finding --------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere") as caught:
        lossbook.open(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_the_store_is_taken_from_the_environment_when_none_is_named(
    store: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("only").segment([{"a": 1.0}], end="finished")
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    assert [run.id for run in lossbook.open().runs()] == ["only"]


def test_an_empty_store_has_no_runs_and_says_so_when_asked_for_one(book: Book) -> None:
    assert book.runs() == []
    assert book.projects() == []
    with pytest.raises(UnknownRun):
        book.run()


@pytest.mark.usefixtures("three")
def test_a_run_is_found_by_id_name_and_beginning_and_latest_is_the_newest(book: Book) -> None:
    assert book.run("id1").name == "beta"
    assert book.run("beta").id == "id1"
    assert book.run("gam").id == "id2"
    assert book.run().id == book.run("latest").id == "id2"


@pytest.mark.usefixtures("three")
def test_an_unknown_run_is_answered_with_the_nearest_names(book: Book) -> None:
    with pytest.raises(UnknownRun, match="alpha"):
        book.run("alhpa")
    with pytest.raises(UnknownRun, match=r"id0.*id1.*id2|id2.*id1.*id0"):
        book.run("id")
    with pytest.raises(UnknownRun):
        book.run("")


def test_of_two_runs_of_one_name_the_message_names_both_and_the_project_decides(book: Book, make_run: MakeRun) -> None:
    for id, project in (("one", "first"), ("two", "second")):
        make_run(id, project, name="twin").segment([{"a": 1.0}], end="finished")
    with pytest.raises(UnknownRun, match=r"one.*two|two.*one"):
        book.run("twin")
    assert book.run("twin", project="first").id == "one"
    assert book.run("twin", project="second").id == "two"
    assert book.projects() == ["first", "second"]
    with pytest.raises(UnknownRun, match="third"):
        book.run("twin", project="third")


def test_a_run_named_like_a_path_stays_in_its_folder(book: Book, make_run: MakeRun, store: Path) -> None:
    make_run("safe", name="../../etc").segment([{"a": 1.0}], end="finished")
    assert book.run("../../etc").path == str(store / "tests" / "safe")
    for ref in ("../tests/safe", "/etc/passwd", "tests/safe"):
        with pytest.raises(UnknownRun):
            book.run(ref)


def test_foreign_files_in_a_store_are_passed_over(book: Book, make_run: MakeRun, store: Path) -> None:
    make_run("real").segment([{"a": 1.0}], end="finished")
    (store / "README.txt").write_text("hello")
    (store / "tests" / "notes.md").write_text("hello")
    (store / "tests" / "folder").mkdir()
    (store / "tests" / ".hidden").mkdir()
    (store / "tests" / "real" / "metrics" / "mine.parquet").parent.mkdir(exist_ok=True)
    (store / "tests" / "real" / "metrics" / "mine.parquet").write_text("no parquet")
    (store / "tests" / "real" / "journal" / "r0-000001.jsonl~").write_text("backup")
    assert [run.id for run in book.runs()] == ["real"]
    assert book.run("real").curve("a").last.tolist() == [1.0]


def test_a_run_folder_copied_half_way_is_read_as_far_as_it_goes(book: Book, make_run: MakeRun) -> None:
    run = make_run("half")
    run.segment([{"a": 1.0}, {"a": 2.0}], tail=b'{"i":3,"t":17636')
    os.unlink(run.folder.run_json)
    (found,) = book.runs()
    assert found.id == "half"
    assert found.curve("a").last.tolist() == [1.0, 2.0]
    assert any("run.json" in problem for problem in found.problems())


def test_a_damaged_run_json_leaves_the_rows_readable(book: Book, make_run: MakeRun) -> None:
    run = make_run("broken")
    run.segment([{"a": 1.0}], end="finished")
    with open(run.folder.run_json, "w") as file:
        file.write('{"id": "broken", ')
    found = book.run("broken")
    assert found.curve("a").last.tolist() == [1.0]
    assert found.attempts == ()
    assert any("run.json" in problem for problem in found.problems())


# -- what is known of a run -----------------------------------------------------------------------------------------


def test_a_run_tells_its_identity_and_its_numbers(book: Book, make_run: MakeRun) -> None:
    run = make_run(
        "told",
        name="a name",
        created=BEGIN,
        config={"lr": 1e-3, "model": {"size": "nano"}},
        tags=["x"],
        group="g",
        notes="n",
    )
    run.segment(
        [
            (0, {"loss": 3.0}),
            (1, {"loss": 1.0}),
            (2, {"loss": float("nan")}),
            (3, {"loss": 2.0}),
            ("config", {"model": {"layers": 2}, "lr": 2e-3}),
            ("summary", {"params": 10, "best": "Infinity"}),
        ],
        end="failed",
    )
    found = book.run("told")
    assert (found.id, found.name, found.project, found.state) == ("told", "a name", "tests", "failed")
    assert (found.group, found.notes, found.tags) == ("g", "n", ["x"])
    assert found.config == {"lr": 2e-3, "model": {"size": "nano", "layers": 2}}
    assert found.summary["params"] == 10
    assert found.created == BEGIN / 1e6
    assert found.ended is not None
    assert found.path == run.folder.path
    assert found.attempts[0].number == 0
    assert found.keys() == ["loss"]
    loss = found.metrics["loss"]
    assert (loss["last"], loss["last_step"], loss["min"], loss["min_step"]) == (2.0, 3, 1.0, 1)
    assert (loss["max"], loss["max_step"], loss["mean"], loss["count"], loss["nonfinite"]) == (3.0, 0, 2.0, 4, 1)


@pytest.mark.usefixtures("three")
def test_runs_are_filtered_sorted_and_limited(book: Book, make_run: MakeRun) -> None:
    make_run("id9", created=BEGIN - 5, name="silent").segment([], end="failed")

    def names(**arguments: Any) -> list[str]:
        return [run.name for run in book.runs(**arguments)]

    assert names() == ["gamma", "beta", "alpha", "silent"]
    assert names(where="config.lr > 5e-5 and state = 'finished'") == ["beta", "alpha"]
    assert names(where="'beta' in tags") == ["beta"]
    assert names(where="val/loss.min <= 2") == ["gamma", "beta"]
    # A run without the value comes last, whichever way the others go.
    assert names(sort="val/loss") == ["gamma", "beta", "alpha", "silent"]
    assert names(sort="-val/loss") == ["alpha", "beta", "gamma", "silent"]
    assert names(sort="config.lr", limit=2) == ["gamma", "beta"]
    assert names(sort="created") == ["silent", "alpha", "beta", "gamma"]
    assert names(sort="-name") == ["silent", "gamma", "beta", "alpha"]
    assert names(limit=0) == []
    assert names(project="elsewhere") == []
    with pytest.raises(BadQuery):
        book.runs(where="state ==")


def test_tags_and_notes_that_were_changed_afterwards_are_seen_at_once(book: Book, make_run: MakeRun) -> None:
    run = make_run("r1")
    run.segment([{"a": 1.0}], end="finished")
    assert book.run("r1").tags == []
    edit_run_info(run.folder, lambda info: info._replace(tags=("new",), notes="changed"))
    assert book.run("r1").tags == ["new"]
    assert book.runs(where="'new' in tags")[0].notes == "changed"


def test_a_running_run_is_seen_as_it_stands(book: Book, make_run: MakeRun) -> None:
    run = make_run("live", live=True)
    path = run.segment([{"loss": 3.0}])
    found = book.run("live")
    assert found.state == "running"
    assert found.ended is None
    assert found.metrics["loss"]["last"] == 3.0
    with open(path, "ab") as file:
        file.write(encode_scalars(2, BEGIN + 10, 1, {"loss": 2.0}))
    assert book.run("live").metrics["loss"]["last"] == 2.0
    assert found.history("loss").rows()[-1][2] == 2.0
    assert book.sql("select value from metrics order by step").rows() == [(3.0,), (2.0,)]
    assert os.listdir(run.folder.journal) == ["r0-000001.jsonl"]


def test_a_row_of_a_real_run_is_seen_while_it_runs(store: Path) -> None:
    run = lossbook.init(project="tests", name="real", store=str(store), system_metrics=False, console=False)
    try:
        book = lossbook.open(store)
        for step in range(3):
            run.log({"loss": 1.0 / (step + 1)}, step=step)
            wait_until(lambda step=step: book.run("real").metrics.get("loss", {}).get("last_step") == step)
            assert len(book.run("real").curve("loss")) == step + 1
        assert book.run("real").state == "running"
    finally:
        run.finish()
    wait_until(lambda: book.run("real").state != "running")
    assert book.run("real").state == "finished"
    assert book.run("real").curve("loss").x.tolist() == [0, 1, 2]


# -- history --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(book: Book, make_run: MakeRun) -> RecordedRun:
    run = make_run("wide")
    run.segment([(0, {"train_loss": 3.0, "lr": 0.1}), (1, {"train_loss": 2.0}), (1, {"lr": 0.2}), (4, {"other": 9.0})])
    run.segment([(5, {"train_loss": 1.0}), (5, {"train_loss": 0.5})], end="finished")
    return book.run("wide")


def test_history_is_a_line_for_each_step_and_a_column_for_each_key(wide: RecordedRun) -> None:
    table = wide.history(["train_loss", "lr"])
    assert table.columns == ["step", "time", "train_loss", "lr"]
    assert [(row[0], *row[2:]) for row in table.rows()] == [
        (0, 3.0, 0.1),
        (1, 2.0, 0.2),
        (5, 1.0, None),
        (5, 0.5, None),
    ]
    assert wide.history().columns == ["step", "time", "lr", "other", "train_loss"]
    assert [row[0] for row in wide.history(["lr"]).rows()] == [0, 1]


def test_history_takes_one_key_an_alias_and_a_range_of_steps(wide: RecordedRun) -> None:
    assert [row[0] for row in wide.history("train/loss", start=1, end=4).rows()] == [1]
    assert len(wide.history("train/loss", start=100)) == 0
    with pytest.raises(UnknownKey, match="train_loss"):
        wide.history(["train_lss"])


def test_history_hides_what_was_replaced_unless_asked(book: Book, make_run: MakeRun) -> None:
    run = make_run("again", attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 1)])
    run.segment([(step, {"loss": 1.0}) for step in range(4)])
    run.segment([(step, {"loss": 2.0}) for step in range(2, 4)], attempt=1, end="finished")
    found = book.run("again")
    assert [(row[0], row[2]) for row in found.history("loss").rows()] == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0)]
    everything = found.history("loss", hidden=True)
    assert sorted((one["step"], one["attempt"], one["loss"]) for one in everything.dicts()) == [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (2, 0, 1.0),
        (2, 1, 2.0),
        (3, 0, 1.0),
        (3, 1, 2.0),
    ]


def test_history_keeps_ranks_apart_when_asked(book: Book, make_run: MakeRun) -> None:
    run = make_run("ranks")
    run.segment([(0, {"memory": 10.0})], end="finished")
    run.segment([(0, {"memory": 30.0})], rank=1, end="finished")
    found = book.run("ranks")
    assert [row[2] for row in found.history("memory").rows()] == [20.0]
    assert [(one["rank"], one["memory"]) for one in found.history("memory", ranks=True).dicts()] == [
        (0, 10.0),
        (1, 30.0),
    ]


@pytest.mark.parametrize("options", [{}, {"ranks": True}, {"hidden": True}, {"ranks": True, "hidden": True}])
def test_a_key_that_is_asked_for_alone_has_the_lines_that_it_has_beside_others(
    book: Book, make_run: MakeRun, options: dict[str, bool]
) -> None:
    """Its name may be that of a column by which lines are put in order, and a step may come twice, or late."""
    run = make_run("again", attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, 3)])
    values = [9.0, 3.0, float("nan"), 7.0, 1.0, 8.0]
    for rank in (0, -1):
        run.segment([(step, {"row": value}) for step, value in zip((5, 0, 3, 3, 1, 2), values, strict=True)], rank=rank)
    run.segment([(step, {"row": 2.5, "lr": 0.1}) for step in (5, 4, 4)], attempt=1, end="finished")
    found = book.run("again")
    alone, beside = found.history(["row"], **options), found.history(["row", "lr"], **options)
    assert (alone.columns, alone.types) == (beside.columns[:-1], beside.types[:-1])
    lines = [line[:-1] for line in beside.rows()]
    assert len(lines) == (15 if "hidden" in options else 13)
    assert repr(alone.rows()) == repr(lines)


def test_a_history_loads_nothing_that_draws_imports_or_makes_tables_of_other_libraries(
    store: Path, make_run: MakeRun
) -> None:
    make_run("a").segment([{"loss": 1.0}], end="finished")
    foreign = "pandas", "pyarrow", "polars", "psutil", "asyncio", "multiprocessing", "numpy.ma"
    own = "lossbook.curves.downsample", "lossbook.curves.smoothing", "lossbook.analysis", "lossbook.diagnosis"
    own += (
        "lossbook.reading.where",
        "lossbook.formatting",
        "lossbook.trackers.ingest",
        "lossbook.run.run",
        "lossbook.follower",
        "lossbook.notebook",
    )
    script = (
        "import sys, lossbook\n"
        "found = lossbook.open(sys.argv[1]).run('a').history('loss').numpy()\n"
        "assert found['loss'].tolist() == [1.0]\n"
        "print([name for name in sys.argv[2:] if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", script, str(store), *foreign, *own]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_rows_of_a_child_process_are_rows_of_their_own(book: Book, make_run: MakeRun) -> None:
    run = make_run("children")
    run.segment([(0, {"loss": 1.0}), (1, {"loss": 2.0})], end="finished")
    run.segment([(1, {"loss": 8.0, "own": 5.0})], rank=-1, end="finished")
    found = book.run("children")
    assert sorted((one["step"], one["loss"]) for one in found.history("loss").dicts()) == [(0, 1.0), (1, 2.0), (1, 8.0)]
    assert sorted(found.curve("loss").last.tolist()) == [1.0, 2.0, 8.0]
    assert found.curve("own").last.tolist() == [5.0]


def test_values_come_back_bit_for_bit_live_and_sealed(book: Book, make_run: MakeRun) -> None:
    values = [0.1, 1e-308, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3, float("inf"), float("-inf"), float("nan")]
    run = make_run("bits", live=True)
    run.segment([(step, {"v": value}) for step, value in enumerate(values)])
    found = book.run("bits")
    expected = numpy.array(values).view(numpy.int64)[:-1].tolist()
    for _ in range(2):
        read = [row[2] for row in found.history("v").rows()]
        assert numpy.array(read).view(numpy.int64)[:-1].tolist() == expected
        assert read[-1] != read[-1]
        run.segment([])
        seal_run(run.folder, finished=False)


# -- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_gives_rows_dictionaries_and_arrays(wide: RecordedRun) -> None:
    table = wide.history("lr")
    assert len(table) == 2
    assert [row[2] for row in table.rows()] == [0.1, 0.2]
    assert table.dicts()[1]["lr"] == 0.2
    arrays = table.numpy()
    assert arrays["lr"].tolist() == [0.1, 0.2]
    assert arrays["step"].dtype == numpy.int64


def test_a_table_becomes_a_data_frame_of_pandas_and_polars_and_an_arrow_table(wide: RecordedRun) -> None:
    table = wide.history("lr")
    pytest.importorskip("pandas")
    assert table.df()["lr"].tolist() == [0.1, 0.2]
    pytest.importorskip("pyarrow")
    assert table.arrow().column("lr").to_pylist() == [0.1, 0.2]
    pytest.importorskip("polars")
    assert table.pl()["lr"].to_list() == [0.1, 0.2]


def test_metrics_that_are_called_like_the_columns_of_a_table_leave_these_as_they_are(
    book: Book, make_run: MakeRun, tmp_path: Path
) -> None:
    rows = [{"step": 20.0 * at, "time": 0.5, "run": 7.0, "Loss": 2.0, "loss": 1.0, "LOSS": 3.0} for at in range(12)]
    make_run("abc").segment(rows, end="finished")
    history = book.run("abc").history(["step", "time", "run", "loss", "LOSS", "Loss"])
    names = ["step", "time", "metric/step", "metric/time", "run", "loss", "LOSS", "Loss"]
    values = [(at, 20.0 * at, 0.5, 7.0, 1.0, 3.0, 2.0) for at in range(12)]
    without_time = [name for name in names if name != "time"]
    assert history.columns == names
    assert [tuple(line[name] for name in without_time) for line in history.dicts()] == values
    for frame in (history.df(), history.pl()):
        assert list(frame.columns) == names
        assert [tuple(row) for row in frame[without_time].to_numpy().tolist()] == values
    assert list(history.numpy()) == list(history.arrow().column_names) == names
    for format in ("csv", "json", "jsonl", "parquet"):
        history.write(tmp_path / "table", format)
        if format == "csv":
            found: Any = list(csv.DictReader((tmp_path / "table").read_text().splitlines()))
            assert [tuple(float(line[name]) for name in without_time) for line in found] == values
        elif format == "parquet":
            from pyarrow import parquet

            assert parquet.read_table(tmp_path / "table").select(without_time).to_pydict()["LOSS"] == [3.0] * 12
        else:
            text = (tmp_path / "table").read_bytes()
            found = orjson.loads(text) if format == "json" else [orjson.loads(line) for line in text.splitlines()]
            assert [tuple(line[name] for name in without_time) for line in found] == values
    assert "metric/rank" not in book.run("abc").history(ranks=True).columns


def test_a_column_that_is_asked_for_twice_has_a_number(book: Book, make_run: MakeRun) -> None:
    make_run("abc").segment([{"loss": 1.0}], end="finished")
    table = book.sql("select run, run, 1 as a, 2 as A from metrics")
    assert table.dicts() == [{"run": "abc", "run_1": "abc", "a": 1, "A": 2}]
    assert list(table.pl().columns) == list(table.df().columns) == ["run", "run_1", "a", "A"]


def test_sql_answers_while_runs_are_sealed_one_after_the_other(book: Book, make_run: MakeRun) -> None:
    runs = [make_run(f"run{number}") for number in range(30)]
    for run in runs:
        run.segment([{"loss": float(at)} for at in range(20)], end="finished")
    sealing = threading.Thread(target=lambda: [seal_run(run.folder, finished=True) for run in runs])
    sealing.start()
    answers = []
    while sealing.is_alive():
        answers.append(book.sql("select count(*), max(value), count(distinct run) from metrics").rows())
        answers.append([(len(book.run("run29").history().rows()) * 30, 19.0, 30)])
    sealing.join()
    answers.append(book.sql("select count(*), max(value), count(distinct run) from finite_metrics").rows())
    assert answers == [[(600, 19.0, 30)]] * len(answers)


def test_the_largest_and_the_mean_of_finite_metrics_are_those_of_the_run(book: Book, make_run: MakeRun) -> None:
    values = [1.0, float("nan"), 3.0, float("inf"), 8.0, float("-inf")]
    make_run("abc").segment([{"loss": value} for value in values], end="finished")
    known = book.run("abc").metrics["loss"]
    (found,) = book.sql("select max(value), min(value), avg(value), count(*) from finite_metrics").rows()
    assert (
        found == (known["max"], known["min"], known["mean"], known["count"] - known["nonfinite"]) == (8.0, 1.0, 4.0, 3)
    )


@pytest.mark.parametrize(("method", "library"), [("df", "pandas"), ("pl", "polars"), ("arrow", "pyarrow")])
def test_a_library_that_is_missing_is_named_with_how_to_install_it(
    wide: RecordedRun, monkeypatch: pytest.MonkeyPatch, method: str, library: str
) -> None:
    table = wide.history("lr")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibrary, match=f"pip install {library}"):
        getattr(table, method)()


def test_a_table_is_written_as_csv_json_and_parquet(wide: RecordedRun, tmp_path: Path) -> None:
    table = wide.history(["train_loss", "lr"])
    table.write(tmp_path / "t.csv", "csv")
    with open(tmp_path / "t.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["step"], line["train_loss"], line["lr"]) for line in lines][:2] == [
        ("0", "3.0", "0.1"),
        ("1", "2.0", "0.2"),
    ]
    table.write(tmp_path / "t.json", "json")
    assert [one["train_loss"] for one in orjson.loads((tmp_path / "t.json").read_bytes())] == [3.0, 2.0, 1.0, 0.5]
    table.write(tmp_path / "t.jsonl", "jsonl")
    assert len((tmp_path / "t.jsonl").read_bytes().splitlines()) == 4
    table.write(tmp_path / "t.parquet", "parquet")
    read = lossbook.open(os.path.dirname(os.path.dirname(wide.path))).sql(
        "select count(*), sum(lr) from read_parquet(?)", [str(tmp_path / "t.parquet")]
    )
    assert read.rows()[0][0] == 4
    assert read.rows()[0][1] == pytest.approx(0.3)


def test_a_table_that_cannot_be_written_leaves_what_was_there(wide: RecordedRun, tmp_path: Path) -> None:
    table = wide.history("lr")
    with pytest.raises(BadArgument, match="csv"):
        table.write(tmp_path / "t.xls", "xls")
    with pytest.raises(StoreError):
        table.write(tmp_path / "no" / "folder" / "t.csv", "csv")
    target = tmp_path / "t.csv"
    target.write_text("before")
    failing = lossbook.open(os.path.dirname(os.path.dirname(wide.path))).sql("select cast(key as double) from metrics")
    with pytest.raises((StoreError, BadQuery)):
        failing.write(target, "csv")
    assert target.read_text() == "before"
    assert os.listdir(tmp_path).count("t.csv") == 1
    assert [name for name in os.listdir(tmp_path) if "tmp" in name] == []


# -- SQL ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_sql_sees_the_rows_of_all_runs(book: Book) -> None:
    found = book.sql("select name, min(value) as best from metrics where key = 'val/loss' group by name order by best")
    assert found.columns == ["name", "best"]
    assert found.rows() == [("gamma", 1.0), ("beta", 2.0), ("alpha", 3.0)]
    assert book.sql("describe metrics").rows()[0][0] == "project"
    names = [row[0] for row in book.sql("describe metrics").rows()]
    assert names == ["project", "run", "name", "key", "row", "step", "time", "value", "rank", "attempt"]


@pytest.mark.usefixtures("three")
def test_sql_sees_runs_with_their_configuration_and_metrics(book: Book) -> None:
    found = book.sql(
        "select id, config->>'$.lr', tags[1], config->'$.model'->>'size' from runs where state = 'finished' "
        "and list_contains(tags, 'beta') and created < now()::timestamp"
    )
    assert found.rows() == [("id1", "0.0001", "beta", "nano")]
    best = book.sql("select name from runs order by cast(metrics->'val/loss'->>'min' as double) limit 1")
    assert best.rows() == [("gamma",)]
    joined = book.sql(
        "select runs.name, count(*) from metrics join runs on metrics.run = runs.id group by all order by 1"
    )
    assert joined.rows() == [("alpha", 3), ("beta", 3), ("gamma", 3)]


def test_sql_takes_parameters(book: Book, make_run: MakeRun) -> None:
    make_run("p").segment([{"it's": 1.0}], end="finished")
    assert book.sql("select value from metrics where key = ?", ["it's"]).rows() == [(1.0,)]


def test_sql_tells_visible_rows_from_all_rows(book: Book, make_run: MakeRun) -> None:
    run = make_run(
        "cut", attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1), WrittenRun.attempt_entry(2, 2)]
    )
    run.segment([(step, {"a": 0.0, "b": 0.0}) for step in range(6)])
    run.segment([(step, {"a": 1.0}) for step in range(4, 8)], attempt=1)
    run.segment([(3, {"a": 2.0})], attempt=2, end="finished")
    visible = "select step, value from metrics where key = ? order by step"
    assert book.sql(visible, ["a"]).rows() == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 2.0)]
    assert book.sql(visible, ["b"]).rows() == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert book.sql("select count(*) from all_metrics").rows() == [(17,)]


def test_sql_sees_events(book: Book, make_run: MakeRun) -> None:
    run = make_run("e")
    run.segment(
        [("note", {"text": "hello"}), {"a": 1.0}, ("alert", {"title": "t", "level": "warning"})], end="finished"
    )
    found = book.sql("select kind, value->>'$.text' from events where kind = 'note'")
    assert found.rows() == [("note", "hello")]


def test_sql_on_an_empty_store_gives_no_rows(book: Book) -> None:
    for view in ("metrics", "all_metrics", "runs", "events"):
        assert book.sql(f"select count(*) from {view}").rows() == [(0,)]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    "query", ["selec 1", "select nothing from metrics", "select * from nowhere", "", ";", "select 'x"]
)
def test_wrong_sql_is_one_sentence(book: Book, query: str) -> None:
    with pytest.raises(BadQuery) as caught:
        book.sql(query).rows()
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("three")
def test_sql_that_fails_on_the_rows_themselves_is_one_sentence(book: Book) -> None:
    with pytest.raises(BadQuery) as caught:
        book.sql("select cast(key as integer) from metrics").rows()
    assert "\n" not in str(caught.value)


# -- events and problems --------------------------------------------------------------------------------------------


def test_events_come_in_order_live_and_sealed(book: Book, make_run: MakeRun) -> None:
    run = make_run("ev", live=True)
    run.segment([{"a": 1.0}, ("note", {"text": "first"}), ("checkpoint", {"path": "c.pt", "is_best": True})])
    run.segment([("note", {"text": "second"})])
    found = book.run("ev")
    for _ in range(2):
        notes = found.events("note")
        assert [one["value"]["text"] for one in notes] == ["first", "second"]
        assert set(notes[0]) == {"row", "step", "time", "kind", "key", "rank", "attempt", "value"}
        assert notes[0]["time"] == pytest.approx(BEGIN / 1e6, abs=10)
        kinds = [one["kind"] for one in found.events()]
        assert sorted(kinds) == ["attempt", "attempt", "checkpoint", "note", "note"]
        assert [kind for kind in kinds if kind != "attempt"] == ["note", "checkpoint", "note"]
        seal_run(run.folder, finished=False)


def test_a_whole_run_has_no_problems(book: Book, make_run: MakeRun) -> None:
    run = make_run("fine")
    run.segment([{"a": 1.0}])
    run.segment([(1, {"a": 2.0})], end="finished")
    assert book.run("fine").problems() == []


@pytest.mark.parametrize("live", [True, False])
def test_a_damaged_line_a_gap_and_a_missing_segment_are_told_in_a_sentence_each(
    book: Book, make_run: MakeRun, live: bool
) -> None:
    run = make_run("sick", live=live)
    run.segment([{"a": 1.0}, b"rubbish\n", (3, {"a": 2.0})])
    run.next_row[0] += 5
    run.segment([(4, {"a": 3.0})])
    run.segment([(5, {"a": 4.0})], number=4, end=None if live else "finished")
    problems = book.run("sick").problems()
    assert any("line 3" in problem for problem in problems)
    assert any("missing" in problem and "segment" in problem for problem in problems)
    assert any("missing" in problem and "rows" in problem for problem in problems)
    assert all("\n" not in problem for problem in problems)
    assert book.run("sick").curve("a").last.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_damaged_line_in_a_running_journal_is_neither_a_gap_nor_a_second_writer(
    book: Book, make_run: MakeRun
) -> None:
    run = make_run("hurt", live=True)
    path = run.segment([{"a": 1.0}, b"rubbish\n", (3, {"a": 2.0})])
    found = book.run("hurt")
    found.curve("a")
    for i in range(4, 7):
        with open(path, "ab") as file:
            file.write(encode_scalars(i, BEGIN + i, i, {"a": float(i)}))
        assert int(found.curve("a").count.sum()) == i - 1
    (problem,) = found.refresh().problems()
    assert "line 3" in problem


@pytest.mark.parametrize("live", [True, False])
def test_two_writers_of_one_rank_are_told_and_both_are_read(book: Book, make_run: MakeRun, live: bool) -> None:
    run = make_run("two", live=live)
    run.segment([(step, {"a": 1.0}) for step in range(3)])
    run.next_row[0] = 0
    run.segment([(step, {"a": 2.0}) for step in range(3)], end=None if live else "finished")
    found = book.run("two")
    assert any("two processes" in problem for problem in found.problems())
    assert int(found.curve("a").count.sum()) == 6


# -- work that a follower left --------------------------------------------------------------------------------------


def test_a_finished_run_that_was_left_unsealed_is_read_from_its_journal(book: Book, make_run: MakeRun) -> None:
    run = make_run("left")
    run.segment([{"a": 1.0}], end="finished")
    found = book.run("left")
    assert found.curve("a").last.tolist() == [1.0]
    assert found.history("a").rows()[0][2] == 1.0
    assert os.listdir(run.folder.journal) == ["r0-000001.jsonl"]
    assert not os.path.exists(run.folder.metrics)


# -- files that are replaced, or damaged, before rows are asked for -------------------------------------------------


def test_a_table_made_before_its_files_were_sealed_and_merged_answers_all_the_same(
    make_run: MakeRun, book: Book, tmp_path: Path
) -> None:
    run = make_run("r")
    run.segment([{"loss": float(at)} for at in range(100)])
    run.segment([{"loss": float(at)} for at in range(100, 200)], first_step=100, end="finished")
    found = book.run("r")
    history, sql = found.history(["loss"]), book.sql("select count(*) from metrics where key = 'loss'")
    seal_run(run.folder, finished=False)
    assert len(history.rows()) == len(history) == 200
    seal_run(run.folder, finished=True)
    assert os.listdir(run.folder.journal) == []
    assert history.numpy()["loss"].tolist() == [float(at) for at in range(200)]
    assert sql.rows() == [(200,)]
    history.write(tmp_path / "out.csv", "csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 201


def test_a_file_of_an_older_version_that_cannot_be_decoded_is_left_out_and_named(make_run: MakeRun, book: Book) -> None:
    run = make_run("r")
    for first in (0, 100):
        run.segment([(at, {"loss": float(at)}) for at in range(first, first + 100)])
        seal_run(run.folder, finished=False)
    run.segment([], end="finished")
    damaged = Path(run.folder.metrics, "r0-000001.parquet")
    for digest in Path(run.folder.digests).iterdir():
        digest.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"\0" * 9)
    seal_run(run.folder, finished=False)
    found = book.run("r")
    assert [row["step"] for row in found.history(["loss"]).dicts()] == list(range(100, 200))
    assert book.sql("select count(*) from metrics").rows() == [(100,)]
    assert any(str(damaged) in problem for problem in found.problems())


def test_a_store_that_another_thread_is_just_beginning_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossbook.book.APPEARS_SECONDS", 60.0)
    store = tmp_path / "store"
    asked = threading.Event()

    def train() -> None:
        asked.wait()
        with lossbook.init(store=store, project="p", console=False, system_metrics=False) as run:
            run.log({"loss": 1.0})

    training = threading.Thread(target=train)
    training.start()
    asked.set()
    found = lossbook.open(store)
    training.join()
    assert found.sql("select count(*) from metrics").rows() == [(1,)]
    monkeypatch.setattr("lossbook.book.APPEARS_SECONDS", 0.0)
    with pytest.raises(StoreError, match="there is no store at"):
        lossbook.open(tmp_path / "nowhere")
