"""W&B's callbacks for other libraries, each with its real library where that is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from unedited import count_rows, only_run, run_unedited

import lossbook.wandb as door
from lossbook.compat.wandb.submodules import find_name


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"LOSSBOOK_STORE": str(store), "LOSSBOOK_FOLLOWER": "off", "KERAS_BACKEND": "torch"}.items():
        monkeypatch.setenv(name, value)


def train(library: str, text: str) -> str:
    """Run a script that needs a library; what it wrote to stderr."""
    pytest.importorskip(library)
    return run_unedited(text)


def last(run: Any, key: str) -> float:
    return float(run.curve(key).last[-1])


@pytest.mark.slow
def test_keras(store: Path) -> None:
    text = """
import keras, numpy, wandb
from wandb.integration.keras import WandbEvalCallback, WandbMetricsLogger, WandbModelCheckpoint
from wandb.keras import WandbCallback
class Answers(WandbEvalCallback):
    def add_ground_truth(self, logs=None):
        self.data_table.add_data(0, 1.0)
    def add_model_predictions(self, epoch, logs=None):
        for number, truth in self.data_table_ref.data:
            self.pred_table.add_data(epoch, number, truth)
run = wandb.init(project="p", config={"lr": 0.1})
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
model.fit(numpy.ones((8, 4)), numpy.ones((8, 1)), epochs=2, batch_size=2, verbose=0, callbacks=[
    WandbMetricsLogger(log_freq=2), WandbModelCheckpoint("model.keras"), WandbCallback(save_model=False),
    Answers(data_table_columns=["i", "truth"], pred_table_columns=["epoch", "i", "truth"])])
run.finish()
"""
    said = train("keras", text)
    assert "could not record" not in said
    run = only_run(store)
    assert count_rows(run, "epoch/loss", "epoch/learning_rate", "batch/loss", "loss", "epoch") == [2, 2, 4, 2, 2]
    kept = door.Api().artifact(f"p/run_{run.id}_model:epoch_1", type="model")
    assert (kept.version, list(kept.entries)) == ("v1", ["model.keras"])


@pytest.mark.slow
def test_stable_baselines3_goes_on_to_the_end(store: Path) -> None:
    text = """
import wandb
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList
from wandb.integration.sb3 import WandbCallback
class Mine(WandbCallback):
    def _on_step(self):
        wandb.log({"steps": self.num_timesteps})
        return super()._on_step()
run = wandb.init(project="p")
model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, device="cpu")
model.learn(128, callback=CallbackList([Mine(model_save_path=f"models/{run.id}", model_save_freq=64, gradient_save_freq=1)]))
assert model.num_timesteps == 128
run.finish()
"""
    said = train("stable_baselines3", text)
    assert "could not record" not in said
    run = only_run(store)
    assert (run.config["algo"], run.config["n_steps"], run.config["device"], run.config["seed"]) == (
        "PPO",
        32,
        "cpu",
        None,
    )
    assert count_rows(run, "steps") == [128]
    assert list(store.glob("p/*/media/*.zip")) != []


BOOSTED = """
import numpy
draw = numpy.random.default_rng(1)
features = draw.normal(size=(60, 3)); target = features[:, 0] * 2 + 1
"""


@pytest.mark.slow
def test_lightgbm(store: Path) -> None:
    text = f"""{BOOSTED}
import lightgbm, wandb
from wandb.lightgbm import log_summary, wandb_callback
wandb.init(project="p")
data = lightgbm.Dataset(features, target)
parameters = {{"objective": "regression", "metric": ["l2"], "verbose": -1, "min_data_in_leaf": 5}}
model = lightgbm.train(parameters, data, 6, valid_sets=[data], valid_names=["held"], callbacks=[wandb_callback()])
assert model.current_iteration() == 6
log_summary(model, save_model_checkpoint=True)
wandb.finish()
"""
    said = train("lightgbm", text)
    assert "could not record" not in said
    run = only_run(store)
    assert count_rows(run, "held_l2", "iteration") == [6, 6]
    assert run.config["objective"] == "regression"
    assert run.summary["best_score_held_l2"] < 5


@pytest.mark.slow
def test_xgboost(store: Path) -> None:
    text = f"""{BOOSTED}
