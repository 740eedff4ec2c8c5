"""How large a run is that logged what real trainers log: thirty series, of noise, schedules and counters."""

from __future__ import annotations

import glob
import os

from benchmarks.harness import folder_bytes
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.throughput import bytes_by_part
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import rows_of, thirty_columns


def record_thirty(folder: str, tracker: str, rows: int) -> int:
    """Log `rows` rows of thirty series; returns the number of scalars."""
    columns = thirty_columns(rows)
    used = TRACKERS[tracker](folder)
    log = used.start()
    for step, row in enumerate(rows_of(columns)):
        log(row, step)
    used.finish()
    return rows * len(columns)


def figures(session: Session) -> list[Figure]:
    ours, peers = (20_000, 1_000) if session.quick else (50_000, 5_000)
    whole: dict[str, float] = {}
    inner: float | None = None
    values: float | None = None
    split = ""
    for tracker in session.trackers:
        folder = session.place(f"thirty-{tracker}")
        rows = ours if tracker == OURS else peers
        outcome = session.measure(record_thirty, folder, tracker=tracker, rows=rows)
        if outcome is None:
            continue
        whole[tracker] = folder_bytes(session.written_by(tracker, folder)) / outcome.value
        if tracker == OURS:
            (run,) = glob.glob(os.path.join(folder, "lossbook", "*", "*", "run.json"))
            parts = bytes_by_part(os.path.dirname(run))
            values = parts.get("metrics", 0) / outcome.value
            inner = values + parts.get("rollups", 0) / outcome.value
            split = "Ours in bytes: " + ", ".join(f"{name or 'files'} {size:,}" for name, size in sorted(parts.items()))
    note = f"{ours:,} steps of thirty series ({peers:,} for peers), after everything has ended. {split}."
    return [
        Figure(
            "size",
            "bytes a scalar, realistic run, whole folder",
            whole.get(OURS),
            {peer: whole[peer] for peer in session.peers if peer in whole},
            Target(at_most=5),
            note,
        ),
        Figure("size", "bytes a scalar, realistic run, metrics/ and rollups/ alone", inner, note="values and rollups."),
        Figure("size", "bytes a scalar, realistic run, without rollups", values),
    ]
