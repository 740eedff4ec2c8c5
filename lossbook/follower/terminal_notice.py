"""Saying one sentence to the person who watches the training, from outside the training process."""

from __future__ import annotations

import os
from collections.abc import Callable

#: Takes what is worth a line in a log.
Note = Callable[[str], None]


def print_note(sentence: str) -> None:
    """Put a sentence into the log of this process."""
    print(sentence, flush=True)


def tell(pid: int | None, sentence: str, note: Note = print_note) -> None:
    """Write a sentence to the standard error of a process of this machine, if that can be done without waiting.

    The descriptor is opened for this sentence alone: one that was kept would hold a pipe open that the training has
    long left, and whoever reads it would wait.

    Args:
        note: takes the sentence too, for a log.
    """
    note(sentence)
    if pid is None:
        return
    try:
        fd = os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # it has ended, belongs to somebody else, or this system has no /proc
        return
    try:
        os.write(fd, f"lossbook: {' '.join(sentence.split())}\n".encode())
    except OSError:
        pass
    finally:
        os.close(fd)
