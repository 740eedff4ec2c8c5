"""Says which rows count, where attempts replace each other's rows and ranks share a key.

An attempt that resumed from step k hides rows of earlier attempts beyond k. One that did not say from where hides,
per key, what it logged again: rows of earlier attempts from its own first step of that key on. Hidden rows stay.
"""

from __future__ import annotations

from collections.abc import Mapping

#: A step beyond every step: nothing is hidden.
NEVER = (1 << 63) - 1


def cutoffs(resumed_from: Mapping[int, int | None], first_steps: Mapping[int, int]) -> dict[int, int]:
    """The last visible step of each attempt for one key.

    Args:
        resumed_from: `RunInfo.resume_steps()`.
        first_steps: the first step of the key in each attempt that logged it.

    Returns:
        For each attempt in `first_steps` the last step that still counts; `NEVER` where all do.
    """
    last_visible: dict[int, int] = {}
    for attempt in first_steps:
        cut = NEVER
        for later in {*resumed_from, *first_steps}:
            if later <= attempt:
                continue
            step = resumed_from.get(later)
            if step is None:
                step = first_steps[later] - 1 if later in first_steps else NEVER
            cut = min(cut, step)
        last_visible[attempt] = cut
    return last_visible


def is_shared(ranks: set[int]) -> bool:
    """Whether a key is every rank's: read as mean, minimum and maximum over ranks."""
    return any(rank > 0 for rank in ranks)
