"""The rows of one log: its lines or entries as objects, and what of each is a step, a time and a number.

A file to which lines are added is read on from where it ended; a damaged line costs itself and one sentence.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import hashlib
import io
import itertools
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import orjson

from lossbook.errors import StoreError
from lossbook.json_shapes import Json, JsonMapping, JsonObject, object_or_empty, whole_or_none
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten

#: Columns that a row's step may stand in, the first that is there.
STEPS = ("step", "_step", "steps", "global_step", "trainer/global_step", "train_step", "iteration", "iter", "iterations",
         "gradient_step", "it", "batch", "epoch", "Step")  # fmt: skip
#: Columns that say when a row was logged: Unix seconds (or ms), or a date.
TIMES = ("time", "timestamp", "_timestamp", "wall_time", "Wall time", "date", "datetime", "created_at")
#: Columns that say how many seconds after the beginning it was logged.
SECONDS = ("wallclock_time", "_runtime", "elapsed", "elapsed_seconds", "runtime", "wallclock_seconds")
#: A CSV's last line without its newline is taken when nobody has written to the file for so long.
QUIET_SECONDS = 10.0
_WORDS = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "inf": float("inf"),
    "-infinity": float("-inf"),
    "-inf": float("-inf"),
}
_HEAD_BYTES = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


class Log(NamedTuple):
    """One file: what kind of log it is, and what its first row tells."""

    path: str
    form: str  # "json", "lines" or "csv"
    entries: list[Json] | None
    tag: str | None = None


def look(path: str) -> Log | None:
    log = Log(path, "csv" if path.endswith(".csv") else "lines", None)
    if log.form == "csv":
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            heading = next(csv.reader(file), [])
        if [one.strip() for one in heading] == ["Wall time", "Step", "Value"]:
            # What TensorBoard's own page downloads: run-NAME-tag-TAG.csv.
            matched = re.match(r"run-(.*?)-tag-(.*)\.csv\Z", os.path.basename(path))
            log = log._replace(tag=matched[2] if matched else os.path.basename(path).removesuffix(".csv"))
    return log if is_log(log) else None


def is_log(log: Log) -> bool:
    """Whether one of the first rows has a step and a number beside it."""
    if log.form == "json":
        entries: Iterator[Json] = itertools.islice(iter(log.entries or ()), 20)
    else:
        with contextlib.closing(_lines(log, 0)) as lines:
            entries = iter([entry for entry, _ in itertools.islice(lines, 20)])
    for entry in entries:
        if isinstance(entry, dict):
            column = _step_column(entry)
            if column is not None and any(number_of(value) is not None for key, value in _flat(entry) if key != column):
                return True
    return False


def first_time(log: Log) -> float | None:
    entries = log.entries
    if log.form != "json":
        with contextlib.closing(_lines(log, 0)) as lines:
            entries = [entry for entry, _ in itertools.islice(lines, 5)]
    for entry in entries or ():
        if isinstance(entry, dict):
            return next((one for one in (moment_of(entry.get(name)) for name in TIMES) if one is not None), None)
    return None


def rows_of(log: Log, run: ForeignRun) -> Iterator[ForeignRow]:
    """The rows behind `run.after`.

    Raises:
        StoreError: the file cannot be read.
        Rewritten: it is another log than the one that was read before.
    """
    after = object_or_empty(run.after)
    return _json_rows(log, run, after) if log.form == "json" else _line_rows(log, run, after)


def _json_rows(log: Log, run: ForeignRun, after: JsonMapping) -> Iterator[ForeignRow]:
    """The entries of a history, behind those that were read. It is written anew as it grows: the first must be the same."""
    entries = log.entries or []
    done = whole_or_none(after.get("entries")) or 0
    print_of_first = hashlib.sha256(repr(entries[:1]).encode("utf-8", "replace")).hexdigest()[:16]
    if done and (done > len(entries) or after.get("first") != print_of_first):
        raise Rewritten(f"{log.path} is another log than at the last import: remove the run that was imported")
    make = _row_maker(run, log)
    for number, entry in enumerate(itertools.islice(entries, done, None), done):
        row = make(entry, number)
        if row is not None:
            yield row._replace(place={"entries": number + 1, "first": print_of_first})


def _line_rows(log: Log, run: ForeignRun, after: JsonMapping) -> Iterator[ForeignRow]:
    """The lines of a file behind the offset that was read."""
    offset, number = whole_or_none(after.get("offset")) or 0, whole_or_none(after.get("number")) or 0
    try:
        with open(log.path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreError(f"{log.path} cannot be read ({error.strerror}); check who owns it") from error
    length = min(whole_or_none(after.get("head_bytes")) or 0, _HEAD_BYTES)
    if offset and (size < offset or hashlib.sha256(head[:length]).hexdigest()[:16] != after.get("head")):
        raise Rewritten(f"{log.path} is another log than at the last import: remove the run that was imported")
    make = _row_maker(run, log)
    prints: dict[int, str] = {}
    for entry, end in _lines(log, offset):
        row = make(entry, number)
        number += 1
        if row is not None:
            length = min(end, len(head))
            if length not in prints:
                prints = {length: hashlib.sha256(head[:length]).hexdigest()[:16]}
            place: JsonObject = {"offset": end, "number": number, "head": prints[length], "head_bytes": length}
            yield row._replace(place=place)


def _lines(log: Log, offset: int) -> Generator[tuple[Json, int], None, None]:
    """Each line as an object (a sentence where it is damaged), and the offset (bytes) behind it."""
    with open(log.path, "rb") as file:
        if log.form == "csv":
            yield from _csv_lines(log, file, offset)
            return
        file.seek(offset)
        number = 0
        for line in file:
            number += 1
            offset += len(line)
            if not line.strip():
                continue
            try:
                entry = orjson.loads(line.lstrip(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError:
                if not line.endswith(b"\n"):
                    return  # torn: it is not there yet
                entry = _json_with_nan(line)
            yield entry, offset


def _json_with_nan(line: bytes) -> Json:
    # Python's own writer leaves NaN and Infinity as bare words.
    from lossbook.json_repair import parse

    try:
        entry: Json = parse(line.decode("utf-8", "replace"))
        return entry
    except (ValueError, RecursionError):
        return f"a line of the log is damaged and was passed over: {line[:80].decode('utf-8', 'replace').strip()}"


def _csv_lines(log: Log, file: io.BufferedReader, offset: int) -> Iterator[tuple[Json, int]]:
    """The rows of a CSV under its heading."""
    consumed = 0
    quiet = time.time() - os.fstat(file.fileno()).st_mtime > QUIET_SECONDS

    def lines() -> Iterator[str]:
        nonlocal consumed
        for line in file:
            if not line.endswith(b"\n") and not quiet:
                return
            consumed += len(line)
            yield line.decode("utf-8-sig" if consumed == len(line) else "utf-8", "replace").replace("\0", "")

    heading = [one.strip() for one in next(csv.reader(lines()), [])]
    if offset:
        file.seek(offset)
        consumed = offset
    for cells in csv.reader(lines()):
        if len(cells) > len(heading) or not any(cells):
            continue
        yield dict(zip(heading, cells, strict=False)), consumed


def _row_maker(run: ForeignRun, log: Log) -> Callable[[Json, int], ForeignRow | None]:
    last_step = -1

    def make(entry: Json, number: int) -> ForeignRow | None:
        nonlocal last_step
        if isinstance(entry, str):
            return ForeignRow(int(run.created * 1e6), None, "warning", None, {"message": entry})
        if not isinstance(entry, dict):
            return None
        column = _step_column(entry)
        step = number_of(entry.get(column)) if column is not None else None
        finite = step is not None and step == step and abs(step) < 2**62
        last_step = int(step) if finite and step is not None else last_step + 1 if column is None else max(last_step, 0)
        scalars = {}
        for key, value in _flat(entry):
            # An epoch may be a fraction, and is worth an axis of its own.
            if (key == column and key != "epoch") or key in TIMES:
                continue
            found = number_of(value)
            if found is not None:
                scalars[log.tag if log.tag is not None and key == "Value" else key] = found
        if set(scalars) <= {"epoch"} and column is None:
            return None
        return ForeignRow(_time_us(entry, run), last_step, None, None, scalars) if scalars else None

    return make


def _time_us(entry: JsonMapping, run: ForeignRun) -> int:
    for name in TIMES:
        moment = moment_of(entry.get(name))
        if moment is not None:
            return round(moment * 1e6)
    for name in SECONDS:
        passed = number_of(entry.get(name))
        if passed is not None and 0 <= passed < 1e9:
            return round((run.created + passed) * 1e6)
    return int(run.created * 1e6)


def _step_column(entry: JsonMapping) -> str | None:
    return next((name for name in STEPS if number_of(entry.get(name)) is not None), None)


def _flat(entry: JsonMapping, prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif key is not None:
            yield f"{prefix}{key}", value


def number_of(value: object) -> float | None:
    """A number, or a text that is one."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        return float(text) if _NUMBER.match(text) else None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def moment_of(value: object) -> float | None:
    """A point in time as Unix seconds: a date in ISO 8601, or a number that can only be one."""
    number = number_of(value)
    if number is not None:
        for scale in (1.0, 1e3, 1e6, 1e9):
            if 1e8 < number / scale < 1e10:
                return number / scale
        return None
    if not isinstance(value, str):
        return None
    try:
        return datetime.datetime.fromisoformat(value.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
