"""`make matrix`: every combination of what the menu "Matrix" has checked, as runs of one group.

    python scripts/matrix.py --jobs 2          # of .config
    python scripts/matrix.py --list            # what there is to do
    python scripts/matrix.py --cell 3          # that one alone; what a Slurm job array calls

Called again, it leaves out what is finished and resumes from its checkpoint what is not. A run belongs to its cell by
a tag, a digest of everything that changes what is learnt: change a learning rate, and all of them are new.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.kconfig import config_path, remark
from scripts.matrix_plan import Cell, Matrix, plan, words
from scripts.train import main as train_one, own_arguments
from trainers.configuration import ROOT, ConfigError, load

#: How often the progress is looked at, and told where it cannot be rewritten in place, in seconds.
LOOK_SECONDS, TELL_SECONDS = 0.2, 60.0


# -- what there is already ----------------------------------------------------------------------------------------


class CellState(NamedTuple):
    """How far a cell is: "finished", "running", "begun" (a checkpoint to go on from) or "open"."""

    state: str
    run: str | None


def state_of(matrix: Matrix, cell: Cell) -> CellState:
    """Look at the runs of a cell; a finished one counts however many were given up before it."""
    import lossbook
    from lossbook.errors import StoreError

    try:
        runs = [run for run in lossbook.open(matrix.store).runs() if cell.tag in run.tags and run.group == matrix.group]
    except StoreError:  # no store yet
        return CellState("open", None)
    for state in ("finished", "running"):
        for run in runs:
            if run.state == state:
                return CellState(state, run.id)
    for run in sorted(runs, key=lambda one: one.created, reverse=True):
        if (matrix.checkpoints / run.id / "last.pt").is_file():
            return CellState("begun", run.id)
    return CellState("open", None)


def gpus_here() -> list[str]:
    """The NVIDIA GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return words(named)
    try:
        return [str(number) for number in range(len(os.listdir("/proc/driver/nvidia/gpus")))]
    except OSError:
        return []


