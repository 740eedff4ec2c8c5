"""A run in a notebook: one at a time in a kernel, with the cells that were run, and an end that is told by its cells.

`code/cells.py` holds the cells in the order in which they were run, each under a line `# %% [number]`, as editors show
cells of a script. Each is written before it is run, so what a killed kernel ran is kept too. What is needed of IPython is
asked of the shell that is there; nothing of it is imported.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

from lossbook.run import exit_hooks
from lossbook.run.cell_source import mask_cell
from lossbook.run.messages import say_once
from lossbook.run.run import Run
from lossbook.run.shell import find_shell, notebook_path
from lossbook.run.text import describe

CELLS_FILE = "cells.py"
#: Kept of the cells at the most, in bytes of source: a cell may have a picture pasted into it.
LARGEST_CELLS_BYTES = 4 << 20
#: Kept of one cell at the most, in characters.
LARGEST_CELL = 256 << 10
_notebook: Notebook | None = None


class Outcome:
    """How the last cell ended that logged rows of a run."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.state = "finished"
        self.error: str | None = None


class Notebook:
    """The kernel that this process is, from its first run on.

    Args:
        shell: IPython's shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._pid = os.getpid()
        self._left: WeakKeyDictionary[Run, int] = WeakKeyDictionary()
        self._threads: WeakKeyDictionary[Run, int] = WeakKeyDictionary()
        self._outcomes: WeakKeyDictionary[Run, Outcome] = WeakKeyDictionary()
        shell.events.register("pre_run_cell", self._before_cell)
        shell.events.register("post_run_cell", self._after_cell)
        self._awaits_exit = False

    # -- one live run -----------------------------------------------------------------------------------------------

    def end_before(self, run: Run) -> None:
        """End a run because the next one begins, if it was begun where the next one is."""
        if run.is_finished or not run.path or self._threads.get(run) != threading.get_ident():
            return
        say_once("init() ends the run before it, as a notebook has one live run; reinit='create_new' keeps both going")
        self._end(run)

    def watch(self, run: Run) -> None:
        """Keep the cells of a run, those included that were run before it began; never raises."""
        try:
            self._watch(run)
        except Exception as error:  # a shell that is unlike those that are known
            run.warn("notebook", f"the notebook's cells are not kept ({describe(error)})")

    def _watch(self, run: Run) -> None:
        if not self._awaits_exit and hasattr(self._shell, "kernel"):
            # After the hook that ends a script's runs, so that it is called before it.
            atexit.register(self._at_exit)
            self._awaits_exit = True
        self._threads[run] = threading.get_ident()
        self._left[run] = LARGEST_CELLS_BYTES
        self._outcomes[run] = Outcome(run.last_step)
        name = notebook_path()
        head = f"# The cells that were run, in their order{f': {os.path.basename(name)}' if name else ''}.\n"
        parts, size = [head], 0
        for number, source in enumerate(list(self._shell.history_manager.input_hist_raw)):
            if source and size <= LARGEST_CELLS_BYTES:
                parts.append(_cell(number, source))
                size += len(parts[-1])
        self._write(run, "".join(parts))

    def _write(self, run: Run, text: str) -> None:
        contents = text.encode("utf-8", "replace")
        left = self._left.get(run, 0)
        if left <= 0:
            return
        self._left[run] = left - len(contents)
        if len(contents) > left:
            contents = b"\n# [cells past 4 MB are not kept]\n"
        run.record_code(CELLS_FILE, contents)

    # -- cells ------------------------------------------------------------------------------------------------------

    def _before_cell(self, cell: Any = None) -> None:
        try:
            runs = self._live()
            if runs and cell is not None and cell.store_history and cell.raw_cell:
                # The shell counts before or after this event, as its version has it; its list grows after.
                number = len(self._shell.history_manager.input_hist_raw)
                text = _cell(number, cell.raw_cell, time.strftime(" %Y-%m-%d %H:%M:%S"))
                for run in runs:
                    self._write(run, text)
            for run in runs:
                if run.console is not None:
                    run.console.renew()
                self._outcomes[run].step = run.last_step
        except Exception:  # the user's cell must not fail for our copy's sake
            pass

    def _after_cell(self, result: Any = None) -> None:
        try:
            error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
            text = exit_hooks.last_lines(error) if isinstance(error, BaseException) else None
            for run in self._live():
                outcome = self._outcomes[run]
                if text is not None and run.console is not None:
                    run.console.copy(f"{text}\n")
                if run.last_step != outcome.step:
                    outcome.state, outcome.error = _state_after(error, text)
        except Exception:
            pass

    def _live(self) -> list[Run]:
        return [run for run in list(self._outcomes) if not run.is_finished]

    # -- the end ----------------------------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        """The kernel goes: nobody said that its runs are finished."""
        for run in self._live() if os.getpid() == self._pid else ():
            self._end(run, ("interrupted", "the kernel was restarted or shut down"))

    def _end(self, run: Run, otherwise: tuple[str, str | None] = ("finished", None)) -> None:
        outcome = self._outcomes.get(run)
        if outcome is not None and outcome.state != "finished":
            run.end(outcome.state, outcome.error)
        else:
            run.end(*otherwise)


def _state_after(error: BaseException | None, text: str | None) -> tuple[str, str | None]:
    if error is None:
        return "finished", None
    return ("interrupted", "KeyboardInterrupt") if isinstance(error, KeyboardInterrupt) else ("failed", text)


def _cell(number: int, source: str, moment: str = "") -> str:
    if len(source) > LARGEST_CELL:
        source = f"{source[:LARGEST_CELL]}\n# [cut here: the cell has {len(source):,} characters]"
    return f"\n# %% [{number}]{moment}\n{mask_cell(source).rstrip()}\n"


def notebook() -> Notebook | None:
    """The notebook (or IPython session) that this process runs cells of; None for a script."""
    global _notebook
    if _notebook is None:
        shell = find_shell()
        if shell is not None:
            _notebook = Notebook(shell)
    return _notebook
