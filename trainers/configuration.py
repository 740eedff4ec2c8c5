"""A `.config` or a defconfig read against the Kconfig tree, and what it says to a trainer.

Here alone a symbol becomes a flag. A file that is wrong is refused in one sentence that names its line: an unknown
symbol, a value of the wrong kind or out of range, a line that is none. What has no effect is said, too.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lossbook.registry import MIRRORS

if TYPE_CHECKING:
    from kconfiglib import Kconfig, Symbol

ROOT = Path(__file__).resolve().parents[1]

TRACKER_MODES = ("online", "offline")

#: Symbols that are switches of a tracker, where TRACKER names none. TRACKER alone names one of another package.
ENABLE = {f"ENABLE_{name.upper()}": name for name in MIRRORS.own}

#: Symbols that become variables of the trainer's environment: the trackers' own clients read them.
ENVIRONMENT = {"WANDB_ENTITY": "WANDB_ENTITY", "TRACKIO_PORT": "GRADIO_SERVER_PORT"}

#: A choice of "file" means this symbol's value.
PATHS = {"GPT2_DATASET": "GPT2_DATASET_PATH", "BITNET_DATASET": "BITNET_DATASET_PATH"}

#: The variable that says where `source` looks; kconfiglib takes it from nowhere else.
_SOURCE_ROOT = "srctree"

_ASSIGNMENT = re.compile(r"CONFIG_(\w+)\s*=\s*(.*)$")
_UNSET = re.compile(r"#\s*CONFIG_(\w+) is not set\b")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$')
_BARE = re.compile(r'([^\s"#]*)\s*(?:#.*)?$')
_INTEGER = re.compile(r"[+-]?\d+$")


class ConfigError(Exception):
    """A configuration that cannot be used; the message is one sentence, with file and line where it came from one."""


class Flag(NamedTuple):
    """A flag for the trainer, and the symbol that said it."""

    name: str
    #: None: a switch that takes no value. Several: a flag that takes words.
    values: tuple[str, ...] | None
    symbol: str

    def words(self) -> list[str]:
        if self.values is None:
            return [self.name]
        # With `=`, a value that begins with a dash is no flag.
        return [f"{self.name}={self.values[0]}"] if len(self.values) == 1 else [self.name, *self.values]


@dataclass(frozen=True)
class Trainer:
    """One of the programs that a configuration can be for."""

    name: str
    program: Path
    #: The module that has its `parse(argv)`.
    arguments: str
    #: What its symbols begin with.
    prefix: str
    #: How words are joined in its flags.
    joint: str
    #: Tracking symbols and their flags.
    tracking: dict[str, str] = field(default_factory=dict)

    def flag_of(self, symbol: str) -> str:
        return "--" + symbol.removeprefix(self.prefix).lower().replace("_", self.joint)


GPT2 = Trainer(
    "gpt2",
    ROOT / "gpt2" / "train.py",
    "gpt2.arguments",
    "GPT2_",
    "-",
    {
        "TRACKER_PROJECT": "--tracker-project",
        "TRACKER_RUN_NAME": "--tracker-run-name",
        "TRACKER_TAGS": "--tracker-tags",
        "TRACKER_GROUP": "--tracker-group",
        "TRACKER_NOTES": "--tracker-notes",
        "TRACKER_STORE": "--store",
    },
)
BITNET = Trainer(
    "bitnet",
    ROOT / "bitnet" / "train.py",
    "bitnet.arguments",
    "BITNET_",
    "_",
    {
        "TRACKER_PROJECT": "--wandb_project",
        "TRACKER_RUN_NAME": "--wandb_run_name",
        "TRACKER_TAGS": "--wandb_tags",
        "TRACKER_GROUP": "--wandb_group",
        "TRACKER_NOTES": "--wandb_notes",
        "TRACKER_STORE": "--store",
    },
)


class Configuration:
    """A tree with the values of one file; every symbol has a value, the default where the file says nothing."""

    def __init__(self, tree: Kconfig, path: Path | None, lines: dict[str, int], remarks: list[str]) -> None:
        self.tree = tree
        self.path = path
        self.lines = lines
        #: Sentences on lines of the file that change nothing.
        self.remarks = remarks

    def __getitem__(self, symbol: str) -> str:
        """The value of a symbol, or the name of a choice's member; "" for what is empty or out of reach."""
        if symbol in self.tree.named_choices:
            chosen = self.tree.named_choices[symbol].selection
            return chosen.name.removeprefix(symbol + "_") if chosen is not None else ""
        found = self.tree.syms[symbol]
        # A symbol whose menu is not shown keeps its default in Kconfig's own count; here it says nothing.
        return "" if not found.visibility else str(found.str_value)

    def is_on(self, symbol: str) -> bool:
        return bool(self.tree.syms[symbol].tri_value)

    def where(self, symbol: str) -> str:
        """`CONFIG_NAME in .config:12`; of a choice, of the member that is chosen."""
        if symbol in self.tree.named_choices:
            chosen = self.tree.named_choices[symbol].selection
            symbol = chosen.name if chosen is not None else symbol
        if self.path is None or symbol not in self.lines:
            return f"CONFIG_{symbol}, whose default it is"
        return f"CONFIG_{symbol} in {shown(self.path)}:{self.lines[symbol]}"

    @property
    def trainer(self) -> Trainer:
        return BITNET if self["TRAINER"] == "BITNET" else GPT2

    @property
    def processes(self) -> int:
        return int(self["PROCESSES"])

    def flags(self, tracker: str | None = None) -> list[Flag]:
        """What the trainer is told.

        Args:
            tracker: trackers named on the command line, which win over the file's.

        Raises:
            ConfigError: a tracker's name or mode is not known, or a path is missing.
        """
        trainer = self.trainer
        return [*self._trainer_flags(trainer), *self._tracking_flags(trainer, tracker)]

    def environment(self) -> dict[str, str]:
        return {variable: self[symbol] for symbol, variable in ENVIRONMENT.items() if self[symbol]}

    def _trainer_flags(self, trainer: Trainer) -> Iterator[Flag]:
        for name, choice in self.tree.named_choices.items():
            if name.startswith(trainer.prefix) and choice.visibility and choice.selection is not None:
                value = self[name].lower().replace("_", "-")
                if value == "file" and name in PATHS:
                    value = self[PATHS[name]]
                    if not value:
                        raise ConfigError(
                            f"{self.where(name)} needs a file or a folder: set CONFIG_{PATHS[name]} to its path"
                        )
                yield Flag(trainer.flag_of(name), (value,), name)
        from kconfiglib import BOOL

        for symbol in self.tree.unique_defined_syms:
            if not symbol.name.startswith(trainer.prefix) or symbol.choice or symbol.name in PATHS.values():
                continue
            if not symbol.visibility:  # out of reach, or only there for others to depend on
                continue
            if symbol.type == BOOL:
                if self.is_on(symbol.name):
                    yield Flag(trainer.flag_of(symbol.name), None, symbol.name)
            elif value := self[symbol.name]:
                yield Flag(trainer.flag_of(symbol.name), (value,), symbol.name)

    def _tracking_flags(self, trainer: Trainer, tracker: str | None) -> Iterator[Flag]:
        words = self.trackers(tracker)
        mode = self["TRACKER_MODE"].lower()
        source = "TRACKER" if self["TRACKER"] else next((name for name in ENABLE if self.is_on(name)), "TRACKER")
        yield from _tracker_flags(trainer, words, mode, source)
        for symbol, flag in trainer.tracking.items():
            if value := self[symbol]:
                several = symbol == "TRACKER_TAGS" and trainer is BITNET
                values = tuple(part for one in value.split(",") if (part := one.strip())) if several else (value,)
                yield Flag(flag, values, symbol)
        if self["TRACKER_LOCAL"] == "n":
            yield Flag("--no-local", None, "TRACKER_LOCAL")

    def trackers(self, override: str | None = None) -> list[str]:
        """The trackers to send to, `name` or `name:mode` each: the command line's, else TRACKER's, else those switched on.

        Raises:
            ConfigError: a name or a mode is not known.
        """
        if override:
            words = tracker_words(override, "TRACKER= on the command line")
        elif self["TRACKER"]:
            words = tracker_words(self["TRACKER"], self.where("TRACKER"))
        else:
            words = [name for symbol, name in ENABLE.items() if self.is_on(symbol)]
        if self.is_on("WANDB_OFFLINE"):
            words = ["wandb:offline" if word == "wandb" else word for word in words]
        return words