import xgboost, wandb
from wandb.xgboost import WandbCallback, wandb_callback
wandb.init(project="p")
data = xgboost.DMatrix(features, target)
model = xgboost.train({{"max_depth": 2}}, data, 6, evals=[(data, "held")], verbose_eval=False, early_stopping_rounds=3,
    callbacks=[WandbCallback(log_model=True), wandb_callback()][:1])
assert model.num_boosted_rounds() == 6
wandb.finish()
"""
    said = train("xgboost", text)
    assert "could not record" not in said
    run = only_run(store)
    assert count_rows(run, "held-rmse", "epoch") == [6, 6]
    assert last(run, "best_iteration") == 5
    assert "learner" in run.config


@pytest.mark.slow
def test_catboost(store: Path) -> None:
    text = f"""{BOOSTED}
import catboost, wandb
from wandb.catboost import WandbCallback, log_summary
wandb.init(project="p")
model = catboost.CatBoostRegressor(iterations=6, verbose=False, allow_writing_files=False)
model.fit(features, target, callbacks=[WandbCallback()])
assert model.tree_count_ == 6
log_summary(model, save_model_checkpoint=True)
wandb.finish()
"""
    said = train("catboost", text)
    assert "could not record" not in said
    run = only_run(store)
    assert count_rows(run, "learn-RMSE") == [6]
    assert run.config["loss_function"] == "RMSE"


@pytest.mark.slow
def test_fabric(store: Path) -> None:
    text = """
import torch, wandb
from lightning.fabric import Fabric
from wandb.integration.lightning.fabric import WandbLogger
fabric = Fabric(accelerator="cpu", loggers=[WandbLogger(project="p", name="woven")])
fabric.launch()
for step in range(3):
    fabric.log("loss", 1.0 / (step + 1), step=step)
wandb.finish()
"""
    train("lightning", text)
    run = only_run(store)
    assert (run.name, count_rows(run, "loss", "trainer/global_step")) == ("woven", [3, 3])


def test_without_a_run_it_says_so_once_and_the_training_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    from lossbook.compat.wandb.callbacks import run_for

    assert run_for("WandbCallback") is run_for("WandbCallback") is None
    assert capsys.readouterr().err == "lossbook: WandbCallback records nothing: call wandb.init() before the training\n"


@pytest.fixture
def boosters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the three libraries, as far as their callbacks need them, where they are not installed."""
    for name in ("xgboost", "xgboost.callback", "lightgbm", "catboost"):
        stand_in = ModuleType(name)
        stand_in.__dict__["TrainingCallback"] = type("TrainingCallback", (), {})
        monkeypatch.setitem(sys.modules, name, stand_in)
    for name in ("xgboost", "lightgbm", "catboost"):
        monkeypatch.delitem(sys.modules, f"lossbook.compat.wandb.callbacks.{name}", raising=False)


class Booster:
    """What XGBoost passes to a callback."""

    def save_config(self) -> str:
        return '{"learner": {"depth": 2}}'

    def attr(self, name: str) -> str | None:
        return {"best_score": "0.5", "best_iteration": "1"}.get(name)

    def get_score(self, importance_type: str) -> dict[str, float]:
        return {"height": 3.0}


def test_what_each_boosting_library_passes_to_its_callback_is_recorded(boosters: None, store: Path) -> None:
    run = door.init(project="p", console=False)
    one: Any = find_name("xgboost", "WandbCallback")()
    model = one.before_training(Booster())
    for epoch in range(2):
        assert one.after_iteration(model, epoch, {"held": {"rmse": [1.0, 0.5][: epoch + 1]}}) is False
    assert one.after_training(model) is model
    two: Any = find_name("lightgbm", "wandb_callback")()
    for number in range(2):
        entry = ("held", "l2", 0.25, False)
        two(SimpleNamespace(iteration=number, begin_iteration=0, params={"depth": 3}, evaluation_result_list=[entry]))
    three: Any = find_name("catboost", "WandbCallback")()
    assert three.after_iteration(SimpleNamespace(iteration=0, metrics={"learn": {"RMSE": [2.0]}})) is True
    assert three.after_iteration(None) is True, "what is wrong is said, and the training goes on"
    run.finish()
    found = only_run(store)
    assert count_rows(found, "held-rmse", "held_l2", "learn-RMSE") == [2, 2, 1]
    assert (found.config["learner"], found.config["depth"]) == ({"depth": 2}, 3)
    assert (last(found, "best_score"), last(found, "best_iteration")) == (0.5, 1)
