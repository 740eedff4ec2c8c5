"""Drives a mirror as the delivering process does, in a process of its own that can be killed at any moment.

    python driving_mirrors.py NAME FOLDER [SECONDS UNTIL SIGKILL]

FOLDER holds `subject.json` and `rows.json`; `cursor.json` is written there as the engine writes its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lossbook.paths import RunFolder
from lossbook.run_info import Git, Host, RunInfo
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror, MirrorSettings, Subject
from lossbook.trackers.mirrors import mirror_class

CREATED = 1_763_688_000.0
BATCH_ROWS = 20


def subject(folder: Path, **changes: Any) -> Subject:
    """A run called "small run", in the project "lab"."""
    info = RunInfo(
        "abcd2345",
        "small run",
        "lab",
        created=round(changes.pop("created", CREATED) * 1e6),
        tags=("ablation", "step-05"),
        group="ratio-ablation",
        notes="first try",
        git=Git(commit="0123abc"),
        host=Host(name="here"),
        argv=("train.py", "--lr", "3e-4"),
    )
    config = changes.pop("config", {"lr": 3e-4, "model": {"depth": 12}})
    return Subject(RunFolder(str(folder / "run")), info._replace(**changes), config)


def scalars(i: int, step: int | None, metrics: dict[str, float], *, rank: int = 0, attempt: int = 0) -> LoggedRow:
    """A row of scalars, logged `i` milliseconds after the run began."""
    return LoggedRow(rank, i, int(CREATED * 1e6) + i * 1000, step, None, None, metrics, attempt)


def other(
    i: int, kind: str, body: dict[str, Any], *, key: str | None = None, step: int | None = None, attempt: int = 0
) -> LoggedRow:
    """A row of another kind."""
    return LoggedRow(0, i, int(CREATED * 1e6) + i * 1000, step, kind, key, body, attempt)


def ending(state: str = "finished", **summary: Any) -> Ending:
    return Ending(state, 0 if state == "finished" else 1, None, CREATED + 60, summary)


def drive(mirror: Mirror, rows: Iterable[LoggedRow], end: Ending | None = None) -> dict[int, int]:
    """Deliver rows that are not there yet, all in one go; returns what `open` said was there."""
    held = mirror.open({})
    mirror.deliver([row for row in rows if row.i > held.get(row.rank, -1)])
    mirror.flush()
    mirror.close(end)
    return held


def deliver_through_kills(
    name: str,
    folder: Path,
    rows: list[LoggedRow],
    *,
    kills: int,
    longest_seconds: float,
    environment: dict[str, str] | None = None,
) -> int:
    """Deliver in processes that are killed at random moments, and then in one that is left alone.

    The first one dies within the first hundredth of `longest_seconds`, and a process that ended before its moment
    halves the time of those after it, so that a fast machine is interrupted as well.

    Returns:
        How many were killed before they had ended.
    """
    (folder / "rows.json").write_text(json.dumps([list(row) for row in rows]))
    command = [sys.executable, str(Path(__file__)), name, str(folder)]
    surroundings = {**os.environ, **(environment or {})}
    killed = 0
    longest = longest_seconds
    for number in range(kills):
        after = random.uniform(0, longest if number else longest_seconds / 100)
        ended = subprocess.run([*command, str(after)], env=surroundings, capture_output=True, text=True, timeout=120)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        killed += ended.returncode != 0
        if ended.returncode == 0:
            longest /= 2
    ended = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return killed


def _main(name: str, folder: Path, seconds: float | None) -> None:
    cursor_file = folder / "cursor.json"
    cursor = json.loads(cursor_file.read_text()) if cursor_file.exists() else {"delivered": {}, "remote": {}}
    rows = [LoggedRow(*fields) for fields in json.loads((folder / "rows.json").read_text())]
    settings = MirrorSettings(cwd=str(folder))
    mirror = mirror_class(name)(subject(folder), settings, cursor["remote"])

    def note(delivered: dict[int, int]) -> None:
        text = json.dumps({"delivered": {str(rank): i for rank, i in delivered.items()}, "remote": mirror.remote})
        temporary = folder / "cursor.tmp"
        temporary.write_text(text)
        temporary.replace(cursor_file)

    if seconds is not None:

        def die() -> None:
            time.sleep(seconds)  # killed at a moment that the test picks
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die, daemon=True).start()
    delivered = mirror.open({int(rank): i for rank, i in cursor["delivered"].items()})
    note(delivered)
    waiting = [row for row in rows if row.i > delivered.get(row.rank, -1)]
    for start in range(0, len(waiting), BATCH_ROWS):
        batch = waiting[start : start + BATCH_ROWS]
        mirror.deliver(batch)
        mirror.flush()
        delivered = {**delivered, **{row.rank: row.i for row in batch}}
        note(delivered)
    mirror.close(ending(**{"val/loss": 1.5}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
