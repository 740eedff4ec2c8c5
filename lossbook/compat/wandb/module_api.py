"""The module-level words of W&B: each is the current run's, or stands for something that Lossbook does otherwise."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lossbook.errors import LossbookError
from lossbook.paths import new_run_id
from lossbook.run import init
from lossbook.run.messages import say_once
from lossbook.run.run import Run

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.compat.wandb.artifact import Artifact
    from lossbook.reading.run import RecordedRun


class AlertLevel(StrEnum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Settings:
    """Settings of `init(settings=…)`; takes every name that W&B's takes, and knows those that mean something here."""

    def __init__(self, **settings: Any) -> None:
        vars(self).update(settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class CurrentMapping(MutableMapping[str, Any]):
    """`lossbook.config` and `lossbook.summary` before `init()`; afterwards it passes everything to the run's."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _of_run(self) -> Any:
        run = init.current
        if run is None:
            say_once(f"{self._name} before init() is empty and takes nothing: call init() first")
            return {}
        return getattr(run, self._name)

    def __getitem__(self, key: str) -> Any:
        return self._of_run()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._of_run()[key] = value

    def __delitem__(self, key: str) -> None:
        self._of_run().pop(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._of_run())

    def __len__(self) -> int:
        return len(self._of_run())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._of_run(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return f"<lossbook {self._name} before init()>"

    def update(self, *others: Any, **named: Any) -> None:
        """Pass the changes to the current run."""
        found = self._of_run()
        if init.current is not None:
            found.update(*others, **named)


def _run(word: str) -> Run | None:
    if init.current is None:
        say_once(f"{word}() before init() does nothing: call lossbook.init() first")
    return init.current


def alert(title: str, text: str = "", level: str | None = "warning", wait_duration: Any = None) -> None:
    """`Run.alert` of the current run."""
    run = _run("alert")
    if run is not None:
        run.alert(title, text, level, wait_duration)


def define_metric(name: str, *arguments: Any, **named: Any) -> None:
    """`Run.define_metric` of the current run."""
    run = _run("define_metric")
    if run is not None:
        run.define_metric(name, *arguments, **named)


def save(glob_str: Any = None, base_path: Any = None, policy: str = "live", glob: bool = True) -> list[str]:
    """`Run.save` of the current run."""
    run = _run("save")
    return [] if run is None else run.save(glob_str, base_path, policy, glob)


def watch(models: Any, *arguments: Any, **named: Any) -> None:
    """`Run.watch` of the current run."""
    run = _run("watch")
    if run is not None:
        run.watch(models, *arguments, **named)


def unwatch(models: Any = None) -> None:
    """`Run.unwatch` of the current run."""
    run = _run("unwatch")
    if run is not None:
        run.unwatch(models)


def log_artifact(artifact_or_path: Any, *arguments: Any, **named: Any) -> Any:
    """`Run.log_artifact` of the current run."""
    run = _run("log_artifact")
    return artifact_or_path if run is None else run.log_artifact(artifact_or_path, *arguments, **named)


def log_model(path: Any, *arguments: Any, **named: Any) -> Any:
    """`Run.log_model` of the current run."""
    run = _run("log_model")
    return None if run is None else run.log_model(path, *arguments, **named)


def link_model(path: Any, *arguments: Any, **named: Any) -> Any:
    """`Run.link_model` of the current run."""
    run = _run("link_model")
    return None if run is None else run.link_model(path, *arguments, **named)


def use_artifact(artifact_or_name: Any, *arguments: Any, **named: Any) -> Artifact:
    """`Run.use_artifact` of the current run.

    Raises:
        LossbookError: there is no run, or no such artifact.
    """
    found: Artifact = _needed("use_artifact").use_artifact(artifact_or_name, *arguments, **named)
    return found


def use_model(name: str) -> str:
    """`Run.use_model` of the current run.

    Raises:
        LossbookError: there is no run, or no such model.
    """
    return _needed("use_model").use_model(name)


def _needed(word: str) -> Run:
    if init.current is None:
        raise LossbookError(f"{word}() needs a run: call lossbook.init() first")
    return init.current


def mark_preempting() -> None:
    """`Run.mark_preempting` of the current run."""
    run = _run("mark_preempting")
    if run is not None:
        run.mark_preempting()


def restore(name: str, *arguments: Any, **named: Any) -> Any:
    """`Run.restore` of the current run."""
    run = _run("restore")
    return None if run is None else run.restore(name)


def login(*arguments: Any, **named: Any) -> bool:
    """Nothing to do: a Lossbook run needs no account. Says so once, and returns True."""
    say_once("login() does nothing: a run needs no account; a wandb mirror uses what `wandb login` has stored")
    return True


class Api:
    """`wandb.Api()`: the few questions of it that name runs and artifacts; `lossbook.open()` answers all others.

    What it returns are Lossbook's own recorded runs.
    """

    def __init__(self, overrides: Any = None, timeout: Any = None, api_key: Any = None) -> None:
        say_once("Api() reads the local store; lossbook.open() is the whole of it")

    @property
    def book(self) -> Book:
        """The store of the current run, else the default one."""
        import os

        from lossbook.book import open

        run = init.current
        return open(os.path.dirname(os.path.dirname(run.path)) if run is not None and run.path else None)

    def runs(
        self, path: str | None = None, filters: Any = None, order: str | None = None, **_: Any
    ) -> list[RecordedRun]:
        """The runs of "entity/project" or of all projects, the newest first.

        Args:
            filters: not supported, and said so once; `lossbook.open().runs(where=…)` filters.
            order: "+created_at" for the oldest first.
        """
        if filters:
            say_once("filters of Api().runs() are not supported: use lossbook.open().runs(where=…)")
        found = self.book.runs(project=path.split("/")[-1] if path else None)
        return found[::-1] if order in ("created_at", "+created_at") else found

    def run(self, path: str) -> RecordedRun:
        """The run of "entity/project/id", or of "project/id" or an id alone.

        Raises:
            UnknownRun: there is none.
        """
        *before, ref = str(path).strip("/").replace("/runs/", "/").split("/")
        return self.book.run(ref, project=before[-1] if before else None)

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The artifact of "entity/project/name:alias".

        Raises:
            StoreError: there is none.
        """
        from lossbook.compat.wandb.artifact_store import Shelf

        run = init.current
        return Shelf(self.book.store).find(name, run.project if run is not None else "")


class Util:
    """What training code takes from `wandb.util`."""

    @staticmethod
    def generate_id(length: int = 8) -> str:
        """A new run id: letters and digits."""
        text = ""
        while len(text) < length:
            text += new_run_id()
        return text[:length]
