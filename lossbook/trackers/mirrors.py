"""The class of each mirror, by its name; those of other packages included (`lossbook.registry.MIRRORS` lists them).

A tracker's library is imported by its own mirror alone, in the mirror's own process, and only when rows are delivered.
"""

from __future__ import annotations

from lossbook.registry import MIRRORS
from lossbook.trackers.mirror import Mirror

__all__ = ["MIRRORS", "has_offline", "mirror_class"]


def mirror_class(name: str) -> type[Mirror]:
    """The class that delivers to a tracker.

    Raises:
        BadArgument: no such mirror is known.
        BrokenPlugin: it is another package's, and cannot be used.
    """
    found = MIRRORS.load(name)
    assert isinstance(found, type)
    assert issubclass(found, Mirror)
    return found


def has_offline(name: str) -> bool:
    """Whether a mirror has an offline mode, with a cursor of its own.

    Other packages' mirrors have none: their code then need not be imported where a cursor is but named.
    """
    return name in MIRRORS.own and mirror_class(name).has_offline
