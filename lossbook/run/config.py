"""Makes a run's configuration plain: what a user passes becomes what JSON can hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from lossbook.errors import BadArgument
from lossbook.journal import encode_number
from lossbook.json_shapes import Json, JsonObject
from lossbook.redaction import mask_config, mask_named_values
from lossbook.run.text import text_of

#: Objects in objects, deeper than anybody's configuration and shallower than what JSON writers give up at.
_DEEPEST = 50


@runtime_checkable
class _Array(Protocol):
    """What numpy, torch and jax call an array."""

    ndim: int
    size: object

    def tolist(self) -> object: ...


def plain_config(config: object) -> JsonObject:
    """A configuration as nested dictionaries of what JSON holds, secrets masked.

    Takes dictionaries, argparse namespaces, dataclasses, pydantic models, anything with attributes, and the path of a
    YAML file.

    Raises:
        BadArgument: it is none of these, or the file cannot be read.
    """
    if config is None:
        return {}
    if isinstance(config, (str, os.PathLike)):
        config = read_config_file(os.fspath(config))
    masked: JsonObject = mask_config(plain(_as_mapping(config)))
    return masked


def _as_mapping(config: object) -> object:
    if isinstance(config, Mapping):
        return config
    for convert in ("to_dict", "model_dump", "_asdict", "flag_values_dict"):
        method = getattr(config, convert, None)
        if callable(method) and not isinstance(config, type):
            return method()
    if not hasattr(config, "__dict__") or isinstance(config, type):
        raise BadArgument(f"config is a dictionary, a namespace or a dataclass, not {type(config).__name__}")
    return vars(config)


def plain(value: object, outer: tuple[object, ...] = ()) -> Json:
    """`value` in the types that JSON has; what has no such form becomes its text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value)
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, float):
        return encode_number(float(value))
    if len(outer) > _DEEPEST or any(value is one for one in outer):
        return f"<{type(value).__name__}>"
    outer = (*outer, value)
    if isinstance(value, Mapping):
        return {text_of(key): plain(inner, outer) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        # By its names: what stands under one of them may be a secret.
        return {text_of(name): plain(inner, outer) for name, inner in zip(value._fields, value, strict=False)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner, outer) for inner in value]
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None and not isinstance(value, type):
        return {name: plain(getattr(value, name), outer) for name in fields}
    if isinstance(value, _Array) and value.ndim <= 1 and value.size != 0 and callable(value.tolist):
        return plain(value.tolist(), outer)
    inner = getattr(value, "value", None)
    if inner is not None and type(value).__module__ != "builtins" and isinstance(inner, (str, int, float)):
        return plain(inner, outer)
    return mask_named_values(text_of(value))


def plain_object(values: Mapping[str, object]) -> JsonObject:
    """A dictionary in the types that JSON has."""
    return {text_of(key): plain(value, (values,)) for key, value in values.items()}


def read_config_file(path: str) -> dict[object, object]:
    """A YAML file's contents; the form that W&B writes (`key: {value: …}`) is unpacked.

    Raises:
        BadArgument: the file cannot be read or holds no configuration.
    """
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
