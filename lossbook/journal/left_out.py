"""What this process has left out of its answers because it is not what was written: one sentence for each file."""

from __future__ import annotations

from collections import OrderedDict

_MOST_FILES = 1000
_sentences: OrderedDict[str, str] = OrderedDict()


def note_left_out(path: str, sentence: str) -> None:
    """Remember that rows of a file were left out; the last sentence of each file counts."""
    _sentences[path] = sentence
    while len(_sentences) > _MOST_FILES:
        _sentences.popitem(last=False)


def take_left_out() -> list[str]:
    """The sentences since the last call, one for each file, the oldest first."""
    sentences = list(_sentences.values())
    _sentences.clear()
    return sentences
