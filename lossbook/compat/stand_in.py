"""`lossbook.install_as("wandb")`: from then on `import wandb`, and every module below it, is Lossbook.

A finder at the head of `sys.meta_path` answers for the names of other trackers, so code that nobody edits, and libraries
that import the tracker themselves, write Lossbook runs. A module below the tracker's has the names that Lossbook knows
(`wandb.data_types.Image` is `lossbook.wandb.Image`); another name is said once and does nothing. The package's metadata
(`importlib.metadata.version("wandb")`) are answered too where it is not installed, because libraries ask for them.

Within such a process the real package cannot be imported. Mirrors are not affected: they deliver from a process beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from lossbook.compat.wandb.module_names import TOP
from lossbook.compat.wandb.submodules import known_or_absent, submodule
from lossbook.errors import BadArgument
from lossbook.run import LiveModule

#: The trackers that Lossbook takes the place of, each with the version whose names it answers for.
VERSIONS = {"wandb": "0.31.0", "trackio": "0.43.0", "tensorboardX": "2.6.4"}
#: What the words of `--as` stand for: the packages that a script imports.
PACKAGES = {"wandb": ("wandb",), "trackio": ("trackio",), "tensorboard": ("tensorboardX", "torch.utils.tensorboard")}
#: What `lossbook run` stands in for without a word. TensorBoard has to be named: its files are what people look at.
DEFAULT = ("wandb", "trackio")
#: The modules that have a `SummaryWriter`.
WRITERS = frozenset(f"{package}{module}" for package in PACKAGES["tensorboard"] for module in ("", ".writer"))
#: What scripts written for TensorBoard are given; `tensorboard` can be chosen where this module is.
SUMMARY_WRITER = "lossbook.tensorboard"
#: The folder whose `sitecustomize` installs the stand-ins in child processes.
STARTUP = str(Path(__file__).with_name("startup"))


class StandIn(LiveModule):
    """The module that `import wandb` gives: Lossbook's words, and a sentence for every other."""

    def __getattr__(self, name: str) -> object:
        if name in ("config", "summary"):
            raise AttributeError(name)  # LiveModule has them
        package = self.__name__
        if name == "__all__":
            return list(importlib.import_module("lossbook.wandb").__all__)
        if name.startswith("_"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object
        if package == "trackio":
            found = importlib.import_module("lossbook.compat.trackio_names").find_name(name)
        elif name in TOP:
            return importlib.import_module(f"wandb.{name}")
        elif name == "init":
            found = importlib.import_module("lossbook.compat.wandb.init_order").init
        else:
            found = known_or_absent(package, name)
        self.__dict__[name] = found
        return found

    def __dir__(self) -> list[str]:
        return sorted({*importlib.import_module("lossbook.wandb").__all__, *self.__dict__})


class _WriterLoader(Loader):
    """Loads a module of TensorBoard's writers as it is, and puts Lossbook's `SummaryWriter` in place of its own.

    Where it cannot be loaded, because TensorBoard is not installed, Lossbook's is all that is in it.
    """

    def __init__(self, real: Loader | None) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self._real is None else self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self._real is not None:
            try:
                self._real.exec_module(module)
            except ImportError:
                pass
        module.__dict__["SummaryWriter"] = importlib.import_module(SUMMARY_WRITER).SummaryWriter


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        package, _, below = spec.name.partition(".")
        if package == "wandb" and below:
            return submodule(below)
        return StandIn(spec.name, "Lossbook, in the place of this package (docs/wandb.md).")

    def exec_module(self, module: ModuleType) -> None:
        if (version := VERSIONS.get(module.__name__)) is not None:
            module.__dict__["__version__"] = version


class _Metadata(metadata.Distribution):
    """What `importlib.metadata` says of a tracker that is not installed."""

    def __init__(self, name: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSIONS[name]}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return Path(STARTUP) / str(path)


class Finder(MetaPathFinder):
    """Answers for the packages of the trackers that were chosen."""

    def __init__(self) -> None:
        self.words: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, _, below = fullname.partition(".")
        if "tensorboard" in self.words and fullname in WRITERS:
            real = PathFinder.find_spec(fullname, path)
            if real is None:
                return ModuleSpec(fullname, _WriterLoader(None), is_package=True)
            real.loader = _WriterLoader(real.loader)
            return real
        if root not in self.words or root == "tensorboard":
            return None
        if below and (root != "wandb" or below.split(".")[0] not in TOP):
            return None
        return ModuleSpec(fullname, _Loader(), is_package=True)

    def find_distributions(
        self, context: metadata.DistributionFinder.Context | None = None
    ) -> Iterable[metadata.Distribution]:
        name = context.name if context is not None else None
        chosen = {one for word in self.words for one in PACKAGES[word]} & VERSIONS.keys()
        if context is None or name not in chosen or any(metadata.MetadataPathFinder.find_distributions(context)):
            return ()  # an installed one speaks for itself
        return (_Metadata(str(name)),)


#: The one finder of this process.
FINDER = Finder()


def available() -> tuple[str, ...]:
    """The words that `install_as` and `lossbook run --as` know here."""
    has_writer = importlib.util.find_spec(SUMMARY_WRITER) is not None
    return tuple(word for word in PACKAGES if word != "tensorboard" or has_writer)


def check_words(words: Iterable[str]) -> tuple[str, ...]:
    """The words, each once.

    Raises:
        BadArgument: Lossbook takes no such package's place.
    """
    known = available()
    chosen = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    for word in chosen:
        if word not in known:
            raise BadArgument(f"Lossbook cannot stand in for {word!r}: it can for {', '.join(known)}")
    return chosen


def install_as(*words: str) -> None:
    """Make `import wandb` (or another tracker's package) give Lossbook, in this process from now on.

    Call it before anything imports the package: `lossbook.install_as("wandb")` at the top of a script.

    Args:
        words: "wandb", "trackio".

    Raises:
        BadArgument: Lossbook takes no such package's place, or the real one has been imported already.
    """
    chosen = check_words(words)
    for package in (package for word in chosen for package in PACKAGES[word]):
        present = sys.modules.get(package)
        if present is not None and not isinstance(getattr(present, "__loader__", None), (_Loader, _WriterLoader)):
            raise BadArgument(
                f"{package} has been imported already: call lossbook.install_as() before that, "
                f"or start the script with `lossbook run`"
            )
    FINDER.words.update(chosen)
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


def environment_for(words: Sequence[str], environment: dict[str, str]) -> dict[str, str]:
    """`environment`, with what makes Python processes install the stand-ins when they start."""
    before = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != STARTUP]
    return {**environment, "LOSSBOOK_AS": ",".join(words), "PYTHONPATH": os.pathsep.join([STARTUP, *before])}
