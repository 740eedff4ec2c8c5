"""`RecordedRun`: one run as it stands in its folder, and the questions about its rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lossbook.errors import BadArgument, LossbookError, StoreError, UnknownKey
from lossbook.json_shapes import object_or_empty
from lossbook.lazy import shown_by
from lossbook.metrics import AXES, find_key, goal_of, nearest
from lossbook.paths import RunFolder, SegmentName
from lossbook.reading.index import IndexEntry
from lossbook.reading.record import IndexRecord, read_record
from lossbook.run_info import Attempt, Parent, RunInfo, load_run_info, parse_run_info, read_run_info
from lossbook.storage import FilesReplaced

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from lossbook.curves import Curve, Matrix, Smoothing, Source
    from lossbook.reading.context import ReadContext
    from lossbook.reading.query_result import QueryResult
    from lossbook.storage import LiveSummary, MetricTable, RunRows

Answer = TypeVar("Answer")
#: A run's files are merged while it is read so many times in a row at the most.
_MOST_TRIES = 20


class RecordedRun:
    """One run, as it stands in its folder."""

    def __init__(self, context: ReadContext, entry: IndexEntry) -> None:
        self._context = context
        self._entry = entry
        self._rows: RunRows | None = None
        self._is_whole = True
        #: Of a running run that is asked for again and again.
        self._live: LiveSummary | None = None
        #: Rows of the runs that it was forked from, by folder.
        self._parents: dict[str, RunRows] = {}
        self._lock = threading.Lock()

    # -- what is known of it ----------------------------------------------------------------------------------------

    @property
    def record(self) -> IndexRecord:
        """All that the index knows, as `where` sees it."""
        return self._entry.record

    @property
    def folder(self) -> RunFolder:
        """The paths of the run's files."""
        return self._entry.folder

    @property
    def path(self) -> str:
        """The run's folder."""
        return self._entry.path

    @property
    def id(self) -> str:
        """The run's folder name, unique in its project."""
        return self.record.id

    @property
    def name(self) -> str:
        """What people call it; several runs may have one name."""
        return self.record.name

    @property
    def project(self) -> str:
        """The project it belongs to, as it was given."""
        return self.record.project

    @property
    def state(self) -> str:
        """running, finished, failed, interrupted, killed, preempted or crashed."""
        return self.record.state

    @property
    def error(self) -> str | None:
        """What went wrong, where something did."""
        return self.record.error

    @property
    def config(self) -> dict[str, Any]:
        """What was run: the configuration of `init()` with the changes made since."""
        return self.record.config

    @property
    def summary(self) -> dict[str, Any]:
        """What the training code set in `run.summary`."""
        from lossbook.reading.names import plain_number

        return {key: plain_number(value) for key, value in self.record.summary.items()}

    @property
    def statistics(self) -> MetricTable:
        """The same as `metrics`, typed; one is parsed when it is asked for."""
        return self.record.metrics

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Per key: last, last_step, min, min_step, max, max_step, mean, count, nonfinite."""
        from lossbook.reading.names import plain_number

        return {
            key: {name: plain_number(value) for name, value in object_or_empty(one).items()}
            for key, one in self.statistics.to_json().items()
        }

    @property
    def tags(self) -> list[str]:
        """Words to find it by."""
        return list(self.record.tags)

    @property
    def group(self) -> str | None:
        """What it belongs to, where that was said."""
        return self.record.group

    @property
    def notes(self) -> str | None:
        """What was noted about it as a whole."""
        return self.record.notes

    @property
    def created(self) -> float:
        """Unix seconds."""
        return self.record.created

    @property
    def ended(self) -> float | None:
        """Unix seconds; None while it runs."""
        return self.record.ended

    @property
    def duration(self) -> float:
        """Seconds that its attempts ran, without the time between them; until now while it runs."""
        return self.record.duration

    @property
    def info(self) -> RunInfo:
        """`run.json` as it is now; what in it has not the type that it should have is left out.

        Raises:
            DamagedFile, StoreError: it cannot be read.
        """
        return load_run_info(self.folder) or parse_run_info({}, self.folder)[0]

    @property
    def known_info(self) -> RunInfo:
        """As `info`; where `run.json` cannot be read, what the run's folder tells."""
        return read_run_info(self.folder)[0]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The processes that wrote the run, in order; none where `run.json` is damaged."""
        return self.known_info.attempts

    def goal(self, key: str) -> str | None:
        """Which way is better for a metric: "minimize", "maximize", or None."""
        return goal_of(key, self.record.define)

    def refresh(self) -> RecordedRun:
        """Read state, configuration and summary again."""
        live = self._live or self._context.live_summary(self.folder)
        record, _, parents, stamp, self._is_whole = read_record(self.folder, live)
        self._live = live if record.state == "running" else None
        self._entry = IndexEntry(
            self.path,
            0,
            record.created_us,
            record.state,
            record.to_text(),
            record,
            parents=parents,
            parents_stamp=stamp,
        )
        return self

    @property
    def is_current(self) -> bool:
        """Whether the record may be kept until the run's folder changes: not that of a fork whose parents changed, nor one
        of which something could not be read."""
        return self._is_whole and self._entry.is_of_its_parents

    @property
    def store(self) -> str:
        """The folder of the store that it is in."""
        return self._context.store

    _repr_html_ = shown_by("run_html")

    def __repr__(self) -> str:
        return f"<lossbook recorded run {self.name} ({self.id}), {self.state}>"

    # -- its rows ---------------------------------------------------------------------------------------------------

    def rows(self) -> RunRows:
        """The run's rows, as they stand now."""
        with self._lock:
            if self._rows is None:
                self._rows = self._make_rows(self.folder)
        self._rows.refresh()
        return self._rows

    def _make_rows(self, folder: RunFolder) -> RunRows:
        from lossbook.storage import RunRows

        return RunRows(folder, self._context.cursor(), self._context.arrays)

    def kept_bytes(self) -> int:
        """What it keeps in memory between questions, about, arrays left out."""
        rows = [self._rows, *self._parents.values()]
        # A parsed record takes about eight times its text.
        known = 8 * len(self._entry.text) + (self._live.kept_bytes if self._live is not None else 0)
        return known + sum(one.kept_bytes() for one in rows if one is not None)

    def consistently(self, question: Callable[[], Answer]) -> Answer:
        """Ask a question about the run's rows, and again when a file was merged into another while it was read.

        Raises:
            StoreError: a file cannot be read, for another reason than that it has gone.
        """
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                return question()
            except (FilesReplaced, FileNotFoundError):
                if not tries_left:
                    raise
            except OSError as error:
                if isinstance(error, LossbookError):
                    raise
                name = error.filename if isinstance(error.filename, str) else f"a file of {self.path}"
                raise StoreError(
                    f"{name} cannot be read ({error.strerror or error}); check the disk, and ask again"
                ) from error
        raise AssertionError("not reached")

    def keys(self) -> list[str]:
        """Every metric that was logged, its parent's included, sorted."""
        return sorted(self.consistently(lambda: set[str]().union(*(source.rows.keys() for source in self.sources()))))

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
        self,
        key: str,
        x: str = "step",
        points: int = 1000,
        start: float | None = None,
        end: float | None = None,
        attempt: int | None = None,
        smoothing: str | float | Smoothing | None = None,
    ) -> Curve:
        """Decimate one series for drawing, keeping every extreme.

        Rows are split into at most `points` buckets of equal width on `x` (in a long run, with their edges moved to
        an edge of the rollup's finer buckets); each keeps its first, last, minimum, maximum, mean and
        count, so a spike of a single row stays visible at any zoom. Of a key that several ranks logged, each
        bucket holds the rows of all of them.

        With `smoothing` all rows that count are smoothed first, whatever the range, ranks averaged step by step; then
        the smoothed rows are decimated. Of a key of more than four million rows (of 200,000, for an EMA that
        remembers 64 rows or more) the finest rollup buckets' means, of 64 rows each, are smoothed instead.

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
        from lossbook.curves import CLOCKS, check_points, draw_on_axis, level_for, parse_smoothing
        from lossbook.storage import TOP_LEVEL

        points = check_points(points)
        smoothed = parse_smoothing(smoothing)
        if start is not None and end is not None and start > end:
            raise BadArgument(f"start={start} is beyond end={end}")

        def drawn() -> Curve:
            sources = self.sources()
            if start is None and end is None and smoothed is None:
                for one, fineness in ((key, points), (x, max(points, 1000))):
                    known = self.record.metrics.get(one)
                    # Only a guess: the run may have gone on, and a parent's rows are not counted.
                    if known is not None and known.count:
                        sources[-1].rows.read_ahead(one, level_for(known.count, fineness) or TOP_LEVEL)
            found = self._key_in(sources, key) or self.find_key(key)
            axis = x if x == "step" or x in CLOCKS else self._key_in(sources, x) or self._missing_axis(x)
            return draw_on_axis(
                sources, found, axis, points=points, start=start, end=end, attempt=attempt, smoothing=smoothed
            )

        return self.consistently(drawn)

    def matrix(
        self,
        keys: Sequence[str],
        x: str = "step",
        columns: int = 200,
        start: float | None = None,
        end: float | None = None,
    ) -> Matrix:
        """Draw many series as a heat map: for each cell the mean, minimum, maximum and counts of its rows.

        One pass over the run's rows, whatever the number of keys; rows count as in `curve`. Up to twenty million rows
        are put into their cells one by one; of more, rollup buckets where they are far finer than a cell.

        Args:
            keys: exact names (`lossbook.curves.layers` finds those that belong together), 20,000 at the most.
            x: as in `curve`; an axis that goes back cannot be drawn so.
            columns: cells of each series, 1 to 2,000.
            start, end: only rows between these, in units of `x`.

        Returns:
            Matrix of arrays of shape (keys, columns).

        Raises:
            UnknownKey: the run never logged one of the keys.
            BadArgument: too many cells, or a range or axis that cannot be meant.
        """
        from lossbook.curves import CLOCKS, draw_matrix

        def drawn() -> Matrix:
            sources = self.sources()
            axis = x if x == "step" or x in CLOCKS else self._key_in(sources, x) or self._missing_axis(x)
            connection = self._context.cursor()
            return draw_matrix(sources, keys, axis=axis, columns=columns, start=start, end=end, connection=connection)

        return self.consistently(drawn)

    def _key_in(self, sources: list[Source], key: str) -> str | None:
        # The exact name first, because a run may have a hundred thousand keys.
        if any(source.rows.has(key) for source in sources):
            return key
        return find_key(key, set().union(*(source.rows.keys() for source in sources)))

    def _missing_axis(self, x: str) -> str:
        if x in AXES:
            raise UnknownKey(f"the run {self.name} logged nothing to draw against {x!r} with; draw it against step")
        try:
            return self.find_key(x)
        except UnknownKey:
            from lossbook.curves import CLOCKS

            close = nearest(x, {"step", *CLOCKS, *AXES, *self.keys()})
            raise UnknownKey(
                f"the run {self.name} never logged {x!r}, and there is no axis of that name"
                + (f"; the nearest are {', '.join(close)}" if close else "; draw it against step")
            ) from None

    def history(
        self,
        keys: list[str] | str | None = None,
        start: int | None = None,
        end: int | None = None,
        ranks: bool = False,
        hidden: bool = False,
    ) -> QueryResult:
        """Rows as a wide table: `step`, `time`, then a column for each key, sorted by step.

        Keys logged at the same step share a line; a key logged twice at a step has two lines. A key that is called like
        one of the table's own columns (`step`, `time`, `rank`, `attempt`) is `metric/step` there.

        Args:
            keys: names or aliases; None for all.
            start, end: steps, both included.
            ranks: a column `rank`, and a line for each; otherwise shared keys are the mean over ranks.
            hidden: rows that a later attempt replaced as well, with a column `attempt`.

        Raises:
            UnknownKey: as `curve`.
        """
        from lossbook.reading.history import history_query

        wanted = [keys] if isinstance(keys, str) else keys
        found = self.keys() if wanted is None else [self.find_key(key) for key in wanted]
        return self._query(
            lambda: history_query(self.sources(), found, start=start, end=end, ranks=ranks, hidden=hidden)
        )

    def query_history(self, keys: Sequence[str], select: str) -> QueryResult:
        """Ask SQL of this run's history: `select` over a view `history` as `history(keys)` gives it.

        Args:
            keys: exact names, as `keys()` has them.
            select: what to select, such as `max("gpu/0/memory")`.
        """
        from lossbook.reading.history import history_query

        def write() -> str:
            lines = history_query(self.sources(), list(keys), start=None, end=None, ranks=False, hidden=False)
            return f"SELECT {select} FROM ({lines}) AS history"

        return self._query(write)

    def _query(self, write: Callable[[], str]) -> QueryResult:
        """A query over the run's files, written anew where they were replaced before its rows are asked for."""
        from lossbook.reading.query_result import QueryResult

        query = self.consistently(write)

        def renew() -> str | None:
            nonlocal query
            fresh = self.consistently(write)
            if fresh == query and self.consistently(self.find_damage):
                fresh = self.consistently(write)
            if fresh == query:
                return None
            query = fresh
            return query

        return QueryResult(self._context.cursor(), query, renew=renew)

    def find_damage(self) -> bool:
        """Decode every sealed file of scalars, its parents' too; says whether one cannot be, which is left out from now on."""
        damaged = [source for source in self.sources() if source.rows.find_damage()]
        return bool(damaged)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Rows that are no scalars (text, histogram, image, table, alert, checkpoint, note, ...) in order.

        Args:
            kind: only that kind.

        Returns:
            One dictionary each: row, step, time (Unix seconds), kind, key, rank, attempt, value.
        """
        from lossbook.reading.events import read_events

        return self.consistently(lambda: read_events(self.rows(), self._context.cursor(), kind))

    def place_events(self, events: list[dict[str, Any]], key: str, x: str = "step") -> NDArray[numpy.float64]:
        """Say where events of `events()` lie on the axis of `curve(key, x)`.

        Returns:
            Shape (n,), float64; NaN for an event whose place is not known, and for one of an attempt that a later one
            went back beyond.

        Raises:
            UnknownKey: as `curve`.
        """
        from lossbook.curves import CLOCKS, place_events

        def placed() -> NDArray[numpy.float64]:
            sources = self.sources()
            found = self._key_in(sources, key) or self.find_key(key)
            axis = x if x == "step" or x in CLOCKS else self._key_in(sources, x) or self._missing_axis(x)
            return place_events(
                sources,
                found,
                axis,
                steps=[event["step"] for event in events],
                seconds=[event["time"] for event in events],
                attempts=[int(event["attempt"]) for event in events],
            )

        return self.consistently(placed)

    def problems(self) -> list[str]:
        """What is damaged or missing in the run's files, a sentence each; empty for a whole run."""
        from lossbook.storage import sealed_problems

        found = [*self.record.problems, *sealed_problems(self.folder)]
        rows = self.rows()
        found += rows.problems()
        for journal_gap in _gaps(rows):
            found.append(journal_gap)
        parent = self.known_info.parent
        if parent is not None and len(self.sources()) == 1:
            found.append(
                f"the run {parent.run} that this one was forked from is not in the store (a run that was recorded under "
                "its id later on is another); its rows are missing"
            )
        return list(dict.fromkeys(found))

    def sources(self) -> list[Source]:
        """This run and those that it was forked from, the oldest first."""

        from lossbook.curves import make_sources

        return make_sources(self.rows(), self._rows_of_parent)

    def _rows_of_parent(self, parent: Parent) -> RunRows | None:
        """The rows of a run that another was forked from; None when it is not in this store."""
        from lossbook.storage import find_parent

        folder = find_parent(self._context.store, parent)
        if folder is None:
            return None
        with self._lock:
            rows = self._parents.get(folder.path)
            if rows is None:
                rows = self._parents[folder.path] = self._make_rows(folder)
        rows.refresh()
        return rows


def _gaps(rows: RunRows) -> list[str]:
    """Segments that are missing between the first and the last of a rank."""
    found = []
    by_rank: dict[int, list[SegmentName]] = {}
    for segment in rows.segments:
        by_rank.setdefault(segment.name.rank, []).append(segment.name)
    for rank, names in by_rank.items():
        expected = 1
        for name in names:
            if name.first > expected:
                missing = str(expected) if name.first == expected + 1 else f"{expected} to {name.first - 1}"
                found.append(f"segment {missing} of rank {rank} is missing; everything else is read")
            expected = max(expected, name.last + 1)
    return found
