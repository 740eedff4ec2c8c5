"""What becomes of a run and its rows in W&B's own words: the records of a transaction log, and the files beside it.

The shapes are those that W&B's library 0.31 writes itself (`wandb leet inspect --json` shows them). Functions here
keep no state; which step a row gets, and what was written already, is the mirror's.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import orjson

from lossbook.json_shapes import Json, JsonObject, list_or_empty, number_or_none, object_or_empty
from lossbook.paths import safe_name
from lossbook.run_files import NoSuchRunFile, copy_run_file, read_run_file
from lossbook.trackers.mirror import Ending, LoggedRow, Subject

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

#: The series that holds the step as it was logged; every other series is drawn over it.
STEP = "lossbook/step"
#: Names that W&B gives a meaning of its own; a user's series of that name is moved below `logged/`.
_RESERVED = frozenset(("_step", "_timestamp", "_runtime", "_wandb", STEP))
#: W&B's library refuses histograms of more bins.
_MOST_BINS = 512
#: Axes that a definition may name which are no series here.
_AXES = {"step": STEP, "time": "_timestamp", "wallclock": "_runtime"}
_LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}


def remote_id(subject: Subject) -> str:
    """The run's id at W&B: the same wherever it is delivered from, and never that of another run.

    An id that a user chose may exist twice in two stores, so the time of creation goes in as well.
    """
    digest = hashlib.sha256(f"{subject.id} {subject.created!r}".encode()).hexdigest()[:8]
    return f"{subject.id[:48]}-{digest}"


def beginning(messages: ModuleType, subject: Subject, run_id: str, entity: str | None, version: str) -> list[Record]:
    """The records that a file begins with: header, run, surroundings, and the step as everybody's x axis."""
    header = messages.Record()
    header.header.version_info.producer = version
    header.header.version_info.min_consumer = "0.70.0"

    run = messages.Record()
    run.run.run_id = run_id
    run.run.project = subject.project
    run.run.display_name = subject.name
    if entity:
        run.run.entity = entity
    if subject.group:
        run.run.run_group = subject.group
    if subject.notes:
        run.run.notes = subject.notes
    run.run.tags.extend(subject.tags)
    run.run.start_time.FromMicroseconds(round(subject.created * 1e6))
    run.run.host = subject.info.host.name or ""
    for key, value in subject.config.items():
        update = run.run.config.update.add()
        update.key, update.value_json = key, to_json(value)
    git = subject.git
    run.run.git.remote_url, run.run.git.commit = git.remote or "", git.commit or ""

    step = messages.Record()
    step.metric.name = STEP
    step.metric.options.defined = step.metric.options.hidden = True
    everything = messages.Record()
    everything.metric.glob_name = "*"
    everything.metric.step_metric = STEP
    everything.metric.options.defined = everything.metric.options.step_sync = True
    return [header, run, _environment(messages, subject, run_id), step, everything]


def _environment(messages: ModuleType, subject: Subject, run_id: str) -> Record:
    """Where the training ran, as run.json has it: not where this process does."""
    info, host, git = subject.info, subject.info.host, subject.git
    captured = _captured_environment(subject)
    record = messages.Record()
    environment = record.environment
    environment.os = str(captured.get("system") or host.os or "")
    environment.python = host.python or ""
    environment.host = host.name or ""
    environment.username = host.user or ""
    environment.executable = str(captured.get("executable") or "")
    environment.cpu_count = environment.cpu_count_logical = host.cpus or 0
    environment.root = info.cwd or ""
    environment.program = info.script or ""
    names = [os.path.basename(one) for one in info.argv]
    script = os.path.basename(environment.program)
    environment.args.extend(info.argv[(names.index(script) if script in names else 0) + 1 :])
    environment.git.remote_url, environment.git.commit = git.remote or "", git.commit or ""
    environment.started_at.FromMicroseconds(round(subject.created * 1e6))
    # One name for all that is written about one process, or the service keeps them as several machines.
    environment.writer_id = run_id
    return record


def _captured_environment(subject: Subject) -> JsonObject:
    try:
        return object_or_empty(orjson.loads(read_run_file(subject.folder.path, "code/environment.json")))
    except (OSError, ValueError):
        return {}


def captured_files(messages: ModuleType, subject: Subject, files: str) -> list[Record]:
    """Copy what was captured of the code to where W&B's pages look for it, and the record that names it."""
    record = messages.Record()
    for name, shown in (("packages.txt", "requirements.txt"), ("diff.patch", "diff.patch")):
        try:
            copy_run_file(subject.folder.path, f"code/{name}", os.path.join(files, shown))
        except NoSuchRunFile:
            continue
        item = record.files.files.add()
        item.path, item.type = shown, messages.FilesItem.FileType.WANDB
    return [record] if record.files.files else []


# -- rows -------------------------------------------------------------------------------------------------------


