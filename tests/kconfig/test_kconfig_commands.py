"""The commands that make and change `.config`, as `make` calls them; the menu in a real terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import kconfig
from trainers.configuration import ROOT, load

Commanded = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commanded:
    """Run a command in an empty folder; what it wrote to either stream."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KCONFIG_CONFIG", raising=False)

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert kconfig.main(list(arguments)) == status
        written = capsys.readouterr()
        return written.out + written.err

    return run


def settings(path: str = ".config") -> dict[str, str]:
    lines = [
        line.removeprefix("CONFIG_").partition("=")
        for line in Path(path).read_text().splitlines()
        if line.startswith("CONFIG_")
    ]
    return {name: value for name, _, value in lines}


def test_a_defconfig_becomes_a_whole_config(make: Commanded) -> None:
    make("defconfig", "gpt2-shakespeare")
    found = settings()
    assert found["GPT2_DATASET_SHAKESPEARE"] == "y"
    assert found["GPT2_STEPS"] == "5000"
    assert found["GPT2_LEARNING_RATE"] == '"1e-3"'  # not in the defconfig: a default


def test_trackers_on_the_make_line_win_over_the_defconfig(make: Commanded) -> None:
    make("defconfig", "gpt2-tracked", "--tracker", "none")
    assert settings()["TRACKER"] == '"none"'
    assert load(Path(".config")).trackers() == []
    make("defconfig", "gpt2-smoke", "--tracker", "both")
    assert load(Path(".config")).trackers() == ["wandb", "trackio"]
    assert "there is no tracker 'bothh'" in make("defconfig", "gpt2-smoke", "--tracker", "bothh", status=2)


def test_savedefconfig_keeps_what_differs_and_reads_back_to_the_same(make: Commanded) -> None:
    make("defconfig", "gpt2-pruning")
    before = settings()
    make("savedefconfig")
    assert set(settings("defconfig")) == set(settings(str(ROOT / "defconfigs" / "gpt2-pruning")))
    make("clean-config")
    assert not Path(".config").exists()
    make("defconfig", "./defconfig")
    assert settings() == before


def test_allyesconfig_turns_every_switch_on_and_allnoconfig_off(make: Commanded) -> None:
    make("allyesconfig")
    everything = load(Path(".config"))
    assert everything.remarks == []
    assert everything.trackers() == ["wandb:offline", "trackio", "tensorboard", "mlflow"]
    assert all(value == "y" for name, value in settings().items() if name.startswith("MATRIX_OPTIMIZER_"))
    make("allnoconfig")
    nothing = load(Path(".config"))
    assert nothing.trackers() == []
    assert not [name for name in settings() if name.startswith("MATRIX_OPTIMIZER_")]
    assert nothing["TRACKER_LOCAL"] == "y", "with everything off a run would be recorded nowhere"


def test_oldconfig_adds_what_is_new_and_keeps_what_was_said(make: Commanded) -> None:
    Path(".config").write_text("CONFIG_GPT2_STEPS=77 # enough\n")
    make("oldconfig")
    found = settings()
    assert found["GPT2_STEPS"] == "77"
    assert found["GPT2_BATCH_SIZE"] == "16"
    assert Path(".config.old").read_text() == "CONFIG_GPT2_STEPS=77 # enough\n"


def test_every_defconfig_is_listed_with_what_it_is_for(make: Commanded) -> None:
    listed = make("list-defconfigs").splitlines()
    assert len(listed) == len(list((ROOT / "defconfigs").iterdir())) >= 12
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed)


def test_help_names_every_target_and_symbol(make: Commanded) -> None:
    said = make("help")
    targets = [
        line.split(":")[0]
        for line in (ROOT / "Makefile").read_text().splitlines()
        if "config" in line.split(":")[0] and ":" in line and line[0].isalpha()
    ]
    names = {name for line in targets for name in line.split() if "%" not in name and name != "kconfig-help"}
    for name in names - {"defconfig"} | {"defconfig-NAME", "train", "matrix", "continue"}:
        assert f"make {name} " in said, name
    assert "BASELINE_RUN_ID" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["defconfig"], "say which: make defconfig DEFCONFIG=NAME"),
        (["defconfig", "gpt2-shakespear"], "there is no defconfig 'gpt2-shakespear': did you mean gpt2-shakespeare"),
        (["savedefconfig"], "there is no .config: make menuconfig"),
        (["oldconfig"], "there is no .config"),
        (["menuconfig"], "make menuconfig needs a terminal"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(arguments: list[str], said: str, make: Commanded) -> None:
    sentence = make(*arguments, status=2)
    assert said in sentence
    assert len(sentence.strip().splitlines()) == 1


def test_make_hands_over_what_is_on_its_line() -> None:
    def shown(*words: str) -> str:
        return subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "kconfig.py defconfig 'gpt2-smoke'" in shown("defconfig-gpt2-smoke")
    assert "kconfig.py defconfig 'gpt2-smoke' --tracker 'none'" in shown(
        "defconfig", "DEFCONFIG=gpt2-smoke", "TRACKER=none"
    )
    assert "train.py --tracker 'both' --steps 100" in shown("train", "TRACKER=both", "ARGS=--steps 100")
    assert "matrix.py --jobs 3" in shown("matrix", "JOBS=3")
    assert "matrix.py --continue --jobs 1" in shown("continue")


# -- the menu -----------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal of its own, in tmux."""

    def __init__(self, folder: Path, command: str) -> None:
        self.server = ["tmux", "-L", f"lossbook-{uuid.uuid4().hex}", "-f", "/dev/null"]
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*self.server, "new-session", "-d", "-x", "100", "-y", "40", f"{command}; echo status $?; exec cat"],
            cwd=folder,
            env=environment,
            check=True,
        )

    def screen(self) -> str:
        return subprocess.run([*self.server, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    def press(self, *keys: str) -> None:
        subprocess.run([*self.server, "send-keys", *keys], check=True)

    def close(self) -> None:
        subprocess.run([*self.server, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def menu(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    terminal = Terminal(tmp_path, f"{sys.executable} {ROOT / 'scripts' / 'kconfig.py'} menuconfig --tracker trackio")
    yield terminal
    terminal.close()


def test_the_menu_is_used_in_a_terminal_and_saves_what_was_chosen(
    menu: Terminal, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    def until_shown(text: str) -> None:
        wait_until(lambda: text in menu.screen())

    until_shown("Experiment Tracking")
    assert all(
        title in menu.screen() for title in ("Dataset", "Model", "Optimizer", "Pruning", "Training", "Device", "Matrix")
    )
    menu.press("/")  # search
    until_shown("Jump to symbol")
    menu.press("-l", "GPT2_OPTIMIZER_MUON")
    until_shown("muon")
    menu.press("Enter")
    until_shown("( ) muon")
    menu.press("Space")
    menu.press("q")
    until_shown("Save configuration?")
    menu.press("y")
    until_shown("status 0")
    found = settings(str(tmp_path / ".config"))
    assert found["GPT2_OPTIMIZER_MUON"] == "y"
    assert found["TRACKER"] == '"trackio"'
