"""`trackio.init` in Trackio's place: a run that this process ended goes on where its name is asked for again.

Trackio knows a run by its name, and its `resume="allow"` goes on with the one of that name: transformers ends its run with
the training, and begins it again for an evaluation behind it. A run of another process is not taken for it: a second
training under the same name is a second run.
"""

from __future__ import annotations

from typing import Any

import lossbook
from lossbook.run import Run

#: The id of each run that this process began, by project and name.
_begun: dict[tuple[str | None, str], str] = {}


def init(
    project: str | None = None, name: str | None = None, group: str | None = None, resume: str = "never", **words: Any
) -> Run:
    """Begin a run, or go on with one of this process: `trackio.init`.

    Args:
        resume: "never", "allow" or "must".
        words: the other arguments, those of `lossbook.init` included.

    Raises:
        TypeError, BadArgument, UnknownRun: as `lossbook.init()`.
    """
    before = _begun.get((project, name)) if name is not None and resume != "never" else None
    if before is not None:
        words["id"] = before
    run = lossbook.init(project=project, name=name, group=group, resume=resume, **words)
    if name is not None:
        _begun[project, name] = run.id
    return run
