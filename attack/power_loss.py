"""Power loss at every moment: what a program did is written down, and what a disk may have kept of it is built again."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attack.child import in_child
from attack.disk import Disk, Keep
from attack.operations import (
    STEPS,
    Returned,
    crashed,
    edit_labels,
    finished,
    left_alone,
    nothing,
    seal,
    seal_what_is_left_behind,
    sealed_in_parts,
    seven_parts,
)
from attack.report import Attempted, Session, Tally
from attack.runs import Contents, begin, complaints, log_events, log_steps, missing, read_store, twice
from attack.shim import arm_recording, mark, read_log

#: What the disk keeps of what was not synced.
LOSSES: dict[str, Callable[[random.Random], Keep]] = {
    "only what was synced": lambda chance: lambda sort: False,
    "names without their data": lambda chance: lambda sort: sort == "name",
    "data without their names": lambda chance: lambda sort: sort == "data",
    "each by chance": lambda chance: lambda sort: chance.random() < 0.5,
}


@dataclass(frozen=True)
class Program:
    """What is going on when power is lost. `act` marks a step when all up to it must survive from then on."""

    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    before: range = range(0)


def train(path: Path) -> None:
    """Log, sync in the middle, finish."""
    run = begin(path / "store")
    log_steps(run, range(STEPS // 2))
    log_events(run)
    if run.sync():
        mark(path / "store", STEPS // 2 - 1)
    log_steps(run, range(STEPS // 2, STEPS))
    run.finish()
    mark(path / "store", STEPS - 1)


def train_on(path: Path) -> None:
    """Resume a run, log, finish."""
    run = begin(path / "store", resume="allow")
    log_steps(run, range(STEPS, 2 * STEPS))
    run.finish()
    mark(path / "store", 2 * STEPS - 1)


def train_and_seal(path: Path) -> None:
    """A short training, sealed as soon as it has ended."""
    train(path)
    seal(path, Returned())


PROGRAMS = (
    Program("init, log, sync, finish, seal", nothing, train_and_seal),
    Program("resume, log, finish", crashed, train_on, range(STEPS)),
    Program("seal", left_alone, lambda path: seal(path, Returned()), range(STEPS)),
    Program("merge at the end", sealed_in_parts, lambda path: seal(path, Returned()), range(STEPS)),
    Program(
        "compaction of eight files", seven_parts, lambda path: seal_what_is_left_behind(path, Returned()), range(80)
    ),
    Program("label edit", finished, lambda path: edit_labels(path, Returned()), range(STEPS)),
)


def attack(session: Session) -> Iterator[Attempted]:
    """Power loss behind each change of each program, with each way to lose what was not synced."""
    for program in PROGRAMS:
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            disk, marks = _written_down(program, Path(folder))
            moments = [number + 1 for number, one in enumerate(disk.done) if one.changes]
            for loss, keeper in LOSSES.items():
                tally = Tally()
                # The end is where most is owed.
                for moment in {*session.choose(moments, short=1, long=12), len(disk.done)}:
                    point = f"{program.name}:{loss}:{moment}"
                    if session.wants(point):
                        keep = keeper(random.Random(f"{session.seed} {point}"))
                        safe = [*program.before, *range(max((s for at, s in marks if at < moment), default=-1) + 1)]
                        _lose_power(disk, moment, keep, safe, Path(folder), point, tally)
                if tally.points:
                    yield tally.row(f"power loss: {loss}", f"{program.name} ({len(moments)} changes)")


def _written_down(program: Program, folder: Path) -> tuple[Disk, list[tuple[int, int]]]:
    """What the program does, and behind which operation it may rely on which step."""
    before, place, log = folder / "before", folder / "place", folder / "log"
    before.mkdir()
    in_child(lambda: program.prepare(before)).must_be_well()
    shutil.copytree(before, place)
    (before / "store").mkdir(exist_ok=True)
    (place / "store").mkdir(exist_ok=True)

    def work() -> None:
        arm_recording(place / "store", log)
        program.act(place)

    in_child(work).must_be_well()
    done = list(read_log(log))
    marks = [(number, one.mark) for number, one in enumerate(done) if one.mark is not None]
    return Disk(place / "store", before / "store", done), marks


def _lose_power(disk: Disk, moment: int, keep: Keep, safe: list[int], folder: Path, point: str, tally: Tally) -> None:
    place = Path(tempfile.mkdtemp(dir=folder))
    disk.write_survivors(moment, keep, place / "store")

    def look() -> tuple[Contents, Contents, list[str]]:
        after = read_store(place / "store")
        seal(place, Returned())
        return after, read_store(place / "store"), complaints(place / "store")

    seen = in_child(look)
    shutil.rmtree(place)
    tally.points += 1
    if seen.answer is None:
        tally.failures.append(f"{point}: {seen.raised or f'signal {seen.signal}'}")
        return
    wrong = []
    *readings, found = seen.answer
    for when, contents in zip(("after the power loss", "after sealing"), readings, strict=True):
        steps = contents.all_steps
        if gone := missing(steps, safe):
            wrong.append(f"{when}: {len(gone)} rows that were safe are gone ({gone[:3]} ...)")
        if steps != list(range(len(steps))) and not twice(steps) and not contents.said:
            wrong.append(f"{when}: what is read is no prefix, and nothing is said")
        wrong += [f"{when}: {one}" for one in (*contents.wrong, *contents.failures)]
        if again := twice(steps):
            wrong.append(f"{when}: {len(again)} rows are read twice")
    if readings[0].all_steps != readings[1].all_steps:
        wrong.append("sealing changed what is read")
    tally.failures += [f"{point}: {one}" for one in wrong]
    tally.sentences["a sentence" if readings[0].said or found else "nothing, and nothing was lost"] += 1
