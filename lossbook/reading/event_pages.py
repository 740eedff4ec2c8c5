"""Reads some of a run's events: by kind, by key, the newest or evenly spread, however many there are.

`RecordedRun.events` gives all of them; here only what is asked for is parsed, sealed files are searched where they lie,
and of a live journal it is remembered where its events stand, so that asking again reads what was added alone.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lossbook.errors import BadArgument, StoreError
from lossbook.json_shapes import parse_object
from lossbook.paths import RunFolder
from lossbook.reading.live_events import EventPlace, LiveEvents, read_live_value
from lossbook.storage import EVENTS, disagreement, known_disagreements, leave_out, list_segments, parquet

if TYPE_CHECKING:
    import duckdb

    from lossbook.storage import Rows

#: So many events are given at once, at the most, and so much of their values (bytes of JSON).
MOST_EVENTS = 10_000
MOST_BYTES = 32 << 20
#: A value beyond that (bytes of JSON) is not given whole.
LARGEST_VALUE_BYTES = 1 << 20
#: A file that is sealed or merged away while it is read is looked for again so often.
_MOST_TRIES = 20
_LAST_TIME_US = 1 << 61
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class EventPage:
    """Events that were asked for.

    Attributes:
        events: by time, each as `RecordedRun.events` has it, and `cut`: whether its value is too large to be given whole.
        total: how many fit the question.
        problems: files that cannot be read, a sentence each.
    """

    events: list[dict[str, Any]]
    total: int
    problems: list[str]


class EventPages:
    """The events of one run. Thread-safe; keep it for as long as questions come.

    Args:
        cursor: gives a DuckDB connection for one thread.
    """

    def __init__(self, folder: RunFolder, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._folder = folder
        self._cursor = cursor
        self._lock = threading.Lock()
        self._journals: dict[str, LiveEvents] = {}
        self._kinds: dict[tuple[str | int, ...], Counter[str]] = {}  # of each sealed file, by what tells it from others
        self._first_rows: dict[str, int] = {}  # of files whose earlier rows are in another

    def count_kinds(self) -> dict[str, int]:
        """How many rows of each kind there are."""

        def counted() -> Counter[str]:
            sealed, live = self._look()
            kinds: dict[tuple[str | int, ...], Counter[str]] = {}
            for path in sealed:
                status = os.stat(path)
                name = (path, status.st_ino, status.st_size, status.st_mtime_ns)
                found = self._kinds.get(name)
                if found is None:
                    query = "SELECT kind, count(*) FROM {files} GROUP BY kind"
                    found = Counter(dict(self._fetch([path], query, [])))
                if disagreement(path) is None:
                    kinds[name] = found
            self._kinds = kinds
            return sum(kinds.values(), Counter(place.kind for place in live))

        return dict(sorted(self._consistently(counted).items()))

    def problems(self) -> list[str]:
        """What was found damaged so far, a sentence each."""
        sealed, _ = self._consistently(self._look)
        return self._problems(sealed)

    def choose(
        self,
        kinds: Sequence[str] = (),
        *,
        key: str | None = None,
        after: float | None = None,
        limit: int = 1000,
        thin: bool = False,
    ) -> EventPage:
        """Some events, by time.

        Args:
            kinds: only these; none for all.
            after: Unix seconds; only those that were logged later.
            limit: 1 to 10,000. Where there are more, the newest are given.
            thin: where there are more, give such as are evenly spread over steps, the first and the last among them.

        Raises:
            BadArgument: `limit` cannot be meant.
        """
        if not 1 <= limit <= MOST_EVENTS:
            raise BadArgument(f"limit={limit}: ask for 1 to {MOST_EVENTS:,} events at once")

        def chosen() -> EventPage:
            sealed, live = self._look()
            wanted = _Filter(frozenset(kinds), key, _microseconds(after))
            fitting = [place for place in live if wanted.takes(place)]
            where, values = wanted.sql()
            ((count, first, last),) = self._fetch(
                sealed,
                f"SELECT count(*), min(coalesce(step, 0)), max(coalesce(step, 0)) FROM {{files}} {where}",
                values,
            ) or [(0, None, None)]
            total = count + len(fitting)
            if thin and total > limit:
                steps = [step for step in (first, last, *(place.step or 0 for place in fitting)) if step is not None]
                places = self._spread(sealed, fitting, where, values, limit, min(steps), max(steps))
            else:
                query = f"SELECT {_PLACE} FROM {{files}} {where} ORDER BY time DESC, rank DESC, row DESC LIMIT {limit}"
                places = [EventPlace(*found) for found in self._fetch(sealed, query, values)] + fitting
                places = sorted(places, key=_moment)[-limit:]
            return EventPage(self._read(sealed, places), total, self._problems(sealed))

        return self._consistently(chosen)

    def find(self, rank: int, row: int) -> dict[str, Any] | None:
        """The event of that number, its value whole; None when there is none."""

        def found() -> dict[str, Any] | None:
            sealed, live = self._look()
            for place in live:
                if (place.rank, place.row) == (rank, row):
                    return _event(place, read_live_value(place))
            query = f"SELECT {_PLACE}, value FROM {{files}} WHERE rank = ? AND row = ?"
            for *known, value in self._fetch(sealed, query, [rank, row]):
                return _event(EventPlace(*known), value.encode())
            return None

        return self._consistently(found)

    # -- where they stand -----------------------------------------------------------------------------------------

    def _consistently(self, question: Callable[[], Answer]) -> Answer:
        """Ask again when a file was sealed, or merged into another, between the look and the reading."""
        for _ in range(_MOST_TRIES):
            try:
                return question()
            except (FileNotFoundError, _FilesChanged):
                continue
        raise StoreError(f"the files of {self._folder.path} change faster than they can be read")

    def _look(self) -> tuple[list[str], list[EventPlace]]:
        """The sealed files that have events, and the places of those in live journals."""
        sealed: list[str] = []
        live: list[EventPlace] = []
        with self._lock:
            journals: dict[str, LiveEvents] = {}
            self._first_rows = {}
            for segment in list_segments(self._folder):
                if segment.journal is not None:
                    journal = self._journals.get(segment.journal)
                    if journal is None or not journal.is_of(segment.journal):
                        journal = LiveEvents()
                    journals[segment.journal] = journal
                    journal.read_on(segment.journal, segment.name.rank)
                    live += [place for place in journal.places if place.row >= (segment.first_row or 0)]
                elif segment.events is not None:
                    sealed.append(segment.events)
                    if segment.first_row is not None:
                        self._first_rows[segment.events] = segment.first_row
            self._journals = journals
        return sealed, live

    def _spread(
        self,
        sealed: list[str],
        fitting: list[EventPlace],
        where: str,
        values: list[object],
        limit: int,
        first: int,
        last: int,
    ) -> list[EventPlace]:
        """The first event of each of `limit` equal stretches of steps; the last stretch is the last step alone."""
        width = (last - first) / max(1, limit - 1)
        if width <= 0 or not math.isfinite(width):
            width = 1.0
        query = (
            # As one structure, because arg_min passes over what is null.
            f"SELECT arg_min(row({_PLACE}), (step_, time, rank, row)) FROM "
            f"(SELECT *, coalesce(step, 0) AS step_ FROM {{files}} {where}) "
            f"GROUP BY least({limit - 1}, greatest(0, floor((step_ - ({first})::DOUBLE) / {width!r})))"
        )
        places = [EventPlace(*found) for (found,) in self._fetch(sealed, query, values)] + fitting
        buckets: dict[int, EventPlace] = {}
        for place in sorted(places, key=lambda place: (place.step or 0, _moment(place)), reverse=True):
            buckets[min(limit - 1, max(0, math.floor(((place.step or 0) - float(first)) / width)))] = place
        return sorted(buckets.values(), key=_moment)

    # -- their values --------------------------------------------------------------------------------------------

    def _read(self, sealed: list[str], places: list[EventPlace]) -> list[dict[str, Any]]:
        """The events at some places, by time; where their values are too much together, the newest of them."""
        wanted = [place for place in places if place.journal is None]
        sizes = {(rank, row): size for rank, row, size in self._of(sealed, wanted, "strlen(value)")}
        kept: list[EventPlace] = []
        total = 0
        for place in reversed(places):
            size = place.length if place.journal is not None else sizes.get((place.rank, place.row), 0)
            total += min(size, LARGEST_VALUE_BYTES)
            if total > MOST_BYTES and kept:
                break
            kept.append(place)
        given = f"CASE WHEN strlen(value) <= {LARGEST_VALUE_BYTES} OR kind = 'text' THEN value END"
        texts = {
            (rank, row): value
            for rank, row, value in self._of(sealed, [place for place in kept if place.journal is None], given)
        }
        events = []
        for place in reversed(kept):
            if place.journal is not None:
                value = read_live_value(place) if place.length <= LARGEST_VALUE_BYTES or place.kind == "text" else None
            else:
                text = texts.get((place.rank, place.row))
                value = text.encode() if text is not None else None
            events.append(_event(place, value))
        return events

    def _of(self, sealed: list[str], places: list[EventPlace], column: str) -> Rows:
        """Rank, row and something more of the events at some places in sealed files."""
        if not places:
            return []
        ranks, rows = [place.rank for place in places], [place.row for place in places]
        query = (
            f"SELECT rank, row, {column} FROM {{files}} "
            "SEMI JOIN (SELECT unnest(?::SMALLINT[]) AS rank, unnest(?::BIGINT[]) AS row) USING (rank, row) "
            f"WHERE row BETWEEN {min(rows)} AND {max(rows)}"
        )
        return self._fetch(sealed, query, [ranks, rows])

    def _fetch(self, paths: list[str], query: str, values: list[object]) -> Rows:
        """Ask of all sealed files at once; those that are damaged are left out, and named in `problems`.

        Raises:
            StoreError: there is not enough memory for it.
            _FilesChanged: one of them is no more, or was just found to be damaged.
        """
        import duckdb

        whole = [path for path in paths if disagreement(path) is None]
        if not whole:
            return []
        try:
            return self._cursor().execute(query.format(files=self._files(whole)), values).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            if isinstance(error, duckdb.OutOfMemoryException):
                raise StoreError(f"the events of {self._folder.path} need more memory than there is") from None
            for path in whole:
                self._check(path, query, values)
            raise _FilesChanged from None

    def _check(self, path: str, query: str, values: list[object]) -> None:
        """Note a file that this cannot be asked of."""
        import duckdb

        if not os.path.exists(path):
            raise _FilesChanged
        try:
            self._cursor().execute(query.format(files=self._files([path])), values).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            leave_out(path, error)

    def _files(self, paths: list[str]) -> str:
        """What to select the events of some files from."""
        whole = [path for path in paths if path not in self._first_rows]
        # By name, because files of format 2 have columns that those of format 1 lack.
        columns = ", ".join(EVENTS)
        sources = [f"SELECT {columns} FROM {parquet(whole)}"] if whole else []
        sources += [
            f"SELECT {columns} FROM {parquet(path)} WHERE row >= {self._first_rows[path]}"
            for path in paths
            if path in self._first_rows
        ]
        return f"({' UNION ALL '.join(sources)})" if len(sources) > 1 or not whole else parquet(whole)

    def _problems(self, sealed: Iterable[str]) -> list[str]:
        return known_disagreements(sealed)


class _FilesChanged(Exception):
    """A file went, or was found damaged, in the middle of a question."""


_PLACE = "epoch_us(time), rank, row, step, kind, key, attempt"


@dataclass(frozen=True)
class _Filter:
    """Which events fit."""

    kinds: frozenset[str]
    key: str | None
    after_us: int | None

    def takes(self, place: EventPlace) -> bool:
        return (
            (not self.kinds or place.kind in self.kinds)
            and (self.key is None or place.key == self.key)
            and (self.after_us is None or place.time_us > self.after_us)
        )

    def sql(self) -> tuple[str, list[object]]:
        """The same as a WHERE clause and its values."""
        conditions: list[str] = []
        values: list[object] = []
        if self.kinds:
            conditions.append(f"kind IN ({', '.join('?' * len(self.kinds))})")
            values += sorted(self.kinds)
        if self.key is not None:
            conditions.append("key = ?")
            values.append(self.key)
        if self.after_us is not None:
            conditions.append("time > make_timestamp(?::BIGINT)")
            values.append(self.after_us)
        return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _microseconds(after: float | None) -> int | None:
    if after is None:
        return None
    return round(max(0.0, min(after * 1e6, float(_LAST_TIME_US))))


def _moment(place: EventPlace) -> tuple[int, int, int]:
    return place.time_us, place.rank, place.row


def _event(place: EventPlace, value: bytes | None) -> dict[str, Any]:
    parsed = parse_object(value)
    cut = value is None
    text = parsed.get("text") if isinstance(parsed, dict) and place.kind == "text" else None
    if value is not None and len(value) > LARGEST_VALUE_BYTES and isinstance(text, str):
        parsed, cut = {**parsed, "text": text[: LARGEST_VALUE_BYTES // 4]}, True
    return {
        "row": place.row,
        "step": place.step,
        "time": place.time_us / 1e6,
        "kind": place.kind,
        "key": place.key,
        "rank": place.rank,
        "attempt": place.attempt,
        "value": parsed,
        "cut": cut,
    }
