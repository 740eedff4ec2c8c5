"""A fault at each file operation of everything that writes or reads a run: SIGKILL, EIO, ESTALE, ENOSPC, EDQUOT, EROFS.

An undisturbed run of an operation is written down first. Then the operation is done again on a fresh copy of the store
for each of its file operations and each fault that this kind of file operation can meet with.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lossbook
from attack.child import in_child
from attack.report import Attempted, Session, Tally
from attack.runs import (
    Contents,
    begin,
    complaints,
    log_events,
    log_steps,
    missing,
    read_store,
    twice,
    victim,
)
from attack.shim import FAULTS, Fault, FileOperation, arm, arm_recording, disarm, read_log
from lossbook.cli.maintenance import seal_folder
from lossbook.errors import LossbookError, StoreError
from lossbook.follower.cursor import Cursor, load_cursor
from lossbook.reading import set_labels
from lossbook.storage import seal_run

STEPS = 30


class Returned:
    """The last step whose `log()` has returned, kept where SIGKILL does not reach it."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        self.set(-1)

    def set(self, step: int) -> None:
        self._shared[:8] = struct.pack("<q", step)

    def get(self) -> int:
        return int(struct.unpack("<q", self._shared[:8])[0])


@dataclass(frozen=True)
class Operation:
    """What is attacked.

    Attributes:
        prepare: makes the store that it begins from.
        act: the operation; raises nothing but LossbookErrors.
        again: what is done after the fault: the same again, unless said otherwise.
        before: steps that are safe before it begins.
        logs: the steps that it logs itself.
        trains: it is part of a training, so it may not raise at all.
        check: what else must hold after the second attempt; sentences of what does not.
    """

    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path, Returned], None]
    again: Callable[[Path, Returned], None]
    before: range = range(0)
    logs: range = range(0)
    trains: bool = False
    below: str = "store"
    check: Callable[[Path], list[str]] = lambda path: []


@dataclass(frozen=True)
class Seen:
    """What was seen after a fault, and after the second attempt."""

    after: Contents
    finally_: Contents
    second_error: str
    complaints: list[str]
    more: list[str]


# -- stores to begin from ---------------------------------------------------------------------------------------------


def nothing(path: Path) -> None:
    """No store yet."""


def left_alone(path: Path) -> None:
    """A run that ended without a follower: three segments of journal, media and events."""
    run = begin(path / "store")
    log_steps(run, range(STEPS))
    log_events(run)
    run.finish()


def sealed_in_parts(path: Path) -> None:
    """A run that ended, of which several segments were sealed each for itself."""
    run = begin(path / "store")
    for first in range(0, STEPS, 10):
        log_steps(run, range(first, first + 10))
        seal_run(victim(path / "store"), finished=False)
    log_events(run)
    run.finish()


def seven_parts(path: Path) -> None:
    """A run whose process died, with seven sealed files and an eighth segment that makes them worth merging."""
    run = begin(path / "store")
    for first in range(0, 8 * 10, 10):
        log_steps(run, range(first, first + 10))
        if first < 70:
            seal_run(victim(path / "store"), finished=False)


def crashed(path: Path) -> None:
    """A run whose process died."""
    log_steps(begin(path / "store"), range(STEPS))


def finished(path: Path) -> None:
    """A run that ended and was sealed."""
    left_alone(path)
    seal_folder(victim(path / "store"))


# -- operations -------------------------------------------------------------------------------------------------------


def log_and_finish(path: Path, returned: Returned) -> None:
    run = begin(path / "store")
    for step in range(STEPS):
        log_steps(run, [step])
        returned.set(step)
        if step == STEPS // 2:
            log_events(run)
            run.sync()
    run.finish()


def resume(path: Path, returned: Returned) -> None:
    run = begin(path / "store", resume="allow")
    for step in range(STEPS, 2 * STEPS):
        log_steps(run, [step])
        returned.set(step)
    run.finish()


def seal(path: Path, returned: Returned) -> None:
    if os.path.isdir(victim(path / "store").path):
        seal_and_summarise(path)


def seal_and_summarise(path: Path) -> None:
    """What `lossbook seal` does."""
    seal_folder(victim(path / "store"))


def seal_what_is_left_behind(path: Path, returned: Returned) -> None:
    seal_run(victim(path / "store"), finished=False)


def edit_labels(path: Path, returned: Returned) -> None:
    set_labels(victim(path / "store").path, name="renamed", tags=["a", "b"], notes="a note")


