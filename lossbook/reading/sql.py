"""Makes the views of `book.sql`: runs, metrics, finite_metrics, all_metrics and events of all runs, and what else it is given.

`metrics` has the rows that count, as `run.history` shows them: those that no later attempt hides, and of a fork its parent's
up to the step where it began. `finite_metrics` leaves out NaN and infinities, which DuckDB's `max` and `avg` would give back:
its maximum, minimum and mean are those of `run.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import orjson

from lossbook.errors import BadQuery
from lossbook.reading.history import COLUMNS, sources_query
from lossbook.reading.query_result import QueryResult, first_sentence
from lossbook.storage import METRICS, FilesReplaced, compare_ahead, parquet, quote, quote_name

if TYPE_CHECKING:
    import duckdb

    from lossbook.reading.record import IndexRecord
    from lossbook.reading.run import RecordedRun


#: Makes a view of some runs; one that is made of more than rows comes from whoever asks.
MakeView = Callable[["duckdb.DuckDBPyConnection", "Sequence[RecordedRun]"], None]
#: Files are replaced while views are made of them so many times in a row at the most.
_MOST_TRIES = 100
#: After so many, the rows of every run that may go on are copied before they are asked for.
_PATIENCE = 2


def query_runs(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    runs: list[RecordedRun],
    parameters: Sequence[object] | None = None,
    views: Mapping[str, MakeView] | None = None,
) -> QueryResult:
    """Ask SQL of some runs, with the views of this module.

    Args:
        views: further ones, each made where the query names it.

    Raises:
        BadQuery: the query cannot be run.
    """
    text = query.strip().rstrip(";")
    made = _Views(connection, query, runs, views or {})
    made.make()
    return QueryResult(connection, text, parameters, renew=lambda: text if made.renew() else None)


class _Views:
    """The views that a query mentions, over the files of some runs as they stand.

    Runs may be sealed and merged all the while. What a view names goes then, and the view is made anew; the rows of a run
    whose files went are copied into a table at once from then on, so that a sweep that never stands still is answered too.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: str,
        runs: list[RecordedRun],
        further: Mapping[str, MakeView],
    ) -> None:
        self._connection = connection
        self._further = further
        self._mentioned = set(re.findall(r"[a-z_]+", query.lower()))
        self._runs = runs
        self._made: dict[str, str] = {}  # by run: what is selected from its files
        self._copied: set[str] = set()  # runs whose rows are copied
        self._failures = 0

    def make(self) -> None:
        """Make them; again where a file was sealed or merged between the look and the making, or turns out to be damaged.

        Raises:
            BadQuery: they cannot be made.
        """
        import duckdb

        for turn in range(_MOST_TRIES):
            before = self._made
            try:
                self._make_once()
                return
            except (duckdb.Error, UnicodeDecodeError) as error:
                self._note_failure(str(error))
                stands_still = self._made == before and turn > _PATIENCE
                if turn == _MOST_TRIES - 1 or (stands_still and not self._find_damage()):
                    raise BadQuery(first_sentence(error)) from None

    def renew(self) -> bool:
        """Make them anew after a query failed; says whether anything else is selected now.

        Raises:
            BadQuery: as `make`.
        """
        before = self._made
        self._note_failure("")
        self.make()
        if self._made == before and self._find_damage():
            self.make()
        return self._made != before

    def _note_failure(self, sentence: str) -> None:
        self._failures += 1
        went = set(re.findall(r"""["'](/[^"']+)["']""", sentence))
        self._copied.update(run for run, selected in self._made.items() if any(path in selected for path in went))
        if self._failures >= _PATIENCE:
            self._copied.update(
                run.path for run in self._runs if any(one.journal is not None for one in run.rows().segments)
            )

    def _find_damage(self) -> bool:
        return bool([run for run in self._runs if run.consistently(run.find_damage)])

    def _make_once(self) -> None:
        self._made = {}
        if "runs" in self._mentioned:
            _make_runs(self._connection, self._runs)
        if self._mentioned & {"metrics", "finite_metrics"}:
            self._make_metrics("metrics", hidden=False)
        if "finite_metrics" in self._mentioned:
            self._connection.execute(
                "CREATE OR REPLACE TEMP VIEW finite_metrics AS SELECT * FROM metrics WHERE isfinite(value)"
            )
        if "all_metrics" in self._mentioned:
            self._make_metrics("all_metrics", hidden=True)
        if "events" in self._mentioned:
            _make_events(self._connection, self._runs)
        for name, make in self._further.items():
            if name in self._mentioned:
                make(self._connection, self._runs)

    def _make_metrics(self, view: str, *, hidden: bool) -> None:
        """Make a view of scalars."""
        connection = self._connection
        plain: list[str] = []
        parts: list[str] = []
        owners: list[tuple[str, str, str, str]] = []
        copies = f"copied_{view}"
        if self._copied:
            kinds = ", ".join(f"{name} {kind}" for name, kind in METRICS.items())
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {copies} (project VARCHAR, run VARCHAR, name VARCHAR, {kinds})"
            )
            parts.append(f"SELECT * FROM {copies}")
        compare_ahead(
            segment.metrics for run in self._runs for segment in run.rows().segments if segment.metrics is not None
        )
        for run in self._runs:
            owner = (run.project, run.id, run.name)
            if run.path in self._copied:
                selected = run.consistently(partial(self._copy, run, copies, owner, hidden))
                self._made[run.path] = self._made.get(run.path, "") + selected
                continue
            query, files = run.consistently(partial(_scalars_of, run, hidden))
            self._made[run.path] = self._made.get(run.path, "") + (query or parquet(files) if query or files else "")
            if query:
                parts.append(f"SELECT {', '.join(map(quote, owner))}, {COLUMNS} FROM ({query})")
            plain += files
            owners += [(path, *owner) for path in files]
        if plain:
            # One scan over all sealed files: ten thousand small queries would take a minute to plan.
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE owners_{view} AS SELECT unnest(?::VARCHAR[]) AS filename, "
                "unnest(?::VARCHAR[]) AS project, unnest(?::VARCHAR[]) AS run, unnest(?::VARCHAR[]) AS name",
                [list(column) for column in zip(*owners, strict=True)],
            )
            source = parquet(plain).replace("hive_partitioning = false", "hive_partitioning = false, filename = true")
            # Sealed rows may name their run too (format 2), and another project than the one it is in now.
            named = f"owners_{view}.project, owners_{view}.run, owners_{view}.name"
            parts.insert(0, f"SELECT {named}, {COLUMNS} FROM {source} JOIN owners_{view} USING (filename)")
        if not parts:
            empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in METRICS.items())
            parts = [f"SELECT ''::VARCHAR, ''::VARCHAR, ''::VARCHAR, {empty} WHERE false"]
        names = f"project, run, name, {COLUMNS}"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view}({names}) AS {' UNION ALL '.join(parts)}")

    def _copy(self, run: RecordedRun, table: str, owner: tuple[str, str, str], hidden: bool) -> str:
        """Copy a run's rows into a table; returns what they were selected from.

        Raises:
            FilesReplaced: a file went meanwhile.
        """
        import duckdb

        query, files = _scalars_of(run, hidden)
        selected = query or (f"SELECT {COLUMNS} FROM {parquet(files)}" if files else "")
        if selected:
            try:
                self._connection.execute(
                    f"INSERT INTO {table} SELECT {', '.join(map(quote, owner))}, {COLUMNS} FROM ({selected})"
                )
            except duckdb.IOException as error:
                raise FilesReplaced(first_sentence(error)) from None
        return selected


