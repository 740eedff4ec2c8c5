"""`summary.json`: how a run stands, in one small file that can be made again from the rest.

`LiveSummary` reads only what is new: the rollup's top level of each sealed file once, each journal line once.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

from lossbook.errors import LossbookError
from lossbook.journal.line import Row, encode_number, merge_config
from lossbook.journal.liveness import SILENT_SECONDS
from lossbook.journal.reader import read_segment
from lossbook.layout import FORMAT, RunFolder, is_monitor, parse_segment_name, read_json, write_json
from lossbook.processes import host_name, is_alive
from lossbook.store.attempts import NEVER, cutoffs, resume_steps

#: Keys of one run that a summary describes at the most; a run with more says so.
MOST_KEYS = 200_000


@dataclass
class Statistics:
    """One series (a key of one attempt and rank) in numbers; extremes, sum and mean over finite values."""

    last: float = math.nan
    last_step: int = 0
    last_row: int = -1
    first_step: int = NEVER
    min: float = math.inf
    min_step: int | None = None
    max: float = -math.inf
    max_step: int | None = None
    sum: float = 0.0
    count: int = 0
    nonfinite: int = 0

    def add(self, step: int, row: int, value: float) -> None:
        if (step, row) >= (self.last_step, self.last_row) or self.count == 0:
            self.last, self.last_step, self.last_row = value, step, row
        self.count += 1
        if step < self.first_step:
            self.first_step = step
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        self.sum += value
        if value < self.min:
            self.min, self.min_step = value, step
        if value > self.max:
            self.max, self.max_step = value, step

    def merge(self, other: Statistics) -> None:
        if other.count == 0:
            return
        if self.count == 0 or (other.last_step, other.last_row) >= (self.last_step, self.last_row):
            self.last, self.last_step, self.last_row = other.last, other.last_step, other.last_row
        self.count += other.count
        self.nonfinite += other.nonfinite
        self.sum += other.sum
        self.first_step = min(self.first_step, other.first_step)
        if other.min < self.min:
            self.min, self.min_step = other.min, other.min_step
        if other.max > self.max:
            self.max, self.max_step = other.max, other.max_step

    def plain(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        finite = self.count - self.nonfinite
        return {
            "last": encode_number(self.last),
            "last_step": self.last_step,
            "min": self.min if finite else None,
            "min_step": self.min_step,
            "max": self.max if finite else None,
            "max_step": self.max_step,
            "mean": encode_number(self.sum / finite) if finite else None,
            "count": self.count,
            "nonfinite": self.nonfinite,
        }


SeriesName = tuple[str, int, int]  # key, attempt, rank


@dataclass
class Piece:
    """What one segment adds: its series, and its rows of other kinds in order."""

    series: dict[SeriesName, Statistics] = field(default_factory=dict)
    events: list[tuple[int, int, int, str, dict[str, Any]]] = field(default_factory=list)  # t, rank, attempt, kind, v
    rows: int = 0
    last_time: int = 0
    next_row: int = 0
    problems: list[str] = field(default_factory=list)
    offset: int = 0
    line: int = 1
    attempt: int = 0
    path: str = ""

    def add(self, row: Row, rank: int) -> None:
        self.rows += 1
        self.next_row = max(self.next_row, row.i + 1)
        self.last_time = max(self.last_time, row.t)
        if row.kind is None:
            step = row.step if row.step is not None else 0
            for key, value in row.body.items():
                name = (key, self.attempt, rank)
                series = self.series.get(name)
                if series is None:
                    series = self.series[name] = Statistics()
                series.add(step, row.i, value)
            return
        if row.kind == "attempt":
            self.attempt = int(row.body["number"])
        if row.kind in _KINDS_THAT_COUNT:
            self.events.append((row.t, rank, self.attempt, row.kind, row.body))


_KINDS_THAT_COUNT = frozenset(("config", "summary", "define", "finish", "alert", "warning"))


class LiveSummary:
    """A run's summary, kept up to date by reading only what was added.

    Memory grows with the number of series, not with the number of rows.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._sealed: dict[str, Piece] = {}
        self._live: dict[str, Piece] = {}

    def update(self) -> dict[str, Any]:
        """Read what is new and return the summary as `summary.json` has it."""
        from lossbook.store.segments import list_segments

        segments = list_segments(self._folder)
        sealed, live = {}, {}
        for segment in segments:
            path = str(segment.metrics or segment.journal)
            try:
                if segment.metrics is not None:
                    sealed[path] = self._sealed.get(path) or _read_sealed(segment)
                    continue
                piece = self._live.get(path) or Piece(path=path)
                _read_on(piece, path, segment.name.rank)
            except FileNotFoundError:
                # Sealed, or merged into another, between the look and the reading: look again.
                return self.update()
            live[path] = piece
        self._sealed, self._live = sealed, live
        identity = _identity(self._folder)
        pieces = [*sealed.values(), *live.values()]
        summary = _assemble(self._folder, identity, pieces)
        cursor: dict[str, Any] = {os.path.basename(path): None for path in sealed}
        for path, piece in live.items():
            cursor[os.path.basename(path)] = [piece.offset, piece.line, piece.next_row]
        summary["cursor"] = cursor
        return summary

    def write(self) -> dict[str, Any]:
        """Bring `summary.json` up to date.

        Raises:
            StoreError, OSError: it cannot be written.
        """
        summary = self.update()
        write_json(self._folder.summary_json, summary, durable=False)
        return summary


