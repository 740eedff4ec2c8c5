"""`lossbook run --as wandb`: a program that nobody edits writes Lossbook runs, and behaves as under `python`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lossbook


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")


def run(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    if text:
        Path("train.py").write_text(text)
    command = [sys.executable, "-m", "lossbook.cli", "run", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def recorded(store: Path) -> lossbook.RecordedRun:
    (found,) = lossbook.open(str(store)).runs()
    return found


def test_modules_below_wandb_are_lossbook_too(store: Path) -> None:
    text = """
import sys, wandb
import wandb.sdk.lib.runid, wandb.apis.public, wandb.env, wandb.plot, wandb.integration.keras
from wandb.util import generate_id
from wandb.data_types import Image, Table
from wandb.errors import CommError, SomeLaterError
from wandb.fastai import WandbCallback
from wandb.sdk.wandb_run import Run
assert wandb.sdk.lib.runid.generate_id() and len(generate_id()) == 8
assert Table is wandb.Table and issubclass(SomeLaterError, wandb.Error)
assert wandb.env.PROJECT == "WANDB_PROJECT"
WandbCallback(None).on_train_begin()
assert {"log", "Table", "__name__"} <= set(dir(wandb))
from wandb import *
run = init(project="p", name="as-it-is", config={"lr": float(sys.argv[2])})
assert isinstance(run, Run) and wandb.run is run
wandb.log({"loss": 1.0})
wandb.config.update({"more": 2})
wandb.finish()
"""
    done = run("--as", "wandb", "train.py", "--lr", "0.1", text=text)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wandb.fastai.WandbCallback is not in Lossbook") == 1
    found = recorded(store)
    assert (found.name, found.config["lr"], found.config["more"]) == ("as-it-is", 0.1, 2)


def test_arguments_of_init_without_names_have_wandbs_order(store: Path) -> None:
    done = run("train.py", text="import wandb; wandb.init('team', 'p').finish(1)")
    assert done.returncode == 0, done.stderr
    assert (recorded(store).project, recorded(store).state) == ("p", "failed")


def test_the_store_can_be_named(tmp_path: Path) -> None:
    done = run("--store", "elsewhere", "train.py", text="import wandb; wandb.init(project='p').finish()")
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path / "elsewhere").project == "p"


def test_its_metadata_are_there_where_wandb_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()  # the folder of earlier offline runs is no installed package
    text = """
import sys
from importlib import metadata
metadata.MetadataPathFinder.find_distributions = classmethod(lambda *_: iter(()))  # nothing is installed
print(metadata.version("wandb"), metadata.metadata("wandb")["Name"])
try:
    metadata.version("orjson")
except metadata.PackageNotFoundError:
    print("nothing else")
"""
    done = run("--as", "wandb", "train.py", text=text)
    assert done.stdout == "0.31.0 wandb\nnothing else\n", done.stderr


def test_a_module_that_wandb_never_had_is_not_found() -> None:
    done = run("--as", "wandb", "train.py", text="import wandb.no_such_module")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_program_is_run_as_python_runs_it(tmp_path: Path) -> None:
    text = """
import os, pickle, sys
class Here: pass
assert type(pickle.loads(pickle.dumps(Here()))) is Here
print(__name__, sys.argv, sys.path[0] == os.getcwd(), "startup" in "".join(sys.path), sys.flags.optimize)
sys.exit(7)
"""
    done = run("--as", "wandb", "train.py", "-m", "lossbook", text=text)
    assert (done.returncode, done.stdout) == (7, "__main__ ['train.py', '-m', 'lossbook'] True False 0\n")
    done = run("--as", "wandb", sys.executable, "-O", "train.py")
    assert (done.returncode, done.stdout) == (7, "__main__ ['train.py'] True False 1\n")
    done = run("--as", "wandb", "-m", "train", "x")
    assert (done.returncode, done.stdout.split(" ")[0]) == (7, "__main__")


def test_spawned_workers_have_it_too() -> None:
    text = """
import multiprocessing
def ask(name):
    module = __import__(name)
    return type(module).__module__
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(ask, ["wandb", "trackio"]))
"""
    done = run("--as", "wandb,trackio", "train.py", text=text)
    assert done.stdout == "['lossbook.compat.stand_in', 'lossbook.compat.stand_in']\n", done.stderr


def test_a_python_that_has_no_lossbook_says_so_and_runs_the_program(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=100)
    text = "import json\ntry:\n    import wandb\nexcept ImportError:\n    print('none')"
    done = run("--as", "wandb", str(bare / "bin" / "python"), "train.py", text=text)
    assert (done.returncode, done.stdout) == (0, "none\n"), done.stderr
    assert "bare/bin/python has no Lossbook, so this program's tracker is its own" in done.stderr


def test_another_sitecustomize_is_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    done = run("--as", "wandb", "train.py", text="import wandb; print(wandb.__version__)")
    assert done.stdout.splitlines()[-2:] == ["mine", "0.31.0"], done.stderr


def test_followers_and_commands_of_lossbook_see_the_real_package() -> None:
    text = """
