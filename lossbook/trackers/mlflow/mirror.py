"""The MLflow mirror: a run of the experiment that is named as the project, on a server or in `mlflow.db`.

`MLFLOW_TRACKING_URI` and MLflow's other variables mean what they mean to MLflow; without it the run goes where
MLflow itself would put it from the training's working directory. How far delivery has come is a tag of the remote
run, written behind the metrics that it counts; rows up to there are not sent again, and of the one batch that a
kill may have cut off behind it only what is not there yet.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from lossbook.journal import merge_config
from lossbook.json_shapes import JsonObject, object_or_empty, text_or_none
from lossbook.paths import file_names
from lossbook.redaction import mask_text
from lossbook.trackers.mirror import Ending, LoggedRow, Mirror, MirrorUnavailable
from lossbook.trackers.mlflow.entries import (
    LONGEST_PARAMETER,
    LONGEST_TAG,
    SYSTEM,
    Artifact,
    DistinctTimes,
    Point,
    artifacts_of,
    flat_config,
    metric_name,
    safe_key,
    summary_points,
)
from lossbook.trackers.mlflow.place import INSTALL, LATER, at_home, ready_database, tracking_address

if TYPE_CHECKING:
    import mlflow.entities

#: MLflow takes 1,000 entities a request; the rest is for the tags that go with them. Its client cuts a longer list
#: itself and sends the tags with the first part, which would count metrics that are not there yet.
METRICS_A_BATCH = 900
#: Parameters a request: MLflow takes 100, and 1 MB, which 100 of the longest would come close to.
PARAMETERS_A_BATCH = 50
TAGS_A_BATCH = 50
#: Ranks that share one tag: a tag's value has 8,000 characters.
RANKS_A_TAG = 256

_STATUS = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "killed": "KILLED",
    "interrupted": "KILLED",
    "preempted": "KILLED",
}
_MARK = "lossbook.delivered."
_OUR_ID = "lossbook.run_id"
#: What only a person can mend: (MLflow's error code).
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND")


class MlflowMirror(Mirror):
    """A run as MLflow has it."""

    kind: ClassVar[str] = "mlflow"
    title: ClassVar[str] = "MLflow"
    packages: ClassVar[tuple[str, ...]] = ("mlflow", "mlflow-skinny")
    library: ClassVar[str] = INSTALL
    lacks: ClassVar[tuple[str, ...]] = (
        "Infinities become the largest number that a double holds (1.8e308) in MLflow's databases; NaN stays NaN.",
        "Times are whole milliseconds; rows that agree in key, step and value within one are set 1 ms apart.",
        "Of a metric MLflow lists the value at the highest step as the latest, also when a lower step came later.",
        "Rows that a resumed attempt hides are still drawn.",
        "A parameter keeps the value that it had first; a later one is in the tag config.KEY and in config.json.",
        "Parameters are cut to 6,000 characters, tags and the description to 8,000; config.json and notes.txt have all.",
        "Keys with characters that MLflow does not allow are changed; the tag lossbook.key.CHANGED has the real key.",
        "MLflow has no histograms, alerts, checkpoints and stages: each is a JSON file among the artifacts.",
        "Another x axis than step and time, a goal and a unit are kept as a JSON file in definitions/, and not applied.",
        "The summary's numbers are metrics of one point, summary/KEY; its texts are tags, summary.KEY.",
        "Of tables the newest hundred or so are in MLflow's list (mlflow.loggedArtifacts); all are among the artifacts.",
        "The console is there once the run has ended.",
        "Files and artifacts that were kept with the run stay in it.",
    )

    def open(self, delivered: dict[int, int]) -> dict[int, int]:
        with self._reached():
            self._connect()
            run = self._find_or_create()
            self._doubtful = not self._drops_equal_points
        tags: dict[str, str] = run.data.tags
        self._marks: dict[int, int] = {}
        for tag, value in tags.items():
            if tag.startswith(_MARK):
                try:
                    self._marks.update({int(rank): int(i) for rank, i in json.loads(value).items()})
                except (ValueError, AttributeError):
                    # The folder store writes tags in place: a kill has torn this one. What it said and the cursor does
                    # not is found by comparing the first batch with what is there.
                    self._marks = {**delivered, **self._marks}
        if not self._marks:
            # A new remote run, or one that nothing has reached: what an older one held does not count.
            delivered = {}
            self.remote.pop("times", None)
            self.remote.pop("config", None)
        self._arrived = dict(self._marks)
        self._sent_marks = dict(self._marks)
        self._times = DistinctTimes(object_or_empty(self.remote.get("times")))
        self._config = object_or_empty(self.remote.get("config", self.subject.config))
        self._parameters: dict[str, str] = dict(run.data.params)
        self._tags = tags
        self._new_tags: dict[str, str] = {}
        self._new_parameters: dict[str, str] = {}
        self._points: list[Point] = []
        self._config_changed = "config" not in self.remote
        self._introduce()
        return {rank: min(i, self._marks[rank]) for rank, i in delivered.items() if rank in self._marks}

    def deliver(self, rows: Sequence[LoggedRow]) -> None:
        with self._reached():
            for row in rows:
                self._take(row)

    def flush(self) -> None:
        with self._reached():
            self._send()
            if self._config_changed:
                self._put(Artifact("config.json", json.dumps(self._config, ensure_ascii=False, indent=1).encode()))
                self._config_changed = False
        self.remote.update(times=self._times.to_json(), config=self._config)

    def close(self, ending: Ending | None) -> None:
        self.flush()
        if ending is None:
            return
        with self._reached():
            self._tag("lossbook.state", ending.state)
            if ending.error:
                self._tag("lossbook.error", ending.error)
            self._send()
            self._put_console()
            status = _STATUS.get(ending.state, "FAILED")
            self._client.set_terminated(self.remote["run_id"], status, int(ending.ended * 1000))

    @property
    def url(self) -> str | None:
        address = str(self.remote.get("uri", ""))
        if not address.startswith(("http://", "https://")):
            return None
        return f"{address.rstrip('/')}/#/experiments/{self.remote['experiment_id']}/runs/{self.remote['run_id']}"

    # -- the remote run -----------------------------------------------------------------------------------------

    def _connect(self) -> None:
        # MLflow reports its use to its makers; what would be reported here is not the user's program.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # Its own defaults wait for a silent server for a quarter of an hour and more.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            import mlflow
            from mlflow.store.db.db_types import DATABASE_ENGINES
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise MirrorUnavailable(f"MLflow is not installed ({error}): {INSTALL}; {LATER}", may_pass=False) from error
        if not os.environ.get("MLFLOW_LOGGING_LEVEL"):
            # It writes a traceback of whatever it raises to standard error as well.
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        address = tracking_address(mlflow.get_tracking_uri, self.settings)
        if self.settings.mode == "offline" and address.startswith(("http://", "https://", "databricks")):
            raise MirrorUnavailable(f"the mirror is offline and MLflow's server is not asked; {LATER}", may_pass=False)
        scheme = address.partition(":")[0].partition("+")[0]
        self._drops_equal_points = scheme in DATABASE_ENGINES
        noted = mask_text(address)  # a password in it stays out of the run
        if self.remote.get("uri") not in (noted, address):
            # Another target than the last time: what was delivered there is not here.
            self.remote.clear()
        self.remote["uri"] = noted
        if address.startswith("sqlite:///"):
            ready_database(address.removeprefix("sqlite:///"), self.subject.id, self.settings)
        with at_home(self.settings):
            # The store fixes the folder of its artifacts, relative to the working directory, when it is made.
            self._client = MlflowClient(address)
            self._client.search_experiments(max_results=1)

    def _find_or_create(self) -> mlflow.entities.Run:
        """The remote run: the one noted, else one that carries our id, else a new one."""
        from mlflow.entities import ViewType

        run_id = text_or_none(self.remote.get("run_id"))
        if run_id is not None:
            run = self._known_run(run_id)
            if run is not None:
                return self._reopened(run)
            self.remote.pop("run_id")
        experiment_id = self.remote["experiment_id"] = self._experiment()
        # A predecessor may have been killed between making the run and noting its id.
        same_start = f"attributes.start_time = {int(self.subject.created * 1000)}"
        found = self._client.search_runs([experiment_id], same_start, run_view_type=ViewType.ACTIVE_ONLY)
        for run in found:
            # A folder store writes the tags after the run itself: then only the name tells.
            if (
                run.data.tags.get(_OUR_ID, self.subject.id if run.info.run_name == self.subject.name else "")
                == self.subject.id
            ):
                self.remote["run_id"] = run.info.run_id
                return self._reopened(self._client.get_run(run.info.run_id))
        run = self._client.create_run(
            experiment_id,
            start_time=int(self.subject.created * 1000),
            tags={_OUR_ID: self.subject.id},
            run_name=self.subject.name[:LONGEST_TAG],
        )
        self.remote["run_id"] = run.info.run_id
        return self._client.get_run(run.info.run_id)

    def _known_run(self, run_id: str) -> mlflow.entities.Run | None:
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage != "active":
            raise MirrorUnavailable(
                f"the run {self.subject.name} was deleted at MLflow: `mlflow runs restore --run-id {run_id}`, then "
                f"{LATER}",
                may_pass=False,
            )
        return run

    def _reopened(self, run: mlflow.entities.Run) -> mlflow.entities.Run:
        if self.settings.live and run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        return run

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.settings.options.get("experiment") or self.subject.project
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                with at_home(self.settings):
                    return str(self._client.create_experiment(name))
            except MlflowException as error:
                # Another run of the project may have made it in between.
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise error
        if experiment.lifecycle_stage != "active":
            raise MirrorUnavailable(
                f"the experiment {name!r} was deleted at MLflow: `mlflow experiments restore --experiment-id "
                f"{experiment.experiment_id}`, then {LATER}",
                may_pass=False,
            )
        return str(experiment.experiment_id)

    def _introduce(self) -> None:
        """Who and what the run is, where MLflow's pages and its search look for it."""
        subject, info, git = self.subject, self.subject.info, self.subject.git
        known = {
            "group": subject.group,
            "mlflow.note.content": subject.notes,
            "mlflow.user": info.host.user,
            "mlflow.source.name": info.script or next(iter(info.argv), None),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": git.commit,
            "mlflow.source.git.branch": git.branch,
            "mlflow.source.git.repoURL": git.remote,
            "lossbook.host": info.host.name,
            "lossbook.command": " ".join(info.argv),
            "lossbook.folder": subject.folder.path,
            "lossbook.tags": ",".join(subject.tags),
        }
        for key, value in known.items():
            if value:
                self._tag(key, str(value))
        for word in subject.tags:
            # `tags.ablation = 'true'` finds them. A word that is a name of ours or MLflow's must not take its place.
            taken = word in known or word.startswith(("mlflow.", "lossbook.", "config.", "summary."))
            self._tag(f"tag.{word}" if taken else word, "true")
        with self._reached():
            if len(subject.notes or "") > LONGEST_TAG:
                self._put(Artifact("notes.txt", (subject.notes or "").encode("utf-8", "replace")))
            self._note_parameters(self._config)

    # -- rows ---------------------------------------------------------------------------------------------------

    def _take(self, row: LoggedRow) -> None:
        is_new = row.i > self._marks.get(row.rank, -1)
        if row.kind is None:
            points = [self._point(metric_name(key, row.rank), value, row) for key, value in row.body.items()]
        elif row.kind == "summary":
            points = self._summary(row, is_new)
        else:
            points = []
            self._event(row, is_new)
        # Rows that are there already have still been placed, because the places of later ones depend on it.
        if not is_new:
            return
        if len(self._points) + len(points) > METRICS_A_BATCH:
            self._send()
        self._points += points
        while len(self._points) > METRICS_A_BATCH:
            rest = self._points[METRICS_A_BATCH:]
            self._points = self._points[:METRICS_A_BATCH]
            self._send()
            self._points = rest
        self._arrived[row.rank] = row.i

    def _point(self, key: str, value: float, row: LoggedRow) -> Point:
        step = row.step
        if step is None:
            # Rows of the machine have no step: MLflow's own system metrics count up too.
            step = max(0, int(row.time_us / 1e6 - self.subject.created)) if key.startswith(SYSTEM) else 0
        return self._times.place(self._safe(key), value, max(0, row.time_us // 1000), step)

    def _summary(self, row: LoggedRow, is_new: bool) -> list[Point]:
        points = []
        for key, value in summary_points(row.body):
            if isinstance(value, float):
                points.append(self._point(metric_name(f"summary/{key}", row.rank), value, row))
            elif is_new:
                self._tag(f"summary.{key}", value)
        return points

    def _event(self, row: LoggedRow, is_new: bool) -> None:
        if row.kind == "config":
            self._config = merge_config(self._config, row.body)
            self._config_changed = True
            self._note_parameters(self._config)
        elif is_new:
            for artifact in artifacts_of(row, self.subject.folder.path):
                self._put(artifact)
                if row.kind == "table":
                    self._list_table(artifact.path)
            if row.kind == "image":
                self._tag("mlflow.loggedImages", "True")
            elif row.kind == "stage":
                self._tag("lossbook.stage", str(row.body.get("name", "")))
            elif row.kind == "alert":
                level, title = row.body.get("level", "info"), row.body.get("title", "")
                self._tag("lossbook.alert", f"{level}: {title}")
            elif row.kind == "attempt":
                self._tag("lossbook.attempt", str(row.body.get("number", 0)))

    def _list_table(self, path: str) -> None:
        """MLflow finds tables by a tag that lists them; as many of the newest as one tag holds."""
        listed = json.loads(self._tags.get("mlflow.loggedArtifacts", "[]"))
        listed = [one for one in listed if one.get("path") != path] + [{"path": path, "type": "table"}]
        while len(json.dumps(listed)) > LONGEST_TAG:
            del listed[0]
        self._tag("mlflow.loggedArtifacts", json.dumps(listed))

    def _note_parameters(self, config: JsonObject) -> None:
        """New keys become parameters; MLflow lets none be changed, so another value becomes a tag."""
        for name, value in flat_config(config).items():
            key = self._safe(name)
            value = value[:LONGEST_PARAMETER]
            if key not in self._parameters:
                self._parameters[key] = self._new_parameters[key] = value
            elif self._parameters[key] != value or f"config.{key}" in self._tags:
                self._tag(f"config.{key}", value)

    def _safe(self, key: str) -> str:
        safe = safe_key(key)
        if safe != key:
            self._tag(f"lossbook.key.{safe}", key)
        return safe

    def _tag(self, key: str, value: str) -> None:
        key, value = safe_key(key), value[:LONGEST_TAG]
        if self._tags.get(key) != value:
            self._tags[key] = self._new_tags[key] = value

    # -- to the target ------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Hand over what has gathered; the mark goes last, in one request with the last metrics."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self.remote["run_id"]
        parameters, tags = list(self._new_parameters.items()), list(self._new_tags.items())
        for start in range(0, len(parameters), PARAMETERS_A_BATCH):
            part = [Param(key, value) for key, value in parameters[start : start + PARAMETERS_A_BATCH]]
            self._client.log_batch(run_id, params=part)
        for start in range(0, len(tags), TAGS_A_BATCH):
            self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags[start : start + TAGS_A_BATCH]])
        self._new_parameters, self._new_tags = {}, {}
        points = self._missing(self._points) if self._doubtful and self._points else self._points
        marks = self._changed_marks()
        if points or marks:
            metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in points]
            self._client.log_batch(run_id, metrics=metrics, tags=[RunTag(key, value) for key, value in marks.items()])
        self._sent_marks = dict(self._arrived)
        self._points = []

    def _changed_marks(self) -> dict[str, str]:
        """The tags that say how far each rank has come, those that changed since they were last sent."""
        groups = {rank // RANKS_A_TAG for rank, i in self._arrived.items() if self._sent_marks.get(rank) != i}
        return {
            f"{_MARK}{group}": json.dumps(
                {str(rank): i for rank, i in sorted(self._arrived.items()) if rank // RANKS_A_TAG == group},
                separators=(",", ":"),
            )
            for group in sorted(groups)
        }

    def _missing(self, points: list[Point]) -> list[Point]:
        """Of the first batches after opening what the target has not got yet: it may hold a part of them.

        MLflow's databases drop a point that is there already (its primary key), so they need not be asked. A store
        that keeps what it is given does so in order: once one point is missing, so are all behind it.
        """
        held: set[tuple[str, int, int, str]] = set()
        for key in dict.fromkeys(point.key for point in points):
            history = self._client.get_metric_history(self.remote["run_id"], key)
            held.update((key, metric.timestamp, metric.step, _kept(metric.value)) for metric in history)
        missing = [point for point in points if (point.key, point.time_ms, point.step, _kept(point.value)) not in held]
        if missing:
            self._doubtful = False
        return missing

    def _put(self, artifact: Artifact) -> None:
        """Write one file of the remote run; a second time writes it over."""
        folder, _, name = artifact.path.rpartition("/")
        if artifact.source is not None and os.path.basename(artifact.source) == name:
            self._client.log_artifact(self.remote["run_id"], artifact.source, folder or None)
            return
        with tempfile.TemporaryDirectory(prefix="lossbook-mlflow-") as scratch:
            # MLflow names the artifact as the local file is named.
            path = os.path.join(scratch, name)
            if artifact.source is not None:
                os.symlink(os.path.abspath(artifact.source), path)
            else:
                with open(path, "wb") as file:
                    file.write(artifact.contents or b"")
            self._client.log_artifact(self.remote["run_id"], path, folder or None)

    def _put_console(self) -> None:
        for name in sorted(file_names(self.subject.folder.console)):
            if name.endswith(".log"):
                path = os.path.join(self.subject.folder.console, name)
                self._put(Artifact(f"console/{name}", None, path))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn whatever MLflow, its database or the network raises into one sentence."""
        try:
            yield
        except MirrorUnavailable:
            raise
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            code = getattr(error, "error_code", None)
            if "sqlite" in str(self.remote.get("uri")) and _no_database_library():
                raise MirrorUnavailable(
                    f"MLflow's database needs SQLAlchemy: {INSTALL}; {LATER}", may_pass=False
                ) from error
            where = self.remote.get("uri") or "its tracking URI"
            raise MirrorUnavailable(
                f"MLflow at {where} did not take the run ({said}); {LATER}", may_pass=code not in _REFUSED
            ) from error


def _kept(value: float) -> str:
    """A value as a store compares it; a server's database has no infinities."""
    return repr(max(-sys.float_info.max, min(sys.float_info.max, value)) if value == value else value)


def _no_database_library() -> bool:
    import importlib.util

    return importlib.util.find_spec("sqlalchemy") is None or importlib.util.find_spec("alembic") is None
