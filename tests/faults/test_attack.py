"""The attack of `make attack`, short: a few points of every kind of fault, each of which costs nothing that was promised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attack.disk import Disk
from attack.runs import begin, log_steps, missing, read_store, twice, value_of
from attack.shim import FileOperation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs Linux and a C compiler"),
]
ROOT = Path(__file__).resolve().parents[2]


def attack(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attack", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize(
    "family", ["operations", "power_loss", "flips", "truncation", "copies", "clocks", "nodes", "soak"]
)
def test_no_fault_costs_a_row_or_goes_unsaid(family: str) -> None:
    done = attack(family, "--short")
    assert done.returncode == 0, done.stdout
    (points,) = re.findall(r"^(\d+) points in ", done.stdout, re.MULTILINE)
    assert int(points) > 3


def test_a_disk_that_loses_power_keeps_what_was_synced_and_owes_nothing_else(tmp_path: Path) -> None:
    def done(kind: str, path: str, other: str = "", contents: bytes = b"", offset: int = 0) -> FileOperation:
        return FileOperation(kind, f"/run/{path}", f"/run/{other}", 0, offset, contents, failed=False)

    (tmp_path / "before").mkdir()
    operations = [
        done("mkdir", "metrics"),
        done("create", "metrics/new"),
        done("write", "metrics/new", contents=b"rows"),
        done("fsync", "metrics/new"),
        done("rename", "metrics/new", "metrics/rows"),
        done("fsync", "metrics"),
        done("write", "metrics/rows", contents=b"more", offset=4),
    ]

    def left(*, until: int = len(operations), keep: Any = lambda sort: False, more: Any = ()) -> dict[str, bytes]:
        target = tmp_path / os.urandom(4).hex()
        Disk(Path("/run"), tmp_path / "before", [*operations, *more]).write_survivors(until, keep, target)
        return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}

    assert left() == {}, "the folder's own name was never synced"
    assert left(until=8, more=[done("fsync", "")]) == {"metrics/rows": b"rows"}
    assert left(keep=lambda sort: sort == "name") == {"metrics/rows": b"rows"}
    assert left(keep=lambda sort: True) == {"metrics/rows": b"rowsmore"}
    assert left(until=3, keep=lambda sort: sort == "name") == {"metrics/new": b""}


def test_a_wrong_value_and_a_row_that_is_read_twice_are_noticed(store: Path) -> None:
    run = begin(store)
    log_steps(run, [0, 1, 1, 2])
    run.finish()
    found = read_store(store)
    assert (twice(found.all_steps), missing(found.all_steps, range(4)), found.wrong) == ([1], [3], [])
    (journal,) = Path(run.path, "journal").iterdir()
    journal.write_text(journal.read_text().replace(f'"loss":{value_of(2)}', '"loss":1.0'))
    # With its digest the value would not be served at all.
    shutil.rmtree(Path(run.path, "digests"))
    assert any("step 2: loss 1.0" in one for one in read_store(store).wrong)
