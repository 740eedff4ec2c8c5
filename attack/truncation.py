"""A file is cut short, at every byte: a copy that broke off, a disk that was full, a crash of the machine.

What is read is right as far as it goes, training goes on in the run, and no command ends with a traceback.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack.child import describe, in_child
from attack.kinds import Picture, Place, attack_places, picture
from attack.report import Attempted, Session, Tally
from attack.runs import begin, complaints, log_steps, missing, read_store, seal_quietly, victim

NEW_STEPS = range(1000, 1003)


def attack(session: Session) -> Iterator[Attempted]:
    """Cuts in each small file of each kind of run."""
    return attack_places(session, _cut, fault="cut short", long=6)


def _cut(place: Path, where: Place, before: Picture, point: str, tally: Tally) -> None:
    copy = Path(tempfile.mkdtemp(dir=place.parent))
    shutil.copytree(place / "store", copy / "store")
    os.truncate(os.path.join(victim(copy / "store").path, where.file), where.at)

    def look() -> tuple[Picture, list[str], list[str]]:
        os.environ["LOSSBOOK_CACHE"] = str(copy / "cache")
        seen, found, wrong = picture(copy), complaints(copy / "store"), []
        try:
            run = begin(copy / "store", resume="allow")
            log_steps(run, NEW_STEPS)
            run.finish()
        except Exception as error:
            wrong.append(f"training does not go on: {describe(error)}")
        for path in copy.rglob("victim*"):
            if path.is_dir() and (said := seal_quietly(copy, path.name)):
                wrong.append(f"sealing raised {said}")
        after = read_store(copy / "store")
        wrong += after.failures
        if missing(after.all_steps, NEW_STEPS):
            wrong.append(f"rows logged afterwards are not read: {after.said}")
        return seen, found, wrong

    looked = in_child(look)
    shutil.rmtree(copy)
    tally.points += 1
    if looked.answer is None:
        tally.failures.append(f"{point}: {looked.raised or f'signal {looked.signal}'}")
        return
    seen, found, wrong = looked.answer
    wrong += [f"raised {one}" for one in seen.failures]
    rows, known = seen.answers.get("rows", []), before.answers["rows"]
    if isinstance(rows, list) and isinstance(known, list):
        there = {repr(row) for row in known}
        if not seen.said and any(repr(row) not in there for row in rows):
            wrong.append("a row is read that was never logged, without a word")
        if len(rows) < len(known):
            tally.lost_rows += len(known) - len(rows)
    tally.sentences["a sentence" if seen.said or found else "nothing"] += 1
    tally.failures += [f"{point}: {one}" for one in wrong]
