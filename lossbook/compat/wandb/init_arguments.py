"""What else `init()` takes: the arguments and environment variables of `wandb.init`, turned into its own.

An argument of Lossbook's own wins over one of W&B's, a `LOSSBOOK_` variable over a `WANDB_` one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from lossbook.errors import BadArgument
from lossbook.paths import DEFAULT_STORE
from lossbook.run.messages import say_once


class WandbArguments(TypedDict, total=False):
    """The arguments of `wandb.init` (0.31) that are none of Lossbook's own, older ones included."""

    entity: str | None
    dir: str | os.PathLike[str] | None
    job_type: str | None
    settings: Any
    reinit: bool | str | None
    resume_from: str | None
    config_exclude_keys: Sequence[str] | None
    config_include_keys: Sequence[str] | None
    save_code: bool | None
    sync_tensorboard: bool | None
    tensorboard: bool | None
    monitor_gym: bool | None
    allow_val_change: bool | None
    anonymous: Any
    force: bool | None
    magic: Any


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
_YES = ("1", "true", "yes", "on", "t", "y")
_UNSUPPORTED = {
    "sync_tensorboard": "sync_tensorboard is not supported: log to this run, or keep the TensorBoard files beside it",
    "tensorboard": "tensorboard=True is not supported: log to this run, or keep the TensorBoard files beside it",
    "monitor_gym": "monitor_gym is not supported: no videos are recorded",
}


def variable(*names: str) -> str | None:
    """The first of these environment variables that is set to something."""
    return next((value for name in names if (value := os.environ.get(name))), None)


def mode_from_environment() -> str | None:
    """`LOSSBOOK_MODE`, `WANDB_MODE`, or "disabled" where `WANDB_DISABLED` says yes."""
    own = os.environ.get("LOSSBOOK_MODE")
    if own:
        return own
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


def translate(own: dict[str, Any], words: WandbArguments) -> tuple[dict[str, Any], dict[str, str], str | None]:
    """Turn W&B's arguments into Lossbook's.

    Args:
        own: the arguments of `init()` as they were given.
        words: the others.

    Returns:
        The arguments of `init()`; what only a mirror has a use for (`entity`, `job_type`); and what becomes of a
        run that goes on already: None, "return_previous", "finish_previous" or "create_new".

    Raises:
        TypeError: an argument that neither knows.
        BadArgument: a value that cannot be meant.
    """
    unknown = sorted(set(words) - set(WandbArguments.__annotations__))
    if unknown:
        raise TypeError(f"init() got an unexpected keyword argument {unknown[0]!r}")
    given: dict[str, Any] = {**own, **words}
    _apply_settings(given, given.pop("settings", None))
    for name, sentence in _UNSUPPORTED.items():
        if given.pop(name, None):
            say_once(sentence)
    if isinstance(given["mode"], str):
        given["mode"] = _MODES.get(given["mode"], given["mode"])
    folder = given.pop("dir", None)
    if folder and given["store"] is None and not os.environ.get("LOSSBOOK_STORE"):
        given["store"] = os.path.join(os.fspath(folder), DEFAULT_STORE)
    given["config"] = _choose(
        _read_config(given["config"]), given.pop("config_include_keys", None), given.pop("config_exclude_keys", None)
    )
    rewound = given.pop("resume_from", None)
    if rewound:
        given["id"], given["resume_step"] = moment(rewound)
        given["resume"] = "must"
    if isinstance(given["fork_from"], str) and "?_step=" in given["fork_from"]:
        given["fork_from"] = moment(given["fork_from"])
    given["tags"] = () if given["tags"] is None else given["tags"]
    labels = {name: str(given[name]) for name in ("entity", "job_type") if given.get(name)}
    before = given.pop("reinit", None)
    before = {True: "finish_previous", False: None, "default": None}.get(before, before)
    return {name: given[name] for name in own}, labels, before


def _apply_settings(given: dict[str, Any], settings: Any) -> None:
    """Fill what was not given from `settings`, a dictionary or an object with such attributes."""
    if settings is None:
        return
    found = settings if isinstance(settings, Mapping) else vars(settings)
    for name, argument in _SETTINGS.items():
        if found.get(name) is not None and not given.get(argument):
            given[argument] = found[name]
    if any(found.get(name) for name in ("_disable_stats", "x_disable_stats")):
        given["system_metrics"] = False
    if found.get("console") == "off":
        given["console"] = False


def moment(text: str) -> tuple[str, int]:
    """The run and the step of "run-id?_step=100".

    Raises:
        BadArgument: it is not of that form.
    """
    run, separator, rest = str(text).partition("?_step=")
    if not run or not separator or not rest.lstrip("-").isdecimal():
        raise BadArgument(f"{text!r} names no moment of a run: write it as 'run-id?_step=100'")
    return run, int(rest)


def _choose(config: Any, include: Sequence[str] | None, exclude: Sequence[str] | None) -> Any:
    if not include and not exclude:
        return config
    from lossbook.run.config import plain_config

    wanted, unwanted = set(include or ()), set(exclude or ())
    return {
        key: value
        for key, value in plain_config(config).items()
        if (not wanted or key in wanted) and key not in unwanted
    }


def _read_config(config: Any) -> Any:
    """A configuration file's contents where a path was given; W&B's form of it (`key: {value: …}`) too.

    Raises:
        BadArgument: the file cannot be read or holds no configuration.
    """
    if not isinstance(config, (str, os.PathLike)):
        return config
    path = os.fspath(config)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"config names the file {path!r}, which cannot be read ({error})") from None
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1 takes `3e-4` for a text; nobody who writes it means one."""

    number = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+\Z")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        found = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise BadArgument(f"the configuration file {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise BadArgument(f"the configuration file {path} holds no table of names and values")
    found.pop("wandb_version", None)
    described = all(
        isinstance(one, dict) and set(one) <= {"value", "desc"} and "value" in one for one in found.values()
    )
    return {key: one["value"] for key, one in found.items()} if found and described else found