def compute_summary(folder: RunFolder) -> dict[str, Any]:
    """The summary made anew from the run's rows."""
    return LiveSummary(folder).update()


def _identity(folder: RunFolder) -> dict[str, Any]:
    try:
        return read_json(folder.run_json) or {}
    except LossbookError:
        return {}


def _read_on(piece: Piece, path: str, rank: int) -> None:
    reading = read_segment(path, offset=piece.offset, first_line=piece.line)
    for row in reading.rows:
        piece.add(row, rank)
    piece.offset = reading.offset
    piece.line += len(reading.rows) + len(reading.problems)
    piece.problems += [str(problem) for problem in reading.problems]


def _read_sealed(segment: Any) -> Piece:
    import duckdb
    import orjson

    from lossbook.store.schema import TOP_LEVEL, connect, parquet

    piece = Piece(path=segment.metrics)
    connection = connect()
    try:
        if segment.rollup is not None:
            found = connection.execute(
                "SELECT key, attempt, rank, first_step, last_step, last_row, last, min, min_step, max, max_step, sum, "
                f"count, nonfinite, epoch_us(last_time) FROM {parquet(segment.rollup)} WHERE level = {TOP_LEVEL}"
            ).fetchall()
        else:
            found = connection.execute(_top_level_from_rows(parquet(segment.metrics))).fetchall()
        for key, attempt, rank, first_step, last_step, last_row, last, low, low_step, high, high_step, *rest in found:
            total, count, nonfinite, last_time = rest
            piece.series[(key, attempt, rank)] = Statistics(
                last=last, last_step=last_step, last_row=last_row, first_step=first_step,
                min=math.inf if low is None else low, min_step=low_step,
                max=-math.inf if high is None else high, max_step=high_step,
                sum=total or 0.0, count=count, nonfinite=nonfinite,
            )  # fmt: skip
            piece.last_time = max(piece.last_time, last_time)
            piece.next_row = max(piece.next_row, last_row + 1)
        # The range of row numbers stands in the footer; counting them would read a hundred million scalars.
        found_rows = connection.execute(f"SELECT min(row), max(row) FROM {parquet(segment.metrics)}").fetchone()
        numbers = [int(number) for number in found_rows or () if number is not None]
        if segment.events is not None:
            for row, when, kind, rank, attempt, value in connection.execute(
                f"SELECT row, epoch_us(time), kind, rank, attempt, value FROM {parquet(segment.events)} ORDER BY row"
            ).fetchall():
                numbers.append(row)
                piece.next_row = max(piece.next_row, row + 1)
                piece.last_time = max(piece.last_time, when)
                if kind in _KINDS_THAT_COUNT:
                    piece.events.append((when, rank, attempt, kind, orjson.loads(value)))
        piece.rows = max(numbers) - min(numbers) + 1 if numbers else 0
    except duckdb.Error as error:
        if not os.path.exists(segment.metrics):
            raise FileNotFoundError(segment.metrics) from None
        first = str(error).strip().splitlines()[0]
        piece.problems.append(f"{segment.metrics} cannot be read ({first}); its rows are missing here")
    finally:
        connection.close()
    return piece


