"""A `.config` read against the Kconfig tree: what it says to a trainer, and how a wrong one is refused."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainers.configuration import (
    BITNET,
    ENABLE,
    ENVIRONMENT,
    GPT2,
    ROOT,
    ConfigError,
    Configuration,
    Trainer,
    load,
    read_tree,
)
from trainers.optimizers import OPTIMIZERS, OPTIONS

Read = Callable[[str], Configuration]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str) -> Configuration:
        path = tmp_path / ".config"
        path.write_text(text, encoding="utf-8")
        return load(Path(".config"))

    return write_and_load


def words(configuration: Configuration, tracker: str | None = None) -> list[str]:
    return [word for flag in configuration.flags(tracker) for word in flag.words()]


def parse(configuration: Configuration) -> argparse.Namespace:
    arguments: argparse.Namespace = importlib.import_module(configuration.trainer.arguments).parse(words(configuration))
    return arguments


def trainer_flags(trainer: Trainer) -> set[str]:
    """Every flag that a trainer has, from its own help."""
    import contextlib
    import io
    import re

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        importlib.import_module(trainer.arguments).parse(["--help"])
    return set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", printed.getvalue(), re.MULTILINE)) - {"--help"}


def test_the_tree_offers_every_optimizer_and_its_options() -> None:
    symbols = [symbol.name for symbol in read_tree().unique_defined_syms]
    for prefix in ("GPT2_OPTIMIZER_", "MATRIX_OPTIMIZER_"):
        offered = [name.removeprefix(prefix).lower() for name in symbols if name.startswith(prefix)]
        assert offered == list(OPTIMIZERS), prefix
    assert {f"GPT2_{option.name.upper()}" for option in OPTIONS.values() if option.help} <= set(symbols)


#: Flags that no symbol has: they are about one start, not about what to train.
WITHOUT_SYMBOL = {"gpt2": {"--resume"}, "bitnet": {"--resume", "--wandb_entity"}}
#: What has to be set before a symbol can be.
NEEDED = {
    "GPT2_DATASET_PATH": 'CONFIG_GPT2_DATASET_FILE=y\nCONFIG_GPT2_DATASET_PATH="one.txt"\n',
    "BITNET_DATASET_PATH": 'CONFIG_BITNET_DATASET_FILE=y\nCONFIG_BITNET_DATASET_PATH="one.txt"\n',
    "GPT2_VOCAB_SIZE": "CONFIG_GPT2_TOKENIZER_BPE=y\n",
    "GPT2_OPTIMIZER_ADAMWPRUNE": 'CONFIG_GPT2_PRUNING_NONE=y\n',
    "GPT2_PRUNING_STATE": "CONFIG_GPT2_OPTIMIZER_ADAMWPRUNE=y\n",
    "GPT2_MIN_LEARNING_RATE": 'CONFIG_GPT2_LEARNING_RATE="0.5"\n',
    "GPT2_DATASET_FILE": 'CONFIG_GPT2_DATASET_PATH="mine.txt"\n',
    "BITNET_DATASET_FILE": 'CONFIG_BITNET_DATASET_PATH="mine.txt"\n',
}  # fmt: skip
#: A value for a symbol whose default plus one is none.
VALUES = {
    "GPT2_BETA1": "0.5", "GPT2_BETA2": "0.5", "GPT2_DROPOUT": "0.25", "GPT2_SPARSITY": "0.75", "GPT2_MOMENTUM": "0.5",
    "GPT2_MIN_LEARNING_RATE": "0.25", "GPT2_PRUNE_END": "900", "GPT2_PRUNE_WARMUP": "7", "BITNET_DROPOUT": "0.25",
    "BITNET_QDROP": "0.25", "BITNET_QDROP_ANNEAL": "0.25", "BITNET_ALPHA_WARMUP": "0.25", "BITNET_MAX_STEPS": "7",
    "BITNET_WARMUP_STEPS": "7", "BITNET_EVAL_INTERVAL": "7",
}  # fmt: skip


def header(trainer: Trainer, name: str) -> str:
    before = "CONFIG_TRAINER_BITNET=y\n" if trainer is BITNET else ""
    if "PRUNE_" in name or name == "GPT2_SPARSITY":
        before += "CONFIG_GPT2_OPTIMIZER_ADAMWPRUNE=y\nCONFIG_GPT2_PRUNING_STATE=y\n"
    if "SPAM_" in name:
        before += "CONFIG_GPT2_OPTIMIZER_ADAMWSPAM=y\n"
    return before + NEEDED.get(name, "")


def settable(trainer: Trainer) -> list[str]:
    """The names of a trainer's symbols that can be set."""
    return [
        symbol.name
        for symbol in read_tree().unique_defined_syms
        if symbol.name.startswith(trainer.prefix) and any(node.prompt for node in symbol.nodes)
    ]