def _tracker_flags(trainer: Trainer, words: list[str], mode: str, symbol: str) -> Iterator[Flag]:
    if trainer is GPT2:
        yield Flag("--tracker", (",".join(words) or "none",), symbol)
        if mode != "environment":
            yield Flag("--tracker-mode", (mode,), "TRACKER_MODE")
        return
    # BitNet's flags are about W&B; TensorBoard it always writes; any other tracker takes its mode behind its name.
    if mode == "disabled":
        words = []
    elif mode != "environment":
        words = [word if ":" in word else f"{word}:{mode}" for word in words]
    modes = dict((*word.partition(":")[::2],) for word in words)
    if "wandb" not in modes:
        yield Flag("--disable_wandb", None, symbol)
    elif modes["wandb"]:
        yield Flag("--wandb_mode", (modes["wandb"],), symbol)
    others = [word for word in words if word.partition(":")[0] not in ("wandb", "tensorboard")]
    yield Flag("--tracker", (",".join(others) or "none",), symbol)


def tracker_words(text: str, where: str) -> list[str]:
    """`both` or `wandb:offline,trackio` as a list without repetitions; `none` is the empty one.

    Raises:
        ConfigError: a name or a mode is not known; the message says where it stands.
    """
    words: list[str] = []
    for word in (part.strip() for part in text.split(",")):
        if not word or (word == "none" and text.strip() == "none"):
            continue
        name, colon, mode = word.partition(":")
        if word == "both":
            words += ["wandb", "trackio"]
        elif name not in MIRRORS or (colon and mode not in TRACKER_MODES):
            raise ConfigError(
                f"there is no tracker {word!r} ({where}): use {', '.join(MIRRORS.names())}, with :offline behind it if "
                "wanted, both, or none alone"
            )
        else:
            words.append(word)
    return list(dict.fromkeys(words))


