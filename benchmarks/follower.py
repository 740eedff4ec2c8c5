"""What keeps a run company: two hundred short runs in a row, and a run that does nothing."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from benchmarks.harness import Outcome
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import rows_of, ten_columns

RUNS, ROWS = 200, 100


def log_short_runs(folder: str, tracker: str, runs: int) -> dict[str, float]:
    """A sweep of short runs in one process; the seconds from the first to the last, and until all is sealed (ours)."""
    __import__(tracker)
    rows = [{"train/loss": row["train/loss"]} for row in rows_of(ten_columns(ROWS))]
    begin = time.perf_counter()
    for number in range(runs):
        used = TRACKERS[tracker](folder)
        log = used.start(f"run-{number}")
        for step, row in enumerate(rows):
            log(row, step)
        used.finish()
    logged = time.perf_counter()
    seconds = {"logged": logged - begin, "summed_up": 0.0, "sealed": 0.0}
    if tracker == OURS:
        _wait_for(lambda: _summed_up(folder) == runs)
        seconds["summed_up"] = time.perf_counter() - logged
        _wait_for(lambda: not _is_followed(folder))
        seconds["sealed"] = time.perf_counter() - logged
    return seconds


def idle_run(folder: str, seconds: float) -> dict[str, float]:
    """Processor seconds of a follower's first six seconds, and the share of a core that it takes after them."""
    import psutil

    import lossbook
    from lossbook.cli.followers import living_followers

    run = lossbook.init(project="bench", store=os.path.join(folder, OURS))
    run.log({"train/loss": 1.0}, step=0)
    path = os.path.realpath(run.path)
    _wait_for(lambda: bool(living_followers().get(path)))
    follower = psutil.Process(living_followers()[path][0])
    time.sleep(6)
    first, begin = sum(follower.cpu_times()[:4]), time.monotonic()
    time.sleep(seconds)
    later = sum(follower.cpu_times()[:4])
    share = (later - first) / (time.monotonic() - begin)
    return {"start_seconds": first, "percent": 100 * share}


def _summed_up(folder: str) -> int:
    project = os.path.join(folder, OURS, "bench")
    return sum(os.path.exists(os.path.join(project, run, "summary.json")) for run in os.listdir(project))


def _is_followed(folder: str) -> bool:
    from lossbook.cli.followers import living_followers

    return any(path.startswith(os.path.realpath(folder) + os.sep) for path in living_followers())


def _wait_for(condition: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


class _Tree:
    """Samples what lives below this process while something is measured: `processes` beside the measured one, `bytes`."""

    def __init__(self) -> None:
        self.processes = 0
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> _Tree:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        import psutil

        while not self._stop.wait(0.05):
            sizes = []
            for process in psutil.Process().children(recursive=True):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:
                    continue
            self.processes = max(self.processes, len(sizes) - 1)
            self.bytes = max(self.bytes, sum(sizes))


def figures(session: Session) -> list[Figure]:
    runs = 40 if session.quick else RUNS
    seconds: dict[str, float] = {}
    megabytes: dict[str, float] = {}
    processes: dict[str, float] = {}
    ours: dict[str, float] = {}
    for tracker in session.trackers:
        outcome, tree = _short_runs(session, tracker, runs)
        if outcome is None:
            continue
        is_ours = tracker == OURS
        ours = outcome.value if is_ours else ours
        seconds[tracker] = ours["logged"] + ours["summed_up"] if is_ours else outcome.settled_seconds
        megabytes[tracker], processes[tracker] = tree.bytes / 1e6, tree.processes
    idle = session.measure(idle_run, session.place("idle"), seconds=15.0 if session.quick else 60.0)
    start, share = (idle.value["start_seconds"], idle.value["percent"]) if idle is not None else (None, None)

    def line(title: str, values: dict[str, float], target: Target | None, note: str) -> Figure:
        peers = {peer: value for peer, value in values.items() if peer != OURS}
        return Figure("follower", title, values.get(OURS), peers, target, note)

    work = f"{runs} runs of {ROWS} rows one after another in one process"
    after = (
        f"The last run's end is {ours['summed_up']:.2f} s before the last summary, and {ours['sealed']:.1f} s before its "
        "journal has become Parquet, which a reader does not wait for. "
        if ours
        else ""
    )
    return [
        line(
            f"{work}, all readable, s",
            seconds,
            Target(at_most=min(others)) if (others := [seconds[peer] for peer in seconds if peer != OURS]) else None,
            f"Until every run has its state and its summary; of the others until their last process has ended. {after}",
        ),
        line(
            f"{work}, memory of all processes, MB",
            megabytes,
            Target(at_most=300.0),
            "The most at one time, the training process among them.",
        ),
        line(
            f"{work}, processes beside the training",
            processes,
            Target(at_most=2),
            "The most at one time; git, which is asked once, may be one of them.",
        ),
        Figure(
            "follower",
            "A follower's first six seconds, processor seconds",
            start,
            target=Target(at_most=0.15),
            note="One row is logged, and nothing after it.",
        ),
        Figure(
            "follower",
            "A follower of an idle run after that, % of a core",
            share,
            target=Target(at_most=0.3),
            note="The machine's series are sampled every two seconds and written down.",
        ),
    ]


def _short_runs(session: Session, tracker: str, runs: int) -> tuple[Outcome | None, _Tree]:
    with _Tree() as tree:
        outcome = session.measure(log_short_runs, session.place(f"short-{tracker}"), tracker=tracker, runs=runs)
    if outcome is not None:
        print(f"  {tracker}: {tree.processes} processes, {tree.bytes / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return outcome, tree
