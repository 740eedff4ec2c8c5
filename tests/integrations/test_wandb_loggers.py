"""Loggers that public projects have for W&B work unedited: the real ones where their library is installed, else their
calls, in the order and with the arguments in which they make them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from unedited import count_rows, only_run, run_unedited, values

import lossbook.wandb as door

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")


@pytest.mark.slow
def test_lightnings_wandb_logger_with_its_media_and_checkpoints(store: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    text = """
import lightning.pytorch as lightning, numpy, torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
class Tiny(lightning.LightningModule):
    def __init__(self, width=3, nested={"x": {"y": 1}}):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, number):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss
    def validation_step(self, batch, number):
        self.log("val/loss", self.layer(batch).square().mean())
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
logger = WandbLogger(project="p", name="light", log_model="all", tags=["t"], notes="n", group="g", save_dir="out")
data = torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2)
callbacks = [ModelCheckpoint(monitor="val/loss", save_top_k=2), LearningRateMonitor("step")]
trainer = lightning.Trainer(logger=logger, max_epochs=2, log_every_n_steps=1, accelerator="cpu", callbacks=callbacks,
    enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Tiny(), data, data)
logger.log_table("table", columns=["a", "b"], data=[[1, 2]])
logger.log_text("words", columns=["a"], data=[["b"]])
logger.log_image("picture", images=[numpy.zeros((4, 4, 3), dtype=numpy.uint8)], caption=["black"])
logger.log_audio("sound", audios=["a.wav"])
logger.log_metrics({"gap": float("nan")}, step=9)
logger.experiment.config["late"] = 5
logger.experiment.summary["best"] = 0.5
name = f"local/p/model-{logger.version}:best"
logger.use_artifact(name)
print(WandbLogger.download_artifact(name, save_dir="down"))
"""
    said = run_unedited(text)
    run = only_run(store)
    assert (run.name, run.tags, run.group, run.notes) == ("light", ["t"], "g", "n")
    assert (run.config["width"], run.config["nested"], run.config["late"]) == (3, {"x": {"y": 1}}, 5)
    assert run.summary["best"] == 0.5
    assert count_rows(run, "train/loss", "val/loss", "lr-SGD", "gap") == [8, 2, 8, 1]
    assert sorted(path.name for path in Path("down").iterdir()) == ["model.ckpt"]
    assert said.count("Audio is not supported") == 1


def test_a_fabric_trainer_that_chooses_lightnings_logger_by_a_word(store: Path) -> None:
    pytest.importorskip("lightning.fabric")
    text = """
import os
from pathlib import Path
from lightning.fabric import Fabric
from lightning.pytorch.loggers import WandbLogger
def choose(word, folder, name, arguments, resume):
    assert word == "wandb"
    run = arguments.pop("run", os.environ.get("WANDB_RUN_NAME"))
    group = arguments.pop("group", os.environ.get("WANDB_RUN_GROUP"))
    return WandbLogger(project=arguments.pop("project", name), name=run, group=group, resume=resume)
logger = choose("wandb", Path("out"), "pretrain", {"run": "tiny", "group": "g"}, False)
fabric = Fabric(accelerator="cpu", loggers=[logger])
fabric.launch()
logger.log_hyperparams({"lr": 1e-3, "out_dir": Path("out")})
for step in range(3):
    fabric.log_dict({"loss": 1.0 / (step + 1), "iter": step}, step=step)
"""
    run_unedited(text)
    run = only_run(store)
    assert (run.project, run.name, run.group, run.config["out_dir"]) == ("pretrain", "tiny", "g", "out")
    assert count_rows(run, "loss", "iter", "trainer/global_step") == [3, 3, 3]


def test_a_fine_tuning_recipe_that_logs_metric_by_metric_with_a_step_of_its_own(store: Path) -> None:
    text = """
import pathlib, wandb
if wandb.run is None:
    wandb.init(project="tune", entity=None, group="g", dir="logs", allow_val_change=True)
wandb.run._label(repo="recipes")
if getattr(wandb, "define_metric", None):
    wandb.define_metric("global_step")
    wandb.define_metric("*", step_metric="global_step", step_sync=True)