def series_name(key: str, rank: int) -> str:
    """The name of a series at W&B."""
    if key in _RESERVED:
        key = f"logged/{key}"
    return f"{key}/rank_{rank}" if rank > 0 else key


def system_name(key: str, rank: int) -> str | None:
    """The name in W&B's system stream, which adds `system.` itself; None for a key that is no system metric."""
    if not key.startswith(("system.", "system/")):
        return None
    name = key[len("system.") :].replace("/", ".")
    # `/l:` is how W&B's own agent tells several machines of one run apart: its pages draw them in one panel.
    return f"{name}/l:rank_{rank}" if rank > 0 else name


def history_values(row: LoggedRow, files: str, subject: Subject) -> tuple[dict[str, str], list[str]]:
    """A row as it stands in W&B's history: JSON text by series, and the files it came with.

    System metrics are not among them.

    Args:
        files: the folder that W&B uploads from; files are copied into it.

    Returns:
        Values, and the paths of files within `files`.

    Raises:
        OSError: a file could not be copied.
    """
    body, key = row.body, series_name(row.key or row.kind or "", row.rank)
    if row.kind is None:
        return {
            series_name(name, row.rank): number_json(value)
            for name, value in body.items()
            if not name.startswith(("system.", "system/"))
        }, []
    if row.kind == "text":
        return {key: to_json(str(body.get("text", "")))}, []
    if row.kind == "histogram":
        return {key: to_json(_histogram(body))}, []
    if row.kind == "image":
        return _image(row, key, files, subject)
    if row.kind == "table":
        return _table(row, key, files, subject)
    own = {
        "attempt": lambda: body.get("number") or None,  # the first is every run's
        "stage": lambda: body.get("name"),
        "note": lambda: body.get("text"),
        "checkpoint": lambda: body.get("path"),
        "warning": lambda: body.get("message"),
    }.get(row.kind)
    value = own() if own is not None else None
    return ({} if value is None else {series_name(f"lossbook/{row.kind}", row.rank): to_json(value)}), []


def _histogram(body: JsonObject) -> JsonObject:
    counts = [number_or_none(one) or 0 for one in list_or_empty(body.get("counts")) or [0]]
    edges = list_or_empty(body.get("edges")) or [0.0, 0.0]
    while len(counts) > _MOST_BINS:
        counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        edges = [*edges[:-1:2], edges[-1]]
    return {"_type": "histogram", "values": [*counts], "bins": edges}


def _image(row: LoggedRow, key: str, files: str, subject: Subject) -> tuple[dict[str, str], list[str]]:
    source = str(row.body.get("file"))
    try:
        contents = read_run_file(subject.folder.path, source)
    except OSError:
        return {key: to_json(f"(the picture {source} is not in the run's folder)")}, []
    ending = os.path.splitext(source)[1].lstrip(".")
    path, digest = _place(files, "images", key, row.step, contents, ending)
    value = {
        "_type": "image-file",
        "format": ending,
        "path": path,
        "sha256": digest,
        "size": len(contents),
    }
    value.update((name, row.body[name]) for name in ("width", "height", "caption") if name in row.body)
    return {key: to_json(value)}, [path]


def _table(row: LoggedRow, key: str, files: str, subject: Subject) -> tuple[dict[str, str], list[str]]:
    contents = row.body
    if "file" in contents:
        try:
            contents = object_or_empty(orjson.loads(read_run_file(subject.folder.path, str(contents["file"]))))
        except (OSError, ValueError):
            return {key: to_json(f"(the table {row.body['file']} is not in the run's folder)")}, []
    columns, rows = list_or_empty(contents.get("columns")), list_or_empty(contents.get("rows"))
    text = orjson.dumps({"columns": columns, "data": rows})
    path, digest = _place(files, "table", key, row.step, text, "table.json")
    value = {
        "_type": "table-file",
        "path": path,
        "sha256": digest,
        "size": len(text),
        "ncols": len(columns),
        "nrows": len(rows),
        "log_mode": "IMMUTABLE",
    }
    return {key: to_json(value)}, [path]


def _place(files: str, kind: str, key: str, step: int | None, contents: bytes, ending: str) -> tuple[str, str]:
    """Write a file where W&B's library would have; its path within `files` and its SHA-256."""
    digest = hashlib.sha256(contents).hexdigest()
    # The name of the series is part of a path: nothing in it may lead out of the folder.
    name = "/".join(safe_name(part) for part in key.split("/") if part) or "x"
    path = f"media/{kind}/{name}_{0 if step is None else step}_{digest[:20]}.{ending}"
    target = os.path.join(files, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target) or os.path.getsize(target) != len(contents):
        with open(target, "wb") as file:
            file.write(contents)
    return path, digest


