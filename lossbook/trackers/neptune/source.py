"""What Neptune's exporter wrote: Parquet files with a row for each value of each attribute of each run.

The columns are `project_id`, `run_id`, `attribute_path`, `attribute_type`, `step`, `timestamp` and one for each type of value.
The files that the exporter downloaded lie beside them.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from lossbook.errors import StoreError
from lossbook.trackers.source import ForeignRow, ForeignRun, Source, scheme_of

if TYPE_CHECKING:
    import duckdb

_COLUMNS = frozenset(("project_id", "run_id", "attribute_path", "attribute_type", "float_value", "step", "timestamp"))
_TYPES = ("float", "int", "string", "bool", "datetime", "string_set")
#: Attributes that Neptune itself writes, and what they are here.
_NAMES = ("sys/name", "sys/custom_run_id", "sys/experiment/name")
_STATES = {"running": "running", "active": "running", "idle": "finished", "inactive": "finished"}
_BATCH_ROWS = 10_000
#: The kinds of single values in the order of their columns in a query.
_ORDER = ("float", "int", "bool", "string", "datetime", "string_set")


class NeptuneExport(Source):
    """A folder of the exporter's Parquet files, or one of them."""

    kind: ClassVar[str] = "neptune"
    title: ClassVar[str] = "Neptune, as exported"
    gpu_advice: ClassVar[str] = ""
    tells_last_values: ClassVar[bool] = False
    lacks: ClassVar[tuple[str, ...]] = (
        "Files, artifacts and series of files stay where the exporter put them.",
        "Steps that are no whole numbers are counted, and kept under neptune/step.",
    )

    @classmethod
    def matches(cls, location: str) -> bool:
        if scheme_of(location):
            return scheme_of(location) == cls.kind
        return location.endswith(".parquet") and os.path.isfile(location) and _is_export(location)

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.path = os.path.abspath(location.removeprefix("neptune://"))
        found = [self.path] if os.path.isfile(self.path) else sorted(_parquet_files(self.path))
        self._paths = [path for path in found if _is_export(path)]
        if not self._paths:
            raise StoreError(f"there are no Parquet files of Neptune's exporter in {self.path}")

    @property
    def address(self) -> str:
        return self.path

    def runs(self) -> Iterator[ForeignRun]:
        with _connection() as connection:
            attributes: dict[tuple[str, str], dict[str, object]] = defaultdict(dict)
            places = ", ".join("?" for _ in _TYPES)
            query = (
                "SELECT project_id, run_id, attribute_path, attribute_type, float_value, int_value, bool_value, "
                "string_value, epoch_us(datetime_value), string_set_value FROM read_parquet(?, union_by_name = true) "
                f"WHERE attribute_type IN ({places})"
            )
            for project, run, path, kind, *cells in connection.execute(query, [self._paths, *_TYPES]).fetchall():
                attributes[project, run][path] = _plain(kind, cells[_ORDER.index(kind)])
            series = connection.execute(
                "SELECT project_id, run_id, min(epoch_us(timestamp)), max(epoch_us(timestamp)), count(*) "
                "FROM read_parquet(?, union_by_name = true) GROUP BY ALL ORDER BY ALL",
                [self._paths],
            ).fetchall()
        made = [
            _make_run(project, run, attributes[project, run], first, last, count, self.path)
            for project, run, first, last, count in series
        ]
        yield from sorted(made, key=lambda run: run.created, reverse=True)

    def rows(self, run: ForeignRun, start: int = 0) -> Iterator[ForeignRow]:
        return itertools.islice(self._rows(run), start, None)

    def _rows(self, run: ForeignRun) -> Iterator[ForeignRow]:
        where = "FROM read_parquet(?, union_by_name = true) WHERE project_id = ? AND run_id = ?"
        asked = [self._paths, run.origin["neptune_project"], run.id]
        with _connection() as connection:
            fractions = connection.execute(
                f"SELECT count(*) {where} AND attribute_type = 'float_series' AND step <> floor(step)", asked
            ).fetchall()[0][0]
            cursor = connection.execute(
                "SELECT attribute_type, attribute_path, CAST(step AS DOUBLE), epoch_us(timestamp), float_value, string_value "
                f"{where} AND attribute_type IN ('float_series', 'string_series') "
                "ORDER BY step NULLS FIRST, timestamp, attribute_path, float_value",
                asked,
            )
            yield from _together(run, cursor, is_counted=bool(fractions))


