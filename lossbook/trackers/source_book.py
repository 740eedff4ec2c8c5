"""`SourceBook`: another tracker's runs with the reading interface of a store."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossbook.book import Book, RunList
from lossbook.errors import DamagedFile, LossbookError
from lossbook.paths import RunFolder, cache_folder, run_folders, write_json
from lossbook.reading import Changes, IndexEntry, Listing, RecordedRun, RunKey
from lossbook.trackers.ingest import import_rows, import_run, is_imported
from lossbook.trackers.source import ForeignRun, Rewritten, Source

if TYPE_CHECKING:
    from lossbook.reading import QueryResult
    from lossbook.storage import MetricTable, RunRows

#: What one look at a listing may spend on rows that are not here yet; one run is imported in any case.
_IMPORT_SECONDS = 0.5


class SourceBook(Book):
    """A book of a source: names and last values are read at once, rows when a question needs them.

    What was read is kept in the cache, and read on from there the next time.
    """

    def __init__(self, source: Source, *, memory_bytes: int | None = None) -> None:
        self.source = source
        digest = hashlib.sha256(os.fsencode(f"{source.kind} {source.address}")).hexdigest()[:16]
        store = os.path.join(cache_folder(), "sources", f"{source.kind}-{digest}")
        os.makedirs(store, exist_ok=True)
        self._foreign: dict[str, tuple[Source, ForeignRun]] = {}
        self._tried: set[str] = set()
        self._importing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by folder
        super().__init__(store, memory_bytes=memory_bytes)
        self.refresh()

    def refresh(self) -> None:
        """Ask the source again which runs it has."""
        found: dict[str, tuple[Source, ForeignRun]] = {}
        for source, run in self.source.runs_by_source():
            folder = import_run(self.store, source, run)
            found[os.path.realpath(folder.path)] = source, run
        for folder in list(run_folders(self.store)):
            if os.path.realpath(folder.path) not in found:
                # The source has it no more, and this is a cache of the source.
                shutil.rmtree(folder.path, ignore_errors=True)
        self._foreign = found
        self._tried = set()
        write_json(
            os.path.join(self.store, ".source.json"),
            {"kind": self.source.kind, "location": self.source.location},
            durable=False,
        )

    def import_run(self, path: str, progress: Callable[[int], None] | None = None) -> None:
        """Import the rows of the run in a folder of the cache that it does not have."""
        # Two threads that ask for one run at once import it once.
        with self._importing[os.path.realpath(path)]:
            known = self._foreign.get(os.path.realpath(path))
            folder = RunFolder(path)
            if known is None or is_imported(folder, known[1]):
                return
            source, run = known
            try:
                import_rows(folder, source, run, progress)
            except (Rewritten, DamagedFile):
                # A cache of what is no more, or one that was damaged: it is made anew.
                shutil.rmtree(path, ignore_errors=True)
                import_rows(import_run(self.store, source, run), source, run, progress)

    def is_imported(self, path: str) -> bool:
        """Whether the folder of the cache has every row of its run."""
        known = self._foreign.get(os.path.realpath(path))
        return known is None or is_imported(RunFolder(path), known[1])

    def _tells_last_values(self, path: str) -> bool:
        known = self._foreign.get(os.path.realpath(path))
        return known is None or known[0].tells_last_values

    def runs(
        self, project: str | None = None, where: str | None = None, sort: str | None = None, limit: int | None = None
    ) -> RunList:
        """As `Book.runs`; where the source does not say the last values, rows are imported before runs are selected."""
        if where or sort:
            for run in super().runs(project):
                if not self._tells_last_values(run.path):
                    self.import_run(run.path)
        return super().runs(project, where, sort, limit)

    def listing(self) -> Listing:
        """As `Book.listing`; where the source does not say the last values, each look imports the rows of some runs."""
        return SourceListing(self)

    @property
    def is_filled(self) -> bool:
        """Whether the last values of every run are known, as far as they can be read."""
        return self.source.tells_last_values or self._tried.issuperset(self._foreign)

    def import_some(self, seconds: float, *, steps: bool = False) -> list[str]:
        """Import runs of which not even the last values are known, the newest first, until the time is over.

        Args:
            steps: those as well of which the last step is not known.

        Returns:
            The folders of those that were imported; what cannot be read is tried again after `refresh()`.
        """
        begun = time.monotonic()
        imported: list[str] = []
        for path, (source, run) in sorted(self._foreign.items(), key=lambda pair: pair[1][1].created, reverse=True):
            is_known = source.tells_last_values and not (steps and "_step" not in run.summary)
            if path in self._tried or is_known or is_imported(RunFolder(path), run):
                if not is_known:
                    self._tried.add(path)
                continue
            if imported and time.monotonic() - begun > seconds:
                break
            self._tried.add(path)
            try:
                self.import_run(path)
            except (LossbookError, OSError):
                # Who asks of this run is told; the others are shown all the same.
                continue
            imported.append(path)
        return imported

    def sql(self, query: str, parameters: Sequence[object] | None = None) -> QueryResult:
        """As `Book.sql`; every run's rows are imported first."""
        for run in self.runs():
            self.import_run(run.path)
        return super().sql(query, parameters)

    def _recorded(self, entry: IndexEntry) -> RecordedRun:
        return SourceRun(self, entry)

    def __repr__(self) -> str:
        return f"<lossbook book of {self.source.location}>"


class SourceListing(Listing):
    """A live table of a source's runs; it fills while somebody looks."""

    def __init__(self, book: SourceBook) -> None:
        super().__init__(book.context)
        self._source_book = book

    def look(self, *, everything: bool = False) -> Changes:
        """As `Listing.look`; rows are imported for about half a second first, if some are missing."""
        for path in self._source_book.import_some(_IMPORT_SECONDS):
            project, id = path.rsplit("/", 2)[-2:]
            self.touch(RunKey(project, id))
        return super().look(everything=everything)

    def _is_filling(self) -> bool:
        return not self._source_book.is_filled


class SourceRun(RecordedRun):
    """A run of a source; its rows are imported when they are asked for."""

    def __init__(self, book: SourceBook, entry: IndexEntry) -> None:
        super().__init__(book.context, entry)
        self._source_book = book
        #: Whether the record was read after the rows were imported.
        self._whole = False

    @property
    def statistics(self) -> MetricTable:
        """As `RecordedRun.statistics`; imports the rows, because a source says the last values alone."""
        self._import()
        return super().statistics

    def rows(self) -> RunRows:
        self._import()
        return super().rows()

    def _import(self) -> None:
        if self._whole and self._source_book.is_imported(self.path):
            return
        self._source_book.import_run(self.path)
        self.refresh()
        self._whole = True
