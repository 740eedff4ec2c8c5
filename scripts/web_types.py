"""Write the page's TypeScript types from the dataclasses that the server answers with.

python scripts/web_types.py            write lossbook/web/ui/src/types.ts
python scripts/web_types.py --check    say whether it is what would be written; exit 1 if not
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lossbook.web import schemas

PLACE = ROOT / "lossbook" / "web" / "ui" / "src" / "types.ts"
_PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", typing.Any: "unknown"}


def typescript() -> str:
    """All types, in the order in which `schemas` has them."""
    written = ["// Made by scripts/web_types.py from lossbook/web/schemas.py: change that, and run it again.\n"]
    for name, one in inspect.getmembers(schemas, inspect.isclass):
        if dataclasses.is_dataclass(one) and one.__module__ == schemas.__name__:
            written.append((inspect.getsourcelines(one)[1], _interface(name, one)))  # type: ignore[arg-type]
    first, *rest = written
    return "\n".join([str(first), *[text for _, text in sorted(rest)]])  # type: ignore[misc]


def _interface(name: str, one: type) -> str:
    hints = typing.get_type_hints(one)
    lines = []
    if one.__doc__ and not one.__doc__.startswith(f"{name}("):
        text = " ".join(inspect.cleandoc(one.__doc__).split())
        lines.append(f"/** {text} */")
    lines.append(f"export interface {name} {{")
    for field in dataclasses.fields(one):
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        # What has a default may be left out of a request; an answer always has it.
        mark = "?" if optional and name.endswith(("Request", "Change")) else ""
        lines.append(f"  {field.name}{mark}: {_type(hints[field.name])};")
    return "\n".join([*lines, "}\n"])


def _type(hint: object) -> str:
    if hint in _PLAIN:
        return _PLAIN[hint]  # type: ignore[index]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(one) for one in arguments)
    if origin is list:
        inner = _type(arguments[0])
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if origin is dict:
        return f"Record<string, {_type(arguments[1])}>"
    if dataclasses.is_dataclass(hint):
        return hint.__name__  # type: ignore[union-attr]
    raise TypeError(f"there is no TypeScript for {hint!r} yet")


def main() -> int:
    wanted = typescript()
    if "--check" in sys.argv[1:]:
        if PLACE.read_text() == wanted:
            return 0
        print(f"{PLACE} is not what lossbook/web/schemas.py says: run `python scripts/web_types.py`", file=sys.stderr)
        return 1
    PLACE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
