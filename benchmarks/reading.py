"""Reading in a process that has just begun: one series, a list of runs, and one question over many runs.

Every question is a script in an interpreter of its own, timed from its start to its end, imports included. Scripts that are
compared take turns, so that what else the machine does falls on all of them; the first turn only warms the page cache and
the byte code. Figures are medians.
"""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import MeasurementFailed, run_script
from benchmarks.listing import SMALL, multiply, record_many, record_one
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, PROJECT, TRACKERS, installed

ROWS = 100_000
KEY = "train/loss"
#: Of the question over many runs.
RUNS, RUN_ROWS = 500, 1_000

_NUMPY = """
import sys, lossbook
history = lossbook.open(sys.argv[1]).run("latest").history([sys.argv[2]]).numpy()
print(len(history[sys.argv[2]]))
"""
_DF = """
import sys, lossbook
print(len(lossbook.open(sys.argv[1]).run("latest").history([sys.argv[2]]).df()))
"""
_PANDAS = "import pandas"
_PANDAS_DUCKDB = "import pandas, duckdb; duckdb.connect()"
_TRACKIO_SERIES = """
import sys
from trackio.sqlite_storage import SQLiteStorage
print(len(SQLiteStorage.get_metric_values(sys.argv[1], "run", sys.argv[2])))
"""
_LIST = """
import sys, lossbook
print(len([run.name for run in lossbook.open(sys.argv[1]).runs()]))
"""
_LIST_VALUES = """
import sys, lossbook
print(len([(run.name, run.metrics[sys.argv[2]]["last"]) for run in lossbook.open(sys.argv[1]).runs()]))
"""
_TRACKIO_LIST = """
import sys
from trackio.sqlite_storage import SQLiteStorage
print(len(SQLiteStorage.get_runs(sys.argv[1])))
"""
_TRACKIO_LIST_VALUES = """
import sys
from trackio.sqlite_storage import SQLiteStorage
names = SQLiteStorage.get_runs(sys.argv[1])
print(len([(name, SQLiteStorage.get_logs(sys.argv[1], name)[-1][sys.argv[2]]) for name in names]))
"""
_SQL = """
import sys, lossbook
query = "select run, min(value) from metrics where key = $1 group by run"
print(len(lossbook.open(sys.argv[1]).sql(query, [sys.argv[2]]).rows()))
"""
_TRACKIO_SQL = """
import sys, pandas
frame = pandas.read_parquet(sys.argv[1], columns=["run_name", sys.argv[2]])
print(len(frame.groupby("run_name")[sys.argv[2]].min()))
"""
_MLFLOW_SQL = """
import sqlite3, sys, pandas
query = "select run_uuid, min(value) from metrics where key = ? group by run_uuid"
print(len(pandas.read_sql(query, sqlite3.connect(sys.argv[1]), params=[sys.argv[2]])))
"""


@dataclass(frozen=True)
class _Cost:
    """Medians over the turns, in seconds."""

    wall: float
    cpu: float


def write_series(folder: str, tracker: str) -> str:
    """Record a run of one series; returns the store."""
    if tracker == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        rows = [{KEY: 1 / (step + 1)} for step in range(ROWS)]
        SQLiteStorage.bulk_log(PROJECT, "run", rows, steps=list(range(ROWS)))
        return PROJECT
    used: Any = TRACKERS[tracker](folder)
    log = used.start()
    for step in range(ROWS):
        log({KEY: 1 / (step + 1)}, step)
    used.finish()
    return os.path.join(folder, OURS)


def write_runs(folder: str, tracker: str, runs: int) -> str:
    """Record many runs of two series; returns the store, or the file that is asked."""
    rows = [{KEY: 8.0 / (step + 1), "lr": 1e-3} for step in range(RUN_ROWS)]
    steps = list(range(RUN_ROWS))
    if tracker == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        for number in range(runs):
            SQLiteStorage.bulk_log(PROJECT, f"run-{number}", rows, steps=steps)
        # It exports only what it has looked for on the Hub; there is none here.
        SQLiteStorage._dataset_import_attempted = True
        SQLiteStorage.export_to_parquet()
        return str(SQLiteStorage.get_project_db_path(PROJECT).with_suffix(".parquet"))
    if tracker == "mlflow":
        return _write_mlflow(folder, runs, rows)
    import lossbook

    for number in range(runs):
        with lossbook.init(project=PROJECT, name=f"run-{number}", store=os.path.join(folder, OURS)) as run:
            for step, row in enumerate(rows):
                run.log(row, step)
    return os.path.join(folder, OURS)


