"""`report_to="lossbook"` and `log_with="lossbook"`, for programs that do not import Lossbook.

transformers and Accelerate find trackers by name in a table of their own, and neither reads entry points. PyTorch does: it
calls the entry points of the group `torch.backends` at the end of `import torch`. Lossbook's entry there calls
`enter_names()`, which imports no framework: it waits for the modules that hold the two tables, and adds one name to each
when it has been imported. The callback and the tracker are loaded when a program asks for them by that name.

Nothing of this raises, since what raises here ends the program's `import torch`. `TORCH_DEVICE_BACKEND_AUTOLOAD=0` turns
it off, with every other entry of that group.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAME = "lossbook"


class CallbackByName:
    """What transformers' table holds: called as a class is, it makes a `LossbookCallback`."""

    def __new__(cls) -> Any:
        from lossbook.integrations.transformers import LossbookCallback

        return LossbookCallback()


class TrackerByName:
    """What Accelerate's table holds: called as a class is, it makes a `LossbookTracker`."""

    name = NAME
    requires_logging_directory = False

    def __new__(cls, project: str | None = None, **arguments: Any) -> Any:
        from lossbook.integrations.accelerate import LossbookTracker

        return LossbookTracker(project, **arguments)


def _into_transformers(module: ModuleType) -> None:
    module.INTEGRATION_TO_CALLBACK.setdefault(NAME, CallbackByName)


def _into_accelerate(module: ModuleType) -> None:
    # An Accelerate that cannot register a tracker refuses every name that it does not have itself, table or not.
    if hasattr(module, "register_tracker_class"):
        module.LOGGER_TYPE_TO_CLASS.setdefault(NAME, TrackerByName)


#: By the module that holds a table: the table's name, and what adds Lossbook to it.
_TABLES: dict[str, tuple[str, Callable[[ModuleType], None]]] = {
    "transformers.integrations.integration_utils": ("INTEGRATION_TO_CALLBACK", _into_transformers),
    "accelerate.tracking": ("LOGGER_TYPE_TO_CLASS", _into_accelerate),
}


class _Waiting(MetaPathFinder):
    """Sees each import go by, finds none itself, and leaves `sys.meta_path` when both tables have the name."""

    def __init__(self) -> None:
        self._missing = dict(_TABLES)
        self._asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._asking:
            return None
        self.look()
        return self._spec_of(fullname) if fullname in self._missing else None

    def look(self) -> bool:
        """Add the name where a table is there already, and tell whether both have it now.

        A module that is still being imported may have no table yet: the next import of any module looks again.
        """
        for name in tuple(self._missing):
            module = sys.modules.get(name)
            if module is not None and hasattr(module, self._missing[name][0]):
                self._enter(module)
        if not self._missing and self in sys.meta_path:
            sys.meta_path.remove(self)
        return not self._missing

    def _enter(self, module: ModuleType) -> None:
        _, add = self._missing.pop(module.__name__, ("", None))
        try:
            if add is not None:
                add(module)
        except Exception:  # a table of another shape: the framework says itself that it does not know the name
            return

    def _spec_of(self, fullname: str) -> ModuleSpec | None:
        """The module's own spec, whose loader tells when the module is complete."""
        self._asking = True
        try:
            spec = find_spec(fullname)
            if spec is None or spec.loader is None:
                return None
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._enter(module)

            # On this loader alone, so that it stays the loader that the module's readers (inspect, pickle) know.
            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010  # a method, to mypy
            return spec
        except Exception:
            return None
        finally:
            self._asking = False


def enter_names() -> None:
    """Make transformers and Accelerate know the name `lossbook`, now or when the program imports them."""
    if any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        return
    waiting = _Waiting()
    if not waiting.look():
        sys.meta_path.insert(0, waiting)
