"""Two nodes, one folder: a rank on each, in namespaces of their own with host names of their own, and somebody who looks.

In random order ranks are killed and resumed, followers are killed, and the run is shown and sealed from either side. No row
whose `log()` returned is lost, and none is read twice.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack.child import in_child
from attack.report import Attempted, Session, Tally
from attack.runs import RUN, complaints, read_store, seal_quietly
from attack.trainer import ROOT, Trainer, end_followers

ACTIONS = ("log", "log", "kill rank 0", "kill rank 1", "kill followers", "show", "seal", "seal here", "pause rank 0")


def on_node(name: str) -> list[str]:
    """The beginning of a command that runs as on a machine of that name."""
    inside = f'hostname {name} && exec "$@"'
    return ["unshare", "--pid", "--uts", "--mount", "--mount-proc", "--fork", "--kill-child", "sh", "-c", inside, "sh"]


def possible() -> bool:
    """Whether this system lets us make namespaces."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*on_node("probe"), "true"], capture_output=True).returncode == 0


def attack(session: Session) -> Iterator[Attempted]:
    """Random orders of what can happen on two nodes."""
    if not possible():
        yield Attempted(
            "two nodes", "a run of two ranks", said="not tried: this needs the right to make namespaces (root)"
        )
        return
    tally = Tally()
    for seed, chance in session.times(short=1, long=10):
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            _two_nodes(Path(folder), seed, chance, 6 if session.short else 12, tally)
    yield tally.row("two nodes", f"a run of two ranks: {', '.join(dict.fromkeys(ACTIONS))}")


def _two_nodes(place: Path, seed: int, chance: random.Random, actions: int, tally: Tally) -> None:
    store = place / "store"
    ranks = [_begin(store, rank, 0) for rank in (0, 1)]
    reached: list[list[int]] = [[], []]
    done = []
    try:
        for rank in ranks:
            rank.wait_for(5)
        for _ in range(actions):
            action = chance.choice(ACTIONS)
            done.append(action)
            tally.points += 1
            node = chance.choice(("node-a", "node-b"))
            if action.startswith("kill rank"):
                number = int(action[-1])
                ranks[number].kill()
                reached[number] += range(ranks[number].first, ranks[number].returned + 1)
                ranks[number] = _begin(store, number, ranks[number].returned + 1)
            elif action == "kill followers":
                end_followers(store)
            elif action in ("show", "seal"):
                _lossbook(place, node, action)
            elif action == "seal here":
                in_child(lambda: seal_quietly(place))
            elif action == "pause rank 0":
                ranks[0].pause()
                _lossbook(place, "node-b", "seal")
                ranks[0].go_on()
            for rank in ranks:
                rank.wait_for(10)
        statuses = [rank.finish() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
        end_followers(store)
    for number, rank in enumerate(ranks):
        reached[number] += range(rank.first, rank.returned + 1)
    for node in ("node-a", "node-b"):
        _lossbook(place, node, "seal")

    def look() -> tuple[dict[str, list[int]], list[str], list[str]]:
        found = read_store(store)
        return found.steps, found.wrong + found.failures + found.errors, complaints(store)

    seen = in_child(look)
    label = f"seed {seed}: {', '.join(done)}"
    if seen.answer is None:
        tally.failures.append(f"{label}: {seen.raised}")
        return
    steps, wrong, damaged = seen.answer
    expected = sorted([*reached[0], *reached[1]])
    found = sorted(step for run in steps.values() for step in run)
    if missing := _less(expected, found):
        tally.failures.append(f"{label}: {len(missing)} of {len(expected)} rows are gone ({missing[:3]} ...)")
    if extra := _less(found, expected):
        # The row that was being logged when its process was killed may be there.
        kills = sum(action.startswith("kill rank") for action in done)
        if len(extra) > kills:
            tally.failures.append(f"{label}: {len(extra)} rows too many ({extra[:3]} ...)")
    if any(statuses):
        tally.failures.append(f"{label}: the ranks ended with {statuses}")
    tally.failures += [f"{label}: {one}" for one in (*wrong, *(one for one in damaged if "torn" not in one))]


def _begin(store: Path, rank: int, first: int) -> Trainer:
    variables = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOSSBOOK_RUN_ID": RUN}
    return Trainer(store, first=first, prefix=on_node("node-a" if rank == 0 else "node-b"), variables=variables)


def _lossbook(place: Path, node: str, command: str) -> None:
    subprocess.run(
        [*on_node(node), sys.executable, "-m", "lossbook.cli", command, RUN, "--store", str(place / "store")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOSSBOOK_CACHE": str(place / f"cache-{node}")},
        capture_output=True,
    )


def _less(some: list[int], others: list[int]) -> list[int]:
    """Some, less each of the others once."""
    left = list(others)
    result = []
    for one in some:
        if one in left:
            left.remove(one)
        else:
            result.append(one)
    return result
