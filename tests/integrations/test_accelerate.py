"""`LossbookTracker` in a real Accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import lossbook

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

from lossbook.integrations import guard  # noqa: E402
from lossbook.integrations.accelerate import LossbookTracker, register  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from accelerate.state import AcceleratorState, PartialState

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    yield
    AcceleratorState._reset_state()
    PartialState._reset_state()


def train(accelerator: Any, steps: int = 3) -> list[float]:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    losses = []
    for step in range(steps):
        loss = model(torch.randn(8, 4)).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        accelerator.log({"train/loss": loss.detach(), "lr": 0.1}, step=step)
    return losses


def runs() -> list[Any]:
    lossbook.finish()
    return list(lossbook.open().runs())


def test_an_accelerator_records_series_and_configuration_and_ends_the_run() -> None:
    accelerator = accelerate.Accelerator(cpu=True, log_with=LossbookTracker("lab", tags=["tiny"]))
    accelerator.init_trackers("ignored", config={"lr": 0.1, "layers": 2})
    losses = train(accelerator)
    run = accelerator.get_tracker("lossbook", unwrap=True)
    accelerator.end_training()
    (found,) = runs()
    assert found.id == run.id
    assert (found.project, found.tags, found.state) == ("lab", ["tiny"], "finished")
    assert found.config == {"lr": 0.1, "layers": 2}
    assert found.curve("train/loss").mean.tolist() == losses
    assert found.curve("train/loss").x.tolist() == [0, 1, 2]


def test_log_with_lossbook_works_once_it_is_registered() -> None:
    register()
    accelerator = accelerate.Accelerator(cpu=True, log_with="lossbook")
    accelerator.init_trackers("by-name", config={"lr": 0.1}, init_kwargs={"lossbook": {"name": "one", "group": "g"}})
    train(accelerator)
    accelerator.end_training()
    (found,) = runs()
    assert (found.project, found.name, found.group) == ("by-name", "one", "g")


def test_texts_pictures_and_tables_are_recorded_too() -> None:
    tracker = LossbookTracker("lab")
    accelerator = accelerate.Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("lab")
    accelerator.log({"sample": "Once upon a time", "nested": {"a": 1.0}}, step=4)
    black = numpy.zeros((4, 4, 3), dtype="uint8")
    tracker.log_images({"two": [black, black], "one": [black]}, step=4)
    tracker.log_table("answers", columns=["q", "a"], data=[["1+1", 2]], step=4)
    accelerator.end_training()
    (found,) = runs()
    assert [event["value"]["text"] for event in found.events("text")] == ["Once upon a time"]
    assert sorted(event["key"] for event in found.events("image")) == ["one", "two/0", "two/1"]
    assert found.events("table")[0]["value"]["rows"] == [["1+1", 2]]
    assert found.curve("nested/a").mean.tolist() == [1.0]


def test_a_run_of_the_programs_own_is_not_ended() -> None:
    run = lossbook.init(name="mine")
    accelerator = accelerate.Accelerator(cpu=True, log_with=LossbookTracker(run=run))
    accelerator.init_trackers("lab")
    train(accelerator)
    accelerator.end_training()
    run.log({"after": 1.0}, step=9)
    (found,) = runs()
    assert found.curve("after").x.tolist() == [9]


def test_a_second_program_goes_on_with_the_same_run() -> None:
    for resume_step in (None, 0):
        arguments: dict[str, Any] = {"id": "same", "resume": "allow", "resume_step": resume_step}
        accelerator = accelerate.Accelerator(cpu=True, log_with=LossbookTracker("lab", **arguments))
        accelerator.init_trackers("lab")
        train(accelerator, steps=2)
        accelerator.end_training()
    (found,) = runs()
    assert len(found.attempts) == 2
    assert found.curve("train/loss").x.tolist() == [0, 0, 1]


def test_other_processes_than_the_main_one_record_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerate.Accelerator(cpu=True)
    for name, value in (("is_main_process", False), ("use_distributed", True)):
        monkeypatch.setattr(accelerate.PartialState, name, property(lambda self, value=value: value))
    tracker = LossbookTracker("lab")
    tracker.start()
    tracker.store_init_configuration({"lr": 0.1})
    tracker.log({"loss": 1.0}, step=0)
    tracker.finish()
    assert tracker.tracker is None
    assert not store.exists()


def test_what_goes_wrong_in_the_tracker_stays_out_of_training(capfd: pytest.CaptureFixture[str]) -> None:
    guard.failed.clear()
    accelerator = accelerate.Accelerator(cpu=True, log_with=LossbookTracker("lab", no_such_argument=1))
    accelerator.init_trackers("lab", config={"lr": 0.1})
    assert len(train(accelerator)) == 3
    accelerator.end_training()
    assert "LossbookTracker.start could not record something" in capfd.readouterr().err
