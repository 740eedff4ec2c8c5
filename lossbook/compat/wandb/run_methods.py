"""The words of a W&B run that a Lossbook run has no word of its own for, so that code written for W&B runs as it is.

`Run` inherits them. None of them raises into training but `use_artifact` and `use_model`, whose answer is needed to
go on. What is not supported says so once. Artifacts and the watching of models live in rooms above this one; the
package's face tells how to reach them (`find_above`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lossbook.journal.writer import Journal
from lossbook.paths import RunFolder, update_run_json
from lossbook.run.config import plain
from lossbook.run.messages import say_once
from lossbook.run.values import describe

#: How long the end of a run waits for copies to a network file system, in seconds.
COPY_SECONDS = 10.0
#: Finds a function of a room above by its name; the package's face sets it.
find_above: Callable[[str], Callable[..., Any]] | None = None


class Familiar:
    """What `Run` inherits. The attributes are the run's own."""

    id: str
    project: str
    path: str
    mode: str
    config: MutableMapping[str, Any]
    _folder: RunFolder
    _journal: Journal
    _rank: int
    _name: str
    _identity: dict[str, Any]
    _kept: dict[str, tuple[str, tuple[int, int]]]
    _copying: list[threading.Thread]

    # -- who the run is -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call the run; may be set at any time."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = str(name)
        self._identify(name=self._name)

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find the run by; may be set at any time."""
        return tuple(self._identity.get("tags") or ())

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        words = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
        self._identify(tags=list(dict.fromkeys(words)))

    @property
    def notes(self) -> str | None:
        """What was noted about the run as a whole; may be set at any time."""
        return self._identity.get("notes")

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._identify(notes=None if notes is None else str(notes))

    @property
    def group(self) -> str | None:
        """What the run belongs to, where that was said."""
        return self._identity.get("group")

    @property
    def job_type(self) -> str | None:
        """What kind of work the run does, where that was said ("train", "eval")."""
        return self._identity.get("job_type")

    @property
    def entity(self) -> str:
        """The W&B team or user that a mirror delivers to; empty where none was named."""
        return str(self._identity.get("entity") or "")

    @property
    def url(self) -> str | None:
        """The run's folder as a `file://` address; None when nothing is recorded."""
        return _address(self.path)

    @property
    def project_url(self) -> str | None:
        """The project's folder as a `file://` address; None when nothing is recorded."""
        return _address(os.path.dirname(self.path))

    def get_url(self) -> str | None:
        """`url`, as W&B calls it."""
        return self.url

    @property
    def dir(self) -> str:
        """A folder inside the run's folder for files of the training's own; made when it is first asked for."""
        if not self.path:
            return os.getcwd()
        try:
            os.makedirs(self._folder.files, exist_ok=True)
        except OSError as error:
            self._warn("dir", f"{self._folder.files} could not be made ({error.strerror or error})")
        return self._folder.files

    @property
    def start_time(self) -> float:
        """When the run began, in Unix seconds."""
        return float(self._identity.get("created") or 0) / 1e6

    @property
    def offline(self) -> bool:
        """Whether its mirrors wait."""
        return self.mode == "offline"

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded."""
        return not self.path

    @property
    def sweep_id(self) -> str | None:
        """None: a sweep of W&B's has no counterpart here."""
        return None

    sweep_url = sweep_id

    @property
    def starting_step(self) -> int:
        """The first step of this attempt: 0, or the one behind the checkpoint that it was resumed from."""
        attempts = self._identity.get("attempts") or [{}]
        resumed = attempts[-1].get("resume_step")
        return 0 if resumed is None else int(resumed) + 1

    @property
    def sync_dir(self) -> str:
        """The run's folder."""
        return self.path

    @property
    def config_static(self) -> dict[str, Any]:
        """A plain dictionary of the configuration."""
        return dict(self.config)

    @property
    def settings(self) -> SimpleNamespace:
        """What W&B's users read from a run's settings; changing it changes nothing."""
        return SimpleNamespace(
            mode=self.mode,
            project=self.project,
            entity=self.entity,
            run_id=self.id,
            run_name=self.name,
            run_group=self.group,
            run_tags=self.tags,
            run_notes=self.notes,
            run_job_type=self.job_type,
            sync_dir=self.path,
        )

    def _identify(self, **changes: Any) -> None:
        """Change what `run.json` says of the run."""
        self._identity.update(changes)
        if not self.path or self._rank != 0:
            return

        def write() -> None:
            try:
                update_run_json(self._folder, lambda identity: identity.update(plain(changes)), durable=False)
            except Exception as error:
                self._warn("identity", f"{', '.join(changes)} could not be changed ({describe(error)})")

        self._away_from_training(write)

    def _away_from_training(self, work: Callable[[], None]) -> None:
        """Do it now, or in a thread where the store's file system may hang (`durability="async"`)."""
        if type(self._journal) is Journal:
            work()
        else:
            thread = threading.Thread(target=work, name="lossbook-files", daemon=True)
            self._copying = [*(one for one in self._copying if one.is_alive()), thread]
            thread.start()

    # -- files --------------------------------------------------------------------------------------------------

    def save(self, glob_str: Any = None, base_path: Any = None, policy: str = "live", glob: bool = True) -> list[str]:
        """Copy files into the run, named by their content; never raises.

        Args:
            glob_str: a path or a pattern such as "checkpoints/*.pt".
            base_path: kept names are relative to it; default the working directory, and for an absolute path the
                folder that it names.
            policy: "now" copies once; "live" and "end" copy once more at the end if the file has changed by then.
            glob: whether `*`, `?` and `[` have their meaning.

        Returns:
            The files that were kept.
        """
        if glob_str is None or not self.path:  # `run.save()` once wrote a run's name
            return []
        from lossbook.run.saved_files import files_to_keep

        found: list[str] = []
        try:
            for path, name in files_to_keep(glob_str, base_path, is_pattern=glob):
                found.append(path)
                self._away_from_training(lambda path=path, name=name: self._keep(path, name, policy))  # type: ignore[misc]
            if not found:
                self._warn("save", f"save({str(glob_str)!r}) found no file")
        except Exception as error:
            self._warn("save", f"save({str(glob_str)!r}) could not keep every file ({describe(error)})")
        return found

    def _keep(self, path: str, name: str, policy: str) -> None:
        from lossbook.run.saved_files import keep_file

        try:
            seen = os.stat(path)
            kept = keep_file(self._folder, path)
            self._event("file", {"path": name, "file": kept.path, "bytes": kept.size_bytes}, step=self._last_step())
            if policy != "now":
                self._kept[path] = (name, (seen.st_mtime_ns, seen.st_size))
        except OSError as error:
            self._warn("save", f"{path} could not be kept ({error.strerror or error})")

    def _finish_files(self) -> None:
        """Copy again what has changed since it was saved; give up on a file system that does not answer."""
        deadline = time.monotonic() + COPY_SECONDS
        self._wait_for_copies(deadline)
        if self._kept:
            self._away_from_training(self._keep_changed_files)
            self._wait_for_copies(deadline)

    def _wait_for_copies(self, deadline: float) -> None:
        for thread in self._copying:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._copying):
            self._warn("save", f"saved files may be missing in {self.path}: its file system does not answer")

    def _keep_changed_files(self) -> None:
        for path, (name, before) in list(self._kept.items()):
            try:
                now = os.stat(path)
            except OSError:  # what was saved stays saved
                continue
            if (now.st_mtime_ns, now.st_size) != before:
                self._keep(path, name, "now")

    def restore(self, name: str, run_path: str | None = None, replace: bool = False, root: str | None = None) -> Any:
        """Not supported: says so once, and returns None."""
        say_once("restore() is not supported: files that save() kept lie in the run's folder, under media/")
        return None

    def log_code(self, root: str | None = ".", name: str | None = None, *_: Any, **__: Any) -> None:
        """Nothing to do: the script, the commit and its uncommitted changes are kept with every run."""
        say_once(
            "log_code() keeps nothing more: the script and the git diff are kept with every run; save() takes files"
        )

    def write_logs(self, text: str) -> None:
        """Add a line to what the run printed."""
        if self.path:
            self._keep_console(f"{text}\n".encode("utf-8", "replace"))

    # -- models and artifacts -----------------------------------------------------------------------------------

    def watch(
        self,
        models: Any,
        criterion: Any = None,
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
        self._call("watch", models, log=log, log_freq=log_freq, log_graph=log_graph)

    def unwatch(self, models: Any = None) -> None:
        """Stop logging these models, or all of them."""
        self._call("unwatch", models)

    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Any:
        """Keep a version of an `Artifact`, or of a file or folder, in the store; never raises.

        Returns:
            The artifact, with its version; without one where it could not be kept.
        """
        return self._call("log_artifact", artifact_or_path, name=name, type=type, aliases=aliases, tags=tags)

    def use_artifact(
        self,
        artifact_or_name: Any,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        use_as: str | None = None,
    ) -> Any:
        """Record that the run uses an artifact, and return it.

        Args:
            artifact_or_name: an artifact, or "name", "name:v3", "name:alias", also behind "project/".

        Raises:
            StoreError: there is no such artifact in the store.
        """
        return self._reach("use_artifact", artifact_or_name, type=type)

    def record_artifact(self, version: dict[str, Any]) -> None:
        """Record which version of an artifact the run made or used; `log_artifact` and `use_artifact` call it."""
        if self.path:
            self._event("artifact", version, step=self._last_step())

    def upsert_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        distributed_id: str | None = None,
    ) -> Any:
        """`log_artifact`: every rank may log the same files, and they are one version."""
        return self.log_artifact(artifact_or_path, name, type, aliases)

    def finish_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
        distributed_id: str | None = None,
    ) -> Any:
        """`log_artifact`: a version is complete when it is logged."""
        return self.log_artifact(artifact_or_path, name, type, aliases)

    def link_artifact(self, artifact: Any, target_path: str, aliases: Sequence[str] | None = None) -> Any:
        """Not supported: says so once, and returns the artifact."""
        say_once("link_artifact() is not supported: there is no model registry here; give the artifact an alias")
        return artifact

    def log_model(self, path: Any, name: str | None = None, aliases: Sequence[str] | None = None) -> Any:
        """Keep a model's file or folder as an artifact of type "model"."""
        return self.log_artifact(path, name or f"model-{self.id}", "model", aliases)

    def use_model(self, name: str) -> str:
        """The path of a model that `log_model` kept: its file, or its folder where it has several.

        Raises:
            StoreError: there is no such artifact in the store.
        """
        return str(self._reach("use_model", name))

    def link_model(self, path: Any, registered_model_name: str, *_: Any, **__: Any) -> Any:
        """`log_model` under that name: there is no registry here."""
        return self.log_model(path, registered_model_name)

    def _reach(self, word: str, *arguments: Any, **named: Any) -> Any:
        if find_above is None:
            raise RuntimeError("lossbook.run is used without lossbook")
        return find_above(word)(self, *arguments, **named)

    def _call(self, word: str, *arguments: Any, **named: Any) -> Any:
        """As `_reach`, for words that must not raise into training."""
        try:
            return self._reach(word, *arguments, **named)
        except Exception as error:
            self._warn(word, f"{word}() did not work ({describe(error)}); training goes on")
            return arguments[0] if arguments else None

    # -- what has no counterpart --------------------------------------------------------------------------------

    def mark_preempting(self) -> None:
        """Note that the machine is about to be taken away."""
        self.note("preempting")

    def join(self, exit_code: int | None = None) -> None:
        """`finish`, as W&B once called it."""
        self.finish(exit_code)

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Not supported: says so once, and returns False."""
        say_once("display() is not supported: `lossbook show` shows a run")
        return False

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """A link to the run's folder."""
        return f'<a href="{self.url or ""}">{self.name}</a>'

    def status(self) -> None:
        """Nothing to wait for: what was logged is in the run already."""

    def pin_config_keys(self, keys: Sequence[str] = ()) -> None:
        """Nothing to do: it arranges a page of W&B's."""

    if TYPE_CHECKING:  # what the run itself has

        def note(self, text: str) -> None: ...
        def finish(self, state: str | int | None = None, *, exit_code: int | None = None) -> None: ...
        def _warn(self, key: str, sentence: str, *, step: int | None = None) -> None: ...
        def _event(self, kind: str, value: dict[str, Any], *, step: int | None = None) -> None: ...
        def _last_step(self, step: int | None = None) -> int | None: ...
        def _keep_console(self, text: bytes) -> None: ...


class AlertPause:
    """Alerts of one title that come again too soon (`wait_duration`)."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def holds(self, title: str, wait_duration: Any) -> bool:
        """Whether this one is to be left out: seconds or a `timedelta` have not passed since the last of its title."""
        convert = getattr(wait_duration, "total_seconds", None)
        try:
            seconds = float(convert() if callable(convert) else wait_duration or 0)
        except (TypeError, ValueError):
            seconds = 0.0
        now = time.monotonic()
        last = self._last.get(title)
        if last is not None and now - last < seconds:
            return True
        self._last[title] = now
        return False


def _address(path: str) -> str | None:
    if not path:
        return None
    from urllib.parse import quote

    return f"file://{quote(os.path.abspath(path))}"


def state_of(exit_code: Any) -> str:
    """The state that an exit code of `finish()` means."""
    return "failed" if exit_code else "finished"
