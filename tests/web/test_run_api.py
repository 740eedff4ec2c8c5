"""`/api/run`: everything about one run, whatever state it and its files are in."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lossbook
from lossbook.errors import UnknownRun
from lossbook.follower.cursor import Cursor
from lossbook.follower.deliver import Delivery, ending_of
from lossbook.paths import RunFolder
from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary
from lossbook.web import schemas
from lossbook.web.api import run as run_api
from lossbook.web.api.run import RunQuestion
from lossbook.web.routing import json_of
from lossbook.web.session import Session


@pytest.fixture
def session(store: Path) -> Iterator[Session]:
    store.mkdir()
    session = Session(lossbook.open(store))
    yield session
    session.close()


def page(session: Session, id: str = "one") -> schemas.RunPage:
    found = run_api.run_page(session, RunQuestion("p", id))
    json.loads(json_of(found))
    return found


def train(store: Path, id: str = "one", **more: Any) -> lossbook.Run:
    run = lossbook.init(store=store, project="p", id=id, console=False, **more)
    for step in range(20):
        run.log({"train/loss": 1 / (step + 1), "tokens": step * 100, "speed": 3.0}, step=step)
    run.log({"train/loss": float("nan")}, step=20)
    return run


# -- a whole run ----------------------------------------------------------------------------------------------------


def test_metrics_come_with_their_role_unit_and_goal(session: Session, store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.log({"training_loss": 2.0, "validation_loss": 2.1, "mfu": 0.46, "perf/tokens_per_second": 900.0}, step=0)
        run.log({"system.gpu.0.gpu": 50.0, "system.gpu.1.gpu": 60.0, "cpu_percent": 5.0}, step=0)
        run.define_metric("validation_loss", goal="maximize")
    found = page(session)
    about = {one.key: (one.role, one.unit, one.goal) for one in found.metrics}
    assert about["training_loss"] == ("train-loss", "nats", "minimize")
    assert about["validation_loss"] == ("val-loss", "nats", "maximize")
    assert about["mfu"] == ("utilisation", "share", "maximize")
    assert about["cpu_percent"] == ("machine", None, None)
    assert {(one.role, one.key, one.percent_factor) for one in found.key_metrics} == {
        ("train-loss", "training_loss", 1),
        ("val-loss", "validation_loss", 1),
        ("speed", "perf/tokens_per_second", 1),
        ("utilisation", "mfu", 100),
    }
    assert found.gpus == 2


def test_a_run_is_told_with_its_settings_and_metrics(session: Session, store: Path) -> None:
    settings = {"model": {"layers": 4}, "lr": 3e-4}
    with train(store, name="first", config=settings, tags=["a"], group="g", notes="n") as run:
        run.summary["best"] = {"step": 3, "loss": float("inf")}
        run.define_metric("speed", goal="maximize", unit="m/s")
    found = page(session)
    assert found.row.name == "first"
    assert (found.row.state, found.row.tags, found.row.group, found.row.notes) == ("finished", ["a"], "g", "n")
    assert found.path == str(store / "p/one")
    assert found.config == settings
    assert json.loads(json_of(found))["summary"] == {"best/step": 3, "best/loss": "Infinity"}
    metrics = {one.key: one for one in found.metrics}
    loss = metrics["train/loss"]
    assert (loss.unit, loss.goal) == ("nats", "minimize")
    assert math.isnan(loss.last)
    assert (loss.count, loss.nonfinite) == (21, 1)
    assert (loss.min, loss.min_step, loss.max_step) == (0.05, 19, 0)
    assert (metrics["speed"].unit, metrics["speed"].goal) == ("m/s", "maximize")
    assert found.axes == ["step", "tokens", "wallclock", "elapsed", "time"]
    assert found.event_kinds["define"] == 1
    assert found.ended is not None
    assert found.argv[0].endswith(Path(sys.executable).name)
    assert found.cwd == os.getcwd()
    assert found.host is not None
    assert found.host["python"] == sys.version.split()[0]
    assert found.problems == []


def test_a_metric_that_others_are_drawn_against_is_an_axis(session: Session, store: Path) -> None:
    with lossbook.init(store=store, project="p", id="one", console=False) as run:
        run.define_metric("val/*", step_metric="epoch_number")
        run.log({"epoch_number": 1, "val/loss": 2.0}, step=5)
    assert page(session).axes == ["step", "epoch_number", "wallclock", "elapsed", "time"]


def test_resumed_attempts_are_listed_with_where_they_began(session: Session, store: Path) -> None:
    train(store).finish()
    train(store, resume="must", resume_step=10).finish()
    found = page(session)
    assert [(one.number, one.resume_step, one.world_size) for one in found.attempts] == [(0, None, 1), (1, 10, 1)]
    assert found.attempts[0].started < found.attempts[1].started
    assert Path(sys.executable).name in str(found.attempts[1].command)
    assert found.row.attempts == 2


def test_a_fork_knows_its_parent_and_the_parent_its_forks(
    session: Session, store: Path, wait_until: Callable[..., None]
) -> None:
    train(store, config={"parent": None, "nested": {"parent": None}}).finish()
    assert page(session).forks == []
    for id in ("left", "right"):
        train(store, id=id, fork_from=("one", 5)).finish()
    train(store, id="grandchild", fork_from=("left", 7)).finish()
    # The table of runs is looked at a few times a second.
    wait_until(lambda: page(session).forks == ["left", "right"])
    assert page(session, "left").forks == ["grandchild"]
    assert page(session, "left").parent == {"project": "p", "run": "one", "step": 5}
    assert page(session).parent is None
    lossbook.open(store)
    os.rename(store / "p/right", store / "p/.right")
    wait_until(lambda: page(session).forks == ["left"])


def test_a_fork_in_another_project_is_none_of_this_one(session: Session, store: Path) -> None:
    train(store).finish()
    lossbook.init(store=store, project="other", id="two", fork_from=("one", 5), console=False).finish()
    assert page(session).forks == []


def test_a_running_run_is_told_as_it_stands(session: Session, store: Path, wait_until: Callable[..., None]) -> None:
    run = train(store)
    found = page(session)
    assert (found.row.state, found.ended) == ("running", None)
    assert found.row.last_step == 20
    before = run_api.revision(session, RunQuestion("p", "one"))
    assert before == found.revision == page(session).revision
    run.alert("spike")
    assert page(session).event_kinds["alert"] == 1
    run.finish()
    # Of a running run the last values are read anew once a second.
    wait_until(lambda: page(session).row.state == "finished")
    found = page(session)
    assert found.revision != before


def test_ranks_that_printed_are_listed(session: Session, store: Path) -> None:
    run = train(store)
    console = Path(run.path) / "console"
    console.mkdir()
    for name in ("r0.log", "r10.log", "r2.log", "notes.txt", "r0.log.tmp"):
        (console / name).write_text("x\n")
    (console / "r3.log").mkdir()
    assert page(session).console_ranks == [0, 2, 10]
    run.finish()


def test_a_run_that_is_not_there_is_named(session: Session, store: Path) -> None:
    train(store).finish()
    for project, id in (
        ("p", "none"),
        ("none", "one"),
        ("p", "../p/one"),
        ("..", "p"),
        ("p", ""),
        ("p\0", "o\0"),
        ("p", "x" * 5000),
    ):
        with pytest.raises(UnknownRun):
            run_api.run_page(session, RunQuestion(project, id))


# -- mirrors --------------------------------------------------------------------------------------------------------


def test_a_mirror_that_was_asked_for_waits_until_it_has_begun(session: Session, store: Path) -> None:
    train(store, mirrors="tensorboard").finish()
    (found,) = page(session).followers
    assert (found.name, found.state, found.rows_behind) == ("tensorboard", "waiting", None)


def test_a_mirror_is_told_as_far_as_it_has_come(session: Session, store: Path) -> None:
    run = train(store, mirrors="tensorboard")
    folder = RunFolder(run.path)
    with Delivery(folder, "tensorboard").held() as delivery:
        delivery.open()
        delivery.catch_up()
        (found,) = page(session).followers
        assert (found.name, found.state, found.rows_behind, found.error) == ("tensorboard", "delivering", 0, None)
        run.log({"train/loss": 1.0}, step=30)
        assert page(session).followers[0].rows_behind == 1
        run.finish()
        delivery.catch_up()
        delivery.close(ending_of(folder))
    (found,) = page(session).followers
    assert (found.state, found.rows_behind) == ("done", 0)


def test_a_mirror_that_stopped_says_why(session: Session, store: Path, wait_until: Callable[..., None]) -> None:
    run = train(store, mirrors="wandb")
    Cursor("wandb", {0: 4}, state="stopped", error="W&B cannot be reached", url="https://example.org/run").save(
        RunFolder(run.path)
    )
    (found,) = page(session).followers
    assert (found.name, found.state, found.error) == ("wandb", "failed", "W&B cannot be reached")
    assert found.link == "https://example.org/run"
    assert found.rows_behind is not None
    assert found.rows_behind > 10
    run.finish()
    (Path(run.path) / "followers/wandb.json").write_bytes(b"{]")
    wait_until(lambda: page(session).followers[0].state == "waiting")


# -- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b"\0" * 100, b'{"name": 3, "config": null, "tags": "x"}', None])
def test_a_run_whose_identity_is_damaged_is_told_from_the_rest(
    session: Session, store: Path, contents: bytes | None
) -> None:
    train(store).finish()
    path = store / "p/one/run.json"
    path.unlink()
    if contents is not None:
        path.write_bytes(contents)
    found = page(session)
    assert {one.key for one in found.metrics} == {"train/loss", "tokens", "speed"}
    assert found.attempts == []
    if contents is None or not contents.startswith(b'{"'):
        assert any("run.json" in one for one in found.problems)


@pytest.mark.parametrize("contents", [b"", b"{", b"[]", b'{"metrics": {}}'])
def test_a_damaged_summary_is_made_anew(session: Session, store: Path, contents: bytes) -> None:
    train(store).finish()
    (store / "p/one/summary.json").write_bytes(contents)
    found = page(session)
    assert {one.key for one in found.metrics} == {"train/loss", "tokens", "speed"}
    assert found.row.state == "finished"


@pytest.mark.parametrize("where", ["metrics", "events"])
def test_damaged_parquet_costs_its_rows_and_one_sentence(session: Session, store: Path, where: str) -> None:
    train(store).finish()
    seal_run(RunFolder(str(store / "p/one")), finished=True)
    LiveSummary(RunFolder(str(store / "p/one"))).write()
    assert page(session).problems == []
    (damaged,) = [path for path in (store / "p/one" / where).glob("*.parquet") if "rollup" not in path.name]
    for file in (store / "p/one" / where).glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    fresh = Session(lossbook.open(store))
    found = page(fresh)
    assert found.row.state == "finished"
    assert {one.key for one in found.metrics} == {"train/loss", "tokens", "speed"}
    if where == "events":
        assert found.event_kinds == {}
        assert sum(str(damaged) in one for one in found.problems) == 1
    fresh.close()


def test_pipes_and_devices_in_place_of_a_runs_files_hold_up_nobody(session: Session, store: Path) -> None:
    train(store).finish()
    train(store, id="two").finish()
    seal_run(RunFolder(str(store / "p/one")), finished=True)
    for name in ("journal/r0-000009.jsonl", "metrics/r0-000007.parquet", "events/r0-000007.parquet", "console/r0.log"):
        path = store / "p/one" / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
    (store / "p/one/metrics/loop").symlink_to("loop")
    (store / "p/one/followers/wandb.json").symlink_to("/dev/zero")
    (store / "p/one/followers/watch.json").symlink_to("/dev/zero")
    found = page(session)
    assert (found.row.state, len(found.metrics)) == ("finished", 3)
    assert found.event_kinds["finish"] == 1
    for name in ("run.json", "summary.json"):
        (store / "p/one" / name).unlink(missing_ok=True)
        os.mkfifo(store / "p/one" / name)
    found = page(session)
    assert len(found.metrics) == 3
    assert any("no plain file" in one for one in found.problems)
    assert page(session, "two").forks == []


def test_damaged_lines_of_a_journal_are_among_the_problems(session: Session, store: Path) -> None:
    run = train(store)
    with open(Path(run.path) / "journal/r0-000001.jsonl", "ab") as file:
        file.write(b"garbage\n")
    assert any("damaged line" in one for one in page(session).problems)
    run.finish()


def test_a_run_of_odd_names_is_told(session: Session, store: Path) -> None:
    with lossbook.init(
        store=store,
        project="p",
        id="one",
        name="ü\n<script>",
        config={"a\0b": "\ud800", "ключ": [1, {"x": None}]},
        console=False,
    ) as run:
        run.log({"metric with \n and \0 and 日本": 1.0}, step=1)
    found = page(session)
    assert found.row.name == "ü\n<script>"
    assert any("日本" in one.key for one in found.metrics)


# -- over HTTP ------------------------------------------------------------------------------------------------------


def test_the_page_of_a_run_is_served(served: Callable[..., Any], store: Path) -> None:
    train(store, name="first").finish()
    server = served(store)
    answer = server.get("/api/run", project="p", run="one")
    assert answer["row"]["name"] == "first"
    assert answer["metrics"][0]["key"] == "speed"
    assert server.ask("/api/run", project="p", run="none").status == 404
    assert server.ask("/api/run", project="p").status == 400
