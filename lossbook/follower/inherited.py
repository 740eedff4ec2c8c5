"""The rows that a fork has of its parents, as its mirrors take them: those that its curves and its history have.

A mirror knows rows by writer and number. A parent's writer becomes one of the fork's, with a number that no writer of a
run has, so the cursor says how far each parent has come, and a mirror that was killed goes on there. Pictures, texts and
what else is no scalar stay with the parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from lossbook.errors import LossbookError
from lossbook.paths import RunFolder
from lossbook.run_files import refuse_linked_folders
from lossbook.run_info import RunInfo, read_run_info
from lossbook.storage import Ancestor, LoggedRow, Replay, ancestors, visible

#: The writers of the nearest parent are below this, those of its parent below twice this, and so on.
_PARENT = -1_000_000
#: Writers of a run are numbers of 16 bits.
_HALF = 1 << 15
#: Rows that are read between two signs of life.
_BEAT_ROWS = 1000


class InheritedRows:
    """The rows of the runs that a run was forked from, the oldest first.

    Args:
        held: by writer the last row that the mirror holds. A mirror that holds a row of the fork itself has all of its
            parents that it will get: theirs come first.
        beat: called often while rows are read.
    """

    def __init__(
        self, folder: RunFolder, info: RunInfo, held: Mapping[int, int], beat: Callable[[], None] = lambda: None
    ) -> None:
        self._held = held
        self._beat = beat
        self._chain: list[Ancestor] = []
        #: What of the parents is missing, a sentence each.
        self.problems: list[str] = []
        if info.parent is None or any(rank > _PARENT for rank in held):
            return
        try:
            self._chain = ancestors(folder, info)
        except (LossbookError, OSError) as error:
            self._missing(info.parent.run, str(error))
        else:
            if not self._chain:
                self._missing(info.parent.run, "it is not in the store")
            elif not self._chain[-1].is_there:
                self._missing(self._chain[-1].folder, "it is not in the store")

    def rows(self) -> Iterator[LoggedRow]:
        """What the mirror does not hold yet; a parent that cannot be read is passed over from there on."""
        for depth, ancestor in reversed([*enumerate(self._chain)]):
            if ancestor.is_there:
                try:
                    yield from self._rows_of(ancestor, _PARENT * (depth + 1) - _HALF)
                except (LossbookError, OSError) as error:
                    self._missing(ancestor.folder, str(error))
        self._chain = []

    def _rows_of(self, ancestor: Ancestor, base: int) -> Iterator[LoggedRow]:
        folder = ancestor.folder
        refuse_linked_folders(folder)
        resumed = read_run_info(folder)[0].resume_steps()
        again = self._logged_again(folder, {number for number, step in resumed.items() if step is None and number})
        known = {base - number: i for number, i in self._held.items() if -_HALF <= base - number < _HALF}
        for row in self._read(Replay(folder, known)):
            if row.kind is not None or row.step is None or row.step > ancestor.last_step or not visible(row, resumed):
                continue
            suffix = f"/rank_{row.rank}" if row.rank > 0 else ""
            body = {
                key + suffix: value
                for key, value in row.body.items()
                if not any(row.attempt < number and row.step >= first for number, first in again.get(key, {}).items())
            }
            if body:
                # Attempts of a parent are none of the fork's, whose own begin after these rows.
                yield row._replace(rank=base - row.rank, body=body, attempt=0)

    def _logged_again(self, folder: RunFolder, attempts: set[int]) -> dict[str, dict[int, int]]:
        """By key the first step of each attempt that did not say from where it went on: it hides the key from there on."""
        found: dict[str, dict[int, int]] = {}
        for row in self._read(Replay(folder)) if attempts else ():
            if row.kind is None and row.step is not None and row.attempt in attempts:
                for key in row.body:
                    firsts = found.setdefault(key, {})
                    firsts[row.attempt] = min(row.step, firsts.get(row.attempt, row.step))
        return found

    def _read(self, replay: Replay) -> Iterator[LoggedRow]:
        for number, row in enumerate(replay.rows()):
            if number % _BEAT_ROWS == 0:
                self._beat()
            yield row
        self.problems += dict.fromkeys(replay.problems)

    def _missing(self, run: str | RunFolder, why: str) -> None:
        run = os.path.basename(run.path) if isinstance(run, RunFolder) else run
        self.problems.append(f"rows of the run {run}, from which this one was forked, are not delivered with it: {why}")