def shown(path: Path) -> str:
    """A path as one would type it here."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(path)


# -- reading ------------------------------------------------------------------------------------------------------


def read_tree() -> Kconfig:
    """Parse the Kconfig files.

    Raises:
        ConfigError: kconfiglib is not installed.
    """
    try:
        import kconfiglib
    except ImportError:
        raise ConfigError("the configuration needs kconfiglib: pip install 'lossbook[kconfig]'") from None
    before = os.environ.get(_SOURCE_ROOT)
    os.environ[_SOURCE_ROOT] = str(ROOT)
    try:
        return kconfiglib.Kconfig("Kconfig", warn_to_stderr=False)
    finally:
        os.environ.pop(_SOURCE_ROOT)
        if before is not None:
            os.environ[_SOURCE_ROOT] = before


def load(path: Path) -> Configuration:
    """Read a `.config` or a defconfig; what it does not say keeps its default.

    Raises:
        ConfigError: it cannot be read, or one of its lines is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {shown(path)}: make menuconfig, or make defconfig-NAME (make list-defconfigs lists them)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown(path)} cannot be read ({error})") from None
    tree = read_tree()
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{shown(path)}:{number}"
        stripped = line.strip()
        if unset := _UNSET.match(stripped):
            name, value = unset[1], None
        elif not stripped or stripped.startswith("#"):
            continue
        elif assignment := _ASSIGNMENT.match(stripped):
            name, value = assignment[1], assignment[2]
        else:
            raise ConfigError(
                f"{where}: {stripped[:60]!r} is no setting: write CONFIG_NAME=value, or # before a comment"
            )
        symbol = _find_symbol(tree, name, where)
        symbol.set_value(_value_for(symbol, value, where))
        lines[name] = number
    remarks = _check_effect(tree, path, lines)
    return Configuration(tree, path, lines, remarks)


