"""How this package speaks in a training process: one sentence on stderr, and never a second time if asked so."""

from __future__ import annotations

import sys

from lossbook.handlers import is_of_handler

said: set[str] = set()


def say(sentence: str) -> None:
    """Print one sentence to the user; the only way this package speaks in a training process."""
    try:
        print(f"lossbook: {sentence}", file=sys.stderr, flush=True)
    except Exception as error:  # stderr may be closed
        if is_of_handler(error):
            raise


def say_once(sentence: str) -> None:
    """Print a sentence that this process has not printed yet."""
    if sentence not in said:
        said.add(sentence)
        say(sentence)
