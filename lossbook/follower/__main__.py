"""`python -m lossbook.follower STORE --folder FOLDER` follows the runs of a store that are handed over in a folder;
`python -m lossbook.follower RUN_FOLDER --pid PID --attempt N --rank R` follows one run. Started by `init()`, ends by itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from lossbook.follower.loop import follow
from lossbook.follower.service import run_service
from lossbook.paths import RunFolder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lossbook.follower", description=__doc__)
    parser.add_argument("path", help="the store, or one run's folder")
    parser.add_argument("--folder", help="where runs of the store are handed over")
    parser.add_argument("--pid", type=int, help="the training process")
    parser.add_argument("--attempt", type=int, default=0, help="the attempt it writes")
    parser.add_argument("--rank", type=int, default=0, help="its rank")
    arguments = parser.parse_args()
    if (arguments.folder is None) == (arguments.pid is None):
        parser.error("pass --folder for a store, or --pid for one run")
    _settle_in()
    if arguments.folder is not None:
        return run_service(arguments.folder)
    try:
        follow(RunFolder(arguments.path), arguments.pid, attempt=arguments.attempt, rank=arguments.rank)
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"the follower ended: {error}; `lossbook seal` does the rest of its work", flush=True)
        return 1
    return 0


def _settle_in() -> None:
    """Leave the training process alone: no inherited files, the lowest priority, no say in its signals."""
    os.closerange(3, 4096)
    try:
        os.nice(19)
    except OSError:
        pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