# -- doing it -----------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A cell that is being trained."""

    cell: Cell
    slot: int
    process: subprocess.Popen[bytes]
    log: Path
    lock: IO[str]
    began: float = field(default_factory=time.monotonic)

    def last_line(self) -> str:
        """What the trainer said last."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = [one for one in re.split(r"[\r\n]+", file.read().decode("utf-8", "replace")) if one.strip()]
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""


class Scheduler:
    """Trains cells, some at a time, and says how it goes."""

    def __init__(self, matrix: Matrix, jobs: int) -> None:
        self.matrix, self.jobs = matrix, jobs
        self.running: list[Job] = []
        self.finished: list[Cell] = []
        self.failed: list[Cell] = []
        self.elsewhere: list[Cell] = []
        self.before: list[Cell] = []
        self.stopping = 0
        self.drawn, self.told = 0, time.monotonic()
        gpus, each = gpus_here(), matrix.start.processes
        self.shares = [gpus[slot * each : (slot + 1) * each] for slot in range(jobs)] if gpus else []
        if gpus and len(gpus) < jobs * each and jobs > 1:
            raise ConfigError(f"{jobs} jobs of {each} GPUs each need {jobs * each}, and here are {len(gpus)}")

    def run(self, cells: Sequence[Cell]) -> int:
        """Train what is left of `cells`; the exit status."""
        previous = {one: signal.signal(one, self.stop) for one in (signal.SIGINT, signal.SIGTERM)}
        waiting = list(cells)
        try:
            while (waiting and not self.stopping) or self.running:
                while waiting and not self.stopping and len(self.running) < self.jobs:
                    self.begin(waiting.pop(0))
                for job in [one for one in self.running if one.process.poll() is not None]:
                    self.end(job)
                self.draw()
                if self.running:
                    time.sleep(LOOK_SECONDS)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self.stopping:
            self.say("stopped; make continue goes on from here")
            return 128 + self.stopping
        return 1 if self.failed else 0

    def stop(self, number: int, frame: Any) -> None:
        # Each trainer is in a group of its own, so that it is told once: a second Ctrl-C ends it without a checkpoint.
        again = bool(self.stopping)
        self.stopping = number
        for job in self.running:
            try:
                os.killpg(job.process.pid, signal.SIGKILL if again else number)
            except ProcessLookupError:
                pass

    def begin(self, cell: Cell) -> None:
        matrix = self.matrix
        matrix.logs.mkdir(parents=True, exist_ok=True)
        log = matrix.logs / f"{cell.tag}.log"
        # Also held where two machines share the folder: of two commands one trains the cell.
        lock = log.with_suffix(".lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            found = CellState("running", None)
        else:
            found = state_of(matrix, cell)
        if found.state in ("finished", "running"):
            (self.before if found.state == "finished" else self.elsewhere).append(cell)
            by = f"run {found.run}" if found.run else "another command"
            self.say(
                f"{self.place(cell)}  {'finished before' if found.state == 'finished' else 'is being trained'}: {by}"
            )
            lock.close()
            return
        self.say(f"{self.place(cell)}  {f'goes on with run {found.run}' if found.run else 'begins'}")
        slot = next(number for number in range(self.jobs) if number not in {job.slot for job in self.running})
        environment = {**os.environ, **matrix.start.environment, "PYTHONUNBUFFERED": "1"}
        if self.jobs > 1:
            # Otherwise each would take all cores, and they would wait for each other.
            share = max(1, (os.cpu_count() or 1) // self.jobs)
            environment.setdefault("OMP_NUM_THREADS", str(share))
            if self.shares:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.shares[slot])
        command = matrix.command(cell, found.run if found.state == "begun" else None)
        with log.open("ab") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        self.running.append(Job(cell, slot, process, log, lock))

    def end(self, job: Job) -> None:
        self.running.remove(job)
        job.lock.close()
        minutes, seconds = divmod(int(time.monotonic() - job.began), 60)
        status = job.process.returncode
        if status == 0:
            self.finished.append(job.cell)
            self.say(f"{self.place(job.cell)}  done in {minutes}:{seconds:02d}  {job.last_line()}")
        elif self.stopping:
            self.say(f"{self.place(job.cell)}  {job.last_line().partition(';')[0]}")
        else:
            self.failed.append(job.cell)
            self.say(f"{self.place(job.cell)}  failed (status {status}): {job.last_line()}; see {job.log}")

    def place(self, cell: Cell) -> str:
        count = len(self.matrix.cells)
        return f"[{cell.number + 1:>{len(str(count))}}/{count}] {cell.label}"

    def say(self, line: str) -> None:
        self.clear()
        print(line, flush=True)

    def clear(self) -> None:
        if self.drawn:
            print(f"\x1b[{self.drawn}A\x1b[J", end="")
            self.drawn = 0

    def draw(self) -> None:
        """A line for each job, rewritten in place; elsewhere than on a terminal one a minute."""
        lines = [f"{self.place(job.cell)}  {job.last_line()}" for job in self.running]
        if sys.stdout.isatty():
            width = os.get_terminal_size().columns
            self.clear()
            print("".join(f"{line[: width - 1]}\n" for line in lines), end="", flush=True)
            self.drawn = len(lines)
        elif time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            print("\n".join(lines), flush=True)


def compare(matrix: Matrix) -> None:
    """Print the comparison of the group, against the baseline where there is one."""
    chosen = ["--store", matrix.store] if matrix.store else []
    baseline = matrix.configuration["BASELINE_RUN_ID"]
    command = [
        sys.executable,
        "-m",
        "lossbook.cli",
        *chosen,
        "compare",
        "--group",
        matrix.group,
        "--limit",
        str(max(50, 2 * len(matrix.cells))),
        *(["--baseline", baseline] if baseline else []),
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    print(f"\nThe group {matrix.group}:", flush=True)
    subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path})


def describe(matrix: Matrix) -> Iterator[dict[str, Any]]:
    for cell in matrix.cells:
        found = state_of(matrix, cell)
        yield {
            "cell": cell.number,
            "label": cell.label,
            "tag": cell.tag,
            "state": found.state,
            "run": found.run,
            "command": matrix.command(cell, None),
        }


def main(argv: list[str] | None = None) -> int:
    parser = own_arguments("Train every combination of a configuration.")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--cell", type=int, help="train this one alone, counted from 0")
    parser.add_argument("--list", action="store_true", help="print what there is to do")
    parser.add_argument("--json", action="store_true", help="with --list, as JSON")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="the matrix if it was begun, else the run"
    )
    own, given = parser.parse_known_args(argv)
    try:
        if own.jobs < 1:
            raise ConfigError(f"JOBS is 1 or more, not {own.jobs}")
        configuration = remark(load(own.config or config_path()))
        matrix = plan(configuration, given, own.tracker)
        if own.go_on and not any(state_of(matrix, cell).state != "open" for cell in matrix.cells):
            config = ["--config", str(own.config)] if own.config else []
            tracker = ["--tracker", own.tracker] if own.tracker else []
            return train_one([*config, *tracker, "--resume", "latest", *given])
        if own.list or own.show:
            rows = list(describe(matrix))
            if own.json:
                print(json.dumps({"group": matrix.group, "processes": matrix.start.processes, "cells": rows}))
            for row in rows if not own.json else []:
                print(f"{row['cell']:>4}  {row['state']:<8}  {row['label']}")
            return 0
        cells = matrix.cells
        if own.cell is not None:
            if not 0 <= own.cell < len(cells):
                raise ConfigError(f"there is no cell {own.cell}: they are 0 to {len(cells) - 1}")
            cells = [cells[own.cell]]
        print(f"{len(cells)} of {len(matrix.cells)} runs, group {matrix.group}", flush=True)
        scheduler = Scheduler(matrix, own.jobs)
        status = scheduler.run(cells)
    except ConfigError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 2
    scheduler.say(
        f"{len(scheduler.finished)} finished now, {len(scheduler.before)} before, {len(scheduler.failed)} failed"
        + (f", {len(scheduler.elsewhere)} being trained elsewhere" if scheduler.elsewhere else "")
    )
    if own.cell is None and (scheduler.finished or scheduler.before):
        compare(matrix)
    return status


if __name__ == "__main__":
    sys.exit(main())
