"""`LossbookLogger` in a real Lightning Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lossbook

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning.pytorch")

from lossbook.integrations import guard  # noqa: E402
from lossbook.integrations.lightning import LossbookLogger  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns about loaders and workers of a tiny training


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))


class Tiny(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, width: int = 3, fail_at: int | None = None, error: type[BaseException] = ValueError) -> None:
        super().__init__()
        self.save_hyperparameters("width")
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))
        self.fail_at, self.error = fail_at, error

    def training_step(self, batch: Any, number: int) -> Any:
        if self.global_step == self.fail_at:
            raise self.error("the loss is gone")
        loss = self.layers(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val/loss", self.layers(batch).square().mean())

    def test_step(self, batch: Any, number: int) -> None:
        self.log("test/loss", self.layers(batch).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def batches(count: int) -> Any:
    torch.manual_seed(0)
    return torch.utils.data.DataLoader(torch.randn(count * 4, 4), batch_size=4)


def trainer(logger: Any, tmp_path: Path, **arguments: Any) -> Any:
    chosen = {"max_epochs": 2, "log_every_n_steps": 1, "accelerator": "cpu", "default_root_dir": str(tmp_path / "out")}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(logger=logger, **{**chosen, **quiet, **arguments})


def runs() -> list[Any]:
    lossbook.finish()
    return list(lossbook.open().runs())


def steps(run: Any, key: str) -> list[int]:
    return [int(step) for step in run.curve(key).x]


def test_a_trainer_records_series_hyperparameters_and_checkpoints(tmp_path: Path) -> None:
    logger = LossbookLogger("lab", tags=["tiny"])
    training = trainer(logger, tmp_path)
    training.fit(Tiny(width=5), batches(3), batches(1))
    (run,) = runs()
    assert (run.project, run.tags, run.state) == ("lab", ["tiny"], "finished")
    assert steps(run, "train/loss") == [0, 1, 2, 3, 4, 5]
    assert steps(run, "val/loss") == [2, 5]
    assert run.config["width"] == 5
    marks = run.events("checkpoint")
    assert [mark["step"] for mark in marks] == [3, 6]
    assert marks[-1]["value"]["path"] == training.checkpoint_callback.best_model_path
    assert Path(marks[-1]["value"]["path"]).parts[-4:-1] == ("lab", run.id, "checkpoints")


def test_testing_after_training_belongs_to_the_same_run(tmp_path: Path) -> None:
    training = trainer(LossbookLogger("lab", prefix="tiny"), tmp_path)
    module = Tiny()
    training.fit(module, batches(3))
    training.test(module, batches(1))
    (run,) = runs()
    assert steps(run, "tiny/test/loss") == [6]


@pytest.mark.parametrize(("error", "state"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_training_that_breaks_off_ends_the_run_so(tmp_path: Path, error: type[BaseException], state: str) -> None:
    with pytest.raises((ValueError, KeyboardInterrupt, SystemExit)):
        trainer(LossbookLogger("lab"), tmp_path).fit(Tiny(fail_at=2, error=error), batches(3))
    (run,) = runs()
    assert run.state == state
    assert steps(run, "train/loss") == [0, 1]


def test_another_fit_after_a_failed_one_is_the_next_attempt(tmp_path: Path) -> None:
    logger = LossbookLogger("lab")
    with pytest.raises(ValueError, match="the loss is gone"):
        trainer(logger, tmp_path).fit(Tiny(fail_at=2), batches(3))
    trainer(logger, tmp_path).fit(Tiny(), batches(3))
    (run,) = runs()
    assert len(run.attempts) == 2
    assert run.state == "finished"
    assert steps(run, "train/loss") == [0, 1, 2, 3, 4, 5]


def test_a_second_program_goes_on_with_the_same_run_from_a_checkpoint(tmp_path: Path) -> None:
    first = trainer(LossbookLogger("lab", id="same", resume="allow"), tmp_path)
    first.fit(Tiny(), batches(3))
    lossbook.finish()
    second = trainer(LossbookLogger("lab", id="same", resume="allow"), tmp_path, max_epochs=3)
    second.fit(Tiny(), batches(3), ckpt_path=first.checkpoint_callback.best_model_path)
    (run,) = runs()
    assert len(run.attempts) == 2
    assert steps(run, "train/loss") == list(range(9))


def test_the_experiment_is_the_run(tmp_path: Path) -> None:
    logger = LossbookLogger("lab")
    logger.experiment.log({"sample": lossbook.Text("Once")}, step=1)
    assert logger.version == logger.experiment.id == lossbook.run.id
    assert logger.name == "lab"
    (run,) = runs()
    assert run.events("text")[0]["value"]["text"] == "Once"


def test_other_ranks_record_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = LossbookLogger("lab")
    logger.experiment.log({"loss": 1.0})
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")
    assert (logger.name, logger.version) == ("lab", None)
    assert lossbook.run is None


def test_what_goes_wrong_in_the_logger_stays_out_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    guard.failed.clear()
    logger = LossbookLogger("lab")

    def broken(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr(logger.experiment, "log", broken)
    training = trainer(logger, tmp_path)
    training.fit(Tiny(), batches(3))
    assert training.global_step == 6
    assert capfd.readouterr().err.count("LossbookLogger.log_metrics could not record something") == 1
