"""Reads which mirrors a run asks for: `"wandb:offline,trackio"` as `run.json` keeps it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from lossbook.errors import BadArgument

_MODES = ("online", "offline", "disabled")


def mirror_specs(mirrors: object, *, modes: Mapping[str, str] | None = None) -> list[str]:
    """Read what the user asked for.

    Args:
        mirrors: names with an optional mode each, separated by commas or as a list; None for `LOSSBOOK_MIRRORS`.
            `none` names none, `both` is wandb and trackio.
        modes: by name, the mode of a mirror that was named without one.

    Returns:
        `name` or `name:mode`, each name once; disabled ones left out.

    Raises:
        BadArgument: a tracker or a mode that is not known.
    """
    mirrors = os.environ.get("LOSSBOOK_MIRRORS", "") if mirrors is None else mirrors
    if isinstance(mirrors, str):
        mirrors = mirrors.split(",")
    if not isinstance(mirrors, Iterable):
        raise BadArgument(f"mirrors is a list of words, not {mirrors!r}")
    specs: dict[str, str] = {}
    for mirror in mirrors:
        for word in ("wandb", "trackio") if str(mirror).strip().lower() == "both" else (str(mirror),):
            name, _, mode = (part.strip().lower() for part in word.partition(":"))
            if name in ("", "none"):
                continue
            # A run without mirrors does not pay for the registry at its start.
            from lossbook.registry import MIRRORS

            if name not in MIRRORS:
                raise BadArgument(f"there is no mirror {name!r}: use one of {', '.join(MIRRORS.names())}, or none")
            if mode and mode not in _MODES:
                raise BadArgument(f"the mirror {word.strip()!r} has no such mode: use one of {', '.join(_MODES)}")
            specs[name] = mode or specs.get(name, "")
    for name, mode in (modes or {}).items():
        if specs.get(name) == "":
            specs[name] = mode
    return [f"{name}:{mode}" if mode else name for name, mode in specs.items() if mode != "disabled"]