def _write_mlflow(folder: str, runs: int, rows: list[dict[str, float]]) -> str:
    """MLflow makes its database and the first rows; the others go into its table as it would write them, in less time."""
    import sqlite3

    from mlflow.entities import Metric
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = os.path.join(folder, "mlflow.db")
    store = SqlAlchemyStore(f"sqlite:///{path}", os.path.join(folder, "artifacts"))
    experiment = store.create_experiment(PROJECT)
    names = [
        store.create_run(experiment, "user", 0, [], f"run-{number}").info.run_id  # type: ignore[no-untyped-call]
        for number in range(runs)
    ]
    store.log_batch(names[0], [Metric(key, value, 1_000, 0) for key, value in rows[0].items()], [], [])
    with sqlite3.connect(path) as database:
        columns = "key, value, timestamp, run_uuid, step, is_nan"
        database.executemany(
            f"INSERT INTO metrics ({columns}) VALUES (?, ?, ?, ?, ?, 0)",
            (
                (key, value, 1_000 + step, name, step)
                for name in names
                for step, row in enumerate(rows)
                for key, value in row.items()
                if step or name != names[0]
            ),
        )
    return path


def take_turns(session: Session, questions: dict[str, tuple[str, str, str]], expected: int) -> dict[str, _Cost]:
    """Run scripts in turns.

    Args:
        questions: name to (script, folder, store).
        expected: what each must print, so that none is fast because it read nothing; imports alone print nothing.
    """
    turns = 5 if session.quick else 15
    costs: dict[str, list[_Cost]] = {name: [] for name in questions}
    print(f"  {', '.join(questions)} …", file=sys.stderr, flush=True)
    for turn in range(turns + 1):
        for name, (script, folder, store) in questions.items():
            try:
                outcome = run_script(script, folder, store, KEY)
                if outcome.value != ("" if script in (_PANDAS, _PANDAS_DUCKDB) else str(expected)):
                    raise MeasurementFailed(f"{name} found {outcome.value!r}, not {expected}")
            except MeasurementFailed as error:
                if str(error) not in session.failures:
                    session.failures.append(str(error))
                continue
            if turn:
                costs[name].append(_Cost(outcome.wall_seconds, outcome.cpu_seconds))
    return {
        name: _Cost(statistics.median(one.wall for one in many), statistics.median(one.cpu for one in many))
        for name, many in costs.items()
        if many
    }


def _compare(title: str, ours: _Cost | None, other: _Cost | None, whose: str, at_most: float | None) -> list[Figure]:
    """Our time as a part of another's, by the clock and of the processor."""
    if ours is None or other is None:
        return []
    target = None if at_most is None else Target(at_most=at_most)
    return [
        Figure("reading", f"{title}, part of {whose} time", ours.wall / other.wall, target=target),
        Figure("reading", f"{title}, part of {whose} processor time", ours.cpu / other.cpu),
    ]


def _seconds(title: str, ours: _Cost | None, trackio: _Cost | None, note: str = "") -> Figure:
    peers = {} if trackio is None else {"trackio": trackio.wall}
    return Figure("reading", title, None if ours is None else ours.wall, peers, note=note)


def figures(session: Session) -> list[Figure]:
    return [*_one_series(session), *_list_of_runs(session), *_many_runs(session)]


