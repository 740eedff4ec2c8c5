"""Trackio's local projects: one SQLite file each, read as it stands, without Trackio and without changing anything.

`trackio://PROJECT` (or `trackio://` for all), the folder of Trackio's databases, or one `.db` file. Metrics, system
metrics and alerts are tables to which rows are only added: a place in a run is the last id that was read of each.
"""

from __future__ import annotations

import contextlib
import datetime
import heapq
import itertools
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from lossbook.errors import StoreError
from lossbook.journal import DamagedLine, decode_number
from lossbook.json_shapes import (
    JsonObject,
    counts_of,
    list_or_empty,
    object_or_empty,
    text_or_none,
    texts_of,
    whole_or_none,
)
from lossbook.trackers.machine_names import from_trackio
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, scheme_of
from lossbook.trackers.sqlite import connect_read_only, tables_of

#: The tables that a run's rows are in; of one time, in this order.
TABLES = ("metrics", "system_metrics", "alerts")
_LEVELS = {"warn": "warning", "info": "info", "error": "error"}
#: What Trackio's `init` puts into each configuration itself.
_OWN = ("_Username", "_Created", "_Group")
_MEDIA = ("trackio.image", "trackio.video", "trackio.audio", "trackio.html", "trackio.object3d")


@dataclass
class _Listed:
    """What the tables say of one run: by table its last id and its number of entries, and the times of some entries."""

    name: str | None
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)


