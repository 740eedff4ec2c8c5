"""`Session`: the book, and what is kept of it between two questions. Every method may be called from any thread.

Nothing is done while nobody asks: there is no thread that polls. A question brings the listing up to date when the last
look is old enough; a look that takes long is taken less often, so that all of them cost a small share of one core.
Curves are not bound to that: they read a running run's journal on whenever they are drawn.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lossbook.errors import LossbookError, UnknownRun
from lossbook.trackers import SourceBook
from lossbook.web.schemas import RunRow

if TYPE_CHECKING:
    from lossbook.book import Book
    from lossbook.reading import IndexRecord, Listing, RunKey
from lossbook.reading import RecordedRun

#: The listing is not looked at again sooner than that,
LOOK_PAUSE_SECONDS = 0.25
#: another tracker is not asked again sooner than that,
ASK_PAUSE_SECONDS = 10.0
#: and neither sooner than so many times what the last look took.
PAUSE_FACTOR = 20.0
#: Threads that draw curves; DuckDB and NumPy let go of the interpreter's lock while they work.
DRAWERS = 3


class Session:
    """What the functions of `lossbook.web.api` read with.

    Args:
        book: a store, or another tracker's runs.
        editable: whether names, notes and tags may be changed.

    Attributes:
        epoch: tells this session's revisions from those of a server before it.
        drawers: threads for the parts of one answer; what runs in one must not wait for another.
    """

    def __init__(self, book: Book, *, editable: bool = False) -> None:
        self.book = book
        self.editable = editable
        self.epoch = os.urandom(4).hex()
        self.drawers = ThreadPoolExecutor(DRAWERS, thread_name_prefix="lossbook-draw")
        self._listing: Listing | None = None
        self._beginning = threading.Lock()
        self._looks = _Throttle(LOOK_PAUSE_SECONDS)
        self._asks = _Throttle(ASK_PAUSE_SECONDS)
        self._rows: dict[RunKey, RunRow] = {}
        self._rows_revision = 0
        self._rows_lock = threading.Lock()

    def warm(self) -> None:
        """Read what the first question will need: libraries, the index, the table."""
        import duckdb  # noqa: F401
        import numpy  # noqa: F401

        try:
            self.rows(self.listing().keys())
            self.book.connection()
        except (LossbookError, OSError):
            # Whoever asks for it is told why.
            pass

    # -- the table --------------------------------------------------------------------------------------------------

    def listing(self) -> Listing:
        """The table of runs, brought up to date if that is due."""
        listing = self._listing
        if listing is None:
            with self._beginning:
                if self._listing is None:
                    begun = self.book.listing()
                    begun.look()
                    self._listing = begun
                return self._listing
        if isinstance(self.book, SourceBook):
            # Another tracker may take long to answer; until it has, what is known is told.
            self._asks.begin(self.book.refresh, self.drawers)
        self._looks.run(listing.look)
        return listing

    def project_keys(self, project: str) -> list[RunKey]:
        """The runs of a project, the newest first.

        Raises:
            UnknownRun: there is no such project.
        """
        listing = self.listing()
        keys = listing.keys(project)
        if not keys:
            known = ", ".join(sorted(listing.projects())[:20]) or "none yet"
            raise UnknownRun(f"there is no project {project!r} in {self.book.store}; it has {known}")
        return keys

    def rows(self, keys: Sequence[RunKey]) -> list[RunRow]:
        """Lines of the table; a run that went away in this moment has none."""
        listing = self.listing()
        with self._rows_lock:
            changes = listing.changes_since(self._rows_revision)
            if changes.whole:
                self._rows.clear()
            for key in (*changes.added, *changes.changed, *changes.removed):
                self._rows.pop(key, None)
            self._rows_revision = changes.revision
            # A running run grows older with the clock alone.
            stale = [key for key in keys if (row := self._rows.get(key)) is None or row.state == "running"]
            if stale:
                for key, record in zip(stale, listing.records(stale), strict=True):
                    if record is not None:
                        self._rows[key] = row_of(record)
            return [row for row in map(self._rows.get, keys) if row is not None]

    def touch(self, project: str, id: str) -> None:
        """Have this run looked at before the next answer: it was changed just now."""
        listing = self.listing()
        for key in listing.keys(project):
            if key.id == id:
                listing.touch(key)
        self._looks.hurry()

    # -- runs -------------------------------------------------------------------------------------------------------

    def run(self, project: str, id: str) -> RecordedRun:
        """One run; what was read of it is kept for the next question.

        Raises:
            UnknownRun: there is no such run.
        """
        return self.book.kept_run(project, id)

    def close(self) -> None:
        """End the threads that draw, when each has drawn what it is at."""
        self.drawers.shutdown(wait=False, cancel_futures=True)


def row_of(record: IndexRecord) -> RunRow:
    """A line of the table from what the index knows of a run (`RecordedRun.record`, `Listing.record`)."""
    return RunRow(
        id=record.id,
        name=record.name,
        state=record.state,
        created=record.created,
        duration=record.duration,
        last_step=record.last_step,
        tags=record.tags,
        group=record.group,
        notes=record.notes,
        attempts=record.attempts,
        alerts=record.alerts,
        host=record.host,
        user=record.user,
        error=record.error,
    )


class _Throttle:
    """Does something when it is asked to, by one thread at a time, and no more often than its cost allows."""

    def __init__(self, pause_seconds: float) -> None:
        self._shortest_seconds = self._pause_seconds = pause_seconds
        self._ended = time.monotonic()
        self._hurried = False
        self._lock = threading.Lock()

    def run(self, work: Callable[[], object]) -> None:
        """Do it now if it is due and nobody is at it; whoever comes meanwhile goes on without."""
        if not self._is_due() or not self._lock.acquire(blocking=False):
            return
        begun, self._hurried = time.monotonic(), False
        try:
            work()
        finally:
            self._finish(begun)

    def begin(self, work: Callable[[], object], threads: ThreadPoolExecutor) -> None:
        """As `run`, by another thread; what it raises is left for the question that runs into it itself."""
        if not self._is_due() or not self._lock.acquire(blocking=False):
            return
        begun, self._hurried = time.monotonic(), False

        def quietly() -> None:
            try:
                work()
            except (LossbookError, OSError):
                pass
            finally:
                self._finish(begun)

        try:
            threads.submit(quietly)
        except RuntimeError:  # the server ends
            self._lock.release()

    def hurry(self) -> None:
        """Be due at once, also when somebody is at it just now."""
        self._hurried = True

    def _is_due(self) -> bool:
        return self._hurried or time.monotonic() - self._ended >= self._pause_seconds

    def _finish(self, begun: float) -> None:
        self._ended = time.monotonic()
        self._pause_seconds = max(self._shortest_seconds, PAUSE_FACTOR * (self._ended - begun))
        self._lock.release()
