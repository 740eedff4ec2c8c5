"""`python -m benchmarks`: measure the named families (all of them by default) and print the table."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks import (
    curve,
    dashboard,
    diagnosis,
    follower,
    footprint,
    kills,
    listing,
    log_call,
    machine,
    mirrors,
    monitoring,
    reading,
    sealed_size,
    slowdown,
    throughput,
    trainer,
)
from benchmarks.harness import become_reaper
from benchmarks.report import Figure, as_markdown, as_text
from benchmarks.session import Session
from benchmarks.trackers import PEERS, installed

FAMILIES: dict[str, Callable[[Session], list[Figure]]] = {
    "log": log_call.figures,
    "slowdown": slowdown.figures,
    "kills": kills.figures,
    "throughput": throughput.figures,
    "size": sealed_size.figures,
    "curve": curve.figures,
    "listing": listing.figures,
    "reading": reading.figures,
    "footprint": footprint.figures,
    "follower": follower.figures,
    "diagnosis": diagnosis.figures,
    "mirrors": mirrors.figures,
    "monitoring": monitoring.figures,
    "trainer": trainer.figures,
    "dashboard": dashboard.figures,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller runs: about three minutes")
    parser.add_argument("--json", metavar="FILE", help="also write every figure as JSON")
    parser.add_argument("--markdown", metavar="FILE", help="also write the page: table, notes, machine")
    parser.add_argument("--peers", default=",".join(PEERS), help="which to measure beside ours; '' for none")
    parser.add_argument("--folder", help="measure on the disk of this folder (default: the system's temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave what was written, for a closer look")
    arguments = parser.parse_args()
    unknown = [family for family in arguments.families if family not in FAMILIES]
    if unknown:
        parser.error(f"there is no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")

    asked = [peer for peer in arguments.peers.split(",") if peer]
    peers = [peer for peer in asked if installed(peer)]
    skipped = [f"{peer} is not installed here and was left out." for peer in asked if peer not in peers]
    for sentence in skipped:
        print(sentence, file=sys.stderr)
    become_reaper()
    folder = tempfile.mkdtemp(prefix="lossbook-bench-", dir=arguments.folder)
    about = machine.facts(folder)
    if about["file system"] in ("tmpfs", "ramfs"):
        print(f"{folder} is in memory, not on a disk: --folder names another", file=sys.stderr)
    session = Session(folder, arguments.quick, peers)
    figures: list[Figure] = []
    begin = time.monotonic()
    try:
        for family in arguments.families or FAMILIES:
            print(f"{family} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
            figures += FAMILIES[family](session)
    finally:
        if arguments.keep:
            print(f"kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    words = " ".join(["python -m benchmarks", *arguments.families, *(["--quick"] if arguments.quick else [])])
    print(as_text(figures))
    print()
    for name, value in about.items():
        print(f"{name}: {value}")
    for sentence in session.failures:
        print(f"failed: {sentence}", file=sys.stderr)
    failed = [f"Not measured: {sentence.splitlines()[0][:200]}" for sentence in session.failures]
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            content = {"command": words, "machine": about, "figures": [figure.as_json() for figure in figures]}
            json.dump(content | {"failures": session.failures}, file, indent=2)
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as file:
            file.write(as_markdown(figures, about, words, skipped + failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
