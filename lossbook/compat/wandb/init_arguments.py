"""Translates the arguments and environment variables of `wandb.init` into those of `init()`.

An argument of Lossbook's own wins over one of W&B's, a `LOSSBOOK_` variable over a `WANDB_` one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from lossbook.errors import BadArgument
from lossbook.paths import DEFAULT_STORE
from lossbook.run import plain_config, say_once

if TYPE_CHECKING:
    from lossbook.run import InitArguments


class WandbArguments(TypedDict, total=False):
    """The arguments of `wandb.init` (0.31) that are none of Lossbook's own, older ones included."""

    entity: str | None
    dir: str | os.PathLike[str] | None
    job_type: str | None
    settings: object
    reinit: bool | str | None
    resume_from: str | None
    config_exclude_keys: Sequence[str] | None
    config_include_keys: Sequence[str] | None
    save_code: bool | None
    sync_tensorboard: bool | None
    tensorboard: bool | None
    monitor_gym: bool | None
    allow_val_change: bool | None
    anonymous: object
    force: bool | None
    magic: object


class TrackioArguments(TypedDict, total=False):
    """The arguments of `trackio.init` (0.43) that neither has: where the project is kept, and what is measured."""

    space_id: str | None
    server_url: str | None
    dataset_id: str | None
    bucket_id: str | None
    private: bool | None
    embed: bool | None
    auto_log_gpu: bool | None
    gpu_log_interval: float | None
    auto_log_cpu: bool | None
    cpu_log_interval: float | None
    webhook_url: str | None
    webhook_min_level: object


#: Settings of W&B's that are arguments of `init()`.
_SETTINGS = {
    "project": "project", "entity": "entity", "mode": "mode", "run_id": "id", "run_name": "name",
    "run_group": "group", "run_tags": "tags", "run_notes": "notes", "run_job_type": "job_type", "resume": "resume",
    "resume_from": "resume_from", "fork_from": "fork_from", "root_dir": "dir", "reinit": "reinit",
    "sync_tensorboard": "sync_tensorboard",
}  # fmt: skip
#: W&B's words for a mode; a run that is "shared" between processes needs nothing special here.
_MODES = {"online": "online", "run": "online", "shared": "online", "offline": "offline", "dryrun": "offline",
          "disabled": "disabled"}  # fmt: skip
#: W&B's words for how the console is kept.
_CAPTURES = {"off": "off", "redirect": "fd", "wrap": "stream", "wrap_raw": "stream", "wrap_emu": "stream"}
_YES = ("1", "true", "yes", "on", "t", "y")
_UNSUPPORTED = {
    "sync_tensorboard": "sync_tensorboard is not supported: log to this run, or keep the TensorBoard files beside it",
    "tensorboard": "tensorboard=True is not supported: log to this run, or keep the TensorBoard files beside it",
    "monitor_gym": "monitor_gym is not supported: no videos are recorded",
}
#: Which variable of W&B's says an argument that was not given, and which of Lossbook's own is asked before it.
_VARIABLES = {
    "project": ("WANDB_PROJECT", "LOSSBOOK_PROJECT"), "name": ("WANDB_NAME", "LOSSBOOK_NAME"),
    "group": ("WANDB_RUN_GROUP", "LOSSBOOK_GROUP"), "id": ("WANDB_RUN_ID", "LOSSBOOK_RUN_ID"),
    "notes": ("WANDB_NOTES", ""), "tags": ("WANDB_TAGS", ""),
}  # fmt: skip


def translate(own: InitArguments, words: Mapping[str, object]) -> InitArguments:
    """The arguments of `init()` that these mean, with what the environment says in W&B's words.

    Args:
        own: the arguments of `init()` as they were given.
        words: the others.

    Raises:
        TypeError: an argument that neither knows.
        BadArgument: a value that cannot be meant.
    """
    unknown = sorted(set(words) - set(WandbArguments.__annotations__) - set(TrackioArguments.__annotations__))
    if unknown:
        raise TypeError(f"init() got an unexpected keyword argument {unknown[0]!r}")
    given: dict[str, object] = {**own, **words}
    _pass_over_trackio(given)
    _apply_settings(given, given.pop("settings", None))
    for name, sentence in _UNSUPPORTED.items():
        if given.pop(name, None):
            say_once(sentence)
    if isinstance(mode := given.get("mode"), str):
        given["mode"] = _MODES.get(mode, mode)
    folder = given.pop("dir", None)
    if folder and given.get("store") is None and not os.environ.get("LOSSBOOK_STORE"):
        given["store"] = os.path.join(str(folder), DEFAULT_STORE)
    given["config"] = _choose(
        given.get("config"), given.pop("config_include_keys", None), given.pop("config_exclude_keys", None)
    )
    rewound = given.pop("resume_from", None)
    if rewound:
        given["id"], given["resume_step"] = moment(str(rewound))
        given["resume"] = "must"
    fork = given.get("fork_from")
    if isinstance(fork, str) and "?_step=" in fork:
        given["fork_from"] = moment(fork)
    before = given.pop("reinit", None)
    given["previous"] = "finish_previous" if before is True else before if before and before != "default" else None
    _apply_variables(given)
    return cast("InitArguments", given)


