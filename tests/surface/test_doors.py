"""A package's door, its `__init__`, names what other packages may use; each name is there, and loaded when asked for."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lossbook

ROOT = Path(lossbook.__file__).parent
DOORS = [path for path in sorted(ROOT.rglob("__init__.py")) if "lazy_exports(" in path.read_text()]


def package_of(door: Path) -> str:
    return ".".join(("lossbook", *door.parent.relative_to(ROOT).parts))


def names_for_type_checkers(door: Path) -> dict[str, set[str]]:
    """By module, the names that the door imports for type checkers."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(door.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package_of(door)}."):
            module = str(node.module).rpartition(".")[2]
            assert all(one.asname == one.name for one in node.names), "a door hands a name on as it is called"
            found.setdefault(module, set()).update(one.name for one in node.names)
    return found


def names_at_run_time(door: Path) -> dict[str, set[str]]:
    (call,) = (
        node
        for node in ast.walk(ast.parse(door.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_exports"
    )
    return {module: set(names.split()) for module, names in ast.literal_eval(call.args[1]).items()}


@pytest.mark.parametrize("door", DOORS, ids=package_of)
def test_a_door_names_the_same_to_type_checkers_and_at_run_time(door: Path) -> None:
    typed = names_for_type_checkers(door)
    for module, names in typed.items():
        home = importlib.import_module(f"{package_of(door)}.{module}")
        # A type alias that its module makes for type checkers alone is nothing at run time.
        typed[module] = {name for name in names if hasattr(home, name)}
    assert names_at_run_time(door) == {module: names for module, names in typed.items() if names}


@pytest.mark.parametrize("door", DOORS, ids=package_of)
def test_what_a_door_names_is_there(door: Path) -> None:
    package = importlib.import_module(package_of(door))
    listed = dir(package)
    for module, names in names_at_run_time(door).items():
        home = importlib.import_module(f"{package_of(door)}.{module}")
        for name in names:
            assert name in listed
            # The same object each time, whoever replaced it in its module meanwhile.
            assert getattr(package, name) is getattr(home, name), name
    with pytest.raises(AttributeError, match="has no attribute 'nobody'"):
        package.nobody  # noqa: B018


@pytest.mark.parametrize("door", DOORS, ids=package_of)
def test_a_door_is_no_module_of_that_name(door: Path) -> None:
    """Python puts a module into its package under its name: a function that is called so could not be reached."""
    modules = {path.stem for path in door.parent.glob("*.py")}
    exported = set().union(*names_at_run_time(door).values())
    assert not modules & exported


def test_the_reading_doors_load_nothing_by_themselves() -> None:
    script = (
        "import sys\n"
        "import lossbook.storage, lossbook.reading, lossbook.curves, lossbook.analysis, lossbook.trackers\n"
        "print([name for name in ('duckdb', 'numpy', 'lossbook.storage.schema') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
