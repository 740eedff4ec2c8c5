"""The words of W&B's module: each is the current run's, or stands for something that Lossbook does otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lossbook.deprecation import warn_deprecated
from lossbook.errors import LossbookError
from lossbook.run import Run, current_run, finish as finish_run, say_once

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.compat.wandb.artifact import Artifact
    from lossbook.reading import RecordedRun


class AlertLevel(StrEnum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Settings:
    """Settings of `init(settings=…)`; takes every name that W&B's takes, and knows those that mean something here."""

    def __init__(self, **settings: object) -> None:
        vars(self).update(settings)

    def __getattr__(self, name: str) -> Any:
        # What was not set is None, as most of W&B's settings are: of any type that a script compares it with.
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class CurrentMapping(MutableMapping[str, Any]):
    """`lossbook.config` and `lossbook.summary` before `init()`; afterwards it passes everything to the run's."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _of_run(self) -> MutableMapping[str, Any]:
        run = current_run()
        if run is None:
            say_once(f"{self._name} before init() is empty and takes nothing: call init() first")
            return {}
        return run.config if self._name == "config" else run.summary

    def __getitem__(self, key: str) -> Any:
        return self._of_run()[key]

    def __setitem__(self, key: str, value: object) -> None:
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

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return f"<lossbook {self._name} before init()>"

    def update(self, *others: Any, **named: object) -> None:
        """Pass the changes to the current run."""
        found = self._of_run()
        if current_run() is not None:
            found.update(*others, **named)

    def _as_dict(self) -> dict[str, Any]:
        return dict(self._of_run())

    as_dict = _as_dict


def _run(word: str) -> Run | None:
    run = current_run()
    if run is None:
        say_once(f"{word}() before init() does nothing: call lossbook.init() first")
    return run


def _needed(word: str) -> Run:
    run = current_run()
    if run is None:
        raise LossbookError(f"{word}() needs a run: call lossbook.init() first")
    return run


def alert(title: str, text: str = "", level: str | None = "warning", wait_duration: object = None) -> None:
    """`Run.alert` of the current run."""
    if (run := _run("alert")) is not None:
        run.alert(title, text, level, wait_duration)


def define_metric(
    name: str,
    step_metric: str | None = None,
    step_sync: bool | None = None,
    hidden: bool | None = None,
    summary: str | None = None,
    goal: str | None = None,
    **more: str | bool | None,
) -> None:
    """`Run.define_metric` of the current run."""
    if (run := _run("define_metric")) is not None:
        given = {"step_metric": step_metric, "step_sync": step_sync, "hidden": hidden, "summary": summary, "goal": goal}
        run.define_metric(name, **{**given, **more})  # type: ignore[arg-type]  # passed on as they were given


def save(glob_str: object = None, base_path: object = None, policy: str = "live", glob: bool = True) -> list[str]:
    """`Run.save` of the current run."""
    run = _run("save")
    return [] if run is None else run.save(glob_str, base_path, policy, glob)


def watch(models: object, *arguments: object, **named: object) -> None:
    """`run.watch` of the current run."""
    if (run := _run("watch")) is not None:
        run.watch(models, *arguments, **named)


def unwatch(models: object = None) -> None:
    """`run.unwatch` of the current run."""
    if (run := _run("unwatch")) is not None:
        run.unwatch(models)


def log_artifact(
    artifact_or_path: Artifact | str | os.PathLike[str], *arguments: object, **named: object
) -> Artifact | str | os.PathLike[str]:
    """`run.log_artifact` of the current run."""
    if (run := _run("log_artifact")) is None:
        return artifact_or_path
    logged: Artifact | str | os.PathLike[str] = run.log_artifact(artifact_or_path, *arguments, **named)
    return logged


def log_model(path: str | os.PathLike[str], *arguments: object, **named: object) -> object:
    """`run.log_model` of the current run."""
    run = _run("log_model")
    return None if run is None else run.log_model(path, *arguments, **named)


def link_model(path: str | os.PathLike[str], *arguments: object, **named: object) -> object:
    """`run.link_model` of the current run."""
    run = _run("link_model")
    return None if run is None else run.link_model(path, *arguments, **named)


def use_artifact(artifact_or_name: Artifact | str, *arguments: object, **named: object) -> Artifact:
    """`run.use_artifact` of the current run.

    Raises:
        LossbookError: there is no run, or no such artifact.
    """
    found: Artifact = _needed("use_artifact").use_artifact(artifact_or_name, *arguments, **named)
    return found


def use_model(name: str) -> str:
    """`run.use_model` of the current run.

    Raises:
        LossbookError: there is no run, or no such model.
    """
    return str(_needed("use_model").use_model(name))


def mark_preempting() -> None:
    """`run.mark_preempting` of the current run."""
    if (run := _run("mark_preempting")) is not None:
        run.mark_preempting()


def restore(name: str, *arguments: object, **named: object) -> None:
    """`run.restore` of the current run."""
    if (run := _run("restore")) is not None:
        run.restore(name)


def join(exit_code: int | None = None) -> None:
    """`finish`, as W&B once called it; deprecated, as there."""
    warn_deprecated("wandb.join()", instead="wandb.finish()", removed_in="0.3")
    finish_run(exit_code=exit_code)


def login(*arguments: object, **named: object) -> bool:
    """Nothing to do: a Lossbook run needs no account. Says so once, and returns True."""
    say_once("login() does nothing: a run needs no account; a wandb mirror uses what `wandb login` has stored")
    return True


class Api:
    """`wandb.Api()`: the few questions of it that name runs and artifacts; `lossbook.open()` answers all others.

    What it returns are Lossbook's own recorded runs.
    """

    def __init__(self, overrides: object = None, timeout: object = None, api_key: object = None) -> None:
        say_once("Api() reads the local store; lossbook.open() is the whole of it")

    @property
    def book(self) -> Book:
        """The store of the current run, else the default one."""
        from lossbook.book import open

        run = current_run()
        return open(os.path.dirname(os.path.dirname(run.path)) if run is not None and run.path else None)

    def runs(
        self, path: str | None = None, filters: object = None, order: str | None = None, **_: object
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
        from lossbook.compat.wandb.artifact_store import ArtifactStore

        run = current_run()
        return ArtifactStore(self.book.store).find(name, run.project if run is not None else "")