def _find_symbol(tree: Kconfig, name: str, where: str) -> Symbol:
    if name in tree.named_choices:
        members = ", ".join(f"CONFIG_{member.name}=y" for member in tree.named_choices[name].syms[:3])
        raise ConfigError(f"{where}: CONFIG_{name} is a choice: say which, such as {members}")
    symbol = tree.syms.get(name)
    if symbol is None or not symbol.nodes:
        names = [one.name for one in tree.unique_defined_syms]
        close = difflib.get_close_matches(name, names, n=2, cutoff=0.7)
        meant = f"did you mean {' or '.join('CONFIG_' + one for one in close)}?" if close else "see make kconfig-help"
        raise ConfigError(f"{where}: there is no symbol CONFIG_{name}: {meant}")
    return symbol


def _value_for(symbol: Symbol, text: str | None, where: str) -> str:
    """The value that a line gives, without quotes, escapes and comment.

    Raises:
        ConfigError: it is not of the symbol's kind.
    """
    from kconfiglib import BOOL, INT, unescape

    def wrong(kind: str) -> ConfigError:
        return ConfigError(f"{where}: CONFIG_{symbol.name} is {kind}, not {(text or '').strip()}")

    if text is None:
        return "n" if symbol.type == BOOL else ""
    quoted, bare = _QUOTED.match(text), _BARE.match(text)
    if symbol.type == BOOL:
        if bare is None or bare[1] not in ("y", "n"):
            raise wrong("y or n")
        return bare[1]
    if symbol.type == INT:
        if bare is None or not _INTEGER.match(bare[1]):
            raise wrong("a whole number without quotes")
        return str(int(bare[1]))
    if quoted is None:
        raise wrong('text in double quotes (\\" and \\\\ within)')
    value = str(unescape(quoted[1]))
    if is_decimal(symbol):
        try:
            float(value)
        except ValueError:
            raise wrong("a number in double quotes") from None
    return value


def is_decimal(symbol: Symbol) -> bool:
    """Whether a symbol holds a decimal number: a string whose default is one."""
    from kconfiglib import STRING

    if symbol.type != STRING or not symbol.defaults:
        return False
    try:
        float(symbol.defaults[0][0].str_value)
    except ValueError:
        return False
    return True


def _check_effect(tree: Kconfig, path: Path, lines: dict[str, int]) -> list[str]:
    """Sentences on lines that change nothing.

    Raises:
        ConfigError: a number is out of its range.
    """
    from kconfiglib import INT, expr_str, expr_value

    remarks = []
    for name, number in lines.items():
        symbol, where = tree.syms[name], f"{shown(path)}:{number}"
        given = symbol.user_value if isinstance(symbol.user_value, str) else ("n", "m", "y")[symbol.user_value or 0]
        if not symbol.visibility:
            # Written out by `make menuconfig` with its default, or left empty: nothing is lost.
            if given not in ("n", "", symbol.str_value) and any(node.prompt for node in symbol.nodes):
                needed = expr_str(symbol.direct_dep)
                remarks.append(f"{where}: CONFIG_{name}={given} has no effect: it needs {needed}")
            continue
        if symbol.type == INT:
            for low, high, condition in symbol.ranges:
                if expr_value(condition) and not int(low.str_value) <= int(given) <= int(high.str_value):
                    raise ConfigError(
                        f"{where}: CONFIG_{name} is from {low.str_value} to {high.str_value}, not {given}"
                    )
        elif given == "y" and symbol.str_value != "y" and symbol.choice is not None:
            chosen = symbol.choice.selection.name
            remarks.append(
                f"{where}: CONFIG_{name}=y has no effect: CONFIG_{chosen}=y in line {lines.get(chosen)} comes after it"
            )
    return remarks
