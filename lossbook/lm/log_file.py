"""The JSON log of the experiment that runs: where it lies, and when it is brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError

if TYPE_CHECKING:
    from lossbook.lm.log_writer import LogHeading


class LogFile:
    """One experiment's log. Until it is saved it has no rows: it names the run, and is read through that.

    Args:
        folder: of the logs.
        name: the experiment's.
        warn: takes one sentence about what could not be written; nothing here raises for that.
    """

    def __init__(self, folder: Path, name: str, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._name = name
        self._warn = warn
        self._path: Path | None = None
        self.has_rows = False

    def adopt(self, path: Path) -> None:
        """Go on with the log of an earlier attempt, which has rows."""
        self._path, self.has_rows = path, True

    def path(self, started: float, *, claim: bool) -> Path:
        """`{folder}/experiment_{name}_{timestamp}.json`, never one that is there already.

        Args:
            started: when the experiment began, Unix seconds.
            claim: whether to make it now, so that no other experiment takes it.
        """
        if self._path is not None:
            return self._path
        from lossbook.lm.log_writer import claim_path, path_of_log

        if claim:
            try:
                self._path = claim_path(self._folder, self._name, started)
                return self._path
            except OSError as error:
                self._warn(f"no log can be written to {self._folder} ({error.strerror}); the run has every row")
        return path_of_log(self._folder, self._name, started)

    def write(self, heading: LogHeading, run_path: str) -> None:
        """Replace the log in one step, if there is a place for it; with rows once it was saved."""
        from lossbook.lm.log_writer import write_log

        if self._path is None:  # of another rank, or not to be written
            return
        try:
            write_log(self._path, heading, folder=(run_path or None) if self.has_rows else None)
        except (LossbookError, OSError, TypeError, ValueError) as error:
            self._warn(f"{self._path} could not be written ({error}); the run has every row")
