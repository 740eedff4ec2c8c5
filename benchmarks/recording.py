"""Recording one run of a known size with any of the trackers."""

from __future__ import annotations

from time import perf_counter

from benchmarks.trackers import TRACKERS
from benchmarks.work import rows_of, ten_columns


def record(folder: str, tracker: str, calls: int) -> dict[str, float]:
    """Log `calls` rows of ten scalars as fast as it goes; seconds from before `init()` to after `finish()`."""
    rows = rows_of(ten_columns(calls))
    __import__(tracker)
    begin = perf_counter()
    used = TRACKERS[tracker](folder)
    log = used.start()
    started = perf_counter()
    for step, row in enumerate(rows):
        log(row, step)
    logged = perf_counter()
    used.finish()
    ended = perf_counter()
    return {
        "calls": calls,
        "scalars": 10 * calls,
        "start_seconds": started - begin,
        "log_seconds": logged - started,
        "finish_seconds": ended - logged,
        "seconds": ended - begin,
    }
