"""What `import lossbook.wandb as wandb` needs beyond Lossbook's own names: W&B's words, each found when it is asked for.

docs/wandb.md lists what is taken over, what means something else here, and what is missing. W&B's own package is neither
needed nor imported.
"""

from __future__ import annotations

import importlib

#: Which module of this package has which word; what is not here has no counterpart (`unsupported`).
_WORDS = {
    **dict.fromkeys(
        ("AlertLevel", "Api", "Settings", "alert", "define_metric", "join", "link_model", "log_artifact", "log_model",
         "login", "mark_preempting", "restore", "save", "unwatch", "use_artifact", "use_model", "watch"),
        "module_api",
    ),
    "Artifact": "artifact",
    "Config": "internal_classes",
    **dict.fromkeys(("Audio", "Html", "Video"), "unsupported"),
}  # fmt: skip
#: Packages of Lossbook's own that W&B has modules of the same name for: `lossbook.plots` is never W&B's.
_OWN = ("cli", "errors", "integrations", "plots")
_ERRORS = ("CommError", "Error", "UsageError")

__all__ = sorted([*_WORDS, *_ERRORS, "config", "plot", "summary", "util"])


def __getattr__(name: str) -> object:
    """A word of W&B's that Lossbook has no word of its own for.

    Raises:
        AttributeError: it is no name of W&B's.
    """
    found: object
    if name.startswith("_"):
        raise AttributeError(f"module 'lossbook' has no attribute {name!r}")
    if name in ("config", "summary"):
        found = importlib.import_module(f"{__name__}.module_api").CurrentMapping(name)
    elif name in _WORDS:
        found = getattr(importlib.import_module(f"{__name__}.{_WORDS[name]}"), name)
    elif name in _ERRORS:
        found = getattr(importlib.import_module("lossbook.errors"), name)
    elif name not in _OWN and name in importlib.import_module(f"{__name__}.module_names").TOP:
        found = importlib.import_module(f"{__name__}.submodules").submodule(name)
    else:
        found = importlib.import_module(f"{__name__}.unsupported").find_absent(name)
    globals()[name] = found
    return found
