"""SQLite files of other trackers, opened without changing anything."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

#: What the databases' names end in.
ENDINGS = (".db", ".sqlite", ".sqlite3")


def connect_read_only(path: str, *, timeout_seconds: float = 30.0) -> sqlite3.Connection:
    """Open a database for reading; `timeout_seconds` is how long a writer is waited for.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    # In SQLite's `file:` address ? and # would end the path.
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True, timeout=timeout_seconds)


def tables_of(path: str) -> set[str]:
    """The names of a database's tables; none where the file is something else."""
    if not path.endswith(ENDINGS) or not os.path.isfile(path):
        return set()
    try:
        connection = connect_read_only(path, timeout_seconds=5.0)
        try:
            return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.Error:
        return set()
