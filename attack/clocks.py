"""The clock jumps, back and forth by up to ten hours, under the training and under those who look at it.

All rows stay, in their order; a live run is left alone by whoever has a clock that is ahead; axes of time stay finite.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lossbook
from attack.child import in_child
from attack.report import Attempted, Session, Tally
from attack.runs import Contents, begin, complaints, log_steps, read_store, seal_quietly, twice
from attack.shim import step_clock
from attack.trainer import Trainer, end_followers

HOUR = 3600.0
STEPS = 60


def attack(session: Session) -> Iterator[Attempted]:
    """Jumps under the training, under a reader, and under a sealer, of a run that lives."""
    yield _under_training(session)
    yield _under_others(session)


def _under_training(session: Session) -> Attempted:
    tally = Tally()
    for seed, chance in session.times(short=2, long=20):
        jumps = {chance.randrange(1, STEPS): chance.choice((-10, -1, -0.01, 0.5, 1, 10)) * HOUR for _ in range(3)}

        def train(path: Path, jumps: dict[int, float] = jumps) -> None:
            run = begin(path / "store")
            for step in range(STEPS):
                step_clock(jumps.get(step, 0.0))
                log_steps(run, [step])
            run.finish()

        def look(path: Path) -> tuple[Contents, list[str], list[str]]:
            seal_quietly(path)
            found = read_store(path / "store")
            run = lossbook.open(path / "store").run("victim")
            odd = []
            for axis in ("wallclock", "elapsed", "time"):
                curve = run.curve("loss", x=axis, points=1000)
                if not all(math.isfinite(x) for x in curve.x.tolist()) or int(curve.count.sum()) != STEPS:
                    odd.append(f"the axis {axis} holds {int(curve.count.sum())} rows")
                elif curve.x[-1] - curve.x[0] > 0.5 * HOUR:
                    odd.append(f"on the axis {axis} rows of a minute lie {curve.x[-1] - curve.x[0]:.0f} s apart")
            if run.duration < 0:
                odd.append(f"it took {run.duration} seconds")
            return found, odd, complaints(path / "store")

        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            in_child(lambda folder=folder: train(Path(folder))).must_be_well()
            seen = in_child(lambda folder=folder: look(Path(folder)))
        tally.points += 1
        if seen.answer is None:
            tally.failures.append(f"seed {seed}, jumps {jumps}: {seen.raised}")
            continue
        found, odd, damaged = seen.answer
        if found.all_steps != list(range(STEPS)):
            odd.append(f"{len(found.all_steps)} of {STEPS} rows are read")
        tally.failures += [
            f"seed {seed}, jumps {jumps}: {one}" for one in (*odd, *found.wrong, *found.failures, *damaged)
        ]
    return tally.row("clock jumps", "in the training process")


def _under_others(session: Session) -> Attempted:
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        place = Path(folder)
        trainer = Trainer(place / "store")
        trainer.wait_for(10)
        for seed, chance in session.times(short=4, long=30):
            ahead = chance.choice((-24, -1, 1, 24)) * HOUR
            seals = chance.random() < 0.5
            if chance.random() < 0.3:
                trainer.pause()

            def look(ahead: float = ahead, seals: bool = seals) -> Contents:
                step_clock(ahead)
                if seals:
                    seal_quietly(place)
                return read_store(place / "store")

            returned = trainer.returned
            seen = in_child(look)
            trainer.go_on()
            trainer.wait_for(10)
            tally.points += 1
            label = f"seed {seed}, {'sealed' if seals else 'read'} with a clock {ahead / HOUR:+g} h"
            if seen.answer is None:
                tally.failures.append(f"{label}: {seen.raised}")
                continue
            steps = seen.answer.all_steps
            if steps != list(range(len(steps))) or len(steps) <= returned:
                tally.failures.append(
                    f"{label}: {len(steps)} rows of {returned + 1} and more are read; {seen.answer.said}"
                )
            if seen.answer.states.get("victim") != "running":
                tally.failures.append(f"{label}: it is called {seen.answer.states.get('victim')}")
            tally.failures += [f"{label}: {one}" for one in seen.answer.wrong + seen.answer.failures]
        status = trainer.finish()
        end_followers(place / "store")
        last = in_child(lambda: read_store(place / "store"))
        steps = last.answer.all_steps if last.answer else []
        if status or steps != list(range(trainer.returned + 1)) or twice(steps):
            tally.failures.append(f"at the end {len(steps)} of {trainer.returned + 1} rows are read; status {status}")
    return tally.row("clock is ahead or behind", "in who reads and seals a live run")
