"""`lossbook run --as tensorboard`: programs that import torch's or tensorboardX's SummaryWriter write Lossbook runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from unedited import count_rows, only_run, run_unedited, values

pytest.importorskip("lossbook.tensorboard")


@pytest.fixture(autouse=True)
def here(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("LOSSBOOK_FOLLOWER", "off")


@pytest.mark.parametrize("package", ["torch.utils.tensorboard", "tensorboardX"])
def test_a_programs_own_summary_writer_is_lossbooks(package: str, store: Path) -> None:
    pytest.importorskip("torch")
    text = f"""
from {package} import SummaryWriter
from {package}.writer import SummaryWriter as Same
assert Same is SummaryWriter
writer = SummaryWriter("runs/first")
for step in range(3):
    writer.add_scalar("train/loss", 1.0 / (step + 1), step * 10)
writer.close()
"""
    run_unedited(text, "--as", "tensorboard")
    run = only_run(store)
    assert values(run, "train/loss") == [(0, 1.0), (10, 0.5), (20, pytest.approx(1.0 / 3))]


def test_the_rest_of_tensorboards_modules_is_its_own(store: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    text = """
import torch.utils.tensorboard as package
from torch.utils.tensorboard.summary import scalar
assert scalar("loss", 1.0).value[0].tag == "loss"
with package.SummaryWriter("runs/first") as writer:
    writer.add_scalar("loss", 1.0, 1)
"""
    run_unedited(text, "--as", "tensorboard")
    assert count_rows(only_run(store), "loss") == [1]