def _check_labels(path: Path) -> list[str]:
    run = lossbook.open(path / "store").run("victim")
    return [] if (run.name, run.tags) == ("renamed", ["a", "b"]) else [f"named {run.name!r}, tags {run.tags}"]


def build_index(path: Path, returned: Returned) -> None:
    os.environ["LOSSBOOK_CACHE"] = str(path / "store" / ".attack-cache")
    runs = lossbook.open(path / "store").runs()
    if [run.id for run in runs] != ["victim"]:
        raise AssertionError(f"the index lists {runs}")


def check_files(path: Path, returned: Returned) -> None:
    complaints(path / "store")


def read_run(path: Path, returned: Returned) -> None:
    found = read_store(path / "store")
    if found.wrong or found.failures:
        raise AssertionError(f"read: {found.wrong + found.failures}")
    if found.all_steps != list(range(STEPS)) and not found.said:
        raise AssertionError(f"{len(found.all_steps)} of {STEPS} rows are read without a word")


def save_cursor(path: Path, returned: Returned) -> None:
    folder = victim(path / "store")
    cursor = load_cursor(folder, "tensorboard")
    if cursor.delivered.get(0, 0) not in (0, 10, 20):
        raise AssertionError(f"the cursor says {cursor.delivered}")
    try:
        for row in (10, 20):
            Cursor("tensorboard", delivered={0: row}).save(folder)
    except OSError as error:
        # What delivers catches it, says so in the cursor's own error, and tries again.
        raise StoreError(str(error)) from error


def _check_cursor(path: Path) -> list[str]:
    delivered = load_cursor(victim(path / "store"), "tensorboard").delivered
    return [] if delivered == {0: 20} else [f"the cursor says {delivered}"]


_ALL = range(STEPS)
OPERATIONS = (
    Operation("init, log, sync, finish", nothing, log_and_finish, seal, logs=_ALL, trains=True),
    Operation("resume, log, finish", crashed, resume, seal, before=_ALL, logs=range(STEPS, 2 * STEPS), trains=True),
    Operation("seal", left_alone, seal, seal, before=_ALL),
    Operation("merge at the end", sealed_in_parts, seal, seal, before=_ALL),
    Operation("compaction of eight files", seven_parts, seal_what_is_left_behind, seal, before=range(80)),
    Operation("label edit", finished, edit_labels, edit_labels, before=_ALL, check=_check_labels),
    Operation("cursor of a mirror", finished, save_cursor, save_cursor, before=_ALL, check=_check_cursor),
    Operation("index of the store", finished, build_index, build_index, before=_ALL),
    Operation("verify", finished, check_files, check_files, before=_ALL),
    Operation("reading a sealed run", finished, read_run, read_run, before=_ALL),
    Operation("reading a journal", left_alone, read_run, read_run, before=_ALL),
)


# -- the attack -------------------------------------------------------------------------------------------------------


def attack(session: Session) -> Iterator[Attempted]:
    """Each fault at each file operation of each operation."""
    # SIGKILL amid, ESTALE and EDQUOT stand for their like in a short attack.
    faults = FAULTS[1::2] if session.short else FAULTS
    for operation in OPERATIONS:
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            yield from _attack_one(session, operation, faults, Path(folder))


def _attack_one(session: Session, operation: Operation, faults: Sequence[Fault], folder: Path) -> Iterator[Attempted]:
    template = folder / "template"
    template.mkdir()
    in_child(lambda: operation.prepare(template)).must_be_well()
    done = _undisturbed(operation, template, folder)
    for fault in faults:
        numbers = [number for number, one in enumerate(done) if one.kind in fault.strikes]
        tally = Tally()
        for number in session.choose(numbers, short=1, long=12):
            if session.wants(f"{operation.name}:{fault.name}:{number}"):
                _strike(operation, fault, number, done[number], template, folder, tally)
        if tally.points:
            yield tally.row(fault.name, f"{operation.name} ({len(numbers)} file operations)")


def _undisturbed(operation: Operation, template: Path, folder: Path) -> list[FileOperation]:
    """What the operation does with files when nothing goes wrong."""
    place, log = _copy(template, folder), folder / "log"

    def work() -> None:
        arm_recording(place / operation.below, log)
        operation.act(place, Returned())

    in_child(work).must_be_well()
    shutil.rmtree(place)
    found = list(read_log(log))
    log.unlink()
    return found


