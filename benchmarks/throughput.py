"""A million scalars flat out: how fast, at what cost in processor time and memory, and how large on disk."""

from __future__ import annotations

import os

from benchmarks.harness import counts_whole_tree, folder_bytes
from benchmarks.recording import record
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import rows_of, ten_columns


def make_rows(folder: str, calls: int) -> None:
    """What `record` does without a tracker: its processor time is not the tracker's."""
    rows_of(ten_columns(calls))


def watch_memory(folder: str, tracker: str, calls: int) -> dict[str, float]:
    """Resident MB of the training process after 1,000 calls and after `calls`."""
    import psutil

    process = psutil.Process()
    rows = rows_of(ten_columns(1000))
    used = TRACKERS[tracker](folder)
    log = used.start()
    early = 0.0
    for step in range(calls):
        log(rows[step % 1000], step)
        if step == 999:
            early = process.memory_info().rss / 1e6
    late = process.memory_info().rss / 1e6
    used.finish()
    return {"early": early, "late": late, "calls": calls}


def figures(session: Session) -> list[Figure]:
    speed: dict[str, float] = {}
    cpu: dict[str, float] = {}
    size: dict[str, float] = {}
    parts = ""
    # The first in a session reads everything from a cold disk, whoever it is: this one does not count.
    session.measure(record, session.place("warm-up"), tracker=OURS, calls=1000)
    for tracker in session.trackers:
        folder, outcome = session.recorded(tracker)
        if outcome is None:
            continue
        scalars = outcome.value["scalars"]
        rows = session.measure(make_rows, session.place("rows"), calls=outcome.value["calls"])
        outcomes = [outcome]
        if tracker == OURS:
            # It is over in half a second, so that whatever else the machine does shows: the median of several.
            again = [session.measure(record, session.place(tracker), tracker=tracker, calls=100_000) for _ in range(4)]
            outcomes += [one for one in again if one is not None]
        outcome = sorted(outcomes, key=lambda one: one.value["seconds"])[len(outcomes) // 2]
        speed[tracker] = scalars / outcome.value["seconds"]
        cpu[tracker] = (outcome.cpu_seconds - (rows.cpu_seconds if rows else 0.0)) / scalars * 1e6
        size[tracker] = folder_bytes(session.written_by(tracker, folder)) / scalars
        if tracker == OURS:
            took = outcome.value
            settled = outcome.settled_seconds - outcome.wall_seconds
            parts = (
                f"Ours: init {took['start_seconds'] * 1e3:.0f} ms, log {took['log_seconds'] * 1e3:.0f} ms, "
                f"finish {took['finish_seconds'] * 1e3:.0f} ms; the follower went on sealing for {settled:.1f} s."
            )
    growth: dict[str, float] = {}
    late: dict[str, float] = {}
    for tracker in session.trackers:
        many = 200_000 if session.quick else 1_000_000
        calls = many if tracker == OURS else many // 50
        outcome = session.measure(watch_memory, session.place(tracker), tracker=tracker, calls=calls)
        if outcome is not None:
            growth[tracker] = outcome.value["late"] - outcome.value["early"]
            late[tracker] = outcome.value["late"]

    def line(title: str, values: dict[str, float], target: Target | None, note: str = "") -> Figure:
        peers = {peer: values[peer] for peer in session.peers if peer in values}
        return Figure("throughput", title, values.get(OURS), peers, target, note)

    whole = "" if counts_whole_tree() else " Here only the training process could be counted, not what it left behind."
    work = "100,000 calls" + (" (10,000 for peers)" if session.quick else "")
    return [
        line(
            "1M scalars in 100k calls, scalars/s",
            speed,
            Target(at_least=1_500_000),
            f"{work} of `log()` without a pause, from before `init()` to after `finish()`; ours the median of five "
            f"processes. {parts}",
        ),
        line(
            "processor seconds of the process tree, per 1M scalars",
            cpu,
            Target(at_most=2),
            "user and system time of every process of the tree until the last has ended, sealing included: this "
            "process reaps what its measurements leave behind (`PR_SET_CHILD_SUBREAPER`); less the time that making "
            f"the rows takes.{whole}",
        ),
        line(
            "bytes a scalar on disk, ten scalars a row",
            size,
            Target(at_most=5),
            f"the whole run folder when everything has ended; {work}. tensorboardX keeps float32 only.",
        ),
        line(
            "memory of the training process at the end, MB",
            late,
            Target(at_most=60),
            f"resident; {many:,} calls for ours, {many // 50:,} for peers; numpy, which the benchmark imports, is in it.",
        ),
        line("memory growth from call 1,000 to the last, MB", growth, Target(at_most=1)),
    ]


def bytes_by_part(path: str) -> dict[str, int]:
    """Sizes of the folders in a run folder, and of its own files under ''."""
    parts = {"": 0}
    for entry in os.scandir(path):
        if entry.is_dir():
            parts[entry.name] = folder_bytes(entry.path)
        else:
            parts[""] += entry.stat().st_size
    return parts
