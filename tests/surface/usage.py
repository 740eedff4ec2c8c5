"""Code as users write it, every public name in it: `mypy --strict` accepts it, and it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

import lossbook


def train(store: str) -> str:
    config = {"lr": 3e-4, "model": {"layers": 4}}
    with lossbook.init(
        project="p", name="usage", config=config, tags=["a"], group="g", notes="n", store=Path(store), mode="online",
        resume="never", system_metrics=True, durability="process", console=False,
    ) as run:  # fmt: skip
        run.define_metric("val/*", x="tokens", goal="minimize", unit="nats")
        for step in range(10):
            run.log({"train/loss": 1 / (step + 1), "tokens": step * 1024}, step=step)
        run.log({"val": {"loss": numpy.float32(0.5)}}, step=9, ranks="all")
        run.log(
            {
                "sample": lossbook.Text("once upon"),
                "weights": lossbook.Histogram([1.0, 2.0], bins=2),
                "edges": lossbook.Histogram(edges=[0.0, 1.0], counts=[3]),
                "table": lossbook.Table(columns=["a"], rows=[[1], [2]]),
                "image": lossbook.Image(numpy.zeros((2, 2, 3)), caption="black"),
            }
        )
        run.alert("loss spike", "twice the median", level="warning")
        run.checkpoint(Path("model.pt"), step=9, is_best=True)
        run.note("a thought")
        run.config["seed"] = 7
        run.config.update({"lr": 1e-4}, batch=8)
        run.summary["params"] = 124_439_808
        assert run.sync()
        known: tuple[str, str, str, str, int, bool, int] = (
            run.id, run.name, run.project, run.path, run.attempt, run.resumed, run.step,
        )  # fmt: skip
        assert lossbook.run is run
        lossbook.log({"train/loss": 0.05}, step=known[6] + 1)
    lossbook.finish()
    return known[0]


def go_on(store: str, run_id: str) -> None:
    run: lossbook.Run = lossbook.init(
        project="p", id=run_id, store=store, resume="must", resume_step=5, console=False, mirrors=[]
    )
    run.log({"train/loss": 0.1})
    run.finish("interrupted")
    fork = lossbook.init(project="p", id="fork", store=store, fork_from=(run, 3), console=False)
    fork.finish()


def read(store: str, run_id: str) -> None:
    book: lossbook.Book = lossbook.open(store)
    projects: list[str] = book.projects()
    assert projects == ["p"]
    runs: list[lossbook.RecordedRun] = book.runs(project="p", where="config.lr < 1", sort="name", limit=10)
    assert [run.id for run in runs] == [run_id]
    run = book.run(run_id)
    state: str = run.state
    assert (state, run.error, run.group, run.notes, run.tags) == ("interrupted", None, "g", "n", ["a"])
    config: dict[str, Any] = run.config
    assert (config["seed"], config["model"]) == (7, {"layers": 4})
    assert run.summary["params"] == 124_439_808
    times: tuple[float, float | None] = (run.created, run.ended)
    assert times[1] is None or times[1] >= times[0]
    keys: list[str] = run.keys()
    assert "train/loss" in keys
    assert run.metrics["train/loss"]["count"] == 7
    curve: lossbook.Curve = run.curve("train/loss", x="tokens", points=100)
    x: NDArray[numpy.float64] = curve.x
    assert len(x) == len(curve.last) == len(curve.min) == len(curve.count)
    history = run.history(["train/loss"], start=0, end=5)
    rows: list[tuple[Any, ...]] = history.rows()
    assert len(rows) == len(history.dicts()) == 6
    columns: dict[str, NDArray[Any]] = history.numpy()
    assert list(columns) == history.columns
    events: list[dict[str, Any]] = run.events("alert")
    assert events[0]["value"]["title"] == "loss spike"
    problems: list[str] = run.problems()
    assert problems == []
    last = book.sql("select max(step) from metrics where run = ? and key = ?", [run_id, "train/loss"])
    assert last.rows() == [(6,)]


def main(store: str) -> None:
    run_id = train(store)
    go_on(store, run_id)
    read(store, run_id)