wandb.config.update({"model": {"layers": 2}, "lr": 1e-3}, allow_val_change=True)
saved = pathlib.Path("recipe.yaml"); saved.write_text("lr: 1")
wandb.save(saved, base_path=saved.parent)
for step in range(1, 4):
    wandb.log({"loss": 1.0 / step, "global_step": step})
    wandb.log({"lr": 1e-3, "tokens_per_second": 5.0, "global_step": step})
wandb.finish()
"""
    run_unedited(text)
    run = only_run(store)
    assert run.config["model"] == {"layers": 2}
    assert values(run, "loss") == [(0, 1.0), (2, 0.5), (4, 1.0 / 3)]
    assert list(run.curve("loss", x="global_step").x) == [1.0, 2.0, 3.0]
    assert list(store.rglob("*.yaml")) != []


def test_a_trainer_whose_logger_keeps_files_as_artifacts_and_fetches_them(store: Path) -> None:
    text = """
import atexit, copy, os, sys, numpy, wandb, wandb.errors
wandb.init(project="p", name="composed", tags=["a"])
assert hasattr(wandb.run, "entity") and hasattr(wandb.run, "project")
entity, project = str(wandb.run.entity), str(wandb.run.project)
assert os.path.isdir(wandb.run.dir) and wandb.run.get_url()
wandb.config.update({"nodes": 1})
metrics = {"loss/train/total": numpy.float32(0.5), "time/batch": 1}
before = copy.deepcopy(metrics)
wandb.log(metrics, 3)
assert metrics == before
mask = {"pred": {"mask_data": numpy.zeros((8, 8), dtype=int), "class_labels": {0: "a"}}}
table = wandb.Table(columns=["pictures"])
for picture in (wandb.Image(numpy.zeros((8, 8, 3)), masks=mask), wandb.Image(numpy.zeros((8, 8, 1)))):
    table.add_data(picture)
wandb.log({"pictures Table": table}, step=4)
wandb.log({"rows": wandb.Table(columns=["a"], rows=[[1]])}, step=4)
with open("weights.pt", "w") as file:
    file.write("weights")
artifact = wandb.Artifact(name="ep1-ba3.pt", type="model", metadata={"timestamp/epoch": 1})
artifact.add_file(os.path.abspath("weights.pt"))
wandb.log_artifact(artifact, aliases=["latest", "ep1-ba3"])
found = wandb.Api().artifact("/".join([entity, project, "ep1-ba3.pt:latest"]))
found.download(root="fetched/")
assert os.listdir("fetched") == ["weights.pt"]
try:
    wandb.Api().artifact("/".join([entity, project, "nothing.pt:latest"]))
except wandb.errors.CommError as error:
    print("not found")
def close():
    if wandb.run is not None and sys.exc_info() == (None, None, None):
        wandb.finish(0)
atexit.register(close)
"""
    said = run_unedited(text)
    run = only_run(store)
    assert (run.name, run.tags, run.config["nodes"]) == ("composed", ["a"], 1)
    assert values(run, "loss/train/total") == [(3, 0.5)]
    assert said.count("masks of an Image are not kept") == 1


def test_a_detector_whose_logger_collects_a_row_an_epoch(store: Path) -> None:
    text = """
import argparse, wandb
from wandb import finish, init
options = argparse.Namespace(resume=False, epochs=3, hyp={"lr0": 0.01})
run = wandb.init(config=options, resume="allow", project="detect", name="yolo", job_type="Training", id="abc12345") \\
    if not wandb.run else wandb.run
run.config.opt = vars(options)
run.config.data_dict = {"nc": 1, "names": ["cat"]}
classes = wandb.Classes([{"id": 0, "name": "cat"}])
table = wandb.Table(["epoch", "id"])
box = {"position": {"minX": 0, "minY": 0, "maxX": 4, "maxY": 4}, "class_id": 0, "box_caption": "cat", "domain": "pixel"}
boxes = {"predictions": {"box_data": [box], "class_labels": {0: "cat"}}}
for epoch in range(3):
    with open("last.pt", "w") as file:
        file.write(f"weights {epoch}")
    table.add_data(epoch, wandb.Image([[[0, 0, 0]]], boxes=boxes, classes=classes))
    wandb.log({"train/box_loss": 1.0 / (epoch + 1), "metrics/mAP_0.5": 0.1 * epoch})
    artifact = wandb.Artifact("run_" + wandb.run.id + "_model", type="model", metadata={"epochs_trained": epoch + 1})
    artifact.add_file("last.pt", name="last.pt")
    wandb.log_artifact(artifact, aliases=["latest", f"epoch {epoch + 1}", "best" if epoch == 2 else ""])
