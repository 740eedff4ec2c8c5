"""What happened in a run beside its curves: texts, histograms, pictures, tables, alerts, checkpoints, notes, stages."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field

import orjson

from lossbook.errors import BadArgument, DamagedFile
from lossbook.json_shapes import Json, JsonObject
from lossbook.reading import EventPages, RecordedRun
from lossbook.web import schemas
from lossbook.web.file_response import TooLarge, UnknownFile, open_inside
from lossbook.web.routing import get
from lossbook.web.session import Session

#: A logged table is parsed as a whole; a larger one (bytes) is something to save.
LARGEST_TABLE_BYTES = 24 << 20
MOST_LINES = 5_000

#: What was learned of the events of each run that is kept.
_pages: weakref.WeakKeyDictionary[RecordedRun, EventPages] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class EventsQuestion:
    """`thin`: where there are more than `limit`, give such as are evenly spread over steps rather than the newest."""

    project: str
    run: str
    kind: list[str] = field(default_factory=list)
    key: str | None = None
    after: float | None = None
    limit: int = 1000
    thin: bool = False


@dataclass(frozen=True)
class TableQuestion:
    project: str
    run: str
    row: int
    rank: int = 0
    start: int = 0
    limit: int = 200


def pages_of(session: Session, run: RecordedRun) -> EventPages:
    """The events of a run; what was learned of them is kept as long as the run is."""
    found = _pages.get(run)
    if found is None:
        run.rows()  # those of another tracker are brought first
        found = _pages.setdefault(run, EventPages(run.folder, session.book.context.cursor))
    return found


def events(session: Session, question: EventsQuestion) -> schemas.Events:
    """Events that fit, oldest first.

    Raises:
        BadArgument: `limit` cannot be meant.
    """
    run = session.run(question.project, question.run)
    found = pages_of(session, run).choose(
        question.kind, key=question.key, after=question.after, limit=question.limit, thin=question.thin
    )
    return schemas.Events(
        events=[schemas.Event(**event) for event in found.events],
        total=found.total,
        left_out=found.total - len(found.events),
        problems=found.problems,
    )


def table(session: Session, question: TableQuestion) -> schemas.TablePage:
    """Lines of one logged table.

    Raises:
        BadArgument: the run has no table of that number, or the lines cannot be meant.
        TooLarge: the table is too large to be shown.
        DamagedFile: its file is missing or holds something else.
    """
    if question.start < 0 or not 1 <= question.limit <= MOST_LINES:
        raise BadArgument(f"ask for 1 to {MOST_LINES:,} lines of a table from 0 on")
    run = session.run(question.project, question.run)
    event = pages_of(session, run).find(question.rank, question.row)
    if event is None or event["kind"] != "table":
        raise BadArgument(f"row {question.row} of rank {question.rank} of the run {run.name} is no table")
    value = event["value"]
    if "rows" not in value:
        value = _from_file(run, str(value.get("file") or ""))
    columns, rows = value.get("columns"), value.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise DamagedFile(f"row {question.row} of rank {question.rank} of the run {run.name} holds no whole table")
    return schemas.TablePage(
        columns=[str(column) for column in columns],
        rows=[_cells(row) for row in rows[question.start : question.start + question.limit]],
        count=len(rows),
    )


def _from_file(run: RecordedRun, path: str) -> JsonObject:
    try:
        file = open_inside(run.path, path)
    except (UnknownFile, BadArgument):
        raise DamagedFile(
            f"the file of this table is missing from {run.path}: {path[:120] or 'it names none'}"
        ) from None
    with file:
        if file.size_bytes > LARGEST_TABLE_BYTES:
            megabytes = math.ceil(file.size_bytes / (1 << 20))
            raise TooLarge(f"this table is {megabytes} MB as JSON, too much to show: save {path} from the run's files")
        text, _ = file.head(LARGEST_TABLE_BYTES)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedFile(f"{path} in {run.path} is damaged: {error.msg}") from None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} in {run.path} is damaged: it holds no JSON object")
    return value


def _cells(row: Json) -> list[object]:
    return [*row] if isinstance(row, list) else [row]


ROUTES = [
    get("/api/run/events", EventsQuestion, events),
    get("/api/run/table", TableQuestion, table),
]
