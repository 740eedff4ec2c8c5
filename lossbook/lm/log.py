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
from dataclasses import dataclass, field

import orjson

from lossbook.errors import BadArgument, DamagedFile, LossbookError
from lossbook.json_shapes import Json, JsonObject
from lossbook.lm.config import ExperimentConfig
from lossbook.lm.snapshots import COLUMNS, MetricsSnapshot, snapshots_of
from lossbook.paths import RunFolder

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


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
    run: JsonObject = field(default_factory=dict)
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


def _unix(text: object) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if isinstance(text, str) and text else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


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


def _parse(path: str, contents: bytes) -> tuple[JsonObject, list[str]]:
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


def _build(path: str, values: JsonObject, problems: list[str]) -> ExperimentLog:
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


def _config(path: str, values: Json, problems: list[str]) -> ExperimentConfig:
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


def _history(path: str, entries: Json, problems: list[str]) -> list[MetricsSnapshot]:
    if not isinstance(entries, list):
        problems.append(f"{path}: metrics_history is missing; there are no curves")
        return []
    history: list[MetricsSnapshot] = []
    bad: dict[str, list[int]] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            bad.setdefault("is no object", []).append(position)
            continue
        values: dict[str, float | None] = {}
        for name in COLUMNS:
            value, number = entry.get(name), None
            if type(value) is float or (type(value) is int and -(2**63) < value < 2**63):
                number = value
            elif isinstance(value, str):
                try:
                    number = _WORDS[value] if value in _WORDS else float(value)
                except ValueError:
                    bad.setdefault(f"has a {name} that is no number", []).append(position)
            elif value is not None:
                bad.setdefault(f"has a {name} that is no number", []).append(position)
            values[name] = number
        iteration, step, wallclock = values["iteration"], values["gradient_step"], values["wallclock_time"]
        if iteration is None or not math.isfinite(iteration):
            iteration = history[-1].iteration + 1 if history else 0
            bad.setdefault("has no iteration; it is numbered on", []).append(position)
        if step is None or not math.isfinite(step):
            step = int(iteration) + 1
            bad.setdefault("has no gradient_step; one for each iteration is taken", []).append(position)
        if wallclock is None:
            wallclock = 0.0
            bad.setdefault("has no wallclock_time", []).append(position)
        history.append(
            MetricsSnapshot(
                int(iteration),
                int(step),
                wallclock,
                values["train_loss"],
                values["val_loss"],
                values["learning_rate"],
                values["tokens_per_sec"],
                values["iter_time_ms"],
            )
        )
    for what, numbers in bad.items():
        if len(numbers) == 1:
            problems.append(f"{path}: entry {numbers[0]} of metrics_history {what}")
            continue
        verb, rest = what.split(" ", 1)
        which = f"{len(numbers)} entries of metrics_history, the first of them number {numbers[0]},"
        problems.append(f"{path}: {which} {'are' if verb == 'is' else 'have'} {rest}")
    return history


def _number(path: str, name: str, value: Json, problems: list[str]) -> float | None:
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
