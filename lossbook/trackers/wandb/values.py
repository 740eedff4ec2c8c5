"""What W&B logs, in Lossbook's words: one row of its history, or one sample of its system stream, becomes rows here.

A run that Lossbook's own mirror delivered comes back as it was: with its steps, its ranks and its kinds of rows.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

import orjson

from lossbook.json_shapes import JsonObject, list_or_empty, number_or_none, object_or_empty, whole_or_none
from lossbook.trackers.source import ForeignRow

#: What a run without GPU metrics lacked where it was trained.
GPU_ADVICE = (
    "W&B measures NVIDIA and AMD GPUs by itself where it trains: look there for a driver that it can read, and "
    "leave x_disable_stats off"
)
#: Files larger than this stay where they are: a row is held in memory as a whole.
LARGEST_FILE_BYTES = 256 << 20
#: Files that W&B makes of what is read from elsewhere.
OWN_FILES = ("output.log", "config.yaml", "wandb-summary.json", "wandb-history.jsonl", "wandb-events.jsonl")
#: The series in which Lossbook's mirror keeps the step as it was logged.
STEP = "lossbook/step"

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: W&B's own in each row.
_CLOCK = ("_step", "_timestamp", "_runtime", "_wandb")
_RANK = re.compile(r"(.+)/rank_(\d+)\Z")
_LABEL = re.compile(r"(.+)/l:rank_(\d+)\Z")
_LEVELS = {"WARN": "warning", "INFO": "info", "ERROR": "error"}
#: What the mirror keeps of rows that W&B has no place for: by series the kind, and the field of its body.
_OURS = {
    "lossbook/attempt": ("attempt", "number"), "lossbook/stage": ("stage", "name"), "lossbook/note": ("note", "text"),
    "lossbook/checkpoint": ("checkpoint", "path"), "lossbook/warning": ("warning", "message"),
}  # fmt: skip
_AXES = {"_step": "step", STEP: "step", "_timestamp": "time", "_runtime": "wallclock"}

#: Gives the contents of one of the run's files by its path there; None where it is not to be had.
ReadFile = Callable[[str], bytes | None]


def history_rows(
    values: Mapping[str, object], time_us: int, step: int | None, read_file: ReadFile, *, strict: bool
) -> Iterator[ForeignRow]:
    """The rows that one row of the history becomes: scalars of each rank, then whatever else it holds.

    Args:
        values: by series, nested or not; W&B's own among them.
        time_us: for a row that does not say its time.
        step: for a row that does not say its step.
        strict: the values come from JSON that has no NaN: texts that say so are numbers.
    """
    flat = dict(_flattened(values))
    stamp, own_step = flat.get("_timestamp"), flat.pop(STEP, None)
    time_us = round(float(stamp) * 1e6) if is_number(stamp) else time_us
    step = own if (own := whole_or_none(flat.get("_step"))) is not None else step
    ours = is_number(own_step)
    step = int(own_step) if is_number(own_step) else step
    scalars: dict[int, dict[str, float]] = {}
    others: list[ForeignRow] = []
    for name, value in flat.items():
        if name in _CLOCK or value is None:
            continue
        key, rank = _ranked(_RANK, name) if ours else (name, 0)
        if ours and key in _OURS:
            kind, field = _OURS[key]
            said = {"resume_step": None} if kind == "attempt" else {field: value}
            others.append(ForeignRow(time_us, step, kind, None, said, rank))
            continue
        key = key.removeprefix("logged/") if ours and key.removeprefix("logged/") in (*_CLOCK, STEP) else key
        number = to_number(value, strict=strict)
        if number is not None:
            scalars.setdefault(rank, {})[key] = number
        else:
            others += [row._replace(rank=rank) for row in _objects(key, value, time_us, step, read_file)]
    # An attempt begins before its rows.
    yield from (row for row in others if row.kind == "attempt")
    for rank, body in scalars.items():
        yield ForeignRow(time_us, step, None, None, body, rank)
    yield from (row for row in others if row.kind != "attempt")


def system_rows(values: Mapping[str, object], time_us: int, *, strict: bool) -> Iterator[ForeignRow]:
    """The rows of one sample of the system stream, under `system.` names."""
    scalars: dict[int, dict[str, float]] = {}
    for name, value in values.items():
        number = None if name in _CLOCK else to_number(value, strict=strict)
        if number is not None:
            key, rank = _ranked(_LABEL, name)
            scalars.setdefault(rank, {})[key if key.startswith("system.") else f"system.{key}"] = number
    for rank, body in scalars.items():
        yield ForeignRow(time_us, None, None, None, body, rank)


def alert_row(title: str, text: str, level: str, time_us: int, step: int | None) -> ForeignRow:
    """A notification."""
    body = {"title": title, "text": text, "level": _LEVELS.get(level, "info")}
    return ForeignRow(time_us, step, "alert", None, body)


def file_row(name: str, time_us: int, read_file: ReadFile, key: str | None = None) -> ForeignRow:
    """A file of the run; a warning where it is not to be had."""
    contents = read_file(name)
    if contents is None:
        message = (
            f"W&B's file {name} is not there any more, or larger than {LARGEST_FILE_BYTES >> 20} MB: it was left out"
        )
        return ForeignRow(time_us, None, "warning", key, {"message": message})
    return ForeignRow(time_us, None, "file", key, {"name": name, "contents": contents})


def axis_of(step_metric: str) -> str:
    """What Lossbook calls an x axis of W&B's."""
    return _AXES.get(step_metric, step_metric)


