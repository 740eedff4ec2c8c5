"""What a log is before its rows are made: a file, its format, its columns, and the entries that its reader finds in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lossbook.json_shapes import Json, JsonMapping, JsonObject
from lossbook.trackers.log_options import LogOptions


class Entry(NamedTuple):
    """One line or object of a log, as its format's reader understood it.

    Attributes:
        values: by column; numbers may be texts.
        line: where it stands in what was read, from 1: a line's number, or an object's.
        end: the place behind it: an offset in bytes, or a number of objects.
        step: what the format itself calls the step; None leaves it to the columns.
        time: when it was written (Unix seconds), where the line says so outside of its columns.
        rank: of the process that wrote it.
        problem: why it could not be read; its values are empty then.
    """

    values: JsonMapping
    line: int
    end: int
    step: float | None = None
    time: float | None = None
    rank: int = 0
    problem: str | None = None


class Columns(NamedTuple):
    """Which columns of a log are a row's step and its time; None where none is.

    Attributes:
        counts_rows: whether a row's number is its step.
        is_doubtful: whether nothing says that it is a log of a training: neither a step nor a metric's name.
        rank: whose rows are the run's own: the lowest rank that printed any.
        remarks: what was assumed, a sentence each.
    """

    step: str | None = None
    time: str | None = None
    counts_rows: bool = False
    is_doubtful: bool = False
    rank: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """What a log says of its run beside the rows."""

    name: str | None = None
    created: float | None = None
    ended: float | None = None
    state: str = "finished"
    error: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()
    config: JsonObject = field(default_factory=dict)
    summary: JsonObject = field(default_factory=dict)


class Log(NamedTuple):
    """One file: its format, and what its first rows tell.

    Attributes:
        form: the `kind` of its format (`lossbook.trackers.logs.formats`).
        entries: of a file that is one JSON value.
        tag: what the column `Value` of TensorBoard's downloads holds.
    """

    path: str
    form: str
    columns: Columns = Columns()
    options: LogOptions = LogOptions()
    entries: list[Json] | None = None
    tag: str | None = None
    about: About = About()
