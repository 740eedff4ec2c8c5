"""Code as users write it, every public name in it: `mypy --strict` accepts it, and it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

import lossbook
import lossbook.wandb as wandb


def train(store: str) -> str:
    config = {"lr": 3e-4, "model": {"layers": 4}}
    with lossbook.init(
        project="p",
        name="usage",
        config=config,
        tags=["a"],
        group="g",
        notes="n",
        store=Path(store),
        mode="online",
        resume="never",
        system_metrics=True,
        durability="process",
        console=False,
    ) as run:
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
            run.id,
            run.name,
            run.project,
            run.path,
            run.attempt,
            run.resumed,
            run.step,
        )
        assert lossbook.run is run
        lossbook.log({"train/loss": 0.05}, step=known[6])
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


def under_the_names_of_wandb(store: str) -> None:
    settings = wandb.Settings(console="off", run_tags=["a"])
    run = wandb.init(
        project="familiar",
        store=store,
        entity="team",
        job_type="train",
        dir="elsewhere",
        settings=settings,
        resume="auto",
        reinit=True,
        save_code=True,
        config_exclude_keys=["secret"],
        config={"lr": 1.0, "secret": 1},
    )
    wandb.config.update({"lr": 0.5}, allow_val_change=True)
    run.config.setdefaults({"lr": 1.0, "batch": 8})
    wandb.summary["best"] = 0.1
    wandb.define_metric("val/*", step_metric="epoch", summary="min", hidden=False)
    wandb.log(data={"epoch": 1}, commit=False)
    run.log({"val/loss": 0.5}, commit=True)
    assert run.step == 1
    wandb.alert(title="slow", text="very", level=wandb.AlertLevel.WARN, wait_duration=300)
    run.name, run.tags, run.notes = "renamed", (*run.tags, "b"), "why"
    named: tuple[str | None, str, str | None, str, str | None] = (run.url, run.dir, run.group, run.entity, run.job_type)
    assert named[3:] == ("team", "train")
    Path(run.dir, "model.txt").write_text("weights")
    kept: list[str] = wandb.save(f"{run.dir}/*.txt", policy="now")
    assert len(kept) == len(run.save(f"{run.dir}/model.txt")) == 1
    table = wandb.Table(columns=["a"], data=[[1]])
    table.add_data(2)
    image = wandb.Image(numpy.zeros((2, 2)), caption="black")
    run.log({"table": table, "both": [image, image], "h": wandb.Histogram(np_histogram=([1, 2], [0.0, 1.0, 2.0]))})
    artifact: wandb.Artifact = wandb.Artifact("model", type="model", metadata={"loss": 0.5})
    artifact.add_file(kept[0])
    with artifact.new_file("notes.txt") as file:
        file.write("a thought")
    wandb.log_artifact(artifact, aliases=["best"])
    used = wandb.use_artifact("model:best", type="model")
    assert (used.version, sorted(used.entries)) == ("v0", ["model.txt", "notes.txt"])
    folder: str = used.download("downloaded")
    assert (Path(folder) / "notes.txt").read_text() == "a thought"
    wandb.log_model(kept[0], name="weights")
    wandb.link_model(kept[0], "weights")
    model: str = wandb.use_model("weights")
    assert Path(model).read_text() == "weights"
    wandb.mark_preempting()
    assert len(wandb.util.generate_id()) == 8
    try:
        wandb.use_artifact("nothing:latest")
    except wandb.CommError as error:
        assert isinstance(error, (wandb.Error, wandb.errors.StoreError))
        assert not isinstance(error, wandb.UsageError)
    wandb.finish(exit_code=0)
    # These say once what they are not, so they are only named here.
    assert all(map(callable, (wandb.Html, wandb.Audio, wandb.Video)))
    assert all(map(callable, (wandb.Api, wandb.login, wandb.restore, wandb.watch, wandb.unwatch)))
    assert callable(wandb.plot.line)


def read(store: str, run_id: str) -> None:
    book: lossbook.Book = lossbook.open(store)
    projects: list[str] = book.projects()
    assert projects == ["familiar", "p"]
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
    table = book.seeds("train/loss", by="config.lr", value="best", goal="minimize")
    means: list[float | None] = [group.statistics.mean for group in table.groups]
    assert len(means) == len(table.dicts())


def main(store: str) -> None:
    run_id = train(store)
    go_on(store, run_id)
    under_the_names_of_wandb(store)
    read(store, run_id)