def _pass_over_trackio(given: dict[str, object]) -> None:
    """Say once what of Trackio's own is not done, and leave it out."""
    values = {name: given.pop(name, None) for name in TrackioArguments.__annotations__}
    if place := next((name for name in ("space_id", "server_url", "dataset_id", "bucket_id") if values[name]), None):
        say_once(
            f"{place} is where Trackio keeps a project, and this run is in the store: LOSSBOOK_MIRRORS=trackio delivers it "
            "there as well, with TRACKIO_SPACE_ID or TRACKIO_SERVER_URL"
        )
    if values["webhook_url"]:
        say_once("webhook_url is not asked by Lossbook: LOSSBOOK_WEBHOOK names one for its alerts")


def mirror_modes() -> dict[str, str]:
    """The mode of a `wandb` mirror that was named without one, where `WANDB_MODE` says it."""
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    return {"wandb": mode} if mode in ("offline", "disabled") else {}


def _apply_variables(given: dict[str, object]) -> None:
    """Fill what neither an argument nor a variable of Lossbook's own says."""
    for name, (theirs, ours) in _VARIABLES.items():
        if not given.get(name) and not os.environ.get(ours) and (value := os.environ.get(theirs)):
            given[name] = value
    if given.get("resume") is None:
        given["resume"] = os.environ.get("WANDB_RESUME") or None
    if not given.get("mode") and not os.environ.get("LOSSBOOK_MODE"):
        given["mode"] = _mode_of_environment()
    if given.get("console", True) is True and not os.environ.get("LOSSBOOK_CONSOLE"):
        given["console"] = _CAPTURES.get(os.environ.get("WANDB_CONSOLE", "").strip().lower(), True)
    given["mirror_modes"] = mirror_modes()


def _mode_of_environment() -> str | None:
    """`WANDB_MODE`, or "disabled" where `WANDB_DISABLED` says yes."""
    word = os.environ.get("WANDB_MODE", "").strip().lower()
    name = "WANDB_MODE=disabled"
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in _YES and not word:
        word, name = "disabled", "WANDB_DISABLED"
    if word and word not in _MODES:
        say_once(f"WANDB_MODE={word!r} is not known and is passed over: use one of {', '.join(_MODES)}")
    mode = _MODES.get(word)
    if mode == "disabled":
        # Somebody who only wanted to be rid of W&B would miss the whole run.
        say_once(f"{name} is set, so this run is not recorded; LOSSBOOK_MODE=online records it all the same")
    return mode


def _apply_settings(given: dict[str, object], settings: object) -> None:
    """Fill what was not given from `settings`, a dictionary or an object with such attributes."""
    if settings is None:
        return
    found: Mapping[str, object] = settings if isinstance(settings, Mapping) else vars(settings)
    for name, argument in _SETTINGS.items():
        if found.get(name) is not None and not given.get(argument):
            given[argument] = found[name]
    if any(found.get(name) for name in ("_disable_stats", "x_disable_stats")):
        given["system_metrics"] = False
    # W&B's own class has "wrap" in it where nobody has chosen anything.
    chosen = getattr(settings, "model_fields_set", None)
    if given.get("console", True) is True and (chosen is None or "console" in chosen):
        given["console"] = _CAPTURES.get(str(found.get("console")), True)


def moment(text: str) -> tuple[str, int]:
    """The run and the step of "run-id?_step=100".

    Raises:
        BadArgument: it is not of that form.
    """
    run, separator, rest = str(text).partition("?_step=")
    if not run or not separator or not rest.lstrip("-").isdecimal():
        raise BadArgument(f"{text!r} names no moment of a run: write it as 'run-id?_step=100'")
    return run, int(rest)


def _choose(config: object, include: object, exclude: object) -> object:
    if not include and not exclude:
        return config
    wanted = set(include) if isinstance(include, Iterable) else set()
    unwanted = set(exclude) if isinstance(exclude, Iterable) else set()
    return {
        key: value
        for key, value in plain_config(config).items()
        if (not wanted or key in wanted) and key not in unwanted
    }
