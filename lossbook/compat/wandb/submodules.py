"""The modules below `wandb`: the names of each that Lossbook knows, and a sentence for every other.

`import lossbook.wandb as wandb` reaches them by attribute (`wandb.sdk.wandb_run.Run`), `lossbook run` by import too.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from lossbook.compat.wandb.module_names import TOP, current_name, is_module
from lossbook.compat.wandb.unsupported import absent, drawing

#: Modules below `wandb` and the names of each that work, for docs/wandb.md. A module in one of them is answered as it is.
ANSWERED = {
    "api": "api_key default_entity settings viewer",
    "apis": "InternalApi PublicApi",
    "apis.public": "Api Run",
    "beta.workflows": "link_model log_model use_model",
    "data_types": "Histogram Image Media Table WBValue",
    "env": "PROJECT get_project set_project",
    "errors": "AuthenticationError CommError Error UsageError",
    "errors.term": "termerror termlog termwarn",
    "integration.catboost": "WandbCallback log_summary",
    "integration.keras": "WandbCallback WandbEvalCallback WandbMetricsLogger WandbModelCheckpoint",
    "integration.lightgbm": "log_summary wandb_callback",
    "integration.lightning.fabric": "WandbLogger",
    "integration.sb3": "WandbCallback",
    "integration.sklearn": "plot_classifier plot_confusion_matrix plot_precision_recall plot_roc",
    "integration.torch": "torch",
    "integration.xgboost": "WandbCallback wandb_callback",
    "plot": "CustomChart bar confusion_matrix histogram line line_series pr_curve roc_curve scatter",
    "sdk": "Artifact Config Settings init log login setup",
    "sdk.artifacts": "Artifact",
    "sdk.data_types": "Histogram Image Media Table WBValue",
    "sdk.lib": "RunDisabled SummaryDisabled generate_id",
    "sdk.lib.gitlib": "GitRepo",
    "sdk.wandb_alerts": "AlertLevel",
    "sdk.wandb_config": "Config",
    "sdk.wandb_init": "init",
    "sdk.wandb_login": "login",
    "sdk.wandb_require": "require",
    "sdk.wandb_run": "Run",
    "sdk.wandb_settings": "Settings",
    "sdk.wandb_setup": "setup",
    "sdk.wandb_summary": "Summary",
    "sdk.wandb_watch": "unwatch watch",
    "util": "from_human_size generate_id get_module json_dumps_safer json_friendly make_artifact_name_safe to_human_size",
}
#: Modules whose names are written in one of Lossbook's, with all that is below them.
_WRITTEN = {
    "api": "lossbook.compat.wandb.login_names",
    "env": "lossbook.compat.wandb.environment_names",
    "integration.catboost": "lossbook.compat.wandb.callbacks.catboost",
    "integration.keras": "lossbook.compat.wandb.callbacks.keras",
    "integration.lightgbm": "lossbook.compat.wandb.callbacks.lightgbm",
    "integration.lightning.fabric": "lossbook.compat.wandb.callbacks.fabric",
    "integration.sb3": "lossbook.compat.wandb.callbacks.sb3",
    "integration.sklearn": "lossbook.compat.wandb.callbacks.sklearn",
    "integration.xgboost": "lossbook.compat.wandb.callbacks.xgboost",
    "util": "lossbook.compat.wandb.util_functions",
}
#: Names that stand in several modules of W&B's.
_ANYWHERE = {
    "BatchableMedia": ("lossbook.run", "Media"),
    "Config": ("lossbook.compat.wandb.internal_classes", "Config"),
    "CustomChart": ("lossbook.compat.wandb.internal_classes", "CustomChart"),
    "GitRepo": ("lossbook.compat.wandb.internal_classes", "GitRepo"),
    "Media": ("lossbook.run", "Media"),
    "RunDisabled": ("lossbook.compat.wandb.internal_classes", "RunDisabled"),
    "Summary": ("lossbook.compat.wandb.internal_classes", "Summary"),
    "SummaryDisabled": ("lossbook.compat.wandb.internal_classes", "SummaryDisabled"),
    "InternalApi": ("lossbook.wandb", "Api"),
    "PublicApi": ("lossbook.wandb", "Api"),
    "WBValue": ("lossbook.run", "Media"),
    "init": ("lossbook.compat.wandb.init_order", "init"),
    "generate_id": ("lossbook.compat.wandb.util_functions", "generate_id"),
}
#: What a run and its parts are where `wandb.Api()` reads them.
_RECORDED = {"Run": ("lossbook.reading", "RecordedRun")}
#: Other people's modules that W&B's import, and that editors therefore offer: `from wandb.util import np`.
_IMPORTED = {
    "np": "numpy",
    "numpy": "numpy",
    "pd": "pandas",
    "requests": "requests",
    "tf": "tensorflow",
    "torch": "torch",
    "yaml": "yaml",
}
_DRAWINGS = ("plot", "plots", "viz")
_WITHOUT_WORDS = ("integration", *_DRAWINGS)

_modules: dict[str, Submodule] = {}


class Submodule(ModuleType):
    """A module below `wandb`."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        path = self.__name__.removeprefix("wandb.")
        found = submodule(f"{path}.{name}") if is_module(f"{path}.{name}") else find_name(path, name)
        self.__dict__[name] = found
        return found

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Several of W&B's modules have the name of their function: `wandb.plot.line(…)`."""
        function: Any = getattr(self, self.__name__.rpartition(".")[2])
        return function(*arguments, **named)

    def __dir__(self) -> list[str]:
        return sorted(self.__dict__)


