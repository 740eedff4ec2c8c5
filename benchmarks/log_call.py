"""What one `log()` costs the thread that trains."""

from __future__ import annotations

import os
import statistics
import time
from time import perf_counter_ns
from typing import Any

from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import one_step, rows_of, ten_columns


def time_calls(folder: str, tracker: str, calls: int, paced: int) -> dict[str, float]:
    """Time `calls` calls back to back, then `paced` calls with a millisecond of work before each. In µs."""
    rows = rows_of(ten_columns(2048))
    used = TRACKERS[tracker](folder)
    log = used.start()
    for step in range(200):
        log(rows[step], step)
    durations = []
    for step in range(200, 200 + calls):
        row = rows[step % 2048]
        begin = perf_counter_ns()
        log(row, step)
        durations.append(perf_counter_ns() - begin)
    between = []
    work = one_step()
    for step in range(200 + calls, 200 + calls + paced):
        row = rows[step % 2048]
        work()
        begin = perf_counter_ns()
        log(row, step)
        between.append(perf_counter_ns() - begin)
    used.finish()
    return {
        "median": statistics.median(durations) / 1e3,
        "p99": percentile(durations, 99) / 1e3,
        "paced_median": statistics.median(between) / 1e3,
        "paced_p99": percentile(between, 99) / 1e3,
    }


def time_beside_bare(folder: str, rounds: int, calls: int, paced: int) -> dict[str, float]:
    """Time `log()` and, in turns with it, the bare encoding and `write(2)` of the same rows; medians, ours over bare."""
    import orjson

    rows = rows_of(ten_columns(2048))
    used = TRACKERS[OURS](folder)
    log = used.start()
    file = os.open(os.path.join(folder, "bare.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare(row: dict[str, float], step: int) -> None:
        line = {"i": step, "t": time.time_ns() // 1000, "s": step, "m": row}
        os.write(file, orjson.dumps(line, None, orjson.OPT_APPEND_NEWLINE))

    ways = {"ours": log, "bare": bare}
    took: dict[tuple[str, bool], list[int]] = {(way, work): [] for way in ways for work in (False, True)}
    for _ in range(rounds):
        for way, write in ways.items():
            for work in (False, True):
                durations = took[way, work]
                for step in range(paced if work else calls):
                    row = rows[step % 2048]
                    if work:
                        until = perf_counter_ns() + 200_000
                        while perf_counter_ns() < until:
                            pass
                    begin = perf_counter_ns()
                    write(row, step)
                    durations.append(perf_counter_ns() - begin)
    used.finish()
    os.close(file)
    flat, between = (
        statistics.median(took["ours", work]) / statistics.median(took["bare", work]) for work in (False, True)
    )
    return {"flat": flat, "between": between}


def percentile(values: list[int], of_hundred: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * of_hundred / 100))])


def figures(session: Session) -> list[Figure]:
    calls = {OURS: 20_000, "wandb": 5_000, "trackio": 20_000, "tensorboardX": 3_000}
    paced = 500 if session.quick else 2_000
    repeats = 3 if session.quick else 5
    found: dict[str, dict[str, float]] = {}
    for tracker in session.trackers:
        outcomes: list[dict[str, float]] = []
        for _ in range(repeats if tracker == OURS else 1 + repeats // 3):
            number = calls[tracker] // (4 if session.quick and tracker != OURS else 1)
            outcome = session.measure(time_calls, session.place(tracker), tracker=tracker, calls=number, paced=paced)
            if outcome is not None:
                outcomes.append(outcome.value)
        if outcomes:
            found[tracker] = {name: statistics.median(one[name] for one in outcomes) for name in outcomes[0]}

    def of(name: str) -> dict[str, Any]:
        return {
            "ours": found[OURS][name] if OURS in found else None,
            "peers": {peer: found[peer][name] for peer in session.peers if peer in found},
        }

    peers = of("median")["peers"]
    ours = of("median")["ours"]
    ratio = min(peers.values()) / ours if peers and ours else None
    beside = session.measure(
        time_beside_bare, session.place("bare"), rounds=6, calls=calls[OURS] // 6, paced=paced // 6
    )

    def times_bare(name: str) -> float | None:
        return beside.value[name] if beside is not None else None

    return [
        Figure(
            "log",
            "times bare orjson and `write(2)`, back to back",
            times_bare("flat"),
            target=Target(at_most=1.4),
            note="medians of the same rows in the same process, in turns.",
        ),
        Figure(
            "log",
            "times bare orjson and `write(2)`, 200 µs of work between",
            times_bare("between"),
            target=Target(at_most=1.4),
        ),
        Figure(
            "log",
            "log() of 10 scalars, median, µs",
            **of("median"),
            target=Target(at_most=3),
            note=f"{calls[OURS]:,} calls back to back (fewer for slow peers), the clock around each; the median "
            f"over {repeats} processes. tensorboardX: ten calls of `add_scalar`.",
        ),
        Figure("log", "log() of 10 scalars, 99th percentile, µs", **of("p99"), target=Target(at_most=15)),
        Figure(
            "log",
            "log() in a loop of 1 ms steps, median, µs",
            **of("paced_median"),
            note="the step leaves the caches cold; no target, but what training sees.",
        ),
        Figure("log", "log() in a loop of 1 ms steps, 99th percentile, µs", **of("paced_p99")),
        Figure(
            "log", "times faster than the fastest peer", ratio, target=Target(at_least=10), note="medians back to back."
        ),
    ]
