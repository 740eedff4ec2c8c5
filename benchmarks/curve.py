"""Reading one series back to draw it: how fast, however long the run, and whether its spikes can still be seen."""

from __future__ import annotations

import os
import statistics
from time import perf_counter
from typing import Any

from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, PROJECT, TRACKERS
from benchmarks.work import SPIKE, SPIKED_KEY, spike_steps, ten_columns

#: The follower merges sealed files up to about this many rows, so a long run is made of such files.
MERGED_ROWS = 8_000_000


def record_million(folder: str, rows: int) -> None:
    """Record a run of ten series and `rows` steps through the API."""
    columns = ten_columns(rows)
    keys = tuple(columns)
    used = TRACKERS[OURS](folder)
    log = used.start()
    for step, values in enumerate(zip(*columns.values(), strict=True)):
        log(dict(zip(keys, values, strict=True)), step)
    used.finish()


def write_long_run(folder: str, rows: int) -> dict[str, float]:
    """Write a run of one series and `rows` steps as its follower would leave it, without its journal.

    Logging 100,000,000 rows takes ten minutes and sealing them longer. The sealed files are written instead by the
    function that seals (`write_sealed`), each of the size to which the follower merges.
    """
    import numpy

    import lossbook
    from lossbook.paths import RunFolder, SegmentName
    from lossbook.storage.compaction import put_segment
    from lossbook.storage.journal_rows import JournalRows
    from lossbook.storage.segment import Identity, Partials
    from lossbook.storage.segment_file import write_sealed

    begin = perf_counter()
    store = os.path.join(folder, "lossbook")
    run = lossbook.init(project=PROJECT, name="long", store=store)
    run.log({SPIKED_KEY: 11.0}, 0)
    run.finish()
    random = numpy.random.default_rng(0)
    start_us = 1_763_688_000_000_000
    for number, first in enumerate(range(1, rows, MERGED_ROWS)):
        steps = numpy.arange(first, min(first + MERGED_ROWS, rows))
        values = 2.6 + 8.2 * (1 + steps / (0.004 * rows)) ** -0.45 + random.normal(0, 0.06, len(steps))
        journal: Any = JournalRows()
        journal.i, journal.step, journal.t = steps, steps, start_us + 250_000 * steps
        journal.attempt = numpy.zeros(len(steps), dtype=numpy.int16)
        journal.codes = [numpy.zeros(1, dtype=numpy.int32)] * len(steps)
        journal.values = values.astype(numpy.float32).astype(numpy.float64)
        journal.names = {SPIKED_KEY: 0}

        def write(partials: Partials, journal: Any = journal) -> None:
            write_sealed(journal, 0, Identity(PROJECT, run.id), partials)

        # Named as eight segments merged: the follower's names for files of this size.
        put_segment(RunFolder(run.path), SegmentName(0, 2 + 8 * number, 9 + 8 * number), write)
    return {"seconds": perf_counter() - begin}


