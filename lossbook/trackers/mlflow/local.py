"""MLflow's local stores without MLflow: the SQLite file, and the older folder of small files.

Sources: mlflow/store/tracking/dbmodels/models.py (tables), mlflow/store/tracking/file_store.py (folders).
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import sqlite3
from collections.abc import Iterator
from urllib.parse import unquote, urlparse

from lossbook.errors import StoreError
from lossbook.json_shapes import Json, JsonObject, counts_of, whole_or_none
from lossbook.run_files import walk_run_files
from lossbook.trackers.mlflow.tracking import Listed, Point, largest_as_infinity
from lossbook.trackers.source import Rewritten
from lossbook.trackers.sqlite import connect_read_only


class SqliteTracking:
    """A tracking database. Rows of metrics are only added: a place is the last one's number."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        with self._opened() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone() is None:
                raise StoreError(f"{path} is no MLflow database: it has no experiments")

    def runs(self, experiment: str | None) -> Iterator[Listed]:
        with self._opened() as connection:
            connection.execute("BEGIN")
            found = connection.execute(
                "SELECT r.run_uuid, r.name, e.name, r.status, r.start_time, r.end_time, r.artifact_uri FROM runs r "
                "JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.lifecycle_stage = 'active' "
                "AND (? IS NULL OR e.name = ? OR CAST(e.experiment_id AS TEXT) = ?)",
                [experiment] * 3,
            ).fetchall()
            if experiment is not None and not found:
                self._known(connection, experiment)
            for run_id, name, of, status, started, ended, artifacts in found:
                params = _pairs(connection, "SELECT key, value FROM params WHERE run_uuid = ?", run_id)
                tags = _pairs(connection, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id)
                last = {
                    key: float("nan") if is_nan else largest_as_infinity(value)
                    for key, value, is_nan in connection.execute(
                        "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?", [run_id]
                    )
                }
                rows = connection.execute(
                    "SELECT count(*), max(rowid) FROM metrics WHERE run_uuid = ?", [run_id]
                ).fetchone()
                folder = _local(artifacts or "", self.path)
                version = _digest(rows, status, ended, sorted(params.items()), sorted(tags.items()), _look(folder))
                yield Listed(
                    str(run_id),
                    str(name or tags.get("mlflow.runName") or run_id),
                    str(of),
                    str(status),
                    int(started or 0),
                    ended,
                    params,
                    tags,
                    last,
                    artifacts or "",
                    version,
                )

    def points(self, run_id: str, after: Json) -> Iterator[Point]:
        last, count = (whole_or_none(one) or 0 for one in after) if isinstance(after, list) else (0, 0)
        with self._opened() as connection:
            connection.execute("BEGIN")
            if last:
                before = connection.execute(
                    "SELECT count(*) FROM metrics WHERE run_uuid = ? AND rowid <= ?", [run_id, last]
                ).fetchone()[0]
                if before != count:
                    raise Rewritten(
                        f"the metrics of run {run_id} in {self.path} were written anew since the last import: remove "
                        "the run that was imported, and import again"
                    )
            for rowid, key, value, time_ms, step, is_nan in connection.execute(
                "SELECT rowid, key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? AND rowid > ? "
                "ORDER BY rowid",
                [run_id, last],
            ):
                count += 1
                number = float("nan") if is_nan else largest_as_infinity(float(value))
                yield Point(int(time_ms), int(step), str(key), number, [rowid, count])

    def files(self, run: Listed) -> Iterator[tuple[str, int]]:
        return _files_in(_local(run.artifacts, self.path))

    def contents(self, run: Listed, path: str) -> bytes:
        return _contents(_local(run.artifacts, self.path), path)

    def _known(self, connection: sqlite3.Connection, experiment: str) -> None:
        names = [str(row[0]) for row in connection.execute("SELECT name FROM experiments ORDER BY experiment_id")]
        if experiment not in names:
            raise StoreError(
                f"there is no experiment {experiment!r} in {self.path}; it has {', '.join(names) or 'none'}"
            )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = connect_read_only(self.path)
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise StoreError(
                f"MLflow's database {self.path} cannot be read ({error}); check it, and who owns it"
            ) from error


#: How a folder store writes a run's status.
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


def _pairs(connection: sqlite3.Connection, query: str, run_id: str) -> dict[str, str]:
    return {str(key): str(value or "") for key, value in connection.execute(query, [run_id])}


