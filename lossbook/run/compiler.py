"""Keeps torch's compiler out of what records: a `log()` in a compiled step is called as it is, never traced.

The compiler (`torch._dynamo`) is told once it is there, whoever loads it; nothing of torch is imported here, and no call
costs anything: the compiler looks a function's file up when it meets the function for the first time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lossbook.run.run import Run

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_COMPILER = "torch._dynamo"
#: What is called within a training step, in this package: folders and files.
_CALLED_IN_STEPS = (
    "__init__.py",
    "handlers.py",
    "metrics.py",
    "wandb.py",
    "redaction.py",
    "run",
    "journal",
    "compat",
    "lm/tracker.py",
    "lm/tracked_run.py",
)
#: Methods of a run that call code of others, which is left alone too; not `log()`, since wrapping costs a microsecond.
_CAREFUL = ("_log_carefully", "_record_config", "_record_summary", "record_event", "save")
_is_asked = False


def leave_out_of_compilation() -> None:
    """Tell the compiler, now or when it is loaded, that the recording functions are none of its business."""
    global _is_asked
    if _is_asked:
        return
    _is_asked = True
    if _COMPILER in sys.modules:
        _tell(sys.modules[_COMPILER])
    else:
        sys.meta_path.insert(0, _CompilerFinder())


class _CompilerFinder:
    """Notices that the compiler is loaded; finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _COMPILER:
            return None
        from importlib.util import find_spec

        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            _tell(module)

        try:
            loader.exec_module = execute_and_tell
        except AttributeError:  # a loader that takes no attributes: the steps are compiled with log() in them
            pass
        return spec


def _tell(compiler: ModuleType) -> None:
    """Have the compiler neither compile nor inline our files; never raises."""
    try:
        # A set of file names, private to torch 2.1 and later.
        skipped: Any = sys.modules[f"{compiler.__name__}.trace_rules"].FORCE_SKIP_FILES
        skipped.update(_files())
        _wrap(compiler, _CAREFUL)
    except Exception:
        _wrap(compiler, tuple(name for name in dir(Run) if name[0] != "_" and callable(getattr(Run, name))))


def _wrap(compiler: ModuleType, names: tuple[str, ...]) -> None:
    """Have methods of `Run` run without the compiler, and all that they call."""
    try:
        for name in names:
            setattr(Run, name, compiler.disable(getattr(Run, name)))
    except Exception:  # a version that nobody knows yet: slow steps, right values
        pass


def _files() -> list[str]:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = []
    for name in _CALLED_IN_STEPS:
        path = os.path.join(package, name)
        if path.endswith(".py"):
            found.append(path)
        for folder, _, names in os.walk(path):
            found += [os.path.join(folder, one) for one in names if one.endswith(".py")]
    return found
