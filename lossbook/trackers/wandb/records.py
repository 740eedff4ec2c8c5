"""The records of a `.wandb` file in Lossbook's words, and what is known of a run by the end of such a file.

The shapes are those of W&B's own protobuf messages (wandb/proto/wandb_internal.proto), read without W&B's library.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from lossbook.journal import merge_config
from lossbook.json_shapes import Json, JsonObject
from lossbook.trackers.protobuf import BadMessage, fields, signed, text
from lossbook.trackers.record_files import RecordHead
from lossbook.trackers.source import ForeignRow
from lossbook.trackers.wandb.values import OWN_FILES, ReadFile, alert_row, axis_of, file_row, history_rows, system_rows

#: The kinds of records that are read, by the number of their field in `Record`.
HISTORY, SUMMARY, OUTPUT, CONFIG, FILES, STATS, ALERT, METRIC, OUTPUT_RAW, RUN, EXIT, ENVIRONMENT = (
    2, 3, 4, 5, 6, 7, 10, 12, 13, 17, 18, 26,
)  # fmt: skip
#: Those that become rows.
_ROWS = frozenset((HISTORY, OUTPUT, FILES, STATS, ALERT, METRIC, OUTPUT_RAW))
_KINDS = _ROWS | {SUMMARY, CONFIG, RUN, EXIT, ENVIRONMENT}
_GOALS = {1: "minimize", 2: "maximize"}
#: By field of `MetricSummary` W&B's word for it.
_SUMMARIES = {1: "min", 2: "max", 3: "mean", 4: "best", 5: "last", 6: "none", 7: "copy", 8: "first"}
#: What is kept of where a run ran: by field of `EnvironmentRecord`.
_ENVIRONMENT = {1: "os", 2: "python", 6: "program", 12: "host", 13: "user", 18: "gpu"}


def split_record(record: bytes) -> tuple[int, bytes]:
    """Kind and contents of a record; kind 0 for one that is not read.

    Raises:
        BadMessage: it is no record.
    """
    for number, value in fields(record):
        if number in _KINDS:
            if not isinstance(value, bytes):
                raise BadMessage("a record that is a number")
            return number, value
    return 0, b""


@dataclass
class Head(RecordHead):
    """What one file says of its run, as far as it was read.

    Attributes:
        exit_code: None while the run goes on, or when it was killed.
    """

    entity: str = ""
    sweep: str = ""
    config: JsonObject = field(default_factory=dict)
    summary: JsonObject = field(default_factory=dict)
    origin: JsonObject = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    git: dict[str, str] = field(default_factory=dict)
    starting_step: int = 0
    exit_code: int | None = None


def read_head(records: Iterator[tuple[int, bytes]]) -> Head:
    """Read a file for what is known of its run; its rows are counted and passed over."""
    head = Head()
    summary: dict[tuple[str, ...], bytes] = {}
    last: dict[int, bytes] = {}
    for _, record in records:
        try:
            kind, contents = split_record(record)
            if kind in _ROWS:
                head.rows += 1
                last[kind] = contents
            elif kind == SUMMARY:
                _update(summary, contents)
            elif kind:
                _take(head, kind, contents)
        except BadMessage:
            continue
    for path, value in summary.items():
        _put(head.summary, path, _json(value))
    head.last_seen = max([head.started, *(_time_us(kind, contents) / 1e6 for kind, contents in last.items())])
    return head


def rows_of(kind: int, contents: bytes, time_us: int, read_file: ReadFile) -> list[ForeignRow]:
    """The rows that a record becomes.

    Args:
        time_us: for a record that does not say its time.

    Raises:
        BadMessage: it is no such record.
    """
    if kind == HISTORY:
        values: JsonObject = {}
        step = None
        for number, value in fields(contents):
            if number == 1:
                path, encoded = _item(value)
                _put(values, path, _json(encoded))
            elif number == 2:
                step = next((signed(one) for inner, one in fields(value) if inner == 1), 0)
        return list(history_rows(values, time_us, step, read_file, strict=False))
    if kind == STATS:
        items = (_item(value) for number, value in fields(contents) if number == 3)
        sample = {".".join(path): _json(encoded) for path, encoded in items}
        return list(system_rows(sample, _time_us(kind, contents) or time_us, strict=False))
    if kind in (OUTPUT, OUTPUT_RAW):
        line = next((text(value) for number, value in fields(contents) if number == 3), "")
        return [ForeignRow(_time_us(kind, contents) or time_us, None, "console", None, {"text": line})]
    found = dict(fields(contents))
    if kind == ALERT:
        return [alert_row(text(found.get(1)), text(found.get(2)), text(found.get(3)), time_us, None)]
    if kind == METRIC:
        return _definition(found, time_us)
    if kind == FILES:
        paths = (text(dict(fields(value)).get(1)) for number, value in fields(contents) if number == 1)
        # Media come with the rows that show them.
        return [
            file_row(path, time_us, read_file)
            for path in paths
            if path not in OWN_FILES and not path.startswith("media/")
        ]
    return []


def _definition(found: dict[int, Any], time_us: int) -> list[ForeignRow]:
    pattern, axis = text(found.get(1)) or text(found.get(2)), text(found.get(4))
    options = dict(fields(found.get(6) or b""))
    # What a pattern brought about is said by the pattern; the mirror's own step is what steps are here.
    if not pattern or found.get(10) or pattern == "lossbook/step" or (pattern == "*" and axis == "lossbook/step"):
        return []
    body: JsonObject = {"pattern": pattern}
    if axis:
        body["x"] = axis_of(axis)
    if found.get(8) in _GOALS:
        body["goal"] = _GOALS[found[8]]
    words = [_SUMMARIES[number] for number, value in fields(found.get(7) or b"") if value and number in _SUMMARIES]
    if words:
        body["summary"] = ",".join(words)
    if options.get(2):
        body["hidden"] = True
    return [ForeignRow(time_us, None, "define", None, body)] if len(body) > 1 else []


# -- what is known of the run -----------------------------------------------------------------------------------------


def _take(head: Head, kind: int, contents: bytes) -> None:
    if kind == RUN:
        _take_run(head, contents)
    elif kind == CONFIG:
        _configure(head.config, contents)
    elif kind == ENVIRONMENT:
        arguments = [text(value) for number, value in fields(contents) if number == 5]
        head.arguments = arguments or head.arguments
        for number, value in fields(contents):
            if number in _ENVIRONMENT and value:
                head.origin[_ENVIRONMENT[number]] = text(value)
            elif number == 9:
                _take_git(head, value)
    elif kind == EXIT:
        # An exit code of 0 is not written at all.
        head.exit_code = signed(dict(fields(contents)).get(1, 0))


def _take_run(head: Head, contents: bytes) -> None:
    names = {
        1: "id",
        2: "entity",
        3: "project",
        6: "group",
        7: "job_type",
        8: "name",
        9: "notes",
        12: "sweep",
    }
    tags = []
    for number, value in fields(contents):
        if number in names:
            setattr(head, names[number], text(value))
        elif number == 4:
            _configure(head.config, value)
        elif number == 5:
            for inner, item in fields(value):
                if inner == 1:
                    path, encoded = _item(item)
                    _put(head.summary, path, _json(encoded))
        elif number == 10:
            tags.append(text(value))
        elif number == 13:
            head.origin["host"] = text(value)
        elif number == 14:
            head.starting_step = signed(value)
        elif number == 17:
            head.started = _seconds(value)
        elif number == 21:
            _take_git(head, value)
        elif number == 23:
            parent = dict(fields(value))
            head.origin["forked_from"] = {"run": text(parent.get(1)), "metric": text(parent.get(3))}
    head.tags = tuple(tags)


def _take_git(head: Head, contents: bytes) -> None:
    for number, value in fields(contents):
        if number in (1, 2) and value:
            head.git["remote" if number == 1 else "commit"] = text(value)


def _configure(config: JsonObject, contents: bytes) -> None:
    for number, item in fields(contents):
        path, encoded = _item(item)
        if number == 1:
            change: JsonObject = {}
            _put(change, path, _json(encoded))
            # As W&B's service does: objects merge, everything else replaces.
            config.update(merge_config(config, change))
        elif number == 2:
            _remove(config, path)


def _update(summary: dict[tuple[str, ...], bytes], contents: bytes) -> None:
    """Note what a summary record says, undecoded: there is one for each row, and the last alone counts."""
    for number, item in fields(contents):
        path, encoded = _item(item)
        if number == 1:
            # As the last place in the order: an object may stand where single values stood, or the other way round.
            summary.pop(path, None)
            summary[path] = encoded
        elif number == 2:
            for known in [one for one in summary if one[: len(path)] == path]:
                del summary[known]


def _item(contents: bytes) -> tuple[tuple[str, ...], bytes]:
    """Path and JSON text of an item, which configuration, summary, history and samples have alike."""
    # The shape that nearly all have: a path of one short name, and a short text. There are millions of them.
    size = contents[1] if len(contents) > 1 else 128
    text_at = size + 5
    if (
        size < 128
        and len(contents) >= text_at
        and contents[0] == 0x12
        and contents[size + 2 : size + 4] == b"\x82\x01"
        and contents[size + 4] == len(contents) - text_at
    ):
        return (contents[2 : size + 2].decode("utf-8", "replace"),), contents[text_at:]
    key, nested, encoded = "", [], b"null"
    for number, value in fields(contents):
        if number == 16:
            encoded = value
        elif number == 2:
            nested.append(text(value))
        elif number == 1:
            key = text(value)
    return tuple(nested) or (key,), encoded


def _put(target: JsonObject, path: tuple[str, ...], value: Json) -> None:
    for part in path[:-1]:
        inner = target.get(part)
        if not isinstance(inner, dict):
            inner = target[part] = {}
        target = inner
    target[path[-1]] = value


def _remove(target: JsonObject, path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        inner = target.get(part)
        if not isinstance(inner, dict):
            return
        target = inner
    target.pop(path[-1], None)


def _json(encoded: bytes) -> Json:
    try:
        value: Json = orjson.loads(encoded)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(encoded)  # bare NaN and Infinity, as W&B's library writes them
        except ValueError:
            return text(encoded)
    return value


def _seconds(timestamp: bytes) -> float:
    found = dict(fields(timestamp))
    return signed(found.get(1, 0)) + signed(found.get(2, 0)) / 1e9


def _time_us(kind: int, contents: bytes) -> int:
    """When a record was made; 0 where it does not say."""
    if kind in (STATS, OUTPUT, OUTPUT_RAW):
        return round(next((_seconds(value) for number, value in fields(contents) if number == 2), 0.0) * 1e6)
    if kind == HISTORY:
        items = (_item(value) for number, value in itertools.islice(fields(contents), 4096) if number == 1)
        stamp = next((_json(encoded) for path, encoded in items if path == ("_timestamp",)), 0.0)
        return round(stamp * 1e6) if isinstance(stamp, (int, float)) else 0
    return 0
