"""What it costs to have a tracker at all: import, the first and the last call, and the installation."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import venv
from time import perf_counter

from benchmarks.harness import ROOT, start, wait_for_what_is_left
from benchmarks.report import Figure, Target
from benchmarks.session import Session
from benchmarks.trackers import OURS, TRACKERS
from benchmarks.work import rows_of, ten_columns


def time_ends(folder: str, tracker: str) -> dict[str, float]:
    """Milliseconds of `init()` (import left out) and of `finish()` after a thousand rows."""
    __import__(tracker)
    rows = rows_of(ten_columns(1000))
    used = TRACKERS[tracker](folder)
    begin = perf_counter()
    log = used.start()
    started = perf_counter()
    for step, row in enumerate(rows):
        log(row, step)
    logged = perf_counter()
    used.finish()
    return {"init_ms": (started - begin) * 1e3, "finish_ms": (perf_counter() - logged) * 1e3}


def import_ms(folder: str, module: str, repeats: int) -> float:
    """What `import module` adds to a bare interpreter, in ms: medians of whole processes, in turn."""

    def run(code: str) -> float:
        begin = perf_counter()
        process = start([sys.executable, "-c", code], folder, subprocess.DEVNULL)
        process.wait()
        return perf_counter() - begin

    run(f"import {module}")  # writes its byte code
    times = [(run("pass"), run(f"import {module}")) for _ in range(repeats)]
    return (statistics.median(one[1] for one in times) - statistics.median(one[0] for one in times)) * 1e3


def heaviest_imports(folder: str, module: str) -> str:
    """The five modules on which `import module` spends the most time of their own."""
    process = start([sys.executable, "-X", "importtime", "-c", f"import {module}"], folder, subprocess.PIPE)
    text = process.communicate()[0].decode(errors="replace")
    lines = [line.split("|") for line in text.splitlines() if line.startswith("import time:") and "self" not in line]
    spent = sorted(((int(line[0].split(":")[1]), line[2].strip()) for line in lines), reverse=True)
    return ", ".join(f"{name} {microseconds / 1e3:.1f}" for microseconds, name in spent[:5])


def install(folder: str) -> dict[str, float]:
    """Install this checkout into a fresh environment: MB and distributions that it adds.

    Raises:
        RuntimeError: pip could not (no network, most likely).
    """
    path = os.path.join(folder, "environment")
    venv.create(path, with_pip=True)
    python = os.path.join(path, "bin", "python")
    before = _installed(python)
    # Outside of what `fresh` sets up: pip finds its index through the user's home and environment.
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode != 0:
        raise RuntimeError(f"pip could not install this checkout: {done.stderr.strip()[-200:]}")
    after = _installed(python)
    return {"mb": (after[0] - before[0]) / 1e6, "distributions": after[1] - before[1]}


def _installed(python: str) -> tuple[int, int]:
    code = (
        "import sysconfig, os, importlib.metadata as m; p = sysconfig.get_paths()['purelib'];"
        "print(sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(p) for f in fs),"
        " len(list(m.distributions())))"
    )
    size, number = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return int(size), int(number)


def figures(session: Session) -> list[Figure]:
    repeats = 5 if session.quick else 15
    imports: dict[str, float] = {}
    ends: dict[str, dict[str, float]] = {}
    heaviest = ""
    for tracker in session.trackers:
        print(f"  import {tracker} …", file=sys.stderr, flush=True)
        imports[tracker] = import_ms(session.place("import"), tracker, repeats)
        if tracker == OURS:
            heaviest = heaviest_imports(session.place("import"), tracker)
        outcomes = [
            session.measure(time_ends, session.place(tracker), tracker=tracker)
            for _ in range(repeats if tracker == OURS else 3)
        ]
        values = [outcome.value for outcome in outcomes if outcome is not None]
        if values:
            ends[tracker] = {name: statistics.median(one[name] for one in values) for name in values[0]}
    wait_for_what_is_left()
    print("  install …", file=sys.stderr, flush=True)
    size: float | None = None
    number: float | None = None
    why = ""
    try:
        installed = install(session.place("install"))
        size, number = installed["mb"], installed["distributions"]
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        why = f"not measured: {str(error)[:200]}"

    def line(title: str, values: dict[str, float], target: Target, note: str = "") -> Figure:
        peers = {peer: values[peer] for peer in session.peers if peer in values}
        return Figure("footprint", title, values.get(OURS), peers, target, note)

    return [
        line(
            "import, ms",
            imports,
            Target(at_most=50),
            f"a process with the import less a bare interpreter, median of {repeats}, byte code compiled. "
            f"Heaviest of ours, ms: {heaviest}.",
        ),
        line(
            "init(), ms",
            {name: one["init_ms"] for name, one in ends.items()},
            Target(at_most=20),
            f"import left out; median of {repeats} processes (3 for peers).",
        ),
        line(
            "finish() after 1,000 rows, ms",
            {name: one["finish_ms"] for name, one in ends.items()},
            Target(at_most=100),
            "the files are flushed to the disk in it.",
        ),
        Figure(
            "footprint",
            "base install, MB",
            size,
            target=Target(at_most=150),
            note=why or "`pip install` of this checkout into a fresh environment, less what is in that already.",
        ),
        Figure("footprint", "base install, distributions", number, target=Target(at_most=20), note=why),
    ]
