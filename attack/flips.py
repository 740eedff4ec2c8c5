"""One bit of one byte flips on the disk, in every file of a run of every kind.

Nobody may be told anything wrong without a word, `lossbook verify` finds it, and still finds it after sealing has rewritten
what it could.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack.child import in_child
from attack.kinds import Picture, Place, attack_places, picture
from attack.report import Attempted, Session, Tally
from attack.runs import complaints, seal_quietly, victim


def attack(session: Session) -> Iterator[Attempted]:
    """Flips in each file of each kind of run."""
    return attack_places(session, _flip, fault="flipped bit", long=8)


def _flip(place: Path, where: Place, before: Picture, point: str, tally: Tally) -> None:
    file, at = Path(victim(place / "store").path, where.file), where.at
    contents = file.read_bytes()
    times = os.stat(file)
    flipped = bytearray(contents)
    flipped[at] ^= 1 << (at % 8)

    def put(new: bytes) -> None:
        with open(file, "r+b") as opened:
            opened.write(new)
        # A disk that rots tells nobody.
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def look() -> tuple[Picture, list[str], Picture, list[str]]:
        os.environ["LOSSBOOK_CACHE"] = str(place / "cache")
        seen, found = picture(place), complaints(place / "store")
        copy = Path(tempfile.mkdtemp(dir=place.parent))
        shutil.copytree(place / "store", copy / "store")
        seal_quietly(copy)
        return seen, found, picture(copy), complaints(copy / "store")

    put(bytes(flipped))
    looked = in_child(look)
    put(contents)
    shutil.rmtree(place / "cache", ignore_errors=True)
    for left in place.parent.iterdir():
        if left != place:
            shutil.rmtree(left)
    tally.points += 1
    if looked.answer is None:
        tally.failures.append(f"{point}: {looked.raised or f'signal {looked.signal}'}")
        return
    seen, found, later, still = looked.answer
    wrong = [f"raised {one}" for one in (*seen.failures, *later.failures)]
    for when, one, damaged in (("", seen, found), (" after sealing", later, still)):
        differing = [name for name, answer in before.answers.items() if one.answers.get(name, answer) != answer]
        if differing and not one.said:
            wrong.append(f"{', '.join(differing)} differ without a word{when}")
        if (differing or not when) and not damaged:
            wrong.append(f"verify finds nothing{when}")
    silent = [name for name in before.answers if name not in seen.answers]
    if silent and not any(file.name in sentence for sentence in seen.said):
        wrong.append(f"{', '.join(silent)} cannot be read, and no error names {file.name}: {seen.said[:1]}")
    tally.sentences["found by verify" + (", said while reading" if seen.said else "")] += bool(found)
    tally.failures += [f"{point}: {one}" for one in wrong]