def read_curve(folder: str, repeats: int) -> dict[str, float]:
    """Time `curve(points=1000)` of the run in `folder`, in ms: the first one of a process, then warm ones."""
    import random

    import lossbook

    begin = perf_counter()
    run = lossbook.open(os.path.join(folder, "lossbook")).run("latest")
    opened = perf_counter()
    curve = run.curve(SPIKED_KEY, points=1000)
    first = perf_counter()
    warm = []
    for repeat in range(repeats):
        # Never twice the same question, so that no kept answer is timed.
        before = perf_counter()
        run.curve(SPIKED_KEY, points=1000 - repeat)
        warm.append(perf_counter() - before)
    places = random.Random(1)
    last = int(curve.x[-1])
    zoomed = []
    for _ in range(repeats):
        left = places.randrange(0, last * 9 // 10)
        before = perf_counter()
        run.curve(SPIKED_KEY, points=1000, start=left, end=left + last // 10)
        zoomed.append(perf_counter() - before)
    return {
        "rows": int(curve.count.sum()),
        "open_ms": (opened - begin) * 1e3,
        "first_ms": (first - opened) * 1e3,
        "warm_ms": statistics.median(warm) * 1e3,
        "zoomed_ms": statistics.median(zoomed) * 1e3,
    }


def read_series(folder: str, tracker: str) -> dict[str, float]:
    """Seconds from nothing to every step and value of one series in a process that has just begun."""
    begin = perf_counter()
    if tracker == OURS:
        import lossbook

        points = len(lossbook.open(os.path.join(folder, "lossbook")).run("latest").curve(SPIKED_KEY, points=1000))
    else:
        points = len(TRACKERS[tracker](folder).read(SPIKED_KEY)[0])
    first = perf_counter() - begin
    return {"points": points, "seconds": first}


def count_spikes(folder: str, tracker: str, rows: int) -> int:
    """How many of the planted one-step spikes are in what the tracker draws of the series with 500 points."""
    planted = spike_steps(rows)
    if tracker == OURS:
        import lossbook

        curve = lossbook.open(os.path.join(folder, "lossbook")).run("latest").curve(SPIKED_KEY, points=500)
        high = [(low, high) for low, high, top in zip(curve.x, curve.x_end, curve.max, strict=True) if top >= SPIKE]
        return sum(any(low <= step <= high for low, high in high) for step in planted)
    if tracker == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        # What its dashboard asks for.
        drawn = {row["step"]: row[SPIKED_KEY] for row in SQLiteStorage.get_logs(PROJECT, "run", max_points=500)}
    elif tracker == "tensorboardX":
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        # A reservoir of that many samples is what TensorBoard keeps of a series (1,000 by default).
        path = os.path.join(folder, "tensorboard", "run")
        events = EventAccumulator(path, size_guidance={SCALARS: 500}).Reload().Scalars(SPIKED_KEY)
        drawn = {event.step: event.value for event in events}
    else:
        return -1
    return sum(drawn.get(step, 0.0) >= SPIKE for step in planted)


def figures(session: Session) -> list[Figure]:
    repeats = 20 if session.quick else 50
    seconds: dict[str, float] = {}
    spikes: dict[str, float] = {}
    steps: dict[str, int] = {}
    for tracker in session.trackers:
        folder, recorded = session.recorded(tracker)
        if recorded is None:
            continue
        steps[tracker] = recorded.value["calls"]
        outcome = session.measure(read_series, folder, tracker=tracker)
        if outcome is not None:
            seconds[tracker] = outcome.value["seconds"]
        if tracker not in (OURS, "wandb"):
            drawn = session.measure(count_spikes, folder, tracker=tracker, rows=recorded.value["calls"])
            if drawn is not None:
                spikes[tracker] = drawn.value
    million = session.place("million")
    session.measure(record_million, million, rows=1_000_000)
    read = session.measure(read_curve, million, repeats=repeats)
    drawn = session.measure(count_spikes, million, tracker=OURS, rows=1_000_000)
    many = 10_000_000 if session.quick else 100_000_000
    long = session.place("long")
    written = session.measure(write_long_run, long, rows=many, timeout=1800.0)
    long_read = session.measure(read_curve, long, repeats=repeats) if written else None

    def of(outcome: Any, name: str) -> float | None:
        return outcome.value[name] if outcome is not None else None

    peers = ", ".join(f"{peer} {steps[peer]:,}" for peer in session.peers if peer in steps)
    found = [
        Figure(
            "curve",
            "curve(points=1000) of 1,000,000 rows, warm, ms",
            of(read, "warm_ms"),
            target=Target(at_most=5),
            note=f"the median of {repeats}, each of another number of points; a run of ten series logged through "
            "the API.",
        ),
        Figure(
            "curve",
            "curve(points=1000) of 1,000,000 rows, the first, ms",
            of(read, "first_ms"),
            note="in a process that has opened the run and drawn nothing yet; the file is in the page cache.",
        ),
        Figure("curve", "a random tenth of 1,000,000 rows, warm, ms", of(read, "zoomed_ms")),
        Figure(
            "curve",
            f"curve(points=1000) of {many:,} rows, warm, ms",
            of(long_read, "warm_ms"),
            target=Target(at_most=20),
            note=f"sealed files written by the sealing function itself, {MERGED_ROWS:,} rows each as merging leaves "
            f"them ({of(written, 'seconds') or 0:,.0f} s), not logged row by row.",
        ),
        Figure("curve", f"curve(points=1000) of {many:,} rows, the first, ms", of(long_read, "first_ms")),
        Figure("curve", f"a random tenth of {many:,} rows, warm, ms", of(long_read, "zoomed_ms")),
        Figure(
            "curve",
            "one series of 100,000 points, new process, s",
            seconds.get(OURS),
            {peer: seconds[peer] for peer in session.peers if peer in seconds},
            note="imports of the reading library included; ours draws 1,000 buckets, a peer's reader gives every "
            f"point ({peers} points). wandb has no reader for its offline files: a small one of the benchmark's own.",
        ),
        Figure(
            "curve",
            "one-step spikes of 20 visible at 500 points",
            None if drawn is None else drawn.value,
            dict(spikes),
            Target(at_least=20),
            note="planted in 1,000,000 rows for ours, in the rows above for peers: what trackio's dashboard asks "
            "for, what TensorBoard keeps in a reservoir of 500. wandb draws only in its cloud.",
        ),
    ]
    return found
