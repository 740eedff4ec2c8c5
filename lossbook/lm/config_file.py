"""Configuration files: YAML and JSON, read with the line of each field, and written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lossbook.errors import BadArgument
from lossbook.lm.config_fields import NUMBER, shown
from lossbook.paths import replace_file

if TYPE_CHECKING:
    import yaml


def write_fields(path: str, values: Mapping[str, object]) -> None:
    """Write YAML (`.yaml`, `.yml`) or JSON (`.json`).

    Raises:
        BadArgument: another ending, or something in `extra` that such a file has no form for.
    """
    try:
        if _ending(path) == ".json":
            import json

            # Infinity as Python's own reader takes it: null would lose a `grad_clip` that never clips.
            text = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
        else:
            import yaml

            try:
                text = yaml.dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True).encode()
            except yaml.YAMLError as error:
                raise ValueError(f"{error.args[0]}: {shown(error.args[-1])}") from None
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, BadArgument):
            raise
        raise BadArgument(
            f"{path}: extra has what a file cannot hold ({error}); keep numbers and texts there"
        ) from None
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    replace_file(path, text)


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".yaml", ".yml", ".json"):
        raise BadArgument(f"{path}: a configuration file ends in .yaml, .yml or .json")
    return ending


def read_fields(path: str) -> tuple[dict[str, object], dict[str, int]]:
    """The fields of a file, and the line of each."""
    ending = _ending(path)
    try:
        with open(path, "rb") as file:
            contents = file.read()
        text = contents.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadArgument(f"there is no configuration file {path}") from None
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise BadArgument(f"{path}:{line}: this is no UTF-8 text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise BadArgument(f"{path} cannot be read ({error.strerror})") from None
    try:
        return _read_json(path, text) if ending == ".json" else _read_yaml(path, text)
    except RecursionError:
        raise BadArgument(f"{path}:1: this is nested too deep for a configuration") from None


def _read_yaml(path: str, text: str) -> tuple[dict[str, object], dict[str, int]]:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise BadArgument(
                f"{path}:1: a configuration is a mapping of fields to values, such as `learning_rate: 3e-4`"
            )
        lines = _lines(path, node)
        for key, value in node.value:
            if key.value == "extra":
                _resolve_numbers(value)
        values = yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else text.count("\n", 0, getattr(error, "position", 0)) + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise BadArgument(f"{path}:{line}: this is no YAML ({problem})") from None
    except ValueError as error:
        if isinstance(error, BadArgument):
            raise
        raise BadArgument(f"{path}:1: this is no YAML ({error})") from None  # a date such as 2026-13-45
    return {str(name): value for name, value in values.items()}, lines


def _lines(path: str, node: yaml.MappingNode) -> dict[str, int]:
    """The line of each field of a composed mapping; a field that is there twice is refused."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise BadArgument(f"{path}:{line}: {name} is given twice, first in line {lines[name]}")
        lines[name] = line
    return lines


def _resolve_numbers(node: yaml.Node, depth: int = 0) -> None:
    """Within `extra`, where no field says what is meant, make plain `3e-4` the number that YAML 1.2 takes it for."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        if node.style is None and node.tag == "tag:yaml.org,2002:str" and NUMBER.match(node.value):
            node.tag = "tag:yaml.org,2002:float"
    elif depth < 50:  # an alias may lead back to where it stands
        for one in node.value:
            _resolve_numbers(one[1] if isinstance(one, tuple) else one, depth + 1)


def _read_json(path: str, text: str) -> tuple[dict[str, object], dict[str, int]]:
    import json

    import yaml

    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadArgument(f"{path}:{error.lineno}: this is no JSON ({error.msg})") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadArgument(f"{path}:1: this is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadArgument(f"{path}:1: a configuration is a mapping of fields to values")
    try:
        # JSON is YAML as well, but for tabs, and YAML's reader knows lines.
        node = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    if isinstance(node, yaml.MappingNode):
        return values, _lines(path, node)
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for matched in re.finditer(r'"((?:[^"\\]|\\.)*)"\s*:', line):
            lines.setdefault(matched[1], number)
    return values, lines


def _dumper() -> type[yaml.SafeDumper]:
    """A YAML writer whose small numbers every YAML reader takes for numbers: `3.0e-04`, where `3e-04` would be text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def represent(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
        text = repr(number)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
        return dumper.represent_scalar("tag:yaml.org,2002:float", special.get(text, text))

    def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        # In quotes, because newer YAML readers take a plain 3e-4 for a number.
        style = "'" if NUMBER.match(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(float, represent)
    Dumper.add_representer(str, represent_text)
    return Dumper
