"""Says that a public name will go: once for each name and process, as a `DeprecationWarning` at the caller's line.

docs/stability.md says how long such a name stays.
"""

from __future__ import annotations

import warnings

_said: set[str] = set()


def warn_deprecated(name: str, *, instead: str, removed_in: str, stacklevel: int = 3) -> None:
    """Warn that a name will go.

    Args:
        name: as the user writes it: "run.join()".
        instead: what to write in its place.
        removed_in: the release that no longer has it.
        stacklevel: of the user's own call; 3 where the deprecated function itself calls this.
    """
    if name in _said:
        return
    _said.add(name)
    sentence = f"{name} is deprecated and will be removed in Lossbook {removed_in}: use {instead}"
    warnings.warn(sentence, DeprecationWarning, stacklevel=stacklevel)
