"""Runs a command on a terminal, for tests of what it shows there."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence


def run_on_a_terminal(
    command: Sequence[str], *, output: bool = True, environment: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The exit status of a command, and what the terminal got of it.

    Args:
        output: stdout is the terminal too; without it, what is written there goes nowhere.
        environment: of the command; this process's without one.
    """
    ours, theirs = pty.openpty()
    stdout = theirs if output else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=theirs, stdout=stdout, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says EIO when nobody holds the other end any more
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    return process.returncode, shown
