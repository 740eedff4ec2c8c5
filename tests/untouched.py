"""A store with runs in every state, and a picture of it down to inodes and times: for tests of what only reads."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journals import BEGIN, WrittenRun

from lossbook.storage.compaction import seal_run
from lossbook.storage.summary import LiveSummary

#: name, inode, mode, size, mtime (ns) and SHA-256 of a file's bytes; folders too.
Entry = tuple[str, int, int, int, int, str]


def picture(store: Path) -> list[Entry]:
    """Every file and folder of a store, the store itself included."""
    entries = []
    for root, folders, files in os.walk(store):
        for name in (".", *folders, *files):
            path = os.path.join(root, name)
            status = os.lstat(path)
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""
            entries.append((path, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, digest))
    return sorted(entries)


@contextmanager
def untouched(store: Path) -> Iterator[None]:
    """Fails if anything in the store is another afterwards: a name, an inode, a time, a byte."""
    before = picture(store)
    yield
    after = picture(store)
    assert [one[0] for one in after] == [one[0] for one in before], "files came or went"
    assert after == before


def make_store(store: Path) -> Path:
    """Runs that finished, died unsealed, run on, resumed, forked, and one that is damaged."""

    def losses(first: int, last: int) -> list[tuple[int, dict[str, float]]]:
        return [
            (step, {"train/loss": 9.0 * math.exp(-step / 60), "val/loss": 5.0, "lr": 1e-3})
            for step in range(first, last)
        ]

    def run(name: str, number: int, **more: object) -> WrittenRun:
        return WrittenRun(store / "tests" / name, name=name, created=BEGIN + number, config={"lr": number}, **more)

    finished = run("finished", 1)
    finished.segment(losses(0, 300), end="finished")
    seal_run(finished.folder, finished=True)
    LiveSummary(finished.folder).write()
    # Its process and its follower were killed: nothing was sealed and no summary says so.
    dead = run("dead", 2)
    dead.segment(losses(0, 200))
    dead.segment([*losses(200, 250), ("note", {"text": "lost its machine"})])
    # It ended without a follower.
    left = run("left", 3)
    left.segment(losses(0, 100), end="finished")
    # It goes on; its journal has a torn last line.
    live = run("live", 4, attempts=[WrittenRun.attempt_entry(0)])
    path = live.segment(losses(0, 50), tail=b'{"i":51,"t":17636')
    os.utime(path)
    resumed = run("resumed", 5, attempts=[WrittenRun.attempt_entry(0), WrittenRun.attempt_entry(1, resume_step=40)])
    resumed.segment(losses(0, 60))
    resumed.segment(losses(41, 80), attempt=1, end="failed")
    fork = run("fork", 6, parent={"project": "tests", "run": "dead", "step": 120})
    fork.segment(losses(121, 180), end="finished")
    damaged = run("damaged", 7)
    damaged.segment([*losses(0, 10), b"not a line\n", *losses(11, 20)], end="finished")
    Path(damaged.folder.summary_json).write_text("{")
    return store
