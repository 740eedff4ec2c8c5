"""`InitRequest`: what the user asked of `init()`, checked, made plain and filled from the environment.

An argument wins over an environment variable. What is said in W&B's words (its arguments, its variables) is translated
first, by `lossbook.compat.wandb`, which is loaded only then.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import NamedTuple, TypedDict

from lossbook.errors import BadArgument
from lossbook.paths import absolute_path, cache_folder, default_project, default_store, passing_store, working_directory
from lossbook.processes import host_name
from lossbook.redaction import mask_arguments
from lossbook.run.config import plain_config
from lossbook.run.console_choice import CAPTURES
from lossbook.run.messages import say
from lossbook.run.mirror_request import mirror_specs
from lossbook.run.shell import find_shell, notebook_path
from lossbook.run.text import text_of
from lossbook.run_info import Host, RunInfo

MODES = ("online", "offline", "disabled")
RESUMES = ("never", "allow", "must", "auto")
DURABILITIES = ("process", "async")


class InitArguments(TypedDict, total=False):
    """The arguments of `init()` as the user passed them, and what W&B's words become beside them.

    `entity` and `job_type` are kept for the mirrors; `previous` says what becomes of a run that goes on already;
    `mirror_modes` are the modes of mirrors that were named without one.
    """

    project: object
    name: object
    config: object
    tags: object
    group: object
    notes: object
    id: object
    store: object
    mirrors: object
    mode: object
    resume: object
    resume_step: object
    fork_from: object
    system_metrics: object
    durability: object
    console: object
    keep: object
    entity: object
    job_type: object
    previous: str | None
    mirror_modes: Mapping[str, str]


class InitRequest(NamedTuple):
    """What the user asked of `init()`.

    Attributes:
        info: what `run.json` is to say of a new run, but for its id, its attempt and a name that was not given.
        id: None for a new one.
        store: the folder's absolute path.
        resume: one of `RESUMES`.
        resume_step: the checkpoint's step.
        fork_from: the id or the name of the parent, and the step up to which its history is this run's.
        durability: one of `DURABILITIES`; None where the store's file system decides.
        console: how what is printed is kept: "auto", "fd", "stream" or "off".
        previous: what becomes of a run that goes on already: None, "return_previous", "finish_previous" or
            "create_new".
    """

    info: RunInfo
    id: str | None
    store: str
    resume: str = "never"
    resume_step: int | None = None
    fork_from: tuple[str, int] | None = None
    durability: str | None = None
    console: str = "auto"
    previous: str | None = None

    @classmethod
    def from_arguments(cls, arguments: InitArguments, wandb: Mapping[str, object] | None = None) -> InitRequest:
        """Check the arguments and make them plain, before anything is written.

        Args:
            arguments: those of `init()`.
            wandb: those of `wandb.init` that are none of `init()`.

        Raises:
            BadArgument: a word that is not among the allowed ones, or a wrong type.
            TypeError: an argument that neither Lossbook nor W&B knows.
        """
        if wandb or _is_said_in_words_of_wandb(arguments):
            arguments = import_module("lossbook.compat.wandb.init_arguments").translate(arguments, wandb or {})
        asked = arguments.get
        mirrors = mirror_specs(asked("mirrors"), modes=arguments.get("mirror_modes"))
        mode, store = asked("mode") or os.environ.get("LOSSBOOK_MODE") or "online", asked("store")
        if not asked("keep", True):
            # It waits in the cache until its mirrors have it; without a mirror there is nothing to record it for.
            mode, store = (mode, passing_store()) if mirrors else ("disabled", store)
        return cls(
            info=RunInfo(
                id="",
                name=_text("name", asked("name"), "LOSSBOOK_NAME") or "",
                project=_text("project", asked("project"), "LOSSBOOK_PROJECT") or default_project(),
                created=time.time_ns() // 1000,
                config=plain_config(asked("config")),
                tags=_tags(asked("tags")),
                group=_text("group", asked("group"), "LOSSBOOK_GROUP"),
                notes=_text("notes", asked("notes")),
                host=_this_host(),
                argv=command_line(),
                cwd=text_of(working_directory()),
                mode=_one_of("mode", mode, MODES),
                mirrors=tuple(mirrors),
                system_metrics=bool(asked("system_metrics", True)),
                script=program_path(),
                entity=_text("entity", asked("entity")),
                job_type=_text("job_type", asked("job_type")),
            ),
            id=_text("id", asked("id"), "LOSSBOOK_RUN_ID"),
            store=_store(store),
            resume=_resume(asked("resume")),
            resume_step=None if (step := asked("resume_step")) is None else _whole("resume_step", step),
            fork_from=_fork(asked("fork_from")),
            durability=_durability(asked("durability")),
            console=_capture(asked("console", True)),
            previous=arguments.get("previous"),
        )


def _is_said_in_words_of_wandb(arguments: InitArguments) -> bool:
    """Whether an argument or a variable has a meaning in W&B's package alone."""
    return (
        any(name.startswith("WANDB_") for name in os.environ)
        or arguments.get("mode") not in (None, *MODES)
        or isinstance(arguments.get("fork_from"), str)
    )


