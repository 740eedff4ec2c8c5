"""How much slower a training loop is for being tracked: all of it, background threads and processes included."""

from __future__ import annotations

import statistics
from time import perf_counter

from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import one_step, rows_of, ten_columns

SETTLE_SECONDS = 3.0


def time_loop(folder: str, tracker: str, steps: int) -> dict[str, float]:
    """Mean µs a step of the same loop before the tracker is there, and with it.

    Both in one process, so that what differs between processes (where memory lies, which core) cancels.
    """
    rows = rows_of(ten_columns(2048))
    work = one_step()
    for _ in range(300):
        work()

    begin = perf_counter()
    for step in range(steps):
        row = rows[step % 2048]
        work()
    without = perf_counter() - begin

    used = TRACKERS[tracker](folder)
    log = used.start()
    # What a tracker starts beside the training (a service, a follower) loads its libraries first, once.
    step = 0
    settled = perf_counter() + SETTLE_SECONDS
    while perf_counter() < settled:
        work()
        log(rows[step % 2048], step)
        step += 1
    begin = perf_counter()
    for later in range(step, step + steps):
        row = rows[later % 2048]
        work()
        log(row, later)
    tracked = perf_counter() - begin
    used.finish()
    return {"without": without / steps * 1e6, "with": tracked / steps * 1e6}


def figures(session: Session) -> list[Figure]:
    steps = 1_000 if session.quick else 5_000
    repeats = 3 if session.quick else 5
    slower: dict[str, list[float]] = {}
    alone: list[float] = []
    # One of each in turn: when the machine's load drifts, it drifts for all of them.
    for _ in range(repeats):
        for tracker in ("nothing", *session.trackers):
            outcome = session.measure(time_loop, session.place(tracker), tracker=tracker, steps=steps)
            if outcome is not None:
                slower.setdefault(tracker, []).append(outcome.value["with"] - outcome.value["without"])
                alone.append(outcome.value["without"])
    medians = {tracker: statistics.median(times) for tracker, times in slower.items()}
    noise = slower.get("nothing", [0.0])
    return [
        Figure(
            "slowdown",
            "slow-down of a training loop, µs a step",
            medians.get(OURS),
            {peer: medians[peer] for peer in session.peers if peer in medians},
            Target(at_most=5),
            f"{steps:,} steps of {statistics.median(alone) if alone else 0:,.0f} µs of matrix products, without the "
            f"tracker and then with it, {SETTLE_SECONDS:.0f} s after its start, in one process; the median of {repeats} "
            "processes. The same with no tracker at all differed by "
            f"{min(noise):+.1f} to {max(noise):+.1f} µs: that is the noise of this machine.",
        )
    ]