import os, subprocess, sys
from lossbook.start import python_command
os.environ["PYTHONPROFILEIMPORTTIME"] = "1"
for ask in ([sys.executable, "-c", "import wandb"], [sys.executable, "-m", "lossbook.cli", "--version"],
            python_command("lossbook.cli", "--version")):
    said = subprocess.run(ask, capture_output=True, text=True).stderr
    print("sitecustomize" in said, "lossbook.compat.stand_in" in said)
"""
    assert run("--as", "wandb", "train.py", text=text).stdout.splitlines() == ["True True", "True False", "True False"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--as", "comet", "train.py"), "cannot stand in for 'comet'"),
        (("--as", "wandb", "nowhere.py"), "there is no script nowhere.py"),
        (("--as", ",", "train.py"), "names no tracker"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_install_as_in_code_comes_before_the_import(store: Path) -> None:
    text = "import lossbook; lossbook.install_as('wandb'); import wandb; wandb.init(project='p').finish()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert recorded(store).state == "finished"
    text = "import sys, types; sys.modules['wandb'] = types.ModuleType('wandb'); import lossbook; lossbook.install_as('wandb')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
    assert "wandb has been imported already" in done.stderr


def test_lightnings_own_wandb_logger_works(store: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    text = """
import lightning.pytorch as lightning, torch
from lightning.pytorch.loggers import WandbLogger
class Tiny(lightning.LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, number):
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
logger = WandbLogger(project="p", name="light", log_model=True)
logger.watch(model := Tiny(), log_freq=2)
trainer = lightning.Trainer(logger=logger, max_steps=4, log_every_n_steps=1, accelerator="cpu",
    enable_progress_bar=False, enable_model_summary=False)
trainer.fit(model, torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=2))
logger.log_text("words", columns=["a"], data=[["b"]])
"""
    done = run("--as", "wandb", "train.py", text=text)
    assert done.returncode == 0, done.stderr
    found = recorded(store)
    assert (found.name, found.config["width"]) == ("light", 3)
    assert len(found.history(["loss"]).rows()) == 4


def test_transformers_own_wandb_callback_works(store: Path) -> None:
    pytest.importorskip("transformers")
    text = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1))
rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 8
arguments = TrainingArguments("out", report_to="wandb", run_name="hf", max_steps=3, logging_steps=1, use_cpu=True,
    save_strategy="no", disable_tqdm=True)
Trainer(model, arguments, train_dataset=rows).train()
"""
    done = run("--as", "wandb", "train.py", text=text)
    assert done.returncode == 0, done.stderr
    found = recorded(store)
    assert found.config["max_steps"] == 3
    assert len(found.history(["train/loss"]).rows()) == 3


def test_accelerates_own_wandb_tracker_works(store: Path) -> None:
    pytest.importorskip("accelerate")
    text = """
from accelerate import Accelerator
accelerator = Accelerator(log_with="wandb", cpu=True)
accelerator.init_trackers("p", config={"lr": 0.5}, init_kwargs={"wandb": {"name": "acc"}})
for step in range(3):
    accelerator.log({"loss": 1.0 / (step + 1)}, step=step)
accelerator.end_training()
"""
    done = run("--as", "wandb", "train.py", text=text)
    assert done.returncode == 0, done.stderr
    found = recorded(store)
    assert (found.name, found.project, found.config["lr"]) == ("acc", "p", 0.5)
    assert len(found.history(["loss"]).rows()) == 3


def test_trackios_arguments_are_taken_and_its_run_goes_on_under_its_name(store: Path) -> None:
    text = """
import trackio
first = trackio.init(project="p", name="tiny", resume="allow", space_id="me/space", private=None, bucket_id=None,
    auto_log_gpu=False, gpu_log_interval=1.0)
trackio.log({"loss": 1.0}, step=0)
trackio.finish()
again = trackio.init(project="p", name="tiny", resume="allow")  # as transformers does to evaluate behind a training
trackio.log({"eval_loss": 2.0}, step=1)
trackio.finish()
assert again.id == first.id
trackio.init(project="p", name="tiny").finish()
"""
    done = run("--as", "trackio", "train.py", text=text)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("space_id is where Trackio keeps a project") == 1
    second, first = lossbook.open(str(store)).runs()
    assert [first.curve(key).last[0] for key in ("loss", "eval_loss")] == [1.0, 2.0]
    assert (first.state, second.keys()) == ("finished", [])
