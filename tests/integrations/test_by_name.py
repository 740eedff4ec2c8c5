"""`report_to="lossbook"` and `log_with="lossbook"` in programs that never import Lossbook.

Each program runs in a process of its own, where Lossbook's entry points are those of `pyproject.toml`, as an installation
writes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import lossbook

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

ROOT = Path(__file__).resolve().parents[2]

TRAINER = """
import sys
import torch, transformers
torch.manual_seed(0)
config = transformers.GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
tokens = [{"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in torch.randint(16, (16, 8)).tolist()]
parser = transformers.HfArgumentParser(transformers.TrainingArguments)
(arguments,) = parser.parse_args_into_dataclasses()
transformers.Trainer(model=transformers.GPT2LMHeadModel(config), args=arguments, train_dataset=tokens).train()
"""

ACCELERATOR = """
import accelerate
accelerator = accelerate.Accelerator(cpu=True, log_with="lossbook")
accelerator.init_trackers("by-name", config={"lr": 0.1}, init_kwargs={"lossbook": {"name": "one", "group": "g"}})
for step in range(3):
    accelerator.log({"train/loss": 1.0 / (step + 1)}, step=step)
accelerator.end_training()
"""


@pytest.fixture
def installed(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of programs that says what an installed Lossbook says of itself."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path / "installed" / "lossbook-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lossbook\nVersion: 0\n")
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder.parent), str(ROOT))))
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder.parent


def python(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = cwd / "program.py"
    script.write_text(program)
    return subprocess.run(
        [sys.executable, str(script), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def runs(store: Path) -> list[Any]:
    return list(lossbook.open(store).runs()) if store.exists() else []


def test_a_trainer_that_is_told_to_report_to_lossbook_does(installed: Path, tmp_path: Path, store: Path) -> None:
    done = python(
        TRAINER,
        *("--output_dir", "out", "--max_steps", "4", "--logging_steps", "1", "--save_strategy", "no"),
        *("--use_cpu", "--disable_tqdm", "true", "--report_to", "lossbook", "--run_name", "by name"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    assert (run.name, run.state) == ("by name", "finished")
    assert run.curve("train/loss").x.tolist() == [1, 2, 3, 4]
    assert run.config["n_embd"] == 8


def test_a_trainer_that_reports_to_everything_else_does_not_record(
    installed: Path, tmp_path: Path, store: Path
) -> None:
    asked = "from transformers.integrations import get_available_reporting_integrations as there; print(there())"
    done = python(asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lossbook" not in done.stdout
    assert not store.exists()


def test_an_accelerator_logs_with_lossbook(installed: Path, tmp_path: Path, store: Path) -> None:
    done = python(ACCELERATOR, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    assert (run.project, run.name, run.group, run.state) == ("by-name", "one", "g", "finished")
    assert run.config == {"lr": 0.1}
    assert run.curve("train/loss").x.tolist() == [0, 1, 2]


def test_importing_torch_loads_nothing_that_records(installed: Path, tmp_path: Path) -> None:
    done = python(
        "import sys, torch; print(sorted(name for name in sys.modules if name.startswith('lossbook')))", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert set(eval(done.stdout)) <= {
        "lossbook",
        "lossbook.errors",
        "lossbook.integrations",
        "lossbook.integrations.by_name",
        "lossbook.lazy",
        "lossbook.run",
        "lossbook.run.live_module",
    }


def test_pytorchs_own_switch_turns_the_names_off(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    done = python("import sys, torch; print('lossbook' in sys.modules)", cwd=tmp_path)
    assert done.stdout.strip() == "False"


def test_one_line_does_the_same_where_the_switch_is_off(
    installed: Path, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    line = "from lossbook.integrations.by_name import enter_names; enter_names()\n"
    done = python(line + ACCELERATOR, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(runs(store)) == 1


#: transformers 4 imports PyTorch in the middle of the module that holds its table; this stands in for it.
EARLIER = """
from lossbook.integrations.by_name import enter_names
enter_names()  # as the end of `import torch` does
import a_module_that_is_imported_next
INTEGRATION_TO_CALLBACK = {}
"""


def test_a_table_that_comes_after_pytorch_in_its_own_module_gets_the_name(installed: Path, tmp_path: Path) -> None:
    package = tmp_path / "transformers" / "integrations"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package / "integration_utils.py").write_text(EARLIER)
    for name in ("a_module_that_is_imported_next", "another"):
        (tmp_path / f"{name}.py").write_text("")
    done = python(
        "import transformers.integrations.integration_utils as there, another; print(*there.INTEGRATION_TO_CALLBACK)",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["lossbook"]


def test_a_table_of_another_shape_is_left_alone(installed: Path, tmp_path: Path) -> None:
    package = tmp_path / "accelerate"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tracking.py").write_text("LOGGER_TYPE_TO_CLASS = None\ndef register_tracker_class(tracker): ...\n")
    program = (
        "from lossbook.integrations.by_name import enter_names; enter_names()\n"
        "import accelerate.tracking; print(accelerate.tracking.LOGGER_TYPE_TO_CLASS)"
    )
    done = python(program, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr
