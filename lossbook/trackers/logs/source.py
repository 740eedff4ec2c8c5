"""JSON and CSV logs: every file that has steps and numbers is a run.

    experiment_*.json       the JSON log of an experiment, as `lossbook.lm` and others write it (metrics_history)
    trainer_state.json      Hugging Face's Trainer (log_history)
    *.json                  a list of objects
    *.jsonl, *.ndjson       an object a line
    *.csv                   a heading, then a line a row; TensorBoard's downloads as well

A row needs a column `step`, `iteration` or `epoch` (or one of `STEPS`). A file to which lines are added is read on from
where it ended; what a crash or a hand has damaged costs its own line.
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
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import orjson

from lossbook.errors import StoreError
from lossbook.paths import safe_name
from lossbook.trackers.source import ForeignRow, ForeignRun, Rewritten, Source, is_run_folder, scheme_of

#: Columns that a row's step may stand in, the first that is there.
STEPS = ("step", "_step", "steps", "global_step", "trainer/global_step", "train_step", "iteration", "iter", "iterations",
         "gradient_step", "it", "batch", "epoch", "Step")  # fmt: skip
#: Columns that say when a row was logged: Unix seconds (or ms), or a date.
TIMES = ("time", "timestamp", "_timestamp", "wall_time", "Wall time", "date", "datetime", "created_at")
#: Columns that say how many seconds after the beginning it was logged.
SECONDS = ("wallclock_time", "_runtime", "elapsed", "elapsed_seconds", "runtime", "wallclock_seconds")
#: A CSV's last line without its newline is taken when nobody has written to the file for so long.
QUIET_SECONDS = 10.0
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv")
#: Names that say nothing: the run is called after its folder.
_COMMON = frozenset(("metrics", "log", "logs", "train", "history", "progress", "results", "trainer_state", "metric"))
_WORDS = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "inf": float("inf"),
    "-infinity": float("-inf"),
    "-inf": float("-inf"),
}
_HEAD_BYTES = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


class _Log(NamedTuple):
    """One file: what kind of log it is, and what its first row tells."""

    path: str
    form: str  # "json", "lines" or "csv"
    entries: list[Any] | None
    tag: str | None = None


class LogFiles(Source):
    """A folder of logs, or one file."""

    kind: ClassVar[str] = "logs"
    title: ClassVar[str] = "JSON and CSV logs"
    is_general: ClassVar[bool] = True
    gpu_advice: ClassVar[str] = (
        "a log has what was written into it: log gpu/compute_util_avg and gpu/memory_used_total_gb, or record with "
        "lossbook.init()"
    )
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Texts among the numbers of a row are passed over.",
        "A log of a run that ended without its end_time counts as crashed; others count as finished.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        return scheme_of(location) == cls.kind or (location.endswith(ENDINGS) and os.path.isfile(location))

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.path = os.path.abspath(location.removeprefix("logs://"))
        if not os.path.exists(self.path):
            raise StoreError(f"there are no logs at {self.path}: name a folder, or a JSON, JSON Lines or CSV file")

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        whole = os.path.isfile(self.path)
        root = os.path.dirname(self.path) if whole else self.path
        made = []
        for path in [self.path] if whole else _files(self.path):
            run = _make_run(root, path)
            if run is not None:
                made.append(run)
        if not made:
            raise StoreError(
                f"there is no log in {self.path}: a row needs a column such as step, iteration or epoch, and numbers"
            )
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        log: _Log = run.place
        after = dict(run.after or {})
        found = _json_rows(log, run, after) if log.form == "json" else _line_rows(log, run, after)
        return itertools.islice(found, start, None) if run.after is None else found


def _files(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        if is_run_folder(names, folders):
            folders[:] = []
            continue
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if name.endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(root, name)


# -- runs -------------------------------------------------------------------------------------------------------------


def _make_run(root: str, path: str) -> ForeignRun | None:
    """What a file says of its run; None where it is no log."""
    try:
        status = os.stat(path)
        about: dict[str, Any] = {}
        if path.endswith(".json"):
            about, log = _read_json(path)
        else:
            log = _look(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error
    if log is None:
        return None
    relative = os.path.relpath(path, root)
    stem = os.path.splitext(relative)[0]
    outer, base = os.path.split(stem)
    name = about.get("name") or (outer if base.lower() in _COMMON and outer else stem).replace(os.sep, "/")
    created = about.get("created") or _first_time(log) or status.st_mtime
    quiet = time.time() - status.st_mtime > QUIET_SECONDS
    config = about.get("config") or _config_beside(path)
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:8]
    return ForeignRun(
        id=f"{safe_name(name.replace('/', '-'))[:60]}-{digest}",
        name=name,
        project=os.path.basename(root) or "logs",
        created=created,
        version=f"{status.st_size}-{status.st_mtime_ns}-{quiet or log.form != 'csv'}",
        state=about.get("state") or "finished",
        ended=about.get("ended"),
        error=about.get("error"),
        config=config,
        summary=about.get("summary") or {},
        tags=tuple(about.get("tags") or ()),
        notes=about.get("notes"),
        origin={"file": path},
        place=log,
    )


def _read_json(path: str) -> tuple[dict[str, Any], _Log | None]:
    """A JSON file, whole or damaged: what it says of the run, and its rows."""
    with open(path, "rb") as file:
        contents = file.read()
    if not contents.strip():
        return {}, None
    problem = None
    try:
        values = orjson.loads(contents)
    except orjson.JSONDecodeError:
        from lossbook.json_repair import parse, salvage

        text = contents.decode("utf-8", "replace").lstrip("\ufeff")
        try:
            values = parse(text)
        except (ValueError, RecursionError):
            lines = _Log(path, "lines", None)
            if _is_log(lines):
                return {}, lines  # JSON Lines under another ending
            values, problem = salvage(text)
    if isinstance(values, list):
        log = _Log(path, "json", values)
        return {"error": problem, "state": "crashed" if problem else None}, log if _is_log(log) else None
    if not isinstance(values, dict):
        return {}, None
    named = (name for name in ("metrics_history", "log_history", "history") if isinstance(values.get(name), list))
    entries = values.get(next(named, ""))
    if entries is None:
        lines = _Log(path, "lines", None)
        return {}, lines if contents.count(b"\n") > 0 and b"\n" not in contents.strip() and _is_log(lines) else None
    log = _Log(path, "json", entries)
    about = _about(values, problem)
    if not _is_log(log) and "metrics_history" not in values:
        return {}, None
    return about, log


def _about(values: Mapping[str, Any], problem: str | None) -> dict[str, Any]:
    """What an experiment's log says beside its history."""
    config = values.get("config")
    config = dict(config) if isinstance(config, dict) else {}
    started, ended = _moment(values.get("start_time")), _moment(values.get("end_time"))
    summary = {
        name: values[name]
        for name in (
            "best_train_loss",
            "best_val_loss",
            "final_train_loss",
            "final_val_loss",
            "duration_seconds",
            "best_metric",
            "best_model_checkpoint",
            "total_flos",
        )
        if isinstance(values.get(name), (int, float, str)) and not isinstance(values.get(name), bool)
    }
    summary = {
        name: _number(value) if isinstance(value, str) and _number(value) is not None else value
        for name, value in summary.items()
    }
    cut_off = problem is not None or ("start_time" in values and ended is None)
    notes = values.get("notes")
    tags = config.get("tags")
    return {
        "name": config.get("experiment_name") if isinstance(config.get("experiment_name"), str) else None,
        "config": config,
        "created": started,
        "ended": ended,
        "summary": summary,
        "state": "crashed" if cut_off else "finished",
        "error": (f"line {problem}" if problem else "the log has no end_time") if cut_off else None,
        "notes": notes if isinstance(notes, str) and notes else None,
        "tags": [str(one) for one in tags] if isinstance(tags, list) else [],
    }


