"""Starts a module of this package in a process of its own, with the modules that the starting process sees.

`python -P lossbook/start.py MODULE ARGUMENT...` runs a module as `python -m` does. The interpreter's own search path stays
as it is: were this package's folder put in front of it, whatever lies beside the package (an old backport called
`pathlib.py`, say) would hide Python's own modules.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def python_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this very package, whatever else of that name is installed.

    Args:
        module: in full, such as "lossbook.follower".
    """
    # -P: the folder of a training may hold a random.py.
    flags = ["-P"]
    if sys.flags.ignore_environment:
        flags.append("-E")
    if sys.flags.no_user_site:
        flags.append("-s")
    return [sys.executable, *flags, os.path.join(_PACKAGE, "start.py"), module, *arguments]


def _main() -> None:
    import importlib.util
    import runpy

    parent = os.path.dirname(_PACKAGE)
    if parent not in sys.path:
        sys.path.append(parent)  # a copy that the training found by a path of its own
    spec = importlib.util.spec_from_file_location(
        "lossbook", os.path.join(_PACKAGE, "__init__.py"), submodule_search_locations=[_PACKAGE]
    )
    assert spec is not None
    assert spec.loader is not None
    if "lossbook" not in sys.modules:
        package = sys.modules["lossbook"] = importlib.util.module_from_spec(spec)
        # What `import lossbook` gives a training is loaded when it is first asked for: a follower needs none of it.
        package.__dict__["__getattr__"] = lambda name: _load(package, name)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _load(package: ModuleType, name: str) -> object:
    """A name of the package, which is made what `import lossbook` makes of it."""
    if name.startswith("__") and name != "__version__":
        raise AttributeError(name)
    del package.__dict__["__getattr__"]
    assert package.__spec__ is not None
    assert package.__spec__.loader is not None
    package.__spec__.loader.exec_module(package)
    return getattr(package, name)


if __name__ == "__main__":
    _main()
