"""The runs of a project: the table, the names of its columns, and which runs fit an expression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lossbook.analysis import flatten_settings
from lossbook.curves import CLOCKS
from lossbook.errors import BadArgument, UnknownRun
from lossbook.json_shapes import JsonObject
from lossbook.metrics import AXES, find_key, goal_of, role_of, same_quantities, unit_of, usual_keys
from lossbook.reading import IndexRecord
from lossbook.web import schemas
from lossbook.web.routing import get
from lossbook.web.session import Session

MOST_COLUMNS = 200
#: A filter that takes longer than that for all runs is given up.
WHERE_SECONDS = 10.0
#: So many of the newest runs are asked what they said of their metrics, and which names of one quantity they use.
_MOST_READ = 60
#: So many of the newest runs are asked which of their settings differ, and so many settings are told.
_ASKED_FOR_SETTINGS = 100
_MOST_DIFFERING = 50


@dataclass(frozen=True)
class RunsQuestion:
    project: str
    since: str | None = None
    column: list[str] = field(default_factory=list)
    limit: int | None = None
    run: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NamesQuestion:
    """`newest`: of that many of the newest runs alone."""

    project: str
    run: list[str] = field(default_factory=list)
    newest: int | None = None


@dataclass(frozen=True)
class WhereQuestion:
    project: str
    where: str


def runs(session: Session, question: RunsQuestion) -> schemas.Runs:
    """The table of a project, or what of it changed since a revision that an earlier answer had."""
    if len(question.column) > MOST_COLUMNS:
        raise BadArgument(f"{len(question.column)} columns are too many at once: {MOST_COLUMNS} are the most")
    known = _revision(session, question.since)
    keys = session.project_keys(question.project)
    total = len(keys)
    listing = session.listing()
    unknown = listing.unknown(question.column, keys)
    # Before the rows are read, so that what changes meanwhile is told the next time.
    changes = listing.changes_since(known) if known is not None else None
    revision = changes.revision if changes is not None else listing.revision
    whole = changes is None or changes.whole
    removed: list[str] = []
    if changes is not None and not changes.whole:
        fresh = {*changes.added, *changes.changed}
        folder = keys[0].project
        removed = [key.id for key in changes.removed if key.project == folder]
        keys = [key for key in keys if key in fresh]
    if question.limit is not None:
        wanted = set(question.run)
        keys = [key for at, key in enumerate(keys) if at < question.limit or key.id in wanted]
    rows = session.rows(keys)
    if len(rows) < len(keys):
        present = {row.id for row in rows}
        keys = [key for key in keys if key.id in present]
    found = listing.columns(question.column, keys) if question.column else {}
    columns: dict[str, list[object]] = {name: [*values] for name, values in found.items()}
    return schemas.Runs(f"{session.epoch}-{revision}", whole, rows, removed, columns, total, unknown)


def _revision(session: Session, since: str | None) -> int | None:
    """The number of a revision of this session; None where all must be told: it is another server's, or none."""
    epoch, _, number = (since or "").partition("-")
    return int(number) if epoch == session.epoch and number.isascii() and number.isdigit() else None


def names(session: Session, question: NamesQuestion) -> schemas.Names:
    """Every column that a project's table (or some runs') could have, and every metric that could be drawn."""
    keys = newest = session.project_keys(question.project)
    listing = session.listing()
    if question.run:
        by_id = {key.id: key for key in keys}
        missing = [run for run in question.run if run not in by_id]
        if missing:
            raise UnknownRun(f"there is no run {missing[0]!r} in the project {question.project!r}")
        keys = [by_id[run] for run in dict.fromkeys(question.run)]
    elif question.newest is not None:
        keys = keys[: max(question.newest, 0)]
    if question.run or question.newest is not None:
        config, summary, metrics = _count_names(listing.record(key) for key in keys)
    else:
        found = listing.names(question.project)
        config, summary, metrics = found.config, found.summary, found.metrics
    records = [listing.record(key) for key in keys[:_MOST_READ]]
    defined = [one for record in records for one in record.define]
    same = same_quantities(record.metrics for record in records)
    goals = [one for one in defined if one.get("goal")]
    units = [one for one in defined if one.get("unit")]
    roles = [one for one in defined if one.get("role")]
    return schemas.Names(
        config=_prefixed("config", config),
        summary=_prefixed("summary", summary),
        metrics=[
            schemas.Name(
                key,
                metrics[key],
                unit_of(key, defined=units, largest=_largest(key, records)) or None,
                goal_of(key, goals),
                same.get(key),
                role_of(key, roles),
            )
            for key in sorted(metrics)
        ],
        axes=axes_of(metrics),
        usual=usual_keys(metrics),
        differing=_differing([listing.record(key).config for key in newest[:_ASKED_FOR_SETTINGS]]),
    )


def _largest(key: str, records: Sequence[IndexRecord]) -> float | None:
    """The largest value of a utilisation in some runs: percent and share are told apart by it."""
    if role_of(key) != "utilisation":
        return None
    found = [record.metrics[key].max for record in records if key in record.metrics]
    return max((one for one in found if one is not None), default=None)


def _differing(configs: list[JsonObject]) -> list[str]:
    """Names of the settings that are not the same in all of them, in the order in which runs have them."""
    values: dict[str, list[str]] = {}
    for config in configs:
        for name, value in flatten_settings(config):
            values.setdefault(name, []).append(repr(value))
    differing = [name for name, found in values.items() if len(set(found)) > 1 or len(found) < len(configs)]
    return [f"config.{name}" for name in differing[:_MOST_DIFFERING]]


def axes_of(metrics: Iterable[str]) -> list[str]:
    """What curves can be drawn against where there are these metrics: step, the counters that exist, the clocks."""
    present = metrics if isinstance(metrics, Mapping) else set(metrics)
    counters = [axis for axis in AXES if find_key(axis, present) is not None]
    return ["step", *counters, *sorted(CLOCKS, key=("wallclock", "elapsed", "time").index)]


def _count_names(records: Iterable[IndexRecord]) -> tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]:
    """How many of some runs have each name of their configuration, their summary and their metrics."""
    config, summary, metrics = Counter[str](), Counter[str](), Counter[str]()
    for record in records:
        config.update(name for name, _ in flatten_settings(record.config))
        summary.update(name for name, _ in flatten_settings(record.summary))
        metrics.update(list(record.metrics))
    return config, summary, metrics


def _prefixed(section: str, counts: Mapping[str, int]) -> list[schemas.Name]:
    return [schemas.Name(f"{section}.{name}", counts[name]) for name in sorted(counts)]


def where(session: Session, question: WhereQuestion) -> schemas.Matching:
    """Which runs of a project fit an expression."""
    keys = session.project_keys(question.project)
    return schemas.Matching([key.id for key in session.listing().where(question.where, keys, seconds=WHERE_SECONDS)])


ROUTES = [
    get("/api/runs", RunsQuestion, runs),
    get("/api/names", NamesQuestion, names),
    get("/api/where", WhereQuestion, where),
]
