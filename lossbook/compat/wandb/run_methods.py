"""The words of a W&B run that a Lossbook run has no word of its own for, so that code written for W&B runs as it is.

`Run` finds them here by name. None of them raises into training but `use_artifact` and `use_model`, whose answer is
needed to go on. What is not supported says so once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from lossbook.compat.wandb import artifact_store
from lossbook.compat.wandb.artifact import Artifact
from lossbook.compat.wandb.unknown_names import RUN, RUN_PRIVATE, answer
from lossbook.deprecation import warn_deprecated
from lossbook.handlers import is_of_handler
from lossbook.run import Run, describe, say_once

_Result = TypeVar("_Result")

#: What `run.entity` is where none was named: libraries make paths of it and refuse an empty one.
NO_ENTITY = "local"


def find_word(run: Run, name: str) -> object:
    """What `run.name` is: a word of W&B's, bound to the run, or what stands in for one that is not here.

    Raises:
        AttributeError: it is a private name that W&B's run has not either, or one that libraries probe objects for.
    """
    if not name.startswith("_") and hasattr(RunMethods, name):
        return getattr(RunMethods(run), name)
    return answer("run", name, known=(*dir(run), *dir(RunMethods)), words=RUN, private=RUN_PRIVATE)


class RunMethods:
    """W&B's words, for one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    # -- who the run is -----------------------------------------------------------------------------------------

    @property
    def job_type(self) -> str | None:
        """What kind of work the run does, where that was said ("train", "eval")."""
        return self._run.info.job_type

    @property
    def entity(self) -> str:
        """The W&B team or user that a mirror delivers to; "local" where none was named."""
        return self._run.info.entity or NO_ENTITY

    @property
    def url(self) -> str | None:
        """The run's folder as a `file://` address; None when nothing is recorded."""
        return _address(self._run.path)

    @property
    def project_url(self) -> str | None:
        """The project's folder as a `file://` address; None when nothing is recorded."""
        return _address(os.path.dirname(self._run.path))

    def get_url(self) -> str | None:
        """`url`, as a method."""
        return self.url

    def get_project_url(self) -> str | None:
        """`project_url`, as a method."""
        return self.project_url

    def project_name(self) -> str:
        """`project`, as a method."""
        return self._run.project

    @property
    def dir(self) -> str:
        """A folder inside the run's folder for files of the training's own; made when it is first asked for."""
        run = self._run
        if not run.path:
            return os.getcwd()
        folder = run.folder.files
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            run.warn("dir", f"{folder} could not be made ({error.strerror or error})")
        return folder

    @property
    def start_time(self) -> float:
        """When the run began, in Unix seconds."""
        return self._run.info.created / 1e6

    @property
    def offline(self) -> bool:
        """Whether its mirrors wait."""
        return self._run.mode == "offline"

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return not self._run.path

    @property
    def sweep_id(self) -> str | None:
        """None: a sweep of W&B's has no counterpart here."""
        return None

    sweep_url = sweep_id

    def get_sweep_url(self) -> str | None:
        """None: a sweep of W&B's has no counterpart here."""
        return None

    @property
    def starting_step(self) -> int:
        """The first step of this attempt: 0, or the one behind the checkpoint that it was resumed from."""
        resumed = self._run.info.last_attempt.resume_step
        return 0 if resumed is None else resumed + 1

    @property
    def sync_dir(self) -> str:
        """The run's folder."""
        return self._run.path

    @property
    def config_static(self) -> dict[str, Any]:
        """A plain dictionary of the configuration."""
        return self._run.config.as_dict()

    @property
    def settings(self) -> SimpleNamespace:
        """What W&B's users read from a run's settings; changing it changes nothing."""
        run = self._run
        return SimpleNamespace(
            mode=run.mode,
            project=run.project,
            entity=self.entity,
            run_id=run.id,
            run_name=run.name,
            run_group=run.group,
            run_tags=run.tags,
            run_notes=run.notes,
            run_job_type=self.job_type,
            sync_dir=run.path,
        )

    # -- files --------------------------------------------------------------------------------------------------

    def restore(self, name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> None:
        """Not supported: says so once, and returns None."""
        say_once("restore() is not supported: files that save() kept lie in the run's folder, under media/")

    def log_code(self, root: str | None = ".", name: str | None = None, *_: object, **__: object) -> None:
        """Nothing to do: the script, the commit and its uncommitted changes are kept with every run."""
        say_once(
            "log_code() keeps nothing more: the script and the git diff are kept with every run; save() takes files"
        )

    def write_logs(self, text: str) -> None:
        """Add a line to what the run printed."""
        self._run.record_console(f"{text}\n".encode("utf-8", "replace"))

    # -- models and artifacts -----------------------------------------------------------------------------------

    def watch(
        self,
        models: object,
        criterion: object = None,
        log: str | None = "gradients",
        log_freq: int = 1000,
        idx: int | None = None,
        log_graph: bool = False,
    ) -> None:
        """Log gradients and parameters of a torch model, as norms and histograms per layer; never raises.

        Args:
            models: a `torch.nn.Module`, or several.
            log: "gradients", "parameters" or "all".
            log_freq: every so many backward passes.
            criterion, idx, log_graph: taken as W&B takes them; a graph is not drawn.
        """

        def begin() -> None:
            from lossbook.compat.wandb import watching  # it needs torch

            watching.watch(self._run, models, log=log, log_freq=log_freq, log_graph=log_graph)

        self._harmless("watch", begin, None)

    def unwatch(self, models: object = None) -> None:
        """Stop logging these models, or all of them."""

        def end() -> None:
            from lossbook.compat.wandb import watching

            watching.unwatch(self._run, models)

        self._harmless("unwatch", end, None)

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Artifact | str | os.PathLike[str]:
        """Keep a version of an `Artifact`, or of a file or folder, in the store; never raises.

        Returns:
            The artifact, with its version; what was passed where it could not be kept.
        """

        def keep() -> Artifact:
            return artifact_store.log_artifact(
                self._run, artifact_or_path, name=name, type=type, aliases=aliases, tags=tags
            )

        return self._harmless("log_artifact", keep, artifact_or_path)

    def use_artifact(
        self,
        artifact_or_name: Artifact | str,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Record that the run uses an artifact, and return it.

        Args:
            artifact_or_name: an artifact, or "name", "name:v3", "name:alias", also behind "project/".

        Raises:
            StoreError: there is no such artifact in the store.
        """
        return artifact_store.use_artifact(self._run, artifact_or_name, type=type)

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact | str | os.PathLike[str]:
        """`log_artifact`: every rank may log the same files, and they are one version."""
        return self.log_artifact(artifact_or_path, name, type, aliases)

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact | str | os.PathLike[str]:
        """`log_artifact`: a version is complete when it is logged."""
        return self.log_artifact(artifact_or_path, name, type, aliases)

    def link_artifact(self, artifact: _Result, target_path: str, aliases: Sequence[str] | None = None) -> _Result:
        """Not supported: says so once, and returns the artifact."""
        say_once("link_artifact() is not supported: there is no model registry here; give the artifact an alias")
        return artifact

    def log_model(
        self, path: str | os.PathLike[str], name: str | None = None, aliases: Sequence[str] | None = None
    ) -> Artifact | str | os.PathLike[str]:
        """Keep a model's file or folder as an artifact of type "model"."""
        return self.log_artifact(path, name or f"model-{self._run.id}", "model", aliases)

    def use_model(self, name: str) -> str:
        """The path of a model that `log_model` kept: its file, or its folder where it has several.

        Raises:
            StoreError: there is no such artifact in the store.
        """
        return artifact_store.use_model(self._run, name)

    def link_model(
        self, path: str | os.PathLike[str], registered_model_name: str, *_: object, **__: object
    ) -> Artifact | str | os.PathLike[str]:
        """`log_model` under that name: there is no registry here."""
        return self.log_model(path, registered_model_name)

    def _harmless(self, word: str, work: Callable[[], _Result], otherwise: _Result) -> _Result:
        """Do what must not raise into training."""
        try:
            return work()
        except Exception as error:
            if is_of_handler(error):
                raise
            self._run.warn(word, f"{word}() did not work ({describe(error)}); training goes on")
            return otherwise

    # -- what has no counterpart --------------------------------------------------------------------------------

    def mark_preempting(self) -> None:
        """Say that the machine is about to be taken away: unless the run finishes, its state is `preempted`."""
        value = {"message": "the machine is about to be taken away", "preempting": True}
        self._run.record_event("warning", value, step=self._run.last_step)

    def join(self, exit_code: int | None = None) -> None:
        """`finish`, as W&B once called it; deprecated, as there."""
        warn_deprecated("run.join()", instead="run.finish()", removed_in="0.3")
        self._run.finish(exit_code=exit_code)

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Not supported: says so once, and returns False."""
        say_once("display() is not supported: `lossbook show` shows a run")
        return False

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """A link to the run's folder."""
        return f'<a href="{self.url or ""}">{self._run.name}</a>'

    def status(self) -> None:
        """Nothing to wait for: what was logged is in the run already."""

    def pin_config_keys(self, keys: Sequence[str] = ()) -> None:
        """Nothing to do: it arranges a page of W&B's."""


def _address(path: str) -> str | None:
    if not path:
        return None
    from urllib.parse import quote

    return f"file://{quote(os.path.abspath(path))}"
