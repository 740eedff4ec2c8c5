"""`LossbookCallback` in a real Trainer that trains a GPT-2 of two tiny layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lossbook

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from lossbook.integrations import guard  # noqa: E402
from lossbook.integrations.transformers import LossbookCallback, register  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def trainer(tmp_path: Path, callbacks: list[Any], *, steps: int = 6, **arguments: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    tokens = [
        {"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in torch.randint(16, (32, 8)).tolist()
    ]
    chosen = {
        "output_dir": str(tmp_path / "out"),
        "max_steps": steps,
        "logging_steps": 1,
        "save_steps": 3,
        "per_device_train_batch_size": 4,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "learning_rate": 1e-3,
    }
    return transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=transformers.TrainingArguments(**{**chosen, **arguments}),
        train_dataset=tokens,
        eval_dataset=tokens[:8],
        callbacks=callbacks,
    )


def runs() -> list[Any]:
    lossbook.finish()
    return list(lossbook.open().runs())


def steps(run: Any, key: str) -> list[int]:
    return [int(step) for step in run.curve(key).x]


def test_a_trainer_records_its_series_configuration_checkpoints_and_summary(tmp_path: Path) -> None:
    training = trainer(tmp_path, [LossbookCallback(project="lab", tags=["tiny"])], eval_strategy="steps", eval_steps=2)
    training.train()
    (run,) = runs()
    assert (run.project, run.tags) == ("lab", ["tiny"])
    assert steps(run, "train/loss") == steps(run, "train/learning_rate") == [1, 2, 3, 4, 5, 6]
    assert steps(run, "eval/loss") == [2, 4, 6]
    logged = [one["loss"] for one in training.state.log_history if "loss" in one]
    assert run.curve("train/loss").mean.tolist() == logged
    assert run.config["learning_rate"] == 1e-3
    assert run.config["n_layer"] == 2
    assert run.config["num_parameters"] == training.model.num_parameters()
    assert run.summary["train_loss"] == pytest.approx(sum(logged) / 6)
    assert run.summary["train_runtime"] > 0
    marks = run.events("checkpoint")
    assert [(mark["step"], Path(mark["value"]["path"]).name) for mark in marks] == [
        (3, "checkpoint-3"),
        (6, "checkpoint-6"),
    ]


def test_evaluation_after_training_belongs_to_the_same_run(tmp_path: Path) -> None:
    training = trainer(tmp_path, [LossbookCallback()])
    training.train()
    training.evaluate()
    training.predict(training.eval_dataset)
    (run,) = runs()
    assert steps(run, "eval/loss") == steps(run, "test/loss") == [6]


def test_report_to_lossbook_works_once_it_is_registered(tmp_path: Path) -> None:
    register()
    trainer(tmp_path, [], report_to="lossbook", run_name="by name").train()
    (run,) = runs()
    assert run.name == "by name"
    assert steps(run, "train/loss") == [1, 2, 3, 4, 5, 6]


def test_a_run_of_the_programs_own_is_written_to_and_left_open(tmp_path: Path) -> None:
    mine = lossbook.init(name="mine", config={"seed": 7})
    trainer(tmp_path, [LossbookCallback()]).train()
    assert lossbook.run is mine
    mine.log({"after": 1.0}, step=7)
    (run,) = runs()
    # The Trainer's own seed does not take its place.
    assert run.config["seed"] == 7
    assert run.config["learning_rate"] == 1e-3
    assert steps(run, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert steps(run, "after") == [7]


def test_two_trainers_of_one_program_are_two_runs(tmp_path: Path) -> None:
    trainer(tmp_path / "a", [LossbookCallback()]).train()
    trainer(tmp_path / "b", [LossbookCallback()]).train()
    found = runs()
    assert len(found) == 2
    assert all(steps(run, "train/loss") == [1, 2, 3, 4, 5, 6] for run in found)


def test_resuming_from_a_checkpoint_goes_on_with_the_same_run(tmp_path: Path) -> None:
    trainer(tmp_path, [LossbookCallback(project="lab")], steps=5).train()
    lossbook.finish()
    again = trainer(tmp_path, [LossbookCallback()], steps=6)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    (run,) = runs()
    assert run.project == "lab"
    # Steps 4 and 5 of the first attempt lie behind the checkpoint.
    assert steps(run, "train/loss") == [1, 2, 3, 4, 5, 6]
    assert {attempt.resume_step for attempt in run.attempts} == {None, 3}


@pytest.mark.parametrize("restore", [False, True])
def test_a_checkpoint_that_was_written_without_the_callback_can_be_resumed(tmp_path: Path, restore: bool) -> None:
    trainer(tmp_path, [], steps=3).train()
    kept = json.loads((tmp_path / "out" / "checkpoint-3" / "trainer_state.json").read_text())
    assert "LossbookCallback" not in kept["stateful_callbacks"]
    again = trainer(tmp_path, [LossbookCallback()], steps=6, restore_callback_states_from_checkpoint=restore)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    (run,) = runs()
    assert steps(run, "train/loss") == [4, 5, 6]


def test_restored_callbacks_keep_their_run_and_their_arguments(tmp_path: Path) -> None:
    trainer(tmp_path, [LossbookCallback(project="lab", name="one", config={"secret": object()})], steps=3).train()
    lossbook.finish()
    again = trainer(tmp_path, [LossbookCallback()], steps=6, restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    (run,) = runs()
    assert (run.project, run.name) == ("lab", "one")
    assert steps(run, "train/loss") == [1, 2, 3, 4, 5, 6]


def test_only_the_process_of_rank_0_records(tmp_path: Path, store: Path) -> None:
    training = trainer(tmp_path, [LossbookCallback()])
    training.is_world_process_zero = lambda: False
    training.train()
    assert lossbook.run is None
    assert not store.exists()


def test_what_goes_wrong_in_the_callback_stays_out_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    guard.failed.clear()

    def broken(**arguments: Any) -> None:
        raise RuntimeError("no store")

    monkeypatch.setattr(lossbook, "init", broken)
    result = trainer(tmp_path, [LossbookCallback()]).train()
    assert result.global_step == 6
    assert (
        capfd.readouterr().err.count("LossbookCallback.on_log could not record something (RuntimeError: no store)") == 1
    )