def _top_level_from_rows(path: str) -> str:
    return (
        "SELECT key, attempt, rank, min(step), max(step), max(row), arg_max(value, (step, row)), "
        "min(value) FILTER (isfinite(value)), arg_min(step, value) FILTER (isfinite(value)), "
        "max(value) FILTER (isfinite(value)), arg_max(step, value) FILTER (isfinite(value)), "
        "sum(value) FILTER (isfinite(value)), count(*), count(*) FILTER (NOT isfinite(value)), epoch_us(max(time)) "
        f"FROM {path} GROUP BY key, attempt, rank"
    )


def _assemble(folder: RunFolder, identity: dict[str, Any], pieces: list[Piece]) -> dict[str, Any]:
    by_key = _visible(folder, identity, pieces)
    config: dict[str, Any] = {}
    user: dict[str, Any] = {}
    defined: list[dict[str, Any]] = []
    alerts = 0
    warnings: list[str] = []
    finish: dict[int, tuple[int, dict[str, Any]]] = {}
    for when, rank, attempt, kind, value in sorted(
        (event for piece in pieces for event in piece.events), key=lambda event: event[0]
    ):
        if kind == "config":
            config = merge_config(config, value)
        elif kind == "summary":
            user = merge_config(user, value)
        elif kind == "define":
            defined = [one for one in defined if one.get("pattern") != value.get("pattern")] + [value]
        elif kind == "alert":
            alerts += 1
        elif kind == "warning" and value.get("lost"):
            warnings.append(str(value.get("message")))
        elif kind == "finish" and rank == 0:
            finish[attempt] = (when, value)
    state, error, ended = run_state(folder, identity, finish)
    # How far a run has come, its training says: what the follower measured beside it is no row of the run's.
    training = [piece for piece in pieces if not _is_measured(piece)]
    last_time = max((piece.last_time for piece in training), default=0) or None
    trained = {key for piece in training for key, _, _ in piece.series}
    steps = [one.last_step for key, one in by_key.items() if key in trained]
    attempts = identity.get("attempts") or [{}]
    problems = [problem for piece in pieces for problem in piece.problems]
    return {
        "format": FORMAT,
        "state": state,
        "error": error,
        "started": attempts[-1].get("started") or identity.get("created"),
        "ended": ended or (last_time if state not in ("running",) else None),
        "updated": time.time_ns() // 1000,
        "rows": sum(piece.rows for piece in training),
        "last_step": max(steps, default=None),
        "last_time": last_time,
        "config": config,
        "summary": user,
        "define": defined,
        "metrics": {key: by_key[key].plain() for key in sorted(by_key)[:MOST_KEYS]},
        "alerts": alerts,
        "problems": list(dict.fromkeys([*warnings, *sealed_problems(folder), *problems]))[:200],
    }


def _is_measured(piece: Piece) -> bool:
    name = parse_segment_name(os.path.basename(piece.path))
    return name is not None and is_monitor(name.rank)


def sealed_problems(folder: RunFolder) -> list[str]:
    """What was found damaged when segments were sealed."""
    try:
        sealed = read_json(os.path.join(folder.followers, "seal.json")) or {}
    except LossbookError as error:
        return [str(error)]
    return [str(problem) for problem in sealed.get("problems") or ()]


def _visible(folder: RunFolder, identity: dict[str, Any], pieces: list[Piece]) -> dict[str, Statistics]:
    """Statistics of each key over the rows that count."""
    resumed_from = resume_steps(identity)
    first_steps: dict[str, dict[int, int]] = {}
    for piece in pieces:
        for (key, attempt, _), one in piece.series.items():
            firsts = first_steps.setdefault(key, {})
            firsts[attempt] = min(firsts.get(attempt, NEVER), one.first_step)
    several = len(resumed_from) > 1 or any(len(firsts) > 1 for firsts in first_steps.values())
    by_key: dict[str, Statistics] = {}
    for piece in pieces:
        for (key, attempt, rank), one in piece.series.items():
            if several:
                cut = cutoffs(resumed_from, first_steps[key])[attempt]
                if one.first_step > cut:
                    continue
                if _last_step(one) > cut:
                    one = _cut_off(piece, key, attempt, rank, cut)
            by_key.setdefault(key, Statistics()).merge(one)
    return by_key


