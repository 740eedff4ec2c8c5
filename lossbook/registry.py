"""The kinds of mirror, source, detector, alert sink and command: Lossbook's own, and those that other packages add.

An installed package adds one by an entry point of the kind's group (docs/extending.md). Names are known without importing
anything; an entry is imported when it is asked for. What is wrong with another package's entry is one sentence, and never
ends a training or a command that does not need it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument, LossbookError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: Names are written in lists, with a mode behind a colon, and are parts of file names.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")


class BrokenPlugin(LossbookError):
    """An entry of another package that cannot be used; the sentence says which package, and why."""


class Registry:
    """One kind of thing that Lossbook has several of, each by its name.

    Args:
        group: the entry points' group, such as "lossbook.mirrors".
        what: one of them in words, for messages.
        base: "module:attribute" of the class that each has to be a subclass of, or with `instances` an instance of.
        own: Lossbook's own, in the order in which they are listed: name → "module:attribute".
        reserved: names that other packages cannot use, besides Lossbook's own: a pattern.
    """

    def __init__(
        self,
        group: str,
        what: str,
        base: str,
        own: Mapping[str, str],
        *,
        instances: bool = False,
        reserved: str = r"(?!)",
    ) -> None:
        self.group = group
        self.what = what
        self.base = base
        self.own = own
        self._instances = instances
        self._reserved = reserved

    def names(self) -> tuple[str, ...]:
        """Every name: Lossbook's own, then those of other packages. Imports none of them."""
        return (*self.own, *self._added())

    def __contains__(self, name: str) -> bool:
        # Reading what is installed takes longer than `import lossbook`: only a name that is not Lossbook's own needs it.
        return name in self.own or name in self._added()

    def load(self, name: str) -> object:
        """What has that name, imported.

        Raises:
            BadArgument: nothing has it.
            BrokenPlugin: another package says that it has it, and it cannot be imported or is something else.
        """
        if name in self.own:
            return _import(self.own[name])
        entry = self._added().get(name)
        if entry is None:
            raise BadArgument(f"there is no {self.what} {name!r}: use one of {', '.join(self.names())}")
        try:
            found = entry.load()
        except (Exception, SystemExit) as error:  # another package's module may raise anything
            raise BrokenPlugin(f"{self._origin(entry)} cannot be used ({_first_line(error)})") from error
        wrong = self._wrong(name, found)
        if wrong:
            raise BrokenPlugin(f"{self._origin(entry)} cannot be used ({entry.value} {wrong})")
        return found

    def usable(self, tell: Callable[[str], None] = lambda sentence: None) -> Iterator[str]:
        """The names of those that can be loaded; of a broken one of another package `tell` is told why."""
        for name in self.names():
            try:
                self.load(name)
            except BrokenPlugin as error:
                tell(f"{error}; it is passed over")
                continue
            yield name

    def added(self) -> dict[str, str]:
        """By the name of each entry of another package, that package and its version."""
        return {name: _package(entry) for name, entry in self._added().items()}

    def problems(self) -> list[str]:
        """What is wrong with other packages' entries, a sentence each; imports them."""
        sentences = []
        used = self._added()
        for entry in _entry_points(self.group):
            if entry.name in self.own or re.match(self._reserved, entry.name):
                sentences.append(f"{self._origin(entry)} is not used: that name is Lossbook's own")
            elif not _NAME.match(entry.name):
                sentences.append(f"{self._origin(entry)} is not used: a name has small letters, digits, - and _ alone")
            elif used[entry.name] != entry:
                sentences.append(
                    f"{self._origin(entry)} is not used: {_package(used[entry.name])} has one of that name"
                )
        for name in used:
            try:
                self.load(name)
            except BrokenPlugin as error:
                sentences.append(str(error))
        return sentences

    def _added(self) -> dict[str, EntryPoint]:
        """Other packages' entries that have a usable name; the first of each name counts."""
        found: dict[str, EntryPoint] = {}
        for entry in _entry_points(self.group):
            if entry.name not in self.own and _NAME.match(entry.name) and not re.match(self._reserved, entry.name):
                found.setdefault(entry.name, entry)
        return found

    def _wrong(self, name: str, found: object) -> str | None:
        """What another package's entry is that it should not be; None where it is as it should be."""
        base = _import(self.base)
        assert isinstance(base, type)
        if self._instances:
            return None if isinstance(found, base) else f"is no {self.base.replace(':', '.')}"
        if not isinstance(found, type) or not issubclass(found, base):
            return f"is no subclass of {self.base.replace(':', '.')}"
        if missing := sorted(getattr(found, "__abstractmethods__", ())):
            return f"lacks {', '.join(missing)}"
        if getattr(found, "kind", None) != name:
            return f"has not kind = {name!r}"
        return None if isinstance(getattr(found, "title", None), str) else "has no title"

    def _origin(self, entry: EntryPoint) -> str:
        return f"the {self.what} {entry.name!r} of the package {_package(entry)}"


def _import(address: str) -> object:
    module, _, attribute = address.partition(":")
    found: object = getattr(importlib.import_module(module), attribute)
    return found


def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return _entry_points_on(group, tuple(sys.path))


