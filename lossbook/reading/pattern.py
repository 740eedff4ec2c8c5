"""`Patterns`: the regular expressions of a `where` expression, and `LinePattern`: one that takes lines apart; both by an
engine whose time grows with the text alone.

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
#: What begins a group; a bracket that is escaped or in a class of characters begins none.
_GROUP = re.compile(
    r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\((?:\?P?<(?P<name>[A-Za-z_]\w*)>|(?P<plain>(?!\?)))", re.DOTALL
)


class LinePattern:
    """One expression with named groups, `(?P<loss>...)`, that many lines are held against.

    Raises:
        BadQuery: it has no named group.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.names = _group_names(pattern)
        if not any(self.names):
            raise BadQuery(
                f"{pattern[:100]!r} names no part of a line: put what counts into named groups, such as "
                r"'step (?P<step>\d+) loss (?P<loss>\S+)'"
            )
        self._connection: duckdb.DuckDBPyConnection | None = None

    def groups(self, lines: list[str], *, seconds: float) -> list[dict[str, str] | None]:
        """What the named groups hold in each line; None for a line that does not fit.

        Raises:
            BadQuery: it is no expression of this engine, or it takes longer than that many seconds.
        """
        if not lines:
            return []
        if self._connection is None:
            from lossbook.storage import connect

            self._connection = connect()
        asked = _plain(_END.sub(r"\1\\z", self.pattern))
        rows = _ask(
            self._connection,
            "SELECT regexp_matches(text, $pattern), regexp_extract(text, $pattern, $names) "
            "FROM (SELECT unnest($lines::VARCHAR[]) AS text)",
            {
                "pattern": asked,
                "names": [name or f"-{at}" for at, name in enumerate(self.names)],
                "lines": [_plain(line[:LONGEST_TEXT]) for line in lines],
            },
            self.pattern,
            seconds,
        )
        found: list[dict[str, str] | None] = []
        for fits, groups in rows:
            named = groups if fits and isinstance(groups, dict) else None
            found.append(None if named is None else {name: str(named[name]) for name in self.names if name})
        return found


def _group_names(pattern: str) -> list[str | None]:
    """The capture groups of an expression in their order, each by its name or None."""
    names: list[str | None] = []
    for found in _GROUP.finditer(pattern):
        if found["name"] or found["plain"] is not None:
            names.append(found["name"])
    return names


def _plain(text: str) -> str:
    # A lone surrogate is no text for DuckDB.
    return text.encode("utf-8", "replace").decode()


def _ask(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: object, pattern: str, seconds: float | None
) -> list[tuple[object, ...]]:
    """The rows of a query with a regular expression in it.

    Raises:
        BadQuery: the expression is none, or one of a kind that this engine does not have; or it takes too long.
    """
    import duckdb

    stop = threading.Timer(seconds, connection.interrupt) if seconds is not None else None
    if stop is not None:
        stop.daemon = True
        stop.start()
    try:
        rows: list[tuple[object, ...]] = connection.execute(query, parameters).fetchall()
        return rows
    except duckdb.InterruptException:
        raise BadQuery(f"{pattern[:100]!r} takes longer than {seconds:g} seconds; ask for less") from None
    except duckdb.Error as error:
        why = str(error).partition(": ")[2].splitlines()[0][:100]
        raise BadQuery(
            f"{pattern[:100]!r} is no regular expression here ({why}); look-around and back references are not supported"
        ) from None
    finally:
        if stop is not None:
            stop.cancel()


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
        if self._connection is None:
            from lossbook.storage import connect

            self._connection = connect()
        asked = _plain(_END.sub(r"\1\\z", pattern))
        try:
            rows = _ask(
                self._connection,
                "SELECT regexp_matches(text, ?) FROM (SELECT unnest(?::VARCHAR[]) AS text)",
                [asked, [_plain(text) for text in wanted]],
                pattern,
                seconds,
            )
        except BadQuery as error:
            raise BadQuery(f"where: {error}") from None
        self._known.update(((pattern, text), bool(row[0])) for text, row in zip(wanted, rows, strict=True))
