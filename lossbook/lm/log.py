"""The JSON log of an experiment: written from a run's rows, read from whatever people have.

    {"config": {...}, "start_time": "2025-02-22T14:05:30.123456", "end_time": ..., "duration_seconds": 615.5,
     "best_train_loss": 2.1, "best_val_loss": 2.3, "final_train_loss": 2.0, "final_val_loss": 2.3,
     "metrics_history": [{"iteration": 0, "gradient_step": 1, "wallclock_time": 0.2, "train_loss": 4.5,
                          "val_loss": null, "learning_rate": 1.2e-05, "tokens_per_sec": 1024.5, "iter_time_ms": 2.3}],
     "notes": "...", "run": {"id": ..., "project": ..., "path": ...}}

`run` names the Lossbook run that the log was made of; a log without rows is read from there. Numbers that JSON has
no form for are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import datetime
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from lossbook.errors import BadArgument, DamagedFile, LossbookError
from lossbook.journal.line import encode_number
from lossbook.lm.config import ExperimentConfig
from lossbook.paths import RunFolder, read_json, replace_file

if TYPE_CHECKING:
    from lossbook.storage.scan import LoggedRow

COLUMNS = (
    "iteration", "gradient_step", "wallclock_time", "train_loss", "val_loss", "learning_rate", "tokens_per_sec",
    "iter_time_ms",
)  # fmt: skip
#: What a row of a run has for each of them.
_KEYS = {
    "train_loss": "train/loss", "val_loss": "val/loss", "learning_rate": "train/learning_rate",
    "tokens_per_sec": "throughput/tokens_per_second", "iter_time_ms": "time/iteration_ms",
}  # fmt: skip
#: A row is one of the log's when it has one of these.
_MARKS = frozenset((*_KEYS.values(), "val/train_loss"))
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsSnapshot(NamedTuple):
    """One row of the history; None where it has no such value.

    `iteration` counts from 0, `wallclock_time` is seconds of training (gaps between attempts left out).
    """

    iteration: int = 0
    gradient_step: int = 0
    wallclock_time: float = 0.0
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_sec: float | None = None
    iter_time_ms: float | None = None


@dataclass
class ExperimentLog:
    """One experiment as its log has it. Times in seconds; `start_time` and `end_time` in ISO 8601.

    Attributes:
        problems: what was missing or could not be read, a sentence each; empty for a whole log.
        run: id, project and folder of the Lossbook run; empty for logs of other programs.
    """

    config: ExperimentConfig
    start_time: str | None = None
    end_time: str | None = None
    duration_seconds: float | None = None
    best_train_loss: float | None = None
    best_val_loss: float | None = None
    final_train_loss: float | None = None
    final_val_loss: float | None = None
    metrics_history: list[MetricsSnapshot] = field(default_factory=list)
    notes: str = ""
    run: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    path: str = ""

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.config.name

    @property
    def started(self) -> float | None:
        """When it began, Unix seconds; None where the log does not say."""
        return _unix(self.start_time)

    def run_folder(self) -> str | None:
        """The folder of the run that the log was made of, if it is still there: where it was, or beside the log."""
        named = self.run.get("path")
        if not isinstance(named, str) or not named:
            return None
        for path in (named, os.path.join(os.path.dirname(os.path.abspath(self.path)), "..", *named.split(os.sep)[-3:])):
            if RunFolder(path).exists():
                return os.path.normpath(path)
        return None


# -- writing ----------------------------------------------------------------------------------------------------------


def claim_path(folder: Path, name: str, started: float) -> Path:
    """A path `experiment_{name}_{timestamp}.json` that no other experiment has: the file is made here, empty.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = path_of_log(folder, name, started, number)
        try:
            path.open("x").close()
            return path
        except FileExistsError:
            number += 1


def path_of_log(folder: Path, name: str, started: float, number: int = 1) -> Path:
    """`experiment_{name}_{timestamp}.json`; the `number`th of that name and second."""
    stamp = datetime.datetime.fromtimestamp(started).strftime("%Y%m%d_%H%M%S")
    return folder / f"experiment_{file_name(name)}_{stamp}{'' if number == 1 else f'-{number}'}.json"


def file_name(name: str) -> str:
    """An experiment's name as part of a file's, on every file system."""
    return (re.sub(r"[^A-Za-z0-9_.\-+=@]+", "_", name).strip(".") or "experiment")[:150]


def write_log(path: Path, heading: Mapping[str, Any], *, folder: str | None) -> None:
    """Write a log, replacing the one at `path` in one step.

    Args:
        heading: config, started, ended (Unix seconds), duration_seconds, best, final, notes, run.
        folder: of the run whose rows become the history; None for none.

    Raises:
        StoreError, OSError: the run cannot be read or the log not written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as history:
        found = _write_history(history, snapshots_of(folder) if folder else iter(()))
        best, final = heading.get("best") or {}, heading.get("final") or {}
        head = {
            "config": heading["config"],
            "start_time": _iso(heading.get("started")),
            "end_time": _iso(heading.get("ended")),
            "duration_seconds": heading.get("duration_seconds"),
            "best_train_loss": best.get("train/loss", found.get("best_train_loss")),
            "best_val_loss": best.get("val/loss", found.get("best_val_loss")),
            "final_train_loss": final.get("train/loss", found.get("final_train_loss")),
            "final_val_loss": final.get("val/loss", found.get("final_val_loss")),
        }
        tail = {"notes": heading.get("notes") or "", "run": heading.get("run") or {}}
        before = orjson.dumps(_plain(head), option=orjson.OPT_INDENT_2)[:-2]  # without the closing brace
        after = orjson.dumps(_plain(tail), option=orjson.OPT_INDENT_2)[2:]
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        history.seek(0)
        try:
            with partial.open("wb") as file:
                file.write(before + b',\n  "metrics_history": [')
                shutil.copyfileobj(history, file, 1 << 20)
                file.write(b"\n  ],\n" + after + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _write_history(file: IO[bytes], snapshots: Iterator[MetricsSnapshot]) -> dict[str, float]:
    """Write the entries of the history; returns best and final losses as they went by."""
    found: dict[str, float] = {}
    between = b"\n    "
    for one in snapshots:
        values = one._asdict()
        for name in ("train_loss", "val_loss"):
            value = values[name]
            if value is not None:
                found[f"final_{name}"] = value
                if math.isfinite(value):
                    found[f"best_{name}"] = min(value, found.get(f"best_{name}", math.inf))
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                values[name] = encode_number(value)
        file.write(between + orjson.dumps(values))
        between = b",\n    "
    return found


def snapshots_of(folder: str) -> Iterator[MetricsSnapshot]:
    """The rows of a run as a log has them, in the order in which they were logged; hidden ones left out."""
    from lossbook.run_info import load_run_info
    from lossbook.storage.scan import visible

    where = RunFolder(folder)
    info = load_run_info(where)
    resumed_from = info.resume_steps() if info is not None else {}
    by_key = _resumed_by_key(_marked(where), resumed_from) if None in list(resumed_from.values())[1:] else {}
    for row in _marked(where):
        hidden = [key for key in _MARKS & row.body.keys() if not visible(row, by_key.get(key, resumed_from))]
        body = {key: value for key, value in row.body.items() if key not in hidden} if hidden else row.body
        step = row.step
        if step is None or not _MARKS & body.keys():
            continue
        hours = body.get("time/wallclock_hours", body.get("time/wallclock_hours_at_val"))
        steps = body.get("time/gradient_steps", body.get("time/gradient_steps_at_val"))
        values: dict[str, Any] = {name: body.get(key) for name, key in _KEYS.items()}
        if values["train_loss"] is None:
            values["train_loss"] = body.get("val/train_loss")
        yield MetricsSnapshot(
            iteration=step,
            gradient_step=int(steps) if steps is not None else step + 1,
            wallclock_time=hours * 3600 if hours is not None else 0.0,
            **values,
        )


def _marked(where: RunFolder) -> Iterator[LoggedRow]:
    """The rows of a run that a log has, hidden ones among them."""
    from lossbook.storage.scan import Replay

    for row in Replay(where).rows():
        if row.kind is None and row.rank <= 0 and row.step is not None and _MARKS & row.body.keys():
            yield row


def _resumed_by_key(
    rows: Iterator[LoggedRow], resumed_from: Mapping[int, int | None]
) -> dict[str, dict[int, int | None]]:
    """By key the step that each attempt resumed from; one that did not say went back to where it logged the key first."""
    first: dict[str, dict[int, int]] = {}
    for row in rows:
        if row.attempt and resumed_from.get(row.attempt) is None and row.step is not None:
            for key in _MARKS & row.body.keys():
                steps = first.setdefault(key, {})
                steps[row.attempt] = min(row.step, steps.get(row.attempt, row.step))
    return {
        key: {**resumed_from, **{attempt: step - 1 for attempt, step in steps.items()}} for key, steps in first.items()
    }


def write_csv(path: str | os.PathLike[str], snapshots: Sequence[MetricsSnapshot] | Iterator[MetricsSnapshot]) -> None:
    """Write a history as CSV with the columns of `COLUMNS`, whole or not at all; None is an empty field."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in one] for one in snapshots)
    where = os.fspath(path)
    os.makedirs(os.path.dirname(where) or ".", exist_ok=True)
    replace_file(where, text.getvalue().encode())