def another_value(symbol: Any) -> str:
    """A value that is not the symbol's default, as a file has it."""
    from kconfiglib import BOOL, INT

    if symbol.type == BOOL:
        return "y"
    default = symbol.defaults[0][0].str_value if symbol.defaults else ""
    if symbol.type == INT:
        return str(int(default) + 1)
    doubled = str(float(default) * 2 or 1.5) if _is_number(default) else "elsewhere"
    return f'"{VALUES.get(symbol.name, doubled)}"'


@pytest.mark.parametrize("trainer", [GPT2, BITNET], ids=["gpt2", "bitnet"])
def test_every_symbol_reaches_training_and_changes_it(trainer: Trainer, read: Read) -> None:
    """Set to another value than its default, a symbol changes what its flag names in the trainer's arguments."""
    tree = read_tree()
    for name in settable(trainer):
        symbol, before = tree.syms[name], header(trainer, name)
        changed_text = f"{before}CONFIG_{name}={another_value(symbol)}\n"
        flag = trainer.flag_of(symbol.choice.name if symbol.choice else name.replace("DATASET_PATH", "DATASET"))
        key = flag.removeprefix("--").replace("-", "_")
        configuration = read(changed_text)
        second = vars(parse(configuration))
        first = vars(parse(read(before)))
        assert not configuration.remarks
        if symbol.choice is not None and name in default_members(before):
            assert first == second
        else:
            assert first[key] != second[key], f"CONFIG_{name} does not change {flag}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def default_members(before: str) -> set[str]:
    """The members of choices that are chosen where a file says nothing more."""
    tree = read_tree()
    for line in before.splitlines():
        name, _, value = line.removeprefix("CONFIG_").partition("=")
        tree.syms[name].set_value(value.strip('"'))
    return {choice.selection.name for choice in tree.named_choices.values() if choice.selection}


@pytest.mark.parametrize("trainer", [GPT2, BITNET], ids=["gpt2", "bitnet"])
def test_every_flag_of_a_trainer_has_a_symbol(trainer: Trainer) -> None:
    tree = read_tree()
    symbols = {
        trainer.flag_of(name) for name in [*settable(trainer), *tree.named_choices] if name.startswith(trainer.prefix)
    }
    tracking = set(trainer.tracking.values())
    tracking |= (
        {"--tracker", "--tracker-mode", "--no-local"}
        if trainer is GPT2
        else {"--tracker", "--wandb_mode", "--disable_wandb"}
    )
    missing = trainer_flags(trainer) - symbols - tracking - WITHOUT_SYMBOL[trainer.name]
    assert not missing, "a flag without a symbol"


@pytest.mark.parametrize("trainer", [GPT2, BITNET], ids=["gpt2", "bitnet"])
def test_defaults_of_the_tree_are_the_trainers_own(trainer: Trainer, read: Read) -> None:
    """An empty configuration trains what the trainer without a flag does; trackers are named in the file alone."""
    told = vars(parse(read("CONFIG_TRAINER_BITNET=y\n" if trainer is BITNET else "")))
    bare = vars(importlib.import_module(trainer.arguments).parse([]))
    ours = {"tracker", "disable_wandb"}
    assert {key: value for key, value in told.items() if key not in ours} == {
        key: value for key, value in bare.items() if key not in ours
    }


