"""`/api/compare` as the page's tables ask it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Served

import lossbook
from lossbook.web.api import comparing

Serve = Callable[..., Served]


def make(store: Path, lr: float) -> str:
    run = lossbook.init(store=store, project="p", config={"lr": lr, "same": 1}, console=False)
    run.log({"train/loss": 1.0}, step=0)
    run.finish()
    return run.id


def test_settings_that_are_the_same_are_told_when_asked_for(store: Path, served: Serve) -> None:
    runs = [make(store, 0.1), make(store, 0.2)]
    server = served(store)
    told = server.post("/api/compare", {"project": "p", "runs": runs})
    assert told["settings"] == ["lr"]
    told = server.post("/api/compare", {"project": "p", "runs": runs, "every_setting": True})
    assert told["settings"] == ["lr", "same"]
    assert [one["same"] for one in told["config"]] == [1, 1]


def test_more_than_can_be_compared_at_once_is_refused(
    store: Path, served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make(store, 0.1), make(store, 0.2)]
    server = served(store)
    losses = server.send("/api/compare", {"project": "p", "runs": runs, "losses": [float(n) for n in range(11)]})
    assert losses.status == 400
    assert "at most 10" in losses.json["error"]
    monkeypatch.setattr(comparing, "MOST_RUNS", 1)
    answer = server.send("/api/compare", {"project": "p", "runs": runs})
    assert answer.status == 400
    assert "at most 1 are compared" in answer.json["error"]


def test_each_column_says_which_way_is_better(store: Path, served: Serve) -> None:
    runs = []
    for value in (1.0, 2.0):
        run = lossbook.init(store=store, project="p", console=False)
        run.log({"train/loss": value, "throughput/mfu": 40.0, "score_of_ours": value}, step=0)
        run.define_metric("score_of_ours", goal="minimize")
        run.finish()
        runs.append(run.id)
    server = served(store)
    told = server.post("/api/compare", {"project": "p", "runs": runs, "metric": "score_of_ours", "losses": [1.5]})
    goals = {column["name"]: column["goal"] for column in told["columns"]}
    assert goals["best"] == "minimize", "what the runs said of a metric holds"
    assert (goals["best_train_loss"], goals["mfu"]) == ("minimize", "maximize")
    assert (goals["seconds_to_1.5"], goals["step_of_1.5"]) == ("minimize", "minimize")
    assert (goals["wallclock_seconds"], goals["last_step"], goals["name"]) == (None, None, None)
