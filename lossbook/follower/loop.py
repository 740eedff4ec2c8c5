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
from lossbook.journal import bring_home, live_writers, next_segment
from lossbook.paths import RunFolder, passing_store, write_json
from lossbook.processes import boot_id, host_name, is_alive, process_start
from lossbook.run_info import load_run_info

POLL_SECONDS = 0.5
#: `summary.json` is written at the most every so often, and never for more than a fiftieth of the time.
SUMMARY_SECONDS = 2.0


def follow(folder: RunFolder, pid: int, *, attempt: int, rank: int) -> None:
    """Follow one node's part of a run until every process that writes it here has ended.

    Args:
        pid: the training process that started this follower.
        attempt: the attempt it writes.
        rank: its rank; the follower of rank 0 also keeps `summary.json` and says when the run has crashed.
    """
    from lossbook.storage import LiveSummary, seal_run

    start, boot = process_start(pid), boot_id()
    host = host_name()
    summary = LiveSummary(folder) if rank == 0 else None
    mirrors = _mirrors(folder, pid, attempt) if rank == 0 else None
    if mirrors is not None:
        # First of all: a follower that is killed is missed by its mirrors.
        _quietly(mirrors.tend)
    _quietly(lambda: capture(folder, attempt=attempt, main=rank == 0))
    system = SystemMetrics(folder, pid, rank)
    alerts = Alerts(folder, pid, attempt, system.rows) if rank == 0 else None
    next_summary = 0.0
    sealed_at = 0
    while True:
        alive = is_alive(pid, start, boot)
        writers = live_writers(folder.journal, host=host)
        if not os.path.isdir(folder.path):
            return
        # The training process may have ended its run and live on (a notebook, a sweep): its journal says so.
        begun = rank == 0 or next_segment(folder, rank) > 1  # other ranks write nothing until they have something
        if not writers and (begun or not alive):
            break
        _quietly(system.tick)
        rotated = _rotated_segments(folder)
        if rotated and rotated != sealed_at:
            _quietly(lambda: seal_run(folder, finished=False))
            sealed_at = _rotated_segments(folder)
        now = time.monotonic()
        if summary is not None and now >= next_summary:
            _quietly(summary.write)
            next_summary = now + max(SUMMARY_SECONDS, 50 * (time.monotonic() - now))
        if alerts is not None:
            _quietly(alerts.tick)
        if mirrors is not None:
            _quietly(mirrors.tend)
        time.sleep(POLL_SECONDS)
    if alerts is not None:
        _quietly(alerts.close)
    _quietly(system.close)
    write_end(folder, attempt=attempt, main=rank == 0)
    while mirrors is not None and mirrors.tend() and os.path.isdir(folder.path):
        time.sleep(POLL_SECONDS)
    if alerts is not None:
        alerts.wait()
    if mirrors is not None and mirrors.all_delivered() and _only_passes(folder):
        shutil.rmtree(folder.path, ignore_errors=True)


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
    from lossbook.storage import LiveSummary, next_row, seal_run

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
