"""A `run.json` or `summary.json` that is whole JSON and yet not ours: the run is listed, with a sentence about it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from journals import WrittenRun

from lossbook.book import open as open_store
from lossbook.cli.app import main
from lossbook.errors import BadQuery, LossbookError
from lossbook.paths import read_json
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary

WRONG_IDENTITY: list[dict[str, Any]] = [
    {"attempts": 7}, {"attempts": [7]}, {"attempts": [{"number": "x"}]}, {"attempts": [{"started": "now"}]},
    {"attempts": [{"resume_step": "k"}]}, {"config": []}, {"config": "x"}, {"tags": "x"}, {"tags": [1]}, {"tags": {}},
    {"created": "yesterday"}, {"created": -1}, {"created": 1 << 60}, {"name": 5}, {"id": []}, {"project": {}},
    {"group": 3}, {"notes": ["a"]}, {"host": "h"}, {"host": {"name": 1}}, {"parent": "p"},
    {"parent": {"project": "p"}}, {"parent": {"project": "p", "run": "r", "step": "s"}}, {"format": "1"},
    {"attempts": [{"pid": 1 << 60, "host": "h"}]},
]  # fmt: skip
WRONG_SUMMARY: list[dict[str, Any]] = [
    {"metrics": []}, {"metrics": {"loss": 3}}, {"metrics": {"loss": {"last": "high"}}},
    {"metrics": {"loss": {"last": []}}}, {"state": 5}, {"state": ["finished"]}, {"started": "x"}, {"ended": "x"},
    {"last_time": {}}, {"rows": "many"}, {"last_step": "x"}, {"config": 1}, {"summary": []}, {"define": 3},
    {"define": [3]}, {"define": [{"pattern": 3}]}, {"alerts": "x"}, {"problems": 7}, {"problems": [7]}, {"cursor": 1},
    {"cursor": {"r0-000001.jsonl": 5}}, {"cursor": {"r0-000001.jsonl": ["a", 1, 1]}}, {"error": {}},
]  # fmt: skip


def written(at: Path, *, sealed: bool = False) -> WrittenRun:
    run = WrittenRun(at / "tests" / "a1")
    run.segment([{"loss": float(step)} for step in range(5)], end="finished")
    if sealed:
        seal_run(run.folder, finished=True)
    LiveSummary(run.folder).write()
    return run


def replace(path: str, change: dict[str, Any]) -> None:
    Path(path).write_bytes(orjson.dumps((read_json(path) or {}) | change))


def ask_everything(at: Path) -> list[str]:
    """Ask what a dashboard and a command line ask, and return the problems of the one run."""
    book = open_store(at)
    (run,) = book.runs(sort="loss")
    listing = book.listing()
    listing.look()
    (key,) = listing.keys()
    listing.columns(["loss", "config.lr", "state", "created", "duration", "tags", "host"])
    listing.names()
    listing.sorted("loss")
    problems = [*run.record.problems, *listing.record(key).problems]
    kept = book.kept_run(*key)
    assert kept.attempts is not None
    for one in (run, kept):
        assert one.curve("loss").last.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert one.metrics["loss"]["count"] == 5
        one.events()
        one.curve("loss", x="wallclock")
    kept.problems()
    assert main(["ls", "--store", str(at)]) == 0
    return problems


@pytest.mark.parametrize("wrong", WRONG_IDENTITY, ids=str)
def test_a_wrong_thing_in_run_json_is_left_out_and_said(store: Path, wrong: dict[str, Any]) -> None:
    run = written(store)
    replace(run.folder.run_json, wrong)
    (name,) = wrong
    assert any("run.json is damaged" in problem and f'"{name}"' in problem for problem in ask_everything(store))


@pytest.mark.parametrize("wrong", WRONG_SUMMARY, ids=str)
def test_a_wrong_summary_is_made_anew(store: Path, wrong: dict[str, Any]) -> None:
    run = written(store, sealed=True)
    whole = read_json(run.folder.summary_json) or {}
    replace(run.folder.summary_json, wrong)
    assert open_store(store).runs()[0].record.metrics.to_json() == whole["metrics"]
    replace(run.folder.summary_json, wrong)
    (name,) = wrong
    assert any("summary.json is damaged" in problem and f'"{name}"' in problem for problem in ask_everything(store))
    LiveSummary(run.folder).write()
    healed = read_json(run.folder.summary_json) or {}
    assert healed["metrics"] == whole["metrics"]


def test_what_is_right_stays_when_something_beside_it_is_wrong(store: Path) -> None:
    run = written(store)
    replace(run.folder.run_json, {"tags": 5, "name": "kept", "config": {"lr": 0.5}})
    (found,) = open_store(store).runs()
    assert (found.name, found.config, found.tags) == ("kept", {"lr": 0.5}, [])


NAMES = [
    "format", "id", "name", "project", "created", "config", "tags", "group", "notes", "host", "parent", "mirrors",
    "attempts", "state", "error", "started", "ended", "last_time", "rows", "last_step", "summary", "define", "metrics",
    "alerts", "problems", "cursor", "number", "resume_step", "pid", "run", "step", "pattern", "goal", "loss", "last",
    "min", "count", "mean", "r0-000001.jsonl", "r0-000001.parquet",
]  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.sampled_from(["running", "finished", "NaN", "x", ""])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
FILES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(identity=FILES, summary=FILES)
def test_no_json_at_all_stops_a_store_from_being_read(identity: dict[str, Any], summary: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        run = written(at)
        replace(run.folder.run_json, identity)
        replace(run.folder.summary_json, summary)
        book = open_store(at)
        listing = book.listing()
        listing.look()
        (key,) = listing.keys()
        assert main(["ls", "--store", folder]) == 0
        try:
            runs = book.runs(sort="loss")
        except BadQuery:  # what its summary says of its metrics is all that there is, and it says of none
            runs = book.runs()
        for one in (*runs, book.kept_run(*key)):
            try:
                one.curve("loss")
                one.problems()
                assert one.metrics is not None
            except LossbookError:
                pass
        listing.columns(["loss", "loss.min", "config.lr", "created"])
        listing.names()
