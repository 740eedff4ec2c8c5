"""What mirrors cost: the training thread's `log()` with none and with three, and the mirrors' own processor time."""

from __future__ import annotations

import os
import statistics
import time
from time import perf_counter_ns

from benchmarks.log_call import percentile
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import PROJECT, TRACKERS
from benchmarks.work import one_step, rows_of, ten_columns

THREE = "wandb:offline,trackio,tensorboard"


def time_mirrored(folder: str, mirrors: str, steps: int) -> dict[str, float]:
    """`log()` of 10 scalars a step with a millisecond of work between, in µs."""
    import lossbook

    rows, work = rows_of(ten_columns(2048)), one_step()
    os.chdir(folder)
    run = lossbook.init(project=PROJECT, store=os.path.join(folder, "lossbook"), mirrors=mirrors)
    durations = []
    for step in range(steps):
        work()
        begin = perf_counter_ns()
        run.log(rows[step % 2048], step)
        durations.append(perf_counter_ns() - begin)
    run.finish()
    return {"median": statistics.median(durations) / 1e3, "p99": percentile(durations, 99) / 1e3}


def mirror_steadily(folder: str, mirrors: str, seconds: float) -> dict[str, float]:
    """Log 100 scalars a second (10 rows of 10) for some seconds, and look what the mirrors' processes took meanwhile."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    import lossbook

    rows = rows_of(ten_columns(2048))
    os.chdir(folder)
    run = lossbook.init(project=PROJECT, store=os.path.join(folder, "lossbook"), mirrors=mirrors)

    def processor_seconds() -> float:
        used = 0.0
        for process in psutil.process_iter(["cmdline"]):
            if (
                "lossbook.follower.mirror_process" in (process.info["cmdline"] or [])
                and run.path in process.info["cmdline"]
            ):
                spent = process.cpu_times()
                used += spent.user + spent.system
        return used

    step = 0

    def log_for(duration: float) -> None:
        nonlocal step
        end = time.monotonic() + duration
        while time.monotonic() < end:
            run.log(rows[step % 2048], step)
            step += 1
            time.sleep(0.1)

    # Importing the trackers is paid once a run; it is measured apart.
    log_for(15.0)
    before, begin = processor_seconds(), time.monotonic()
    log_for(seconds)
    share = (processor_seconds() - before) / (time.monotonic() - begin)
    run.finish()
    return {"share": 100 * share, "start": before}


def tracker_steadily(folder: str, tracker: str, seconds: float) -> dict[str, float]:
    """The same rows to one tracker itself, in the training process: what its own tree takes."""
    import psutil

    rows = rows_of(ten_columns(2048))
    used = TRACKERS[tracker](folder)
    log = used.start()
    here = psutil.Process()

    def processor_seconds() -> float:
        total = 0.0
        for process in (here, *here.children(recursive=True)):
            spent = process.cpu_times()
            total += spent.user + spent.system
        return total

    step = 0
    end = time.monotonic() + 5.0
    before, begin = processor_seconds(), time.monotonic()
    counted = False
    while time.monotonic() < end + seconds:
        log(rows[step % 2048], step)
        step += 1
        time.sleep(0.1)
        if not counted and time.monotonic() >= end:
            before, begin, counted = processor_seconds(), time.monotonic(), True
    share = (processor_seconds() - before) / (time.monotonic() - begin)
    used.finish()
    return {"share": 100 * share}


def figures(session: Session) -> list[Figure]:
    steps = 2_000 if session.quick else 10_000
    seconds = 15.0 if session.quick else 60.0
    found: dict[str, list[dict[str, float]]] = {"": [], THREE: []}
    for _ in range(3):
        # Turn by turn, so that a busy moment of the machine falls on both.
        for mirrors, values in found.items():
            outcome = session.measure(time_mirrored, session.place("mirrored"), mirrors=mirrors, steps=steps)
            if outcome is not None:
                values.append(outcome.value)

    def of(mirrors: str, name: str) -> float | None:
        return statistics.median(one[name] for one in found[mirrors]) if found[mirrors] else None

    steady = session.measure(mirror_steadily, session.place("steady"), mirrors=THREE, seconds=seconds)
    peers = {}
    for peer in session.peers:
        outcome = session.measure(tracker_steadily, session.place(peer), tracker=peer, seconds=seconds)
        if outcome is not None:
            peers[peer] = outcome.value["share"]
    bare = of("", "median")
    note = "the training process of a peer is that of its own client; ours is the mirrors' processes, outside training"
    return [
        Figure("mirrors", "`log()` of 10 scalars, no mirror, median, µs", bare),
        Figure(
            "mirrors",
            "`log()` of 10 scalars, three mirrors, median, µs",
            of(THREE, "median"),
            target=Target(at_most=bare * 1.25) if bare else None,
        ),
        Figure("mirrors", "`log()` of 10 scalars, no mirror, 99th percentile, µs", of("", "p99")),
        Figure("mirrors", "`log()` of 10 scalars, three mirrors, 99th percentile, µs", of(THREE, "p99")),
        Figure(
            "mirrors",
            "100 scalars a second to three mirrors, % of one core",
            steady.value["share"] if steady else None,
            peers,
            Target(at_most=5.0),
            note,
        ),
        Figure("mirrors", "starting three mirrors, processor seconds", steady.value["start"] if steady else None),
    ]
