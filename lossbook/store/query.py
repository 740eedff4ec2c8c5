"""The reading side's face: a `Book` of runs, each a `RecordedRun`. Reads files only; no server, no lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lossbook.errors import BadArgument, LossbookError, StoreError, UnknownKey, UnknownRun
from lossbook.layout import RunFolder, default_store, read_json
from lossbook.metrics import AXES, find_key, goal_of, nearest
from lossbook.store.index import Record, make_record, read_index
from lossbook.store.where import compile_value, compile_where

if TYPE_CHECKING:
    import duckdb
    import numpy
    from numpy.typing import NDArray

    from lossbook.store.comparison import Comparison
    from lossbook.store.curve import Curve, Source
    from lossbook.store.rows import RunRows
    from lossbook.store.smoothing import Smoothing
    from lossbook.store.table import Table


def open(store: str | os.PathLike[str] | None = None) -> Book:
    """Open a store for reading.

    Args:
        store: a folder; default `LOSSBOOK_STORE`, else `./lossbook-runs`.

    Raises:
        StoreError: there is no such folder, or it cannot be read.
    """
    return Book(store)


class Book:
    """All runs of a store. Every call looks at the files anew, so running runs are seen as they are."""

    def __init__(self, store: str | os.PathLike[str] | None = None) -> None:
        named = os.fspath(store) if store is not None else default_store()
        self.store = os.path.abspath(named.removeprefix("file://"))
        if "://" in self.store.replace(":/", "://", 1) and "://" in named and not named.startswith("file://"):
            raise StoreError(f"the store {named!r} cannot be read here: copy it to a folder first")
        if not os.path.isdir(self.store):
            raise StoreError(
                f"there is no store at {named}: name one with --store or LOSSBOOK_STORE, or train a run first"
            )
        try:
            with os.scandir(self.store):
                pass
        except OSError as error:
            raise StoreError(f"the store {named} cannot be read ({error.strerror}); check who owns it") from None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB that this book reads with; made when it is first needed."""
        if self._connection is None:
            import tempfile

            from lossbook.store.schema import connect

            # A history of a hundred million rows is sorted on disk rather than not at all.
            spill = os.path.join(tempfile.gettempdir(), f"lossbook-sort-{os.getpid()}")
            self._connection = connect(memory_limit="4GB", threads=max(1, os.cpu_count() or 1), spill=spill)
        return self._connection

    def projects(self) -> list[str]:
        """The names of all projects, sorted."""
        return sorted({str(record.fields()["project"]) for record in read_index(self.store)})

    def runs(
        self, project: str | None = None, where: str | None = None, sort: str | None = None, limit: int | None = None
    ) -> list[RecordedRun]:
        """Runs that fit, the newest first unless sorted otherwise.

        Args:
            project: only that project's.
            where: an expression such as `config.lr > 1e-4 and state = 'finished'` (see `lossbook.store.where`).
            sort: a name as in `where`: ascending, or descending with `-` before it; runs without it come last.
            limit: so many at the most.

        Raises:
            BadQuery: `where` cannot be understood.
        """
        test = compile_where(where) if where else None
        records = read_index(self.store)
        if project is not None:
            records = [record for record in records if record.fields()["project"] == project]
        if test is not None:
            records = [record for record in records if test(record.fields())]
        if sort:
            records = _sorted(records, sort)
        return [self._recorded(record) for record in records[: limit if limit is not None else len(records)]]

    def run(self, ref: str = "latest", project: str | None = None) -> RecordedRun:
        """One run, by id, name or a unique beginning of either; "latest" is the one begun last.

        A run that has ended without being sealed is sealed now, if it can be.

        Raises:
            UnknownRun: none answers to `ref`, or several do; the message names them.
        """
        records = read_index(self.store)
        if project is not None:
            records = [record for record in records if record.fields()["project"] == project]
            if not records:
                known = ", ".join(self.projects()) or "none"
                raise UnknownRun(f"there is no project {project!r} in {self.store}; it has {known}")
        if not records:
            raise UnknownRun(f"there is no run in {self.store} yet")
        found = self._recorded(_find(records, str(ref), self.store))
        found._seal_if_left()
        return found

    def compare(
        self, runs: Sequence[RecordedRun | str] | None = None, *, project: str | None = None,
        where: str | None = None, limit: int | None = None, metric: str | None = None, losses: Sequence[float] = (),
        columns: Sequence[str] = (), baseline: RecordedRun | str | None = None, sort: str | None = None,
        goal: str | None = None,
    ) -> Comparison:  # fmt: skip
        """Hold runs side by side: the configuration that differs, losses, throughput and time; the best first.

        Args:
            runs: these, or what answers to these names; None for all that fit `project` and `where`.
            limit: the newest so many at the most, where no runs are named.
            metric, losses, columns, baseline, sort, goal: see `lossbook.store.compare.compare`.

        Raises:
            UnknownRun, UnknownKey, BadArgument, BadQuery: something that was named is not there or cannot be meant.
        """
        from lossbook.store.compare import compare

        chosen = self._named(runs, project) if runs is not None else self.runs(project, where, limit=limit)
        held = self._named([baseline], project)[0] if baseline is not None else None
        return compare(chosen, metric=metric, losses=losses, columns=columns, baseline=held, sort=sort, goal=goal)

    def best(
        self, metric: str = "val/loss", *, project: str | None = None, where: str | None = None,
        runs: Sequence[RecordedRun | str] | None = None, goal: str | None = None,
    ) -> tuple[RecordedRun, float]:  # fmt: skip
        """The run with the best value of a metric, and that value; NaN and infinities never win.

        Args:
            metric: any name of it; each run is asked for what it calls it.
            runs: only these, or what answers to these names.
            goal: "minimize" or "maximize"; default what `define_metric` said, else what the name tells.

        Raises:
            UnknownRun: there is no run that fits.
            UnknownKey: none has a finite value of it.
            BadArgument: which way is better is not known.
        """
        from lossbook.store.best import best_run

        return best_run(self._named(runs, project) if runs is not None else self.runs(project, where), metric, goal)

    def _named(self, runs: Sequence[RecordedRun | str], project: str | None) -> list[RecordedRun]:
        return [self.run(run, project) if isinstance(run, str) else run for run in runs]

    def sql(self, query: str, parameters: list[Any] | None = None) -> Table:
        """Ask SQL (DuckDB's) of all runs: views `metrics`, `all_metrics` (with hidden rows), `runs` and `events`.

        Raises:
            BadQuery: the query cannot be run; the message is DuckDB's first sentence.
        """
        from lossbook.store.sql import prepare
        from lossbook.store.table import Table

        connection = self.connection().cursor()
        prepare(connection, query, self.runs())
        return Table(connection, query.strip().rstrip(";"), parameters)

    def _recorded(self, record: Record) -> RecordedRun:
        """A run of this book; a book of another tracker's runs makes them otherwise."""
        return RecordedRun(self, record)

    def __repr__(self) -> str:
        return f"<lossbook book of {self.store}>"


