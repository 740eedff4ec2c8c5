"""Masks secrets in the source of a notebook's cell, as it is kept with a run.

Beyond what `mask_text` finds by its look: texts that are given to a secret name, by an assignment, a key, an argument or a
magic, however short they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lossbook.redaction import MASK, is_secret_name, mask_named_values, mask_text

#: What IPython takes besides Python: magics, the shell's commands, questions.
_NO_PYTHON = re.compile(r"^(\s*)([%!?].*|.*=\s*[%!].*|.*\?{1,2}\s*)$")
_SET_VARIABLE = re.compile(r"^(\s*%(?:set_)?env\s+([^\s=]+)(?:\s*=\s*|\s+))(.+)$")
_NO_PYTHON_LINE = re.compile(r"\s*[%!]")
#: Cells of these magics are Python; those of others are a shell's, a file's or another language's.
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%python", "%%pypy")
#: Functions that set what their first argument names.
_SETTERS = ("setdefault", "putenv", "setenv", "setattr")
#: Functions that take nothing but secrets, of those that people call in notebooks.
_LOGINS = ("login", "notebook_login")


def mask_cell(source: str) -> str:
    """The source of a cell with its secrets masked; never raises."""
    try:
        first = source.split(maxsplit=1)[:1]
        if first and first[0].startswith("%%") and first[0] not in _PYTHON_CELLS:
            return mask_named_values(source)
        lines = [_mask_magic(line) for line in source.split("\n")]
        return mask_text(_mask_literals(lines))
    except Exception:
        return mask_text(source)


def _mask_magic(line: str) -> str:
    found = _SET_VARIABLE.match(line)
    if found is not None and is_secret_name(found[2]):
        return f"{found[1]}{MASK}"
    return mask_named_values(line) if _NO_PYTHON_LINE.match(line) else line


def _mask_literals(lines: list[str]) -> str:
    text = "\n".join(lines)
    # A magic becomes a statement of the same place, so that the rest of the cell can be parsed.
    python = "\n".join("pass" if line.startswith("%%") else _NO_PYTHON.sub(r"\1pass", line) for line in lines)
    try:
        tree = ast.parse(python)
    except (SyntaxError, ValueError, RecursionError):
        # No program that could be told from its secrets: rather too much is masked than too little.
        return mask_named_values(text)
    places = {
        (one.lineno, one.col_offset, one.end_lineno, one.end_col_offset)
        for value in _secret_values(tree)
        for one in ast.walk(value)
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value
    }
    kept = [line.encode() for line in lines]
    for first, start, last, end in sorted(places, reverse=True):
        if last is None or end is None:
            continue
        kept[first - 1 : last] = [kept[first - 1][:start] + f'"{MASK}"'.encode() + kept[last - 1][end:]]
        kept[first:first] = [b""] * (last - first)
    return b"\n".join(kept).decode()


def _secret_values(tree: ast.AST) -> Iterator[ast.AST]:
    """The expressions that are given to a secret name."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None and any(_is_secret(target) for target in targets):
                yield node.value
        elif isinstance(node, ast.keyword):
            if node.arg is not None and is_secret_name(node.arg):
                yield node.value
        elif isinstance(node, ast.Dict):
            yield from (value for key, value in zip(node.keys, node.values, strict=True) if key and _is_secret(key))
        elif isinstance(node, ast.Call):
            yield from _secret_arguments(node)


def _secret_arguments(call: ast.Call) -> Iterator[ast.AST]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _LOGINS:
        yield from call.args
        yield from (keyword.value for keyword in call.keywords if keyword.arg in ("key", "token", "password"))
    elif name in _SETTERS:
        names, values = call.args[:-1], call.args[-1:]
        if any(_is_secret(one) for one in names):
            yield from values


def _is_secret(target: ast.AST) -> bool:
    if isinstance(target, ast.Subscript):
        return _is_secret(target.slice)
    if isinstance(target, ast.Attribute):
        return is_secret_name(target.attr)
    if isinstance(target, ast.Name):
        return is_secret_name(target.id)
    return isinstance(target, ast.Constant) and isinstance(target.value, str) and is_secret_name(target.value)
