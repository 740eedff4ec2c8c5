"""Makes a run's configuration plain: what a user passes becomes what JSON can hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from lossbook.errors import BadArgument
from lossbook.handlers import is_of_handler
from lossbook.json_shapes import JsonObject
from lossbook.redaction import MOST_PLAIN, is_secret_name, mask_config, mask_text
from lossbook.run.plain_values import (
    attribute_items,
    attributes,
    declared_items,
    plain_entries,
    public_names,
    readable_items,
    unreadable,
)


def plain_config(config: object) -> JsonObject:
    """A configuration as nested dictionaries of what JSON holds, secrets masked.

    Takes dictionaries, argparse namespaces, dataclasses, pydantic models, OmegaConf's, anything with attributes, and the
    path of a YAML file. A value that cannot be read is a text that says so; the others are kept.

    Raises:
        BadArgument: it is none of these, or the file cannot be read.
    """
    if config is None:
        return {}
    if isinstance(config, (str, os.PathLike)):
        config = read_config_file(os.fspath(config))
    return masked_object(plain_entries(config_entries(config)))


def config_entries(config: object) -> dict[str, object]:
    """The entries of what a user gives as a configuration, the values as they are.

    Raises:
        BadArgument: it has no names with values.
    """
    if isinstance(config, type):
        entries = None
    elif isinstance(config, Mapping):
        entries = readable_items(config)
    else:
        entries = declared_items(config)
        if entries is None and isinstance(config, Sequence) and type(config).__module__ != "builtins":
            return {"config": config}  # a list of OmegaConf's: it has no names of its own
        entries = entries or attribute_items(config)
        if entries is None and hasattr(config, "__dict__"):
            entries = attributes(config, public_names(config))
    if entries is None:
        raise BadArgument(f"config is a dictionary, a namespace or a dataclass, not {type(config).__name__}")
    try:
        return dict(entries)
    except Exception as error:  # of a foreign mapping, not even the keys can be read
        if is_of_handler(error):
            raise
        return {"config": unreadable(error)}


def masked_object(values: JsonObject) -> JsonObject:
    """Secrets masked at every depth, as `mask_config` does; what cannot be one is not looked at, so that many are quick."""
    return _Masking().mask(values, hidden=False)


class _Masking:
    """Masks one configuration; remembers which names hold secrets."""

    def __init__(self) -> None:
        self._is_secret: dict[str, bool] = {}

    def mask(self, values: JsonObject, *, hidden: bool) -> JsonObject:
        masked: JsonObject = {}
        for name, value in values.items():
            # A number that would stay even under a secret name is not asked for its name: of two questions the cheaper.
            if (type(value) is float or type(value) is int) and -MOST_PLAIN <= value <= MOST_PLAIN:
                masked[name] = value
                continue
            hide = hidden or self._names_secret(name)
            if isinstance(value, dict):
                masked[name] = self.mask(value, hidden=hide)
            elif hide or not isinstance(value, str):
                masked[name] = mask_config(value, hidden=hide)
            else:
                masked[name] = mask_text(value)
        return masked

    def _names_secret(self, name: str) -> bool:
        # Thousands of names that differ in a number at their end are asked about once.
        stem = name.rstrip("0123456789")
        asked = name if stem == name else f"{stem}0"
        known = self._is_secret.get(asked)
        if known is None:
            known = self._is_secret[asked] = is_secret_name(asked)
        return known


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