def _together(run: ForeignRun, cursor: duckdb.DuckDBPyConnection, *, is_counted: bool) -> Iterator[ForeignRow]:
    """The rows of a run: the values of one step are one row, texts are rows of their own."""
    scalars: dict[str, float] = {}
    step: float | None = None
    time_us = count = 0

    def row() -> ForeignRow:
        whole = count if is_counted or step is None else int(step)
        more = {"neptune/step": step} if is_counted and step is not None else {}
        return ForeignRow(time_us, whole, None, None, {**scalars, **more})

    while cells := cursor.fetchmany(_BATCH_ROWS):
        for kind, path, at, moment, number, words in cells:
            if scalars and (at != step or path in scalars):
                yield row()
                count, scalars = count + 1, {}
            step = at
            if kind == "float_series" and number is not None:
                time_us = _time_us(moment, run) if not scalars else time_us
                scalars[path] = number
            elif kind == "string_series":
                whole = count if is_counted or at is None else int(at)
                yield ForeignRow(_time_us(moment, run), whole, "text", path, {"text": str(words or "")})
    if scalars:
        yield row()


def _make_run(
    project: str, run: str, attributes: dict[str, object], first: object, last: object, count: int, folder: str
) -> ForeignRun:
    named = next((str(attributes[name]) for name in _NAMES if attributes.get(name)), run)
    created = _moment(attributes.get("sys/creation_time")) or _seconds(first) or os.path.getmtime(folder)
    tags = attributes.get("sys/tags")
    failed = bool(attributes.get("sys/failed"))
    state = _STATES.get(str(attributes.get("sys/state") or "idle").lower(), "finished")
    groups = attributes.get("sys/group_tags")
    return ForeignRun(
        id=run,
        name=named,
        project=project.rpartition("/")[2] or "neptune",
        created=created,
        version=str(count),
        state="failed" if failed else "finished" if state == "running" else state,
        ended=_seconds(last),
        config={path: value for path, value in attributes.items() if not path.startswith("sys/")},
        tags=tuple(map(str, tags)) if isinstance(tags, Sequence) and not isinstance(tags, str) else (),
        group=str(groups[0]) if isinstance(groups, Sequence) and not isinstance(groups, str) and groups else None,
        notes=str(attributes["sys/description"]) if attributes.get("sys/description") else None,
        origin={"folder": folder, "neptune_project": project, "owner": attributes.get("sys/owner")},
    )


def _plain(kind: str, value: object) -> object:
    """A single value; a date, which comes in µs, as the text that JSON has for it."""
    if kind == "datetime" and isinstance(value, int):
        return datetime.datetime.fromtimestamp(value / 1e6, datetime.UTC).isoformat()
    return value


def _moment(value: object) -> float | None:
    return datetime.datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None


def _seconds(value: object) -> float | None:
    return value / 1e6 if isinstance(value, int) else None


def _time_us(value: object, run: ForeignRun) -> int:
    return value if isinstance(value, int) else round(run.created * 1e6)


def _parquet_files(folder: str) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        yield from (os.path.join(root, name) for name in names if name.endswith(".parquet"))


def _is_export(path: str) -> bool:
    """Whether a Parquet file has the exporter's columns; its footer names them, and nothing else is read of it."""
    import duckdb

    from lossbook.storage import connect

    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                return False
        found = connect().execute("SELECT name FROM parquet_schema(?)", [path]).fetchall()
    except (OSError, duckdb.Error):
        return False
    return {row[0] for row in found} >= _COLUMNS


@contextlib.contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that sorts on disk what memory does not hold: an export may be of millions of values."""
    from lossbook.storage import connect

    with tempfile.TemporaryDirectory(prefix="lossbook-neptune-") as spill:
        connection = connect(spill=spill)
        try:
            yield connection
        finally:
            connection.close()