def state_of(state: str, summary: Mapping[str, object]) -> str:
    """How a run ended, as Lossbook says it: what its mirror left in the summary, else what W&B's state means."""
    own = summary.get("lossbook/state")
    if isinstance(own, str) and state not in ("running", "pending"):
        return own
    return {
        "running": "running",
        "pending": "running",
        "finished": "finished",
        "failed": "failed",
        "killed": "killed",
        "preempting": "preempted",
        "preempted": "preempted",
    }.get(state, "crashed")


def plain_config(config: Mapping[str, object]) -> dict[str, object]:
    """A configuration without what W&B's library keeps in it for itself."""
    return {key: value for key, value in config.items() if key not in ("_wandb", "wandb_version")}


def plain_summary(summary: Mapping[str, object], *, strict: bool = False) -> dict[str, object]:
    """A summary under the names of the series, without media, which are rows, and without what is W&B's or Lossbook's."""
    return {
        key: _NOT_FINITE.get(value, value) if strict and isinstance(value, str) else value
        for key, value in _flattened(summary)
        if not key.startswith(("_wandb", "lossbook/")) and not (isinstance(value, dict) and "_type" in value)
    }


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number of JSON's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def to_number(value: object, *, strict: bool) -> float | None:
    """A value as a scalar has it; None for one that is no number."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return _NOT_FINITE.get(value) if strict and isinstance(value, str) else None


def _ranked(pattern: re.Pattern[str], name: str) -> tuple[str, int]:
    found = pattern.match(name)
    return (found[1], int(found[2])) if found is not None else (name, 0)


def _flattened(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested series by the names that W&B's pages have for them, joined by dots; what has a `_type` is one value."""
    for key, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value and key not in _CLOCK:
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _objects(key: str, value: object, time_us: int, step: int | None, read_file: ReadFile) -> list[ForeignRow]:
    """The rows of one value that is no number."""
    fields = object_or_empty(value)
    kind = str(fields.get("_type") or "")
    if kind == "histogram":
        return [ForeignRow(time_us, step, "histogram", key, _histogram(fields))]
    if kind in ("table-file", "table"):
        return [_table(key, fields, time_us, step, read_file)]
    if kind and (paths := _paths(fields)):
        if kind in ("image-file", "images/separated"):
            return [_image(key, path, fields, at, time_us, step, read_file) for at, path in enumerate(paths)]
        return [file_row(path, time_us, read_file, key)._replace(step=step) for path in paths]
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return [ForeignRow(time_us, step, "text", key, {"text": text})]


def _histogram(value: JsonObject) -> dict[str, object]:
    packed = value.get("packedBins")
    if value.get("bins") is None and isinstance(packed, dict):
        # The cloud keeps bins of equal width this way.
        low, size, count = (number_or_none(packed.get(name)) or 0.0 for name in ("min", "size", "count"))
        return {
            "edges": [low + size * at for at in range(int(count) + 1)],
            "counts": list_or_empty(value.get("values")),
        }
    return {"edges": list_or_empty(value.get("bins")), "counts": list_or_empty(value.get("values"))}


def _paths(value: Mapping[str, object]) -> list[str]:
    """The files of a value: one, or those of a list of media."""
    named = value.get("filenames")
    if isinstance(named, list):
        return [str(path) for path in named]
    return [str(value["path"])] if isinstance(value.get("path"), str) else []


def _image(
    key: str, path: str, value: Mapping[str, object], at: int, time_us: int, step: int | None, read_file: ReadFile
) -> ForeignRow:
    contents = read_file(path)
    if contents is None:
        return _missing(key, path, time_us, step)
    body: dict[str, object] = {"contents": contents, "ending": os.path.splitext(path)[1] or ".png"}
    body.update((name, value[name]) for name in ("width", "height") if is_number(value.get(name)))
    captions = value.get("captions")
    caption = captions[at] if isinstance(captions, list) and at < len(captions) else value.get("caption")
    if caption:
        body["caption"] = str(caption)
    return ForeignRow(time_us, step, "image", key, body)


def _table(key: str, value: Mapping[str, object], time_us: int, step: int | None, read_file: ReadFile) -> ForeignRow:
    path = str(value.get("path") or "")
    contents = read_file(path) if path else orjson.dumps({key: value.get(key) for key in ("columns", "data")})
    try:
        table = json.loads(contents) if contents is not None else {}
        columns, rows = list(table["columns"]), list(table["data"])
    except (ValueError, KeyError, TypeError):
        return _missing(key, path, time_us, step)
    return ForeignRow(time_us, step, "table", key, {"columns": columns, "rows": rows})


def _missing(key: str, path: str, time_us: int, step: int | None) -> ForeignRow:
    body = {"message": f"W&B's file {path} of {key} is not there any more, or cannot be read"}
    return ForeignRow(time_us, step, "warning", key, body)
