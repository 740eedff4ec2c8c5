"""Copies of a run are made while it is written and sealed, with the tools that people use.

Each copy opens, and holds the first rows without a gap, or says what is missing. The last copy, made over those before it
when the run has ended, holds every row once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attack.child import in_child
from attack.report import Attempted, Session, Tally
from attack.runs import complaints, read_store, seal_quietly, twice
from attack.trainer import Trainer, end_followers


def with_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", "-T", source, target], stderr=subprocess.DEVNULL)


def with_tar(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    subprocess.run(f"tar -C {source} -cf - . 2>/dev/null | tar -C {target} -xf - 2>/dev/null", shell=True)


def with_rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], stderr=subprocess.DEVNULL)


def as_rsync_does(source: Path, target: Path) -> None:
    """The list of files first, then each that is new or changed, under another name and renamed; nothing is deleted."""
    names = [os.path.relpath(os.path.join(at, name), source) for at, _, files in os.walk(source) for name in files]
    for name in names:
        old, new = source / name, target / name
        try:
            status = old.stat()
            if new.exists() and (new.stat().st_size, new.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                continue
            new.parent.mkdir(parents=True, exist_ok=True)
            partial = new.with_name(f".{new.name}.{os.urandom(3).hex()}")
            shutil.copy2(old, partial)
            partial.rename(new)
        except OSError:
            continue  # it has gone meanwhile


def attack(session: Session) -> Iterator[Attempted]:
    """Copies by each tool."""
    tools: dict[str, Callable[[Path, Path], None]] = {"cp -r": with_cp, "tar": with_tar}
    tools["rsync" if shutil.which("rsync") else "rsync's way"] = with_rsync if shutil.which("rsync") else as_rsync_does
    for tool, copy in tools.items():
        tally = Tally()
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            _copy_meanwhile(Path(folder), copy, 3 if session.short else int(20 * session.effort), tally)
        yield tally.row("copied while written", tool)


def _copy_meanwhile(place: Path, copy: Callable[[Path, Path], None], times: int, tally: Tally) -> None:
    store, growing = place / "store", place / "growing"
    trainer = Trainer(store)
    trainer.wait_for(5)
    for number in range(times):
        trainer.wait_for(20)
        once = place / f"copy-{number}"
        returned = trainer.returned
        copy(store, once)
        copy(store, growing)
        _judge(once, growing, number, returned, tally)
        shutil.rmtree(once)
    trainer.finish()
    in_child(lambda: seal_quietly(place))
    end_followers(store)
    copy(store, growing)

    def last() -> tuple[list[int], list[str], list[str]]:
        found = read_store(growing)
        return found.all_steps, found.wrong + found.failures, complaints(growing)

    seen = in_child(last)
    tally.points += 1
    steps, wrong, damaged = seen.answer or ([], [seen.raised], [])
    if steps != list(range(trainer.returned + 1)):
        tally.failures.append(f"the last copy: {len(steps)} of {trainer.returned + 1} rows are read")
    tally.failures += [f"the last copy: {one}" for one in [*wrong, *damaged]]


def _judge(once: Path, growing: Path, number: int, returned: int, tally: Tally) -> None:
    for name, target in (("a fresh copy", once), ("a copy over the last", growing)):
        seen = in_child(lambda target=target: read_store(target))
        tally.points += 1
        if seen.answer is None:
            tally.failures.append(f"{name} {number}: {seen.raised}")
            continue
        found = seen.answer
        steps = found.all_steps
        whole = steps == list(range(len(steps)))
        if not whole and not found.said:
            tally.failures.append(f"{name} {number}: {len(steps)} rows with a gap, and nothing is said")
        if again := twice(steps):
            tally.failures.append(f"{name} {number}: {len(again)} rows are read twice")
        tally.failures += [f"{name} {number}: {one}" for one in found.wrong + found.failures]
        tally.sentences["what is missing" if not whole else "nothing, and the copy has no gap"] += 1
