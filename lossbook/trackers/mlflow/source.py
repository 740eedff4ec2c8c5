"""MLflow's runs: its SQLite file and its folder store read as they are, every other store through MLflow's own client.

    mlflow://                          MLFLOW_TRACKING_URI, else ./mlflow.db, else ./mlruns
    mlflow://EXPERIMENT                one experiment of it
    mlflow://http://host:5000          a server; mlflow://http://host:5000#EXPERIMENT one experiment of it
    ./mlruns, ./mlflow.db              a folder store, an SQLite file

An experiment is a project. Metrics that were logged together (the same millisecond and step) are one row.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from lossbook.errors import StoreError
from lossbook.json_shapes import JsonObject, list_or_empty, object_or_empty, texts_of
from lossbook.trackers.machine_names import from_mlflow
from lossbook.trackers.mlflow.tracking import Listed, Point, Tracking
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, scheme_of
from lossbook.trackers.sqlite import tables_of

#: Larger artifacts (models, checkpoints) stay where they are.
LARGEST_FILE_BYTES = 32 << 20
_STATES = {"RUNNING": "running", "SCHEDULED": "running", "FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
#: Names of a picture that `MlflowClient.log_image` gave a key and a step.
_IMAGE = re.compile(r"images/(.+?)[+%]step[+%](\d+)[+%]timestamp[+%](\d+)[+%][^+%]+\.(png|jpe?g|gif|webp)\Z")
_THUMBNAIL = re.compile(r"[+%]compressed\.webp\Z")


class MlflowStore(Source):
    """An MLflow tracking store, or one experiment of it."""

    kind: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"
    gpu_advice: ClassVar[str] = (
        "where it trains, pip install psutil nvidia-ml-py and call mlflow.enable_system_metrics_logging()"
    )
    lacks: ClassVar[tuple[str, ...]] = (
        f"Artifacts past {LARGEST_FILE_BYTES >> 20} MiB (models, checkpoints), registered models and traces stay where they are.",
        "Configuration values are texts at MLflow; numbers and booleans among them are read as such.",
        "MLflow's databases keep infinities as the largest numbers; they are infinities again here.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        if scheme_of(location):
            return scheme_of(location) == cls.kind
        if os.path.basename(location) == "meta.yaml":
            return _is_experiment(location)
        return "experiments" in tables_of(location)

    @classmethod
    def place_of(cls, location: str, path: str) -> str:
        # `meta.yaml` lies in an experiment, which lies in the store.
        place = path if os.path.basename(path) != "meta.yaml" else os.path.dirname(os.path.dirname(path))
        return place if place.startswith(location) else location

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.uri, self.experiment = _parse(location)
        self.store = _open(self.uri)

    @property
    def address(self) -> str:
        return f"{self.uri}#{self.experiment or ''}"

    def runs(self) -> Iterator[ForeignRun]:
        names: dict[str, str] = {}
        listed = sorted(self.store.runs(self.experiment), key=lambda one: one.started_ms, reverse=True)
        for one in listed:
            names[one.id] = one.name
        for one in listed:
            parent = one.tags.get("mlflow.parentRunId")
            yield _make_run(one, names.get(parent, parent) if parent else None)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self._rows(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        assert isinstance(run.place, Listed)
        listed, after = run.place, object_or_empty(run.after)
        points, files = after.get("points"), list_or_empty(after.get("files"))
        renamed = dict(_renamed(listed.tags))
        for group in _together(self.store.points(run.id, points)):
            scalars = {}
            for point in group:
                key, value = from_mlflow(renamed.get(point.key, point.key), point.value)
                scalars[key] = value
            points = group[-1].place
            place: JsonObject = {"points": points, "files": files}
            yield ForeignRow(group[0].time_ms * 1000, group[0].step, None, None, scalars, place=place)
        done = set(texts_of(files))
        for path, size in self.store.files(listed):
            if path in done or size > LARGEST_FILE_BYTES or _THUMBNAIL.search(path):
                continue
            files = [*files, path]
            yield self._file(listed, path)._replace(place={"points": points, "files": files})

    def _file(self, run: Listed, path: str) -> ForeignRow:
        contents = self.store.contents(run, path)
        matched = _IMAGE.match(path)
        if matched is not None:
            key = re.sub(r"[~#]", "/", matched[1])
            body = {"contents": contents, "ending": f".{matched[4]}"}
            return ForeignRow(int(matched[3]) * 1000, int(matched[2]), "image", key, body)
        time_us = (run.ended_ms or run.started_ms) * 1000
        return ForeignRow(time_us, None, "file", path, {"name": path, "contents": contents})


def _together(points: Iterable[Point]) -> Iterator[list[Point]]:
    """Points in groups of one time and step, each key once."""
    group: list[Point] = []
    keys: set[str] = set()
    for point in points:
        if group and ((point.time_ms, point.step) != (group[0].time_ms, group[0].step) or point.key in keys):
            yield group
            group, keys = [], set()
        group.append(point)
        keys.add(point.key)
    if group:
        yield group


# -- runs -------------------------------------------------------------------------------------------------------------


def _make_run(one: Listed, group: str | None) -> ForeignRun:
    tags = one.tags
    ours = "lossbook.id" in tags or "lossbook.tags" in tags
    words = [word for word in tags.get("lossbook.tags", "").split(",") if word]
    for key, value in tags.items():
        if key.startswith(("mlflow.", "lossbook.")) or ours:
            continue
        words.append(key if value in ("", "true", "True") else f"{key}={value}")
    summary: JsonObject = {
        key: value for key, value in (from_mlflow(*pair) for pair in one.last.items()) if not key.startswith("system.")
    }
    git = {
        "commit": tags.get("mlflow.source.git.commit"),
        "branch": tags.get("mlflow.source.git.branch"),
        "remote": tags.get("mlflow.source.git.repoURL"),
    }
    origin = {
        "user": tags.get("mlflow.user"),
        "program": tags.get("mlflow.source.name"),
        "artifacts": one.artifacts,
        "parent": tags.get("mlflow.parentRunId"),
        "git": git if any(git.values()) else None,
    }
    renamed = dict(_renamed(tags))
    return ForeignRun(
        id=one.id,
        name=one.name or one.id,
        project=one.experiment,
        created=one.started_ms / 1000,
        version=one.version,
        state=_STATES.get(one.status, "finished"),
        ended=one.ended_ms / 1000 if one.ended_ms else None,
        error=tags.get("lossbook.error"),
        config={renamed.get(key, key): parameter_value(text) for key, text in one.params.items()},
        summary=summary,
        tags=tuple(dict.fromkeys(words)),
        group=group,
        notes=tags.get("mlflow.note.content"),
        origin={key: value for key, value in origin.items() if value},
        place=one,
    )


def _renamed(tags: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The keys that Lossbook's mirror had to change, and what they were."""
    for tag, key in tags.items():
        if tag.startswith("lossbook.key."):
            yield tag.removeprefix("lossbook.key."), key


