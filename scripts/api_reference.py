"""Writes docs/api.md, the reference of the Python API, from the public names and their docstrings.

python scripts/api_reference.py            write docs/api.md
python scripts/api_reference.py --check    say whether it is what would be written; exit 1 if not
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lossbook

PLACE = ROOT / "docs" / "api.md"
#: What to record with, then what is logged, then what to read with.
GROUPS = {
    "Recording": ("init", "log", "finish", "Run", "run", "config", "summary", "install_as"),
    "Values": ("Image", "Table", "Histogram", "Text"),
    "Reading": ("open", "Book", "RecordedRun", "Curve"),
    "Errors": ("errors",),
}
#: Names without a docstring of their own: values, not functions.
VALUES = {
    "run": "The run that `init()` began last and `finish()` has not ended; None when there is none.",
    "config": "The current run's configuration, by attribute and by key; changes are recorded. Empty before `init()`.",
    "summary": "The current run's summary, by attribute and by key; changes are recorded. Empty before `init()`.",
}
HEADING = """\
# Python API

Every public name of `lossbook`, written from the docstrings by `python scripts/api_reference.py`.
[Stability](stability.md) says what a public name promises. The names of `lossbook.lm` are in
[language-models.md](language-models.md), those of the frameworks in [integrations.md](integrations.md),
W&B's in [wandb.md](wandb.md).
"""


def reference() -> str:
    """The whole page."""
    named = {name for names in GROUPS.values() for name in names}
    missing = set(lossbook.__all__) ^ named
    if missing:
        raise SystemExit(
            f"scripts/api_reference.py: {', '.join(sorted(missing))} is in lossbook.__all__ or in GROUPS alone"
        )
    parts = [HEADING]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        for name in names:
            parts.extend(_entry(name))
    return "\n".join(parts)


def _entry(name: str) -> Iterator[str]:
    if name in VALUES:
        yield f"### `lossbook.{name}`\n\n{VALUES[name]}\n"
        return
    found = getattr(lossbook, name)
    if name == "errors":
        for error in _classes(found):
            yield f"### `lossbook.errors.{error.__name__}({error.__bases__[0].__name__})`\n\n{_text(error)}\n"
        return
    if isinstance(found, FunctionType):
        yield _function(f"lossbook.{name}", found)
        return
    yield f"### `lossbook.{name}`\n\n{_text(found)}\n"
    for member, value in _members(found).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"**`{name}.{member}`** — {_first(value.fget)}\n"
        elif isinstance(value, FunctionType) and value.__doc__:
            yield _function(f"{name}.{member}", value, level=4)


def _members(found: type) -> dict[str, object]:
    """What a class has of its own, then what it inherits from a class of its package."""
    package = found.__module__.rpartition(".")[0]
    members: dict[str, object] = {}
    for base in found.__mro__:
        if base.__module__.rpartition(".")[0] == package:
            members = {**members, **{name: one for name, one in vars(base).items() if name not in members}}
    return members


def _classes(module: object) -> list[type]:
    found = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == "lossbook.errors"]
    return sorted(found, key=lambda one: (len(one.__mro__), one.__name__))


def _function(name: str, function: Callable[..., object], level: int = 3) -> str:
    signature = inspect.signature(function)
    shown = [
        str(one.replace(annotation=inspect.Parameter.empty))
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    keyword_only = [
        one.kind is inspect.Parameter.KEYWORD_ONLY for one in signature.parameters.values() if one.name != "self"
    ]
    if any(keyword_only) and not any(one.startswith("*") for one in shown):
        shown.insert(keyword_only.index(True), "*")
    return f"{'#' * level} `{name}({', '.join(shown)})`\n\n{_text(function)}\n"


def _first(function: object) -> str:
    return inspect.cleandoc(getattr(function, "__doc__", None) or "").partition("\n\n")[0].replace("\n", " ")


def _text(described: object) -> str:
    """A docstring as Markdown: sections become headings in bold, their entries a list."""
    lines = inspect.cleandoc(getattr(described, "__doc__", None) or "").splitlines()
    written: list[str] = []
    is_section = False
    for line in lines:
        if re.fullmatch(r"(Args|Returns|Raises|Attributes|Yields):", line):
            written += [f"**{line[:-1].replace('Args', 'Arguments')}**", ""]
            is_section = True
        elif is_section and re.match(r" {4}\S", line):
            entry = re.fullmatch(r"([\w*, /`]+): (.*)", line.strip())
            written.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"- {line.strip()}")
        elif is_section and line.startswith("     "):
            written.append(f"  {line.strip()}")
        elif not line:
            written.append("")
        else:
            is_section = False
            written.append(line)
    return "\n".join(written).rstrip()


def main() -> int:
    wanted = reference()
    if "--check" in sys.argv[1:]:
        if PLACE.is_file() and PLACE.read_text() == wanted:
            return 0
        print(f"{PLACE} is not what the docstrings say: run `python scripts/api_reference.py`", file=sys.stderr)
        return 1
    PLACE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
