"""How far something that takes long is: a line rewritten in place on a terminal, else a line now and then at the most."""

from __future__ import annotations

import shutil
import sys
import time

from lossbook.formatting import clip, duration, plural

#: What a run costs beside its rows, in rows: to open a tracker and to close it again.
_RUN_IN_ROWS = 100
#: Where no terminal is, a line comes so often, in seconds.
_SAY_SECONDS = 30.0


class Bar:
    """One line on standard error; nothing where that is no terminal.

    Args:
        total: rows in all; 0 where that is not known.
        quiet: show nothing.
    """

    def __init__(self, label: str, total: int, *, quiet: bool) -> None:
        self._label, self._total, self._done = label, total, 0
        self._shown = 0.0
        self._on = sys.stderr.isatty() and not quiet

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        self._done += rows
        now = time.monotonic()
        if not self._on or now - self._shown < 0.1:
            return
        self._shown = now
        shown = f"{self._done:,} rows"
        if self._total:
            shown = f"{_drawn(self._done / self._total)} {shown}"
        print(f"\r{self._label[:40]} {shown}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self._on and self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class RunsProgress:
    """How far many runs are, with the time that is left: one line on a terminal, else a line every half minute.

    Nothing is shown of a single run, nor of work that is done before the first half minute where no terminal is.

    Args:
        verb: what is done to the runs, as in "delivered".
        runs, rows: how many there are in all; 0 rows where that is not known.
    """

    def __init__(self, verb: str, runs: int, rows: int = 0) -> None:
        self._verb = verb
        self._runs, self._rows = runs, rows
        self._runs_done = self._rows_done = 0
        self._rows_of_this = self._rows_said = 0
        self._begun = self._shown = time.monotonic()
        self._on_screen = False
        self._on_terminal = sys.stderr.isatty()

    def add_rows(self, rows: int) -> None:
        """Count rows of the run that is being worked on."""
        self._rows_of_this += rows
        self._rows_said += rows
        self._show()

    def run_done(self, rows: int = 0) -> None:
        """Count one more run, with all the rows that it was thought to have, however many there were."""
        self._runs_done += 1
        self._rows_done += rows
        self._rows_of_this = 0
        self._show()

    def at(self, done: int, runs: int) -> None:
        """Say how many of how many runs are done."""
        self._runs_done, self._runs = done, runs
        self._show()

    def clear(self) -> None:
        """Take the line away, for another one that is to be printed."""
        if self._on_screen:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._on_screen = False

    def _show(self) -> None:
        now = time.monotonic()
        if self._runs < 2 or now - self._shown < (0.1 if self._on_terminal else _SAY_SECONDS):
            return
        self._shown = now
        said = f"{self._runs_done:,} of {plural(self._runs, 'run')} {self._verb}"
        if self._rows:
            said += f", {plural(self._rows_said, 'row')}"
        share = self._share()
        if share > 0.0:
            said += f"; {duration((now - self._begun) * (1.0 - share) / share)} left"
        if self._on_terminal:
            # A line that is wrapped cannot be rewritten.
            line = clip(f"{_drawn(share)} {said}", max(20, shutil.get_terminal_size().columns - 1))
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            self._on_screen = True
        else:
            print(f"lossbook: {said}", file=sys.stderr, flush=True)

    def _share(self) -> float:
        done = self._runs_done * _RUN_IN_ROWS + self._rows_done + self._rows_of_this
        return min(1.0, done / (self._runs * _RUN_IN_ROWS + self._rows)) if self._runs else 0.0


def _drawn(share: float) -> str:
    share = min(1.0, share)
    filled = round(24 * share)
    return f"[{'#' * filled}{'.' * (24 - filled)}] {share:4.0%}"
