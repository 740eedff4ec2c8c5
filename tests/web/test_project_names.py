"""What the page of a project asks before it draws: its newest runs, and what is worth a column or a chart."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lossbook


def begin(store: Path, name: str, row: dict[str, float], **config: Any) -> str:
    run = lossbook.init(store=store, project="sweep", name=name, config=config, console=False)
    run.log(row, step=0)
    run.finish()
    time.sleep(0.002)  # the next one is newer
    return run.id


def test_the_newest_runs_are_told_first_and_those_that_a_link_names(store: Path, served: Callable[..., Any]) -> None:
    ids = [begin(store, f"run-{number}", {"loss": 1.0}) for number in range(5)]
    answer = served(store).get("/api/runs", project="sweep", limit=2, run=[ids[0]])
    assert [row["id"] for row in answer["rows"]] == [ids[4], ids[3], ids[0]]
    assert answer["total"] == 5
    assert answer["whole"]


def test_names_say_which_settings_differ_and_what_is_the_same_quantity(store: Path, served: Callable[..., Any]) -> None:
    ids = [
        begin(store, "one", {"train/loss": 1.0, "val/loss": 1.0}, lr=1e-3, model={"layers": 2}, seed=1),
        begin(store, "two", {"train/loss": 1.0}, lr=1e-4, model={"layers": 2}, seed=1),
        begin(store, "three", {"train_loss": 1.0, "epoch": 1}, lr=1e-4, model={"layers": 2}, seed=1, extra=True),
    ]
    names = served(store).get("/api/names", project="sweep", run=ids)
    assert names["usual"] == ["train/loss", "val/loss"]
    assert names["differing"] == ["config.lr", "config.extra"]
    assert {one["name"]: one["same_as"] for one in names["metrics"] if one["same_as"]} == {"train_loss": "train/loss"}


def test_two_names_in_one_run_are_two_quantities(store: Path, served: Callable[..., Any]) -> None:
    ids = [begin(store, "both", {"train/loss": 1.0, "loss": 2.0}), begin(store, "one", {"loss": 1.0})]
    metrics = served(store).get("/api/names", project="sweep", run=ids)["metrics"]
    assert all(one["same_as"] is None for one in metrics)
