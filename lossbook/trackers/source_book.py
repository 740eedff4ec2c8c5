"""`SourceBook`: another tracker's runs with the reading interface of a store."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossbook.book import Book
from lossbook.errors import DamagedFile, LossbookError
from lossbook.paths import RunFolder, cache_folder, run_folders, write_json
from lossbook.reading.index import Record
from lossbook.reading.listing import Changes, Listing, RunKey
from lossbook.reading.run import RecordedRun
from lossbook.trackers.ingest import bring_identity, bring_rows, is_brought
from lossbook.trackers.source import ForeignRun, Rewritten, Source

if TYPE_CHECKING:
    from lossbook.reading.query_result import QueryResult
    from lossbook.storage.series_reader import RunRows

#: What one look at a listing may spend on rows that are not here yet; one run is brought in any case.
_BRING_SECONDS = 0.5


class SourceBook(Book):
    """A book of a source: names and last values are read at once, rows when a question needs them.

    What was read is kept in the cache, and read on from there the next time.
    """

    def __init__(self, source: Source, *, memory_bytes: int | None = None) -> None:
        self.source = source
        digest = hashlib.sha256(os.fsencode(f"{source.kind} {source.address}")).hexdigest()[:16]
        store = os.path.join(cache_folder(), "sources", f"{source.kind}-{digest}")
        os.makedirs(store, exist_ok=True)
        self._foreign: dict[str, ForeignRun] = {}
        self._tried: set[str] = set()
        self._bringing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by folder
        super().__init__(store, memory_bytes=memory_bytes)
        self.refresh()

    def refresh(self) -> None:
        """Ask the source again which runs it has."""
        found: dict[str, ForeignRun] = {}
        for run in self.source.runs():
            folder = bring_identity(self.store, self.source, run)
            found[os.path.realpath(folder.path)] = run
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

    def bring(self, path: str, progress: Callable[[int], None] | None = None) -> None:
        """Bring the rows of the run in a folder of the cache, if there are any that it does not have."""
        # Two threads that ask of one run at once bring it once.
        with self._bringing[os.path.realpath(path)]:
            run = self._foreign.get(os.path.realpath(path))
            folder = RunFolder(path)
            if run is None or is_brought(folder, run):
                return
            try:
                bring_rows(folder, self.source, run, progress)
            except (Rewritten, DamagedFile):
                # A cache of what is no more, or one that was damaged: it is made anew.
                shutil.rmtree(path, ignore_errors=True)
                bring_rows(bring_identity(self.store, self.source, run), self.source, run, progress)

    def is_brought(self, path: str) -> bool:
        """Whether the folder of the cache has every row of its run."""
        run = self._foreign.get(os.path.realpath(path))
        return run is None or is_brought(RunFolder(path), run)

    def runs(
        self, project: str | None = None, where: str | None = None, sort: str | None = None, limit: int | None = None
    ) -> list[RecordedRun]:
        """As `Book.runs`; where the source does not say the last values, rows are brought before runs are sorted out."""
        if (where or sort) and not self.source.tells_last_values:
            for run in super().runs(project):
                self.bring(run.path)
        return super().runs(project, where, sort, limit)

    def listing(self) -> Listing:
        """As `Book.listing`; where the source does not say the last values, each look brings the rows of some runs."""
        return SourceListing(self)

    def bring_some(self, seconds: float) -> list[str]:
        """Bring runs of which not even the last values are known, the newest first, until the time is over.

        Returns:
            The folders of those that were brought; what cannot be read is tried again after `refresh()`.
        """
        if self.source.tells_last_values:
            return []
        begun = time.monotonic()
        brought: list[str] = []
        for path, run in sorted(self._foreign.items(), key=lambda pair: pair[1].created, reverse=True):
            if path in self._tried or is_brought(RunFolder(path), run):
                self._tried.add(path)
                continue
            if brought and time.monotonic() - begun > seconds:
                break
            self._tried.add(path)
            try:
                self.bring(path)
            except (LossbookError, OSError):
                # Who asks of this run is told; the others are shown all the same.
                continue
            brought.append(path)
        return brought

    def sql(self, query: str, parameters: list[Any] | None = None) -> QueryResult:
        """As `Book.sql`; every run's rows are brought first."""
        for run in self.runs():
            self.bring(run.path)
        return super().sql(query, parameters)

    def _recorded(self, record: Record) -> RecordedRun:
        return SourceRun(self, record)

    def __repr__(self) -> str:
        return f"<lossbook book of {self.source.location}>"


class SourceListing(Listing):
    """A live table of a source's runs; it fills while it is looked at."""

    def __init__(self, book: SourceBook) -> None:
        super().__init__(book.context)
        self._source_book = book

    def look(self, *, everything: bool = False) -> Changes:
        """As `Listing.look`; rows are brought for about half a second first, if some are missing."""
        for path in self._source_book.bring_some(_BRING_SECONDS):
            project, id = path.rsplit("/", 2)[-2:]
            self.touch(RunKey(project, id))
        return super().look(everything=everything)


class SourceRun(RecordedRun):
    """A run of a source; its rows are brought when they are asked for."""

    def __init__(self, book: SourceBook, record: Record) -> None:
        super().__init__(book.context, record)
        self._source_book = book
        #: Whether the record was read after the rows were brought.
        self._whole = False

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """As `RecordedRun.metrics`; brings the rows, because a source says the last values alone."""
        self._bring()
        return super().metrics

    def rows(self) -> RunRows:
        self._bring()
        return super().rows()

    def _bring(self) -> None:
        if self._whole and self._source_book.is_brought(self.path):
            return
        self._source_book.bring(self.path)
        self.refresh()
        self._whole = True
