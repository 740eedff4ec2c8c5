"""Parses and checks what followers note beside a run's rows: `followers/seal.json` and `followers/watch.json`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lossbook.errors import LossbookError
from lossbook.json_shapes import (
    JsonMapping,
    JsonObject,
    Shape,
    check_fields,
    is_attempt_number,
    is_text,
    is_texts,
    is_time,
    object_or_empty,
    text_or_none,
    texts_of,
    whole_or_none,
)
from lossbook.paths import RunFolder, read_json, write_json


@dataclass(frozen=True)
class SealNotes:
    """What sealing noted of a run, by rank: where a resumed attempt goes on, and what was found damaged.

    Attributes:
        next_row: the number of the row behind the last sealed one.
        last_segment: the number of the last sealed segment.
        last_attempt: the attempt that wrote it.
        last_step: the highest step among its last rows.
        problems: a sentence each.
        more: fields that this version does not know.
    """

    next_row: dict[int, int] = field(default_factory=dict)
    last_segment: dict[int, int] = field(default_factory=dict)
    last_attempt: dict[int, int] = field(default_factory=dict)
    last_step: dict[int, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    more: JsonMapping = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class WatchNotes:
    """What a follower noted of the end of an attempt that did not tell it; `ended` in µs."""

    attempt: int = 0
    state: str | None = None
    error: str | None = None
    ended: int | None = None


def read_seal_notes(folder: RunFolder) -> SealNotes:
    """What sealing noted of a run (`followers/seal.json`).

    Raises:
        DamagedFile, StoreError: it cannot be read.
    """
    found = check_fields(read_json(os.path.join(folder.followers, "seal.json")) or {}, _SEALING)[0]
    return SealNotes(
        **{name: _by_rank(found.get(name)) for name in _BY_RANK},
        problems=texts_of(found.get("problems")),
        more={name: value for name, value in found.items() if name not in (*_BY_RANK, "problems")},
    )


def write_seal_notes(folder: RunFolder, notes: SealNotes) -> None:
    """Replace what sealing noted of a run; it survives power loss.

    Raises:
        OSError: it cannot be written; what was noted before is untouched.
    """
    written: JsonObject = {**notes.more}
    for name in _BY_RANK:
        numbers: dict[int, int] = getattr(notes, name)
        if numbers:
            written[name] = {f"r{rank}": number for rank, number in numbers.items()}
    if notes.problems:
        written["problems"] = [*notes.problems]
    os.makedirs(folder.followers, exist_ok=True)
    write_json(os.path.join(folder.followers, "seal.json"), written)


def read_watch_notes(folder: RunFolder) -> WatchNotes:
    """What a follower noted of the run's end (`followers/watch.json`); nothing where that cannot be read."""
    try:
        found = check_fields(read_json(os.path.join(folder.followers, "watch.json")) or {}, _WATCHED)[0]
    except LossbookError:
        return WatchNotes()
    return WatchNotes(
        whole_or_none(found.get("attempt")) or 0,
        text_or_none(found.get("state")),
        text_or_none(found.get("error")),
        whole_or_none(found.get("ended")),
    )


def _by_rank(value: object) -> dict[int, int]:
    """`{"r0": 7}` as `{0: 7}`; what is no number of a rank is left out."""
    found = {}
    for name, number in object_or_empty(value).items():
        if name[:1] == "r" and name[1:].lstrip("-").isdecimal() and type(number) is int:
            found[int(name[1:])] = number
    return found


_BY_RANK = ("next_row", "last_attempt", "last_segment", "last_step")
_SEALING: Shape = {
    "problems": (is_texts, "a list of texts"),
    **{name: (lambda value: type(value) is dict, "an object") for name in _BY_RANK},
}
_WATCHED: Shape = {
    "attempt": (is_attempt_number, "a number"),
    "state": (is_text, "a text"),
    "error": (is_text, "a text"),
    "ended": (is_time, "a time in microseconds"),
}
