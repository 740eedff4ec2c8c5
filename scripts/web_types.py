"""Generates the page's TypeScript from Python: the types of the server's answers, and constants that Python owns.

python scripts/web_types.py            write lossbook/web/ui/src/types.ts and constants.ts
python scripts/web_types.py --check    exit 1, naming the file, if one of them is out of date
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lossbook import metrics
from lossbook.curves.layers import PARAMETER_WORDS
from lossbook.reading.names import FIELDS as RUN_FIELDS
from lossbook.web import schemas
from lossbook.web.api.curves import BAND_FIELDS, FIELDS

SOURCES = ROOT / "lossbook" / "web" / "ui" / "src"
_PLAIN: dict[object, str] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
    object: "unknown",
}


def generated() -> dict[Path, str]:
    """The text of each generated file."""
    return {SOURCES / "types.ts": types_text(), SOURCES / "constants.ts": constants_text()}


def types_text() -> str:
    """All types, in the order in which `schemas` has them."""
    first = "// Made by scripts/web_types.py from lossbook/web/schemas.py: change that, and run it again.\n"
    classes = [
        one
        for _, one in inspect.getmembers(schemas, inspect.isclass)
        if dataclasses.is_dataclass(one) and one.__module__ == schemas.__name__
    ]
    classes.sort(key=lambda one: inspect.getsourcelines(one)[1])
    role = (
        f"/** What a metric is in a training run: lossbook/metrics.py. */\nexport type Role = {_type(metrics.Role)};\n"
    )
    return "\n".join([first, role, *map(_interface, classes)])


def constants_text() -> str:
    """The constants that the page shares with Python, each with the file that owns it."""
    shared: list[tuple[str, str, object]] = [
        ("TRAIN_SPLITS", "lossbook/metrics.py", metrics.TRAIN_SPLITS),
        ("EVAL_SPLITS", "lossbook/metrics.py", metrics.EVAL_SPLITS),
        (
            "EXAMPLE_METRIC",
            "lossbook/metrics.py: the name that examples use for a training loss",
            metrics.TABLE[0].names[0],
        ),
        ("EXAMPLE_EVAL_METRIC", "lossbook/metrics.py: likewise for a validation loss", metrics.TABLE[1].names[0]),
        ("PARAMETER_WORDS", "lossbook/curves/layers.py", sorted(PARAMETER_WORDS)),
        ("RUN_FIELDS", "lossbook/reading/where.py: what a filter can say of a run", sorted(RUN_FIELDS)),
        ("CURVE_FIELDS", "lossbook/web/api/curves.py", FIELDS),
        ("BAND_FIELDS", "lossbook/web/api/curves.py", BAND_FIELDS),
    ]
    lines = ["// Made by scripts/web_types.py from the Python files named below: change those, and run it again.\n"]
    for name, owner, value in shared:
        lines.append(f"/** {owner} */\nexport const {name} = {json.dumps(value)} as const;\n")
    return "\n".join(lines)


def _interface(one: type) -> str:
    hints = typing.get_type_hints(one)
    lines = []
    if one.__doc__ and not one.__doc__.startswith(f"{one.__name__}("):
        text = " ".join(inspect.cleandoc(one.__doc__).split())
        lines.append(f"/** {text} */")
    lines.append(f"export interface {one.__name__} {{")
    for field in dataclasses.fields(one):  # type: ignore[arg-type]
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        # What has a default may be left out of a request; an answer always has it.
        mark = "?" if optional and one.__name__.endswith(("Request", "Change")) else ""
        lines.append(f"  {field.name}{mark}: {_type(hints[field.name], inside=True)};")
    return "\n".join([*lines, "}\n"])


def _type(hint: object, *, inside: bool = False) -> str:
    """`inside` another type the union of a role's names is written as its name."""
    if inside and hint == metrics.Role:
        return "Role"
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(json.dumps(one) for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(one, inside=True) for one in arguments)
    if origin is list:
        inner = _type(arguments[0], inside=True)
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if origin is dict:
        return f"Record<string, {_type(arguments[1], inside=True)}>"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint.__name__
    raise TypeError(f"there is no TypeScript for {hint!r} yet")


def main() -> int:
    stale = [path for path, text in generated().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path} is out of date: run `python scripts/web_types.py`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(generated()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
