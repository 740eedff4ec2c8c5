"""`RowWriter`: writes what a user logs that is not all plain numbers, value by value.

A value from a device is written when it has arrived, media become rows of their own, and a value that cannot be kept
becomes a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from lossbook.handlers import is_of_handler
from lossbook.journal import Journal
from lossbook.run.deferred import DeferredRows
from lossbook.run.split import split
from lossbook.run.text import shown


class Warn(Protocol):
    """Records a warning row and says it once for each key."""

    def __call__(self, key: str, sentence: str, *, step: int | None = None) -> None: ...


class RowWriter:
    """Writes the rows of one run.

    Args:
        write_late: writes a row whose values came from a device: (scalars, step, time in µs); called from a thread.
    """

    def __init__(self, warn: Warn, write_late: Callable[[dict[str, float], int, int], None]) -> None:
        self._warn = warn
        self._write_late = write_late
        self._deferred: DeferredRows | None = None

    def write(self, metrics: object, step: int | None, journal: Journal) -> None:
        """Write a logged dictionary, at `step` or the journal's next one."""
        parts = split(metrics)
        if parts.deferred:
            if step is None:
                step = journal.step + 1
            journal.step = step
            if self._deferred is None:
                self._deferred = DeferredRows(self._write_late, lambda sentence: self._warn("device", sentence))
            self._deferred.add(parts.deferred, parts.scalars, step, journal.now_us())
        elif parts.scalars or not (parts.events or parts.warnings):
            journal.append_scalars(parts.scalars, step)
            step = journal.step
        elif step is None:
            step = journal.step = journal.step + 1
        for event in parts.events:
            for file in (event.file, *event.more_files):
                if file is not None:
                    journal.put_file(file.path, file.contents)
            journal.append_event(event.kind, event.value, key=event.key, step=step)
        for key, sentence in parts.warnings:
            self._warn(key, sentence, step=step)

    def whole_step(self, step: Any) -> int | None:
        """A step as a 64-bit whole number; None, and a warning, where it is none."""
        try:
            whole = int(step)
            if whole != step:
                self._warn("step", f"step={shown(step)} is not whole; it is recorded as {whole}")
        except Exception as error:
            if is_of_handler(error):
                raise
            self._warn("step", f"step={shown(step)} is no number; the row gets the next step")
            return None
        if not -(1 << 63) <= whole < 1 << 63:
            self._warn("step", f"step={whole} does not fit 64 bits; the row gets the next step")
            return None
        return whole

    def close(self) -> None:
        """Wait for the rows on their way from a device."""
        if self._deferred is not None:
            self._deferred.close()

    def forget(self) -> None:
        """Leave the rows on their way to the parent process."""
        self._deferred = None
