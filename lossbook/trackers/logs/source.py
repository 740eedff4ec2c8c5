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

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonMapping, JsonObject, object_or_empty, text_or_none
from lossbook.paths import safe_name
from lossbook.trackers.logs.rows import QUIET_SECONDS, Log, first_time, is_log, look, moment_of, number_of, rows_of
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, is_run_folder, is_trackers_own, scheme_of

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv")
#: What an experiment's log may say about the whole run.
_SUMMARY = (
    "best_train_loss", "best_val_loss", "final_train_loss", "final_val_loss", "duration_seconds", "best_metric",
    "best_model_checkpoint", "total_flos",
)  # fmt: skip
#: Names that say nothing: the run is called after its folder.
_COMMON = frozenset(("metrics", "log", "logs", "train", "history", "progress", "results", "trainer_state", "metric"))


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
        assert isinstance(run.place, Log)
        found = rows_of(run.place, run)
        return itertools.islice(found, start, None) if run.after is None else found


def _files(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        if is_run_folder(names, folders) or is_trackers_own(names, folders):
            folders[:] = []
            continue
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if name.endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(root, name)


# -- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _About:
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


def _make_run(root: str, path: str) -> ForeignRun | None:
    """What a file says of its run; None where it is no log."""
    try:
        status = os.stat(path)
        about, log = _read_json(path) if path.endswith(".json") else (_About(), look(path))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error
    if log is None:
        return None
    stem = os.path.splitext(os.path.relpath(path, root))[0]
    outer, base = os.path.split(stem)
    name = about.name or (outer if base.lower() in _COMMON and outer else stem).replace(os.sep, "/")
    quiet = time.time() - status.st_mtime > QUIET_SECONDS
    digest = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:8]
    return ForeignRun(
        id=f"{safe_name(name.replace('/', '-'))[:60]}-{digest}",
        name=name,
        project=os.path.basename(root) or "logs",
        created=about.created or first_time(log) or status.st_mtime,
        version=f"{status.st_size}-{status.st_mtime_ns}-{quiet or log.form != 'csv'}",
        state=about.state,
        ended=about.ended,
        error=about.error,
        config=about.config or _config_beside(path),
        summary=about.summary,
        tags=about.tags,
        notes=about.notes,
        origin={"file": path},
        place=log,
    )


def _read_json(path: str) -> tuple[_About, Log | None]:
    """A JSON file, whole or damaged: what it says of the run, and its rows."""
    with open(path, "rb") as file:
        contents = file.read()
    if not contents.strip():
        return _About(), None
    problem = None
    try:
        values = orjson.loads(contents)
    except orjson.JSONDecodeError:
        from lossbook.json_repair import parse, salvage

        text = contents.decode("utf-8", "replace").lstrip("\ufeff")
        try:
            values = parse(text)
        except (ValueError, RecursionError):
            lines = Log(path, "lines", None)
            if is_log(lines):
                return _About(), lines  # JSON Lines under another ending
            values, problem = salvage(text)
    if isinstance(values, list):
        log = Log(path, "json", values)
        about = _About(error=problem, state="crashed") if problem else _About()
        return about, log if is_log(log) else None
    if not isinstance(values, dict):
        return _About(), None
    named = (name for name in ("metrics_history", "log_history", "history") if isinstance(values.get(name), list))
    entries = values.get(next(named, ""))
    if entries is None:
        lines = Log(path, "lines", None)
        is_one_line = contents.count(b"\n") > 0 and b"\n" not in contents.strip()
        return _About(), lines if is_one_line and is_log(lines) else None
    log = Log(path, "json", entries)
    if not is_log(log) and "metrics_history" not in values:
        return _About(), None
    return _about(values, problem), log


def _about(values: JsonMapping, problem: str | None) -> _About:
    """What an experiment's log says beside its history."""
    config = dict(object_or_empty(values.get("config")))
    ended = moment_of(values.get("end_time"))
    summary: JsonObject = {}
    for name in _SUMMARY:
        value = values.get(name)
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = number_of(value) if isinstance(value, str) else None
            summary[name] = value if number is None else number
    cut_off = problem is not None or ("start_time" in values and ended is None)
    tags = config.get("tags")
    return _About(
        name=text_or_none(config.get("experiment_name")),
        created=moment_of(values.get("start_time")),
        ended=ended,
        state="crashed" if cut_off else "finished",
        error=(f"line {problem}" if problem else "the log has no end_time") if cut_off else None,
        notes=text_or_none(values.get("notes")) or None,
        tags=tuple(str(one) for one in tags) if isinstance(tags, list) else (),
        config=config,
        summary=summary,
    )


def _config_beside(path: str) -> JsonObject:
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