def _make_runs(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    columns: dict[str, tuple[str, Callable[[IndexRecord], object]]] = {
        "id": ("VARCHAR", attrgetter("id")),
        "name": ("VARCHAR", attrgetter("name")),
        "project": ("VARCHAR", attrgetter("project")),
        "state": ("VARCHAR", attrgetter("state")),
        "created": ("BIGINT", lambda one: one.created_us or None),
        "ended": ("BIGINT", lambda one: int(one.ended * 1e6) if one.ended else None),
        "duration": ("DOUBLE", attrgetter("duration")),
        "group": ("VARCHAR", attrgetter("group")),
        "tags": ("VARCHAR[]", attrgetter("tags")),
        "notes": ("VARCHAR", attrgetter("notes")),
        "host": ("VARCHAR", attrgetter("host")),
        "last_step": ("BIGINT", attrgetter("last_step")),
        "config": ("VARCHAR", lambda one: orjson.dumps(one.config).decode()),
        "summary": ("VARCHAR", lambda one: orjson.dumps(one.summary).decode()),
        "metrics": ("VARCHAR", lambda one: orjson.dumps(one.metrics.to_json()).decode()),
    }
    shown = {"created": "make_timestamp(created)", "ended": "make_timestamp(ended)"}
    shown.update({name: f"{name}::JSON" for name in ("config", "summary", "metrics")})
    records = [run.record for run in runs]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {quote_name(name)}" for name, (kind, _) in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE run_rows AS SELECT {unnested}",
        [[of(record) for record in records] for _, of in columns.values()],
    )
    selected = ", ".join(f"{shown.get(name, quote_name(name))} AS {quote_name(name)}" for name in columns)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW runs AS SELECT {selected} FROM run_rows")


def _scalars_of(run: RecordedRun, hidden: bool) -> tuple[str, list[str]]:
    """A query of one run's scalars, its parents' included; empty where all rows of some sealed files are it, which are
    named then."""
    sources = run.sources()
    rows = sources[-1].rows
    resumed = not hidden and len(rows.info.resume_steps()) > 1
    if (
        len(sources) == 1
        and not resumed
        and all(one.journal is None and one.first_row is None for one in rows.segments)
    ):
        return "", [str(segment.metrics) for segment, _ in rows.usable_sources()]
    return sources_query(sources, hidden=hidden), []


def _make_events(connection: duckdb.DuckDBPyConnection, runs: list[RecordedRun]) -> None:
    rows = [
        (
            run.project,
            run.id,
            run.name,
            event["row"],
            event["step"],
            int(event["time"] * 1e6),
            event["kind"],
            event["key"],
            event["rank"],
            event["attempt"],
            orjson.dumps(event["value"]).decode(),
        )
        for run in runs
        for event in run.events()
    ]
    kinds = {
        "project": "VARCHAR",
        "run": "VARCHAR",
        "name": "VARCHAR",
        "row": "BIGINT",
        "step": "BIGINT",
        "time": "BIGINT",
        "kind": "VARCHAR",
        "key": "VARCHAR",
        "rank": "SMALLINT",
        "attempt": "SMALLINT",
        "value": "VARCHAR",
    }
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in kinds]
    unnested = ", ".join(f"unnest(?::{kind}[]) AS {quote_name(name)}" for name, kind in kinds.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE event_lines AS SELECT {unnested}", columns)
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW events AS SELECT * REPLACE (make_timestamp(time) AS time, value::JSON AS value) "
        "FROM event_lines"
    )