results = wandb.Artifact("run_" + wandb.run.id + "_progress", "evaluation")
results.add(table, "result")
wandb.log_artifact(results, aliases=["latest", ""])
wandb.run.finish()
"""
    run_unedited(text)
    run = only_run(store)
    assert (run.id, run.config["opt"]["hyp"], run.config["data_dict"]["nc"]) == ("abc12345", {"lr0": 0.01}, 1)
    assert count_rows(run, "train/box_loss", "metrics/mAP_0.5") == [3, 3]
    best = door.Api().artifact("detect/run_abc12345_model:best")
    assert best.metadata == {"epochs_trained": 3}


def test_a_reinforcement_learner_that_asks_for_the_key_and_lets_a_table_grow(store: Path) -> None:
    text = """
import wandb
if not wandb.api.api_key:
    wandb.login(key="a key")
wandb.init(entity=None, project="rl", group="g", name="ppo", config={"lr": 1e-5}, reinit=True)
wandb.define_metric("train/global_step")
wandb.define_metric("train/*", step_metric="train/global_step", step_sync=True)
table = wandb.Table(columns=["global_step", "text", "reward"])
for step in range(1, 4):
    grown = wandb.Table(columns=table.columns, data=table.data)
    grown.add_data(step, "a sample", 0.5)
    table = grown
    wandb.log({"train/generated_samples": grown})
    wandb.log({"train/reward": 0.5, "train/global_step": step})
assert len(table.data) == 3
wandb.finish()
"""
    run_unedited(text)
    run = only_run(store)
    assert count_rows(run, "train/reward") == [3]
    assert list(run.curve("train/reward", x="train/global_step").x) == [1.0, 2.0, 3.0]


def test_an_evaluation_that_goes_on_in_the_run_that_there_is(store: Path) -> None:
    text = """
import copy, json, wandb
from wandb.sdk.lib.printer import new_printer
wandb.init(project="p", name="eval")
run = wandb.run
printer = new_printer()
printer.display(printer.link("https://example.com"))
table = wandb.Table(columns=["Version", "Filter", "Value"])
table.add_data(*[None, "none", "0.5"])
run.log({"evaluation/eval_results": table}, step=None)
artifact = wandb.Artifact("results", type="eval_results")
with artifact.new_file("results.json", mode="w", encoding="utf-8") as file:
    file.write(json.dumps({"arc": 0.5}))
run.log_artifact(artifact)
run.config.update({"task_configs": {"arc": {"num_fewshot": 0}}}, allow_val_change=False)
run.summary.update({"arc/alias": "arc"})
run.log({"arc/acc": 0.5, "arc/acc_stderr": 0.1}, step=None)
run.finish()
"""
    said = run_unedited(text)
    run = only_run(store)
    assert values(run, "arc/acc") == [(1, 0.5)]
    assert run.summary["arc/alias"] == "arc"
    assert said.count("new_printer is not in Lossbook") == 1


@pytest.mark.slow
@pytest.mark.parametrize("spelled", ["as a script", "as a module", "in each rank"])
def test_two_processes_of_torchrun_are_one_run(spelled: str, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    text = """
import os, torch.distributed as distributed, wandb
distributed.init_process_group("gloo")
rank = distributed.get_rank()
run = wandb.init(project="p", name="ranks", config={"world": distributed.get_world_size()})
for step in range(3):
    wandb.log({"loss": float(rank + step)})
distributed.barrier()
wandb.finish()
distributed.destroy_process_group()
"""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "train.py").write_text(text)
    ranks = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = {
        "as a script": ("run", "--as", "wandb", PYTHON, *ranks, "package/train.py"),
        "as a module": ("run", "--as", "wandb", *ranks, "-m", "package.train"),
        "in each rank": None,
    }[spelled]
    command = [PYTHON, *ranks, "-m", "lossbook.cli", "run", "--as", "wandb", "-m", "package.train"]
    done = subprocess.run(
        command if words is None else [PYTHON, "-m", "lossbook.cli", *words],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    run = only_run(store)
    assert (run.name, run.config["world"]) == ("ranks", 2)
    assert values(run, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