def submodule(path: str) -> Submodule:
    """The module that is `wandb.` and this path: one object, however it is reached."""
    if path not in _modules:
        _modules[path] = Submodule(f"wandb.{path}", "Lossbook, in the place of this module (docs/wandb.md).")
    return _modules[path]


def find_name(path: str, name: str) -> object:
    """What a name of the module `wandb.` and this path is.

    Raises:
        AttributeError: it is a private name.
    """
    module = current_name(path)
    if name == "wandb":
        return sys.modules.get("wandb") or importlib.import_module("lossbook.wandb")
    if (words := _written(module)) is not None and (name in words.__all__ or "__getattr__" in vars(words)):
        try:
            return getattr(words, name)
        except AttributeError:
            pass
    if name.startswith("_"):
        raise AttributeError(f"module 'wandb.{path}' has no attribute {name!r}")
    if (found := _find_imported(name)) is not None:
        return found
    top = module.split(".")[0]
    if module.startswith("apis.public") and name in _RECORDED:
        place, word = _RECORDED[name]
        return getattr(importlib.import_module(place), word)
    if name in _ANYWHERE:
        place, word = _ANYWHERE[name]
        return getattr(importlib.import_module(place), word)
    if top in _DRAWINGS and name.islower():
        return drawing(name)
    if top not in _WITHOUT_WORDS and name not in TOP:
        return known_or_absent(f"wandb.{path}", name)
    return absent(f"wandb.{path}", name)


def known_or_absent(owner: str, name: str) -> object:
    """Lossbook's word of that name, or what stands in for it."""
    try:
        return getattr(importlib.import_module("lossbook.wandb"), name)
    except AttributeError:
        return absent(owner, name)


def _written(module: str) -> ModuleType | None:
    """Lossbook's module with the names of one of W&B's; None where there is none, or what it is for is not installed."""
    for written, place in _WRITTEN.items():
        if f"{module}.".startswith(f"{written}."):
            try:
                return importlib.import_module(place)
            except ImportError:
                return None
    return None


def _find_imported(name: str) -> ModuleType | None:
    place = _IMPORTED.get(name, name if name in sys.stdlib_module_names else None)
    try:
        return None if place is None else importlib.import_module(place)
    except ImportError:
        return None
