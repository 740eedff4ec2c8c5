"""`Book`: the runs of a store, each a `RecordedRun`. Reads files only: no server, no lock, nothing written."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, SupportsIndex, overload

from lossbook.errors import StoreError, UnknownRun
from lossbook.lazy import shown_by
from lossbook.metrics import nearest
from lossbook.paths import RunFolder, default_store
from lossbook.reading import (
    IndexEntry,
    ReadContext,
    RecordedRun,
    RunCache,
    read_index,
    share_memory,
)

if TYPE_CHECKING:
    import duckdb

    from lossbook.analysis import Comparison, SeedTable
    from lossbook.reading import Listing, QueryResult

#: So long `init()` in another thread may take to make the folder of the store.
APPEARS_SECONDS = 1.0


def open(store: str | os.PathLike[str] | None = None, *, memory_bytes: int | None = None) -> Book:
    """Open a store for reading.

    Args:
        store: a folder; default `LOSSBOOK_STORE`, else `./lossbook-runs`.
        memory_bytes: as `Book`.

    Raises:
        StoreError: there is no such folder, or it cannot be read.
    """
    return Book(store, memory_bytes=memory_bytes)


class RunList(list[RecordedRun]):
    """Runs, as a list; a notebook shows them as a table.

    Attributes:
        remarks: what the one who asked should know, a sentence each: a name that no run has yet, while one goes on.
        unreadable: projects and runs of the store that may not be read, a sentence each.
    """

    def __init__(
        self, runs: Iterable[RecordedRun] = (), remarks: Sequence[str] = (), unreadable: Sequence[str] = ()
    ) -> None:
        super().__init__(runs)
        self.remarks = tuple(remarks)
        self.unreadable = tuple(unreadable)

    @overload
    def __getitem__(self, place: SupportsIndex) -> RecordedRun: ...

    @overload
    def __getitem__(self, place: slice) -> RunList: ...

    def __getitem__(self, place: SupportsIndex | slice) -> RecordedRun | RunList:
        return RunList(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    _repr_html_ = shown_by("runs_html")


class Book:
    """All runs of a store. Every call looks at the files anew, so running runs are seen as they are.

    A book and its runs may be asked from several threads at once; what `sql` and `history` give, from one each.

    Args:
        store: a folder; default `LOSSBOOK_STORE`, else `./lossbook-runs`.
        memory_bytes: what the book may keep and use while it reads, libraries not counted: arrays of all its runs
            together, the reading state of its kept runs, and DuckDB's own memory, file blocks included; 32 MB at least.
            None: 4 GB for DuckDB (a history of a hundred million rows is sorted), a quarter of a gigabyte for the rest.

    Raises:
        StoreError: there is no such folder, or it cannot be read.
        BadArgument: `memory_bytes` is too little.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None, *, memory_bytes: int | None = None) -> None:
        named = os.fspath(store) if store is not None else default_store()
        self.store = os.path.abspath(named.removeprefix("file://"))
        if "://" in self.store.replace(":/", "://", 1) and "://" in named and not named.startswith("file://"):
            raise StoreError(f"the store {named!r} cannot be read here: copy it to a folder first")
        if not os.path.isdir(self.store) and not _appears(self.store):
            raise StoreError(
                f"there is no store at {named}: name one with --store or LOSSBOOK_STORE, or train a run first"
            )
        try:
            with os.scandir(self.store):
                pass
        except OSError as error:
            raise StoreError(f"the store {named} cannot be read ({error.strerror}); check who owns it") from None
        self._limits = share_memory(memory_bytes)
        self.context = ReadContext(
            self.store, arrays_bytes=self._limits.arrays_bytes, duckdb_memory=self._limits.duckdb
        )
        self._run_cache = RunCache(self.store, self._make_run, self._limits.runs_bytes)

    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB that this book reads with; made when it is first needed. A cursor of it is for one thread."""
        return self.context.connection()

    def close(self) -> None:
        """Let go of everything that is kept between questions; the next question reads it again."""
        self._run_cache.clear()
        self.context.close()

    def projects(self) -> list[str]:
        """The names of all projects, sorted."""
        return sorted({entry.record.project for entry in read_index(self.store)})

    def runs(
        self, project: str | None = None, where: str | None = None, sort: str | None = None, limit: int | None = None
    ) -> RunList:
        """Runs that fit, the newest first unless sorted otherwise.

        Args:
            project: only that project's.
            where: an expression such as `config.lr > 1e-4 and state = 'finished'` (see `lossbook.reading.where`).
            sort: a name as in `where`: ascending, or descending with `-` before it; runs without it come last.
            limit: so many at the most.

        Raises:
            StoreError: the store is not there any more, or cannot be read.
            BadQuery: `where` cannot be understood; or none of the runs (of the project) has a name in it or in `sort`, and
                none goes on.
        """
        test = None
        if where:
            from lossbook.reading import compile_where

            test = compile_where(where)
        unreadable: list[str] = []
        entries = read_index(self.store, unreadable)
        if project is not None:
            entries = [entry for entry in entries if entry.record.project == project]
        remarks: list[str] = []
        records = [entry.record for entry in entries] if test is not None or sort else []
        if test is not None:
            remarks += test.verify(records)
            test.learn(records)
            entries = [entry for entry in entries if test(entry.record)]
        if sort:
            from lossbook.reading import bare, refuse_unknown

            name = bare(sort.strip().lstrip("+-"))
            if name != "path" and (remark := refuse_unknown(name, records, "sort")) is not None:
                remarks.append(remark)
            entries = _sorted(entries, name, descending=sort.strip().startswith("-"))
        chosen = entries[: limit if limit is not None else len(entries)]
        return RunList(map(self._recorded, chosen), remarks, unreadable)

    def run(self, ref: str = "latest", project: str | None = None) -> RecordedRun:
        """One run, by id, name or a unique beginning of either; "latest" is the one begun last.

        Raises:
            UnknownRun: none answers to `ref`, or several do; the message names them.
        """
        unreadable: list[str] = []
        entries = read_index(self.store, unreadable)
        try:
            if project is not None:
                entries = [entry for entry in entries if entry.record.project == project]
                if not entries:
                    known = ", ".join(self.projects()) or "none"
                    raise UnknownRun(f"there is no project {project!r} in {self.store}; it has {known}")
            if not entries:
                raise UnknownRun(f"there is no run in {self.store} yet")
            return self._recorded(_find(entries, str(ref), self.store))
        except UnknownRun as error:
            if not unreadable:
                raise
            more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
            raise UnknownRun(f"{error}; {unreadable[0]}{more}") from None

    def kept_run(self, project: str, id: str) -> RecordedRun:
        """One run by its project and id: the same object each time, so that what it has read is not read again.

        Its state, configuration and last values are those of its files now, of a running run at most a second old. The
        runs asked for last are kept, within the book's memory.

        Args:
            project: its name, or its folder's.
            id: the name of the run's folder.

        Raises:
            UnknownRun: there is no such run.
        """
        return self._run_cache.get(project, id)

    def listing(self) -> Listing:
        """A live table of all runs, which knows what changed since the last look; see `Listing`."""
        from lossbook.reading import Listing

        return Listing(self.context)

    def compare(
        self,
        runs: Sequence[RecordedRun | str] | None = None,
        *,
        project: str | None = None,
        where: str | None = None,
        limit: int | None = None,
        metric: str | None = None,
        losses: Sequence[float] = (),
        columns: Sequence[str] = (),
        baseline: RecordedRun | str | None = None,
        sort: str | None = None,
        goal: str | None = None,
    ) -> Comparison:
        """Hold runs side by side: the configuration that differs, losses, throughput and time; the best first.

        Args:
            runs: these, or what answers to these names; None for all that fit `project` and `where`.
            limit: the newest so many at the most, where no runs are named.
            metric, losses, columns, baseline, sort, goal: see `lossbook.analysis.compare_runs`.

        Raises:
            UnknownRun, UnknownKey, BadArgument, BadQuery: something that was named is not there or cannot be meant.
        """
        from lossbook.analysis import compare_runs

        chosen = self._named(runs, project) if runs is not None else self.runs(project, where, limit=limit)
        held = self._named([baseline], project)[0] if baseline is not None else None
        return compare_runs(chosen, metric=metric, losses=losses, columns=columns, baseline=held, sort=sort, goal=goal)

    def best(
        self,
        metric: str = "val/loss",
        *,
        project: str | None = None,
        where: str | None = None,
        runs: Sequence[RecordedRun | str] | None = None,
        goal: str | None = None,
    ) -> tuple[RecordedRun, float]:
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
        from lossbook.analysis import best_run

        return best_run(self._named(runs, project) if runs is not None else self.runs(project, where), metric, goal)

    def seeds(
        self,
        metric: str = "val/loss",
        *,
        project: str | None = None,
        where: str | None = None,
        by: str | Sequence[str] | None = None,
        ignore: Iterable[str] = (),
        value: str = "last",
        goal: str | None = None,
        confidence: float = 0.95,
    ) -> SeedTable:
        """Summarize a metric over groups of runs that differ in their seed alone: mean, spread, interval; the best first.

        Args:
            project, where: only runs that fit, as `runs`.
            by, ignore: what makes a group: these names alone; or all settings but these, seeds, places and names.
            value: "last", "best", "min", "max" or "mean" of each run, over all its rows.
            goal: "minimize" or "maximize", where that is not known.
            confidence: of the bootstrap intervals.

        Raises:
            UnknownRun: no run fits.
            UnknownKey: none has the metric.
            BadArgument, BadQuery: something that was named is not there or cannot be meant.
        """
        from lossbook.analysis import seed_table

        chosen = self.runs(project, where)
        return seed_table(chosen, metric, by=by, ignore=ignore, value=value, goal=goal, confidence=confidence)

    def _named(self, runs: Sequence[RecordedRun | str], project: str | None) -> list[RecordedRun]:
        return [self.run(run, project) if isinstance(run, str) else run for run in runs]

    def sql(self, query: str, parameters: Sequence[object] | None = None) -> QueryResult:
        """Ask SQL (DuckDB's) of all runs: views `metrics`, `all_metrics` (with hidden rows), `runs`, `events` and `seeds`.

        Raises:
            BadQuery: the query cannot be run; the message is DuckDB's first sentence.
        """
        from lossbook.reading import query_runs

        return query_runs(self.context.cursor(), query, self.runs(), parameters, {"seeds": _make_seeds_view})

    def _recorded(self, entry: IndexEntry) -> RecordedRun:
        """A run of this book; a book of another tracker's runs makes them otherwise."""
        return RecordedRun(self.context, entry)

    def _make_run(self, folder: RunFolder) -> RecordedRun:
        """A run of which nothing was read yet."""
        return self._recorded(IndexEntry(folder.path, 0, 0, "", b"{}"))

    _repr_html_ = shown_by("book_html")

    def __repr__(self) -> str:
        return f"<lossbook book of {self.store}>"


def _make_seeds_view(connection: duckdb.DuckDBPyConnection, runs: Sequence[RecordedRun]) -> None:
    from lossbook.analysis import make_seeds_view

    make_seeds_view(connection, runs)


def _appears(store: str) -> bool:
    """Whether a store that is not there is begun in a moment, by another thread of this process that is in `init()`."""
    if threading.active_count() > 1 and "lossbook.run" in sys.modules:
        until = time.monotonic() + APPEARS_SECONDS
        while not os.path.isdir(store) and time.monotonic() < until:
            time.sleep(0.01)
    return os.path.isdir(store)


def _sorted(entries: list[IndexEntry], name: str, *, descending: bool) -> list[IndexEntry]:
    from lossbook.reading import lookup, sorted_places

    value_of = lookup(name)
    values = [entry.path if name == "path" else value_of(entry.record) for entry in entries]
    return [entries[at] for at in sorted_places(values, descending=descending)]


def _find(entries: list[IndexEntry], ref: str, store: str) -> IndexEntry:
    if ref == "latest":
        return entries[0]
    for matches in (
        [entry for entry in entries if os.path.basename(entry.path) == ref],
        [entry for entry in entries if entry.record.id == ref],
        [entry for entry in entries if entry.record.name == ref],
        [entry for entry in entries if any(text.startswith(ref) for text in _names(entry))] if ref else [],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = ", ".join(f"{entry.record.id} ({entry.record.name})" for entry in matches[:8])
            more = f" and {len(matches) - 8} more" if len(matches) > 8 else ""
            raise UnknownRun(f"{len(matches)} runs answer to {ref!r}: {listed}{more}; name one by its id")
    close = nearest(ref, {text for entry in entries for text in _names(entry)})
    hint = f"; the nearest are {', '.join(close)}" if close else ""
    raise UnknownRun(f"there is no run {ref!r} in {store}{hint}; `lossbook ls` lists them")


def _names(entry: IndexEntry) -> tuple[str, str]:
    return entry.record.id, entry.record.name