def _last_step(one: Statistics) -> int:
    return max(one.last_step, one.min_step or one.last_step, one.max_step or one.last_step)


def _cut_off(piece: Piece, key: str, attempt: int, rank: int, cut: int) -> Statistics:
    """Statistics of one series of a piece up to a step, from its rows."""
    result = Statistics()
    if piece.path.endswith(".jsonl"):
        current = 0
        for row in read_segment(piece.path).rows:
            if row.kind == "attempt":
                current = int(row.body["number"])
            elif row.kind is None and current == attempt and key in row.body and (row.step or 0) <= cut:
                result.add(row.step or 0, row.i, row.body[key])
        return result
    from lossbook.store.schema import connect, parquet

    connection = connect()
    try:
        for step, row_number, value in connection.execute(
            f"SELECT step, row, value FROM {parquet(piece.path)} "
            "WHERE key = ? AND attempt = ? AND rank = ? AND step <= ?",
            [key, attempt, rank, cut],
        ).fetchall():
            result.add(step, row_number, value)
    finally:
        connection.close()
    return result


def run_state(
    folder: RunFolder, identity: dict[str, Any], finish: dict[int, tuple[int, dict[str, Any]]]
) -> tuple[str, str | None, int | None]:
    """How the last attempt stands: (state, error, time of its end in µs).

    Args:
        finish: the `finish` rows of rank 0 by attempt, with their times.
    """
    attempts = identity.get("attempts") or []
    last = attempts[-1] if attempts else {}
    number = int(last.get("number", max(finish, default=0)))
    if number in finish:
        when, value = finish[number]
        return str(value.get("state") or "finished"), value.get("error"), when
    try:
        watched = read_json(os.path.join(folder.followers, "watch.json")) or {}
    except LossbookError:
        watched = {}
    if watched.get("attempt", 0) == number and watched.get("state"):
        unexplained = "the training process ended without a word" if watched["state"] == "crashed" else None
        return str(watched["state"]), watched.get("error") or unexplained, watched.get("ended")
    if is_running(folder, last):
        return "running", None, None
    return "crashed", "the training process ended without a word", None


def is_running(folder: RunFolder, attempt: dict[str, Any]) -> bool:
    """Whether the process of an attempt lives, as far as can be known from here."""
    if attempt.get("host") == host_name() and attempt.get("pid"):
        return is_alive(int(attempt["pid"]), attempt.get("process_start"), attempt.get("boot"))
    newest = 0.0
    for directory in (folder.journal, folder.followers):
        try:
            with os.scandir(directory) as entries:
                newest = max([newest, *(entry.stat().st_mtime for entry in entries)])
        except OSError:
            continue
    return time.time() - newest < SILENT_SECONDS


def overlay(summary: dict[str, Any], folder: RunFolder, live: LiveSummary | None = None) -> dict[str, Any]:
    """Bring a `summary.json` that was read up to date, by reading the journal behind its cursor.

    Returns:
        The summary itself when nothing was added and it had ended; a fresh one otherwise.
    """
    from lossbook.store.segments import list_segments

    cursor = summary.get("cursor") or {}
    pieces = {os.path.basename(str(one.metrics or one.journal)): one for one in list_segments(folder)}
    try:
        is_known = set(cursor) == set(pieces) and all(
            one.journal is None or os.path.getsize(one.journal) <= int(cursor[name][0]) for name, one in pieces.items()
        )
    except FileNotFoundError:
        is_known = False  # sealed since the look
    if is_known:
        if summary.get("state") != "running":
            return summary
        last = (_identity(folder).get("attempts") or [{}])[-1]
        if is_running(folder, last):
            return summary
    return (live or LiveSummary(folder)).update()
