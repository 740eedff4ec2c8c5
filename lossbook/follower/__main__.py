"""Follows runs in a process of its own. Started by `init()`, ends by itself:

python -m lossbook.follower STORE --folder FOLDER                          the runs of a store that are handed over there
python -m lossbook.follower RUN_FOLDER --pid PID [--attempt N] [--rank R]   one run of a training process
"""

from __future__ import annotations

import os
import signal
import sys

from lossbook.follower.loop import follow, last_traceback
from lossbook.follower.service import run_service
from lossbook.paths import RunFolder

_OPTIONS = ("--folder", "--pid", "--attempt", "--rank")


def main() -> int:
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        path, options = _read(sys.argv[1:])
        pid, attempt, rank = (int(options.get(name, "0")) for name in _OPTIONS[1:])
    except ValueError:
        print(__doc__, file=sys.stderr)
        return 2
    _settle_in()
    if "--folder" in options:
        return run_service(options["--folder"])
    try:
        follow(RunFolder(path), pid, attempt=attempt, rank=rank)
    except Exception as error:
        print(last_traceback())
        print(f"the follower ended: {error}; `lossbook seal` does the rest of its work", flush=True)
        return 1
    return 0


def _read(arguments: list[str]) -> tuple[str, dict[str, str]]:
    """The path and the options; a program that only programs start needs no more than pairs (`argparse` loads for long).

    Raises:
        ValueError: they are not as the module's text has them.
    """
    path, *pairs = arguments
    options = dict(zip(pairs[0::2], pairs[1::2], strict=True))
    if not options.keys() <= set(_OPTIONS) or ("--folder" in options) == ("--pid" in options):
        raise ValueError(arguments)
    return path, options


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