def history(
    messages: ModuleType, values: dict[str, str], *, step: int, remote_step: int, time: float, since: float
) -> Record:
    """One row of W&B's history.

    Args:
        step: as it was logged.
        remote_step: W&B's own, which may only rise.
        time: Unix seconds.
        since: seconds since the run began.
    """
    record = messages.Record()
    record.history.step.num = remote_step
    named = {**values, STEP: str(step), "_step": str(remote_step), "_timestamp": repr(time), "_runtime": repr(since)}
    for key, text in named.items():
        item = record.history.item.add()
        item.nested_key.append(key)
        item.value_json = text
    return record


def stats(messages: ModuleType, row: LoggedRow) -> Record | None:
    """A row's system metrics for W&B's event stream; None when it has none."""
    named = {system_name(key, row.rank): value for key, value in row.body.items()}
    if set(named) == {None} or not named:
        return None
    record = messages.Record()
    record.stats.stats_type = messages.StatsRecord.StatsType.SYSTEM
    record.stats.timestamp.FromMicroseconds(row.time_us)
    for name, value in named.items():
        if name is not None:
            item = record.stats.item.add()
            item.key, item.value_json = name, number_json(value)
    return record


def joined(first: str, second: str) -> str:
    """Two JSON values of one of Lossbook's own series as one: texts line by line."""
    texts = [value if isinstance(value, str) else to_json(value) for value in map(json.loads, (first, second))]
    return to_json("\n".join(texts))


def config(messages: ModuleType, change: JsonObject) -> Record:
    """A change of the configuration, leaf by leaf, because an object merges with what is there."""
    record = messages.Record()
    for path, value in _leaves(change, ()):
        item = record.config.remove.add() if value is None else record.config.update.add()
        item.nested_key.extend(path)
        if value is not None:
            item.value_json = to_json(value)
    return record


def summary(messages: ModuleType, values: JsonObject) -> Record:
    """Values of W&B's summary; an object is given leaf by leaf, as W&B's library does."""
    record = messages.Record()
    for path, value in _leaves(values, ()):
        item = record.summary.update.add()
        item.nested_key.extend(path)
        item.value_json = to_json(value)
    return record


def latest(messages: ModuleType, values: dict[str, str]) -> Record:
    """The last values of series, as JSON text, for the summary."""
    record = messages.Record()
    for key, text in values.items():
        item = record.summary.update.add()
        item.nested_key.append(key)
        item.value_json = text
    return record


def _leaves(value: JsonObject, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def definition(messages: ModuleType, body: JsonObject) -> Record:
    """What was said of a series, or of all whose names match."""
    record = messages.Record()
    metric = record.metric
    pattern = str(body.get("pattern") or "")
    if "*" in pattern:
        metric.glob_name = pattern
    else:
        metric.name = series_name(pattern, 0)
    axis = str(body.get("x") or "step")
    metric.step_metric = _AXES.get(axis, axis)
    metric.options.defined = metric.options.step_sync = True
    goals = {"minimize": messages.MetricRecord.GOAL_MINIMIZE, "maximize": messages.MetricRecord.GOAL_MAXIMIZE}
    if (goal := str(body.get("goal"))) in goals:
        metric.goal = goals[goal]
    return record


def alert(messages: ModuleType, body: JsonObject) -> Record:
    """A notification; W&B's server sends it as the project's settings say."""
    record = messages.Record()
    record.alert.title = str(body.get("title") or "alert")
    record.alert.text = str(body.get("text") or "")
    record.alert.level = _LEVELS.get(str(body.get("level")), "INFO")
    return record


def output(messages: ModuleType, text: str, time_us: int) -> Record:
    """A piece of what the training printed."""
    record = messages.Record()
    record.output_raw.output_type = messages.OutputRawRecord.OutputType.STDOUT
    record.output_raw.timestamp.FromMicroseconds(time_us)
    record.output_raw.line = text
    return record


def file_names(messages: ModuleType, paths: list[str]) -> Record:
    """Files to upload at once, by their paths within the folder of files."""
    record = messages.Record()
    for path in paths:
        item = record.files.files.add()
        item.path = path
        item.policy = messages.FilesItem.PolicyType.NOW
        item.type = messages.FilesItem.FileType.MEDIA
    return record


def leaving(messages: ModuleType, ending: Ending, runtime_seconds: float) -> Record:
    """The end of a run: W&B calls 0 finished and everything else failed."""
    record = messages.Record()
    record.exit.exit_code = ending.exit_code if ending.state == "finished" else (ending.exit_code or 1)
    record.exit.runtime = max(0, int(runtime_seconds))
    return record


def number_json(value: float) -> str:
    """A number as W&B's library writes it: what is not finite by its JavaScript name."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")


def to_json(value: object) -> str:
    """JSON text, with bare NaN and Infinity as W&B's library writes them."""
    return json.dumps(value, separators=(",", ":"))
