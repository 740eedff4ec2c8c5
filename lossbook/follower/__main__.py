"""`python -m lossbook.follower RUN_FOLDER --pid PID --attempt N --rank R`: started by `init()`, ends by itself."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from lossbook.follower.loop import follow
from lossbook.paths import RunFolder, folder_lock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lossbook.follower", description=__doc__)
    parser.add_argument("folder", help="the run's folder")
    parser.add_argument("--pid", type=int, required=True, help="the training process")
    parser.add_argument("--attempt", type=int, default=0, help="the attempt it writes")
    parser.add_argument("--rank", type=int, default=0, help="its rank")
    arguments = parser.parse_args()
    _settle_in()
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} follower {os.getpid()} of process {arguments.pid}", flush=True)
    folder = RunFolder(arguments.folder)
    try:
        with folder_lock(folder, f"follow-{arguments.rank}-{arguments.attempt}", seconds=0.5) as held:
            if not held and os.path.isdir(folder.followers):
                print("another follower is at it already", flush=True)
                return 0
            follow(folder, arguments.pid, attempt=arguments.attempt, rank=arguments.rank)
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
