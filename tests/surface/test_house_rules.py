"""What CONTRIBUTING.md asks of code and tests, where a program can tell: sleeps, private names, the formatter."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"

#: Packages and programs of this repository: a private name of theirs is nothing for a test.
OURS = ("lossbook", "trainers", "gpt2", "bitnet", "benchmarks", "scripts", "examples")
#: Names with an underscore that are public all the same.
PUBLIC = {"_replace", "_asdict", "_fields", "_make"}  # named tuples have no other way to keep their fields' names free
#: Private names that a test uses with a reason, by file.
ALLOWED = {
    (
        "faults/test_unwritable_store.py",
        "_journal",
    ): "a disk with a file open for writing cannot be remounted read-only",
    (
        "peers/test_mirror_wandb.py",
        "_file",
    ): "a mirror that is killed says nothing; its file is closed as the kernel would",
    ("peers/test_mirror_wandb.py", "_flush_files"): "likewise, after its rows had reached the disk",
    ("faults/test_many_writers.py", "_exit"): "os._exit: an end without exit handlers",
    ("web/conftest.py", "_set_running_loop"): "asyncio's: Playwright leaves its loop in the thread of the tests",
    ("integrations/test_accelerate.py", "_reset_state"): "Accelerate's: its state is one for a process",
    ("integrations/test_wandb_surface.py", "_label"): "W&B's: what its package has is asked of ours",
    ("integrations/test_wandb_surface.py", "_as_dict"): "likewise",
    ("peers/test_mirror_mlflow.py", "_set_tags"): "MLflow's: dies between two writes",
}


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "node_modules" not in path.parts)


def tracked(pattern: str) -> list[Path]:
    """The files of the repository; all there are where it is no checkout."""
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return [path for path in files(ROOT) if not {".venv", "build"} & set(path.relative_to(ROOT).parts)]
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in PUBLIC


# -- sleeps -------------------------------------------------------------------------------------------------------


def test_a_test_sleeps_only_where_the_pause_is_the_situation_and_says_so() -> None:
    sleeps = re.compile(r"\bsleep\(|wait_for_timeout\(")
    found = [
        f"{path.relative_to(TESTS)}:{number}"
        for path in files(TESTS)
        if path.name not in ("waiting.py", Path(__file__).name)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if sleeps.search(line) and "#" not in line
    ]
    assert found == [], "wait for the event with tests/waiting.py, or say on the line why the pause is needed"


# -- private names ------------------------------------------------------------------------------------------------


def private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names that are imported from us, read from any object but `self`, or replaced by `setattr`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            names = [*(node.module or "").split("."), *(one.name for one in node.names)]
            yield from ((node.lineno, name) for name in names if is_private(name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr", "setitem"):
            for argument in node.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    name = argument.value.rpartition(".")[2]
                    if is_private(name):
                        yield node.lineno, name


def test_tests_use_public_names() -> None:
    found, used = [], set()
    for path in files(TESTS):
        name = str(path.relative_to(TESTS))
        for line, private in private_names(ast.parse(path.read_text())):
            if (name, private) in ALLOWED:
                used.add((name, private))
            else:
                found.append(f"{name}:{line} {private}")
    assert found == [], "give it a public name, or observe what it does"
    assert used == set(ALLOWED), "these are not needed any more"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from lossbook.run.current import _started", ["_started"]),
        ("from lossbook._hidden import name", ["_hidden"]),
        ("from asyncio import _unix", []),
        ("run._journal.close()", ["_journal"]),
        ("self._started = 1", []),
        ("row._replace(i=1)", []),
        ("patch.setattr(writer, '_write', full)", ["_write"]),
        ("patch.setattr('lossbook.journal.writer._write', full)", ["_write"]),
        ("first, _ = run.__dict__", []),
    ],
)
def test_private_names_are_found(code: str, names: list[str]) -> None:
    assert [name for _, name in private_names(ast.parse(code))] == names


# -- the formatter ------------------------------------------------------------------------------------------------


def table_ends(tree: ast.AST) -> set[int]:
    """The last lines of what stands outside of functions: assignments, and the cases of a test in its decorator."""
    ends: set[int] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            ends.add(node.end_lineno or 0)
        elif isinstance(node, ast.ClassDef):
            ends |= table_ends(node)
        ends.update(one.end_lineno or 0 for one in getattr(node, "decorator_list", []))
    return ends


def test_the_formatter_is_refused_in_tables_of_data_alone() -> None:
    found = []
    for path in tracked("*.py"):
        text = path.read_text()
        skipped = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# fmt: skip")]
        if skipped:
            ends = table_ends(ast.parse(text))
            found += [f"{path.relative_to(ROOT)}:{number}" for number in skipped if number not in ends]
    assert found == []
