"""`%load_ext lossbook` and its magic: `%lossbook`, `%lossbook RUN`, `%lossbook live [METRIC ...]`."""

from __future__ import annotations

import shlex
from typing import Any

from lossbook.book import open as open_store
from lossbook.errors import LossbookError
from lossbook.notebook.live_chart import LiveChart
from lossbook.run import current_run, say

HELP = (
    "%lossbook shows the latest runs, %lossbook RUN one of them, %lossbook live [METRIC ...] a chart of the current run"
)
_LATEST = 10


def lossbook_magic(line: str) -> Any:
    """Show the latest runs, one run, or a live chart.

    %lossbook                     the latest runs of the store
    %lossbook RUN                 one run, by its name, its id, a beginning of either, or "latest"
    %lossbook live [METRIC ...]   a chart of the current run that follows the training; default its losses
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        return say(f"%lossbook {line} cannot be read ({error}); {HELP}")
    try:
        if words[:1] == ["live"]:
            run = current_run()
            if run is None or run.is_finished:
                return say("%lossbook live needs a run: call lossbook.init() first")
            LiveChart(run, tuple(words[1:]))
            return None
        if len(words) > 1:
            return say(HELP)
        book = open_store()
        return book.run(words[0]) if words else book.runs(limit=_LATEST)
    except LossbookError as error:
        return say(str(error))


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext lossbook` calls."""
    shell.register_magic_function(lossbook_magic, "line", "lossbook")


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext lossbook` calls."""
    shell.magics_manager.magics["line"].pop("lossbook", None)
