"""`python -m attack`: let the named families of faults (all of them by default) loose on runs, and print what they did."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from attack.shim import preload

if TYPE_CHECKING:
    from attack.report import Attempted, Session

_USUAL = {"effort": 1.0, "jobs": 2, "seed": 1}
FAMILIES = ("operations", "power_loss", "flips", "truncation", "copies", "nodes", "clocks", "soak")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m attack", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; none: all")
    parser.add_argument("--short", action="store_true", help="a few points of each kind, as the tests do")
    parser.add_argument("--effort", type=float, default=1.0, help="how many times the usual points (default 1)")
    parser.add_argument("--jobs", type=int, default=2, help="families at a time (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of every choice that is left to chance (default 1)")
    parser.add_argument("--only", default="", metavar="POINT", help="the points that begin so, as failures name them")
    parser.add_argument("--folder", help="where the runs are written (default: in memory, or the temporary folder)")
    parser.add_argument("--markdown", metavar="FILE", help="put the table into this page")
    arguments = parser.parse_args()
    unknown = [family for family in arguments.families if family not in FAMILIES]
    if unknown:
        parser.error(f"there is no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    try:
        preload()
    except RuntimeError as error:
        parser.error(str(error))
    _be_alone()

    from attack.report import Session, as_markdown, put_table

    begun = time.monotonic()
    families = arguments.families or list(FAMILIES)
    with tempfile.TemporaryDirectory(prefix="attack-", dir=arguments.folder or _memory()) as folder:
        session = Session(folder, arguments.short, arguments.effort, arguments.seed, arguments.only)
        # Each family in a process of its own: most of its time goes into waiting for children.
        with multiprocessing.get_context("fork").Pool(min(arguments.jobs, len(families)), maxtasksperchild=1) as pool:
            rows = [row for found in pool.imap(partial(_attack, session), families, chunksize=1) for row in found]
    minutes = (time.monotonic() - begun) / 60
    failed = sum(len(row.failures) for row in rows)
    print(
        f"{sum(row.points for row in rows):,} points in {minutes:.1f} minutes; {failed} failed; seed {arguments.seed}"
    )
    if arguments.markdown:
        page = Path(arguments.markdown)
        command = " ".join(["python -m attack", *_words_of(arguments)])
        page.write_text(put_table(page.read_text(), as_markdown(rows, minutes=minutes, command=command)))
    return 1 if failed else 0


def _words_of(arguments: argparse.Namespace) -> list[str]:
    """The arguments that decide what is tried."""
    named = {name: getattr(arguments, name) for name in ("effort", "jobs", "seed")}
    return [*arguments.families, *(f"--{name} {value:g}" for name, value in named.items() if value != _USUAL[name])]


def _attack(session: Session, family: str) -> list[Attempted]:
    """What one family did; each row is printed as soon as it is there."""
    from attack.report import as_line

    rows = []
    for row in import_module(f"attack.{family}").attack(session):
        rows.append(row)
        print("\n".join([as_line(row), *(f"    {one}" for one in row.failures[:20])]), flush=True)
    return rows


def _be_alone() -> None:
    """Nothing of the user's environment, no follower unless an attack starts one, and small segments."""
    for name in list(os.environ):
        if name.startswith(("LOSSBOOK_", "WANDB_")):
            del os.environ[name]
    os.environ.update(
        LOSSBOOK_FOLLOWER="off", LOSSBOOK_SYSTEM_INTERVAL="off", LOSSBOOK_SEGMENT_BYTES="1000", OPENBLAS_NUM_THREADS="1"
    )


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())