@lru_cache(maxsize=32)
def _entry_points_on(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group, of the packages that are installed on that path (`sys.path` now)."""
    if not _may_have_entries(path):
        return ()
    # What reads installed packages takes longer to import than Lossbook itself.
    from importlib.metadata import entry_points

    try:
        return tuple(sorted(entry_points(group=group), key=lambda one: (one.name, _package(one))))
    except Exception:  # a package whose own files are damaged
        return ()


@lru_cache(maxsize=32)
def _may_have_entries(path: tuple[str, ...]) -> bool:
    """Whether a package on that path names entries for Lossbook: a look at the files that would, without parsing them."""
    for place in dict.fromkeys(path):
        try:
            names = os.listdir(place or ".")
        except NotADirectoryError:
            return True  # an archive may hold any
        except OSError:
            continue
        if place.endswith(".egg"):
            return True
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            try:
                with open(os.path.join(place, name, "entry_points.txt"), "rb") as file:
                    if b"[lossbook." in file.read():  # a group; our own command names a module of that name
                        return True
            except OSError:
                continue
    return False


def _package(entry: EntryPoint) -> str:
    return "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _first_line(error: BaseException) -> str:
    said = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


MIRRORS = Registry(
    "lossbook.mirrors",
    "mirror",
    "lossbook.trackers.mirror:Mirror",
    {
        "wandb": "lossbook.trackers.wandb.mirror:WandbMirror",
        "trackio": "lossbook.trackers.trackio.mirror:TrackioMirror",
        "tensorboard": "lossbook.trackers.tensorboard.mirror:TensorBoardMirror",
        "mlflow": "lossbook.trackers.mlflow.mirror:MlflowMirror",
    },
    # Words of `--to` and `mirrors=`, and files that lie beside a mirror's cursor (`followers/<name>.json`).
    reserved=r"(?:alerts|both|import|none|watch|.*-offline)\Z",
)

#: A location belongs to the first of these that says so.
SOURCES = Registry(
    "lossbook.sources",
    "source",
    "lossbook.trackers.source:Source",
    {
        "wandb": "lossbook.trackers.wandb.cloud:WandbCloud",
        "wandb-offline": "lossbook.trackers.wandb.offline_files:WandbFiles",
        "trackio": "lossbook.trackers.trackio.source:TrackioProject",
        "tensorboard": "lossbook.trackers.tensorboard.source:TensorBoardLogs",
        "mlflow": "lossbook.trackers.mlflow.source:MlflowStore",
        "aim": "lossbook.trackers.aim.source:AimRepository",
        "swanlab": "lossbook.trackers.swanlab.source:SwanLabRuns",
        "dvclive": "lossbook.trackers.dvclive.source:DvcLiveFolders",
        "neptune": "lossbook.trackers.neptune.source:NeptuneExport",
        "logs": "lossbook.trackers.logs.source:LogFiles",
    },
    reserved=r"(?:file|https?|s3|gs|az)\Z",  # addresses of other places
)

#: A detector's name is the kind of what it finds.
DETECTORS = Registry(
    "lossbook.detectors",
    "detector",
    "lossbook.diagnosis.detector:Detector",
    {
        "nonfinite": "lossbook.diagnosis.finite:NonFinite",
        "spike": "lossbook.diagnosis.loss:LossSpike",
        "divergence": "lossbook.diagnosis.loss:Divergence",
        "plateau": "lossbook.diagnosis.loss:Plateau",
        "stall": "lossbook.diagnosis.pace:Stall",
        "throughput": "lossbook.diagnosis.pace:Throughput",
        "straggler": "lossbook.diagnosis.pace:Straggler",
        "gpu_idle": "lossbook.diagnosis.machine:GpuIdle",
        "odd_gpu": "lossbook.diagnosis.odd_gpu:OddGpu",
        "memory": "lossbook.diagnosis.machine:MemoryLimit",
        "overheating": "lossbook.diagnosis.machine:Overheating",
        "throttling": "lossbook.diagnosis.machine:Throttling",
    },
)

#: Each is turned on by a variable of its name (`lossbook.follower.sinks.variable_of`).
ALERT_SINKS = Registry(
    "lossbook.alert_sinks",
    "alert sink",
    "lossbook.follower.sinks:AlertSink",
    {
        "webhook": "lossbook.follower.webhook:Webhook",
        "command": "lossbook.follower.alert_command:AlertCommand",
    },
)

COMMANDS = Registry(
    "lossbook.commands",
    "command",
    "click:Command",
    {
        "ls": "lossbook.cli.listing:ls_command",
        "show": "lossbook.cli.showing:show_command",
        "keys": "lossbook.cli.keys:keys_command",
        "gpu": "lossbook.cli.gpu:gpu_command",
        "curve": "lossbook.cli.curve:curve_command",
        "check": "lossbook.cli.checking:check_command",
        "plot": "lossbook.cli.plotting:plot_command",
        "watch": "lossbook.cli.watching:watch_command",
        "serve": "lossbook.cli.serving:serve_command",
        "export": "lossbook.cli.exporting:export_command",
        "sql": "lossbook.cli.sql:sql_command",
        "compare": "lossbook.cli.comparing:compare_command",
        "seeds": "lossbook.cli.seeds:seeds_command",
        "best": "lossbook.cli.comparing:best_command",
        "report": "lossbook.cli.comparing:report_command",
        "tag": "lossbook.cli.labels:tag_command",
        "note": "lossbook.cli.labels:note_command",
        "rename": "lossbook.cli.labels:rename_command",
        "rm": "lossbook.cli.moving:rm_command",
        "undo": "lossbook.cli.moving:undo_command",
        "mv": "lossbook.cli.moving:mv_command",
        "sync": "lossbook.cli.syncing:sync_command",
        "import": "lossbook.cli.importing:import_command",
        "run": "lossbook.cli.running:run_command",
        "slurm": "lossbook.cli.slurm:slurm_command",
        "seal": "lossbook.cli.maintenance:seal_command",
        "verify": "lossbook.cli.maintenance:verify_command",
        "doctor": "lossbook.cli.maintenance:doctor_command",
        "completion": "lossbook.cli.maintenance:completion_command",
    },
    instances=True,
)

#: All of them: `lossbook doctor` lists what other packages add to each.
REGISTRIES = (MIRRORS, SOURCES, DETECTORS, ALERT_SINKS, COMMANDS)