def _strike(
    operation: Operation, fault: Fault, number: int, at: FileOperation, template: Path, folder: Path, tally: Tally
) -> None:
    place = _copy(template, folder)
    returned = Returned()

    def work() -> tuple[int, str]:
        os.environ["LOSSBOOK_CACHE"] = str(place / "cache")
        arm(place / operation.below, fault, number)
        said = ""
        try:
            operation.act(place, returned)
        except LossbookError as error:
            if operation.trains:
                raise
            said = str(error)
        return disarm(), said

    def look() -> Seen:
        os.environ["LOSSBOOK_CACHE"] = str(place / "cache")
        after = _contents(place)
        second = ""
        try:
            operation.again(place, returned)
        except Exception as error:
            second = f"{type(error).__name__}: {error}"
        return Seen(after, _contents(place), second, complaints(place / "store"), operation.check(place))

    struck = in_child(work)
    seen = in_child(look)
    shutil.rmtree(place)
    if struck.answer is not None and struck.answer[0] == 0:
        return  # chance in names and times: there was no such operation this time
    tally.points += 1
    where = f"{operation.name}:{fault.name}:{number}"
    label = f"{at.kind} {os.path.relpath(at.path, folder)}"
    wrong = []
    if struck.signal and fault.action not in (1, 2):
        wrong.append(f"the process died of signal {struck.signal}")
    if struck.raised:
        wrong.append(f"it raised {struck.raised}")
    if seen.answer is None:
        wrong.append(f"looking at it failed: {seen.raised or f'signal {seen.signal}'}")
    else:
        spoken = (struck.said + (struck.answer[1] if struck.answer else "")).strip()
        wrong += _judge(operation, fault, returned.get(), seen.answer, spoken, tally)
        tally.sentences[_what_was_said(fault, spoken, seen.answer)] += 1
    tally.failures += [f"{where} at {label}: {one}" for one in wrong]


def _contents(place: Path) -> Contents:
    found = read_store(place / "store")
    rescued = read_store(place / "cache" / "rescued") if (place / "cache" / "rescued").is_dir() else Contents()
    found.steps = {**{f"rescued/{name}": steps for name, steps in rescued.steps.items()}, **found.steps}
    return replace(
        found,
        wrong=found.wrong + rescued.wrong,
        problems=found.problems + rescued.problems,
        failures=found.failures + rescued.failures,
    )


def _judge(operation: Operation, fault: Fault, returned: int, seen: Seen, spoken: str, tally: Tally) -> Iterator[str]:
    """What does not hold of what was promised."""
    killed = fault.action in (1, 2)
    for when, found in (("after the fault", seen.after), ("after the second attempt", seen.finally_)):
        safe = [*operation.before, *(step for step in operation.logs if step <= returned)]
        gone = missing(found.all_steps, safe)
        if gone and killed:
            yield f"{when}: {len(gone)} rows whose log() had returned are gone ({gone[:3]} ...)"
        elif missing(found.all_steps, operation.before):
            yield f"{when}: {len(missing(found.all_steps, operation.before))} rows that were safe are gone"
        elif gone and not spoken and not found.said:
            yield f"{when}: {len(gone)} rows are lost without a word"
        if again := twice(found.all_steps):
            yield f"{when}: {len(again)} rows are read twice ({again[:3]} ...)"
        if found.wrong:
            yield f"{when}: {found.wrong[0]}"
        if found.failures:
            yield f"{when}: reading raised {found.failures[0]}"
        if found.errors:
            yield f"{when}: reading said {found.errors[0]}"
        if when == "after the fault" and gone and not killed:
            tally.lost_rows += len(gone)
    if seen.second_error:
        yield f"the second attempt raised {seen.second_error}"
    if seen.finally_.all_steps != seen.after.all_steps and not operation.logs:
        yield "the second attempt changed what is read"
    begun = operation.before or (returned >= 0 and not any(name.startswith("rescued/") for name in seen.after.steps))
    for complaint in seen.complaints:
        # A half line was no row yet, and a run that was never begun has nothing to lose: both are said, and cost nothing.
        if "torn" not in complaint and (begun or "run.json: it is not there" not in complaint):
            yield f"verify: {complaint}"
    yield from seen.more


def _what_was_said(fault: Fault, spoken: str, seen: Seen) -> str:
    if fault.action in (1, 2):
        return "nothing: the process was gone"
    return "a sentence" if spoken or seen.after.said else "nothing, and nothing was lost"


def _copy(template: Path, folder: Path) -> Path:
    place = Path(tempfile.mkdtemp(dir=folder)) / "point"
    shutil.copytree(template, place, symlinks=True)
    return place