class TrackioProject(Source):
    """One project of Trackio, or all of a folder."""

    kind: ClassVar[str] = "trackio"
    title: ClassVar[str] = "Trackio"
    gpu_advice: ClassVar[str] = "where it trains, pip install 'trackio[gpu]' and call trackio.init(auto_log_gpu=True)"
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Traces and artifacts stay where they are.",
        "Trackio does not say how a run ended: it counts as finished.",
        "Videos, sounds and HTML are kept as files of the run, without a step.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        if scheme_of(location):
            return scheme_of(location) == cls.kind
        tables = tables_of(location)
        return "metrics" in tables and "experiments" not in tables

    @classmethod
    def place_of(cls, location: str, path: str) -> str:
        return location if os.path.isfile(location) else os.path.dirname(path)

    def __init__(self, location: str) -> None:
        super().__init__(location)
        scheme, separator, project = location.partition("://")
        if separator and scheme == "trackio":
            self.folder = _trackio_folder()
            self.databases = [os.path.join(self.folder, f"{_file_name(project)}.db")] if project else []
        elif os.path.isdir(location):
            self.folder, self.databases = location, []
        else:
            self.folder, self.databases = os.path.dirname(os.path.abspath(location)), [location]
        self._everything = not self.databases
        if self._everything:
            self.databases = _databases(self.folder)
        missing = next((path for path in self.databases if not os.path.isfile(path)), None)
        if missing is not None or not self.databases:
            known = ", ".join(os.path.basename(path).removesuffix(".db") for path in _databases(self.folder)) or "none"
            raise StoreError(
                f"there is no Trackio project at {missing or self.folder}; {self.folder} has {known}: "
                "set TRACKIO_DIR if Trackio's projects are elsewhere"
            )

    @property
    def address(self) -> str:
        return os.path.abspath(self.folder if self._everything else self.databases[0])

    def runs(self) -> Iterator[ForeignRun]:
        for path in self.databases:
            with _opened(path) as connection:
                yield from self._runs_of(connection, path)

    def _runs_of(self, connection: sqlite3.Connection, path: str) -> Iterator[ForeignRun]:
        project = os.path.basename(path).removesuffix(".db")
        found: dict[str, _Listed] = {}
        for table in TABLES:
            column = _run_column(connection, table)
            if column is None:
                continue
            query = (
                f"SELECT {column}, max(run_name), max(id), count(*), min(timestamp), max(timestamp) FROM {table} "
                f"GROUP BY {column}"
            )
            for run_id, name, last, count, first_time, last_time in connection.execute(query):
                one = found.setdefault(str(run_id), _Listed(name))
                one.ids[table] = (last, count)
                one.times += [_seconds(first_time), _seconds(last_time)]
        configs = dict(_configs(connection))
        for run_id, (name, _) in configs.items():
            found.setdefault(run_id, _Listed(name))
        made = [
            _make_run(project, path, run_id, one, configs.get(run_id, (None, {}))[1]) for run_id, one in found.items()
        ]
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        found = self._rows(run)
        return itertools.islice(found, start, None) if run.after is None else found

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        known = object_or_empty(run.after)
        after: JsonObject = {table: known[table] for table in TABLES if table in known}
        skip = counts_of(known.get("part"))
        with _opened(_database(run)) as connection:
            # One view of the database, however long the reading takes and whoever writes meanwhile.
            connection.execute("BEGIN")
            series = [_entries(connection, table, run.id, whole_or_none(after.get(table)) or 0) for table in TABLES]
            for _, table, number, fields in heapq.merge(*series, key=lambda entry: entry[0]):
                made = list(self._expand(table, fields))
                first = skip.pop(table, 0)
                for index in range(first, len(made)):
                    last = index + 1 == len(made)
                    place: JsonObject = {**after, table: number}
                    if not last:
                        place.update({table: number - 1, "part": {table: index + 1}})
                    yield made[index]._replace(place=place)
                after[table] = number

    def row_count(self, run: ForeignRun) -> int | None:
        with _opened(_database(run)) as connection:
            counts = 0
            for table in TABLES:
                column = _run_column(connection, table)
                if column is not None:
                    query = f"SELECT count(*) FROM {table} WHERE {column} = ?"
                    counts += int(connection.execute(query, [run.id]).fetchone()[0])
            return counts

    # -- one entry ------------------------------------------------------------------------------------------------

    def _expand(self, table: str, fields: Mapping[str, object]) -> Iterator[ForeignRow]:
        """The rows that one entry becomes: its scalars, then whatever else it holds."""
        time_us = round(_seconds(fields["timestamp"]) * 1e6)
        step = whole_or_none(fields.get("step"))
        if table == "alerts":
            body = {
                "title": str(fields["title"]),
                "text": str(fields.get("text") or ""),
                "level": _LEVELS.get(str(fields.get("level")), "warning"),
            }
            yield ForeignRow(time_us, step, "alert", None, body)
            return
        try:
            encoded = fields["metrics"]
            metrics = orjson.loads(encoded if isinstance(encoded, (str, bytes)) else "")
        except orjson.JSONDecodeError:
            body = {"message": f"an entry of Trackio's table {table} is damaged (its id is {fields['id']})"}
            yield ForeignRow(time_us, step, "warning", None, body)
            return
        scalars: dict[str, float] = {}
        others: list[ForeignRow] = []
        for key, value in _flattened(metrics):
            key = key[2:] if key.startswith("__") and key[2:] in _RESERVED else key
            number = _number(value)
            if number is not None:
                name, number = from_trackio(key, number) if table == "system_metrics" else (key, number)
                scalars[name] = number
            elif value is not None:
                others.append(self._other(time_us, step, key, value))
        if scalars:
            yield ForeignRow(time_us, step, None, None, scalars)
        yield from others

    def _other(self, time_us: int, step: int | None, key: str, value: object) -> ForeignRow:
        """A value that is no number."""
        fields = object_or_empty(value)
        kind = fields.get("_type")
        if kind in _MEDIA:
            return self._media(time_us, step, key, fields)
        if kind == "trackio.histogram":
            body: JsonObject = {
                "edges": list_or_empty(fields.get("bins")),
                "counts": list_or_empty(fields.get("values")),
            }
            if fields.get("nonfinite"):
                body["nonfinite"] = fields["nonfinite"]
            return ForeignRow(time_us, step, "histogram", key, body)
        if kind == "trackio.table":
            rows = [row for row in list_or_empty(fields.get("_value")) if isinstance(row, dict)]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            cells = [[_cell(row.get(column)) for column in columns] for row in rows]
            return ForeignRow(time_us, step, "table", key, {"columns": columns, "rows": cells})
        if kind == "trackio.markdown":
            return ForeignRow(time_us, step, "text", key, {"text": str(fields.get("_value") or "")})
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        return ForeignRow(time_us, step, "text", key, {"text": text})

    def _media(self, time_us: int, step: int | None, key: str, value: Mapping[str, object]) -> ForeignRow:
        named = str(value.get("file_path") or "")
        root = os.path.realpath(os.path.join(self.folder, "media"))
        path = os.path.realpath(os.path.join(root, named))
        try:
            if not path.startswith(root + os.sep):
                raise FileNotFoundError(named)
            with open(path, "rb") as file:
                contents = file.read()
        except OSError:
            body: dict[str, object] = {"message": f"Trackio's file {named} of {key} is not there any more"}
            return ForeignRow(time_us, step, "warning", key, body)
        if value.get("_type") != "trackio.image":
            return ForeignRow(time_us, step, "file", key, {"name": named, "contents": contents})
        body = {"contents": contents, "ending": os.path.splitext(path)[1] or ".png"}
        if value.get("caption"):
            body["caption"] = str(value["caption"])
        return ForeignRow(time_us, step, "image", key, body)


# -- the database -----------------------------------------------------------------------------------------------------

