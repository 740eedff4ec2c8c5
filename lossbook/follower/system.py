"""The machine's own series, sampled beside the training and written as rows at its last step.

The sampling has a thread of its own in the follower: a driver that hangs holds up neither sealing nor mirrors.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lossbook.follower.journal import OwnRows
from lossbook.follower.terminal_notice import Note, print_note, tell
from lossbook.journal import RowClock, journal_segments, last_row
from lossbook.paths import RunFolder, is_monitor
from lossbook.run_info import load_run_info

if TYPE_CHECKING:
    from lossbook.monitor import Monitor

INTERVAL_SECONDS = 2.0
SHORTEST_SECONDS = 0.1
#: A driver that has not answered for so long is said to hang.
SILENT_SECONDS = 60.0
#: Samples that wait for the follower at the most; it comes by twice a second, and sealing may keep it for minutes.
_MOST_WAITING = 1000
#: A figure of another node counts for the run's sums when it is no older than so many intervals, and this at least.
_FRESH_INTERVALS, _FRESH_SECONDS = 3, 30.0

Sample = tuple[int, dict[str, float]]  # µs, figures


def interval_seconds(environment: Mapping[str, str] | None = None) -> float | None:
    """Seconds between two samples, by `LOSSBOOK_SYSTEM_INTERVAL`; None where it says that none are wanted."""
    text = (os.environ if environment is None else environment).get("LOSSBOOK_SYSTEM_INTERVAL", "").strip().lower()
    if text in ("off", "none", "false"):
        return None
    try:
        seconds = float(text) if text else INTERVAL_SECONDS
    except ValueError:
        return INTERVAL_SECONDS
    if not seconds > 0:
        return None
    return max(SHORTEST_SECONDS, min(seconds, 86_400.0))


class SystemMetrics:
    """The machine's series of one node of a run.

    Args:
        pid: the training process.
        rank: its rank, the lowest on this node.
        rows: where the rows go, when others write there too.
        monitor: makes what samples; called in the sampling thread.
        environment: the training's variables; those of this process unless told otherwise.
        note: takes for a log what is said.
    """

    def __init__(
        self,
        folder: RunFolder,
        pid: int,
        rank: int,
        *,
        rows: OwnRows | None = None,
        monitor: Callable[[], Monitor] | None = None,
        environment: Mapping[str, str] | None = None,
        note: Note = print_note,
    ) -> None:
        self._note = note
        self._folder = folder
        self._pid = pid
        self._rank = rank
        self.rows = rows if rows is not None else OwnRows(folder, rank, note)
        self._make: Callable[[], Monitor] = monitor or (lambda: _monitor(pid, rank, folder, environment, self._say))
        self._interval = interval_seconds(environment)
        self._waiting: deque[Sample] = deque(maxlen=_MOST_WAITING)
        self._to_say: deque[str] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard = 0.0
        self._clock = RowClock()

    def tick(self) -> None:
        """Write what was sampled since the last time; begins the sampling when it is called first.

        Raises:
            LossbookError, OSError: the run's folder cannot be read or written.
        """
        if self._interval is None:
            return
        if self._thread is None and not self._begin():
            return
        while self._to_say:
            tell(self._pid, self._to_say.popleft(), self._note)
        while self._waiting:
            time_us, figures = self._waiting.popleft()
            self._heard = time.monotonic()
            if self._rank == 0:
                from lossbook.monitor import aggregates

                figures.update(aggregates({**figures, **self._figures_of_other_nodes(time_us)}))
            if figures:
                self.rows.append_scalars(figures, time_us=time_us)
        if time.monotonic() - self._heard > max(SILENT_SECONDS, 10 * (self._interval or 0)):
            self._heard = float("inf")
            sentence = "a driver of this machine hangs; the machine's series end here, training goes on"
            tell(self._pid, sentence, self._note)

    def close(self) -> None:
        """End the sampling and let go of the journal; what was sampled since the last tick is left out."""
        # The training's last row has been written: one behind it would come too late for the mirrors.
        self._stop.set()
        self.rows.close()

    def _begin(self) -> bool:
        """Begin to sample, if the run wants it; False as long as its `run.json` is not there."""
        info = load_run_info(self._folder)
        if info is None:
            return False
        if info.system_metrics is False:
            self._interval = None
            return False
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._sample, name="lossbook-monitor", daemon=True)
        self._thread.start()
        return True

    def _sample(self) -> None:
        """In the thread: sample at even times, from a first one that only rates count from."""
        interval = self._interval or INTERVAL_SECONDS
        monitor = self._make()
        monitor.sample()
        due = time.monotonic() + interval
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            figures = monitor.sample()
            self._clock.look()
            self._waiting.append((self._clock.now_us(), figures))
            # What was missed (a machine that slept, a driver that was slow) is not made up for.
            due = max(due + interval, time.monotonic())
        monitor.close()

    def _say(self, sentence: str) -> None:
        self._to_say.append(sentence)

    def _figures_of_other_nodes(self, now_us: int) -> dict[str, float]:
        """The last figures of GPUs of the run's other nodes, from their followers' journals."""
        newest = {
            segment.name.rank: segment
            for segment in journal_segments(self._folder.journal)
            if is_monitor(segment.name.rank) and segment.name.rank != self.rows.rank
        }
        oldest_us = now_us - 1e6 * max(_FRESH_SECONDS, _FRESH_INTERVALS * (self._interval or 0))
        figures: dict[str, float] = {}
        for segment in newest.values():
            row = last_row(segment.path)
            if row is not None and row.kind is None and row.t >= oldest_us:
                figures.update((key, value) for key, value in row.body.items() if key.startswith("system.gpu."))
        return figures


def _monitor(
    pid: int, rank: int, folder: RunFolder, environment: Mapping[str, str] | None, say: Callable[[str], None]
) -> Monitor:
    # What measures is loaded in the sampling thread, for runs that last long enough to be sampled.
    from lossbook.monitor import Monitor

    return Monitor(pid, rank=rank, folder=folder.path, environment=environment, say=say)
