"""The follower's loop: capture once, then seal, summarise and mirror until the training has ended."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable

from lossbook.errors import LossbookError
from lossbook.follower.alerts import Alerts
from lossbook.follower.capture import capture
from lossbook.follower.mirror_process import Mirrors
from lossbook.follower.system import SystemMetrics
from lossbook.journal import DigestKeeper, bring_home, live_writers, next_segment
from lossbook.paths import RunFolder, passing_store, write_json
from lossbook.processes import boot_id, host_name, is_alive, process_start
from lossbook.run_info import load_run_info
from lossbook.storage import seal_run

POLL_SECONDS = 0.5
#: `summary.json` is written at the most every so often, and never for more than a fiftieth of the time.
SUMMARY_SECONDS = 2.0


def follow(folder: RunFolder, pid: int, *, attempt: int, rank: int) -> None:
    """Follow one node's part of a run until every process that writes it here has ended, and its mirrors have it.

    Args:
        pid: the training process that started this follower.
        attempt: the attempt it writes.
        rank: its rank; the follower of rank 0 also keeps `summary.json` and says when the run has crashed.
    """
    run = FollowedRun(folder, pid, attempt=attempt, rank=rank)
    while run.tick():
        time.sleep(POLL_SECONDS)
    run.close()


class FollowedRun:
    """One node's part of a run, from its first row to the last that its mirrors have.

    `tick()` does what is due and does not wait; nothing of it raises.

    Args:
        pid, attempt, rank: as `follow`.
    """

    def __init__(self, folder: RunFolder, pid: int, *, attempt: int, rank: int) -> None:
        from lossbook.storage import LiveSummary

        self.folder = folder
        self.rank = rank
        self._pid = pid
        self._attempt = attempt
        self._is_main = rank == 0
        self._start, self._boot, self._host = process_start(pid), boot_id(), host_name()
        self._summary = LiveSummary(folder) if self._is_main else None
        self._next_summary = 0.0
        self._sealed_at = 0
        self._digests = DigestKeeper(folder)
        self._has_ended = False
        self._mirrors = _mirrors(folder, pid, attempt) if self._is_main else None
        if self._mirrors is not None:
            # First of all: a follower that is killed is missed by its mirrors.
            _quietly(self._mirrors.tend)
        _quietly(lambda: capture(folder, attempt=attempt, main=self._is_main))
        self._system = SystemMetrics(folder, pid, rank)
        self._alerts = Alerts(folder, pid, attempt, self._system.rows) if self._is_main else None

    def tick(self) -> bool:
        """Do what is due; False when there is nothing left to do."""
        if not self._has_ended:
            is_written = self._is_written()
            if not os.path.isdir(self.folder.path):
                return False
            if is_written:
                self._accompany()
                return True
            self._end()
        return self._mirrors is not None and self._mirrors.tend() and os.path.isdir(self.folder.path)

    def close(self) -> None:
        """Let go of the run; one that was to be kept only until its mirrors have it is removed."""
        if not self._has_ended:
            return
        if self._alerts is not None:
            self._alerts.wait()
        if self._mirrors is not None and self._mirrors.all_delivered() and _only_passes(self.folder):
            shutil.rmtree(self.folder.path, ignore_errors=True)

    def _is_written(self) -> bool:
        """Whether a process of this node may still write the run."""
        alive = is_alive(self._pid, self._start, self._boot)
        # The training process may have ended its run and live on (a notebook, a sweep): its journal says so.
        if live_writers(self.folder.journal, host=self._host):
            return True
        # Other ranks than 0 write nothing until they have something.
        return alive and not self._is_main and next_segment(self.folder, self.rank) <= 1

    def _accompany(self) -> None:
        """What is done while training goes on."""
        _quietly(self._system.tick)
        _quietly(self._digests.extend)
        rotated = _rotated_segments(self.folder)
        if rotated and rotated != self._sealed_at:
            _quietly(lambda: seal_run(self.folder, finished=False))
            self._sealed_at = _rotated_segments(self.folder)
        now = time.monotonic()
        if self._summary is not None and now >= self._next_summary:
            _quietly(self._summary.write)
            self._next_summary = now + max(SUMMARY_SECONDS, 50 * (time.monotonic() - now))
        if self._alerts is not None:
            _quietly(self._alerts.tick)
        if self._mirrors is not None:
            _quietly(self._mirrors.tend)

    def _end(self) -> None:
        """What is done once, when nobody here writes the run any more."""
        self._has_ended = True
        if self._alerts is not None:
            _quietly(self._alerts.close)
        _quietly(self._system.close)
        _quietly(lambda: self._digests.extend(to_end=True))
        write_end(self.folder, attempt=self._attempt, main=self._is_main)


def _only_passes(folder: RunFolder) -> bool:
    """Whether the run was to be kept only until its mirrors have it."""
    return os.path.dirname(os.path.dirname(os.path.abspath(folder.path))) == os.path.abspath(passing_store())


def _mirrors(folder: RunFolder, pid: int, attempt: int) -> Mirrors | None:
    """The mirrors that the run asked for; None when it asked for none."""
    info = load_run_info(folder)
    if info is None or not info.mirrors:
        return None
    return Mirrors(folder, list(info.mirrors), mode=info.mode or "online", pid=pid, attempt=attempt)


def write_end(folder: RunFolder, *, attempt: int, main: bool) -> None:
    """Do what is done once a run has ended here: say so where training could not, seal, and sum up."""
    from lossbook.storage import LiveSummary, next_row

    if main and not _has_finished(folder):
        # Only training writes the journal, so that it died is said beside it.
        value = {"attempt": attempt, "state": "crashed", "ended": time.time_ns() // 1000}
        _quietly(lambda: write_json(os.path.join(folder.followers, "watch.json"), value))
    _quietly(lambda: print(*bring_home(folder, next_row=next_row), sep="\n", flush=True))
    # Another node's follower seals what is over of its own, though rank 0 may still write.
    _quietly(lambda: seal_run(folder, finished=not main or not live_writers(folder.journal)))
    if main:
        _quietly(lambda: LiveSummary(folder).write())


def _rotated_segments(folder: RunFolder) -> int:
    """How many journal segments have been left behind by their writers."""
    from lossbook.journal import journal_segments

    segments = journal_segments(folder.journal)
    return len(segments) - len({segment.name.rank for segment in segments})


def _has_finished(folder: RunFolder) -> bool:
    """Whether rank 0 said how it ended."""
    from lossbook.journal import journal_segments, last_row

    segments = [segment for segment in journal_segments(folder.journal) if segment.name.rank == 0]
    if not segments:
        return True
    row = last_row(segments[-1].path)
    return row is not None and row.kind == "finish"


def _quietly(work: Callable[[], object]) -> None:
    """Do one piece of work; when it fails, say so in the follower's log and go on with the others."""
    try:
        work()
    except (LossbookError, OSError) as error:
        print(f"{time.strftime('%H:%M:%S')} {error}", flush=True)
    except Exception:
        import traceback

        traceback.print_exc()
