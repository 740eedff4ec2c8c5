"""What a run that is read needs of the book it belongs to: the store, one DuckDB, and what is kept between questions."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from lossbook.storage import ArrayCache

if TYPE_CHECKING:
    import duckdb

    from lossbook.paths import RunFolder
    from lossbook.storage import LiveSummary


class Question:
    """What is asked of DuckDB on behalf of one question, so that somebody else can end it."""

    def __init__(self) -> None:
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._lock = threading.Lock()

    def watch(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            self._cursors.append(cursor)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What this thread asks within is part of the question."""
        token = _question.set(self)
        try:
            yield
        finally:
            _question.reset(token)
            with self._lock:
                self._cursors.clear()

    def end(self) -> None:
        """Interrupt what runs for it, from any thread."""
        with self._lock:
            for cursor in self._cursors:
                cursor.interrupt()


_question: ContextVar[Question | None] = ContextVar("question", default=None)


class ReadContext:
    """Shared by all runs of one book; thread-safe.

    Args:
        store: the store's folder, an absolute path.
        arrays_bytes: bound on the arrays that are kept, of all runs together.
        duckdb_memory: bound on DuckDB's memory, as DuckDB writes it ("512MB").

    Attributes:
        arrays: arrays that were read and may be asked for again.
    """

    def __init__(self, store: str, *, arrays_bytes: int, duckdb_memory: str) -> None:
        self.store = store
        self.arrays = ArrayCache(arrays_bytes)
        self._duckdb_memory = duckdb_memory
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._summaries: WeakValueDictionary[str, LiveSummary] = WeakValueDictionary()
        self._lock = threading.Lock()

    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB to read with; made when it is first needed. A cursor of it is for one thread."""
        with self._lock:
            if self._connection is None:
                import tempfile

                from lossbook.storage import connect

                # A history of a hundred million rows is sorted on disk rather than not at all.
                spill = os.path.join(tempfile.gettempdir(), f"lossbook-sort-{os.getpid()}")
                threads = max(1, os.cpu_count() or 1)
                self._connection = connect(memory_limit=self._duckdb_memory, threads=threads, spill=spill)
            return self._connection

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own for one thread's question."""
        cursor = self.connection().cursor()
        question = _question.get()
        if question is not None:
            question.watch(cursor)
        return cursor

    def live_summary(self, folder: RunFolder) -> LiveSummary:
        """The summary of a running run, read on and on: one for all who hold it."""
        from lossbook.storage import LiveSummary

        with self._lock:
            found = self._summaries.get(folder.path)
            if found is None:
                found = self._summaries[folder.path] = LiveSummary(folder)
            return found

    def close(self) -> None:
        """Let go of everything that is kept; the next question reads it again."""
        self.arrays.clear()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