def parameter_value(text: str) -> object:
    """A parameter, which MLflow keeps as text, as what it was written from."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    if re.fullmatch(r"[+-]?\d{1,18}", text) and (text == "0" or not text.lstrip("+-").startswith("0")):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", text) and not re.fullmatch(
        r"[+-]?0\d+", text
    ):
        return float(text)
    if text.startswith(("[", "{")):
        for repaired in (text, text.replace("'", '"').replace("True", "true").replace("None", "null")):
            try:
                return json.loads(repaired)
            except (ValueError, RecursionError):
                continue
    return text


# -- where ------------------------------------------------------------------------------------------------------------


def _parse(location: str) -> tuple[str, str | None]:
    """The tracking URI that a location means, and the experiment."""
    if not location.startswith("mlflow://"):
        return os.path.abspath(location), None
    rest = location.removeprefix("mlflow://")
    if "://" in rest or rest.startswith("sqlite:"):
        uri, _, experiment = rest.partition("#")
        return uri, experiment or None
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not named:
        named = os.path.abspath("mlflow.db" if os.path.isfile("mlflow.db") else "mlruns")
    return named, rest or None


def _open(uri: str) -> Tracking:
    """The reader for a tracking URI.

    Raises:
        StoreError: there is nothing at it.
        MissingLibrary: it needs MLflow's client, which is not installed.
    """
    from lossbook.trackers.mlflow.local import FolderTracking, SqliteTracking

    path = uri
    if uri.startswith("sqlite:///"):
        path = uri.removeprefix("sqlite:///")
        # Three slashes and a path; a fourth is the root's.
        path = path.partition("?")[0]
    elif uri.startswith("file:"):
        from urllib.parse import unquote, urlparse

        path = unquote(urlparse(uri).path)
    elif "://" in uri:
        from lossbook.trackers.mlflow.client import ClientTracking

        return ClientTracking(uri)
    if os.path.isdir(path):
        inside = os.path.join(path, "mlflow.db")
        if os.path.isfile(inside):
            return SqliteTracking(inside)
        if not _has_experiments(path) and os.path.isdir(os.path.join(path, "mlruns")):
            path = os.path.join(path, "mlruns")
        return FolderTracking(path)
    if os.path.isfile(path):
        return SqliteTracking(path)
    raise StoreError(f"there is no MLflow store at {uri}: name its folder or database, or set MLFLOW_TRACKING_URI")


def _is_experiment(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"experiment_id:" in file.read(4096)
    except OSError:
        return False


def _has_experiments(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(os.path.isfile(os.path.join(entry.path, "meta.yaml")) for entry in entries)
