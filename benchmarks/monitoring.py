"""What system metrics cost: processor time of sampling 8 GPUs, and bytes of an hour of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT
from benchmarks.report import Figure, Target
from benchmarks.session import Session

GPUS = 8
INTERVAL_SECONDS = 2.0

#: A process of its own: the fake library must be there when it starts. Prints seconds per sample and keys per sample.
_SAMPLE = """
import json, os, sys, time
from lossbook.monitor import Monitor, aggregates
monitor = Monitor(os.getpid())
monitor.sample()
samples = int(sys.argv[1])
begin = time.process_time()
for _ in range(samples):
    figures = monitor.sample()
    figures.update(aggregates(figures))
print(json.dumps({"seconds": (time.process_time() - begin) / samples, "keys": len(figures)}))
"""

#: The whole follower: what a run's follower spends with and without sampling, and what lies on the disk afterwards.
_FOLLOW = """
import json, os, sys, time
import psutil, lossbook
from lossbook.cli.followers import living_followers
run = lossbook.init(project="monitoring", store=sys.argv[1])
run.log({"loss": 1.0}, step=0)
path = os.path.realpath(run.path)
while not living_followers().get(path):
    time.sleep(0.05)
follower = psutil.Process(living_followers()[path][0])
time.sleep(3)
before, begin = follower.cpu_times(), time.monotonic()
end = begin + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.1)
    run.log({"loss": 1.0})
spent = follower.cpu_times()
share = (spent.user + spent.system - before.user - before.system) / (time.monotonic() - begin)
run.finish()
while living_followers().get(path):
    time.sleep(0.05)
print(json.dumps({"percent": 100 * share, "path": path}))
"""


def figures(session: Session) -> list[Figure]:
    """Sampling alone, then a whole follower with and without it."""
    folder = session.place("monitoring")
    title = f"Sampling {GPUS} GPUs every {INTERVAL_SECONDS:g} s, % of a core"
    target = Target(at_most=1.0)
    try:
        environment = fake_gpus(Path(folder), GPUS)
    except (OSError, subprocess.CalledProcessError, ImportError) as error:
        return [Figure("monitoring", title, None, target=target, note=f"It needs cc and nvidia-ml-py ({error}).")]
    sampled = _ask(_SAMPLE, ["50" if session.quick else "300"], environment)
    seconds = 20.0 if session.quick else 60.0
    with_samples = _ask(_FOLLOW, [os.path.join(folder, "with"), str(seconds)], environment)
    without = _ask(
        _FOLLOW, [os.path.join(folder, "without"), str(seconds)], {**environment, "LOSSBOOK_SYSTEM_INTERVAL": "off"}
    )
    sealed = _sealed_bytes(str(with_samples["path"]), "r-1000") / (seconds / INTERVAL_SECONDS) / int(sampled["keys"])
    return [
        Figure(
            "monitoring",
            title,
            100 * sampled["seconds"] / INTERVAL_SECONDS,
            target=target,
            note=f"{sampled['keys']} series, {1e3 * sampled['seconds']:.2f} ms a sample, through NVIDIA's bindings on a "
            "library that stands in for the driver and answers at once: a real one takes longer.",
        ),
        Figure(
            "monitoring",
            f"A whole follower with {GPUS} GPUs sampled, less one without, % of a core",
            with_samples["percent"] - without["percent"],
            target=target,
            note=f"The same run for {seconds:.0f} s: {with_samples['percent']:.2f} with, {without['percent']:.2f} without. "
            "Writing the rows and keeping the summary of their series are in it.",
        ),
        Figure(
            "monitoring",
            "A sampled figure on the disk, sealed, bytes",
            sealed,
            note=f"Of {seconds:.0f} s; the fixed part of the files weighs less in a longer run.",
        ),
    ]


def fake_gpus(folder: Path, count: int) -> dict[str, str]:
    """The environment of a machine with that many NVIDIA GPUs: the fake library of the tests, compiled here."""
    sys.path.insert(0, os.path.join(ROOT, "tests", "monitor"))
    try:
        from fake_nvml import FakeNvml, compile_library
    finally:
        sys.path.pop(0)
    import pynvml  # noqa: F401

    gpus = FakeNvml(compile_library(folder / "library"), folder)
    gpus.set(f"cards {count}")
    return {**os.environ, **gpus.environment, "PYTHONUNBUFFERED": "1"}


def _ask(program: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    environment = {name: value for name, value in environment.items() if name != "LOSSBOOK_FOLLOWER"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _sealed_bytes(path: str, begin: str) -> int:
    folder = Path(path)
    return sum(
        file.stat().st_size for part in ("metrics", "events") for file in (folder / part).glob(f"{begin}-*.parquet")
    )