def _sorted(records: list[Record], sort: str) -> list[Record]:
    name = sort.strip()
    descending = name.startswith("-")
    value_of = compile_value(name.lstrip("+-"))
    found = [(value_of(record.fields()), record) for record in records]
    # NaN is no place in an order: such runs stand with those that have no value.
    known = [(value, record) for value, record in found if value is not None and value == value]
    unknown = [record for value, record in found if value is None or value != value]
    numbers = [pair for pair in known if isinstance(pair[0], (int, float))]
    texts = [pair for pair in known if not isinstance(pair[0], (int, float))]
    numbers.sort(key=lambda pair: pair[0], reverse=descending)
    texts.sort(key=lambda pair: str(pair[0]), reverse=descending)
    return [record for _, record in [*numbers, *texts]] + unknown


def _find(records: list[Record], ref: str, store: str) -> Record:
    if ref == "latest":
        return records[0]
    named: Callable[[Record], tuple[str, str]] = lambda record: (record.fields()["id"], record.fields()["name"])  # noqa: E731
    for matches in (
        [record for record in records if os.path.basename(record.path) == ref],
        [record for record in records if record.fields()["id"] == ref],
        [record for record in records if record.fields()["name"] == ref],
        [record for record in records if any(text.startswith(ref) for text in named(record))] if ref else [],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = ", ".join(f"{record.fields()['id']} ({record.fields()['name']})" for record in matches[:8])
            more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
            raise UnknownRun(f"{len(matches)} runs answer to {ref!r}: {listed}{more}; name one by its id")
    close = nearest(ref, {text for record in records for text in named(record)})
    hint = f"; the nearest are {', '.join(close)}" if close else ""
    raise UnknownRun(f"there is no run {ref!r} in {store}{hint}; `lossbook ls` lists them")


class RecordedRun:
    """One run, as it stands in its folder."""

    def __init__(self, book: Book, record: Record) -> None:
        self._book = book
        self._record = record
        self._rows: RunRows | None = None

    # -- what is known of it ----------------------------------------------------------------------------------------

    @property
    def record(self) -> dict[str, Any]:
        """All that the index knows, as `where` sees it."""
        return self._record.fields()

    @property
    def folder(self) -> RunFolder:
        """The paths of the run's files."""
        return self._record.folder

    @property
    def path(self) -> str:
        """The run's folder."""
        return self._record.path

    @property
    def id(self) -> str:
        """The run's folder name, unique in its project."""
        return str(self.record["id"])

    @property
    def name(self) -> str:
        """What people call it; several runs may have one name."""
        return str(self.record["name"])

    @property
    def project(self) -> str:
        """The project it belongs to, as it was given."""
        return str(self.record["project"])

    @property
    def state(self) -> str:
        """running, finished, failed, interrupted, killed or crashed."""
        return str(self.record["state"])

    @property
    def error(self) -> str | None:
        """What went wrong, where something did."""
        return self.record["error"]  # type: ignore[no-any-return]

    @property
    def config(self) -> dict[str, Any]:
        """What was run: the configuration of `init()` with the changes made since."""
        return self.record["config"]  # type: ignore[no-any-return]

    @property
    def summary(self) -> dict[str, Any]:
        """What the training code set in `run.summary`."""
        from lossbook.store.where import plain_number

        return {key: plain_number(value) for key, value in self.record["summary"].items()}

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Per key: last, last_step, min, min_step, max, max_step, mean, count, nonfinite."""
        from lossbook.store.where import plain_number

        return {
            key: {name: plain_number(value) for name, value in one.items()}
            for key, one in self.record["metrics"].items()
        }

    @property
    def tags(self) -> list[str]:
        """Words to find it by."""
        return self.record["tags"]  # type: ignore[no-any-return]

    @property
    def group(self) -> str | None:
        """What it belongs to, where that was said."""
        return self.record["group"]  # type: ignore[no-any-return]

    @property
    def notes(self) -> str | None:
        """What was noted about it as a whole."""
        return self.record["notes"]  # type: ignore[no-any-return]

    @property
    def created(self) -> float:
        """Unix seconds."""
        return float(self.record["created"])

    @property
    def ended(self) -> float | None:
        """Unix seconds; None while it runs."""
        return self.record["ended"]  # type: ignore[no-any-return]

    @property
    def duration(self) -> float:
        """Seconds of the last attempt, until now while it runs."""
        return float(self.record["duration"])

    @property
    def identity(self) -> dict[str, Any]:
        """`run.json` as it is now."""
        return read_json(self.folder.run_json) or {}

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """One entry for each process that wrote the run, in order; none where `run.json` is damaged."""
        return self._identity_or_nothing().get("attempts") or []

    def goal(self, key: str) -> str | None:
        """Which way is better for a metric: "minimize", "maximize", or None."""
        return goal_of(key, self.record["define"])

    def refresh(self) -> RecordedRun:
        """Read state, configuration and summary again."""
        fields = make_record(self.folder)
        import orjson

        self._record = Record(self.path, 0, int(fields["created_us"]), str(fields["state"]), orjson.dumps(fields))
        return self

    def __repr__(self) -> str:
        return f"<lossbook recorded run {self.name} ({self.id}), {self.state}>"

    # -- its rows ---------------------------------------------------------------------------------------------------

    def rows(self) -> RunRows:
        """The run's rows, as they stand now."""
        if self._rows is None:
            from lossbook.store.rows import RunRows

            self._rows = RunRows(self.folder, self._book.connection().cursor())
        self._rows.refresh()
        return self._rows

    def keys(self) -> list[str]:
        """Every metric that was logged, its parent's included, sorted."""
        found: set[str] = set()
        for source in self._sources():
            found |= source.rows.keys()
        return sorted(found)

    def find_key(self, key: str) -> str:
        """The key that `key` means here: itself, or what this run calls the same quantity.

        Raises:
            UnknownKey: the run never logged it; the message lists the nearest names.
        """
        keys = set(self.keys())
        found = find_key(key, keys)
        if found is not None:
            return found
        if not keys:
            raise UnknownKey(f"the run {self.name} has logged no metric yet")
        close = nearest(key, keys) or sorted(keys)[:5]
        raise UnknownKey(f"the run {self.name} never logged {key!r}; the nearest are {', '.join(close)}")

    def curve(
        self, key: str, x: str = "step", points: int = 1000, start: float | None = None, end: float | None = None,
        attempt: int | None = None, smoothing: str | float | Smoothing | None = None,
    ) -> Curve:  # fmt: skip
        """Decimate one series for drawing, keeping every extreme.

        Rows are split into at most `points` buckets of equal width on `x` (in a long run, with their edges moved to
        an edge of the rollup's finer buckets); each keeps its first, last, minimum, maximum, mean and
        count, so a spike of a single row stays visible at any zoom. Of a key that several ranks logged, each
        bucket holds the rows of all of them.

        With `smoothing` all rows that count are smoothed first, whatever the range, ranks averaged step by step; then
        the smoothed rows are decimated. Of a key of more than four million rows the finest rollup buckets' means (of
        64 rows each) are smoothed instead, so that it needs no more memory.

        Args:
            key: metric name; an alias of it will do (`train/loss` finds `train_loss`).
            x: "step", "gradient_step", "tokens", "flops", "wallclock" (seconds since the run began, gaps between
                attempts left out), "elapsed" (gaps included; of a fork, since its parent began), "time" (Unix
                seconds), or another metric's name.
            points: buckets at the most, 1 to 100,000.
            start, end: only rows between these, in units of `x`.
            attempt: that attempt's rows, those that a later one hides included.
            smoothing: "ema:0.99" (or 0.99), "mean:50", "median:50" or "gaussian:20", windows in rows; None for none.

        Returns:
            Curve of float64 arrays, shape (n,) with n <= points, and the counts of rows and of those not finite.

        Raises:
            UnknownKey: the run never logged `key`; the message lists the nearest names.
            BadArgument: `points`, the range or the smoothing cannot be meant.
        """
        from lossbook.store.axes import CLOCKS, draw_on_axis
        from lossbook.store.curve import check_points
        from lossbook.store.smoothing import parse_smoothing

        points = check_points(points)
        smoothed = parse_smoothing(smoothing)
        if start is not None and end is not None and start > end:
            raise BadArgument(f"start={start} is beyond end={end}")
        sources = self._sources()
        found = self._key_in(sources, key) or self.find_key(key)
        axis = x if x == "step" or x in CLOCKS else self._key_in(sources, x) or self._missing_axis(x)
        return draw_on_axis(
            sources, found, axis, points=points, start=start, end=end, attempt=attempt, smoothing=smoothed
        )

    def _key_in(self, sources: list[Source], key: str) -> str | None:
        # The exact name first, because a run may have a hundred thousand keys.
        if any(source.rows.has(key) for source in sources):
            return key
        return find_key(key, set().union(*(source.rows.keys() for source in sources)))

    def _missing_axis(self, x: str) -> str:
        if x in AXES:
            raise UnknownKey(f"the run {self.name} logged nothing to draw against {x!r} with; draw it against step")
        return self.find_key(x)

    def history(
        self, keys: list[str] | str | None = None, start: int | None = None, end: int | None = None,
        ranks: bool = False, hidden: bool = False,
    ) -> Table:  # fmt: skip
        """Rows as a wide table: `step`, `time`, then a column for each key, sorted by step.

        Keys logged at the same step share a line; a key logged twice at a step has two lines.

        Args:
            keys: names or aliases; None for all.
            start, end: steps, both included.
            ranks: a column `rank`, and a line for each; otherwise shared keys are the mean over ranks.
            hidden: rows that a later attempt replaced as well, with a column `attempt`.

        Raises:
            UnknownKey: as `curve`.
        """
        from lossbook.store.sql import history_query
        from lossbook.store.table import Table

        wanted = [keys] if isinstance(keys, str) else keys
        found = self.keys() if wanted is None else [self.find_key(key) for key in wanted]
        query = history_query(self._sources(), found, start=start, end=end, ranks=ranks, hidden=hidden)
        return Table(self._book.connection().cursor(), query)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Rows that are no scalars (text, histogram, image, table, alert, checkpoint, note, ...) in order.

        Args:
            kind: only that kind.

        Returns:
            One dictionary each: row, step, time (Unix seconds), kind, key, rank, attempt, value.
        """
        from lossbook.store.events import read_events

        return read_events(self.rows(), self._book.connection().cursor(), kind)

    def place_events(self, events: list[dict[str, Any]], key: str, x: str = "step") -> NDArray[numpy.float64]:
        """Say where events of `events()` lie on the axis of `curve(key, x)`.

        Returns:
            Shape (n,), float64; NaN for an event whose place is not known, and for one of an attempt that a later one
            went back beyond.

        Raises:
            UnknownKey: as `curve`.
        """
        from lossbook.store.axes import CLOCKS, place_events

        sources = self._sources()
        found = self._key_in(sources, key) or self.find_key(key)
        axis = x if x == "step" or x in CLOCKS else self._key_in(sources, x) or self._missing_axis(x)
        return place_events(sources, found, axis, events)

    def problems(self) -> list[str]:
        """What is damaged or missing in the run's files, a sentence each; empty for a whole run."""
        from lossbook.store.summary import sealed_problems

        found = [*self.record["problems"], *sealed_problems(self.folder)]
        rows = self.rows()
        found += rows.problems()
        for journal_gap in _gaps(rows):
            found.append(journal_gap)
        parent = self._identity_or_nothing().get("parent")
        if parent and len(self._sources()) == 1:
            found.append(
                f"the run {parent['run']} that this one was forked from is not in the store; its rows are missing"
            )
        return list(dict.fromkeys(found))

    def _identity_or_nothing(self) -> dict[str, Any]:
        try:
            return self.identity
        except LossbookError:
            return {}

    def _seal_if_left(self) -> None:
        """Do the work of a follower that died, unless one lives or the store cannot be written."""
        if self.state == "running":
            return
        from lossbook.journal.reader import journal_segments

        if not journal_segments(self.folder.journal) or not os.access(self.path, os.W_OK):
            return
        from lossbook.layout import folder_lock
        from lossbook.store.segments import seal_run

        with folder_lock(self.folder, "seal", seconds=0.0) as held:
            if not held:
                return
        try:
            seal_run(self.folder, finished=True)
        except (LossbookError, OSError):
            pass

    def _sources(self) -> list[Source]:
        """This run and those that it was forked from, the oldest first."""
        from lossbook.store.axes import make_sources

        return make_sources(self.rows(), self._parent)

    def _parent(self, parent: dict[str, Any]) -> RunRows | None:
        """The rows of a run that another was forked from; None when it is not in this store."""
        from lossbook.layout import run_folder
        from lossbook.store.rows import RunRows

        try:
            folder = run_folder(self._book.store, str(parent["project"]), str(parent["run"]))
        except BadArgument:
            return None
        if not folder.exists():
            folder = next((one.folder for one in self._book.runs() if one.id == parent["run"]), folder)
        if not folder.exists():
            return None
        rows = RunRows(folder, self._book.connection().cursor())
        rows.refresh()
        return rows


def _gaps(rows: RunRows) -> list[str]:
    """Segments that are missing between the first and the last of a rank."""
    found = []
    by_rank: dict[int, list[Any]] = {}
    for segment in rows.segments:
        by_rank.setdefault(segment.name.rank, []).append(segment.name)
    for rank, names in by_rank.items():
        expected = 1
        for name in names:
            if name.first > expected:
                missing = str(expected) if name.first == expected + 1 else f"{expected} to {name.first - 1}"
                found.append(f"segment {missing} of rank {rank} is missing; everything else is read")
            expected = name.last + 1
    return found