def test_every_tracking_symbol_reaches_training(read: Read) -> None:
    cases = {
        'CONFIG_TRACKER="wandb,trackio"': "--tracker=wandb,trackio",
        "CONFIG_TRACKER_MODE_OFFLINE=y": "--tracker-mode=offline",
        'CONFIG_TRACKER_PROJECT="gpt2-experiments"': "--tracker-project=gpt2-experiments",
        'CONFIG_TRACKER_RUN_NAME="baseline-adamw"': "--tracker-run-name=baseline-adamw",
        'CONFIG_TRACKER_TAGS="a,b"': "--tracker-tags=a,b",
        'CONFIG_TRACKER_GROUP="ratio"': "--tracker-group=ratio",
        'CONFIG_TRACKER_NOTES="-why"': "--tracker-notes=-why",
        'CONFIG_TRACKER_STORE="/runs"': "--store=/runs",
        "CONFIG_TRACKER_LOCAL=n": "--no-local",
        **{f"CONFIG_{symbol}=y": f"--tracker={name}" for symbol, name in ENABLE.items()},
    }
    for line, flag in cases.items():
        configuration = read(line + "\n")
        assert flag in words(configuration), line
        parse(configuration)
    assert "--tracker=wandb:offline" in words(read('CONFIG_TRACKER="wandb"\nCONFIG_WANDB_OFFLINE=y\n'))
    assert read('CONFIG_WANDB_ENTITY="team"\nCONFIG_TRACKIO_PORT=8080\n').environment() == {
        "WANDB_ENTITY": "team",
        "GRADIO_SERVER_PORT": "8080",
    }
    covered = {line.removeprefix("CONFIG_").partition("=")[0] for line in cases} | set(ENVIRONMENT)
    covered |= {
        "WANDB_OFFLINE",
        "BASELINE_RUN_ID",
        "TRACKER_MODE_ENVIRONMENT",
        "TRACKER_MODE_ONLINE",
        "TRACKER_MODE_DISABLED",
    }
    tracking = {
        one.name for one in read_tree().unique_defined_syms if one.nodes[0].filename.endswith("Kconfig.tracking")
    }
    assert tracking == covered, "a tracking symbol that no case here sets"


def test_bitnet_is_told_of_trackers_in_its_own_words(read: Read) -> None:
    def told(text: str) -> dict[str, Any]:
        return vars(parse(read("CONFIG_TRAINER_BITNET=y\n" + text)))

    assert told("")["disable_wandb"]
    both = told('CONFIG_TRACKER="wandb:offline,trackio,tensorboard"\nCONFIG_TRACKER_TAGS="a, b c"\n')
    assert (both["disable_wandb"], both["wandb_mode"], both["tracker"]) == (False, "offline", "trackio")
    assert both["wandb_tags"] == ["a", "b c"]
    offline = told('CONFIG_TRACKER="both"\nCONFIG_TRACKER_MODE_OFFLINE=y\n')
    assert (offline["wandb_mode"], offline["tracker"]) == ("offline", "trackio:offline")
    assert told('CONFIG_TRACKER="both"\nCONFIG_TRACKER_MODE_DISABLED=y\n')["disable_wandb"]
    named = told(
        'CONFIG_TRACKER_PROJECT="p"\nCONFIG_TRACKER_RUN_NAME="r"\nCONFIG_TRACKER_GROUP="g"\nCONFIG_TRACKER_NOTES="n"\n'
    )
    assert [named[f"wandb_{key}"] for key in ("project", "run_name", "group", "notes")] == ["p", "r", "g", "n"]


@pytest.mark.parametrize(
    ("override", "tracker"),
    [("both", "wandb,trackio"), ("none", "none"), ("wandb", "wandb"), ("wandb,trackio", "wandb,trackio"),
     ("wandb:offline, tensorboard", "wandb:offline,tensorboard"), (None, "trackio,mlflow")],
)  # fmt: skip
def test_trackers_of_the_command_line_win_over_the_file(override: str | None, tracker: str, read: Read) -> None:
    for text in ('CONFIG_TRACKER="trackio,mlflow"\n', "CONFIG_ENABLE_TRACKIO=y\nCONFIG_ENABLE_MLFLOW=y\n"):
        assert f"--tracker={tracker}" in words(read(text), override)