_RESERVED = frozenset(("project", "run", "timestamp", "step", "time", "metrics"))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that only reads; whatever SQLite says becomes one sentence."""
    try:
        connection = connect_read_only(path)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"Trackio's database {path} cannot be read ({error}); check it, and who owns it") from error


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _run_column(connection: sqlite3.Connection, table: str) -> str | None:
    """What tells runs apart in a table: before Trackio 0.24 their names; None where there is no such table."""
    columns = _columns(connection, table)
    if not columns:
        return None
    return "run_id" if "run_id" in columns else "run_name"


def _entries(
    connection: sqlite3.Connection, table: str, run_id: str, after: int
) -> Iterator[tuple[str, str, int, JsonObject]]:
    """The entries of one table behind an id: time (text that sorts), table, id, columns."""
    column = _run_column(connection, table)
    if column is None:
        return
    columns = _columns(connection, table)
    cursor = connection.execute(
        f"SELECT {', '.join(columns)} FROM {table} WHERE {column} = ? AND id > ? ORDER BY id", [run_id, after]
    )
    for row in cursor:
        fields = dict(zip(columns, row, strict=True))
        yield str(fields["timestamp"]), table, int(fields["id"]), fields


def _configs(connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[str, JsonObject]]]:
    column = _run_column(connection, "configs")
    if column is None:
        return
    for run_id, name, text in connection.execute(f"SELECT {column}, run_name, config FROM configs ORDER BY id"):
        try:
            config = orjson.loads(text)
        except (orjson.JSONDecodeError, TypeError):
            config = {}
        yield str(run_id), (str(name), config if isinstance(config, dict) else {})


def _database(run: ForeignRun) -> str:
    assert isinstance(run.place, str)
    return run.place


def _make_run(project: str, path: str, run_id: str, found: _Listed, config: JsonObject) -> ForeignRun:
    digest = zlib.crc32(orjson.dumps(config))
    ids = ",".join(f"{table}:{last}/{count}" for table, (last, count) in sorted(found.ids.items()))
    own = {name: config.get(name) for name in _OWN}
    plain = {key: value for key, value in config.items() if key not in _OWN}
    times = [one for one in (*found.times, _seconds(own["_Created"])) if one]
    ours = plain.pop("lossbook", None) if isinstance(plain.get("lossbook"), dict) else None
    extra: JsonObject = {}
    if isinstance(ours, dict):
        # What Lossbook's mirror keeps in the configuration, because Trackio has no other place for it.
        for name in ("tags", "notes", "state", "error", "summary"):
            extra[name] = plain.pop(f"lossbook_{name}" if f"lossbook_{name}" in plain else name, None)
    origin = {"user": own["_Username"], "database": path}
    if isinstance(ours, dict):
        origin.update(host=ours.get("host"), argv=ours.get("command"))
    return ForeignRun(
        id=run_id,
        name=str(found.name or run_id),
        project=project,
        created=min(times, default=0.0),
        version=f"{ids} {digest}",
        state=str(extra.get("state") or "finished"),
        ended=max(found.times, default=None),
        error=text_or_none(extra.get("error")),
        config=plain,
        summary=object_or_empty(extra.get("summary")),
        tags=texts_of(extra.get("tags")),
        group=str(own["_Group"]) if own["_Group"] else None,
        notes=text_or_none(extra.get("notes")),
        origin={key: value for key, value in origin.items() if value},
        place=path,
    )


# -- values -----------------------------------------------------------------------------------------------------------


def _flattened(metrics: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Key and value, nested dictionaries joined by "/"; what has a `_type` is one value."""
    for key, value in metrics.items() if isinstance(metrics, dict) else ():
        if isinstance(value, dict) and "_type" not in value and value:
            yield from _flattened(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _number(value: object) -> float | None:
    try:
        return decode_number(value)
    except (DamagedLine, OverflowError):
        return None


def _cell(value: object) -> object:
    # Trackio's tables come from pandas, which has NaN for an empty cell of text.
    return value if not isinstance(value, dict) else orjson.dumps(value).decode()


def _seconds(timestamp: object) -> float:
    try:
        moment = datetime.datetime.fromisoformat(str(timestamp))
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def _trackio_folder() -> str:
    """Where Trackio keeps its projects, as `trackio.utils` finds it."""
    named = os.environ.get("TRACKIO_DIR")
    if named:
        return named
    home = os.environ.get("HF_HOME")
    if not home:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        home = os.path.join(cache, "huggingface")
    return os.path.join(os.path.expanduser(home), "trackio")


def _file_name(project: str) -> str:
    """As `trackio.utils.canonical_project_name`."""
    return "".join(one for one in project if one.isalnum() or one in "-_").rstrip() or "default"


def _databases(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        os.path.join(folder, name)
        for name in names
        if name.endswith(".db") and not re.match(r"registry-", name) and _is_project(os.path.join(folder, name))
    ]


def _is_project(path: str) -> bool:
    try:
        with _opened(path) as connection:
            return _run_column(connection, "metrics") is not None
    except StoreError:
        return False