class FolderTracking:
    """A folder store. Each metric is a file to which lines are only added: a place is how far each was read."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def runs(self, experiment: str | None) -> Iterator[Listed]:
        names = []
        for folder in _folders(self.path):
            described = _yaml(os.path.join(folder, "meta.yaml"))
            if not described or described.get("lifecycle_stage", "active") != "active":
                continue
            name = str(described.get("name") or os.path.basename(folder))
            names.append(name)
            if experiment in (None, name, os.path.basename(folder)):
                for run in _folders(folder):
                    listed = self._listed(run, name)
                    if listed is not None:
                        yield listed
        if (
            experiment is not None
            and experiment not in names
            and not os.path.isdir(os.path.join(self.path, experiment))
        ):
            raise StoreError(
                f"there is no experiment {experiment!r} in {self.path}; it has {', '.join(names) or 'none'}"
            )

    def _listed(self, folder: str, experiment: str) -> Listed | None:
        described = _yaml(os.path.join(folder, "meta.yaml"))
        if not described or "run_id" not in described or described.get("lifecycle_stage", "active") != "active":
            return None
        params, tags = _small_files(os.path.join(folder, "params")), _small_files(os.path.join(folder, "tags"))
        said = described.get("status", 3)
        status = _STATUS.get(said, str(said)) if isinstance(said, int) else str(said)
        metrics = os.path.join(folder, "metrics")
        sizes = [(key, os.path.getsize(os.path.join(metrics, key))) for key in _relative_files(metrics)]
        artifacts = str(described.get("artifact_uri") or "")
        if not _local(artifacts, self.path):
            artifacts = os.path.join(folder, "artifacts")
        last = {}
        for key, _ in sizes:
            value = _last_value(os.path.join(metrics, key))
            if value is not None:
                last[key] = value
        version = _digest(
            sizes,
            status,
            described.get("end_time"),
            sorted(params.items()),
            sorted(tags.items()),
            _look(_local(artifacts, self.path)),
        )
        return Listed(
            str(described["run_id"]),
            str(described.get("run_name") or tags.get("mlflow.runName") or described["run_id"]),
            experiment,
            status,
            whole_or_none(described.get("start_time")) or 0,
            whole_or_none(described.get("end_time")),
            params,
            tags,
            last,
            artifacts,
            version,
        )

    def points(self, run_id: str, after: Json) -> Iterator[Point]:
        offsets = counts_of(after)
        found = next(
            (one for outer in _folders(self.path) for one in [os.path.join(outer, run_id)] if os.path.isdir(one)), None
        )
        if found is None:
            raise StoreError(f"the run {run_id} is not in {self.path} any more")
        metrics = os.path.join(found, "metrics")
        series = [_lines(os.path.join(metrics, key), key, offsets.get(key, 0)) for key in _relative_files(metrics)]
        for point in heapq.merge(*series, key=lambda one: (one.time_ms, one.step)):
            offsets = {**offsets, point.key: whole_or_none(point.place) or 0}
            place: JsonObject = {**offsets}
            yield point._replace(place=place)

    def files(self, run: Listed) -> Iterator[tuple[str, int]]:
        return _files_in(_local(run.artifacts, self.path))

    def contents(self, run: Listed, path: str) -> bytes:
        return _contents(_local(run.artifacts, self.path), path)


def _lines(path: str, key: str, offset: int) -> Iterator[Point]:
    """The values of one metric's file behind an offset; a torn last line is not there yet."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                raise Rewritten(f"{path} is shorter than it was: it was written anew since the last import")
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                fields = line.split()
                try:
                    value = float(fields[1])
                    step = int(fields[2]) if len(fields) > 2 else 0
                    yield Point(int(fields[0]), step, key, value, offset)
                except (ValueError, IndexError):
                    continue
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read ({error.strerror}); check who owns it") from error


def _last_value(path: str) -> float | None:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            lines = [line.split() for line in file.read().split(b"\n")[:-1]]
        return float(lines[-1][1]) if lines else None
    except (OSError, ValueError, IndexError):
        return None


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise StoreError(f"MLflow's store {path} cannot be read ({error.strerror}); check who owns it") from error


def _relative_files(folder: str) -> list[str]:
    """The plain files below a folder: MLflow makes no link, and one that somebody else made may lead anywhere."""
    return sorted(one.name for one in walk_run_files(folder))


def _small_files(folder: str) -> dict[str, str]:
    values = {}
    for key in _relative_files(folder):
        try:
            with open(os.path.join(folder, key), encoding="utf-8", errors="replace") as file:
                values[key] = file.read()
        except OSError:
            continue
    return values


def _yaml(path: str) -> JsonObject:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            value = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


# -- artifacts --------------------------------------------------------------------------------------------------------


def _local(uri: str, store: str) -> str:
    """The folder of a run's artifacts; where the store was moved, beside it. Empty where they are elsewhere."""
    parsed = urlparse(uri)
    if parsed.scheme not in ("", "file"):
        return ""
    path = unquote(parsed.path) if parsed.scheme else uri
    if os.path.isdir(path):
        return path
    parts = path.rstrip("/").split("/")[-3:]
    root = store if os.path.isdir(store) else os.path.dirname(store)
    for moved in (os.path.join(root, "mlruns", *parts), os.path.join(root, *parts)):
        if os.path.isdir(moved):
            return moved
    return ""


def _files_in(folder: str) -> Iterator[tuple[str, int]]:
    for path in _relative_files(folder) if folder else ():
        try:
            yield path, os.path.getsize(os.path.join(folder, path))
        except OSError:
            continue


def _contents(folder: str, path: str) -> bytes:
    try:
        with open(os.path.join(folder, path), "rb") as file:
            return file.read()
    except OSError as error:
        raise StoreError(f"the artifact {os.path.join(folder, path)} cannot be read ({error.strerror})") from error


def _look(folder: str) -> list[tuple[str, int]]:
    return list(_files_in(folder))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()[:16]
