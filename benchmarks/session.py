"""What the families of figures share: the folder, how long to take, which trackers there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import MeasurementFailed, Outcome, fresh
from benchmarks.recording import record
from benchmarks.trackers import OURS, recorded_in


@dataclass
class Session:
    """One run of the benchmarks.

    Attributes:
        folder: on the disk to be measured; everything is written below it.
        quick: fewer repetitions, smaller runs.
        peers: those that are installed and were not left out.
        failures: a sentence for each measurement that did not come to an end.
    """

    folder: str
    quick: bool
    peers: list[str]
    failures: list[str] = field(default_factory=list)
    _recorded: dict[str, tuple[str, Outcome | None]] = field(default_factory=dict)
    _places: int = 0

    @property
    def trackers(self) -> list[str]:
        return [OURS, *self.peers]

    def place(self, name: str) -> str:
        """A new folder below the session's."""
        self._places += 1
        path = os.path.join(self.folder, f"{self._places:03d}-{name}")
        os.makedirs(path)
        return path

    def measure(self, function: Callable[..., Any], folder: str, **arguments: Any) -> Outcome | None:
        """`fresh`, but a measurement that fails is noted, and None."""
        what = " ".join([function.__name__.replace("_", " "), *(f"{value}" for value in arguments.values())])
        print(f"  {what[:110]} …", file=sys.stderr, flush=True)
        try:
            return fresh(function, folder, **arguments)
        except MeasurementFailed as error:
            self.failures.append(str(error))
            print(f"  failed: {error}", file=sys.stderr, flush=True)
            return None

    def recorded(self, tracker: str) -> tuple[str, Outcome | None]:
        """The folder with `tracker`'s run of ten scalars at 100,000 steps, and what recording it cost.

        Recorded once a session: what is measured while it is written and what is read from it are the same run.
        """
        if tracker not in self._recorded:
            folder = self.place(f"recorded-{tracker}")
            calls = 10_000 if self.quick and tracker != OURS else 100_000
            self._recorded[tracker] = (folder, self.measure(record, folder, tracker=tracker, calls=calls))
        return self._recorded[tracker]

    def written_by(self, tracker: str, folder: str) -> str:
        return recorded_in(tracker, folder)
