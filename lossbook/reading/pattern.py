"""`Patterns`: the regular expressions of a `where` expression, by an engine whose time grows with the text alone.

It is RE2, which DuckDB brings. It has no look-around and no back references, and so no pattern for which one name takes
hours: whoever may ask the dashboard a question cannot stop it for the others. Asking for one text costs as much as for
thousands, so the texts of all runs are asked for at once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lossbook.errors import BadQuery

if TYPE_CHECKING:
    import duckdb

#: Characters of a text that are looked at; nobody's name is longer.
LONGEST_TEXT = 100_000
#: What Python calls the end of a text.
_END = re.compile(r"((?:^|[^\\])(?:\\\\)*)\\Z")


class Patterns:
    """Which texts fit which patterns, as far as it was asked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], bool] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None

    def fits(self, pattern: str, text: str) -> bool:
        """Whether a pattern is found somewhere in a text.

        Raises:
            BadQuery: it is no regular expression, or one of a kind that this engine does not have.
        """
        text = text[:LONGEST_TEXT]
        found = self._known.get((pattern, text))
        if found is None:
            self.learn(pattern, [text])
            found = self._known[pattern, text]
        return found

    def learn(self, pattern: str, texts: Iterable[str], *, seconds: float | None = None) -> None:
        """Ask for many texts at once.

        Args:
            seconds: give up after that long.

        Raises:
            BadQuery: as `fits`; or it takes too long.
        """
        wanted = sorted({text[:LONGEST_TEXT] for text in texts})
        wanted = [text for text in wanted if (pattern, text) not in self._known]
        if not wanted:
            return
        import duckdb

        if self._connection is None:
            from lossbook.storage import connect

            self._connection = connect()
        asked = _END.sub(r"\1\\z", pattern)
        # A lone surrogate is no text for DuckDB.
        plain = [text.encode("utf-8", "replace").decode() for text in wanted]
        stop = threading.Timer(seconds, self._connection.interrupt) if seconds is not None else None
        if stop is not None:
            stop.daemon = True
            stop.start()
        try:
            rows = self._connection.execute(
                "SELECT regexp_matches(text, ?) FROM (SELECT unnest(?::VARCHAR[]) AS text)",
                [asked.encode("utf-8", "replace").decode(), plain],
            ).fetchall()
        except duckdb.InterruptException:
            raise BadQuery(f"where: {pattern[:100]!r} takes longer than {seconds:g} seconds; ask for less") from None
        except duckdb.Error as error:
            why = str(error).partition(": ")[2].splitlines()[0][:100]
            raise BadQuery(
                f"where: {pattern[:100]!r} is no regular expression here ({why}); look-around and back references are "
                "not supported"
            ) from None
        finally:
            if stop is not None:
                stop.cancel()
        self._known.update(((pattern, text), bool(row[0])) for text, row in zip(wanted, rows, strict=True))
