"""The formats of logs that are read; a new one is a subclass of `LogFormat` and a line here."""

from __future__ import annotations

from collections.abc import Generator

from lossbook.trackers.log_options import LogOptions
from lossbook.trackers.logs.format import LogFormat
from lossbook.trackers.logs.json_format import JsonFile, JsonLines
from lossbook.trackers.logs.log import Entry, Log
from lossbook.trackers.logs.pattern_format import Pattern
from lossbook.trackers.logs.table_format import Table
from lossbook.trackers.logs.text_format import Text

FORMATS: tuple[LogFormat, ...] = (JsonFile(), JsonLines(), Table(), Text())
_PATTERN = Pattern()
_BY_KIND = {one.kind: one for one in (*FORMATS, _PATTERN)}
#: Files whose names end so are logs more often than not; those of text alone are looked into, and not missed.
TABLE_ENDINGS = tuple(ending for one in FORMATS if one.kind != "text" for ending in one.endings)
ENDINGS = tuple(ending for one in FORMATS for ending in one.endings)


def look(path: str, options: LogOptions, *, by_ending: bool = True) -> Log | None:
    """The log that a file is; None for one that no format recognises.

    Args:
        by_ending: let the name's ending decide between the formats of tables, and pass one over that may be of anything.

    Raises:
        OSError: the file cannot be read.
        BadArgument: an option does not fit it.
    """
    if options.pattern is not None:
        return _PATTERN.look(path, options)
    is_text = not path.endswith(TABLE_ENDINGS)
    # A table may be called `training.log` (Keras), but a text with commas in it is no table.
    for one in reversed(FORMATS) if is_text else FORMATS:
        if by_ending and not is_text and not path.endswith(one.endings):
            continue
        found = one.look(path, options)
        if found is None or (by_ending and found.columns.is_doubtful):
            continue
        if is_text and one.kind == Table.kind and found.columns.counts_rows:
            continue
        return found
    return None


def read_entries(log: Log, start: int, remarks: list[str]) -> Generator[Entry, None, None]:
    """The entries of a log from a place on, as `LogFormat.entries`."""
    return _BY_KIND[log.form].entries(log, start, remarks)


def title_of(log: Log) -> str:
    """What a log's format is called."""
    return _BY_KIND[log.form].title
