"""Training programs that meet with a fault: run as processes of their own, because most of them die of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lossbook
from lossbook.journal.reader import journal_segments, read_segment
from lossbook.paths import RunFolder, run_folders

REPOSITORY = Path(__file__).resolve().parents[2]
#: What every program begins with; `store` is its first argument.
PREAMBLE = """
import os, signal, sys, time
import lossbook
store = sys.argv[1]
"""


def begin(
    code: str,
    store: Path,
    *arguments: Any,
    before: Iterable[str] = (),
    prefix: Iterable[str] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    """Start a program in a process group of its own, with pipes on its three streams.

    Args:
        code: its source, `PREAMBLE` goes before it.
        before: the words of a command that runs the interpreter (`unshare --pid`).
        prefix: words that go between the interpreter and the script (`-m torch.distributed.run`).
        environment: variables to set besides ours.
    """
    script = store.parent / f"program-{os.urandom(3).hex()}.py"
    script.write_text(PREAMBLE + textwrap.dedent(code))
    path = os.pathsep.join(filter(None, (str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [*before, sys.executable, *prefix, str(script), str(store), *map(str, arguments)],
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=store.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(code: str, store: Path, *arguments: Any, **environment: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is."""
    process = begin(code, store, *arguments, **environment)
    try:
        out, err = process.communicate(timeout=90)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_group(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    """Send a signal to the program and all that it started, and collect it if it has to end by that."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
    if number == signal.SIGKILL:
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def all_runs(store: Path) -> list[RunFolder]:
    """Every run of a store, by path."""
    return sorted(folder for folder in run_folders(str(store)))


def only_run(store: Path) -> RunFolder:
    """The one run that is in a store."""
    (folder,) = all_runs(store)
    return folder


def journal_rows(folder: RunFolder, rank: int = 0) -> list[Any]:
    """Every row of a rank that is still in the journal, in order; nothing in it may be damaged."""
    rows = []
    for segment in journal_segments(folder.journal):
        if segment.name.rank == rank:
            reading = read_segment(segment.path)
            assert not reading.problems, reading.problems
            rows += reading.rows
    return rows


def steps(folder: RunFolder, rank: int = 0) -> list[int | None]:
    """The steps of the rows of scalars of a rank, in order."""
    return [row.step for row in journal_rows(folder, rank) if row.kind is None]


def row_numbers(folder: RunFolder, rank: int = 0) -> list[int]:
    """The row numbers of a rank, in order."""
    return [row.i for row in journal_rows(folder, rank)]


def recorded(folder: RunFolder) -> Any:
    """The run as a reader sees it."""
    return lossbook.open(os.path.dirname(os.path.dirname(folder.path))).run(os.path.basename(folder.path))