def _one_series(session: Session) -> list[Figure]:
    questions = {}
    folder = session.place("series-lossbook")
    ours = session.measure(write_series, folder, tracker=OURS)
    if ours is not None:
        questions = {".numpy()": (_NUMPY, folder, ours.value)}
        if installed("pandas"):
            questions |= {".df()": (_DF, folder, ours.value), "import pandas": (_PANDAS, folder, "")}
            questions["pandas and an empty DuckDB"] = (_PANDAS_DUCKDB, folder, "")
    if "trackio" in session.peers:
        folder = session.place("series-trackio")
        theirs = session.measure(write_series, folder, tracker="trackio")
        if theirs is not None:
            questions["trackio"] = (_TRACKIO_SERIES, folder, theirs.value)
    cost = take_turns(session, questions, ROWS)
    array, trackio, frame, pandas = (cost.get(name) for name in (".numpy()", "trackio", ".df()", "import pandas"))
    title = f"one series of {ROWS:,} rows"
    found = [
        _seconds(
            f"{title} as numpy, new process, s",
            array,
            trackio,
            "the whole process: interpreter, imports, every step, time and value. trackio: `get_metric_values`.",
        ),
        *_compare(f"{title} as numpy", array, trackio, "trackio's", 1 / 3),
    ]
    empty = cost.get("pandas and an empty DuckDB")
    if frame is not None and pandas is not None and empty is not None:
        found += [
            _seconds(f"{title} as a data frame, new process, s", frame, None),
            Figure(
                "reading",
                f"{title} as a data frame, beyond `import pandas`, s",
                frame.wall - pandas.wall,
                target=Target(at_most=0.1),
                note=f"`import pandas` alone took {pandas.wall:.3f} s in the same turns, {pandas.cpu:.3f} s of the "
                f"processor; beyond that the frame took {frame.cpu - pandas.cpu:.3f} s of it. To import DuckDB too and "
                f"open an empty one took {empty.wall - pandas.wall:.3f} s more ({empty.cpu - pandas.cpu:.3f} s).",
            ),
        ]
    return found


def _list_of_runs(session: Session) -> list[Figure]:
    names: dict[str, tuple[str, str, str]] = {}
    values: dict[str, tuple[str, str, str]] = {}
    one = session.measure(record_one, session.place("listed-one"))
    folder = session.place("listed-lossbook")
    if one is not None and session.measure(multiply, folder, path=one.value, runs=SMALL):
        store = os.path.join(folder, OURS)
        names[OURS], values[OURS] = (_LIST, folder, store), (_LIST_VALUES, folder, store)
    if "trackio" in session.peers:
        folder = session.place("listed-trackio")
        if session.measure(record_many, folder, tracker="trackio"):
            names["trackio"], values["trackio"] = (
                (_TRACKIO_LIST, folder, PROJECT),
                (_TRACKIO_LIST_VALUES, folder, PROJECT),
            )
    found = []
    for title, questions, at_most in (
        (f"{SMALL} runs by name", names, 1 / 3),
        (f"{SMALL} runs with their last loss", values, 1 / 3),
    ):
        cost = take_turns(session, questions, SMALL)
        ours, trackio = cost.get(OURS), cost.get("trackio")
        found += [_seconds(f"{title}, new process, s", ours, trackio)]
        found += _compare(title, ours, trackio, "trackio's", at_most)
    return found


def _many_runs(session: Session) -> list[Figure]:
    runs = 100 if session.quick else RUNS
    scripts = {OURS: _SQL}
    if installed("pandas"):
        scripts |= {name: script for name, script in (("trackio", _TRACKIO_SQL),) if name in session.peers}
        scripts |= {"mlflow": _MLFLOW_SQL} if session.peers and installed("mlflow") else {}
    questions = {}
    for name, script in scripts.items():
        folder = session.place(f"many-runs-{name}")
        written = session.measure(write_runs, folder, tracker=name, runs=runs)
        if written is not None:
            questions[name] = (script, folder, written.value)
    cost = take_turns(session, questions, runs)
    ours = cost.get(OURS)
    title = f"the least loss of each of {runs} runs of {RUN_ROWS:,} rows"
    return [
        _seconds(
            f"{title}, new process, s",
            ours,
            cost.get("trackio"),
            "ours `book.sql`, from the store; pandas over the one Parquet file that trackio exports (the export is not "
            "timed), and over MLflow's SQLite.",
        ),
        *_compare(title, ours, cost.get("trackio"), "pandas' over trackio's Parquet", None),
        *_compare(title, ours, cost.get("mlflow"), "pandas' over MLflow's SQLite", None),
    ]
