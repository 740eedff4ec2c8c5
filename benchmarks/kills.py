"""What is lost when the whole process tree is killed right after `log()` returned."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time

from benchmarks.harness import MeasurementFailed, fresh, start, wait_for_what_is_left
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import TEN_KEYS

MARK = "last-returned"
#: `log_until_killed` gives each row its own step as its value under this key, so that a wrong value shows too.
KEY = TEN_KEYS[0]


def log_until_killed(folder: str, tracker: str, pause: float) -> None:
    """Log for ever; after each return write the step into a page that outlives this process."""
    with open(os.path.join(folder, MARK), "r+b") as file:
        page = mmap.mmap(file.fileno(), 8)
    log = TRACKERS[tracker](folder).start()
    others = {key: 0.1 * place for place, key in enumerate(TEN_KEYS)}
    step = 0
    while True:
        log({**others, KEY: float(step)}, step)
        page[:8] = struct.pack("<q", step)
        step += 1
        if pause:
            time.sleep(pause)


def kill_one(folder: str, tracker: str, pause: float, delay: float) -> int:
    """Start such a process, kill all of it `delay` seconds after its first row; returns the last step returned."""
    import psutil

    mark = os.path.join(folder, MARK)
    with open(mark, "wb") as file:
        file.write(struct.pack("<q", -1))
    code = f"from benchmarks.kills import log_until_killed as f; f({folder!r}, {tracker!r}, {pause!r})"
    process = start([sys.executable, "-c", code], folder, subprocess.DEVNULL, group=True)
    try:
        deadline = time.monotonic() + 60
        while last_returned(mark) < 0:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"{tracker} logged nothing (status {process.poll()})")
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        # The group first, in one signal; then what has left it for a session of its own.
        try:
            tree = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            for other in tree:
                other.kill()
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
        process.wait()
        wait_for_what_is_left(10)
    return last_returned(mark)


def last_returned(mark: str) -> int:
    with open(mark, "rb") as file:
        return int(struct.unpack("<q", file.read(8))[0])


def count_lost(folder: str, tracker: str, last: int) -> int:
    """How many of the steps 0 to `last` the tracker's reader does not give back with their values."""
    steps, values = TRACKERS[tracker](folder).read(KEY)
    kept = {step for step, value in zip(steps, values, strict=True) if step <= last and value == step}
    return last + 1 - len(kept)


def figures(session: Session) -> list[Figure]:
    moments = random.Random(20251121)
    kills = {OURS: 10 if session.quick else 100}
    lost: dict[str, int] = {}
    rows: dict[str, int] = {}
    for tracker in session.trackers:
        number = kills.setdefault(tracker, 2 if session.quick else 5)
        print(f"  killing {tracker} {number} times …", file=sys.stderr, flush=True)
        done = 0
        for _ in range(number):
            folder = session.place(f"killed-{tracker}")
            # We are killed while writing as fast as we can; peers get a millisecond a step and time to settle.
            pause, delay = (0.0, moments.uniform(0.0, 0.4)) if tracker == OURS else (0.001, moments.uniform(2, 5))
            try:
                last = kill_one(folder, tracker, pause, delay)
                missing = fresh(count_lost, folder, tracker=tracker, last=last).value
            except (RuntimeError, MeasurementFailed) as error:
                session.failures.append(str(error))
                continue
            done += 1
            lost[tracker] = lost.get(tracker, 0) + missing
            rows[tracker] = rows.get(tracker, 0) + last + 1
        kills[tracker] = done
    each = {peer: lost[peer] / kills[peer] for peer in session.peers if peer in lost}
    words = ", ".join(f"{name} {lost[name]} of {rows[name]:,} in {kills[name]}" for name in lost)
    return [
        Figure(
            "kills",
            "rows lost to SIGKILL of the whole tree, a kill",
            lost[OURS] / kills[OURS] if OURS in lost else None,
            each,
            Target(at_most=0, at_least=0),
            "killed at a random moment: ours within 0.4 s of the first row, writing without a pause; peers after 2 to "
            "5 s at a row a millisecond. The number of the last `log()` that returned stands in shared memory; "
            f"rows lost and kills: {words}.",
        )
    ]