def _config_beside(path: str) -> dict[str, Any]:
    """The configuration that Lightning's CSV logger keeps beside its metrics."""
    beside = os.path.join(os.path.dirname(path), "hparams.yaml")
    if not os.path.isfile(beside):
        return {}
    import yaml

    try:
        with open(beside, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _look(path: str) -> _Log | None:
    log = _Log(path, "csv" if path.endswith(".csv") else "lines", None)
    if log.form == "csv":
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            heading = next(csv.reader(file), [])
        if [one.strip() for one in heading] == ["Wall time", "Step", "Value"]:
            # What TensorBoard's own page downloads: run-NAME-tag-TAG.csv.
            matched = re.match(r"run-(.*?)-tag-(.*)\.csv\Z", os.path.basename(path))
            log = log._replace(tag=matched[2] if matched else os.path.basename(path).removesuffix(".csv"))
    return log if _is_log(log) else None


def _is_log(log: _Log) -> bool:
    """Whether one of the first rows has a step and a number beside it."""
    if log.form == "json":
        entries: Iterator[Any] = itertools.islice(iter(log.entries or ()), 20)
    else:
        with contextlib.closing(_lines(log, 0)) as lines:
            entries = iter([entry for entry, _ in itertools.islice(lines, 20)])
    for entry in entries:
        if isinstance(entry, dict):
            column = _step_column(entry)
            if column is not None and any(_number(value) is not None for key, value in _flat(entry) if key != column):
                return True
    return False


def _first_time(log: _Log) -> float | None:
    entries: Any = log.entries
    if log.form != "json":
        with contextlib.closing(_lines(log, 0)) as lines:
            entries = [entry for entry, _ in itertools.islice(lines, 5)]
    for entry in entries or ():
        if isinstance(entry, dict):
            moment = next((one for one in (_moment(entry.get(name)) for name in TIMES) if one is not None), None)
            return moment
    return None


# -- rows -------------------------------------------------------------------------------------------------------------


def _json_rows(log: _Log, run: ForeignRun, after: Mapping[str, Any]) -> Iterator[ForeignRow]:
    """The entries of a history, behind those that were read. It is written anew as it grows: the first must be the same."""
    entries = log.entries or []
    done = int(after.get("entries") or 0)
    print_of_first = hashlib.sha256(repr(entries[:1]).encode("utf-8", "replace")).hexdigest()[:16]
    if done and (done > len(entries) or after.get("first") != print_of_first):
        raise Rewritten(f"{log.path} is another log than at the last import: remove the run that was imported")
    make = _row_maker(run, log)
    for number, entry in enumerate(itertools.islice(entries, done, None), done):
        row = make(entry, number)
        if row is not None:
            yield row._replace(place={"entries": number + 1, "first": print_of_first})


def _line_rows(log: _Log, run: ForeignRun, after: Mapping[str, Any]) -> Iterator[ForeignRow]:
    """The lines of a file behind the offset that was read."""
    offset, number = int(after.get("offset") or 0), int(after.get("number") or 0)
    try:
        with open(log.path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreError(f"{log.path} cannot be read ({error.strerror}); check who owns it") from error
    length = min(int(after.get("head_bytes") or 0), _HEAD_BYTES)
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
            place = {"offset": end, "number": number, "head": prints[length], "head_bytes": length}
            yield row._replace(place=place)


def _lines(log: _Log, offset: int) -> Generator[tuple[Any, int], None, None]:
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


def _json_with_nan(line: bytes) -> Any:
    # Python's own writer leaves NaN and Infinity as bare words.
    from lossbook.json_repair import parse

    try:
        return parse(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return f"a line of the log is damaged and was passed over: {line[:80].decode('utf-8', 'replace').strip()}"


def _csv_lines(log: _Log, file: io.BufferedReader, offset: int) -> Iterator[tuple[Any, int]]:
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


def _row_maker(run: ForeignRun, log: _Log) -> Callable[[Any, int], ForeignRow | None]:
    last_step = -1

    def make(entry: Any, number: int) -> ForeignRow | None:
        nonlocal last_step
        if isinstance(entry, str):
            return ForeignRow(int(run.created * 1e6), None, "warning", None, {"message": entry})
        if not isinstance(entry, dict):
            return None
        column = _step_column(entry)
        step = _number(entry.get(column)) if column is not None else None
        finite = step is not None and step == step and abs(step) < 2**62
        last_step = int(step) if finite and step is not None else last_step + 1 if column is None else max(last_step, 0)
        scalars = {}
        for key, value in _flat(entry):
            # An epoch may be a fraction, and is worth an axis of its own.
            if (key == column and key != "epoch") or key in TIMES:
                continue
            found = _number(value)
            if found is not None:
                scalars[log.tag if log.tag is not None and key == "Value" else key] = found
        if set(scalars) <= {"epoch"} and column is None:
            return None
        return ForeignRow(_time_us(entry, run), last_step, None, None, scalars) if scalars else None

    return make


def _time_us(entry: Mapping[str, Any], run: ForeignRun) -> int:
    for name in TIMES:
        moment = _moment(entry.get(name))
        if moment is not None:
            return round(moment * 1e6)
    for name in SECONDS:
        passed = _number(entry.get(name))
        if passed is not None and 0 <= passed < 1e9:
            return round((run.created + passed) * 1e6)
    return int(run.created * 1e6)


def _step_column(entry: Mapping[str, Any]) -> str | None:
    return next((name for name in STEPS if _number(entry.get(name)) is not None), None)


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif key is not None:
            yield f"{prefix}{key}", value


def _number(value: Any) -> float | None:
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


def _moment(value: Any) -> float | None:
    """A point in time as Unix seconds: a date in ISO 8601, or a number that can only be one."""
    number = _number(value)
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