def _text(name: str, value: object, variable: str = "") -> str | None:
    """What was passed as a text, else what the environment says; None where neither says anything."""
    found = value or (os.environ.get(variable) if variable else None)
    return text_of(found) if found else None


def _tags(tags: object) -> tuple[str, ...]:
    words = tags.split(",") if isinstance(tags, str) else tags or ()
    if not isinstance(words, Iterable):
        raise BadArgument(f"tags is a list of words, not {tags!r}")
    return tuple(dict.fromkeys(word for tag in words if (word := text_of(tag).strip())))


def _resume(resume: object) -> str:
    resume = {"true": True, "false": False}.get(resume, resume) if isinstance(resume, str) else resume
    if resume is None or isinstance(resume, bool):
        return "auto" if resume else "never"
    return _one_of("resume", resume, RESUMES)


def _durability(durability: object) -> str | None:
    durability = durability or os.environ.get("LOSSBOOK_DURABILITY") or None
    return None if durability is None else _one_of("durability", durability, DURABILITIES)


def _capture(console: object) -> str:
    if not console:
        return "off"
    if console is True or console == "auto":
        console = os.environ.get("LOSSBOOK_CONSOLE", "").strip().lower() or "auto"
    return _one_of("console", console, CAPTURES)


def _fork(fork_from: object) -> tuple[str, int] | None:
    if fork_from is None:
        return None
    try:
        parent, step = fork_from if isinstance(fork_from, Iterable) else ()
    except ValueError:
        raise BadArgument(f"fork_from is a pair (run, step), not {fork_from!r}") from None
    return str(getattr(parent, "id", parent)), _whole("the step of fork_from", step)


def _store(store: object) -> str:
    if store is not None and not isinstance(store, (str, os.PathLike)):
        raise BadArgument(f"store is the path of a folder, not {store!r}")
    location = os.fspath(store) if store is not None else default_store()
    if "://" in location and not location.startswith("file://"):
        raise BadArgument(
            f"the store {location!r} is no folder: train into a local store and copy it there, or name a folder"
        )
    location = location.removeprefix("file://")
    if not os.path.isabs(location) and not os.path.isdir(working_directory()):
        store = os.path.join(cache_folder(), "rescued")
        say(
            f"the working directory has been removed; this run is kept in {store}: `lossbook --store {store} ls` shows it"
        )
        return store
    return absolute_path(location)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadArgument(f"{name}={value!r} is not known: use one of {', '.join(allowed)}")
    return value


def _whole(name: str, value: object) -> int:
    try:
        return int(value)  # type: ignore[call-overload,no-any-return]  # what is no number raises, and is said below
    except (TypeError, ValueError):
        raise BadArgument(f"{name} is a whole number, not {value!r}") from None


def command_line() -> tuple[str, ...]:
    """How this process was started, secrets masked, as JSON can hold it: an argument need not be UTF-8."""
    return tuple(map(text_of, mask_arguments(list(getattr(sys, "orig_argv", sys.argv)))))


def program_path() -> str | None:
    """The script that this process runs; in a notebook the notebook, where that is known."""
    if find_shell() is not None:  # its first argument is the kernel's own program
        path = notebook_path()
        return text_of(absolute_path(path)) if path else None
    return text_of(absolute_path(sys.argv[0])) if sys.argv and sys.argv[0] else None


def _this_host() -> Host:
    return Host(
        name=text_of(host_name()),
        user=_user(),
        os=" ".join(os.uname()[0:3:2]),
        python=sys.version.split()[0],
        cpus=os.cpu_count(),
    )


def _user() -> str | None:
    import getpass

    try:
        return text_of(getpass.getuser())
    except Exception:  # no such user in this container
        return None