def test_none_in_the_file_wins_over_switches(read: Read) -> None:
    configuration = read('CONFIG_ENABLE_WANDB=y\nCONFIG_TRACKER="none"\n')
    assert "--tracker=none" in words(configuration)
    assert configuration.remarks == ['.config:1: CONFIG_ENABLE_WANDB=y has no effect: it needs TRACKER = ""']


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("CONFIG_GPT2_STEP=10", ".config:2: there is no symbol CONFIG_GPT2_STEP: did you mean CONFIG_GPT2_STEPS"),
        ("CONFIG_GPT2_STEPS=ten", ".config:2: CONFIG_GPT2_STEPS is a whole number without quotes, not ten"),
        ('CONFIG_GPT2_STEPS="10"', "is a whole number without quotes"),
        ("CONFIG_GPT2_STEPS=0", ".config:2: CONFIG_GPT2_STEPS is from 1 to 1000000000, not 0"),
        ("CONFIG_GPT2_STEPS=-5", "is from 1 to 1000000000, not -5"),
        ("CONFIG_GPT2_STEPS=", "is a whole number without quotes"),
        ("CONFIG_GPT2_COMPILE=yes", ".config:2: CONFIG_GPT2_COMPILE is y or n, not yes"),
        ("CONFIG_TRACKER=wandb", ".config:2: CONFIG_TRACKER is text in double quotes"),
        ('CONFIG_TRACKER="wandb', "is text in double quotes"),
        ('CONFIG_TRACKER="wandb,neptune"', "there is no tracker 'neptune' (CONFIG_TRACKER in .config:2)"),
        ('CONFIG_TRACKER="wandb:sometimes"', "there is no tracker 'wandb:sometimes'"),
        ('CONFIG_GPT2_LEARNING_RATE="fast"', ".config:2: CONFIG_GPT2_LEARNING_RATE is a number in double quotes"),
        ('CONFIG_GPT2_OPTIMIZER="adam"', ".config:2: CONFIG_GPT2_OPTIMIZER is a choice: say which, such as CONFIG_GPT2_OPTIMIZER_SGD=y"),
        ("CONFIG_GPT2_DATASET_FILE=y", "CONFIG_GPT2_DATASET_FILE in .config:2 needs a file or a folder: set CONFIG_GPT2_DATASET_PATH"),
        ("GPT2_STEPS=10", ".config:2: 'GPT2_STEPS=10' is no setting"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_in_one_sentence_with_its_number(line: str, said: str, read: Read) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"# a comment\n{line}\n").flags()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_comments_escapes_and_negative_numbers_are_read(read: Read) -> None:
    configuration = read(
        "CONFIG_GPT2_STEPS=12 # a dozen\n"
        "  CONFIG_GPT2_BATCH_SIZE = 3\n"
        "CONFIG_GPT2_COMPILE=y# at once\n"
        "# CONFIG_GPT2_NO_BIAS is not set\n"
        'CONFIG_TRACKER_NOTES="a \\"b\\" \\\\ # c" # outside\n'
        'CONFIG_GPT2_SPAM_ZSCORE="-1"\n'
        "CONFIG_GPT2_OPTIMIZER_ADAMWSPAM=y\n"
    )
    args = parse(configuration)
    assert (args.steps, args.batch_size, args.compile, args.no_bias) == (12, 3, True, False)
    assert args.tracker_notes == 'a "b" \\ # c'
    assert args.spam_zscore == -1.0


def test_what_has_no_effect_is_said(read: Read) -> None:
    assert read("CONFIG_GPT2_SPAM_INTERVAL=100\n").remarks == [
        ".config:1: CONFIG_GPT2_SPAM_INTERVAL=100 has no effect: it needs GPT2_SPAMS && TRAINER_GPT2"
    ]
    assert read("CONFIG_GPT2_OPTIMIZER_ADAM=y\nCONFIG_GPT2_OPTIMIZER_MUON=y\n").remarks == [
        ".config:1: CONFIG_GPT2_OPTIMIZER_ADAM=y has no effect: CONFIG_GPT2_OPTIMIZER_MUON=y in line 2 comes after it"
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "defconfigs").iterdir()), ids=lambda path: path.name)
def test_every_defconfig_is_read_without_a_remark_and_accepted_by_its_trainer(path: Path) -> None:
    configuration = load(path)
    assert configuration.remarks == []
    parse(configuration)
    assert path.read_text(encoding="utf-8").startswith("# "), "its first line says what it is for"


def test_the_tree_itself_is_without_a_warning() -> None:
    assert read_tree().warnings == []