def write_summary(folder: Path, name: str, value: dict[str, Any], run_id: str) -> Path:
    """Write `{name}_summary.json`, or `{name}_{run id}_summary.json` where another run has that name."""
    safe = file_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe}_summary.json"
    try:
        other = read_json(str(path))
    except LossbookError:
        other = {}
    if other is not None and other.get("run_id") != run_id:
        path = folder / f"{safe}_{run_id}_summary.json"
    replace_file(str(path), orjson.dumps(_plain(value), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; what it has no form for becomes a text."""
    if isinstance(value, dict):
        return {_plain_text(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return encode_number(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return value
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    # A name that came from a file system may have lone surrogates, which UTF-8 does not.
    return text.encode("utf-8", "replace").decode()


def _iso(seconds: float | None) -> str | None:
    return datetime.datetime.fromtimestamp(seconds).isoformat() if seconds else None


def _unix(text: str | None) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


# -- reading ----------------------------------------------------------------------------------------------------------


def load_experiment_log(path: str | os.PathLike[str]) -> ExperimentLog:
    """Read a log: ours, the original course code's, one edited by hand, one cut off in the middle.

    What is missing or wrong is said in `problems`; what can be read is there.

    Raises:
        DamagedFile: nothing of it can be read, or it is no experiment's log; with file and line.
        BadArgument: there is no such file.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as file:
            contents = file.read()
    except FileNotFoundError:
        raise BadArgument(f"there is no experiment log {where}") from None
    except OSError as error:
        raise DamagedFile(f"{where} cannot be read ({error.strerror})") from None
    values, problems = _parse(where, contents)
    return _build(where, values, problems)


def _parse(path: str, contents: bytes) -> tuple[dict[str, Any], list[str]]:
    problems: list[str] = []
    if not contents.strip():
        raise DamagedFile(f"{path} is empty: nothing was written to it before the program ended")
    try:
        values = orjson.loads(contents)
    except orjson.JSONDecodeError:
        text = contents.decode("utf-8", "replace").lstrip("\ufeff")
        try:
            contents.decode()
        except UnicodeDecodeError as error:
            line = contents.count(b"\n", 0, error.start) + 1
            problems.append(f"{path}:{line}: this is no UTF-8; letters that cannot be read are shown as \ufffd")
        from lossbook.json_repair import parse, salvage

        try:
            values = parse(text)
        except (ValueError, RecursionError):
            values, problem = salvage(text)
            if values is None:
                raise DamagedFile(f"{path}:{problem}") from None
            problems.append(f"{path}:{problem}")
    if not isinstance(values, dict):
        raise DamagedFile(f"{path}:1: an experiment log is a JSON object, not {type(values).__name__}")
    if "config" not in values and "metrics_history" not in values:
        raise DamagedFile(f"{path}:1: this is no experiment log: it has neither config nor metrics_history")
    return values, problems


def _build(path: str, values: dict[str, Any], problems: list[str]) -> ExperimentLog:
    config = _config(path, values.get("config"), problems)
    history = _history(path, values.get("metrics_history"), problems)
    log = ExperimentLog(config=config, metrics_history=history, problems=problems, path=path)
    run = values.get("run")
    log.run = run if isinstance(run, dict) else {}
    for name in ("start_time", "end_time"):
        value = values.get(name)
        if value is not None and _unix(value) is None:
            problems.append(f"{path}: {name} is no ISO 8601 time: {value!r}")
        else:
            setattr(log, name, value)
    for name in ("duration_seconds", "best_train_loss", "best_val_loss", "final_train_loss", "final_val_loss"):
        setattr(log, name, _number(path, name, values.get(name), problems))
    notes = values.get("notes")
    log.notes = notes if isinstance(notes, str) else "" if notes is None else str(notes)
    folder = log.run_folder()
    if folder is not None and not history:
        # The program never came to save(): the run has every row.
        try:
            log.metrics_history = list(snapshots_of(folder))
        except (LossbookError, OSError) as error:
            problems.append(f"{path}: its run cannot be read ({error})")
        if log.end_time is None:
            log.duration_seconds = None  # what the log has is from its beginning
    if log.end_time is None and "end_time" not in values and "start_time" in values:
        problems.append(f"{path}: end_time is missing; the experiment may not have finished")
    _fill_in(log)
    return log


def _config(path: str, values: Any, problems: list[str]) -> ExperimentConfig:
    if not isinstance(values, dict):
        problems.append(f"{path}: the configuration is missing; the experiment is called after its file")
        values = {}
    fitting = dict(values)
    if not isinstance(fitting.get("experiment_name"), str):
        matched = re.match(r"(?:experiment_)?(.*?)(?:_\d{8}_\d{6}(?:-\d+)?)?\.json\Z", os.path.basename(path))
        fitting["experiment_name"] = (matched[1] if matched else "") or "experiment"
    while True:
        try:
            return ExperimentConfig.from_dict(fitting, unknown="keep")
        except BadArgument as error:
            # One value that is not allowed costs that value, not the log.
            wrong = next((name for name in fitting if re.match(rf"{re.escape(name)}\W", str(error))), None)
            if wrong is None:
                raise DamagedFile(f"{path}: the configuration cannot be read ({error})") from None
            problems.append(f"{path}: {error}; it is kept aside as {wrong}_as_written")
            fitting[f"{wrong}_as_written"] = fitting.pop(wrong)


def _history(path: str, entries: Any, problems: list[str]) -> list[MetricsSnapshot]:
    if not isinstance(entries, list):
        problems.append(f"{path}: metrics_history is missing; there are no curves")
        return []
    history: list[MetricsSnapshot] = []
    bad: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            bad.setdefault("is no object", []).append(number)
            continue
        values: dict[str, Any] = {}
        for name in COLUMNS:
            value = entry.get(name)
            kind = type(value)
            if kind is str:
                try:
                    value = _WORDS[value] if value in _WORDS else float(str(value))
                except ValueError:
                    bad.setdefault(f"has a {name} that is no number", []).append(number)
                    value = None
            elif value is not None and kind is not float and (kind is not int or abs(value) >= 2**63):
                bad.setdefault(f"has a {name} that is no number", []).append(number)
                value = None
            values[name] = value
        iteration, step = values["iteration"], values["gradient_step"]
        if iteration is None or not math.isfinite(iteration):
            iteration = history[-1].iteration + 1 if history else 0
            bad.setdefault("has no iteration; it is numbered on", []).append(number)
        if step is None or not math.isfinite(step):
            step = int(iteration) + 1
            bad.setdefault("has no gradient_step; one for each iteration is taken", []).append(number)
        if values["wallclock_time"] is None:
            values["wallclock_time"] = 0.0
            bad.setdefault("has no wallclock_time", []).append(number)
        values["iteration"], values["gradient_step"] = int(iteration), int(step)
        history.append(MetricsSnapshot(**values))
    for what, numbers in bad.items():
        if len(numbers) == 1:
            problems.append(f"{path}: entry {numbers[0]} of metrics_history {what}")
            continue
        verb, rest = what.split(" ", 1)
        which = f"{len(numbers)} entries of metrics_history, the first of them number {numbers[0]},"
        problems.append(f"{path}: {which} {'are' if verb == 'is' else 'have'} {rest}")
    return history


def _number(path: str, name: str, value: Any, problems: list[str]) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value in _WORDS:
            return _WORDS[value]
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, float) or (type(value) is int and abs(value) < 2**63):
        return float(value)
    problems.append(f"{path}: {name} is no number: {value!r}")
    return None


def _fill_in(log: ExperimentLog) -> None:
    """What the history says where the log itself does not."""
    for name in ("train_loss", "val_loss"):
        values = [value for one in log.metrics_history if (value := getattr(one, name)) is not None]
        finite = [value for value in values if math.isfinite(value)]
        if getattr(log, f"best_{name}") is None and finite:
            setattr(log, f"best_{name}", min(finite))
        if getattr(log, f"final_{name}") is None and values:
            setattr(log, f"final_{name}", values[-1])
    if not log.duration_seconds and log.metrics_history:
        log.duration_seconds = log.metrics_history[-1].wallclock_time or log.duration_seconds


# -- showing ----------------------------------------------------------------------------------------------------------


def format_seconds(seconds: float | None) -> str:
    """As hours, minutes and seconds: `1 h 02 min`, `12 min 30 s`, `4.2 s`."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def summary_lines(title: str, facts: Sequence[tuple[str, Any]]) -> list[str]:
    """A title and its facts, a line each; those that are None or empty are left out."""
    shown = [
        (name, f"{value:.6g}" if isinstance(value, float) else str(value))
        for name, value in facts
        if value not in (None, "")
    ]
    width = max((len(name) for name, _ in shown), default=0)
    return [title, *(f"  {name:<{width}}  {value}" for name, value in shown)]
